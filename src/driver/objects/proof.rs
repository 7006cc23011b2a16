//! What proves that Drydock made an object: a digest over its place and the key that it was made under, keyed with a secret of
//! the controller. Labels and the names of field managers prove nothing: whoever may write an object can set them.
//!
//! The secret is the Secret that `--key-secret` names. The chart installs it empty and the controller fills it once. Without it
//! everything else works; but nothing can be proved then, so that only what is on record by its UID is ever deleted.

use super::{
    kinds::Kind,
    plan::{ATTEMPT, OWNER, RESOURCE, labels_of},
};
use crate::{api::step::EffectKey, driver::SecretName};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, Error,
    api::{ObjectMeta, PostParams},
};
use ring::hmac;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// The annotation that holds the digest.
pub const PROOF: &str = "drydock.dev/proof";

/// The entry of the Secret's data that holds the key, and how many bytes it has at least.
const ENTRY: &str = "key";
const LENGTH: usize = 32;

/// The Secret is read again when it was last read so long ago: a backup may have put back another.
const FRESH: Duration = Duration::from_secs(60);
/// Where the controller may not read it, it is tried again after so long.
const REFUSED: Duration = Duration::from_secs(300);
/// An API server that has just started refuses everything until it knows who may do what: a refusal counts when it was given so
/// often, so long apart.
const REFUSALS: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(1);

/// Reads, or fills, the Secret.
pub struct Prover {
    client: Client,
    secret: SecretName,
    known: Mutex<Option<Known>>,
}

struct Known {
    proofs: Proofs,
    at: Instant,
}

/// Makes proofs, and checks them; with no key it does neither.
#[derive(Clone, Debug)]
pub struct Proofs {
    key: Option<Arc<Key>>,
}

struct Key {
    bytes: Vec<u8>,
    key: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Prover {
    /// One that has not read the Secret yet.
    pub fn new(client: Client, secret: SecretName) -> Self {
        Self { client, secret, known: Mutex::default() }
    }

    /// What proofs are made and checked by now.
    ///
    /// # Errors
    /// Where the API server does not answer, and the key was never read.
    pub async fn proofs(&self) -> Result<Proofs, Error> {
        let mut known = self.known.lock().await;
        let before = match &*known {
            Some(Known { proofs, at }) => {
                let lasts = if proofs.key.is_some() { FRESH } else { REFUSED };
                if at.elapsed() < lasts {
                    return Ok(proofs.clone());
                }
                proofs.key.clone()
            }
            None => None,
        };
        let key = match self.read(before.as_deref()).await {
            Ok(key) => Some(Arc::new(key)),
            // What was read once still holds.
            Err(_) if before.is_some() => before,
            Err(error) if is_refusal(&error) => {
                tracing::warn!(
                    namespace = self.secret.namespace,
                    secret = self.secret.name,
                    "the Secret with the controller's key cannot be used: {error}; what Drydock makes from templates cannot be \
                     proved to be its own, and only what is on record by its UID is deleted"
                );
                None
            }
            Err(error) => return Err(error),
        };
        let proofs = Proofs { key };
        *known = Some(Known { proofs: proofs.clone(), at: Instant::now() });
        Ok(proofs)
    }

    /// The key in the Secret. One that is empty is filled with the key that this process knows, or with a new one; what is there
    /// is never replaced.
    async fn read(&self, known: Option<&Key>) -> Result<Key, Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.secret.namespace);
        let mut refusals = 0;
        loop {
            match self.read_once(&api, known).await {
                Ok(key) => return Ok(key),
                // Another controller was faster: its key counts.
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) if is_refusal(&error) && known.is_none() && refusals + 1 < REFUSALS => {
                    refusals += 1;
                    tokio::time::sleep(BETWEEN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_once(&self, api: &Api<Secret>, known: Option<&Key>) -> Result<Key, Error> {
        let name = self.secret.name.as_str();
        let found = match super::in_time(api.get(name)).await {
            Ok(found) => Some(found),
            Err(Error::Api(status)) if crate::api::is_not_found(&status, name) => None,
            Err(error) => return Err(error),
        };
        if let Some(bytes) = found.as_ref().and_then(|secret| secret.data.as_ref()?.get(ENTRY))
            && bytes.0.len() >= LENGTH
        {
            return Ok(Key::new(bytes.0.clone()));
        }
        let bytes = match known {
            Some(known) => known.bytes.clone(),
            None => random()?,
        };
        let exists = found.is_some();
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let mut secret = found.unwrap_or_else(|| Secret { metadata, ..Secret::default() });
        secret.data.get_or_insert_default().insert(ENTRY.to_owned(), ByteString(bytes.clone()));
        let params = PostParams::default();
        let written = match exists {
            // With its resourceVersion: of two that fill it one is told of a conflict.
            true => super::in_time(api.replace(name, &params, &secret)).await,
            false => super::in_time(api.create(&params, &secret)).await,
        };
        written.map(|_| Key::new(bytes))
    }
}

/// The API server has answered, and it is no.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 405 | 422))
}

fn random() -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| Error::Service(format!("no random number: {error}").into()))?;
    Ok(bytes)
}

impl Key {
    fn new(bytes: Vec<u8>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        Self { bytes, key }
    }
}

impl Proofs {
    /// Whether anything can be proved.
    pub fn can_prove(&self) -> bool {
        self.key.is_some()
    }

    /// The proof of an object that is made under a key; `namespace` is empty for a kind that lives in none.
    pub fn of(&self, effect: &EffectKey, kind: &Kind, namespace: &str, name: &str) -> Option<String> {
        let tag = hmac::sign(&self.key.as_ref()?.key, &said(effect, kind, namespace, name));
        Some(tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether an object was made by Drydock under the key that its labels name.
    pub fn is_made_here(&self, meta: &ObjectMeta, kind: &Kind) -> bool {
        let Some(effect) = effect_of(meta) else { return false };
        let proof = meta.annotations.as_ref().and_then(|all| all.get(PROOF)).and_then(|proof| bytes(proof));
        let (Some(key), Some(proof), Some(name)) = (&self.key, proof, &meta.name) else { return false };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        hmac::verify(&key.key, &said(&effect, kind, namespace, name), &proof).is_ok()
    }

    /// Whether an object was made by Drydock under this key.
    pub fn is_of(&self, meta: &ObjectMeta, kind: &Kind, effect: &EffectKey) -> bool {
        let labels = meta.labels.as_ref();
        labels_of(effect).iter().all(|(label, value)| labels.and_then(|l| l.get(*label)) == Some(value))
            && self.is_made_here(meta, kind)
    }
}

/// What the digest is over. The group and not the version: an object can be read in another version than it was made in.
fn said(effect: &EffectKey, kind: &Kind, namespace: &str, name: &str) -> Vec<u8> {
    let (group, _) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
    let lease = effect.lease.as_ref().map(|(uid, attempt)| (uid, attempt));
    serde_json::json!(["drydock.dev/v1", effect.resource, lease, group, kind.kind, namespace, name])
        .to_string()
        .into_bytes()
}

/// The key that an object's labels name.
fn effect_of(meta: &ObjectMeta) -> Option<EffectKey> {
    let label = |name: &str| meta.labels.as_ref()?.get(name);
    let (resource, owner) = (label(RESOURCE)?.clone(), label(OWNER)?.clone());
    let lease = match label(ATTEMPT) {
        Some(attempt) => Some((owner, attempt.parse().ok()?)),
        None if owner == resource => None,
        None => return None,
    };
    Some(EffectKey { resource, lease })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(key: u8) -> Proofs {
        Proofs { key: Some(Arc::new(Key::new(vec![key; LENGTH]))) }
    }

    fn effect(resource: &str, lease: Option<(&str, i64)>) -> EffectKey {
        EffectKey { resource: resource.into(), lease: lease.map(|(uid, attempt)| (uid.to_owned(), attempt)) }
    }

    fn kind(api_version: &str, kind: &str) -> Kind {
        Kind { api_version: api_version.into(), kind: kind.into() }
    }

    fn made(proofs: &Proofs, effect: &EffectKey, of: &Kind, namespace: &str, name: &str) -> ObjectMeta {
        let labels = labels_of(effect).into_iter().map(|(label, value)| (label.to_owned(), value)).collect();
        let proof = proofs.of(effect, of, namespace, name).unwrap();
        ObjectMeta {
            name: Some(name.into()),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            labels: Some(labels),
            annotations: Some([(PROOF.to_owned(), proof)].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_proof_holds_for_the_object_that_it_was_made_for() {
        let (map, proofs) = (kind("v1", "ConfigMap"), proofs(1));
        for effect in [effect("r", None), effect("r", Some(("l", 0))), effect("r", Some(("l", 3)))] {
            let object = made(&proofs, &effect, &map, "a", "b");
            assert!(proofs.is_of(&object, &map, &effect), "{effect:?}");
        }
        let space = kind("v1", "Namespace");
        assert!(proofs.is_of(&made(&proofs, &effect("r", None), &space, "", "b"), &space, &effect("r", None)));
        let (old, new) = (kind("example.org/v1alpha1", "Widget"), kind("example.org/v1", "Widget"));
        assert!(
            proofs.is_made_here(&made(&proofs, &effect("r", None), &old, "a", "b"), &new),
            "read in another version"
        );
    }

    /// Each of these is what somebody could write who sees an object of ours, and may label another.
    #[test]
    fn a_proof_that_is_copied_or_made_up_is_none() {
        let (map, ours) = (kind("v1", "ConfigMap"), proofs(1));
        let key = effect("r", Some(("l", 0)));
        let right = || made(&ours, &key, &map, "a", "b");
        let label = |name: &str, value: Option<&str>| {
            let mut object = right();
            let labels = object.labels.as_mut().unwrap();
            match value {
                Some(value) => labels.insert(name.to_owned(), value.to_owned()),
                None => labels.remove(name),
            };
            object
        };
        let proof =
            |proof: &str| ObjectMeta { annotations: Some([(PROOF.to_owned(), proof.to_owned())].into()), ..right() };
        for (what, object) in [
            ("on another name", ObjectMeta { name: Some("prod".into()), ..right() }),
            ("in another namespace", ObjectMeta { namespace: Some("c".into()), ..right() }),
            ("in no namespace", ObjectMeta { namespace: None, ..right() }),
            ("of another resource", label(RESOURCE, Some("r2"))),
            ("of another lease", label(OWNER, Some("l2"))),
            ("of the resource itself", label(OWNER, Some("r"))),
            ("of another attempt", label(ATTEMPT, Some("1"))),
            ("of no attempt", label(ATTEMPT, None)),
            ("without a label", label(RESOURCE, None)),
            ("without labels", ObjectMeta { labels: None, ..right() }),
            ("without a proof", ObjectMeta { annotations: None, ..right() }),
            ("an empty proof", proof("")),
            ("no digest", proof(&"ä".repeat(32))),
            ("all zeros", proof(&"0".repeat(64))),
            ("with another key", made(&proofs(2), &key, &map, "a", "b")),
        ] {
            assert!(!ours.is_made_here(&object, &map), "{what}");
        }
        assert!(!ours.is_made_here(&right(), &kind("v1", "Secret")), "of another kind");
        assert!(!ours.is_made_here(&right(), &kind("example.org/v1", "ConfigMap")), "of another group");
        assert!(!ours.is_of(&right(), &map, &effect("r", Some(("l", 1)))), "asked for another key");
        let none = Proofs { key: None };
        assert!(!none.is_made_here(&right(), &map) && none.of(&key, &map, "a", "b").is_none());
    }

    /// The form is on objects in clusters: a proof that was written once holds in all later versions.
    #[test]
    fn the_form_of_a_proof() {
        let proof = proofs(7).of(&effect("r", Some(("l", 2))), &kind("apps/v1", "Deployment"), "a", "b").unwrap();
        assert_eq!(proof, "84e3452fe66e29a742da2f19d20bec78075e8d7cd14799fbfa5fccd95f7b09ad");
    }

    /// The Secret as an API server keeps it, and what was asked of it.
    #[derive(Default)]
    struct Server {
        secret: Option<serde_json::Value>,
        refuses: bool,
        /// Another controller fills it before the first write arrives.
        other: Option<u8>,
        asked: Vec<String>,
    }

    fn status(code: u16, reason: &str) -> (u16, serde_json::Value) {
        let details = serde_json::json!({"name": "k", "kind": "secrets"});
        (
            code,
            serde_json::json!({"kind": "Status", "code": code, "reason": reason, "message": reason, "details": details}),
        )
    }

    fn secret(version: u32, key: Option<&[u8]>) -> serde_json::Value {
        let data = key.map(|key| serde_json::json!({"key": ByteString(key.to_vec())}));
        serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "k", "resourceVersion": version.to_string()}, "data": data})
    }

    impl Server {
        fn answer(&mut self, method: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
            self.asked.push(method.to_owned());
            if self.refuses {
                return status(403, "Forbidden");
            }
            if method != "GET"
                && let Some(other) = self.other.take()
            {
                self.secret = Some(secret(9, Some(&[other; LENGTH])));
            }
            match (method, &self.secret) {
                ("GET", Some(secret)) => (200, secret.clone()),
                ("POST", None) => {
                    self.secret = Some(body.clone());
                    (201, body)
                }
                ("POST", Some(_)) => status(409, "AlreadyExists"),
                ("PUT", Some(now)) if now["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"] => {
                    self.secret = Some(body.clone());
                    (200, body)
                }
                ("PUT", Some(_)) => status(409, "Conflict"),
                _ => status(404, "NotFound"),
            }
        }
    }

    fn prover(server: &Arc<std::sync::Mutex<Server>>) -> Prover {
        let server = server.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let method = request.method().to_string();
                let body = request.into_body().collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answer) = server.lock().unwrap().answer(&method, body);
                let answer = kube::client::Body::from(answer.to_string().into_bytes());
                Ok::<_, kube::Error>(http::Response::builder().status(code).body(answer).unwrap())
            }
        });
        Prover::new(Client::new(service, "n"), SecretName { namespace: "n".into(), name: "k".into() })
    }

    async fn key_of(prover: &Prover) -> Option<Vec<u8>> {
        Some(prover.proofs().await.unwrap().key.as_ref()?.bytes.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_is_read_or_put_in_once_and_never_replaced() {
        let there = Some(secret(1, Some(&[5; LENGTH])));
        for (what, secret, other, expected, asked) in [
            ("it is there", there, None, Some(5), &["GET"][..]),
            ("the Secret is empty", Some(secret(1, None)), None, None, &["GET", "PUT"]),
            ("the key is too short", Some(secret(1, Some(&[1; 4]))), None, None, &["GET", "PUT"]),
            ("there is no Secret", None, None, None, &["GET", "POST"]),
            ("another fills it meanwhile", Some(secret(1, None)), Some(6), Some(6), &["GET", "PUT", "GET"]),
            ("another creates it meanwhile", None, Some(7), Some(7), &["GET", "POST", "GET"]),
        ] {
            let server = Arc::new(std::sync::Mutex::new(Server { secret, other, ..Server::default() }));
            let key = key_of(&prover(&server)).await.unwrap();
            assert!(expected.is_none_or(|byte: u8| key == [byte; LENGTH]), "{what}");
            assert_eq!(server.lock().unwrap().asked, asked, "{what}");
            assert_eq!(key_of(&prover(&server)).await, Some(key), "{what}: the next controller has the same");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_known_outlives_what_becomes_of_its_secret() {
        let server = Arc::new(std::sync::Mutex::new(Server { secret: Some(secret(1, None)), ..Server::default() }));
        let prover = prover(&server);
        let key = key_of(&prover).await;
        assert!(key.is_some());
        server.lock().unwrap().refuses = true;
        tokio::time::sleep(FRESH * 2).await;
        assert_eq!(key_of(&prover).await, key, "refused");
        *server.lock().unwrap() = Server { secret: Some(secret(3, None)), ..Server::default() };
        tokio::time::sleep(FRESH * 2).await;
        assert_eq!(key_of(&prover).await, key, "emptied");
        assert_eq!(key_of(&super::tests::prover(&server)).await, key, "and it was put back");
        // A backup has put back another: that counts, and what was made with it can be proved again.
        server.lock().unwrap().secret = Some(secret(4, Some(&[8; LENGTH])));
        tokio::time::sleep(FRESH * 2).await;
        assert_eq!(key_of(&prover).await, Some(vec![8; LENGTH]));
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_secret_may_not_be_used_nothing_is_proved_and_it_is_tried_again() {
        let server = Arc::new(std::sync::Mutex::new(Server { refuses: true, ..Server::default() }));
        let prover = prover(&server);
        assert_eq!(key_of(&prover).await, None);
        assert_eq!(server.lock().unwrap().asked.len(), 3, "an API server that has just started refuses everything");
        assert_eq!(key_of(&prover).await, None);
        assert_eq!(server.lock().unwrap().asked.len(), 3);
        server.lock().unwrap().refuses = false;
        tokio::time::sleep(REFUSED * 2).await;
        assert!(key_of(&prover).await.is_some());
    }
}
