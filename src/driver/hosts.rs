//! The driver `hosts`: an inventory of machines, or of any named things. One resource an entry; nothing is done to the
//! machine itself, so every step is free of outside effects (api.md, 6).

use super::{Driver, Work};
use crate::api::{
    Blueprint, Interface, NAME_ATTRIBUTE, Resource, SecretRef,
    blueprint::{Host, HostsDriver},
    step::{Answer, Facts, FreeSteps, Slot, Wait},
};
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use std::hash::Hasher as _;

/// See the module.
pub struct Hosts;

/// What is on record of a host as `status.built`: the entry as it was.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Built {
    driver: String,
    host: Host,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_ref: Option<SecretRef>,
}

impl Driver for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    fn free_steps(&self, _: Option<&Blueprint>, _: Option<&serde_json::Value>) -> FreeSteps {
        FreeSteps::ALL
    }

    fn slots(&self, blueprint: &Blueprint) -> Option<Vec<Slot>> {
        let hosts = blueprint.spec.driver.hosts.as_ref()?;
        Some(hosts.inventory.iter().map(|host| slot(blueprint, hosts, host)).collect())
    }

    fn identity(&self, resource: &Resource) -> Option<String> {
        let built = resource.status.as_ref()?.built.clone()?;
        identity(&serde_json::from_value::<Built>(built).ok()?.host)
    }

    fn allocate(&self, work: Work) -> BoxFuture<'static, serde_json::Value> {
        futures::future::ready(record(&work)).boxed()
    }

    fn build(&self, work: Work) -> BoxFuture<'static, Answer> {
        let built = || {
            let (blueprint, resource) = (work.blueprint.as_deref()?, work.resource.as_deref()?);
            let (hosts, host) = entry(blueprint, resource)?;
            Some(Facts {
                interfaces: interfaces(host, secret_ref(blueprint, hosts, host)),
                outputs: host.outputs.clone(),
                built: Some(record(&work)),
                ..Facts::default()
            })
        };
        // Without an entry the resource is drained by the next pass; there is nothing to build from.
        let answer = built().map_or(Answer::Again(Wait::after(crate::api::Duration::from_secs(1))), Answer::Done);
        futures::future::ready(answer).boxed()
    }

    fn activate(&self, work: Work) -> BoxFuture<'static, Answer> {
        let status = work.resource.and_then(|r| r.status.clone()).unwrap_or_default();
        let facts = Facts { interfaces: status.interfaces, outputs: status.outputs, ..Facts::default() };
        futures::future::ready(Answer::Done(facts)).boxed()
    }

    fn tear_down_lease(&self, _: Work) -> BoxFuture<'static, Answer> {
        futures::future::ready(Answer::Done(Facts::default())).boxed()
    }

    fn tear_down_resource(&self, _: Work) -> BoxFuture<'static, Answer> {
        futures::future::ready(Answer::Done(Facts::default())).boxed()
    }
}

/// The entry as it is; of a lease, only whose it is.
fn record(work: &Work) -> serde_json::Value {
    let built = || {
        let (blueprint, resource) = (work.blueprint.as_deref()?, work.resource.as_deref()?);
        let (hosts, host) = entry(blueprint, resource)?;
        let driver = Hosts.name().to_owned();
        serde_json::to_value(Built { driver, host: host.clone(), secret_ref: secret_ref(blueprint, hosts, host) }).ok()
    };
    built().filter(|_| work.lease.is_none()).unwrap_or_else(|| serde_json::json!({"driver": Hosts.name()}))
}

fn entry<'a>(blueprint: &'a Blueprint, resource: &Resource) -> Option<(&'a HostsDriver, &'a Host)> {
    let hosts = blueprint.spec.driver.hosts.as_ref()?;
    let host = hosts.inventory.iter().find(|host| Some(host.name.as_str()) == resource.slot())?;
    Some((hosts, host))
}

fn slot(blueprint: &Blueprint, hosts: &HostsDriver, host: &Host) -> Slot {
    let mut attributes = blueprint.spec.attributes.clone();
    attributes.extend(host.attributes.clone());
    let template_hash = hash(&(&attributes, as_built(host), secret_ref(blueprint, hosts, host)));
    // Not part of the hash: the name of a slot cannot change.
    attributes.insert(NAME_ATTRIBUTE.to_owned(), host.name.clone());
    Slot {
        name: host.name.clone(),
        template_hash,
        attributes,
        enabled: host.disabled != Some(true),
        taken: false,
        identity: identity(host),
    }
}

/// Two entries with the same address and port are the same machine.
fn identity(host: &Host) -> Option<String> {
    host.address.as_ref().map(|address| format!("{address}:{}", port(host)))
}

/// The entry without what does not change the environment.
fn as_built(host: &Host) -> Host {
    Host { disabled: None, port: host.address.as_ref().map(|_| port(host)), ..host.clone() }
}

/// Short, the same in every process and version: it is compared with what an earlier one wrote.
fn hash<T: Serialize>(value: &T) -> String {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(serde_json::to_string(value).unwrap_or_default().as_bytes());
    format!("{:016x}", hasher.finish())
}

fn interfaces(host: &Host, secret_ref: Option<SecretRef>) -> Vec<Interface> {
    let interface = |address: &String| Interface {
        name: "ssh".into(),
        type_: "ssh".into(),
        address: Some(address.clone()),
        port: Some(port(host)),
        user: host.user.clone(),
        path: None,
        host_keys: host.host_keys.clone(),
        secret_ref,
    };
    host.address.as_ref().map(interface).into_iter().collect()
}

fn port(host: &Host) -> i32 {
    host.port.unwrap_or(22)
}

fn secret_ref(blueprint: &Blueprint, hosts: &HostsDriver, host: &Host) -> Option<SecretRef> {
    let named = host.secret_ref.as_ref().or(hosts.credentials_secret_ref.as_ref())?;
    Some(SecretRef { namespace: blueprint.metadata.namespace.clone().unwrap_or_default(), name: named.name.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BlueprintSpec, blueprint, common::LocalSecretRef};

    fn blueprint(inventory: Vec<Host>) -> Blueprint {
        let hosts = HostsDriver { inventory, credentials_secret_ref: Some(LocalSecretRef { name: "shared".into() }) };
        let spec = BlueprintSpec {
            resource_type: "host".into(),
            attributes: [("arch".into(), "amd64".into()), ("site".into(), "a".into())].into(),
            driver: blueprint::Driver { hosts: Some(hosts), ..Default::default() },
            ..Default::default()
        };
        let mut blueprint = Blueprint::new("ci", spec);
        blueprint.metadata.namespace = Some("pool".into());
        blueprint
    }

    fn host(name: &str) -> Host {
        Host { name: name.into(), address: Some("192.0.2.7".into()), ..Host::default() }
    }

    #[test]
    fn the_slots_are_the_entries_and_an_entrys_own_attributes_win() {
        let forged = (NAME_ATTRIBUTE.into(), "h2".into());
        let own = Host { attributes: [("arch".into(), "arm64".into()), forged].into(), ..host("h1") };
        let off = Host { disabled: Some(true), address: None, ..host("h2") };
        let slots = Hosts.slots(&blueprint(vec![own, off])).unwrap();
        let expected = [("arch", "arm64"), ("drydock.dev/name", "h1"), ("site", "a")];
        assert_eq!(slots[0].attributes, expected.map(|(key, value)| (key.into(), value.into())).into());
        assert_eq!(slots[0].identity.as_deref(), Some("192.0.2.7:22"));
        assert_eq!((slots[1].enabled, &slots[1].identity), (false, &None));
    }

    #[test]
    fn only_what_changes_the_environment_changes_the_hash() {
        let hash = |host: Host| Hosts.slots(&blueprint(vec![host])).unwrap().remove(0).template_hash;
        let before = hash(host("h1"));
        assert_eq!(before, hash(Host { disabled: Some(true), ..host("h1") }));
        assert_eq!(before, hash(Host { port: Some(22), ..host("h1") }));
        for changed in [
            Host { port: Some(2222), ..host("h1") },
            Host { user: Some("ci".into()), ..host("h1") },
            Host { address: Some("192.0.2.8".into()), ..host("h1") },
            Host { host_keys: vec!["ssh-ed25519 AAAA".into()], ..host("h1") },
            Host { outputs: [("a".into(), "b".into())].into(), ..host("h1") },
            Host { secret_ref: Some(LocalSecretRef { name: "own".into() }), ..host("h1") },
            Host { attributes: [("arch".into(), "arm64".into())].into(), ..host("h1") },
        ] {
            assert_ne!(before, hash(changed.clone()), "{changed:?}");
        }
    }

    #[test]
    fn an_entry_with_an_address_gives_one_interface_and_one_without_gives_none() {
        let blueprint = blueprint(vec![host("h1"), Host { address: None, ..host("licence") }]);
        for (slot, interfaces) in [("h1", 1), ("licence", 0)] {
            let mut resource = Resource::new(&format!("ci--{slot}"), crate::api::ResourceSpec::default());
            resource.spec.blueprint_ref.name = "ci".into();
            let work = Work {
                key: crate::api::step::EffectKey::of_resource("u"),
                resource: Some(Arc::new(resource)),
                blueprint: Some(Arc::new(blueprint.clone())),
                lease: None,
                told: String::new(),
            };
            let Some(Answer::Done(facts)) = Hosts.build(work).now_or_never() else { panic!("it is built at once") };
            assert_eq!(facts.interfaces.len(), interfaces, "{slot}");
            if let Some(ssh) = facts.interfaces.first() {
                assert_eq!((ssh.name.as_str(), ssh.port), ("ssh", Some(22)));
                let secret = ssh.secret_ref.as_ref().map(|s| (s.namespace.as_str(), s.name.as_str()));
                assert_eq!(secret, Some(("pool", "shared")));
            }
        }
    }

    use std::sync::Arc;
}
