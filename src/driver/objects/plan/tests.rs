//! What is taken from a Blueprint, what it becomes, and what it may see on the way.

use super::*;
use crate::expression::{Binding, InLine};
use futures::executor::block_on;
use serde::de::DeserializeOwned;

fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A Blueprint of namespace `team` with this driver.
fn blueprint(driver: &str) -> Blueprint {
    yaml(&format!(
        "{{metadata: {{name: env, namespace: team, uid: ub, labels: {{a: b}}, annotations: {{a: b}}}},
          spec: {{resourceType: env, suspend: true, attributes: {{region: eu}}, limits: {{maxResources: 3}},
                  driver: {{objects: {{serviceAccountName: builder, {driver}}}}}}}}}"
    ))
}

fn resource() -> Resource {
    yaml(
        "{metadata: {name: env--0, namespace: team, uid: ur, labels: {a: b}},
          spec: {resourceType: env, blueprintRef: {name: env, uid: ub}, attributes: {region: eu},
                 parameters: {size: large}, commands: [{id: c, type: Release}]},
          status: {phase: Active, outputs: {host: h1}, built: {driver: objects}}}",
    )
}

fn lease() -> Lease {
    yaml(
        "{metadata: {name: l, namespace: dev, uid: ul, labels: {job: '7'}},
          spec: {resourceType: env, parameters: {inject: \"${resource.metadata.uid}\\n- x: 'y\\\"'\"},
                 subjects: [{kind: Group, name: 'system:masters'}], commands: [{id: c, type: Release}]},
          status: {phase: Acquired, attempt: 2, outputs: {a: b}}}",
    )
}

fn plan(driver: &str) -> Result<Plan, Trouble> {
    let blueprint = blueprint(driver);
    let driver = blueprint.spec.driver.objects.clone().unwrap();
    block_on(Plan::of(&blueprint, &driver, &InLine))
}

fn of_resource() -> EffectKey {
    EffectKey::of_resource("ur")
}

fn of_lease() -> EffectKey {
    EffectKey { resource: "ur".into(), lease: Some(("ul".into(), 2)) }
}

/// The objects of the resource, or of the lease, as they are made.
fn render(driver: &str, key: &EffectKey) -> Result<Vec<(Made, Value)>, Unmade> {
    let plan = plan(driver).unwrap_or_else(|trouble| panic!("{driver}: {trouble:?}"));
    let (blueprint, resource, lease) = (blueprint(driver), resource(), lease());
    let lease = key.lease.is_some().then_some(&lease);
    let about = About { blueprint: &blueprint, resource: &resource, lease, objects: None };
    block_on(plan.render(&InLine, &about, key))
}

/// One template of a ConfigMap with this metadata, and more of it.
fn map(metadata: &str, more: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{{metadata}}}, {more}}}")
}

fn templates(metadata: &str, more: &str) -> String {
    format!("templates: [{}]", map(metadata, more))
}

fn outputs(driver: &str, of_lease: bool, objects: Vec<Value>) -> Result<BTreeMap<String, String>, Unmade> {
    let plan = plan(driver).unwrap_or_else(|trouble| panic!("{driver}: {trouble:?}"));
    let (blueprint, resource, lease) = (blueprint(driver), resource(), lease());
    let lease = of_lease.then_some(&lease);
    let about = About { blueprint: &blueprint, resource: &resource, lease, objects: Some(objects) };
    block_on(plan.outputs(&InLine, &about))
}

#[test]
fn what_is_no_plan_says_where_and_why() {
    let own = |version: &str| format!("templates: [{{apiVersion: {version}, kind: Lease, metadata: {{name: a}}}}]");
    let only = "a template's metadata has name, namespace, labels, annotations only";
    let mine = "Drydock's own kinds are not made from templates; create a Lease instead";
    for (driver, path, why) in [
        ("readyWhen: 'objects.'".to_owned(), "readyWhen", "the expression is not CEL: "),
        (
            "readyWhen: 'things.all(o, true)'".into(),
            "readyWhen",
            "things is not known here; an expression may name objects, resource, blueprint, lease",
        ),
        ("failedWhen: 'objects.'".into(), "failedWhen", "the expression is not CEL: "),
        (
            "failedWhen: 'things.all(o, true)'".into(),
            "failedWhen",
            "things is not known here; an expression may name objects, resource, blueprint, lease",
        ),
        ("outputs: {url: '${secrets}'}".into(), "outputs.url", "secrets is not known here"),
        ("outputs: {url: '${a'}".into(), "outputs.url", "a ${ is not closed by a }"),
        (
            templates("name: '${lease.metadata.name}'", ""),
            "templates[0].metadata.name",
            "lease is not known here; an expression may name resource, blueprint",
        ),
        (templates("name: a", "data: {a: '${objects}'}"), "templates[0].data.a", "objects is not known here"),
        (
            format!("lease{}", templates("name: a", "data: {a: ['${objects}']}").replace("temp", "Temp")),
            "leaseTemplates[0].data.a[0]",
            "objects is not known here; an expression may name resource, blueprint, lease",
        ),
        (templates("name: a", "data: {'${x}': a}"), "templates[0].data[${x}]", "keys are taken as they are"),
        (templates("name: a, generateName: b", ""), "templates[0].metadata.generateName", only),
        (templates("name: a, ownerReferences: []", ""), "templates[0].metadata.ownerReferences", only),
        (templates("name: a, finalizers: [a/b]", ""), "templates[0].metadata.finalizers", only),
        (
            templates("name: a, labels: {drydock.dev/owner: x}", ""),
            "templates[0].metadata.labels",
            "drydock.dev/owner is Drydock's own; leave it out",
        ),
        (own("drydock.dev/v1alpha1"), "templates[0].apiVersion", mine),
        (own("drydock.dev/v2"), "templates[0].apiVersion", mine),
        (own("'${a}/v1'"), "templates[0].apiVersion", "it is taken as it is, and holds an expression"),
        (own("v1").replace("Lease", "'${a}'"), "templates[0].kind", "it is taken as it is, and holds an expression"),
    ] {
        let trouble = plan(&driver).err().unwrap_or_else(|| panic!("{driver} is taken"));
        assert_eq!(trouble.reason, "InvalidExpression", "{driver}");
        let expected = format!("spec.driver.objects.{path}: ");
        assert!(trouble.message.starts_with(&expected), "{driver}: {}", trouble.message);
        assert!(trouble.message.contains(why), "{driver}: {}", trouble.message);
    }
    for driver in [
        String::new(),
        "readyWhen: 'true'".into(),
        own("other.drydock.dev/v1"),
        templates("name: a, labels: {drydock.example/a: b}", ""),
    ] {
        assert!(plan(&driver).is_ok(), "{driver}");
    }
}

/// Scripts have `${HOME}`: whoever meant the text is told how it is written.
#[test]
fn a_message_about_a_text_names_the_literal() {
    for text in ["cd ${HOME}", "${HOME}", "${x:-y}", "${#list[@]}", "${x%%.*}", "${HOME", "${resource.metadata}${f()}"]
    {
        let driver = templates("name: a", &format!("data: {{a: '{text}'}}"));
        let trouble = plan(&driver).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(trouble.message.contains("$${"), "{text}: {}", trouble.message);
    }
    let made = render(&templates("name: a", "data: {a: 'cd $${HOME}'}"), &of_resource()).unwrap();
    assert_eq!(made[0].1["data"]["a"], "cd ${HOME}");
}

/// What an object leaves out is empty to an expression, as it is to the API.
#[test]
fn optional_lists_and_maps_are_empty() {
    let lease_of = |text: &str| {
        let driver =
            format!("lease{}", templates("name: a", &format!("data: {{a: '{text}'}}")).replace("temp", "Temp"));
        let (plan, blueprint) = (plan(&driver).unwrap(), blueprint(&driver).clone());
        let resource: Resource = yaml(
            "{metadata: {name: r, namespace: team, uid: ur}, spec: {resourceType: env, blueprintRef: {name: env, uid: ub}}}",
        );
        let lease: Lease = yaml("{metadata: {name: l, namespace: dev, uid: ul}, spec: {resourceType: env}}");
        let about = About { blueprint: &blueprint, resource: &resource, lease: Some(&lease), objects: None };
        block_on(plan.render(&InLine, &about, &of_lease())).map(|made| made[0].1["data"]["a"].clone())
    };
    for list in
        ["lease.spec.subjects", "lease.spec.repositories", "lease.spec.blueprints", "resource.status.interfaces"]
    {
        assert_eq!(lease_of(&format!("${{{list}}}")).unwrap(), json!([]), "{list}");
    }
    for map in [
        "lease.spec.parameters",
        "lease.metadata.labels",
        "lease.metadata.annotations",
        "lease.spec.selector.matchLabels",
        "resource.spec.attributes",
        "resource.spec.parameters",
        "resource.status.outputs",
    ] {
        assert_eq!(lease_of(&format!("${{{map}}}")).unwrap(), json!({}), "{map}");
    }
    assert_eq!(lease_of("${has(lease.spec.ttl)}").unwrap(), json!(false), "what has no empty value stays left out");
}

/// 22 KB of templates once took 6.5 GB.
#[test]
fn what_templates_take_is_bounded() {
    let list = format!("[{}]", vec!["1"; 60].join(","));
    let maps = format!("data: ${{{list}.map(x, [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1].map(y, {{\"a\": y}}))}}")
        .replace("data: ", "data: '")
        + "'";
    let many: Vec<_> = (0..20).map(|n| map(&format!("name: a{n}"), &maps)).collect();
    let few = format!("templates: [{}]", many[..5].join(", "));
    assert_eq!(render(&few, &of_resource()).unwrap().len(), 5);
    let many = format!("templates: [{}]", many.join(", "));
    let error = render(&many, &of_resource()).unwrap_err();
    assert!(error.to_string().contains("more than 12 MiB of memory"), "{error}");

    let list = vec!["{a: 1}"; 20_000].join(", ");
    let trouble = plan(&templates("name: a", &format!("data: [{list}]"))).err().unwrap();
    assert_eq!(trouble.reason, "InvalidExpression");
    assert!(trouble.message.contains("MiB of memory together, and may take 8 MiB"), "{}", trouble.message);
}

/// Only what is slow without a lessee's data is the Blueprint's own fault.
#[test]
fn what_is_slow_by_one_lessees_data_is_that_lessees() {
    let driver = "readyWhen: 'true'";
    let (blueprint, resource, mut lease) = (blueprint(driver), resource(), lease());
    let numbers: String = (0..40).map(|n| format!("{n:03}")).collect();
    lease.metadata.annotations = Some((0..400).map(|n| (format!("a{n}"), numbers.clone())).collect());
    let about = About { blueprint: &blueprint, resource: &resource, lease: Some(&lease), objects: Some(Vec::new()) };
    let of_lessee = "lease.metadata.annotations.all(a, lease.metadata.annotations.all(b, a != b || b == a))";
    let constant =
        "[[0,1,2,3,4,5,6,7]].map(l,l+l+l+l+l+l+l+l).map(l,l+l+l+l+l+l+l+l).map(l,l+l+l+l).all(l,l.all(x,x in l))";
    for (source, by_itself) in [(of_lessee, false), (constant, true)] {
        let expression = block_on(InLine.parse(source)).unwrap();
        let results = block_on(InLine.evaluate(vec![expression.clone()], bindings(&about, expression.roots())));
        assert_eq!(results, [Err(EvaluationError::TooSlow)], "{source}");
        assert_eq!(block_on(is_slow_by_itself(&InLine, &about, &expression)), by_itself, "{source}");
    }
}

#[test]
fn the_account_is_one_of_the_blueprints_namespace() {
    assert_eq!(plan("").unwrap().account.to_string(), "system:serviceaccount:team:builder");
}

#[test]
fn objects_say_whose_they_are() {
    let driver = format!(
        "{}, lease{}",
        templates(
            "name: 'r-${resource.metadata.name}', labels: {mine: stays}",
            "data: {size: '${resource.spec.parameters.size}'}"
        ),
        templates("name: 'l-${lease.metadata.name}', namespace: '${lease.metadata.namespace}'", "")
            .replace("temp", "Temp"),
    );
    let made = render(&driver, &of_resource()).unwrap();
    assert_eq!(made[0].0.told(), "ConfigMap r-env--0");
    assert_eq!(
        made[0].1,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "r-env--0",
                "labels": {"mine": "stays", "drydock.dev/owner": "ur", "drydock.dev/resource": "ur"},
                "annotations": {"drydock.dev/resource-name": "team/env--0"},
            },
            "data": {"size": "large"},
        })
    );
    let made = render(&driver, &of_lease()).unwrap();
    assert_eq!(made[0].0.told(), "ConfigMap dev/l-l");
    assert_eq!(
        made[0].1["metadata"]["labels"],
        json!({"drydock.dev/owner": "ul", "drydock.dev/resource": "ur", "drydock.dev/attempt": "2"})
    );
    let plan = plan(&driver).unwrap();
    assert_eq!(plan.record(&made, Vec::new()).objects.len(), 1);
}

/// What a lessee writes ends up in the value that it was asked for in, to the letter.
#[test]
fn values_are_never_read_again() {
    let text = "${resource.metadata.uid}\n- x: 'y\"'";
    let driver = format!(
        "leaseTemplates: [{}]",
        map(
            "name: a",
            "data: {whole: '${lease.spec.parameters.inject}', part: 'a ${lease.spec.parameters.inject} $${b}'}"
        )
    );
    let made = render(&driver, &of_lease()).unwrap();
    assert_eq!(made[0].1["data"], json!({"whole": text, "part": format!("a {text} ${{b}}")}));
    let driver = format!("leaseTemplates: [{}]", map("name: a", "subjects: '${lease.spec.subjects}'"));
    let made = render(&driver, &of_lease()).unwrap();
    assert_eq!(made[0].1["subjects"], json!([{"kind": "Group", "name": "system:masters"}]));
}

#[test]
fn what_is_no_object_says_where_and_why() {
    let long = "x".repeat(254);
    for (metadata, why) in [
        ("name: '${1}'", "metadata.name is 1; it has to be a text"),
        ("name: '${null}'", "metadata.name is missing"),
        ("name: '${\"\"}'", "metadata.name is empty"),
        ("name: '${[\"a\"]}'", "metadata.name is [\"a\"]; it has to be a text"),
        (&*format!("name: {long}"), "metadata.name has 254 bytes, and may have 253"),
        ("name: '..'", "metadata.name is \"..\"; it may hold letters, digits and -._:@+~ only"),
        ("name: '../../secrets/x'", "metadata.name is \"../../secrets/x\"; it may hold"),
        ("name: 'a?dryRun=All'", "it may hold letters"),
        ("name: 'a%2fb'", "it may hold letters"),
        ("name: \"a\\nb\"", "it may hold letters"),
        ("name: 'ä'", "it may hold letters"),
        ("name: a, namespace: '../kube-system'", "metadata.namespace is \"../kube-system\"; it may hold"),
        ("name: a, namespace: '${true}'", "metadata.namespace is true; it has to be a text"),
        ("name: a, labels: {a: '${1}'}", "metadata.labels: \"a\" is 1; it has to be a text"),
        ("name: a, annotations: {a: '${[1]}'}", "metadata.annotations: \"a\" is [1]; it has to be a text"),
        ("name: a, labels: '${1}'", "metadata.labels is 1, and no map"),
        (
            "name: a, labels: '${{\"drydock.dev/owner\": \"x\"}}'",
            "metadata.labels: drydock.dev/owner is Drydock's own; leave it out",
        ),
    ] {
        let unmade = render(&templates(metadata, ""), &of_resource()).err();
        let unmade = unmade.unwrap_or_else(|| panic!("{metadata} is taken"));
        assert_eq!(unmade.reason(), "InvalidTemplate", "{metadata}");
        let told = unmade.to_string();
        assert!(told.starts_with("spec.driver.objects.templates[0]: ") && told.contains(why), "{metadata}: {told}");
    }
    for name in ["a", "system:node:a", "a.b@c", "x".repeat(253).as_str()] {
        assert!(render(&templates(&format!("name: '{name}'"), ""), &of_resource()).is_ok(), "{name}");
    }
    for (value, reason) in [
        ("${resource.nothing}", "ExpressionFailed"),
        ("${1 / 0}", "ExpressionFailed"),
        ("a ${[1]}", "ExpressionFailed"),
    ] {
        let unmade = render(&templates("name: a", &format!("data: {{a: '{value}'}}")), &of_resource()).unwrap_err();
        assert_eq!(unmade.reason(), reason, "{value}");
        assert!(unmade.to_string().starts_with("spec.driver.objects.templates[0].data.a: "), "{unmade}");
    }
}

/// What would lead a template around the rule of who decides what is made is not there (charts/drydock/templates/policies).
#[test]
fn expressions_see_no_more_than_they_are_meant_to() {
    let (blueprint, resource, lease) = (blueprint(""), resource(), lease());
    let about =
        About { blueprint: &blueprint, resource: &resource, lease: Some(&lease), objects: Some(vec![json!(1)]) };
    let named = |names: &[&str]| bindings(&about, &names.iter().map(|name| (*name).to_owned()).collect());
    let value = |name: &str| match named(&[name]).get(name) {
        Some(Binding::Json(value)) => value.clone(),
        other => panic!("{name}: {other:?}"),
    };
    let shown = |name: &str| {
        let mut value = value(name);
        let map = value.as_object_mut().unwrap();
        map.remove("apiVersion");
        map.remove("kind");
        value
    };
    assert_eq!(
        shown("blueprint"),
        json!({
            "metadata": {"name": "env", "namespace": "team", "uid": "ub"},
            "spec": {"resourceType": "env", "attributes": {"region": "eu"}},
            "status": {},
        })
    );
    assert_eq!(
        shown("resource"),
        json!({
            "metadata": {"name": "env--0", "namespace": "team", "uid": "ur"},
            "spec": {
                "resourceType": "env", "attributes": {"region": "eu"}, "parameters": {"size": "large"},
                "blueprintRef": {"name": "env", "uid": "ub"},
            },
            "status": {"outputs": {"host": "h1"}, "interfaces": []},
        })
    );
    let lease = shown("lease");
    assert_eq!(
        lease["metadata"],
        json!({"name": "l", "namespace": "dev", "uid": "ul", "labels": {"job": "7"}, "annotations": {}})
    );
    assert_eq!(lease["status"], json!({"attempt": 2}));
    assert!(lease["spec"].get("commands").is_none() && lease["spec"].get("subjects").is_some(), "{lease}");

    // What is not named takes no room.
    assert_eq!(named(&["lease", "nothing"]).keys().collect::<Vec<_>>(), ["lease"]);
    assert!(named(&[]).is_empty());
}

#[test]
fn what_a_secret_holds_is_not_seen() {
    let of = |kind: &str| {
        seen(json!({
            "apiVersion": "v1", "kind": kind, "type": "Opaque", "data": {"a": "b"}, "stringData": {"a": "b"},
            "metadata": {"name": "a", "managedFields": [{}]},
        }))
    };
    assert_eq!(
        of("Secret"),
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "a"}})
    );
    assert_eq!(of("ConfigMap")["data"], json!({"a": "b"}));
    assert!(of("ConfigMap")["metadata"].get("managedFields").is_none());
}

#[test]
fn outputs_are_texts_of_bounded_length() {
    let of = |value: &str| outputs(&format!("outputs: {{o: '{value}'}}"), false, vec![]).map(|mut o| o.remove("o"));
    for (value, expected) in [
        ("a ${resource.metadata.name}", "a env--0"),
        ("${1 + 1}", "2"),
        ("${true}", "true"),
        ("${blueprint.spec.attributes.region}", "eu"),
        ("$${x}", "${x}"),
    ] {
        assert_eq!(of(value).unwrap().as_deref(), Some(expected), "{value}");
    }
    let long = format!("${{[\"{}\"].map(x, x + x)}}", "y".repeat(500));
    for (value, why) in [
        ("${[1]}", "an output is a text, and this gives [1]"),
        ("${null}", "an output is a text, and this gives null"),
        (long.as_str(), "yyy…"),
        (&"ä".repeat(1025), "an output may have 1024 characters, and this gives 1025"),
    ] {
        let unmade = of(value).expect_err(value);
        assert_eq!(unmade.reason(), "InvalidTemplate");
        let told = unmade.to_string();
        assert!(told.starts_with("spec.driver.objects.outputs.o: ") && told.contains(why), "{told}");
        assert!(told.len() < 300, "{told}");
    }
    assert_eq!(of(&"ä".repeat(1024)).unwrap().unwrap().chars().count(), 1024);
}

/// The version is no part of an object's identity.
#[test]
fn two_templates_of_one_object_are_refused() {
    let scaler = |version: &str, metadata: &str| {
        format!("{{apiVersion: {version}, kind: HorizontalPodAutoscaler, metadata: {{{metadata}}}}}")
    };
    let both = |first: String, second: String| format!("templates: [{first}, {second}]");
    let (one, two) = ("autoscaling/v1", "autoscaling/v2");
    let named = "name: 'a-${resource.metadata.name}'";
    for (first, second) in [
        (scaler(one, "name: a"), scaler(two, "name: a")),
        (scaler(one, "name: a"), scaler(one, "name: a")),
        (scaler(one, named), scaler(two, named)),
        (scaler(one, "name: a, namespace: team"), scaler(two, "name: a")),
    ] {
        for driver in
            [both(first.clone(), second.clone()), format!("lease{}", both(first, second).replacen('t', "T", 1))]
        {
            let trouble = plan(&driver).err().unwrap_or_else(|| panic!("{driver} is taken"));
            assert_eq!(trouble.reason, "InvalidExpression", "{driver}");
            let (told, same) = (&trouble.message, "emplates[1]: it makes the same object as ");
            assert!(told.contains(same) && told.contains("emplates[0], whatever its version"), "{told}");
        }
    }
    // What only their values tell is refused as they are rendered.
    let driver = both(scaler(one, "name: env--0"), scaler(two, "name: '${resource.metadata.name}'"));
    let unmade = render(&driver, &of_resource()).unwrap_err();
    assert_eq!(unmade.reason(), "ObjectExists");
    let path = "spec.driver.objects.templates[1]: it makes HorizontalPodAutoscaler env--0, and so does templates[0]";
    assert!(unmade.to_string().starts_with(path), "{unmade}");
    for (first, second) in [
        (scaler(one, "name: a"), scaler(one, "name: b")),
        (scaler(one, "name: a, namespace: b"), scaler(one, "name: a")),
        (scaler("other.example/v1", "name: a"), scaler(one, "name: a")),
        (map("name: a", ""), scaler(one, "name: a")),
    ] {
        let driver = both(first, second);
        assert!(render(&driver, &of_resource()).is_ok(), "{driver}");
    }
}

/// Each output is given once: from the resource on, or where it needs what only a lease has, with the lease.
#[test]
fn when_outputs_are_given() {
    let all = "outputs: {of: '${resource.metadata.name}', by: '${lease.metadata.name}', n: '${size(objects)}'}";
    let with_own = format!("{all}, lease{}", templates("name: a", "").replace("temp", "Temp"));
    let given = |driver: &str, of_lease: bool| {
        let outputs = outputs(driver, of_lease, vec![json!(1)]).unwrap();
        outputs.into_keys().collect::<Vec<_>>().join(" ")
    };
    assert_eq!((given(all, false).as_str(), given(all, true).as_str()), ("n of", "by"));
    assert_eq!((given(&with_own, false).as_str(), given(&with_own, true).as_str()), ("of", "by n"));
}

/// Of a resource without objects nothing is asked, nor of a lease without its own, unless the question is about leases.
#[test]
fn whose_readiness_is_asked() {
    let of_resource = templates("name: a", "");
    let of_lease = format!("lease{}", of_resource.replace("temp", "Temp"));
    let plain = "readyWhen: 'objects.all(o, true)'";
    let about_lease = "readyWhen: lease.status.attempt == 0";
    for (driver, resource, lease) in [
        (of_resource.clone(), false, false),
        (format!("{plain}, {of_resource}"), true, false),
        (format!("{plain}, {of_lease}"), false, true),
        (format!("{plain}, {of_resource}, {of_lease}"), true, true),
        (format!("{about_lease}, {of_resource}"), false, true),
        (format!("{about_lease}, {of_resource}, {of_lease}"), false, true),
    ] {
        let plan = plan(&driver).unwrap();
        assert_eq!((plan.judges(false), plan.judges(true)), (resource, lease), "{driver}");
    }
}

/// `failedWhen` is asked of the same objects as `readyWhen`, and a lease is shown the objects of its resource where any of its
/// expressions names them.
#[test]
fn whose_failure_is_asked_and_who_sees_objects() {
    let of_resource = templates("name: a", "");
    let of_lease = format!("lease{}", of_resource.replace("temp", "Temp"));
    let plain = "failedWhen: 'objects.exists(o, false)'";
    let output = |text: &str| format!("outputs: {{o: '${{{text}}}'}}, {of_resource}");
    for (driver, resource, lease, sees) in [
        (of_resource.clone(), false, false, false),
        (format!("{plain}, {of_resource}"), true, false, false),
        (format!("{plain}, {of_lease}"), false, true, true),
        (format!("failedWhen: lease.status.attempt > 9, {of_resource}"), false, true, true),
        (output("size(objects)"), false, false, false),
        (output("lease.metadata.name"), false, false, false),
        (output("lease.metadata.name + string(size(objects))"), false, false, true),
        (format!("{}, {of_lease}", output("size(objects)")), false, false, true),
    ] {
        let plan = plan(&driver).unwrap_or_else(|trouble| panic!("{driver}: {trouble:?}"));
        let found = (plan.gives_up(false), plan.gives_up(true), plan.asks_objects_for_lease());
        assert_eq!(found, (resource, lease, sees), "{driver}");
    }
}
