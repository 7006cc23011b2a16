//! Manifests that come again: the original by `kubectl replace`, as Argo CD does with `Replace=true`, and a backup that is restored.

use crate::{
    people::{Person, object},
    support::{Identity, Sandbox, sandbox::refusal},
    told::{alone, apply, command, entry, hosts, lease, outcome, status, uid, versions},
};
use kube::{ResourceExt as _, api::PostParams};
use serde_json::json;

/// Replaces an object by this manifest with kubectl.
async fn replace(sandbox: &Sandbox<'_>, manifest: &str) {
    let file = sandbox.plane().folder().join(format!("{}-replace.json", sandbox.namespace()));
    std::fs::write(&file, manifest).unwrap();
    let arguments = ["replace", "--namespace", sandbox.namespace(), "-f", &file.to_string_lossy()];
    sandbox.plane().run_kubectl(Identity::Admin, &arguments).await.expect("it is replaced");
}

#[tokio::test]
async fn a_replace_by_the_original_manifest_changes_nothing() {
    let (sandbox, _controller) = alone("replace-original").await;
    let (pool, wanted) = (hosts(1, json!({})), lease("a", json!({"ttl": "1h"})));
    apply(&sandbox, &pool).await;
    apply(&sandbox, &wanted).await;
    sandbox.wait_phase("lease/a", "Active").await;
    command(&sandbox, "lease/a", json!({"id": "later", "type": "Expires", "after": "3h"})).await;
    assert_eq!(outcome(&sandbox, "lease/a", "later").await.0, "Applied");
    let before = [sandbox.get("lease/a").await, sandbox.get("blueprint/pool").await];
    replace(&sandbox, &wanted).await;
    replace(&sandbox, &pool).await;
    // The command that is consumed is gone from the queue, as the manifest says; what came of it stays.
    command(&sandbox, "lease/a", json!({"id": "seen", "type": "Expires", "at": status(&before[0], "expiresAt")})).await;
    outcome(&sandbox, "lease/a", "seen").await;
    let after = [sandbox.get("lease/a").await, sandbox.get("blueprint/pool").await];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(uid(before), uid(after));
        assert_eq!(before.finalizers(), ["drydock.dev/teardown"]);
        assert_eq!(before.finalizers(), after.finalizers());
        assert_eq!(before.annotations().get("drydock.dev/owner"), after.annotations().get("drydock.dev/owner"));
    }
    let [before, after] = [&before[0], &after[0]];
    for field in ["phase", "expiresAt", "activatedAt"] {
        assert_eq!(status(before, field), status(after, field), "{field}");
    }
    assert_eq!(before.data["status"]["resourceRef"], after.data["status"]["resourceRef"]);
    assert_eq!(entry(before, "later"), entry(after, "later"));
}

/// The break-glass group restores a backup: with the commands of others in its queue, and in the name of who made it. What was
/// released comes back without a status, and is released again: it gets no environment.
#[tokio::test]
async fn a_backup_is_restored_by_who_breaks_the_glass() {
    let (sandbox, _controller) = alone("restored").await;
    apply(&sandbox, &hosts(1, json!({}))).await;
    let rights = ["get", "create", "patch"];
    let rita =
        Person::of_groups(&sandbox, "rita", &["drydock:break-glass"]).await.may(&sandbox, &rights, &["leases"]).await;
    let without = Person::named(&sandbox, "rita").await;
    let commands = json!([{"id": "done", "type": "Release", "issuedBy": "ursula"}]);
    let mut backup = object("lease", "old", json!({"resourceType": "host", "commands": commands}));
    backup.data["status"] = json!({"phase": "Destroyed"});
    let said = refusal(without.api("lease").create(&PostParams::default(), &backup).await);
    assert!(said.contains("done names the issuer ursula, but you are rita"), "{said}");
    backup.annotations_mut().insert("drydock.dev/owner".into(), "ursula".into());
    let restored = rita.api("lease").create(&PostParams::default(), &backup).await.unwrap();
    assert_eq!(restored.annotations()["drydock.dev/owner"], "ursula");
    let over = sandbox.wait_phase("lease/old", "Destroyed").await;
    let consumed = entry(&over, "done").unwrap();
    assert_eq!((&consumed["outcome"], &consumed["issuedBy"]), (&json!("Applied"), &json!("ursula")));
    let granted =
        versions(&sandbox, &uid(&over)).iter().any(|seen| !seen.object.data["status"]["resourceRef"].is_null());
    assert!(!granted, "it got an environment");
    // What exists takes no command in another's name, not even from her.
    let forged = vec![json!({"id": "forged", "type": "Release", "issuedBy": "ursula"})];
    let mut lease = rita
        .api("lease")
        .create(&PostParams::default(), &object("lease", "new", json!({"resourceType": "host"})))
        .await
        .unwrap();
    lease.data["spec"]["commands"] = forged.into();
    let patch = kube::api::Patch::Merge(json!({"spec": lease.data["spec"]}));
    let said = refusal(rita.api("lease").patch("new", &Default::default(), &patch).await);
    assert!(said.contains("forged names the issuer ursula, but you are rita"), "{said}");
}
