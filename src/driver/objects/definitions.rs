//! What defines the kinds that an API server serves: CustomResourceDefinitions, and the APIServices of other API servers behind
//! it. A kind that is not served is gone with all its objects only where nothing defines it any more: a definition can be changed
//! so that none of its versions is served, and an API server can be away, while the objects stay.

use super::kinds::Kind;
use kube::{
    Api, Client, Error,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    core::Status,
};
use serde_json::Value;

/// Lists come in pages of this size: of their names only.
const PAGE: u32 = 500;

fn api(client: &Client, group: &str, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)))
}

/// What defines a kind that is not served, in words; `None`: nothing does.
///
/// # Errors
/// Where that cannot be seen.
pub async fn definition_of(own: &Client, kind: &Kind) -> Result<Option<String>, Error> {
    let Some((group, _)) = kind.api_version.split_once('/') else { return Ok(None) };
    let unseen = |what: &str| {
        let (what, named) = (what.to_owned(), kind.clone());
        move |error: Error| match error {
            Error::Api(status) if status.code == 403 => not_served(
                &named,
                &format!(
                    "whether {what} defines it cannot be seen ({}); let the controller get and list them",
                    status.message
                ),
            ),
            other => other,
        }
    };
    let definitions = api(own, "apiextensions.k8s.io", "CustomResourceDefinition");
    let with_group = format!(".{group}");
    let names = names(&definitions, |name| name.ends_with(&with_group)).await;
    for name in names.map_err(unseen("a CustomResourceDefinition"))? {
        let Some(found) = super::read(&definitions, &name).await.map_err(unseen("a CustomResourceDefinition"))? else {
            continue;
        };
        let spec = &found.data["spec"];
        if spec["group"] == group && spec["names"]["kind"] == kind.kind.as_str() {
            return Ok(Some(format!(
                "the CustomResourceDefinition {name} is there, and none of its versions is served"
            )));
        }
    }
    let services = api(own, "apiregistration.k8s.io", "APIService");
    for name in self::names(&services, |name| name.ends_with(&with_group)).await.map_err(unseen("an APIService"))? {
        let Some(found) = super::read(&services, &name).await.map_err(unseen("an APIService"))? else { continue };
        if is_away(&found.data, group) {
            return Ok(Some(format!("the API server behind the APIService {name} is not available")));
        }
    }
    Ok(None)
}

/// Whether an APIService stands for another API server that is not available: what that would serve is not known.
fn is_away(data: &Value, group: &str) -> bool {
    let is_available = |condition: &Value| condition["type"] == "Available" && condition["status"] == "True";
    let conditions = data.pointer("/status/conditions").and_then(Value::as_array);
    data["spec"]["group"] == group
        && data["spec"]["service"].is_object()
        && !conditions.is_some_and(|conditions| conditions.iter().any(is_available))
}

/// The names of all objects of a kind that are wanted.
async fn names(api: &Api<DynamicObject>, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let found = super::in_time(api.list_metadata(&page)).await?;
        names.extend(found.items.into_iter().filter_map(|object| object.metadata.name).filter(|name| is_wanted(name)));
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(names),
        }
    }
}

/// The kind is not served, and its objects may be there all the same.
pub fn not_served(kind: &Kind, why: &str) -> Error {
    let message = format!("the API server does not serve the kind {} of {} now: {why}", kind.kind, kind.api_version);
    Error::Api(Box::new(Status::failure(&message, "KindNotServed").with_code(503)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_api_server_is_away_unless_its_apiservice_says_that_it_is_available() {
        let condition = |status: &str| json!([{"type": "Available", "status": status}]);
        let service = json!({"name": "metrics", "namespace": "kube-system"});
        for (service, conditions, group, expected) in [
            (service.clone(), condition("True"), "a.example", false),
            (service.clone(), condition("False"), "a.example", true),
            (service.clone(), condition("Unknown"), "a.example", true),
            (service.clone(), json!(null), "a.example", true),
            (service, condition("False"), "b.example", false),
            (json!(null), json!(null), "a.example", false), // of the API server itself
        ] {
            let data =
                json!({"spec": {"group": "a.example", "service": service}, "status": {"conditions": conditions}});
            assert_eq!(is_away(&data, group), expected, "{data} of {group}");
        }
    }
}
