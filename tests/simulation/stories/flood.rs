//! One namespace floods the controller; what another asks for, and its deadlines, do not wait behind it.

use super::{HERE, LATE, Stage, clock, lease_reason, on_time, told};
use crate::{faults::Rates, journal::Kind};
use drydock::api::{DeadlineName, Lease, LeasePhase};
use jiff::SignedDuration;
use serde_json::json;

/// Who floods.
const LOUD: &str = "loud";

/// So many leases it has, each with a command a second: more than the controller can write.
const LEASES: usize = 1_200;
const SECONDS: usize = 8;

/// What each way of a request takes more, in milliseconds: some 300 writes a second is all that this server takes.
const BUSY: u64 = 50;

/// So long what somebody else asks for may take meanwhile, and a grant after that; a fifth of it is the API server's own time.
/// In the order in which all became dirty each of its writes would wait a second for those of the flood.
const SOON: SignedDuration = SignedDuration::from_millis(1_500);

/// Each lease of the loud namespace gets one more command.
fn shorten(stage: &Stage, round: usize) {
    for n in 0..LEASES {
        let command = json!({"id": format!("c{round}"), "type": "Expires", "after": format!("{}s", 7200 + round)});
        stage.command_in(LOUD, Kind::Lease, &format!("l{n}"), command);
    }
}

#[test]
fn a_namespace_that_floods_delays_nobody_else() {
    told(async |stage| {
        // A watch that lags with each event would be what holds everybody up.
        let rates = Rates { prompt: 1000, busy: BUSY, ..Rates::default() };
        let _controller = stage.controller_that_suffers("1", rates);
        stage.namespace(LOUD);
        stage.pool(1, json!({}));
        stage.pool_in(LOUD, 1, json!({}));
        // One is Active, and is to end in the middle of the flood.
        stage.lease("first", json!({"ttl": format!("{}s", SECONDS / 2)}));
        stage.until_lease("first", LeasePhase::Active).await;
        let due = clock(&stage.lease_now("first").status.unwrap().deadlines, DeadlineName::Lifetime).unwrap();
        for n in 0..LEASES {
            stage.lease_in(LOUD, &format!("l{n}"), json!({}));
        }
        stage.lease("second", json!({}));
        let mut asked = None;
        for second in 0..SECONDS {
            shorten(stage, second);
            stage.pass(SignedDuration::from_secs(1)).await;
            let is_served = stage.object::<Lease>(Kind::Lease, HERE, "second").unwrap().phase() == LeasePhase::Active;
            if is_served && asked.is_none() {
                stage.release("second");
                asked = Some(stage.clocks.wall());
            }
        }
        let first = stage.lease_now("first");
        assert_eq!(lease_reason(&first), "Expired");
        on_time(first.status.as_ref().unwrap().released_at, due);
        let second = stage.lease_now("second").status.unwrap();
        let granted = second.activated_at.expect("it is served during the flood").timestamp();
        assert!(granted <= due + LATE + SOON, "granted at {granted}, the resource was due to be free at {due}");
        let released = second.released_at.expect("it is released during the flood").timestamp();
        let asked = asked.expect("it is asked to");
        assert!(released <= asked + SOON, "asked at {asked}, released at {released}");
        let consumed =
            |n: usize| stage.lease_of(LOUD, &format!("l{n}")).status.map_or(0, |status| status.commands.len());
        let consumed: usize = (0..LEASES).map(consumed).sum();
        assert!(consumed < LEASES * SECONDS, "it was no flood: all {consumed} commands were consumed in time");
        assert!(consumed > LEASES / 10, "whoever floods is served as well: {consumed}");
    });
}
