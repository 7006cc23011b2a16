//! Story 40: wrong objects are refused at admission with a message that names the field and, where the words are ours, the
//! remedy; nothing changes.

use drydock::api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::people::{Person, object};
use crate::support::sandbox::{Rights, refusal};
use crate::support::{Identity, Sandbox};

/// What is changed about something right to make it wrong, and what the API server says then.
type Wrong = (Value, &'static [&'static str]);

/// A namespace in which Alice may do whatever an ordinary user may.
async fn sandbox_of_alice(story: &str) -> Sandbox<'static> {
    let sandbox = Sandbox::new(story).await;
    sandbox.grant(Identity::Alice, Rights::Edit).await;
    sandbox
}

async fn create(sandbox: &Sandbox<'_>, kind: &str, name: &str, spec: Value) -> kube::Result<DynamicObject> {
    let api = sandbox.api(Identity::Alice, kind).await;
    api.create(&PostParams::default(), &object(kind, name, spec)).await
}

/// Each is wrong when it is created, and the right one that it is made from is right. Nothing of it comes to be.
async fn each_is_refused_at_birth(sandbox: &Sandbox<'_>, kind: &str, right: &Value, wrong: Vec<Wrong>) {
    let api = sandbox.api(Identity::Alice, kind).await;
    let dry = PostParams { dry_run: true, ..Default::default() };
    api.create(&dry, &object(kind, "right", right.clone())).await.unwrap();
    for (change, expected) in wrong {
        let mut spec = right.clone();
        merge(&mut spec, &change);
        let answer = create(sandbox, kind, "wrong", spec).await;
        says(&refusal(answer), expected, &change);
    }
    assert!(sandbox.list(kind).await.is_empty(), "a refused {kind} is not there");
}

/// Each edit of an object that is there is wrong. The object stays as it was.
async fn each_edit_is_refused(sandbox: &Sandbox<'_>, name: &str, wrong: Vec<Wrong>) {
    let before = sandbox.get(name).await;
    for (change, expected) in wrong {
        let answer = sandbox.try_patch(Identity::Alice, name, json!({"spec": change})).await;
        says(&refusal(answer), expected, &change);
    }
    assert_eq!(sandbox.get(name).await, before);
}

fn says(said: &str, expected: &[&str], of: &Value) {
    for words in expected {
        assert!(said.contains(words), "of {of}\nit said   {said}\nand not   {words}");
    }
}

/// A JSON merge patch (RFC 7386).
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, change) in changes {
        match change {
            Value::Null => drop(value.as_object_mut().unwrap().remove(key)),
            change => merge(&mut value[key], change),
        }
    }
}

fn hosts() -> Value {
    json!({"hosts": {"inventory": [{"name": "h1", "address": "192.0.2.7"}]}})
}

fn webhook() -> Value {
    json!({"webhook": {"clientConfig": {"url": "https://driver.example"}}})
}

const ONE_DRIVER: &str =
    "spec.driver: Invalid value: driver takes exactly one of hosts, objects, workingCopy and webhook; set one";
const OWN_GROUP: &str =
    "driver.objects: templates and leaseTemplates may not make objects of drydock.dev; leave them out";
const VALUES: &str = "values go with operator In or NotIn, and only with these; give at least one, or use Exists or DoesNotExist without any";
const DURATION: &str = "in body should match '^([0-9]{1,5}(h|m|s|ms)){1,4}$'";

#[tokio::test]
async fn a_blueprint() {
    let sandbox = sandbox_of_alice("wrong-blueprint").await;
    let right = json!({"resourceType": "host", "driver": hosts(), "limits": {"maxResources": 5}});
    let entry = |change: Value| {
        let mut entry = json!({"name": "h1"});
        merge(&mut entry, &change);
        json!({"driver": {"hosts": {"inventory": [entry]}}})
    };
    let keyed = |n: usize| entry(json!({"hostKeys": vec!["ssh-ed25519 AAAA"; n]}));
    let wrong: Vec<Wrong> = vec![
        // Which driver. kubectl and other strict clients are told that the field is unknown: see below.
        (json!({"driver": null}), &["spec.driver: Required value"]),
        (json!({"driver": {"hosts": null}}), &[ONE_DRIVER]),
        (json!({"driver": {"hosts": null, "magic": {}}}), &[ONE_DRIVER]),
        (json!({"driver": webhook()}), &[ONE_DRIVER]),
        // Limits.
        (
            json!({"limits": {"maxResources": -1}}),
            &["spec.limits.maxResources: Invalid value: -1", "greater than or equal to 0"],
        ),
        (
            json!({"limits": {"minReady": -1}}),
            &["spec.limits.minReady: Invalid value: -1", "greater than or equal to 0"],
        ),
        (
            json!({"limits": {"maxConcurrentBuilds": 0}}),
            &["spec.limits.maxConcurrentBuilds: Invalid value: 0", "greater than or equal to 1"],
        ),
        (
            json!({"limits": {"leasesPerResource": 0}}),
            &["spec.limits.leasesPerResource: Invalid value: 0", "greater than or equal to 1"],
        ),
        (
            json!({"limits": {"leasesPerResource": 65}}),
            &["spec.limits.leasesPerResource: Invalid value: 65", "less than or equal to 64"],
        ),
        (
            json!({"limits": {"maxLeasesPerNamespace": -1}}),
            &["spec.limits.maxLeasesPerNamespace: Invalid value: -1", "greater than or equal to 0"],
        ),
        (json!({"limits": {"maxResources": "many"}}), &["spec.limits.maxResources", "must be of type integer"]),
        (
            json!({"limits": {"minReady": 6}}),
            &[
                "spec.limits: ",
                "limits.minReady must not exceed limits.maxResources; lower it, or raise limits.maxResources",
            ],
        ),
        (
            json!({"limits": {"maxResources": null}, "driver": {"hosts": null, "webhook": webhook()["webhook"]}}),
            &["spec: ", "limits.maxResources is required, but for hosts, which are limited by their inventory; set it"],
        ),
        // What holds for its leases and its resources.
        (
            json!({"lease": {"recycle": "Destroy"}, "limits": {"leasesPerResource": 2}}),
            &["spec: ", "lease.recycle: Destroy needs limits.leasesPerResource: 1; set that, or Reuse"],
        ),
        (
            json!({"lease": {"recycle": "Burn"}}),
            &["spec.lease.recycle: Unsupported value: \"Burn\"", "\"Reuse\", \"Destroy\""],
        ),
        (
            json!({"lease": {"defaultTTL": "9h", "maxTTL": "8h"}}),
            &["spec.lease: ", "lease.defaultTTL must not exceed lease.maxTTL; lower it, or raise lease.maxTTL"],
        ),
        (json!({"lease": {"maxTTL": "1d"}}), &["spec.lease.maxTTL: Invalid value: \"1d\"", DURATION]),
        (json!({"lease": {"maxHold": "-1h"}}), &["spec.lease.maxHold: Invalid value: \"-1h\"", DURATION]),
        (json!({"lease": {"activationTimeout": 600}}), &["spec.lease.activationTimeout", "must be of type string"]),
        (json!({"lease": {"maxExtensions": -1}}), &["spec.lease.maxExtensions: Invalid value: -1"]),
        (json!({"lease": {"maxAttempts": 0}}), &["spec.lease.maxAttempts: Invalid value: 0"]),
        (json!({"lease": {"maxPriority": 1001}}), &["spec.lease.maxPriority: Invalid value: 1001"]),
        (json!({"resource": {"idleTTL": "1h 30m"}}), &["spec.resource.idleTTL: Invalid value: \"1h 30m\"", DURATION]),
        (json!({"resource": {"parameters": ["a", "a"]}}), &["spec.resource.parameters[1]: Duplicate value: \"a\""]),
        (json!({"expiry": {"unless": "x".repeat(1025)}}), &["spec.expiry.unless: Too long"]),
        (json!({"placement": "Random"}), &["spec.placement: Unsupported value: \"Random\""]),
        (json!({"resourceType": "Build Host"}), &["spec.resourceType: Invalid value: \"Build Host\""]),
        // For whom.
        (
            json!({"allowedNamespaces": {"from": "Nobody"}}),
            &["spec.allowedNamespaces.from: Unsupported value: \"Nobody\""],
        ),
        (
            json!({"allowedNamespaces": {"from": "Selector"}}),
            &[
                "spec.allowedNamespaces: ",
                "selector goes with from: Selector, and only with it; set both, or leave the selector out",
            ],
        ),
        (
            json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}),
            &["spec.allowedNamespaces.selector.matchExpressions[0]: ", VALUES],
        ),
        (
            json!({"allowedNamespaces": {"selector": {"matchLabels": {"a": "b"}}}}),
            &[
                "spec.allowedNamespaces: ",
                "selector goes with from: Selector, and only with it; set both, or leave the selector out",
            ],
        ),
        // Hosts.
        (
            json!({"driver": {"hosts": {"inventory": [{"name": "h1"}, {"name": "h1"}]}}}),
            &["spec.driver.hosts.inventory[1]: Duplicate value: {\"name\":\"h1\"}"],
        ),
        (entry(json!({"name": "h.1"})), &["spec.driver.hosts.inventory[0].name: Invalid value: \"h.1\""]),
        (entry(json!({"name": null})), &["spec.driver.hosts.inventory[0].name: Required value"]),
        (
            entry(json!({"port": 65536})),
            &["spec.driver.hosts.inventory[0].port: Invalid value: 65536", "less than or equal to 65535"],
        ),
        (
            entry(json!({"hostKeys": ["[192.0.2.7]:22 ssh-ed25519 AAAA"]})),
            &["spec.driver.hosts.inventory[0].hostKeys[0]: Invalid value"],
        ),
        (keyed(9), &["spec.driver.hosts.inventory[0].hostKeys: Too many: 9: must have at most 8 items"]),
        (entry(json!({"secretRef": {}})), &["spec.driver.hosts.inventory[0].secretRef.name: Required value"]),
    ];
    each_is_refused_at_birth(&sandbox, "blueprint", &right, wrong).await;

    let remedy =
        "metadata.name: a Blueprint's name is a DNS label of at most 40 characters without `--`; choose another name";
    for name in ["a--b", "a.b", &"a".repeat(41)] {
        let said = refusal(create(&sandbox, "blueprint", name, right.clone()).await);
        assert!(said.contains(remedy), "{name}: {said}");
    }
    create(&sandbox, "blueprint", &"a".repeat(40), right).await.unwrap();
}

#[tokio::test]
async fn a_blueprint_of_objects() {
    let sandbox = sandbox_of_alice("wrong-templates").await;
    // Whoever lets a Blueprint act as a service account must be allowed to do so themselves.
    let rights = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["builder"], "verbs": ["impersonate"]}]);
    let alice = Person::named(&sandbox, Identity::Alice.user()).await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "${lease.metadata.name}"}});
    let objects = |account: &str, template: &Value| {
        json!({
            "resourceType": "env", "limits": {"maxResources": 1},
            "driver": {"objects": {"serviceAccountName": account, "templates": [template]}},
        })
    };
    let said = refusal(create(&sandbox, "blueprint", "env", objects("builder", &map)).await);
    let expected = format!(
        "spec.driver.objects.serviceAccountName: you may not act as builder; ask for the verb impersonate on serviceaccounts/builder in {}",
        sandbox.namespace()
    );
    assert!(said.contains(&expected), "{said}");
    alice.may_with(&sandbox, rights).await;
    let right = objects("builder", &map);
    let dry = PostParams { dry_run: true, ..Default::default() };
    let blueprints = sandbox.api(Identity::Alice, "blueprint").await;
    while blueprints.create(&dry, &object("blueprint", "env", right.clone())).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // until the authorizer knows
    }

    let template = |change: Value| {
        let mut changed = map.clone();
        merge(&mut changed, &change);
        json!({"driver": {"objects": {"templates": [changed]}}})
    };
    let own = json!({"apiVersion": "drydock.dev/v1alpha1", "kind": "Lease", "metadata": {"name": "mine"}});
    let wrong: Vec<Wrong> = vec![
        (template(own.clone()), &["spec: ", OWN_GROUP]),
        (json!({"driver": {"objects": {"leaseTemplates": [own]}}}), &["spec: ", OWN_GROUP]),
        (
            template(json!({"apiVersion": "${'drydock.dev'}/v1alpha1"})),
            &["spec.driver.objects.templates[0].apiVersion: Invalid value"],
        ),
        (template(json!({"kind": "${'Lease'}"})), &["spec.driver.objects.templates[0].kind: Invalid value"]),
        (
            template(json!({"metadata": {"name": null}})),
            &["spec.driver.objects.templates[0].metadata.name: Required value"],
        ),
        (
            json!({"driver": {"objects": {"serviceAccountName": null}}}),
            &["spec.driver.objects.serviceAccountName: Required value"],
        ),
    ];
    each_is_refused_at_birth(&sandbox, "blueprint", &right, wrong).await;
}

#[tokio::test]
async fn a_lease() {
    let sandbox = sandbox_of_alice("wrong-lease").await;
    let right = json!({
        "resourceType": "host", "repositories": [{"directory": "app", "uri": "https://git.example/app"}],
        "selector": {"matchExpressions": [{"key": "arch", "operator": "Exists"}]},
    });
    let named = |n: usize| (0..n).map(|i| json!({"name": format!("b{i}")})).collect::<Vec<_>>();
    let parameters = |n: usize| (0..n).map(|i| (format!("p{i}"), json!("x"))).collect::<serde_json::Map<_, _>>();
    let requirement = |change: Value| {
        let mut requirement = json!({"key": "arch"});
        merge(&mut requirement, &change);
        json!({"selector": {"matchExpressions": [requirement]}})
    };
    let repository = |change: Value| {
        let mut repository = right["repositories"][0].clone();
        merge(&mut repository, &change);
        json!({"repositories": [repository]})
    };
    let wrong: Vec<Wrong> = vec![
        (json!({"resourceType": null}), &["spec.resourceType: Required value"]),
        (json!({"resourceType": "Host"}), &["spec.resourceType: Invalid value: \"Host\""]),
        // Times and durations.
        (
            json!({"expiresAt": "tomorrow"}),
            &["spec.expiresAt: Invalid value: \"tomorrow\"", "must be of type date-time"],
        ),
        (json!({"expiresAt": "2026-11-23"}), &["spec.expiresAt: Invalid value", "must be of type date-time"]),
        (json!({"expiresAt": "2026-02-30T10:00:00Z"}), &["spec.expiresAt: Invalid value", "must be of type date-time"]),
        (json!({"expiresAt": "2026-11-23T10:00:00x5Z"}), &["spec.expiresAt: Invalid value"]),
        (json!({"expiresAt": "2026-11-23T10:00:00.1234567891Z"}), &["spec.expiresAt: Invalid value"]),
        (json!({"expiresAt": "2026-11-23T10:00:00+99:99"}), &["spec.expiresAt: Invalid value"]),
        (json!({"expiresAt": "0000-01-01T00:00:00+14:00"}), &["spec.expiresAt: Invalid value"]),
        (json!({"expiresAt": 1_763_892_000}), &["spec.expiresAt: Invalid value"]),
        (json!({"ttl": "1.5h"}), &["spec.ttl: Invalid value: \"1.5h\"", DURATION]),
        (json!({"ttl": ""}), &["spec.ttl: Invalid value: \"\"", DURATION]),
        (json!({"ttl": 3600}), &["spec.ttl: Invalid value", "must be of type string"]),
        (json!({"queueTimeout": "-5s"}), &["spec.queueTimeout: Invalid value: \"-5s\"", DURATION]),
        (json!({"heartbeatTimeout": "often"}), &["spec.heartbeatTimeout: Invalid value: \"often\"", DURATION]),
        (
            json!({"ttlAfterDestroyed": "169h"}),
            &[
                "spec.ttlAfterDestroyed: Invalid value: \"169h\"",
                "ttlAfterDestroyed is at most 168h; set a shorter time",
            ],
        ),
        // Bounds.
        (json!({"priority": 1001}), &["spec.priority: Invalid value: 1001", "less than or equal to 1000"]),
        (json!({"priority": -1001}), &["spec.priority: Invalid value: -1001", "greater than or equal to -1000"]),
        (json!({"priority": 1.5}), &["spec.priority: Invalid value", "must be of type int"]),
        (json!({"blueprints": named(17)}), &["spec.blueprints: Too many: 17: must have at most 16 items"]),
        (json!({"parameters": parameters(33)}), &["spec.parameters: Too many: 33: must have at most 32 items"]),
        (json!({"parameters": {"p": "x".repeat(4097)}}), &["spec.parameters.p: Too long: may not be more than 4096"]),
        (
            json!({"selector": {"matchExpressions": [{"key": "arch", "operator": "Like"}]}}),
            &["spec.selector.matchExpressions[0].operator: Unsupported value: \"Like\""],
        ),
        (requirement(json!({"operator": "In"})), &["spec.selector.matchExpressions[0]: ", VALUES]),
        (requirement(json!({"operator": "NotIn", "values": []})), &["spec.selector.matchExpressions[0]: ", VALUES]),
        (requirement(json!({"operator": "Exists", "values": ["a"]})), &["spec.selector.matchExpressions[0]: ", VALUES]),
        (
            json!({"repositories": [{"directory": "a", "uri": "u"}, {"directory": "a", "uri": "v"}]}),
            &["spec.repositories[1]: Duplicate value: {\"directory\":\"a\"}"],
        ),
        (
            repository(json!({"branch": "main", "tag": "v1"})),
            &["spec.repositories[0]: ", "at most one of branch, commit, tag and ref; leave the others out"],
        ),
        (repository(json!({"directory": "../app"})), &["spec.repositories[0].directory: Invalid value: \"../app\""]),
        (repository(json!({"uri": null})), &["spec.repositories[0].uri: Required value"]),
    ];
    each_is_refused_at_birth(&sandbox, "lease", &right, wrong).await;
}

const ONE_END: &str = "Expires takes exactly one of at, after and never: true; other types take none of them";

/// What is wrong about a command, of a lease or of a resource.
fn wrong_commands() -> Vec<Wrong> {
    vec![
        (json!({"type": "Expires"}), &[ONE_END]),
        (json!({"type": "Expires", "after": "1h", "never": true}), &[ONE_END]),
        (json!({"type": "Expires", "after": "1h", "at": "2030-01-01T00:00:00Z"}), &[ONE_END]),
        (json!({"type": "Release", "after": "1h"}), &[ONE_END]),
        (json!({"type": "Expires", "never": false}), &["never is true or absent; to set an end use at or after"]),
        (json!({"type": "Expires", "after": "1h", "hold": "1h"}), &["hold goes with Release only; leave it out"]),
        (json!({"type": "Expires", "after": "soon"}), &[".after: Invalid value: \"soon\"", DURATION]),
        (json!({"type": "Expires", "at": "soon"}), &[".at: Invalid value: \"soon\"", "must be of type date-time"]),
        (json!({"type": "Expires", "at": "2026-11-23T10:00:00+99:99"}), &[".at: Invalid value"]),
        (
            json!({"type": "Explode"}),
            &[".type: Unsupported value: \"Explode\"", "\"Release\", \"Expires\", \"Reclaim\", \"Forget\""],
        ),
        (json!({"type": null}), &[".type: Required value"]),
        (json!({"id": null}), &[".id: Required value"]),
        (json!({"id": "Not_an_id"}), &[".id: Invalid value: \"Not_an_id\""]),
        (json!({"id": "x".repeat(64)}), &[".id: Too long"]),
        (json!({"id": 7}), &[".id: Invalid value", "must be of type string"]),
        (json!({"reason": "x".repeat(257)}), &[".reason: Too long"]),
        (
            json!({"issuedBy": "bob"}),
            &["spec.commands: c1 names the issuer bob, but you are alice; leave issuedBy out"],
        ),
        (json!({"issuedBy": ""}), &["spec.commands: c1 names the issuer ", "but you are alice; leave issuedBy out"]),
        (
            json!({"type": "Forget"}),
            &["spec.commands: c1 is a Forget, and you may not write off a teardown; ask for the verb forget on "],
        ),
    ]
}

#[tokio::test]
async fn a_command() {
    let sandbox = sandbox_of_alice("wrong-command").await;
    let right = json!({"id": "c1", "type": "Release"});
    let of_lease = || {
        let mut wrong = wrong_commands();
        wrong.push((
            json!({"type": "Reclaim"}),
            &["spec.commands: ", "Reclaim is for Resources; to give a lease back append Release"],
        ));
        wrong.push((json!({"hold": "1 day"}), &["spec.commands[0].hold: Invalid value: \"1 day\"", DURATION]));
        wrong
    };
    let of_resource = {
        let mut wrong = wrong_commands();
        wrong
            .push((json!({"hold": "1h"}), &["spec.commands: ", "hold goes with the Release of a Lease; leave it out"]));
        wrong
    };

    // Born with an object …
    let lists = |wrong: Vec<Wrong>| {
        wrong.into_iter().map(|(change, expected)| {
            let mut command = right.clone();
            merge(&mut command, &change);
            (json!({"commands": [command]}), expected)
        })
    };
    let mut wrong: Vec<Wrong> = lists(of_lease()).collect();
    let not_commands: [Wrong; 4] = [
        (json!({"commands": "Release"}), &["spec.commands: Invalid value", "must be of type array"]),
        (json!({"commands": ["Release"]}), &["spec.commands[0]: Invalid value", "must be of type object"]),
        (json!({"commands": [null]}), &["spec.commands[0]: Invalid value", "must be of type object"]),
        (
            json!({"commands": [{"id": "c1", "type": "Release"}, {"id": "c1", "type": "Release"}]}),
            &["spec.commands[1]: Duplicate value: {\"id\":\"c1\"}"],
        ),
    ];
    wrong.extend(not_commands);
    each_is_refused_at_birth(&sandbox, "lease", &json!({"resourceType": "host", "commands": [right]}), wrong).await;

    // … and appended.
    create(&sandbox, "lease", "a", json!({"resourceType": "host"})).await.unwrap();
    let slot =
        object("resource", "ci--h1", json!({"resourceType": "host", "blueprintRef": {"name": "ci", "uid": "4711"}}));
    sandbox.api(Identity::Controller, "resource").await.create(&PostParams::default(), &slot).await.unwrap();
    for (name, wrong) in [("lease/a", of_lease()), ("resource/ci--h1", of_resource)] {
        let before = sandbox.get(name).await;
        for (change, expected) in wrong {
            let mut command = right.clone();
            merge(&mut command, &change);
            says(&refusal(sandbox.try_append(Identity::Alice, name, vec![command]).await), expected, &change);
        }
        assert_eq!(sandbox.get(name).await, before);
    }
}

#[tokio::test]
async fn an_edit_of_the_queue() {
    let sandbox = sandbox_of_alice("wrong-queue").await;
    sandbox.grant(Identity::Bob, Rights::Edit).await;
    let command = |i: usize| json!({"id": format!("c{i}"), "type": "Release"});
    let sixty_four: Vec<Value> = (0..64).map(command).collect();
    let full = "the queue is full (64): remove commands that status.commands shows consumed, or wait until the controller has consumed some, and append again";
    let said = refusal(
        create(
            &sandbox,
            "lease",
            "a",
            json!({"resourceType": "host", "commands": (0..65).map(command).collect::<Vec<_>>()}),
        )
        .await,
    );
    assert!(said.contains("spec.commands: ") && said.contains(full), "{said}");
    let born = create(&sandbox, "lease", "a", json!({"resourceType": "host", "commands": sixty_four})).await.unwrap();
    assert_eq!(born.data["spec"]["commands"][63]["issuedBy"], "alice", "who asked is stamped");

    let json_patch = |operations: Value| Patch::<Value>::Json(serde_json::from_value(operations).unwrap());
    let immutable = "a command is immutable once written; append another with a new id";
    let append_only = "a command may be removed only after status.commands shows it consumed; keep those that wait, or append by JSON patch to /spec/commands/-";
    let leases = sandbox.api(Identity::Bob, "lease").await;
    for (what, patch, expected) in [
        (
            "a 65th",
            json_patch(json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": "last", "type": "Release"}}])),
            full,
        ),
        (
            "a namesake",
            json_patch(json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": "c0", "type": "Release"}}])),
            "spec.commands[64]: Duplicate value: {\"id\":\"c0\"}",
        ),
        ("an edit", json_patch(json!([{"op": "add", "path": "/spec/commands/0/hold", "value": "1h"}])), immutable),
        (
            "another issuer",
            json_patch(json!([{"op": "replace", "path": "/spec/commands/0/issuedBy", "value": "bob"}])),
            immutable,
        ),
        ("a removal", json_patch(json!([{"op": "remove", "path": "/spec/commands/7"}])), append_only),
        ("no queue", json_patch(json!([{"op": "remove", "path": "/spec/commands"}])), append_only),
        ("another queue", Patch::Merge(json!({"spec": {"commands": []}})), append_only),
    ] {
        let said = refusal(leases.patch("a", &PatchParams::default(), &patch).await);
        assert!(said.contains(expected) && said.contains("spec.commands"), "{what}: {said}");
        assert_eq!(sandbox.get("lease/a").await, born, "{what}");
    }

    // What is consumed may go, and only that; an entry of the ledger is final, and stays as long as its command.
    let entry = |i: usize, outcome: &str| json!({"id": format!("c{i}"), "type": "Release", "outcome": outcome, "observedAt": "2026-11-23T10:00:00.000000Z"});
    let write = |phase: &'static str, ledger: Vec<Value>| {
        let sandbox = &sandbox;
        async move {
            let mut lease = sandbox.get("lease/a").await;
            lease.data["status"] = json!({"phase": phase, "commands": ledger});
            let leases = sandbox.api(Identity::Controller, "lease").await;
            leases.replace_status("a", &PostParams::default(), &lease).await
        }
    };
    write("Released", vec![entry(0, "Applied")]).await.unwrap();
    let said = refusal(write("Released", vec![entry(0, "Refused")]).await);
    assert!(said.contains("status.commands[0]: ") && said.contains("a ledger entry is final"), "{said}");
    let said = refusal(write("Released", vec![]).await);
    assert!(said.contains("a ledger entry stays as long as its command is in the spec"), "{said}");
    let first = json!([{"op": "test", "path": "/spec/commands/0/id", "value": "c0"}, {"op": "remove", "path": "/spec/commands/0"}]);
    leases.patch("a", &PatchParams::default(), &json_patch(first)).await.unwrap();

    // Once it is destroyed it takes no more.
    write("Destroyed", vec![entry(0, "Applied")]).await.unwrap();
    let answer = sandbox.try_append(Identity::Alice, "lease/a", vec![json!({"id": "later", "type": "Release"})]).await;
    let said = refusal(answer);
    assert!(said.contains("it is destroyed and takes no more commands; create a new one"), "{said}");
}

#[tokio::test]
async fn a_stamp_stays_whoever_applies_the_file_again() {
    let sandbox = sandbox_of_alice("right-stamps").await;
    sandbox.grant(Identity::Bob, Rights::Edit).await;
    let file = "{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {name: a}, spec: {resourceType: host, commands: [{id: c1, type: Release}]}}";
    let issuers = |lease: &DynamicObject| {
        let commands = lease.data["spec"]["commands"].as_array().unwrap().iter();
        commands
            .map(|c| format!("{} by {}", c["id"].as_str().unwrap(), c["issuedBy"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    for who in [Identity::Alice, Identity::Alice, Identity::Bob] {
        let applied = sandbox.apply(who, file).await.remove(0);
        assert_eq!(issuers(&applied), ["c1 by alice"]);
    }
    let appended = sandbox.append(Identity::Bob, "lease/a", json!({"id": "c2", "type": "Release"})).await;
    assert_eq!(issuers(&appended), ["c1 by alice", "c2 by bob"]);
    // A merge patch and a replace that leave the stamps out.
    let three =
        json!([{"id": "c1", "type": "Release"}, {"id": "c2", "type": "Release"}, {"id": "c3", "type": "Release"}]);
    let patched = sandbox.patch(Identity::Alice, "lease/a", json!({"spec": {"commands": three}})).await;
    assert_eq!(issuers(&patched), ["c1 by alice", "c2 by bob", "c3 by alice"]);
    let mut replaced = patched.clone();
    replaced.data["spec"]["commands"] = three;
    let replaced =
        sandbox.api(Identity::Bob, "lease").await.replace("a", &PostParams::default(), &replaced).await.unwrap();
    assert_eq!(issuers(&replaced), issuers(&patched));
}

#[tokio::test]
async fn a_forget_by_whom_it_is_not_given() {
    let sandbox = sandbox_of_alice("wrong-forget").await;
    for name in ["a", "b"] {
        create(&sandbox, "lease", name, json!({"resourceType": "host"})).await.unwrap();
    }
    let alice = Person::named(&sandbox, Identity::Alice.user()).await;
    alice.may_with(&sandbox, json!([{"apiGroups": ["drydock.dev"], "resources": ["leases"], "resourceNames": ["a"], "verbs": ["forget"]}])).await;
    let forget =
        |name: &'static str| sandbox.try_append(Identity::Alice, name, vec![json!({"id": "f1", "type": "Forget"})]);
    let mut answer = forget("lease/a").await;
    for _ in 0..100 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await; // until the authorizer knows
        answer = forget("lease/a").await;
    }
    assert_eq!(answer.unwrap().data["spec"]["commands"][0]["issuedBy"], "alice");
    // Others may go on appending to that queue, and the right ends with that lease.
    sandbox.append(Identity::Alice, "lease/a", json!({"id": "r1", "type": "Release"})).await;
    let said = refusal(forget("lease/b").await);
    let remedy = format!("ask for the verb forget on leases.drydock.dev/b in {}", sandbox.namespace());
    assert!(said.contains(&remedy), "{said}");
}

#[tokio::test]
async fn another_mind() {
    let sandbox = sandbox_of_alice("wrong-change").await;
    let lease = json!({
        "resourceType": "host", "blueprints": [{"name": "ci"}], "selector": {"matchLabels": {"arch": "arm64"}},
        "parameters": {"flavour": "small"}, "repositories": [{"directory": "app", "uri": "https://git.example/app"}],
        "subjects": [{"kind": "User", "name": "alice"}], "queueTimeout": "1m", "ttl": "1h", "heartbeatTimeout": "1m",
    });
    let slot = json!({
        "resourceType": "host", "blueprintRef": {"name": "ci", "uid": "4711"}, "attributes": {"arch": "arm64"},
        "parameters": {"flavour": "small"}, "templateHash": "0815",
        "requestedFor": {"namespace": "default", "name": "a", "uid": "42"},
    });
    let bare = json!({"resourceType": "host"});
    let bare_slot = json!({"resourceType": "host", "blueprintRef": {"name": "ci", "uid": "4711"}});
    create(&sandbox, "lease", "full", lease.clone()).await.unwrap();
    create(&sandbox, "lease", "bare", bare).await.unwrap();
    let resources = sandbox.api(Identity::Controller, "resource").await;
    for (name, spec) in [("ci--full", slot.clone()), ("ci--bare", bare_slot)] {
        resources.create(&PostParams::default(), &object("resource", name, spec)).await.unwrap();
    }

    let another_lease = "is immutable; create another lease";
    let only_lease = "cannot be added or left out later: only priority, expiresAt, ttlAfterDestroyed, heartbeat and commands may change; create another lease";
    let only_slot = "cannot be added or left out later: only expiresAt and commands of a Resource may change; change its Blueprint instead";
    let of_lease = [
        ("resourceType", json!("vm"), another_lease),
        ("blueprints", json!([{"name": "other"}]), another_lease),
        ("selector", json!({"matchLabels": {"arch": "amd64"}}), another_lease),
        ("parameters", json!({"flavour": "large"}), another_lease),
        ("repositories", json!([{"directory": "app", "uri": "https://git.example/other"}]), another_lease),
        ("subjects", json!([{"kind": "User", "name": "bob"}]), another_lease),
        ("queueTimeout", json!("2m"), another_lease),
        ("ttl", json!("2h"), "is immutable; append the command Expires, or move expiresAt"),
        ("heartbeatTimeout", json!("2m"), another_lease),
    ];
    let of_slot = [
        ("resourceType", json!("vm"), "is immutable; release the Resource instead"),
        ("blueprintRef", json!({"uid": "4712"}), "is immutable; release the Resource instead"),
        ("attributes", json!({"arch": "amd64"}), "is immutable; change the Blueprint instead"),
        ("parameters", json!({"flavour": "large"}), "is immutable; create a Lease with other parameters instead"),
        ("templateHash", json!("4711"), "is immutable; change the Blueprint instead"),
        ("requestedFor", json!({"uid": "43"}), "is immutable; create another Lease instead"),
    ];
    let required = ["resourceType", "blueprintRef"];
    for (object, spec, only, fields) in
        [("lease/full", &lease, only_lease, &of_lease[..]), ("resource/ci--full", &slot, only_slot, &of_slot[..])]
    {
        let bare = object.replace("full", "bare");
        let before = (sandbox.get(object).await, sandbox.get(&bare).await);
        for (field, other, remedy) in fields {
            let change = |value: &Value| json!({"spec": {*field: value}});
            let said = refusal(sandbox.try_patch(Identity::Alice, object, change(other)).await);
            let expected = format!("{field} {remedy}");
            assert!(said.contains(&format!("spec.{field}: ")) && said.contains(&expected), "{object}: {said}");
            if required.contains(field) {
                continue;
            }
            let expected = format!("{field} {only}");
            let said = refusal(sandbox.try_patch(Identity::Alice, object, change(&Value::Null)).await);
            assert!(said.contains(&expected), "{object}, {field} vanishes: {said}");
            let said = refusal(sandbox.try_patch(Identity::Alice, &bare, change(&spec[*field])).await);
            assert!(said.contains(&expected), "{bare}, {field} appears: {said}");
        }
        assert_eq!((sandbox.get(object).await, sandbox.get(&bare).await), before);
    }

    // The rest may change, appear and vanish.
    for change in [
        json!({"priority": 7, "expiresAt": "2030-01-01T00:00:00Z", "heartbeat": "1", "ttlAfterDestroyed": "2h"}),
        json!({"priority": 8, "expiresAt": "2029-01-01T00:00:00+02:00", "heartbeat": "2", "ttlAfterDestroyed": "1h"}),
        json!({"priority": null, "expiresAt": null, "heartbeat": null, "ttlAfterDestroyed": null}),
    ] {
        sandbox.patch(Identity::Alice, "lease/full", json!({"spec": change})).await;
    }
    for end in [json!("2030-01-01T00:00:00Z"), Value::Null] {
        sandbox.patch(Identity::Alice, "resource/ci--full", json!({"spec": {"expiresAt": end}})).await;
    }
}

#[tokio::test]
async fn another_blueprint_under_the_same_name() {
    let sandbox = sandbox_of_alice("wrong-blueprint-edit").await;
    let right = json!({"resourceType": "host", "driver": hosts(), "limits": {"maxResources": 5}});
    create(&sandbox, "blueprint", "ci", right).await.unwrap();
    let mut to_webhook = webhook();
    to_webhook["hosts"] = Value::Null;
    let wrong: Vec<Wrong> = vec![
        (
            json!({"resourceType": "vm"}),
            &["spec.resourceType: ", "resourceType is immutable; create another Blueprint"],
        ),
        (
            json!({"driver": to_webhook}),
            &[
                "spec.driver: ",
                "driver: which of hosts, objects, workingCopy and webhook a Blueprint has is immutable; create another Blueprint",
            ],
        ),
        (json!({"limits": {"maxResources": -5}}), &["spec.limits.maxResources: Invalid value: -5"]),
        (json!({"limits": {"minReady": 6}}), &["limits.minReady must not exceed limits.maxResources"]),
    ];
    each_edit_is_refused(&sandbox, "blueprint/ci", wrong).await;
    let blueprints = sandbox.api(Identity::Admin, "blueprint").await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 6}}));
    let said = refusal(blueprints.patch_scale("ci", &PatchParams::default(), &scale).await);
    assert!(
        said.contains("limits.minReady must not exceed limits.maxResources; lower it, or raise limits.maxResources"),
        "{said}"
    );
}

#[tokio::test]
async fn a_field_that_there_is_not() {
    let sandbox = sandbox_of_alice("wrong-field").await;
    let file = sandbox.plane().folder().join("wrong-field.yaml");
    let unknown_driver = json!({"resourceType": "host", "driver": {"magic": {}}});
    for (kind, spec, expected) in [
        ("Blueprint", unknown_driver, "unknown field \"spec.driver.magic\""),
        ("Lease", json!({"resourceType": "host", "tll": "1h"}), "unknown field \"spec.tll\""),
    ] {
        std::fs::write(&file, serde_json::to_string(&object(kind, "a", spec)).unwrap()).unwrap();
        let arguments = ["apply", "--namespace", sandbox.namespace(), "-f", file.to_str().unwrap()];
        let answer = sandbox.plane().run_kubectl(Identity::Alice, &arguments).await;
        let said = answer.expect_err("kubectl refuses what is unknown").to_string();
        assert!(said.contains(expected), "{said}");
    }
    assert!(sandbox.list("blueprint").await.is_empty() && sandbox.list("lease").await.is_empty());
}

/// Whatever the API server accepts, the controller can read: an object that it cannot read would be served by nobody, and
/// held by its finalizer for ever.
#[tokio::test]
async fn what_is_accepted_is_understood() {
    fn understood<T: DeserializeOwned>(object: &DynamicObject) {
        let read = serde_json::from_value::<T>(serde_json::to_value(object).unwrap());
        read.unwrap_or_else(|error| panic!("{error}: {}", object.data));
    }
    let sandbox = sandbox_of_alice("right-but-odd").await;
    let leases = [
        json!({"expiresAt": "9999-12-31T23:59:59Z"}),
        json!({"expiresAt": "9999-12-31T23:59:59.999999999-23:59"}),
        json!({"expiresAt": "1000-01-01T00:00:00+23:59"}),
        json!({"expiresAt": "2026-11-23T10:00:00-00:00"}),
        json!({"expiresAt": null, "ttl": null, "selector": null, "parameters": null, "commands": null, "priority": null}),
        json!({"ttl": "99999h99999h99999h99999h", "queueTimeout": "0ms", "priority": 1e2}),
        json!({"parameters": {"a": null}, "selector": {"matchLabels": null, "matchExpressions": [{"key": "a", "operator": "Exists", "values": null}]}}),
        json!({"blueprints": [{"name": "ci", "namespace": null}], "repositories": [], "subjects": []}),
        json!({"commands": [{"id": "a", "type": "Expires", "at": "9999-12-31T23:59:59Z", "issuedBy": null}]}),
    ];
    for (i, change) in leases.iter().enumerate() {
        let mut spec = change.clone();
        spec["resourceType"] = json!("host");
        let lease = create(&sandbox, "lease", &format!("odd-{i}"), spec).await.unwrap();
        understood::<api::Lease>(&lease);
    }
    let blueprints = [
        json!({"limits": null, "lease": null, "resource": null, "allowedNamespaces": null, "expiry": null, "placement": null, "suspend": null}),
        json!({"limits": {"maxResources": null}, "lease": {"recycle": null}, "allowedNamespaces": {"from": null}}),
        json!({"driver": {"hosts": {"inventory": []}}}),
        json!({"driver": {"hosts": {"inventory": [{"name": "a", "port": 22.0, "attributes": {"a": null}, "hostKeys": null, "disabled": null, "secretRef": null}]}}}),
    ];
    for (i, change) in blueprints.iter().enumerate() {
        let mut spec = json!({"resourceType": "host", "driver": hosts()});
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone(); // as it is, null and all
        }
        let blueprint = create(&sandbox, "blueprint", &format!("odd-{i}"), spec).await.unwrap();
        understood::<api::Blueprint>(&blueprint);
    }
}
