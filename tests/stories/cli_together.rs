//! `drydock lease --count N --wait`: two callers who each hold a part of what both need do not wait for each other for ever.

use crate::{
    story_41_and_49_the_command_line::{Running, alices, drydock},
    support::Identity,
    told::{alone, apply, claimants, holds_throughout, hosts},
};
use serde_json::json;

#[tokio::test]
async fn of_two_who_each_hold_a_part_the_later_gives_way_and_both_are_served() {
    let (sandbox, _controller) = alone("cli-together").await;
    alices(&sandbox, 1, json!({})).await;
    let two = |name: &'static str, priority: &'static str| {
        let arguments = ["lease", name, "--type", "host", "--count", "2", "--priority", priority, "--wait"];
        Running::start(&sandbox, Identity::Alice, &arguments)
    };
    let mut first = two("a", "0");
    first.says("lease/a-1: Active").await;
    first.says("lease/a-2: Pending").await;
    let mut second = two("b", "5");
    second.says("lease/b-2: Pending, place 2").await;
    // A host more goes to the second caller, who is before the first now.
    apply(&sandbox, &hosts(2, json!({}))).await;
    second.says("lease/b-1: Active").await;
    first.says("giving all back, and asking again").await;
    let said = second.end().await;
    assert_eq!(said.done(), ["b-1", "b-2"], "{said:?}");
    assert!(!said.err.contains("giving all back"), "{said:?}");
    drydock(&sandbox, &["release-lease", "b-1", "b-2"]).await.done();
    assert_eq!(first.end().await.done(), ["a-1", "a-2"], "the names are told once");
    let mut holders: Vec<String> = vec![];
    for host in ["resource/pool--h1", "resource/pool--h2"] {
        holders.extend(claimants(&sandbox.get(host).await));
    }
    holders.sort();
    assert_eq!(holders, ["a-1", "a-2"]);
    holds_throughout(&sandbox).await;
}
