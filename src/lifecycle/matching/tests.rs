//! The tables of who may be served by what, and why a lease waits (api.md section 5).

use super::*;
use crate::{
    api::{ResourceStatus, lease::BlueprintName},
    lifecycle::{conditions, testing::*},
};

fn everywhere() -> WatchedNamespaces {
    WatchedNamespaces::default()
}

fn active(more: &str) -> Resource {
    let mut resource = resource(more);
    resource.status = Some(ResourceStatus { phase: Some(ResourcePhase::Active.into()), ..ResourceStatus::default() });
    resource
}

fn policy(more: &str) -> ResourcePolicy {
    blueprint(&format!("resource: {{{more}}}")).spec.resource
}

/// Same type, the selector matches.
#[test]
fn fits_by_type_and_selector() {
    let arm = "attributes: {arch: arm64, rack: '7'}";
    for (asked, fitting) in [
        ("", true),
        ("selector: {}", true),
        ("selector: {matchLabels: {arch: arm64}}", true),
        ("selector: {matchLabels: {arch: arm64, rack: '7'}}", true),
        ("selector: {matchLabels: {arch: amd64}}", false),
        ("selector: {matchLabels: {gpu: 'yes'}}", false),
        ("selector: {matchExpressions: [{key: rack, operator: In, values: ['7', '8']}]}", true),
        ("selector: {matchExpressions: [{key: rack, operator: NotIn, values: ['7']}]}", false),
        ("selector: {matchLabels: {arch: arm64}, matchExpressions: [{key: gpu, operator: Exists}]}", false),
    ] {
        let lease = lease("l", asked).spec;
        assert_eq!(fits(&lease, &active(arm), &policy(""), at(1)), fitting, "{asked}");
        let slot = |enabled| Slot { attributes: active(arm).spec.attributes, enabled, ..Slot::default() };
        assert_eq!(fits_slot(&lease, &slot(true)), fitting, "{asked}");
        assert!(!fits_slot(&lease, &slot(false)), "{asked}: a disabled slot fits nobody");
    }
    let mut other_type = lease("l", "").spec;
    other_type.resource_type = "board".into();
    assert!(!fits(&other_type, &active(arm), &policy(""), at(1)));
}

/// Not over, and not past its Age.
#[test]
fn fits_only_what_lives() {
    use ResourcePhase::{Active, Broken, Destroyed, Pending, Released};
    for (phase, fitting) in [(Pending, true), (Active, true), (Released, false), (Broken, false), (Destroyed, false)] {
        let mut resource = active("");
        resource.status.get_or_insert_default().phase = Some(phase.into());
        assert_eq!(fits(&lease("l", "").spec, &resource, &policy(""), at(1)), fitting, "{phase:?}");
    }
    let unwritten = resource("");
    assert!(fits(&lease("l", "").spec, &unwritten, &policy(""), at(1)), "no status yet reads as Pending");
    let mut ending = active("");
    ending.status.get_or_insert_default().expires_at = Some(at(60));
    assert!(fits(&lease("l", "").spec, &ending, &policy(""), just_before(at(60))));
    assert!(!fits(&lease("l", "").spec, &ending, &policy(""), at(60)), "story 20");
}

/// Each name in `resource.parameters` has the same value in both: the lease's, else the Blueprint's default. Story 21.
#[test]
fn fits_by_flavour() {
    let (alike, sized) = ("", "parameters: [size], defaults: {size: small}");
    let (open, both) = ("parameters: [size]", "parameters: [size, image], defaults: {size: small}");
    for (policy_spec, built, asked, fitting) in [
        (alike, "", "", true),
        (alike, "", "parameters: {size: large}", true),
        (alike, "parameters: {size: large}", "parameters: {size: small}", true),
        (sized, "parameters: {size: small}", "", true),
        (sized, "parameters: {size: small}", "parameters: {size: small}", true),
        (sized, "parameters: {size: small}", "parameters: {size: large}", false),
        (sized, "parameters: {size: large}", "", false),
        (sized, "parameters: {size: small}", "parameters: {image: a}", true),
        (sized, "", "", false),
        (open, "", "", true),
        (open, "", "parameters: {size: large}", false),
        (open, "parameters: {size: large}", "", false),
        (both, "parameters: {size: small, image: a}", "parameters: {image: a}", true),
        (both, "parameters: {size: small, image: a}", "parameters: {image: b}", false),
        (both, "parameters: {size: small, image: a}", "", false),
    ] {
        let name = format!("{policy_spec}; {built}; {asked}");
        let (lease, policy) = (lease("l", asked).spec, policy(policy_spec));
        assert_eq!(fits(&lease, &active(built), &policy, at(1)), fitting, "{name}");
        let mut made_for_it = active("");
        made_for_it.spec.parameters = flavours(&lease, &policy);
        assert!(fits(&lease, &made_for_it, &policy, at(1)), "{name}: what is built for a lease fits it");
    }
    let lease = lease("l", "parameters: {size: large, other: x}").spec;
    assert_eq!(flavours(&lease, &policy(both)), [("size".to_owned(), "large".to_owned())].into());
}

/// A lease of namespace `team`; the Blueprint is `pools/ci`. Story 4.
#[test]
fn candidates_are_named_or_near_or_shared() {
    for (named, shared, candidate) in [
        ("", &[][..], false),
        ("", &["pools"], true),
        ("", &["other"], false),
        ("", &["other", "pools"], true),
        ("", &["*"], true),
        ("blueprints: [{namespace: pools, name: ci}]", &[], true),
        ("blueprints: [{namespace: other, name: x}, {namespace: pools, name: ci}]", &[], true),
        ("blueprints: [{namespace: pools, name: other}]", &["pools", "*"], false),
        ("blueprints: [{name: ci}]", &["pools", "*"], false),
    ] {
        let shared = SharedNamespaces::new(&shared.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        assert_eq!(is_candidate(&lease("l", named), &blueprint(""), &shared), candidate, "{named} {shared:?}");
    }
    let nobody = SharedNamespaces::default();
    let mut own = blueprint("");
    own.metadata.namespace = Some("team".into());
    assert!(is_candidate(&lease("l", ""), &own, &nobody), "of its own namespace");
    assert!(is_candidate(&lease("l", "blueprints: [{name: ci}]"), &own, &nobody), "the namespace left out is its own");
    assert!(!is_candidate(&lease("l", "blueprints: [{name: other}]"), &own, &nobody));
    own.spec.resource_type = "board".into();
    assert!(!is_candidate(&lease("l", ""), &own, &nobody));
    assert!(!is_candidate(&lease("l", "blueprints: [{name: ci}]"), &own, &nobody), "also where it is named");
}

/// The Blueprint's side: `pools/ci`, asked by namespaces.
#[test]
fn admission_is_the_blueprints_side() {
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    };
    let selects = "allowedNamespaces: {from: Selector, selector: {matchLabels: {tier: ci}}}";
    for (allowed, namespace, labels, expected) in [
        ("", "pools", None, Admission::Admitted),
        ("", "team", None, Admission::NotAdmitted),
        ("allowedNamespaces: {from: Same}", "team", Some(labels(&[])), Admission::NotAdmitted),
        ("allowedNamespaces: {from: All}", "team", None, Admission::Admitted),
        (selects, "team", Some(labels(&[("tier", "ci")])), Admission::Admitted),
        (selects, "team", Some(labels(&[("tier", "web")])), Admission::NotAdmitted),
        (selects, "pools", Some(labels(&[])), Admission::NotAdmitted),
        (selects, "team", None, Admission::Unreadable),
        ("allowedNamespaces: {from: Selector}", "team", Some(labels(&[("tier", "ci")])), Admission::NotAdmitted),
    ] {
        assert_eq!(admission(&blueprint(allowed), namespace, labels.as_ref()), expected, "{allowed} {namespace}");
    }
}

/// As `spec.blueprints` lists them, else oldest first; then by name, so that two controllers try the same.
#[test]
fn the_order_in_which_candidates_are_tried() {
    let of_age = |name: &str, seconds: i64| {
        let mut blueprint = blueprint("");
        blueprint.metadata = meta("pools", name);
        let created = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(seconds).timestamp());
        blueprint.metadata.creation_timestamp = Some(created);
        blueprint
    };
    let blueprints = [of_age("young", 9), of_age("old", 1), of_age("b", 5), of_age("a", 5)];
    let tried = |lease: &Lease| {
        let mut order: Vec<_> = blueprints.iter().collect();
        order.sort_by_key(|blueprint| preference(lease, blueprint));
        order.into_iter().filter_map(|b| b.metadata.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(tried(&lease("l", "")), ["old", "a", "b", "young"]);
    let mut named = lease("l", "");
    let name = |name: &str| BlueprintName { namespace: Some("pools".into()), name: name.into() };
    named.spec.blueprints = ["young", "b", "old", "a"].map(name).into();
    assert_eq!(tried(&named), ["young", "b", "old", "a"]);
}

/// Of the names in `parameters` only.
#[test]
fn the_flavour_of_what_is_built_for_nobody() {
    for (policy, expected) in [
        ("", vec![]),
        ("resource: {defaults: {flavour: small}}", vec![]),
        ("resource: {parameters: [flavour, zone], defaults: {flavour: small}}", vec![("flavour", "small")]),
    ] {
        let flavour = default_flavour(&blueprint(policy).spec.resource);
        let flavour: Vec<_> = flavour.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(flavour, expected, "{policy}");
    }
}

fn slot(name: &str, arch: &str, enabled: bool) -> Slot {
    let attributes = [("arch".to_owned(), arch.to_owned())].into();
    Slot { name: name.into(), attributes, enabled, ..Slot::default() }
}

/// A Blueprint that admits the lease, and has nothing for it.
fn candidate(blueprint: &Blueprint) -> Candidate<'_> {
    Candidate {
        blueprint,
        admission: Admission::Admitted,
        slots: None,
        unmatched: false,
        unsupported: None,
        coming: Coming::Nothing,
        namespace_limit: None,
        reclaiming: None,
        next_build_at: None,
        failing_flavour: None,
        shortage: Shortage::InUse,
    }
}

/// How near one Blueprint is, and the clause that says so.
#[test]
fn where_a_candidate_stands() {
    let taken = blueprint("");
    let suspended = blueprint("suspend: true");
    let mut draining = blueprint("suspend: true");
    delete(&mut draining.metadata);
    let none: &[Slot] = &[];
    let amd = [slot("h1", "amd64", true)];
    let disabled = [slot("h1", "amd64", true), slot("h2", "arm64", false)];
    let one_enabled = [slot("h1", "arm64", false), slot("h2", "arm64", true)];
    let another_s = |name: &str| Slot { taken: true, ..slot(name, "arm64", false) };
    let (offered_elsewhere, both) = ([another_s("h1")], [another_s("h1"), slot("h2", "arm64", false)]);
    let of = candidate;
    let own = Coming::Own;
    for (candidate, rung, clause) in [
        (
            Candidate { admission: Admission::NotAdmitted, slots: Some(none), ..of(&draining) },
            Rung::NotAuthorized,
            "does not admit this namespace",
        ),
        // Nor does a lessee learn how it selects namespaces (api.md, 6).
        (
            Candidate { admission: Admission::Unreadable, coming: own(None), ..of(&taken) },
            Rung::NotAuthorized,
            "does not admit this namespace",
        ),
        (Candidate { coming: own(None), ..of(&draining) }, Rung::Draining, "is being deleted"),
        (Candidate { coming: own(None), ..of(&suspended) }, Rung::Suspended, "is suspended"),
        // What can never serve it is not worth waiting for until it is resumed.
        (Candidate { slots: Some(none), ..of(&draining) }, Rung::NoMatchingBlueprint, "has no hosts"),
        (
            Candidate { slots: Some(&amd), ..of(&suspended) },
            Rung::NoMatchingBlueprint,
            "has no host that the selector matches",
        ),
        (
            Candidate { unmatched: true, ..of(&suspended) },
            Rung::NoMatchingBlueprint,
            "has nothing that the selector matches",
        ),
        (
            Candidate { slots: Some(&amd), coming: Coming::Planned, ..of(&taken) },
            Rung::NoMatchingBlueprint,
            "has no host that the selector matches",
        ),
        (Candidate { slots: Some(&disabled), ..of(&suspended) }, Rung::Suspended, "is suspended"),
        (Candidate { slots: Some(&disabled), ..of(&taken) }, Rung::NoHostEnabled, "has every host that fits disabled"),
        (
            Candidate { slots: Some(&offered_elsewhere), ..of(&taken) },
            Rung::NoHostEnabled,
            "has every host that fits offered by an older Blueprint, which lists it too (HostTaken)",
        ),
        (
            Candidate { slots: Some(&both), ..of(&taken) },
            Rung::NoHostEnabled,
            "has every host that fits disabled, or offered by an older Blueprint, which lists it too (HostTaken)",
        ),
        (Candidate { slots: Some(&one_enabled), ..of(&taken) }, Rung::AtCapacity, "has all that fits in use"),
        (
            Candidate { unsupported: Some("webhook"), namespace_limit: Some(1), ..of(&taken) },
            Rung::BuildFailing,
            "cannot be built from: this controller has no driver webhook",
        ),
        (
            Candidate { slots: Some(&one_enabled), coming: Coming::Planned, ..of(&taken) },
            Rung::Building,
            "is building one",
        ),
        (
            Candidate { next_build_at: Some(at(9)), coming: Coming::Planned, ..of(&taken) },
            Rung::BuildFailing,
            "fails to build, and is tried again",
        ),
        // Another's has failed; its own is on its way.
        (Candidate { next_build_at: Some(at(9)), coming: own(None), ..of(&taken) }, Rung::Building, "is building one"),
        (
            Candidate { failing_flavour: Some("no such branch"), ..of(&taken) },
            Rung::BuildFailing,
            "fails to build with this Lease's parameters, and tries again from time to time: no such branch",
        ),
        (
            Candidate { coming: own(Some("no disk")), ..of(&taken) },
            Rung::BuildFailing,
            "is building one, which fails so far: no disk",
        ),
        // Nothing helps where its namespace has as many as it may.
        (
            Candidate { namespace_limit: Some(3), next_build_at: Some(at(9)), coming: own(None), ..of(&taken) },
            Rung::NamespaceLimit,
            "serves at most 3 leases of one namespace at once (limits.maxLeasesPerNamespace)",
        ),
        // What makes room for it, now or then.
        (
            Candidate { reclaiming: Some(Reclaiming::Later("ci--h7")), ..of(&taken) },
            Rung::Reclaiming,
            "reclaims ci--h7, which fits nobody who waits, when it has been idle for resource.reclaimAfter",
        ),
        (
            Candidate { reclaiming: Some(Reclaiming::Now("ci--h7")), ..of(&taken) },
            Rung::Reclaiming,
            "is reclaiming ci--h7 to make room",
        ),
        (
            Candidate { reclaiming: Some(Reclaiming::Now("ci--h7")), coming: Coming::Planned, ..of(&taken) },
            Rung::Building,
            "is building one",
        ),
    ] {
        let (stands, said) = standing(&lease("l", "selector: {matchLabels: {arch: arm64}}").spec, &candidate);
        assert_eq!((stands, said), (rung, format!("Blueprint pools/ci {clause}")));
    }
    // Of a Blueprint from which nothing can be built nothing is tried again, whatever failed last.
    let mut unsound = taken.clone();
    let conditions = &mut unsound.status.get_or_insert_default().conditions;
    conditions::set(conditions, at(1), "Ready", conditions::Truth::False, "ExpressionTooSlow", "readyWhen: too slow");
    let hopeless = Candidate { next_build_at: Some(at(9)), coming: own(Some("no disk")), ..of(&unsound) };
    let told = "Blueprint pools/ci cannot be built from as it is: readyWhen: too slow";
    assert_eq!(standing(&lease("l", "").spec, &hopeless), (Rung::BuildFailing, told.to_owned()));
}

/// Of all that is short of room each says why.
#[test]
fn why_nothing_is_to_be_had() {
    let ci = blueprint("");
    for (shortage, clause) in [
        (Shortage::InUse, "has all that fits in use"),
        (Shortage::Taken, "has all that fits in use, being built for others, or being torn down"),
        (Shortage::BuiltAtOnce(1), "is building for another, and one at a time (limits.maxConcurrentBuilds)"),
        (Shortage::BuiltAtOnce(4), "is building for others, 4 at once (limits.maxConcurrentBuilds)"),
        (Shortage::BuiltElsewhere, "has room, and is not asked, for another Blueprint is building one"),
        (Shortage::Free, "has room, and is about to be asked"),
        (Shortage::NoneAllowed, "may have no Resources (limits.maxResources is 0)"),
        (Shortage::AtLimit(2), "has as many Resources as it may, 2 (limits.maxResources)"),
        (Shortage::Stuck("ci--1"), "cannot reuse ci--1, whose teardown fails, and whatever else fits is in use"),
        (Shortage::Lost("ci--1"), "cannot give ci--1, of which something is lost, and whatever else fits is in use"),
        (
            Shortage::NameTaken("ci--1"),
            "cannot build ci--1, for a Resource of another Blueprint has that name, and whatever else fits is in use",
        ),
    ] {
        let candidate = Candidate { shortage, ..candidate(&ci) };
        let expected = (Rung::AtCapacity, format!("Blueprint pools/ci {clause}"));
        assert_eq!(standing(&lease("l", "").spec, &candidate), expected);
    }
}

/// With several candidates the reason nearest to success, and one clause for each.
#[test]
fn the_reason_nearest_to_success() {
    let by_nearness = [
        Rung::NoMatchingBlueprint,
        Rung::NotAuthorized,
        Rung::Suspended,
        Rung::Draining,
        Rung::NoHostEnabled,
        Rung::NamespaceLimit,
        Rung::AtCapacity,
        Rung::BuildFailing,
        Rung::Reclaiming,
        Rung::Building,
    ];
    for (n, nearest) in by_nearness.into_iter().enumerate() {
        for other in &by_nearness[..=n] {
            let standings = vec![(nearest, "Blueprint a/b one".into()), (*other, "Blueprint a/c two".into())];
            let (rung, message) = explain(&lease("l", ""), standings, &everywhere());
            assert_eq!((rung, message.as_str()), (nearest, "Blueprint a/b one; Blueprint a/c two"));
        }
    }
    let words: Vec<_> = by_nearness.iter().map(|rung| rung.as_str()).collect();
    assert_eq!(
        words,
        [
            "NoMatchingBlueprint",
            "NotAuthorized",
            "Suspended",
            "Draining",
            "NoHostEnabled",
            "NamespaceLimit",
            "AtCapacity",
            "BuildFailing",
            "Reclaiming",
            "Building"
        ]
    );
}

/// Story 2: nothing for that type; and a Blueprint that is named, but not there.
#[test]
fn what_is_not_there_is_said() {
    let (rung, message) = explain(&lease("l", ""), Vec::new(), &everywhere());
    assert_eq!(rung, Rung::NoMatchingBlueprint);
    assert!(message.contains("no Blueprint of type host"), "{message}");
    let named = lease("l", "blueprints: [{name: ci}, {namespace: pools, name: ci-2}]");
    let known = || vec![(Rung::AtCapacity, "Blueprint pools/ci-2 has all that fits in use".into())];
    let (rung, message) = explain(&named, known(), &everywhere());
    assert_eq!(rung, Rung::AtCapacity);
    assert_eq!(
        message,
        "Blueprint pools/ci-2 has all that fits in use; Blueprint team/ci is not there, or is not of type host"
    );
    // Of a namespace that it does not watch a controller knows nothing.
    for (watched, clause) in
        [("team", "is not there, or is not of type host"), ("pools", "is not there, or not watched")]
    {
        let (_, message) = explain(&named, known(), &WatchedNamespaces::new(&[watched.to_owned()]));
        assert!(message.contains(&format!("Blueprint team/ci {clause}")), "{message}");
    }
}

/// A name that begins like another is another.
#[test]
fn a_named_blueprint_is_not_taken_for_one_with_a_longer_name() {
    let named = lease("l", "blueprints: [{namespace: pools, name: ci}]");
    let (_, message) =
        explain(&named, vec![(Rung::Suspended, "Blueprint pools/ci-2 is suspended".into())], &everywhere());
    assert!(message.contains("Blueprint pools/ci is not there"), "{message}");
}
