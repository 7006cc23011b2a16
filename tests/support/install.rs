//! Drydock in a control plane, as an administrator would install it: `crds/`, then `config/`, with kubectl. Whatever of
//! the two is not in the repository is left out.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::controlplane::{ControlPlane, Error};
use super::credentials::{CONTROLLER_ACCOUNT, Identity};
use super::leash::repository;
use super::sandbox::{documents, resource_of};

/// How long the API server may take until a policy that it has stored is in effect. Up to two seconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// Installs what the repository has, and waits until it is in effect: the kinds are served, the policies bite, and the
/// controller's account has credentials.
pub async fn everything(plane: &ControlPlane) -> Result<(), Error> {
    if crds(plane).await? && config(plane).await? {
        controller_account(plane).await?;
    }
    Ok(())
}

/// Applies `crds/` and waits until the kinds are served. False, if there is no such folder.
pub async fn crds(plane: &ControlPlane) -> Result<bool, Error> {
    let Some(folder) = folder("crds") else { return Ok(false) };
    plane.run_kubectl(Identity::Admin, &["apply", "--server-side", "-f", &folder]).await?;
    plane
        .run_kubectl(Identity::Admin, &["wait", "--for=condition=Established", "--timeout=60s", "-f", &folder])
        .await?;
    Ok(true)
}

/// Applies `config/` and waits until its policies bite. False, if there is no such folder.
pub async fn config(plane: &ControlPlane) -> Result<bool, Error> {
    let Some(folder) = folder("config") else { return Ok(false) };
    plane.run_kubectl(Identity::Admin, &["apply", "--server-side", "-f", &folder]).await?;
    let client = plane.client(Identity::Admin).await;
    policies_in_effect(&client).await?;
    kinds_in_effect(&client).await?;
    Ok(true)
}

/// The path of a folder of the repository, if it has something.
fn folder(name: &str) -> Option<String> {
    let path = repository(name);
    let filled = path.read_dir().is_ok_and(|mut files| files.next().is_some());
    filled.then(|| path.to_string_lossy().into_owned())
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
        let object = DynamicObject::new("drydock-tests-last", &resource_of(kind)).data(json!({"spec": spec}));
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
