//! What admission policies keep, and whether they are there. Without them everything works; but what they refuse only RBAC
//! keeps anybody from then, and so the log says at the start what is not enforced.

use super::{
    clock::ClockHandle,
    writer::{RequestError, in_time},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use std::{collections::BTreeSet, time::Duration};

/// How long until the API server is asked again, where it has not answered.
const AGAIN: Duration = Duration::from_secs(10);

/// Of a policy, what is not so where it is missing. A policy takes effect by the binding of its name.
type Missing = (&'static str, &'static str);

const VALIDATING: [Missing; 8] = [
    ("drydock-one-writer", "that only the controller writes status and creates Resources"),
    ("drydock-teardown", "that nobody else takes the finalizer off before a teardown is done"),
    ("drydock-commands", "that nobody appends a command in another's name, or Forget without the right to"),
    ("drydock-owner", "that nobody makes a Lease in another's name"),
    ("drydock-service-account", "that who writes a Blueprint may act as the service account in it"),
    ("drydock-labels", "that nobody puts Drydock's labels on what Drydock has not made"),
    ("drydock-templates", "that templates leave Drydock's own labels alone"),
    ("drydock-templates-depth", "that templates are not nested deeper than they can be read"),
];

const MUTATING: [Missing; 2] = [
    ("drydock-stamp", "that each command says who appended it"),
    ("drydock-owner", "that each Lease says who made it"),
];

/// Says in the log what is not enforced. Returns when that is known, or when it cannot be.
pub async fn tell(client: Client, clock: ClockHandle) {
    for (kind, policies) in [("ValidatingAdmissionPolicy", &VALIDATING[..]), ("MutatingAdmissionPolicy", &MUTATING[..])]
    {
        loop {
            match bindings(&client, kind).await {
                Ok(there) => break tell_missing(policies, &there),
                // The kind is not known: before Kubernetes 1.36.
                Err(RequestError::NotServed(_)) => break tell_missing(policies, &BTreeSet::new()),
                Err(RequestError::Refused(why)) => {
                    tracing::info!("whether Drydock's admission policies are in force cannot be told: {why}");
                    return;
                }
                Err(_) => clock.sleep(AGAIN).await,
            }
        }
    }
}

fn tell_missing(policies: &[Missing], there: &BTreeSet<String>) {
    for (name, what) in policies.iter().filter(|(name, _)| !there.contains(*name)) {
        tracing::warn!(policy = name, "not enforced: {what}; the chart has the policies");
    }
}

/// The names of the policies that are bound.
async fn bindings(client: &Client, kind: &str) -> Result<BTreeSet<String>, RequestError> {
    let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", &format!("{kind}Binding"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
    let bound = in_time(api.list_metadata(&ListParams::default())).await?;
    Ok(bound.items.iter().map(|binding| binding.name_any()).collect())
}
