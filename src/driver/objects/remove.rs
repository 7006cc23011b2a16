//! Removing: the objects of a key in reverse order, each by its UID, and each seen gone before the next.

use super::{
    Workshop, failure, in_time, is_missing,
    kinds::{Kind, Known},
    plan::{About, OWNER, RESOURCE, owner_of},
    proof::Proofs,
    read,
    record::{Made, Record},
    refused,
    sites::{LeaseKind, Site},
    snapshot::Snapshot,
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
    api::{ListParams, Preconditions},
};
use std::{collections::BTreeSet, sync::Arc};

/// What is swept is listed in pages of this size: whoever may write in a namespace can have any number of objects there.
const PAGE: u32 = 25;

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
        let proofs = match self.prover.proofs().await {
            Ok(proofs) => proofs,
            Err(error) => return refused(kind, &error),
        };
        for round in 0..2 {
            for made in record.objects.iter().rev() {
                if round > 0 && made.uid.is_some() {
                    continue;
                }
                if let Err(answer) = self.see_gone(kind, &work, &record, &client, made, &proofs).await {
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
            && let Err(answer) = self.sweep(kind, &work, record, RESOURCE).await
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
        proofs: &Proofs,
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
            let why = match remove_one(&api, &known, made, &work.key, proofs).await {
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

    /// R4c: the lease is gone with its record, and only its key is left; what is labelled with it is found by kind.
    async fn sweep_vanished(&self, work: &Work) -> Answer {
        let kind = StepKind::TearDownLease;
        let record = match work.resource.as_deref().map(Record::of_resource) {
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
        match self.sweep(kind, work, record, OWNER).await {
            Ok(()) => {
                self.live.leave(owner_of(&work.key));
                Answer::Done(Facts::default())
            }
            Err(answer) => answer,
        }
    }

    /// Removes what has the label of the work's key, of the kinds that leases get here, and is proved to have been made under
    /// that key. Whatever else has such a label is not Drydock's, or cannot be told from what is not.
    async fn sweep(&self, kind: StepKind, work: &Work, mut record: Record, label: &str) -> Result<(), Answer> {
        // What its Blueprint has learnt to make for leases since.
        if let (Some(blueprint), Some(resource)) = (&work.blueprint, &work.resource)
            && let Ok(plan) = self.plan(blueprint).await
        {
            let about = About { blueprint, resource, lease: None, objects: None };
            record.lease_kinds.extend(plan.lease_kinds(&*self.evaluator, &about).await);
        }
        let client = self.client(&record).map_err(|error| refused(kind, &error))?;
        let proofs = self.prover.proofs().await.map_err(|error| refused(kind, &error))?;
        let claims = work.resource.as_ref().map(|resource| resource.claims()).unwrap_or_default();
        let lease = work.key.lease.as_ref().and_then(|(lease, _)| claims.iter().find(|claim| claim.uid == *lease));
        let sweep = Sweep {
            kind,
            client,
            lease_namespace: lease.map(|claim| claim.namespace.clone()),
            is_owner: label == OWNER,
            selector: format!("{label}={}", if label == OWNER { owner_of(&work.key) } else { &work.key.resource }),
            proofs,
        };
        let kinds: BTreeSet<LeaseKind> = record.lease_kinds.iter().cloned().collect();
        for of in kinds {
            let known = match self.kinds.whereabouts(&sweep.client, &of.kind).await {
                Ok(Some(known)) => known,
                Ok(None) => continue,
                Err(error) => return Err(refused(kind, &error)),
            };
            let mut remaining = 0;
            let mut places = sweep.places(&of, &known);
            if places.is_empty() {
                places = self.known_places(&sweep, &known, &record).await;
            }
            for namespace in places {
                remaining += self.sweep_place(&sweep, &of.kind, &known, namespace.as_deref(), work).await?;
            }
            if remaining > 0 {
                // Until a list shows none.
                let why = format!("{remaining} of kind {} are still there", of.kind.kind);
                return Err(Answer::Again(Wait { why, ..Wait::after(Duration::from_secs(1)) }));
            }
        }
        Ok(())
    }

    /// A record of an earlier version does not say where its leases get objects: everywhere, as far as the account may look, or in
    /// all namespaces that are known of it.
    async fn known_places(&self, sweep: &Sweep, known: &Known, record: &Record) -> Vec<Option<String>> {
        let all: Api<Snapshot> = Api::all_with(sweep.client.clone(), &known.resource);
        let one = ListParams::default().labels(&sweep.selector).limit(1);
        if !in_time(list_metadata(&all, &one)).await.is_err_and(|error| super::is_forbidden(&error)) {
            return vec![None];
        }
        let named = |made: &Made| match made.kind.kind.as_str() {
            "Namespace" => Some(made.name.clone()),
            _ => made.namespace.clone(),
        };
        let mut namespaces: BTreeSet<String> = record.objects.iter().filter_map(named).collect();
        namespaces.insert(record.account.namespace.clone());
        namespaces.extend(sweep.lease_namespace.clone());
        namespaces.into_iter().map(Some).collect()
    }

    /// Asks for the deletion of what is to be swept in one place, which is a namespace, or the whole cluster. Returns how many
    /// objects it has seen.
    async fn sweep_place(
        &self,
        sweep: &Sweep,
        of: &Kind,
        known: &Known,
        namespace: Option<&str>,
        work: &Work,
    ) -> Result<usize, Answer> {
        let there: Api<Snapshot> = match namespace {
            Some(namespace) => Api::namespaced_with(sweep.client.clone(), namespace, &known.resource),
            None => Api::all_with(sweep.client.clone(), &known.resource),
        };
        let (mut ours, mut unproved) = (0, 0);
        let mut page = ListParams::default().labels(&sweep.selector).limit(PAGE);
        loop {
            let found = match in_time(list_metadata(&there, &page)).await {
                Ok(found) => found,
                // What the leases of a resource had was removed by their own records, or this was done for each of them: only what
                // came late would be found, and an account need not be able to list.
                Err(error) if super::is_forbidden(&error) && !sweep.is_owner => return Ok(ours),
                Err(error) => return self.not_listed(sweep, of, known, namespace, &error).await.map(|()| ours),
            };
            for object in found.items {
                if !sweep.proofs.is_made_here(&object.metadata, of) {
                    unproved += 1;
                    continue;
                }
                if !sweep.is_owner {
                    self.tell_of_leftover(work, of, &object.metadata);
                }
                let (Some(uid), Some(name)) = (object.metadata.uid, object.metadata.name) else { continue };
                ours += 1;
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                match delete(&known.api(sweep.client.clone(), namespace), known, &name, &uid).await {
                    Ok(()) => {}
                    Err(error) if self.is_gone_with_its_namespace(&error, known, namespace).await => ours -= 1,
                    Err(error) => return Err(refused(sweep.kind, &error)),
                }
            }
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
        if unproved > 0 {
            tracing::warn!(
                resource = work.key.resource,
                kind = of.kind,
                namespace,
                can_prove = sweep.proofs.can_prove(),
                "{unproved} objects have the labels of what Drydock makes here, and no proof that it made them; they are left as they are"
            );
        }
        Ok(ours)
    }

    /// What cannot be listed may be there, unless its namespace takes it along as it goes.
    async fn not_listed(
        &self,
        sweep: &Sweep,
        of: &Kind,
        known: &Known,
        namespace: Option<&str>,
        error: &kube::Error,
    ) -> Result<(), Answer> {
        if is_missing(error) {
            self.kinds.forget(of);
        }
        if let Some(namespace) = namespace
            && self.is_gone_with_its_namespace(error, known, namespace).await
        {
            return Ok(());
        }
        let Answer::Failed(mut failed) = refused(sweep.kind, error) else { return Err(refused(sweep.kind, error)) };
        if super::is_forbidden(error) {
            let place = match namespace {
                Some(namespace) => format!("in the namespace {namespace}"),
                None if known.namespaced => "in all namespaces".to_owned(),
                None => "in the cluster".to_owned(),
            };
            failed.message = format!(
                "whether there is a {} left {place} cannot be seen: let the service account list them there, or end this with the \
                 command Forget: {}",
                of.kind, failed.message
            );
        }
        Err(Answer::Failed(failed))
    }
}

/// Lists the metadata of objects; of it, only what counts here is kept. [`Api::list_metadata`] keeps all, managed fields too.
pub(super) async fn list_metadata(
    api: &Api<Snapshot>,
    page: &ListParams,
) -> Result<kube::api::ObjectList<Snapshot>, kube::Error> {
    let request =
        kube::core::Request::new(api.resource_url()).list_metadata(page).map_err(kube::Error::BuildRequest)?;
    api.clone().into_client().request(request).await
}

/// What is swept, and how.
struct Sweep {
    kind: StepKind,
    client: Client,
    /// Of a lease that has vanished, as its claim says it.
    lease_namespace: Option<String>,
    /// It is for a lease that has vanished: nothing else removes what it had.
    is_owner: bool,
    selector: String,
    proofs: Proofs,
}

impl Sweep {
    /// Where to look for objects of a kind: the namespaces in which a lease could get them, or `None` for all. None of these: that
    /// is not on record.
    fn places(&self, of: &LeaseKind, known: &Known) -> Vec<Option<String>> {
        match &of.site {
            _ if !known.namespaced => vec![None],
            Some(Site::Namespace(namespace)) => vec![Some(namespace.clone())],
            Some(Site::OfLease) if self.lease_namespace.is_some() => vec![self.lease_namespace.clone()],
            Some(Site::OfLease | Site::Anywhere) => vec![None],
            None => Vec::new(),
        }
    }
}

/// Deletes an object, if it is the one that was made, and says whether it is gone.
async fn remove_one(
    api: &Api<Snapshot>,
    known: &Known,
    made: &Made,
    key: &EffectKey,
    proofs: &Proofs,
) -> Result<Removal, kube::Error> {
    let is_of = |found: &Snapshot| proofs.is_of(&found.metadata, &made.kind, key);
    let uid = match &made.uid {
        Some(uid) => uid.clone(),
        // It is not on record whether it was made: one of this name is ours only where that is proved.
        None => match read(api, &made.name).await? {
            Some(found) if is_of(&found) => found.metadata.uid.unwrap_or_default(),
            _ => return Ok(Removal::Gone),
        },
    };
    delete(api, known, &made.name, &uid).await?;
    match read(api, &made.name).await? {
        Some(found) if found.metadata.uid.as_deref() == Some(&uid) => Ok(Removal::Remains(why_it_remains(&found))),
        // Where two controllers make, the one that is late does so again when what is on record has been removed.
        Some(found) if is_of(&found) => {
            delete(api, known, &made.name, &found.metadata.uid.clone().unwrap_or_default()).await?;
            Ok(Removal::Remains(why_it_remains(&found)))
        }
        _ => Ok(Removal::Gone),
    }
}

/// Asks for the deletion of this object, and of no namesake.
pub(super) async fn delete(api: &Api<Snapshot>, known: &Known, name: &str, uid: &str) -> Result<(), kube::Error> {
    let how = known.deletion().preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    match in_time(api.delete(name, &how)).await {
        Ok(_) => Ok(()),
        // Gone, or another of this name: what was made is there no more. What else a conflict is, the next look shows.
        Err(kube::Error::Api(status)) if crate::api::is_not_found(&status, name) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// What holds an object that is being deleted, as far as it says.
fn why_it_remains(object: &Snapshot) -> String {
    let finalizers = object.metadata.finalizers.as_deref().unwrap_or_default();
    let mut why = Vec::new();
    let (foreground, others): (Vec<_>, Vec<_>) =
        finalizers.iter().map(String::as_str).partition(|finalizer| *finalizer == "foregroundDeletion");
    if !others.is_empty() {
        why.push(format!("finalizers: {}", others.join(", ")));
    }
    if !foreground.is_empty() {
        why.push("what it owns is being deleted".to_owned());
    }
    let status = object.status();
    let conditions = status.as_ref().and_then(|status| status.get("conditions")?.as_array());
    for condition in conditions.into_iter().flatten() {
        let text = |field: &str| condition.get(field).and_then(|v| v.as_str()).unwrap_or_default();
        // Of a namespace: what is left in it, and what does not answer.
        if text("status") == "True" && text("type").starts_with("Namespace") {
            why.push(text("message").to_owned());
        }
    }
    if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) }
}
