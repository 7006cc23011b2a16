//! Story 44: in each phase of a lease and of a resource, a status write by an ordinary user, by a viewer and by another
//! controller is refused; so is whatever else would let somebody write what is the controller's.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::people::{Person, object};
use crate::support::sandbox::refusal;
use crate::support::{Identity, Sandbox, phase};
use crate::told;

const FINALIZER: &str = "drydock.dev/teardown";
const EVERYTHING: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// A namespace with a blueprint, a resource and a lease, as they are before the controller has seen them, and those who
/// would write where they should not.
struct Scene {
    sandbox: Sandbox<'static>,
    /// An ordinary user to whom RBAC gives all of our group, status too.
    user: Person,
    /// Another controller, with the same rights.
    account: Person,
    /// Somebody who may look.
    viewer: Person,
}

const OBJECTS: [&str; 3] = ["blueprint/ci", "resource/ci--h1", "lease/a"];

impl Scene {
    async fn set(story: &str) -> Scene {
        let sandbox = Sandbox::new(story).await;
        let user = Person::named(&sandbox, "ursula").await.may(&sandbox, &EVERYTHING, &["*"]).await;
        let account = Person::account(&sandbox, "other").await.may(&sandbox, &EVERYTHING, &["*"]).await;
        let viewer = Person::named(&sandbox, "vera").await;
        let viewer = viewer.with_cluster_role(&sandbox, "drydock-viewer", "list", "leases").await;

        let hosts = json!({"resourceType": "host", "driver": {"hosts": {"inventory": [{"name": "h1"}]}}});
        create(&user, "blueprint", "ci", hosts).await.unwrap();
        create(&user, "lease", "a", json!({"resourceType": "host"})).await.unwrap();
        let slot = object("resource", "ci--h1", slot());
        let resources = sandbox.api(Identity::Controller, "resource").await;
        resources.create(&PostParams::default(), &slot).await.unwrap();
        Scene { sandbox, user, account, viewer }
    }

    /// The controller's own write.
    async fn controller_writes(&self, name: &str, status: Value) -> kube::Result<DynamicObject> {
        let mut object = self.sandbox.get(name).await;
        object.data["status"] = status;
        let (kind, name) = name.split_once('/').unwrap();
        let api = self.sandbox.api(Identity::Controller, kind).await;
        api.replace_status(name, &PostParams::default(), &object).await
    }
}

fn slot() -> Value {
    json!({"resourceType": "host", "blueprintRef": {"name": "ci", "uid": "4711"}})
}

async fn create(who: &Person, kind: &str, name: &str, spec: Value) -> kube::Result<DynamicObject> {
    who.api(kind).create(&PostParams::default(), &object(kind, name, spec)).await
}

/// A change of the status written in each way there is, with what came of it.
async fn writes(
    who: &Person,
    current: &DynamicObject,
    status: Value,
) -> Vec<(&'static str, kube::Result<DynamicObject>)> {
    let types = current.types.clone().unwrap();
    let (api, name) = (who.api(&types.kind), current.name_any());
    let mut changed = current.clone();
    for (field, value) in status.as_object().unwrap() {
        changed.data["status"][field] = value.clone();
    }
    let merge = Patch::Merge(json!({"status": status}));
    let add = json!([{"op": "add", "path": "/status", "value": changed.data["status"]}]);
    let json: Patch<()> = Patch::Json(serde_json::from_value(add).unwrap());
    let apply = Patch::Apply(json!({"apiVersion": types.api_version, "kind": types.kind, "status": status}));
    let as_status = PatchParams::apply("status").force();
    vec![
        ("replace", api.replace_status(&name, &PostParams::default(), &changed).await),
        ("merge patch", api.patch_status(&name, &PatchParams::default(), &merge).await),
        ("JSON patch", api.patch_status(&name, &PatchParams::default(), &json).await),
        ("apply", api.patch_status(&name, &as_status, &apply).await),
    ]
}

#[tokio::test]
async fn in_each_phase() {
    let scene = Scene::set("status-phases").await;
    let of_lease = ["Pending", "Acquired", "Active", "Released", "Broken", "Destroyed"];
    let of_resource = ["Pending", "Active", "Released", "Broken", "Destroyed"];
    let each = of_lease.map(|phase| ("lease/a", phase)).into_iter();
    for (name, now) in each.chain(of_resource.map(|phase| ("resource/ci--h1", phase))) {
        scene.controller_writes(name, json!({"phase": now})).await.unwrap();
        let before = scene.sandbox.get(name).await;
        let other = if now == "Active" { "Released" } else { "Active" };
        for who in [&scene.user, &scene.account] {
            for (how, answer) in writes(who, &before, json!({"phase": other})).await {
                let said = refusal(answer);
                let expected =
                    "status: only the Drydock controller writes it; append a command to spec.commands instead";
                assert!(said.contains(expected), "{name}, {now}, {} by {how}: {said}", who.user);
            }
        }
        for (how, answer) in writes(&scene.viewer, &before, json!({"phase": other})).await {
            let said = refusal(answer);
            let expected =
                format!("s/status\" in API group \"drydock.dev\" in the namespace \"{}\"", scene.sandbox.namespace());
            assert!(
                said.contains("User \"vera\" cannot") && said.contains(&expected),
                "{name}, {now}, by {how}: {said}"
            );
        }
        assert_eq!(scene.sandbox.get(name).await, before, "nothing of it changed");
    }
    // The object's own next step still happens: each phase above was one.
    assert_eq!(phase(&scene.sandbox.get("lease/a").await), "Destroyed");
}

/// With the controller at work: what is refused in between does not keep it from its next step.
#[tokio::test]
async fn and_its_next_step_still_happens() {
    let sandbox = Sandbox::new("status-steps").await;
    let _controller = sandbox.controller().await;
    let user = Person::named(&sandbox, "ursula").await.may(&sandbox, &EVERYTHING, &["*"]).await;
    let refused = async |name: &str, now: &str, other: &str| {
        let mut before = sandbox.wait_phase(name, now).await;
        let mut answers = writes(&user, &before, json!({"phase": other})).await;
        // The controller may be at work on it: its own write in between is a conflict, and no refusal.
        while answers.iter().any(|(_, answer)| matches!(answer, Err(kube::Error::Api(status)) if status.is_conflict()))
        {
            before = sandbox.get(name).await;
            answers = writes(&user, &before, json!({"phase": other})).await;
        }
        for (how, answer) in answers {
            let said = refusal(answer);
            assert!(said.contains("status: only the Drydock controller writes it"), "{name}, {now}, by {how}: {said}");
        }
        assert_eq!(phase(&sandbox.get(name).await), now);
    };
    let release = |id: &str, hold: Value| {
        let mut command = json!({"id": id, "type": "Release"});
        if hold.is_string() {
            command["hold"] = hold;
        }
        command
    };

    sandbox.apply(Identity::Admin, &told::lease("a", json!({}))).await;
    refused("lease/a", "Pending", "Active").await;
    sandbox.apply(Identity::Admin, &told::hosts(1, json!({}))).await;
    refused("lease/a", "Active", "Destroyed").await;
    refused("resource/pool--h1", "Active", "Broken").await;
    sandbox.append(Identity::Admin, "lease/a", release("held", json!("1h"))).await;
    refused("lease/a", "Released", "Active").await;
    sandbox.append(Identity::Admin, "resource/pool--h1", release("over", json!(null))).await;
    refused("lease/a", "Destroyed", "Active").await;
    sandbox.wait_gone("resource/pool--h1").await;
}

#[tokio::test]
async fn of_a_blueprint() {
    let scene = Scene::set("status-blueprint").await;
    let before = scene.sandbox.get("blueprint/ci").await;
    for who in [&scene.user, &scene.account] {
        for (how, answer) in writes(who, &before, json!({"waiting": 3})).await {
            let said = refusal(answer);
            let expected = "status: only the Drydock controller writes it; change the spec instead";
            assert!(said.contains(expected), "{} by {how}: {said}", who.user);
        }
    }
    assert_eq!(scene.sandbox.get("blueprint/ci").await, before);
}

#[tokio::test]
async fn not_by_the_door_of_the_spec_either() {
    let scene = Scene::set("status-spec").await;
    for (name, status) in
        OBJECTS.into_iter().zip([json!({"waiting": 3}), json!({"phase": "Active"}), json!({"phase": "Active"})])
    {
        scene.controller_writes(name, json!({"conditions": []})).await.unwrap();
        let before = scene.sandbox.get(name).await;
        let (kind, name_only) = name.split_once('/').unwrap();
        let api = scene.user.api(kind);

        let mut replaced = before.clone();
        replaced.data["status"] = status.clone();
        api.replace(name_only, &PostParams::default(), &replaced).await.unwrap();
        let merge = Patch::Merge(json!({"status": status}));
        api.patch(name_only, &PatchParams::default(), &merge).await.unwrap();
        let types = before.types.clone().unwrap();
        let apply = Patch::Apply(json!({"apiVersion": types.api_version, "kind": types.kind, "status": status}));
        api.patch(name_only, &PatchParams::apply("status").force(), &apply).await.unwrap();

        let after = scene.sandbox.get(name).await;
        assert_eq!(after.data, before.data, "it is taken, but the status in it is not: {name}");
    }

    // Nor with the birth of an object.
    let mut born = object("lease", "b", json!({"resourceType": "host"}));
    born.data["status"] = json!({"phase": "Active"});
    let born = scene.user.api("lease").create(&PostParams::default(), &born).await.unwrap();
    assert!(born.data.get("status").is_none(), "{:?}", born.data);

    // Nor by the door of scaling, which has a status of its own.
    let scales = scene.user.api("blueprint");
    let scale = json!({"metadata": {"finalizers": []}, "spec": {"replicas": 1}, "status": {"replicas": 77}});
    scales.patch_scale("ci", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
    let scaled = scene.sandbox.get("blueprint/ci").await;
    assert_eq!(scaled.data["spec"]["limits"]["minReady"], 1);
    assert!(scaled.data["status"].get("resources").is_none(), "{:?}", scaled.data);
    assert_eq!(scaled.finalizers(), [FINALIZER]);
}

#[tokio::test]
async fn only_the_controller_makes_a_resource() {
    let scene = Scene::set("status-maker").await;
    for who in [&scene.user, &scene.account] {
        let said = refusal(create(who, "resource", "ci--h2", slot()).await);
        let expected =
            "only the Drydock controller creates a Resource; create a Lease, or raise limits.minReady of a Blueprint";
        assert!(said.contains(expected), "{}: {said}", who.user);
        let apply = object("resource", "ci--h2", slot());
        let applied = who.api("resource").patch("ci--h2", &PatchParams::apply("x"), &Patch::Apply(&apply)).await;
        let said = refusal(applied);
        assert!(said.contains(expected), "{}: {said}", who.user);
    }
    let said = refusal(create(&scene.viewer, "resource", "ci--h2", slot()).await);
    assert!(said.contains("User \"vera\" cannot create resource \"resources\""), "{said}");
    assert_eq!(scene.sandbox.list("resource").await.len(), 1);
}

#[tokio::test]
async fn only_the_controller_takes_the_finalizer_off() {
    let scene = Scene::set("status-finalizer").await;
    for name in OBJECTS {
        let before = scene.sandbox.get(name).await;
        assert_eq!(before.finalizers(), [FINALIZER], "it is there from the birth of {name}");
        let (kind, name_only) = name.split_once('/').unwrap();
        let ways = [
            Patch::Merge(json!({"metadata": {"finalizers": null}})),
            Patch::Merge(json!({"metadata": {"finalizers": []}})),
            Patch::Merge(json!({"metadata": {"finalizers": ["example.com/another"]}})),
            Patch::Json(serde_json::from_value(json!([{"op": "remove", "path": "/metadata/finalizers/0"}])).unwrap()),
        ];
        let remedy = if kind == "blueprint" { "release the Resources" } else { "is ended by the command Forget" };
        // While nothing deletes it: whatever leaves the finalizer out, as a replace by the original manifest does, has it restored.
        for who in [&scene.user, &scene.account] {
            for way in &ways {
                let kept = who.api(kind).patch(name_only, &PatchParams::default(), way).await.unwrap();
                assert!(kept.finalizers().contains(&FINALIZER.to_owned()), "{name}, {}: {way:?}", who.user);
            }
        }
        let ours = Patch::Merge(json!({"metadata": {"finalizers": [FINALIZER]}}));
        scene.user.api(kind).patch(name_only, &PatchParams::default(), &ours).await.unwrap();
        let said = refusal(scene.viewer.api(kind).patch(name_only, &PatchParams::default(), &ways[0]).await);
        assert!(said.contains("User \"vera\" cannot patch"), "{said}");
        // Who applies without it has never owned it, and so does not take it off.
        let types = before.types.clone().unwrap();
        let apply = json!({"apiVersion": types.api_version, "kind": types.kind, "metadata": {"finalizers": []}});
        let applied = scene.user.api(kind);
        applied.patch(name_only, &PatchParams::apply("x").force(), &Patch::Apply(&apply)).await.unwrap();
        assert_eq!(scene.sandbox.get(name).await.finalizers(), [FINALIZER]);

        // Others may come and go beside it.
        for finalizers in [json!([FINALIZER, "example.com/another"]), json!([FINALIZER])] {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
            scene.user.api(kind).patch(name_only, &PatchParams::default(), &patch).await.unwrap();
        }
        // The controller takes it off and puts it on.
        let api = scene.sandbox.api(Identity::Controller, kind).await;
        for finalizers in [json!(null), json!([FINALIZER])] {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
            let patched = api.patch(name_only, &PatchParams::default(), &patch).await.unwrap();
            assert_eq!(patched.finalizers().is_empty(), finalizers.is_null(), "{name}");
        }

        // Once it is being deleted whoever takes the finalizer off means it, and is told.
        scene.sandbox.delete(Identity::Admin, name).await;
        for who in [&scene.user, &scene.account] {
            for way in [&ways[0], &ways[1], &ways[3]] {
                let said = refusal(who.api(kind).patch(name_only, &PatchParams::default(), way).await);
                let expected = format!("metadata.finalizers: {FINALIZER} is taken off by the controller");
                assert!(said.contains(&expected) && said.contains(remedy), "{name}, {}: {said}", who.user);
            }
        }
    }
}

/// For the day on which the controller cannot: with all that RBAC gives, and in the group of the chart's breakGlassGroup.
#[tokio::test]
async fn who_breaks_the_glass_may_mend_by_hand_and_forges_nothing() {
    let scene = Scene::set("status-glass").await;
    let glass = ["drydock:break-glass"];
    let rita = Person::of_groups(&scene.sandbox, "rita", &glass).await.may(&scene.sandbox, &EVERYTHING, &["*"]).await;
    let without = Person::named(&scene.sandbox, "rita").await;

    let said = refusal(create(&without, "resource", "ci--h2", slot()).await);
    assert!(said.contains("only the Drydock controller creates a Resource"), "{said}");
    create(&rita, "resource", "ci--h2", slot()).await.unwrap();
    for name in OBJECTS {
        let before = scene.sandbox.get(name).await;
        let status = if name.starts_with("blueprint") { json!({"waiting": 3}) } else { json!({"phase": "Active"}) };
        for (how, answer) in writes(&without, &before, status.clone()).await {
            assert!(refusal(answer).contains("status: only the Drydock controller writes it"), "{name} by {how}");
        }
        for (how, answer) in writes(&rita, &before, status).await {
            answer.unwrap_or_else(|error| panic!("{name} by {how}: {error}"));
        }
    }
    let forged = json!([{"op": "add", "path": "/spec/commands/-", "value": {"id": "f", "type": "Release", "issuedBy": "ursula"}}]);
    let forged: Patch<()> = Patch::Json(serde_json::from_value(forged).unwrap());
    let said = refusal(rita.api("lease").patch("a", &PatchParams::default(), &forged).await);
    assert!(said.contains("f names the issuer ursula, but you are rita"), "{said}");

    for name in OBJECTS {
        let (kind, name_only) = name.split_once('/').unwrap();
        let off = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let kept = without.api(kind).patch(name_only, &PatchParams::default(), &off).await.unwrap();
        assert_eq!(kept.finalizers(), [FINALIZER], "{name}");
        rita.api(kind).patch(name_only, &PatchParams::default(), &off).await.unwrap();
        assert!(scene.sandbox.get(name).await.finalizers().is_empty(), "{name}");
    }
}

/// Who made a lease is on record, whoever applies or replaces it later.
#[tokio::test]
async fn a_lease_says_who_made_it() {
    const OWNER: &str = "drydock.dev/owner";
    let scene = Scene::set("status-owner").await;
    let leases = scene.user.api("lease");
    let owner = |lease: &DynamicObject| lease.annotations().get(OWNER).cloned();
    assert_eq!(owner(&scene.sandbox.get("lease/a").await).as_deref(), Some("ursula"));
    let annotated = |name: &str, owner: &str| {
        let mut lease = object("lease", name, json!({"resourceType": "host"}));
        lease.metadata.annotations = Some([(OWNER.to_owned(), owner.to_owned())].into());
        lease
    };
    let own = leases.create(&PostParams::default(), &annotated("own", "ursula")).await.unwrap();
    assert_eq!(owner(&own).as_deref(), Some("ursula"));
    let said = refusal(leases.create(&PostParams::default(), &annotated("forged", "vera")).await);
    let expected = "metadata.annotations: drydock.dev/owner names vera, but you are ursula; leave it out";
    assert!(said.contains(expected), "{said}");

    for (owner, why) in
        [(json!("vera"), "is who made the Lease, ursula, and stays; keep it as it is"), (json!(""), "and stays")]
    {
        let change = Patch::Merge(json!({"metadata": {"annotations": {OWNER: owner}}}));
        let said = refusal(leases.patch("a", &PatchParams::default(), &change).await);
        assert!(said.contains(why), "{said}");
    }
    // What leaves it out does not take it away: a merge patch, a replace, and a file applied by others.
    for gone in [json!({OWNER: null}), json!(null)] {
        let change = Patch::Merge(json!({"metadata": {"annotations": gone}}));
        let patched = leases.patch("a", &PatchParams::default(), &change).await.unwrap();
        assert_eq!(owner(&patched).as_deref(), Some("ursula"));
    }
    let mut replaced = scene.sandbox.get("lease/a").await;
    replaced.metadata.annotations = None;
    let replaced = scene.account.api("lease").replace("a", &PostParams::default(), &replaced).await.unwrap();
    assert_eq!(owner(&replaced).as_deref(), Some("ursula"));
    let file = Patch::Apply(object("lease", "applied", json!({"resourceType": "host"})));
    for who in [&scene.user, &scene.account, &scene.user] {
        let params = PatchParams::apply("pipeline").force();
        let applied = who.api("lease").patch("applied", &params, &file).await.unwrap();
        assert_eq!(owner(&applied).as_deref(), Some("ursula"));
    }
}

#[tokio::test]
async fn however_a_lease_is_born_it_has_the_finalizer_once() {
    let scene = Scene::set("status-birth").await;
    let leases = scene.user.api("lease");
    let born = [("none", json!(null)), ("ours", json!([FINALIZER])), ("twice", json!([FINALIZER, FINALIZER]))];
    for (name, finalizers) in born {
        let mut lease = object("lease", name, json!({"resourceType": "host"}));
        lease.metadata.finalizers = serde_json::from_value(finalizers).unwrap();
        let lease = leases.create(&PostParams::default(), &lease).await.unwrap();
        assert_eq!(lease.finalizers(), [FINALIZER], "{name}");
    }
    let mut lease = object("lease", "foreign", json!({"resourceType": "host"}));
    lease.metadata.finalizers = Some(vec!["example.com/another".to_owned()]);
    let lease = leases.create(&PostParams::default(), &lease).await.unwrap();
    assert_eq!(lease.finalizers(), ["example.com/another", FINALIZER]);

    let applied = scene
        .sandbox
        .apply(
            Identity::Admin,
            "{apiVersion: drydock.dev/v1alpha1, kind: Lease, metadata: {name: applied}, spec: {resourceType: host}}",
        )
        .await;
    assert_eq!(applied[0].finalizers(), [FINALIZER]);
    let mut generated = object("lease", "", json!({"resourceType": "host"}));
    generated.metadata = kube::api::ObjectMeta { generate_name: Some("build-".to_owned()), ..Default::default() };
    let generated = leases.create(&PostParams::default(), &generated).await.unwrap();
    assert_eq!(generated.finalizers(), [FINALIZER]);
}

#[tokio::test]
async fn no_way_of_deleting_goes_around_the_teardown() {
    let scene = Scene::set("status-deleting").await;
    let leases = scene.user.api("lease");
    let ways = [
        ("background", DeleteParams::background()),
        ("foreground", DeleteParams::foreground()),
        ("orphan", DeleteParams::orphan()),
        ("now", DeleteParams::default().grace_period(0)),
    ];
    for (name, params) in &ways {
        create(&scene.user, "lease", name, json!({"resourceType": "host"})).await.unwrap();
        leases.delete(name, params).await.unwrap();
    }
    create(&scene.user, "lease", "all", json!({"resourceType": "host"})).await.unwrap();
    leases.delete_collection(&DeleteParams::default(), &Default::default()).await.unwrap();
    // Kubernetes' own controllers, which put finalizers of theirs on and take them off, are not in the way of ours.
    for (name, _) in ways.iter().chain([&("all", DeleteParams::default())]) {
        let ours_alone = |lease: &DynamicObject| lease.finalizers() == [FINALIZER];
        let limit = Duration::from_secs(120); // the garbage collector looks for new kinds every half a minute
        let lease =
            scene.sandbox.wait_within(limit, &format!("lease/{name}"), "held by our finalizer alone", ours_alone).await;
        assert!(lease.metadata.deletion_timestamp.is_some(), "{name}");
    }

    // A lease that belongs to something of the user's goes with it.
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job"}});
    let owner = scene.sandbox.apply(Identity::Admin, &owner.to_string()).await.remove(0);
    let mut owned = object("lease", "owned", json!({"resourceType": "host"}));
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "job", "uid": owner.uid()}]);
    owned.metadata.owner_references = serde_json::from_value(reference).unwrap();
    leases.create(&PostParams::default(), &owned).await.unwrap();
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..Default::default() };
    scene.sandbox.api(Identity::Admin, "configmap").await.delete("job", &params).await.unwrap();
    let deleted = |lease: &DynamicObject| lease.metadata.deletion_timestamp.is_some();
    let lease =
        scene.sandbox.wait_within(Duration::from_secs(120), "lease/owned", "deleted with its owner", deleted).await;
    assert_eq!(lease.finalizers(), [FINALIZER]);
}

#[tokio::test]
async fn the_controller_has_no_more_rights_than_it_uses() {
    let scene = Scene::set("status-rights").await;
    let before = scene.sandbox.get("lease/a").await;
    let controller = Person::named(&scene.sandbox, Identity::Controller.user()).await;
    for (how, answer) in writes(&controller, &before, json!({"phase": "Active"})).await {
        // A patch of a status would not fail on a version that has changed meanwhile: RBAC does not give it.
        assert_eq!(answer.is_ok(), how == "replace", "{how}: {answer:?}");
    }
    for (verb, resource, allowed) in [
        ("create", "resources", true),
        ("delete", "resources", true),
        ("delete", "leases", true),
        ("patch", "blueprints", true),
        ("create", "leases", false),
        ("create", "blueprints", false),
        ("delete", "blueprints", false),
        ("deletecollection", "leases", false),
        ("update", "leases", true),
        ("forget", "leases", false),
    ] {
        assert_eq!(controller.is_allowed(verb, resource).await, allowed, "{verb} {resource}");
    }
}

#[tokio::test]
async fn the_roles_for_people_write_no_status() {
    let sandbox = Sandbox::new("status-roles").await;
    for (role, may, may_not) in [
        ("drydock-viewer", vec!["get leases", "watch resources"], vec!["create leases", "patch resources"]),
        (
            "drydock-requestor",
            vec!["create leases", "patch leases", "delete leases"],
            vec!["patch resources", "delete resources", "create blueprints", "forget leases"],
        ),
        (
            "drydock-operator",
            vec!["create blueprints", "patch blueprints/scale", "patch resources", "forget leases", "forget resources"],
            vec!["create resources"],
        ),
    ] {
        let (verb, resource) = may[0].split_once(' ').unwrap();
        let who = Person::named(&sandbox, role).await.with_cluster_role(&sandbox, role, verb, resource).await;
        let never = ["blueprints/status", "leases/status", "resources/status"];
        let never = never.iter().flat_map(|resource| [format!("update {resource}"), format!("patch {resource}")]);
        let expected = may.iter().map(|what| ((*what).to_owned(), true));
        let refused = may_not.iter().map(|what| (*what).to_owned()).chain(never).map(|what| (what, false));
        for (what, allowed) in expected.chain(refused) {
            let (verb, resource) = what.split_once(' ').unwrap();
            assert_eq!(who.is_allowed(verb, resource).await, allowed, "{role}: {what}");
        }
    }
    // Kubernetes' own roles have them, too: its controller manager adds them up a moment after they are there.
    for (role, verb, resource) in
        [("view", "list", "leases"), ("edit", "create", "leases"), ("admin", "create", "blueprints")]
    {
        Person::named(&sandbox, role).await.with_cluster_role(&sandbox, role, verb, resource).await;
    }
    let edit = Person::named(&sandbox, "edit").await;
    assert!(!edit.is_allowed("patch", "resources").await, "a lessee is no operator");
}
