//! The volumes of StatefulSets. Kubernetes keeps the claims that a StatefulSet has made when it is deleted, and gives them to the
//! next one of its name: the next tenant would find the data of the last. So each StatefulSet that is made here deletes them.

use serde_json::{Map, Value, json};

/// The field of a StatefulSet's spec that says what becomes of its claims.
const POLICY: &str = "persistentVolumeClaimRetentionPolicy";

/// Has each StatefulSet in an object, itself or what it holds in any field, delete its claims when it is deleted.
///
/// # Errors
/// Where one says that it keeps them.
pub fn deleted_with_their_sets(object: &mut Value, path: &str) -> Result<(), String> {
    match object {
        Value::Object(fields) => {
            if is_stateful_set(fields) {
                delete_claims(fields, path)?;
            }
            for (name, value) in fields {
                deleted_with_their_sets(value, &join(path, name))?;
            }
        }
        Value::Array(values) => {
            for (n, value) in values.iter_mut().enumerate() {
                deleted_with_their_sets(value, &format!("{path}[{n}]"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_stateful_set(fields: &Map<String, Value>) -> bool {
    let version = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    fields.get("kind").and_then(Value::as_str) == Some("StatefulSet") && version.split('/').next() == Some("apps")
}

fn delete_claims(set: &mut Map<String, Value>, path: &str) -> Result<(), String> {
    let Some(spec) = set.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let has_claims = spec.get("volumeClaimTemplates").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    if !has_claims {
        return Ok(());
    }
    let policy = spec.entry(POLICY).or_insert_with(|| json!({}));
    if policy.is_null() {
        *policy = json!({});
    }
    let Some(policy) = policy.as_object_mut() else { return Ok(()) };
    match policy.get("whenDeleted") {
        None | Some(Value::Null) => {
            policy.insert("whenDeleted".into(), json!("Delete"));
            Ok(())
        }
        Some(Value::String(text)) if text == "Delete" => Ok(()),
        Some(other) => Err(format!(
            "{}.whenDeleted is {}, and has to be Delete: the next StatefulSet of the name would get the volumes of this one, with \
             what its user has left there",
            join(path, &format!("spec.{POLICY}")),
            super::plan::told(other)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(policy: Value, claims: usize) -> Value {
        let claims = vec![json!({"metadata": {"name": "data"}}); claims];
        let mut spec = json!({"serviceName": "db", "volumeClaimTemplates": claims});
        if !policy.is_null() {
            spec[POLICY] = policy;
        }
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec})
    }

    #[test]
    fn a_stateful_set_deletes_its_claims_when_it_is_deleted() {
        let deletes = json!({"whenDeleted": "Delete"});
        for (policy, claims, expected) in [
            (json!(null), 1, deletes.clone()),
            (json!({}), 2, deletes.clone()),
            (json!({"whenDeleted": null}), 1, deletes.clone()),
            (deletes.clone(), 1, deletes.clone()),
            (json!({"whenScaled": "Delete"}), 1, json!({"whenScaled": "Delete", "whenDeleted": "Delete"})),
            (json!(null), 0, json!(null)),
        ] {
            let mut object = set(policy.clone(), claims);
            deleted_with_their_sets(&mut object, "").unwrap();
            assert_eq!(object["spec"][POLICY], expected, "{policy}, {claims} claims");
        }
    }

    #[test]
    fn one_that_is_held_in_a_field_of_another_object_does_so_too() {
        let mut object = json!({"apiVersion": "example.org/v1", "kind": "Bundle", "spec": {"manifests": [{"kind": "Service"}, set(json!(null), 1)]}});
        deleted_with_their_sets(&mut object, "").unwrap();
        assert_eq!(object["spec"]["manifests"][1]["spec"][POLICY], json!({"whenDeleted": "Delete"}));
        let other =
            json!({"apiVersion": "example.org/v1", "kind": "StatefulSet", "spec": {"volumeClaimTemplates": [{}]}});
        let mut same = other.clone();
        deleted_with_their_sets(&mut same, "").unwrap();
        assert_eq!(same, other, "a kind of the name in another group");
    }

    #[test]
    fn one_that_keeps_them_is_refused_with_its_field() {
        let keeps = || set(json!({"whenDeleted": "Retain"}), 1);
        let why = deleted_with_their_sets(&mut keeps(), "").unwrap_err();
        assert!(
            why.starts_with(
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted is \"Retain\", and has to be Delete: "
            ),
            "{why}"
        );
        let mut within = json!({"kind": "Bundle", "spec": {"manifests": [keeps()]}});
        let why = deleted_with_their_sets(&mut within, "").unwrap_err();
        assert!(why.starts_with("spec.manifests[0].spec.persistentVolumeClaimRetentionPolicy.whenDeleted"), "{why}");
    }
}
