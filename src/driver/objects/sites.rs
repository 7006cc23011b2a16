//! Where leases can get objects: by this, what is left of a lease that vanished without its record is found, and nowhere else is
//! looked.

use super::{
    accounts::Account,
    kinds::Kind,
    plan::{About, bindings},
};
use crate::{
    driver::Trouble,
    expression::{Evaluator, Template},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind of which leases get objects, and where.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct LeaseKind {
    /// The kind.
    #[serde(flatten)]
    pub kind: Kind,
    /// Where. Records of earlier versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Site>,
}

/// Where a template can make an object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub enum Site {
    /// In this namespace; of a kind that lives in none, in the cluster.
    Namespace(String),
    /// In the namespace of the lease.
    OfLease,
    /// Where an expression over the lease says.
    Anywhere,
}

/// A template's `metadata.namespace`, as far as it is known before there is a lease.
pub struct SiteTemplate {
    kind: Kind,
    namespace: Namespace,
}

enum Namespace {
    Site(Site),
    /// It names the resource or the Blueprint only.
    Rendered(Template),
}

/// The only expression over a lease whose value is known of one that vanished.
const OF_LEASE: &str = "${lease.metadata.namespace}";

impl SiteTemplate {
    /// Where a template can make objects for a lease.
    ///
    /// # Errors
    /// Where its namespace is no expression.
    pub async fn of(
        evaluator: &dyn Evaluator,
        account: &Account,
        template: &Value,
        path: &str,
    ) -> Result<Self, Trouble> {
        let kind = super::plan::kind_of(template);
        let text = match template.pointer("/metadata/namespace") {
            None | Some(Value::Null) => {
                return Ok(Self { kind, namespace: Namespace::Site(Site::Namespace(account.namespace.clone())) });
            }
            Some(text) => text,
        };
        let of_lease = |text: &str| text.split_whitespace().collect::<String>() == OF_LEASE;
        if text.as_str().is_some_and(of_lease) {
            return Ok(Self { kind, namespace: Namespace::Site(Site::OfLease) });
        }
        let path = format!("{path}.metadata.namespace");
        let parsed = Template::parse(evaluator, text, &path).await;
        let parsed = parsed.map_err(|e| Trouble { reason: "InvalidExpression", message: e.to_string() })?;
        let namespace = match parsed.roots().contains("lease") {
            true => Namespace::Site(Site::Anywhere),
            false => Namespace::Rendered(parsed),
        };
        Ok(Self { kind, namespace })
    }

    /// The same for one resource.
    pub async fn resolve(&self, evaluator: &dyn Evaluator, about: &About<'_>) -> LeaseKind {
        let site = match &self.namespace {
            Namespace::Site(site) => site.clone(),
            Namespace::Rendered(template) => {
                let rendered = template.render(evaluator, bindings(about, &template.roots())).await;
                match rendered.ok().as_ref().and_then(Value::as_str) {
                    Some(namespace) => Site::Namespace(namespace.to_owned()),
                    // Nothing can be made there: making it fails in the same way.
                    None => Site::Anywhere,
                }
            }
        };
        LeaseKind { kind: self.kind.clone(), site: Some(site) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Blueprint, Resource},
        expression::InLine,
    };
    use serde_json::json;

    #[tokio::test]
    async fn where_a_template_can_make_something_for_a_lease() {
        let account = Account { namespace: "team".into(), name: "builder".into() };
        let blueprint: Blueprint = serde_json::from_value(json!({
            "apiVersion": "drydock.dev/v1alpha1", "kind": "Blueprint", "metadata": {"name": "env", "namespace": "team"},
            "spec": {"resourceType": "env", "driver": {"hosts": {"inventory": []}}},
        }))
        .unwrap();
        let mut resource = Resource::new("env--0", Default::default());
        resource.metadata.namespace = Some("team".into());
        let namespace = |name: &str| Site::Namespace(name.into());
        for (text, expected) in [
            (json!(null), namespace("team")),
            (json!("shared"), namespace("shared")),
            (json!("in-${resource.metadata.name}"), namespace("in-env--0")),
            (json!("${blueprint.metadata.namespace}"), namespace("team")),
            (json!("${lease.metadata.namespace}"), Site::OfLease),
            (json!("${ lease.metadata.namespace }"), Site::OfLease),
            (json!("x-${lease.metadata.namespace}"), Site::Anywhere),
            (json!("${lease.spec.parameters.where}"), Site::Anywhere),
            (json!("${resource.metadata.none}"), Site::Anywhere),
        ] {
            let metadata = json!({"name": "a", "namespace": text});
            let template = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata});
            let site = SiteTemplate::of(&InLine, &account, &template, "here").await.unwrap();
            let about = About { blueprint: &blueprint, resource: &resource, lease: None, objects: None };
            let found = site.resolve(&InLine, &about).await;
            let kind = Kind { api_version: "v1".into(), kind: "Secret".into() };
            assert_eq!(found, LeaseKind { kind, site: Some(expected) }, "{text}");
        }
    }

    /// The form is on record in clusters: what was written once is read by all later versions.
    #[test]
    fn the_form_on_record() {
        let kind = Kind { api_version: "v1".into(), kind: "Secret".into() };
        for (site, written) in [
            (None, json!({"apiVersion": "v1", "kind": "Secret"})),
            (
                Some(Site::Namespace("a".into())),
                json!({"apiVersion": "v1", "kind": "Secret", "site": {"namespace": "a"}}),
            ),
            (Some(Site::OfLease), json!({"apiVersion": "v1", "kind": "Secret", "site": "ofLease"})),
            (Some(Site::Anywhere), json!({"apiVersion": "v1", "kind": "Secret", "site": "anywhere"})),
        ] {
            let lease_kind = LeaseKind { kind: kind.clone(), site };
            assert_eq!(json!(lease_kind), written);
            assert_eq!(serde_json::from_value::<LeaseKind>(written).unwrap(), lease_kind);
        }
    }
}
