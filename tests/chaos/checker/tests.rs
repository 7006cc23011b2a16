//! Wrong histories, each of which must be refused; and a right one, which must not.

use super::{Checker, Kind, Rest, Verdict, Version};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

const START: &str = "2030-01-01T00:00:00Z";

/// So many seconds after the start, as an object has it.
fn at(seconds: i64) -> String {
    format!("{:.6}", START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds))
}

/// A history that is told version by version, ten seconds long unless it says otherwise.
struct History {
    checker: Checker,
    revision: u64,
    now: i64,
}

impl History {
    /// One Blueprint of two slots, and a resource `r` of it that is Active.
    fn new() -> Self {
        let mut history = History { checker: Checker::default(), revision: 0, now: 10 };
        history.right(Kind::Blueprint, "b", blueprint());
        history.right(Kind::Resource, "r", resource("r", "Pending", json!({})));
        history.right(Kind::Resource, "r", resource("r", "Active", json!({})));
        history
    }

    /// The same, with a lease `l` that is Active on `r`.
    fn leased() -> Self {
        let mut history = History::new();
        history.right(Kind::Lease, "l", lease("l", "", json!({})));
        history.right(Kind::Resource, "r", claimed("r", &["l"]));
        history.right(Kind::Lease, "l", bound("l", "r", "Active", json!({})));
        history
    }

    fn take(&mut self, kind: Kind, uid: &str, object: Option<Value>) -> Verdict {
        self.revision += 1;
        let at = START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(self.now);
        let key = format!("{kind:?}/{uid}");
        self.checker.take(Version { revision: self.revision, at, kind, key, object })
    }

    fn right(&mut self, kind: Kind, uid: &str, object: Value) {
        self.take(kind, uid, Some(object.clone())).unwrap_or_else(|wrong| panic!("{}: {object}", wrong.what));
    }

    fn gone(&mut self, kind: Kind, uid: &str) {
        self.take(kind, uid, None).unwrap_or_else(|wrong| panic!("{}: {uid} is gone", wrong.what));
    }

    /// This must be refused, in such words.
    fn refuses(&mut self, words: &str, kind: Kind, uid: &str, object: impl Into<Option<Value>>) {
        let object = object.into();
        match self.take(kind, uid, object.clone()) {
            Err(wrong) => assert!(wrong.what.contains(words), "{:?} is refused otherwise: {}", object, wrong.what),
            Ok(()) => panic!("{object:?} is not refused: {words}"),
        }
    }

    fn rests(&self) -> Verdict {
        let now = START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(self.now);
        self.checker.rests(Rest::Settled, now)
    }
}

/// A value with more in it.
fn with(mut value: Value, more: Value) -> Value {
    merge(&mut value, more);
    value
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Object(Map::new())), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn object(uid: &str, name: &str, spec: Value, status: Value) -> Value {
    let metadata = json!({
        "name": name, "uid": uid, "creationTimestamp": at(0), "finalizers": ["drydock.dev/teardown"],
    });
    let status = if status == json!({}) { Value::Null } else { status };
    json!({"metadata": metadata, "spec": spec, "status": status})
}

fn blueprint() -> Value {
    let limits = json!({"maxResources": 2, "leasesPerResource": 1});
    object("b", "b", json!({"resourceType": "t", "limits": limits, "resource": {"idleTTL": "5s"}}), json!({}))
}

fn resource(uid: &str, phase: &str, status: Value) -> Value {
    let spec = json!({"blueprintRef": {"name": "b", "uid": "b"}, "commands": []});
    object(uid, &format!("b--{uid}"), spec, with(json!({"phase": phase}), status))
}

fn claimed(uid: &str, leases: &[&str]) -> Value {
    let claims: Vec<Value> = leases.iter().map(|lease| json!({"uid": lease, "attempt": 0})).collect();
    resource(uid, "Active", json!({"claims": claims}))
}

fn lease(uid: &str, phase: &str, status: Value) -> Value {
    let phase = if phase.is_empty() { json!({}) } else { json!({"phase": phase}) };
    object(uid, uid, json!({"resourceType": "t", "ttl": "10s", "commands": []}), with(phase, status))
}

/// A lease that is bound since the start, and active.
fn bound(uid: &str, resource: &str, phase: &str, status: Value) -> Value {
    let at_first = json!({"resourceRef": {"uid": resource}, "activatedAt": at(0)});
    lease(uid, phase, with(at_first, status))
}

/// How something is over.
fn over(reason: &str, since: i64) -> Value {
    json!({"releasedAt": at(since), "conditions": [{"type": "Released", "status": "True", "reason": reason}]})
}

fn commanded(object: Value, type_: &str, outcome: &str) -> Value {
    let entry = json!({"id": "c", "type": type_, "outcome": outcome, "observedAt": at(1)});
    with(object, json!({"spec": {"commands": [{"id": "c", "type": type_}]}, "status": {"commands": [entry]}}))
}

#[test]
fn a_right_history_is_taken() {
    let mut history = History::leased();
    let last = bound("l", "r", "Destroyed", over("Expired", 10));
    history.right(Kind::Lease, "l", last.clone());
    history.right(Kind::Resource, "r", resource("r", "Active", json!({"idleSince": at(10)})));
    history.gone(Kind::Lease, "l");
    history.now = 16;
    history.right(
        Kind::Resource,
        "r",
        resource("r", "Destroyed", with(over("IdleTimeout", 15), json!({"idleSince": at(10)}))),
    );
    history.gone(Kind::Resource, "r");
    history.rests().unwrap_or_else(|wrong| panic!("{}", wrong.what));
    assert_eq!(history.checker.served.len(), 1);
    assert_eq!(history.checker.versions, 11);
}

#[test]
fn two_claims_on_one_slot() {
    let mut history = History::leased();
    history.right(Kind::Lease, "m", lease("m", "", json!({})));
    history.refuses("one slot, 2 claims", Kind::Resource, "r", claimed("r", &["l", "m"]));
}

#[test]
fn a_claim_beyond_what_was_ever_allowed_but_not_what_just_was() {
    let mut history = History::new();
    let three = with(blueprint(), json!({"spec": {"limits": {"leasesPerResource": 3}}}));
    history.right(Kind::Blueprint, "b", three);
    history.right(Kind::Blueprint, "b", blueprint());
    for uid in ["l", "m", "n"] {
        history.right(Kind::Lease, uid, lease(uid, "", json!({})));
    }
    history.right(Kind::Resource, "r", claimed("r", &["l", "m"]));
    history.now = 200;
    history.refuses("one slot, 3 claims", Kind::Resource, "r", claimed("r", &["l", "m", "n"]));
}

#[test]
fn a_claim_of_nobody_and_one_by_who_is_not_active() {
    History::new().refuses("G3", Kind::Resource, "r", claimed("r", &["nobody"]));
    let mut history = History::new();
    history.right(Kind::Lease, "l", lease("l", "", json!({})));
    let dying = with(
        claimed("r", &["l"]),
        with(json!({"status": over("Deleted", 9)}), json!({"status": {"phase": "Released"}})),
    );
    history.refuses("R3", Kind::Resource, "r", dying);
}

#[test]
fn a_resource_that_serves_once_is_granted_twice() {
    let mut history = History::new();
    let once = with(blueprint(), json!({"spec": {"lease": {"recycle": "Destroy"}}}));
    history.right(Kind::Blueprint, "b", once);
    for uid in ["l", "m"] {
        history.right(Kind::Lease, uid, lease(uid, "", json!({})));
    }
    history.right(Kind::Resource, "r", claimed("r", &["l"]));
    history.right(Kind::Lease, "l", bound("l", "r", "Active", json!({})));
    history.right(Kind::Lease, "l", bound("l", "r", "Destroyed", over("Expired", 10)));
    history.refuses("R5", Kind::Resource, "r", claimed("r", &["m"]));
}

#[test]
fn a_claim_is_dropped_while_its_lease_holds_it() {
    History::leased().refuses("R4", Kind::Resource, "r", claimed("r", &[]));
}

#[test]
fn one_resource_more_than_the_limit() {
    let mut history = History::new();
    history.right(Kind::Resource, "r2", resource("r2", "", json!({})));
    history.refuses("3 live resources", Kind::Resource, "r3", resource("r3", "", json!({})));
}

#[test]
fn bound_without_a_claim_and_to_who_is_gone() {
    let mut history = History::new();
    history.right(Kind::Lease, "l", lease("l", "", json!({})));
    history.refuses("does not claim it", Kind::Lease, "l", bound("l", "r", "Acquired", json!({})));
    history.right(Kind::Lease, "m", lease("m", "", json!({})));
    history.refuses("that is gone", Kind::Lease, "m", bound("m", "never", "Acquired", json!({})));
}

#[test]
fn bound_to_two_resources() {
    let mut history = History::leased();
    history.right(Kind::Resource, "s", resource("s", "Pending", json!({})));
    history.right(Kind::Resource, "s", resource("s", "Active", json!({})));
    history.right(Kind::Resource, "s", claimed("s", &["l"]));
    history.refuses("two resources at one attempt", Kind::Lease, "l", bound("l", "s", "Active", json!({})));
}

#[test]
fn against_the_arrows() {
    History::leased().refuses("from Active to Pending", Kind::Lease, "l", lease("l", "Pending", json!({"x": 1})));
    History::new().refuses("from Active to Pending", Kind::Resource, "r", resource("r", "Pending", json!({})));
    let mut history = History::leased();
    history.right(Kind::Lease, "l", bound("l", "r", "Released", over("Expired", 10)));
    history.refuses("from Released to Broken", Kind::Lease, "l", bound("l", "r", "Broken", over("Expired", 10)));
}

#[test]
fn back_in_the_queue_without_a_new_attempt() {
    let mut history = History::new();
    history.right(Kind::Lease, "l", lease("l", "", json!({})));
    history.right(Kind::Resource, "r", claimed("r", &["l"]));
    let returning = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Returning"}]});
    history.right(Kind::Lease, "l", bound("l", "r", "Acquired", returning));
    history.refuses("L5", Kind::Lease, "l", lease("l", "Pending", json!({"returns": 1})));
}

#[test]
fn a_status_after_destroyed() {
    let mut history = History::leased();
    history.right(Kind::Lease, "l", bound("l", "r", "Destroyed", over("Expired", 10)));
    let later = bound("l", "r", "Destroyed", over("Expired", 9));
    history.refuses("Destroyed lease was written", Kind::Lease, "l", later);
}

#[test]
fn let_go_or_gone_before_it_is_destroyed() {
    let free = |object: Value| with(object, json!({"metadata": {"finalizers": []}}));
    History::leased().refuses("L9", Kind::Lease, "l", free(bound("l", "r", "Active", json!({}))));
    History::leased().refuses("L9", Kind::Lease, "l", None);
    History::new().refuses("R8", Kind::Resource, "r", free(resource("r", "Active", json!({}))));
    History::new().refuses("R8", Kind::Resource, "r", None);
    History::new().refuses("B2", Kind::Blueprint, "b", None);
}

#[test]
fn released_without_a_cause() {
    for (reason, since) in
        [("Expired", 9), ("Deleted", 9), ("Released", 9), ("QueueTimeout", 9), ("ResourceLost", 9), ("Whim", 9)]
    {
        let mut history = History::leased();
        history.refuses("without a cause", Kind::Lease, "l", bound("l", "r", "Released", over(reason, since)));
    }
    History::leased().refuses("is to come", Kind::Lease, "l", bound("l", "r", "Released", over("Expired", 11)));
    let causes =
        [("Released", 9), ("Deleted", 9), ("IdleTimeout", 9), ("Expired", 9), ("BlueprintDeleted", 9), ("Disabled", 9)];
    for (reason, since) in causes {
        let idle = json!({"idleSince": at(5)});
        let mut history = History::new();
        history.refuses(
            "without a cause",
            Kind::Resource,
            "r",
            resource("r", "Released", with(over(reason, since), idle)),
        );
    }
}

#[test]
fn commands_left_consumed_twice_and_without_their_effect() {
    let asked = with(
        bound("l", "r", "Active", json!({"x": 1})),
        json!({"spec": {"commands": [{"id": "c", "type": "Release"}]}}),
    );
    History::leased().refuses("Q1", Kind::Lease, "l", asked);

    let mut history = History::leased();
    history.right(Kind::Lease, "l", commanded(bound("l", "r", "Active", json!({})), "Expires", "Refused"));
    history.refuses(
        "its entry changed",
        Kind::Lease,
        "l",
        commanded(bound("l", "r", "Active", json!({})), "Expires", "Ignored"),
    );

    let applied = commanded(bound("l", "r", "Active", json!({})), "Release", "Applied");
    History::leased().refuses("not released", Kind::Lease, "l", applied);
    for outcome in ["Refused", "Ignored"] {
        let consumed = commanded(bound("l", "r", "Active", json!({})), "Release", outcome);
        History::leased().refuses("not released", Kind::Lease, "l", consumed);
    }

    let extended = commanded(bound("l", "r", "Active", json!({})), "Expires", "Applied");
    let extended = with(extended, json!({"spec": {"commands": [{"id": "c", "type": "Expires", "after": "5s"}]}}));
    History::leased().refuses("and the wish is", Kind::Lease, "l", extended);
    let moved = bound("l", "r", "Active", json!({"wish": {"at": at(30)}}));
    History::leased().refuses("moved by itself", Kind::Lease, "l", moved);
}

#[test]
fn written_off_unasked_and_before_a_teardown_has_failed() {
    let torn_down = |reason: &str| json!({"conditions": [{"type": "TornDown", "status": "False", "reason": reason}]});
    let released = |reason: &str| bound("l", "r", "Released", with(over("Expired", 10), torn_down(reason)));
    let written_off = || bound("l", "r", "Destroyed", with(over("Expired", 10), torn_down("Forgotten")));
    let after = |reason: &str| {
        let mut history = History::leased();
        history.right(Kind::Lease, "l", bound("l", "r", "Released", over("Expired", 10)));
        history.right(Kind::Lease, "l", released(reason));
        history
    };
    after("TeardownFailed").refuses("nobody has asked", Kind::Lease, "l", written_off());
    let asked = || commanded(written_off(), "Forget", "Applied");
    after("TearingDown").refuses("no teardown had failed", Kind::Lease, "l", asked());
    after("TeardownFailed").right(Kind::Lease, "l", asked());
}

#[test]
fn a_hold_that_ends_early() {
    let mut history = History::leased();
    let hold = json!({"deadlines": [{"name": "Hold", "at": at(60)}]});
    let released = |more: Value| bound("l", "r", "Released", with(over("Expired", 10), more));
    history.right(Kind::Lease, "l", released(hold));
    history.refuses("Q3", Kind::Lease, "l", released(json!({})));
}

#[test]
fn overtaken_in_the_queue() {
    let ticket = |n: &str| json!({"queueTicket": n});
    let overtakes = |one: &str, other: &str| {
        let mut history = History::new();
        history.checker.is_calm();
        for (uid, n) in [("l", one), ("m", other)] {
            history.right(Kind::Lease, uid, lease(uid, "", json!({})));
            history.right(Kind::Lease, uid, lease(uid, "Pending", ticket(n)));
        }
        history.right(Kind::Resource, "r", claimed("r", &["m"])); // ten seconds after both were created
        history.now = 21;
        history.take(Kind::Blueprint, "b", Some(blueprint()))
    };
    assert!(overtakes("1", "2").unwrap_err().what.contains("overtaken"));
    overtakes("2", "1").unwrap_or_else(|wrong| panic!("{}", wrong.what));
}

/// What a driver made, for an owner and, where that is a lease, for its attempt on `r`.
fn made(uid: &str, owner: &str) -> Value {
    let labels = json!({"drydock.dev/owner": owner, "drydock.dev/resource": "r", "drydock.dev/attempt": "0"});
    json!({"kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n", "uid": uid, "labels": labels}})
}

fn on_record(made: Option<&str>) -> Value {
    json!({"built": {"driver": "objects", "objects": [{"kind": "ConfigMap", "name": "m", "uid": made}]}})
}

/// A lease that is Acquired, what is made for it being on record, and made.
fn activating() -> History {
    let mut history = History::new();
    history.right(Kind::Lease, "l", lease("l", "", json!({})));
    history.right(Kind::Resource, "r", claimed("r", &["l"]));
    history.right(Kind::Lease, "l", bound("l", "r", "Acquired", on_record(None)));
    history.right(Kind::Made, "m", made("m", "l"));
    history
}

#[test]
fn what_is_made_is_there_while_it_is_had() {
    let mut history = activating();
    history.right(Kind::Lease, "l", bound("l", "r", "Active", on_record(Some("m"))));
    history.refuses("taken away", Kind::Made, "m", None);

    let mut history = activating();
    history.gone(Kind::Lease, "x");
    history.refuses("is not there", Kind::Lease, "l", bound("l", "r", "Active", on_record(Some("other"))));
}

#[test]
fn what_is_made_is_gone_when_its_owner_is_destroyed() {
    let mut history = activating();
    let status = |phase| bound("l", "r", phase, with(on_record(Some("m")), over("Expired", 10)));
    history.refuses("L8", Kind::Lease, "l", status("Destroyed"));
    let mut history = activating();
    history.right(Kind::Lease, "l", status("Released"));
    history.refuses("is left", Kind::Lease, "l", status("Destroyed"));

    let mut history = activating();
    history.right(Kind::Lease, "l", status("Released"));
    history.gone(Kind::Made, "m");
    history.right(Kind::Lease, "l", status("Destroyed"));
    assert_eq!(history.checker.lates(), 0);
    history.right(Kind::Made, "m", made("m2", "l"));
    assert_eq!(history.checker.lates(), 1, "late, and to be removed");
    history.gone(Kind::Made, "m");
}

#[test]
fn made_before_it_is_on_record() {
    let mut history = History::new();
    history.right(Kind::Lease, "l", lease("l", "", json!({})));
    history.right(Kind::Resource, "r", claimed("r", &["l"]));
    history.refuses("before it was on record", Kind::Made, "m", made("m", "l"));
    history.right(Kind::Lease, "l", bound("l", "r", "Acquired", json!({})));
    history.refuses("before it was on record", Kind::Made, "m2", made("m2", "l"));
    history.right(Kind::Lease, "l", bound("l", "r", "Acquired", on_record(None)));
    history.right(Kind::Made, "m3", made("m3", "l"));

    let mut history = History::new();
    history.right(Kind::Resource, "s", resource("s", "Pending", json!({})));
    history.refuses("before it was on record", Kind::Made, "m", made("m", "s"));
    history.right(Kind::Resource, "s", resource("s", "Pending", on_record(None)));
    history.right(Kind::Made, "m2", made("m2", "s"));
    assert_eq!(history.checker.lates(), 0);
}

#[test]
fn made_twice_under_one_key() {
    let mut history = activating();
    let returning = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Returning"}]});
    history.right(Kind::Lease, "l", bound("l", "r", "Acquired", with(on_record(None), returning)));
    history.gone(Kind::Made, "m");
    history.right(Kind::Lease, "l", bound("l", "r", "Acquired", on_record(None)));
    history.refuses("made twice", Kind::Made, "m", made("m2", "l"));
}

#[test]
fn what_does_not_rest_rightly() {
    let settled = |change: fn(&mut History)| {
        let mut history = History::leased();
        change(&mut history);
        history.rests().expect_err("this is not at rest").what
    };
    let waiting = |reason: &str| {
        let says = json!({"conditions": [{"type": "Acquired", "status": "False", "reason": reason}]});
        lease("w", "Pending", says)
    };
    let deadline = json!({"deadlines": [{"name": "Lifetime", "at": at(10)}]});
    let mut history = History::leased();
    history.right(Kind::Lease, "l", bound("l", "r", "Active", deadline.clone()));
    history.right(Kind::Lease, "w", lease("w", "", json!({})));
    history.right(Kind::Lease, "w", waiting("AtCapacity"));
    assert!(history.rests().unwrap_err().what.contains("there is room"), "for a second resource");
    history.right(Kind::Resource, "s", resource("s", "Pending", json!({})));
    history.right(Kind::Resource, "s", resource("s", "Active", json!({})));
    assert!(history.rests().unwrap_err().what.contains("there is room"), "on the second resource");
    history.right(Kind::Lease, "m", lease("m", "", json!({})));
    history.right(Kind::Resource, "s", claimed("s", &["m"]));
    assert!(history.rests().is_err(), "a claim that no lease holds");
    history.right(Kind::Lease, "m", bound("m", "s", "Active", deadline));
    history.rests().unwrap_or_else(|wrong| panic!("{}", wrong.what));
    history.right(Kind::Lease, "w", waiting("Suspended"));
    assert!(history.rests().unwrap_err().what.contains("says \"Suspended\""));
    history.now = 30;
    assert!(history.rests().unwrap_err().what.contains("a deadline has passed"));

    assert!(
        settled(|h| h.right(Kind::Lease, "l", bound("l", "r", "Released", over("Expired", 10))))
            .contains("rests in Released")
    );
    let asked = |h: &mut History| {
        let queue = json!({"spec": {"commands": [{"id": "c", "type": "Release"}]}});
        h.right(Kind::Lease, "l", with(bound("l", "r", "Active", json!({})), queue));
    };
    assert!(settled(asked).contains("is not consumed"));
    let deleted = |h: &mut History| {
        let deleted = json!({"metadata": {"deletionTimestamp": at(1)}});
        h.right(Kind::Lease, "l", with(bound("l", "r", "Active", json!({"deadlines": [{"name": "x"}]})), deleted));
    };
    assert!(settled(deleted).contains("still there"));
    assert!(settled(|_| {}).contains("has no deadline"));
    assert!(History::leased().checker.rests(Rest::Gone, Timestamp::MIN).unwrap_err().what.contains("is left"));
}

/// One that had never been built goes in one write; and who lets it go may not have seen yet that another has ended.
#[test]
fn there_are_too_many_as_the_limit_is_lowered() {
    let lowered = |most: i64| with(blueprint(), json!({"spec": {"limits": {"maxResources": most}}}));
    let unbuilt = resource("s", "Destroyed", over("Released", 9));
    for (lowest, ended) in [(1, false), (1, true), (2, false)] {
        let mut history = History::new();
        history.right(Kind::Resource, "s", resource("s", "Pending", json!({})));
        history.right(Kind::Blueprint, "b", lowered(lowest));
        if ended {
            history.right(
                Kind::Resource,
                "r",
                with(resource("r", "Active", json!({})), json!({"metadata": {"deletionTimestamp": at(9)}})),
            );
            history.right(
                Kind::Resource,
                "r",
                with(resource("r", "Destroyed", over("Deleted", 9)), json!({"metadata": {"deletionTimestamp": at(9)}})),
            );
        }
        match lowest {
            1 => history.right(Kind::Resource, "s", unbuilt.clone()),
            _ => history.refuses("without a cause", Kind::Resource, "s", unbuilt.clone()),
        }
    }
}
