//! Removing: the objects of a key in reverse order, each by its UID, and each seen gone before the next.

use super::{
    Workshop, failure, in_time, is_missing,
    kinds::Known,
    plan::{OWNER, RESOURCE, labels_of, owner_of},
    read,
    record::{Made, Record, is_made_here},
    refused,
};
use crate::{
    api::{
        Duration,
        step::{Answer, EffectKey, Facts, StepKind, Wait},
    },
    driver::Work,
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Preconditions},
};
use std::{collections::BTreeSet, sync::Arc};

/// What was asked of the API server just before a crash may still arrive: where it is not on record whether an object was
/// made, it is looked for once more after so long.
const SECOND_LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// What has come of the removal of one object.
enum Removal {
    /// It is gone, by the API server's own word.
    Gone,
    /// It is there still, and why.
    Remains(String),
}

impl Workshop {
    /// Removes what was made under the work's key.
    pub(super) async fn remove(self: Arc<Self>, kind: StepKind, work: Work) -> Answer {
        // What this process has asked for under the key is over before anything is looked for, and nothing is asked any more.
        self.close(&work.key).await;
        let record = match Record::of(&work) {
            Ok(Some(record)) => record,
            Ok(None) if work.key.lease.is_some() && work.lease.is_none() => return self.sweep_vanished(&work).await,
            Ok(None) => return Answer::Done(Facts::default()),
            Err(error) => return failure(kind, "RecordUnreadable", format!("status.built cannot be read: {error}")),
        };
        let client = match self.client(&record) {
            Ok(client) => client,
            Err(error) => return refused(kind, &error),
        };
        for round in 0..2 {
            for made in record.objects.iter().rev() {
                if round > 0 && made.uid.is_some() {
                    continue;
                }
                if let Err(answer) = self.see_gone(kind, &work, &record, &client, made).await {
                    return answer;
                }
            }
            if record.objects.iter().all(|made| made.uid.is_some()) {
                break;
            }
            if round == 0 {
                tokio::time::sleep(SECOND_LOOK).await;
            }
        }
        if work.key.lease.is_none()
            && let Err(answer) = self.sweep(kind, &record, &client, RESOURCE, &work.key.resource, false).await
        {
            return answer;
        }
        self.live.leave(owner_of(&work.key));
        Answer::Done(Facts::default())
    }

    /// Deletes one object and waits until it is gone. The error is what the step answers instead.
    async fn see_gone(
        &self,
        kind: StepKind,
        work: &Work,
        record: &Record,
        client: &Client,
        made: &Made,
    ) -> Result<(), Answer> {
        let mut known = match self.kinds.whereabouts(client, &made.kind).await {
            Ok(Some(known)) if !known.kept => return Ok(()), // never made
            Ok(Some(known)) => known,
            // A kind that there is no more has no objects.
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.not_removed(kind, record, made, &error).await),
        };
        let namespace = made.namespace.as_deref().unwrap_or(&record.account.namespace);
        let owner = owner_of(&work.key);
        let changed = self.live.changed(owner);
        let mut pause = std::time::Duration::from_secs(1);
        let mut told_missing = false;
        loop {
            let api = known.api(client.clone(), namespace);
            let why = match remove_one(&api, &known, made, &work.key).await {
                Ok(Removal::Gone) => return Ok(()),
                Ok(Removal::Remains(why)) => super::brief(format!("{} is still there{why}", made.told())),
                // Its version is served no more; what was made in it may be there in another.
                Err(error) if super::is_missing(&error) && !told_missing => {
                    told_missing = true;
                    self.kinds.forget(&made.kind);
                    match self.kinds.whereabouts(client, &made.kind).await {
                        Ok(Some(now)) => known = now,
                        Ok(None) => return Ok(()),
                        Err(error) => return Err(self.not_removed(kind, record, made, &error).await),
                    }
                    continue;
                }
                Err(error) if self.is_gone_with_its_namespace(&error, &known, namespace).await => return Ok(()),
                Err(error) => return Err(self.not_removed(kind, record, made, &error).await),
            };
            if why != work.told {
                return Err(Answer::Again(Wait { why, ..Wait::after(Duration::from_millis(0)) }));
            }
            // It is looked for again when its watch tells of a change, and now and then in any case.
            let _ = self.live.sight(&self.world(), &record.account, owner, made);
            let _ = tokio::time::timeout(pause, changed.notified()).await;
            pause = (pause * 2).min(std::time::Duration::from_secs(30));
        }
    }

    async fn not_removed(&self, kind: StepKind, record: &Record, made: &Made, error: &kube::Error) -> Answer {
        if super::is_forbidden(error) && self.accounts.is_gone(&record.account).await {
            let message = format!(
                "{} cannot be removed: the service account {} of namespace {} is gone, and with it what it may do; \
                 when it is removed by other means, end this with the command Forget: {}",
                made.told(),
                record.account.name,
                record.account.namespace,
                super::words(error)
            );
            return failure(kind, "CredentialsGone", message);
        }
        let Answer::Failed(mut failed) = refused(kind, error) else { return refused(kind, error) };
        failed.message = match made.uid {
            None if super::is_forbidden(error) => format!(
                "whether {} was made cannot be seen: let the service account get it, or, where it is not there, end this \
                 with the command Forget: {}",
                made.told(),
                failed.message
            ),
            _ => format!("{} cannot be removed: {}", made.told(), failed.message),
        };
        Answer::Failed(failed)
    }

    /// The objects of a kind with a label; where the account may not look everywhere, those in the namespaces that are on
    /// record, and in its own.
    async fn list(
        &self,
        client: &Client,
        record: &Record,
        known: &Known,
        selector: &ListParams,
    ) -> Result<Vec<DynamicObject>, kube::Error> {
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &known.resource);
        let found = in_time(all.list(selector)).await;
        if !(known.namespaced && found.as_ref().is_err_and(super::is_forbidden)) {
            return Ok(found?.items);
        }
        let named = |made: &Made| match made.kind.kind.as_str() {
            "Namespace" => Some(made.name.clone()),
            _ => made.namespace.clone(),
        };
        let mut namespaces: BTreeSet<String> = record.objects.iter().filter_map(named).collect();
        namespaces.insert(record.account.namespace.clone());
        let mut objects = Vec::new();
        for namespace in namespaces {
            let there: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &known.resource);
            objects.extend(in_time(there.list(selector)).await?.items);
        }
        Ok(objects)
    }

    /// R4c: the lease is gone with its record, and only its key is left; what is labelled with it is found by kind.
    async fn sweep_vanished(&self, work: &Work) -> Answer {
        let kind = StepKind::TearDownLease;
        let mut record = match work.resource.as_deref().map(Record::of_resource) {
            Some(Ok(Some(record))) => record,
            Some(Ok(None)) | None => return Answer::Done(Facts::default()),
            Some(Err(error)) => {
                return failure(
                    kind,
                    "RecordUnreadable",
                    format!("the Resource's status.built cannot be read: {error}"),
                );
            }
        };
        // What its Blueprint has learnt to make for leases since.
        if let Some(plan) = work.blueprint.as_deref().map(|blueprint| self.plan(blueprint))
            && let Ok(plan) = plan.await
        {
            record.lease_kinds.extend(plan.lease_kinds.iter().cloned());
        }
        let client = match self.client(&record) {
            Ok(client) => client,
            Err(error) => return refused(StepKind::TearDownLease, &error),
        };
        let owner = owner_of(&work.key);
        match self.sweep(StepKind::TearDownLease, &record, &client, OWNER, owner, true).await {
            Ok(()) => Answer::Done(Facts::default()),
            Err(answer) => answer,
        }
    }

    /// Removes everything with this label, of the kinds that leases get here.
    async fn sweep(
        &self,
        kind: StepKind,
        record: &Record,
        client: &Client,
        label: &str,
        value: &str,
        must_see: bool,
    ) -> Result<(), Answer> {
        let selector = ListParams::default().labels(&format!("{label}={value}"));
        for of in &record.lease_kinds {
            let known = match self.kinds.whereabouts(client, of).await {
                Ok(Some(known)) => known,
                Ok(None) => continue,
                Err(error) => return Err(refused(kind, &error)),
            };
            let found = match self.list(client, record, &known, &selector).await {
                Ok(found) => found,
                // What its leases had was removed by their own records; this is for what came late.
                Err(kube::Error::Api(status)) if status.code == 403 && !must_see => continue,
                Err(error) => {
                    if is_missing(&error) {
                        self.kinds.forget(of);
                    }
                    return Err(refused(kind, &error));
                }
            };
            let ours: Vec<_> = found.into_iter().filter(is_made_here).collect();
            let remaining = ours.len();
            for object in ours {
                let (Some(uid), Some(name)) = (object.metadata.uid, object.metadata.name) else { continue };
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                let deleted = delete(&known.api(client.clone(), namespace), &known, &name, &uid).await;
                deleted.map_err(|error| refused(kind, &error))?;
            }
            if remaining > 0 {
                // Until a list shows none.
                let why = format!("{remaining} of kind {} are still there", of.kind);
                return Err(Answer::Again(Wait { why, ..Wait::after(Duration::from_secs(1)) }));
            }
        }
        Ok(())
    }
}

/// Deletes an object, if it is the one that was made, and says whether it is gone.
async fn remove_one(
    api: &Api<DynamicObject>,
    known: &Known,
    made: &Made,
    key: &EffectKey,
) -> Result<Removal, kube::Error> {
    let uid = match &made.uid {
        Some(uid) => uid.clone(),
        // It is not on record whether it was made: one of this name is ours only with our labels.
        None => match read(api, &made.name).await? {
            Some(found) if is_of(&found, key) => found.metadata.uid.unwrap_or_default(),
            _ => return Ok(Removal::Gone),
        },
    };
    delete(api, known, &made.name, &uid).await?;
    match read(api, &made.name).await? {
        Some(found) if found.metadata.uid.as_deref() == Some(&uid) => Ok(Removal::Remains(why_it_remains(&found))),
        // Where two controllers make, the one that is late does so again when what is on record has been removed.
        Some(found) if is_of(&found, key) => {
            delete(api, known, &made.name, &found.metadata.uid.clone().unwrap_or_default()).await?;
            Ok(Removal::Remains(why_it_remains(&found)))
        }
        _ => Ok(Removal::Gone),
    }
}

/// Asks for the deletion of this object, and of no namesake.
pub(super) async fn delete(api: &Api<DynamicObject>, known: &Known, name: &str, uid: &str) -> Result<(), kube::Error> {
    let how = if known.makes_others() { DeleteParams::foreground() } else { DeleteParams::background() };
    let how = how.preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    match in_time(api.delete(name, &how)).await {
        Ok(_) => Ok(()),
        // Gone, or another of this name: what was made is there no more. What else a conflict is, the next look shows.
        Err(error) if is_missing(&error) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether an object was made under this key, as its labels say, and the API server's account of who set them.
pub fn is_of(object: &DynamicObject, key: &EffectKey) -> bool {
    let labels = object.metadata.labels.as_ref();
    is_made_here(object)
        && labels_of(key).iter().all(|(label, value)| labels.and_then(|l| l.get(*label)) == Some(value))
}

/// What holds an object that is being deleted, as far as it says.
fn why_it_remains(object: &DynamicObject) -> String {
    let finalizers = object.metadata.finalizers.as_deref().unwrap_or_default();
    let mut why = Vec::new();
    if !finalizers.is_empty() {
        why.push(format!("finalizers: {}", finalizers.join(", ")));
    }
    let conditions = object.data.pointer("/status/conditions").and_then(|c| c.as_array());
    for condition in conditions.into_iter().flatten() {
        let text = |field: &str| condition.get(field).and_then(|v| v.as_str()).unwrap_or_default();
        // Of a namespace: what is left in it, and what does not answer.
        if text("status") == "True" && text("type").starts_with("Namespace") {
            why.push(text("message").to_owned());
        }
    }
    if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) }
}
