//! Drydock in a control plane, as an administrator would install it: `install.yaml` with kubectl. That is what the chart
//! renders with its defaults, so whatever runs here runs under the chart's roles and policies. The Deployment is left out: no
//! node would run its Pods.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::controlplane::{ControlPlane, Error};
use super::credentials::{CONTROLLER_ACCOUNT, Identity};
use super::leash::repository;
use super::sandbox::{documents, resource_of};

/// How long the API server may take until a policy that it has stored is in effect. Up to two seconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// The ClusterRole by which the controller acts as the service accounts of a namespace that it is bound in.
const IMPERSONATOR: &str = "drydock-impersonator";

/// What an administrator makes in each namespace with Blueprints of the driver `objects`: without it, the controller may act
/// as nobody there.
pub fn impersonation() -> Value {
    let (namespace, name) = CONTROLLER_ACCOUNT;
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": IMPERSONATOR},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": IMPERSONATOR},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    })
}

/// Installs it, and waits until it is in effect: the kinds are served, the policies bite, and the controller's account has
/// credentials.
pub async fn everything(plane: &ControlPlane) -> Result<(), Error> {
    let path = repository("install.yaml");
    let yaml = std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
    rendered(plane, documents(&yaml)).await?;
    controller_account(plane).await
}

/// Applies what the chart has rendered, but for its Deployment, and waits until kinds and policies are in effect.
pub async fn rendered(plane: &ControlPlane, mut items: Vec<Value>) -> Result<(), Error> {
    items.retain(|object| object["kind"] != "Deployment");
    apply_with(plane, items, &["--server-side"]).await?;
    in_effect(plane).await
}

/// Waits until the kinds are served, and the policies that are stored by now bite.
pub async fn in_effect(plane: &ControlPlane) -> Result<(), Error> {
    established(plane, &repository("crds").to_string_lossy()).await?;
    let client = plane.client(Identity::Admin).await;
    policies_in_effect(&client).await?;
    kinds_in_effect(&client).await
}

/// Applies objects as administrator, with further arguments for kubectl.
pub async fn apply_with(plane: &ControlPlane, items: Vec<Value>, more: &[&str]) -> Result<String, Error> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let path = plane.folder().join(format!("install-{:08x}.json", super::random() as u32));
    let file = path.to_string_lossy().into_owned();
    std::fs::write(&path, list.to_string()).map_err(|source| Error::File { path, source })?;
    plane.run_kubectl(Identity::Admin, &[&["apply", "-f", &file], more].concat()).await
}

/// Applies `crds/` and nothing else, and waits until the kinds are served.
pub async fn crds(plane: &ControlPlane) -> Result<(), Error> {
    let folder = repository("crds");
    let folder = folder.to_string_lossy();
    plane.run_kubectl(Identity::Admin, &["apply", "--server-side", "-f", &folder]).await?;
    established(plane, &folder).await
}

async fn established(plane: &ControlPlane, folder: &str) -> Result<(), Error> {
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", folder];
    plane.run_kubectl(Identity::Admin, &wait).await?;
    Ok(())
}

/// Gives the controller's ServiceAccount a token that outlasts any test, and writes its kubeconfig.
pub async fn controller_account(plane: &ControlPlane) -> Result<(), Error> {
    let (namespace, name) = CONTROLLER_ACCOUNT;
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(Identity::Admin).await, namespace);
    let month = TokenRequestSpec { expiration_seconds: Some(30 * 24 * 3600), ..Default::default() };
    let request = TokenRequest { spec: month, ..Default::default() };
    let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
    plane.credentials().add_controller(&answer.status.map(|status| status.token).unwrap_or_default())?;
    Ok(())
}

/// Waits until all admission policies that are stored are in effect.
///
/// The API server takes them over together, in the order in which they were stored, about once a second. So this stores
/// two more, a mutating one that marks a certain ConfigMap and a validating one that refuses what bears the mark: when
/// that is refused, both of them are in effect, and with them all that were stored before.
async fn policies_in_effect(client: &Client) -> Result<(), Error> {
    for policy in documents(LAST_POLICIES) {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource_of(policy["kind"].as_str().unwrap()));
        let name = policy["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply("drydock-tests").force(), &Patch::Apply(&policy)).await?;
    }

    let probes: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let probe = ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some("drydock-tests-last".into()), ..Default::default() },
        ..Default::default()
    };
    let dry = PostParams { dry_run: true, ..Default::default() };
    let start = Instant::now();
    loop {
        match probes.create(&dry, &probe).await {
            Err(kube::Error::Api(status)) if status.message.contains("drydock-tests-last") => break,
            Err(error) => return Err(error.into()),
            Ok(_) => patience(start, "the admission policies")?,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    for policy in documents(LAST_POLICIES) {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource_of(policy["kind"].as_str().unwrap()));
        api.delete(policy["metadata"]["name"].as_str().unwrap(), &Default::default()).await?;
    }
    Ok(())
}

const LAST_POLICIES: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: drydock-tests-last}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps], resourceNames: [drydock-tests-last]}
  mutations:
  - {patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: "add", path: "/data", value: {"marked": "yes"}}]'}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: drydock-tests-last}
spec: {policyName: drydock-tests-last}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: drydock-tests-last}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps], resourceNames: [drydock-tests-last]}
  validations:
  - {expression: '!has(object.data) || !("marked" in object.data)', message: "drydock-tests-last is in effect"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: drydock-tests-last}
spec: {policyName: drydock-tests-last, validationActions: [Deny]}
"#;

/// Waits until a mutating policy knows our kinds: it learns the schema of a new kind a while after the kind is served, and
/// refuses its objects until then.
async fn kinds_in_effect(client: &Client) -> Result<(), Error> {
    let dry = PostParams { dry_run: true, ..Default::default() };
    let hosts = json!({"hosts": {"inventory": [{"name": "h1"}]}});
    for (kind, spec) in
        [("Lease", json!({"resourceType": "host"})), ("Blueprint", json!({"resourceType": "host", "driver": hosts}))]
    {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource_of(kind));
        let mut object = DynamicObject::new("drydock-tests-last", &resource_of(kind)).data(json!({"spec": spec}));
        // Without mutating policies nobody but its maker says whose a Lease is.
        object.metadata.annotations = Some([("drydock.dev/owner".to_owned(), "admin".to_owned())].into());
        let start = Instant::now();
        while let Err(error) = api.create(&dry, &object).await {
            patience(start, &format!("a policy that knows the kind {kind} ({error})"))?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

fn patience(start: Instant, what: &str) -> Result<(), Error> {
    if start.elapsed() < PATIENCE {
        Ok(())
    } else {
        Err(Error::NotInEffect { what: what.to_owned(), waited: start.elapsed() })
    }
}
