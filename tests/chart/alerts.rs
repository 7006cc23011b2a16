//! When somebody is alerted, and of what: Prometheus' own tool evaluates the chart's rules, with its values as they are, over
//! series like those that a controller has (tests/stories say which those are).

use std::process::Command;

use serde_json::{Value, json};

use crate::support::helm;

/// A series, and its values minute by minute as promtool writes them: `1x30` is thirty-one of the same, `0+1x9` rises.
type Series = (&'static str, &'static str);

/// What is alerted of at a minute: the alert, and for each that is told its labels and its summary.
type Told<'t> = (u32, &'t str, Vec<(Value, &'t str)>);

fn rules() -> Value {
    let rendered = helm::values(json!({"prometheusRule": {"enabled": true}}));
    helm::get(&rendered, "PrometheusRule/drydock")["spec"].clone()
}

/// Fails where Prometheus would tell anything else.
fn are_told(series: &[Series], told: &[Told<'_>]) {
    let rules = rules();
    let rule = |alert: &str| {
        let rules = rules["groups"][0]["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["alert"] == alert).unwrap_or_else(|| panic!("no alert {alert}")).clone()
    };
    let expected = |(minute, alert, all): &Told<'_>| {
        let rule = rule(alert);
        let one = |(labels, summary): &(Value, &str)| {
            let mut of = rule["labels"].clone();
            of.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
            let said = json!({"summary": summary, "description": rule["annotations"]["description"]});
            json!({"exp_labels": of, "exp_annotations": said})
        };
        let all: Vec<_> = all.iter().map(one).collect();
        json!({"eval_time": format!("{minute}m"), "alertname": alert, "exp_alerts": all})
    };
    let inputs: Vec<_> = series.iter().map(|(name, values)| json!({"series": name, "values": values})).collect();
    let expected: Vec<_> = told.iter().map(expected).collect();
    let tests = json!({
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": expected}],
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), serde_yaml::to_string(&rules).unwrap()).unwrap();
    std::fs::write(folder.path().join("tests.yaml"), serde_yaml::to_string(&tests).unwrap()).unwrap();
    let promtool = helm::program("promtool");
    let output =
        Command::new(promtool).args(["test", "rules", "tests.yaml"]).current_dir(folder.path()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn what_fails_to_be_torn_down_is_told_after_a_while() {
    const ALERT: &str = "DrydockTeardownFailing";
    let failing = (json!({"kind": "Resource"}), "Teardowns of 2 Resource fail, and are tried again");
    are_told(
        &[
            // Two that run at once count the same ones, and one that goes on by itself is nobody's business.
            (r#"drydock_teardowns_failing{kind="Resource",instance="a"}"#, "0x4 2x30"),
            (r#"drydock_teardowns_failing{kind="Resource",instance="b"}"#, "0x4 1x30"),
            (r#"drydock_teardowns_failing{kind="Lease",instance="a"}"#, "0x4 1x9 0x40"),
        ],
        &[(19, ALERT, vec![]), (21, ALERT, vec![failing]), (40, ALERT, vec![])],
    );
}

#[test]
fn a_queue_that_does_not_move_is_told_and_one_whose_budget_is_used_up_is_something_else() {
    const STUCK: &str = "DrydockQueueNotMoving";
    const FULL: &str = "DrydockBudgetUsedUp";
    let blueprint = |name: &str| json!({"blueprint": name});
    let stuck = (blueprint("ci/stuck"), "3 leases wait for ci/stuck, and none is served though it has room");
    let full = "1 leases wait for ci/full, which has as many resources as it may, and none of them idle";
    are_told(
        &[
            // It never served anybody, and has room.
            (r#"drydock_pool_waiting{blueprint="ci/stuck"}"#, "3x60"),
            (r#"drydock_pool_limit{blueprint="ci/stuck"}"#, "4x60"),
            (r#"drydock_pool_resources{blueprint="ci/stuck",state="idle"}"#, "3x60"),
            (r#"drydock_pool_resources{blueprint="ci/stuck",state="leased"}"#, "1x60"),
            (r#"drydock_grants_total{blueprint="ci/stuck"}"#, "0x60"),
            // It serves one in three minutes.
            (r#"drydock_pool_waiting{blueprint="ci/slow"}"#, "9x60"),
            (r#"drydock_pool_limit{blueprint="ci/slow"}"#, "2x60"),
            (r#"drydock_pool_resources{blueprint="ci/slow",state="leased"}"#, "1x60"),
            (
                r#"drydock_grants_total{blueprint="ci/slow"}"#,
                "0 0 0 1 1 1 2 2 2 3 3 3 4 4 4 5 5 5 6 6 6 7 7 7 8 8 8 9 9 9 10 10 10 11 11 11 12 12 12 13 13 13",
            ),
            // It has as many as it may: as two controllers see it.
            (r#"drydock_pool_waiting{blueprint="ci/full",instance="a"}"#, "1x60"),
            (r#"drydock_pool_limit{blueprint="ci/full",instance="a"}"#, "2x60"),
            (r#"drydock_pool_resources{blueprint="ci/full",state="leased",instance="a"}"#, "1x60"),
            (r#"drydock_pool_resources{blueprint="ci/full",state="leased",instance="b"}"#, "1x60"),
            (r#"drydock_pool_resources{blueprint="ci/full",state="released",instance="a"}"#, "1x60"),
            (r#"drydock_grants_total{blueprint="ci/full",instance="a"}"#, "0x60"),
        ],
        &[
            (29, STUCK, vec![]),
            (31, STUCK, vec![stuck]),
            (29, FULL, vec![]),
            (31, FULL, vec![(blueprint("ci/full"), full)]),
        ],
    );
}

#[test]
fn what_ends_late_is_told() {
    const ALERT: &str = "DrydockExpiryLate";
    let late = (json!({}), "Deadlines are looked at more than five seconds late");
    are_told(
        &[
            (r#"drydock_deadline_lateness_seconds_bucket{le="5.0"}"#, "0+10x14 150+9x30"),
            ("drydock_deadline_lateness_seconds_count", "0+10x14 150+10x30"),
        ],
        &[(14, ALERT, vec![]), (30, ALERT, vec![late])],
    );
    are_told(
        &[
            (r#"drydock_deadline_lateness_seconds_bucket{le="5"}"#, "0+10x60"),
            ("drydock_deadline_lateness_seconds_count", "0+10x60"),
        ],
        &[(60, ALERT, vec![])],
    );
}

/// As the clock of these series has it: it begins at 0.
#[test]
fn a_kind_that_is_not_seen_and_one_that_nobody_looks_after_are_told() {
    const SILENT: &str = "DrydockWatchSilent";
    const DOWN: &str = "DrydockDown";
    let of = |kind: &str| json!({"kind": kind, "scope": "all namespaces"});
    let silent = "The controller has not seen leases of all namespaces for 10m 0s";
    are_told(
        &[
            (r#"drydock_watch_last_ok_timestamp_seconds{kind="leases",scope="all namespaces"}"#, "0+60x10 600x10 _x20"),
            (r#"drydock_watch_last_ok_timestamp_seconds{kind="resources",scope="all namespaces"}"#, "0+60x60"),
            (r#"drydock_watch_last_ok_timestamp_seconds{kind="blueprints",scope="all namespaces"}"#, "_x2 120+60x60"),
        ],
        &[
            (17, SILENT, vec![]),
            (20, SILENT, vec![(of("leases"), silent)]),
            (20, DOWN, vec![]),
            (40, SILENT, vec![]),
            (40, DOWN, vec![(of("leases"), "No Drydock controller looks after the leases of all namespaces")]),
        ],
    );
    let all = ["leases", "resources", "blueprints"];
    let nobody = all.map(|kind| format!("No Drydock controller looks after the {kind} of all namespaces"));
    let told = all.iter().zip(&nobody).map(|(kind, said)| (of(kind), said.as_str())).collect();
    are_told(&[], &[(4, DOWN, vec![]), (6, DOWN, told)]);
}
