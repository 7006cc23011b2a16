//! People beside those who have credentials of their own: whoever a story needs, with just the rights it gives them.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::support::sandbox::resource_of;
use crate::support::{ControlPlane, Identity, Sandbox};

/// A person or an account, by the name that the API server knows them by.
pub struct Person {
    pub user: String,
    client: Client,
    namespace: String,
}

impl Person {
    /// Somebody without any rights. The admin impersonates them: to the API server it is them who act.
    pub async fn named(sandbox: &Sandbox<'_>, user: &str) -> Person {
        Person::of_groups(sandbox, user, &[]).await
    }

    /// Somebody without any rights, who is in these groups.
    pub async fn of_groups(sandbox: &Sandbox<'_>, user: &str, groups: &[&str]) -> Person {
        Person {
            user: user.to_owned(),
            client: acting_as(sandbox.plane(), user, groups).await,
            namespace: sandbox.namespace().to_owned(),
        }
    }

    /// A ServiceAccount of the sandbox's namespace.
    pub async fn account(sandbox: &Sandbox<'_>, name: &str) -> Person {
        Person::named(sandbox, &format!("system:serviceaccount:{}:{name}", sandbox.namespace())).await
    }

    /// Lets them do this with these of our resources (`leases`, `leases/status`) in the sandbox, and waits until the API
    /// server knows.
    pub async fn may(self, sandbox: &Sandbox<'_>, verbs: &[&str], resources: &[&str]) -> Person {
        self.may_with(sandbox, json!([{"apiGroups": ["drydock.dev"], "resources": resources, "verbs": verbs}])).await;
        self.knows(verbs.last().unwrap(), resources.last().unwrap()).await;
        self
    }

    /// The same, for a role as a whole.
    pub async fn may_with(&self, sandbox: &Sandbox<'_>, rules: serde_json::Value) {
        let name = format!("people-{:08x}", crate::support::random() & 0xffff_ffff);
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules,
        });
        sandbox.apply(Identity::Admin, &role.to_string()).await;
        self.bind(sandbox, "Role", &name).await;
    }

    /// Binds them to a ClusterRole in the sandbox, and waits until they may do this, which comes with it.
    pub async fn with_cluster_role(self, sandbox: &Sandbox<'_>, role: &str, verb: &str, resource: &str) -> Person {
        self.bind(sandbox, "ClusterRole", role).await;
        self.knows(verb, resource).await;
        self
    }

    async fn bind(&self, sandbox: &Sandbox<'_>, kind: &str, role: &str) {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("people-{:08x}", crate::support::random() & 0xffff_ffff)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user}],
        });
        sandbox.apply(Identity::Admin, &binding.to_string()).await;
    }

    /// Waits until they may do this: the authorizer learns of a new binding from a watch.
    async fn knows(&self, verb: &str, resource: &str) {
        let what = format!("{} may {verb} {resource} in {}", self.user, self.namespace);
        crate::told::asked_until(&what, async || self.is_allowed(verb, resource).await).await;
    }

    /// Whether RBAC lets them do this with one of our resources.
    pub async fn is_allowed(&self, verb: &str, resource: &str) -> bool {
        self.is_allowed_in("drydock.dev", verb, resource).await
    }

    /// Whether RBAC lets them do this with one of Kubernetes' own.
    pub async fn is_allowed_in_core(&self, verb: &str, resource: &str) -> bool {
        self.is_allowed_in("", verb, resource).await
    }

    async fn is_allowed_in(&self, group: &str, verb: &str, resource: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: Some(subresource.to_owned()).filter(|name| !name.is_empty()),
            namespace: Some(self.namespace.clone()),
            verb: Some(verb.to_owned()),
            ..Default::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        answer.status.is_some_and(|status| status.allowed)
    }

    /// Objects of a kind that lives in no namespace, as they see them.
    pub fn cluster(&self, kind: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource_of(kind))
    }

    /// The objects of a kind, as they see them.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource_of(kind))
    }
}

async fn acting_as(plane: &ControlPlane, user: &str, groups: &[&str]) -> Client {
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig(Identity::Admin)).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(user.to_owned());
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    config.auth_info.impersonate_groups = Some(groups).filter(|groups| !groups.is_empty());
    Client::try_from(config).unwrap()
}

/// A new object of ours, of a kind and with a name and a spec.
pub fn object(kind: &str, name: &str, spec: serde_json::Value) -> DynamicObject {
    DynamicObject::new(name, &resource_of(kind)).data(json!({"spec": spec}))
}
