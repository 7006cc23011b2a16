//! Making: the objects of a key in their order, each on record before it is made, and then waited for until they are ready.
//! Nothing is ever adopted: what is there and not ours stays as it is, and the build fails.

use super::{
    NAME_AS_MANAGER, Workshop,
    create::{Created, create},
    failure, for_good, in_time, is_missing,
    kinds::Known,
    plan::{ATTEMPT, About, OWNER, Plan, Unmade, is_of_namesake, owner_of},
    proof::{PROOF, Proofs},
    record::{Made, Record},
    refused,
    sites::LeaseKind,
    snapshot::{Seen, Snapshot},
};
use crate::{
    api::{
        Blueprint, Duration, Failure, Resource,
        step::{Answer, EffectKey, Facts, StepKind, Wait},
    },
    driver::Work,
};
use kube::Client;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Where nothing tells of changes, an environment that is in use is looked at so often.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What is waited for is put on record at most this often: objects may change what they say of themselves without end.
const NEWS: std::time::Duration = std::time::Duration::from_secs(1);

/// A step that has come this far so long after it began looks again whether it is wanted: it may have stood still meanwhile,
/// with its whole process, while another controller took over.
const STOOD_STILL: std::time::Duration = std::time::Duration::from_secs(1);

/// What a step is about, as far as it is there.
pub(super) struct Job {
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) resource: Arc<Resource>,
    pub(super) plan: Arc<Plan>,
}

/// What one call has created.
#[derive(Default)]
struct New {
    /// The objects, by their place in the record.
    seen: BTreeMap<usize, Seen>,
    /// What the API server has warned of.
    warnings: Vec<String>,
}

impl Workshop {
    /// What the teardown of what is to be made needs.
    pub(super) async fn allocate_record(&self, work: &Work) -> Value {
        let kind = kind_of(work);
        let nothing = || serde_json::json!({"driver": super::NAME});
        let Ok(about) = self.about(work).await else { return nothing() };
        let lease_kinds = self.lease_kinds(work, &about).await;
        match self.render(kind, work, &about).await {
            Ok((objects, _)) => about.plan.record(&objects, lease_kinds).value(),
            // It fails again as it is built, and is told then.
            Err(_) => about.plan.record(&[], lease_kinds).value(),
        }
    }

    /// Of a resource: where its leases get what.
    async fn lease_kinds(&self, work: &Work, about: &Job) -> Vec<LeaseKind> {
        if work.key.lease.is_some() {
            return Vec::new();
        }
        let (blueprint, resource) = (&about.blueprint, &about.resource);
        let about_it = About { blueprint, resource, lease: None, objects: None };
        about.plan.lease_kinds(&*self.evaluator_of(&about.blueprint), &about_it).await
    }

    /// Makes what the work is about. Each call goes on from what is on record.
    pub(super) async fn make(self: Arc<Self>, work: Work) -> Answer {
        let kind = kind_of(&work);
        let mut known_at = Instant::now();
        let about = match self.about(&work).await {
            Ok(about) => about,
            Err(answer) => return answer,
        };
        let (rendered, space) = match self.render(kind, &work, &about).await {
            Ok(rendered) => rendered,
            Err(answer) => return answer,
        };
        let mut record = match Record::of(&work) {
            Ok(Some(record)) => record,
            Ok(None) => Record::new(about.plan.account.clone()),
            Err(error) => {
                return for_good(kind, "RecordUnreadable", format!("status.built cannot be read: {error}"));
            }
        };
        if record.account != about.plan.account {
            let why = format!(
                "spec.driver.objects.serviceAccountName has changed to {} while this was made",
                about.plan.account.name
            );
            return for_good(kind, "Outdated", why);
        }
        let lease_kinds = self.lease_kinds(&work, &about).await;
        if record.extend(about.plan.record(&rendered, lease_kinds)) {
            // The Blueprint has changed since: first on record, then made.
            return Answer::Again(Wait { built: Some(record.value()), ..Wait::after(Duration::from_millis(0)) });
        }
        let client = match self.client(&record) {
            Ok(client) => client,
            Err(error) => return refused(kind, &error),
        };
        let mut new = New::default();
        for (template, (made, object)) in rendered.into_iter().enumerate() {
            let Some(n) = record.objects.iter().position(|recorded| recorded.is(&made)) else { continue };
            if record.objects[n].uid.is_some() {
                continue;
            }
            match self
                .make_one(&work, &client, &record, &made, (path_of_template(&work, template), object), &mut known_at)
                .await
            {
                Ok(Created { object, warnings }) => {
                    if let Some(other) = record.objects.iter().find(|m| m.uid.is_some() && m.uid == object.metadata.uid)
                    {
                        let path = path_of_template(&work, template);
                        let why = format!("{path}: {} is the same object as {}", made.told(), other.told_in_full());
                        let why = format!("{why}, which another template makes; name them apart, or leave one out");
                        return new.or_first(&record, &work, for_good(kind, "ObjectExists", why));
                    }
                    let seen = object.seen(&made.kind);
                    record.objects[n].uid = object.metadata.uid;
                    record.objects[n].fields = seen.fields.clone();
                    new.seen.insert(n, seen);
                    new.warnings.extend(warnings.iter().map(|warning| format!("{}: {warning}", made.told())));
                }
                Err(answer) => return new.or_first(&record, &work, answer),
            }
        }
        drop(space);
        self.await_ready(kind, work, &about, record, new).await
    }

    /// Waits until what was made is ready.
    async fn await_ready(&self, kind: StepKind, work: Work, about: &Job, record: Record, mut new: New) -> Answer {
        let is_new = !new.seen.is_empty();
        let began = Instant::now();
        let owner = owner_of(&work.key).to_owned();
        let changed = self.live.changed(&owner);
        let mut pause = std::time::Duration::from_secs(1);
        loop {
            let sights = match self.look(&work, &record, new.seen.clone()).await {
                Ok(sights) => sights,
                Err(error) => return new.or_first(&record, &work, refused(kind, &error)),
            };
            if let Some(gone) = sights.gone.first() {
                let why = format!("{} was made and is gone again", record.objects[*gone].told());
                return for_good(kind, "ObjectLost", why);
            }
            let verdict = match self.judge(&work, about, &sights).await {
                Ok(verdict) => verdict,
                Err(answer) => return new.or_first(&record, &work, answer),
            };
            let why = match verdict {
                Ok(outputs) => {
                    let interfaces = about.resource.status.as_ref().map(|s| s.interfaces.clone()).unwrap_or_default();
                    let built = Some(record.value());
                    let warnings = std::mem::take(&mut new.warnings);
                    return Answer::Done(Facts { interfaces, outputs, built, warnings, storage: None });
                }
                Err(why) => super::brief(why),
            };
            if is_new || why != work.told {
                let left = NEWS.saturating_sub(began.elapsed());
                if !is_new && !work.told.is_empty() && !left.is_zero() {
                    let _ = tokio::time::timeout(left, changed.notified()).await;
                    continue;
                }
                let (built, warnings) = (is_new.then(|| record.value()), std::mem::take(&mut new.warnings));
                return Answer::Again(Wait { why, built, warnings, ..Wait::after(Duration::from_millis(0)) });
            }
            // What is judged with a lease may be its resource's, whose changes are told to that.
            let pause_now = if sights.polled || work.lease.is_some() { pause } else { LOOK_AGAIN.to_std() };
            let _ = tokio::time::timeout(pause_now, changed.notified()).await;
            pause = (pause * 2).min(LOOK_AGAIN.to_std());
        }
    }

    pub(super) async fn about(&self, work: &Work) -> Result<Job, Answer> {
        let (Some(blueprint), Some(resource)) = (work.blueprint.clone(), work.resource.clone()) else {
            return Err(Answer::Again(Wait::after(Duration::from_secs(1))));
        };
        match self.plan(&blueprint).await {
            Ok(plan) => Ok(Job { blueprint, resource, plan }),
            Err(trouble) if trouble.reason == "ExpressionTooSlow" && !super::is_of_question(&trouble.message) => {
                Err(for_good(kind_of(work), trouble.reason, trouble.message))
            }
            // An edit of the Blueprint mends it, and what is under way goes on with that edit.
            Err(trouble) => {
                Err(Answer::Again(Wait { why: super::brief(trouble.message), ..Wait::after(Duration::from_secs(1)) }))
            }
        }
    }

    /// The filled templates, with the space that they take.
    async fn render(
        &self,
        kind: StepKind,
        work: &Work,
        about: &Job,
    ) -> Result<(Vec<(Made, Value)>, super::space::Taken), Answer> {
        let mut space = self.space.take(about.blueprint.metadata.namespace.as_deref().unwrap_or_default()).await;
        let about_it = About {
            blueprint: &about.blueprint,
            resource: &about.resource,
            lease: work.lease.as_deref(),
            objects: None,
        };
        let rendered = about.plan.render(&*self.evaluator_of(&about.blueprint), &about_it, &work.key).await;
        match rendered {
            Ok(rendered) => {
                space.shrink_to(rendered.iter().map(|(_, object)| crate::expression::weight(object)).sum());
                Ok((rendered, space))
            }
            Err(unmade) => Err(self.unmade(kind, &about_it, &unmade).await),
        }
    }

    pub(super) async fn unmade(&self, kind: StepKind, about: &About<'_>, unmade: &Unmade) -> Answer {
        if let Some(expression) = unmade.too_slow()
            && super::plan::is_slow_by_itself(&*self.evaluator_of(about.blueprint), about, expression).await
        {
            self.is_too_slow(about.blueprint, unmade.to_string());
        }
        for_good(kind, unmade.reason(), unmade.to_string())
    }

    /// Makes one object; one that is there and ours already was made before a crash.
    async fn make_one(
        &self,
        work: &Work,
        client: &Client,
        record: &Record,
        made: &Made,
        (path, mut object): (String, Value),
        known_at: &mut Instant,
    ) -> Result<Created, Answer> {
        let kind = kind_of(work);
        let explain = |error: &kube::Error| match refused(kind, error) {
            Answer::Failed(failed) => {
                Answer::Failed(Failure { message: format!("{}: {}", made.told(), failed.message), ..failed })
            }
            Answer::FailedForGood(failed) => {
                Answer::FailedForGood(Failure { message: format!("{}: {}", made.told(), failed.message), ..failed })
            }
            answer => answer,
        };
        let known = match self.kinds.resolve(client, &made.kind).await {
            Ok(known) => known,
            Err(error) if super::is_unknown_kind(&error) => {
                let why = format!("the API server has no kind {} in {}", made.kind.kind, made.kind.api_version);
                return Err(failure(kind, "UnknownKind", format!("{}: {why}", made.told())));
            }
            Err(error) => return Err(explain(&error)),
        };
        let never = match () {
            () if !known.kept => Some("the API server keeps no objects of this kind; there would be nothing to remove"),
            () if !known.namespaced && made.namespace.is_some() => {
                Some("objects of this kind live in no namespace; leave metadata.namespace out")
            }
            () => None,
        };
        if let Some(why) = never {
            return Err(for_good(kind, "InvalidTemplate", format!("{}: {why}", made.told())));
        }
        let namespace = made.namespace.as_deref().unwrap_or(&record.account.namespace);
        let api = known.api(client.clone(), namespace);
        let proofs = self.prover.proofs().await.map_err(|error| explain(&error))?;
        let place = if known.namespaced { namespace } else { "" };
        if let Some(proof) = proofs.of(&work.key, &made.kind, place, &made.name) {
            // A rendered object has annotations.
            object["metadata"]["annotations"][PROOF] = proof.into();
        }
        // The request is not dropped with the step: or nobody would know whether it was carried out.
        let Some(open) = self.open(&work.key).await else {
            return Err(for_good(kind, "TornDown", "it was torn down already".into()));
        };
        if known_at.elapsed() >= STOOD_STILL {
            // Only a narrowing: what is made late all the same is removed again. But a process that goes on after a while is
            // more likely than others to be killed before it can.
            if !self.accounts.is_wanted(work).await.map_err(|error| explain(&error))? {
                return Err(Answer::Again(Wait::after(Duration::from_secs(1))));
            }
            *known_at = Instant::now();
        }
        let creating = {
            let api = api.clone();
            tokio::spawn(async move {
                let created = in_time(create(&api, NAME_AS_MANAGER, &object)).await;
                drop(open);
                created
            })
        };
        let created = creating.await.map_err(|error| failure(kind, "Panicked", error.to_string()))?;
        match created {
            Ok(created) => Ok(created),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let found = super::read(&api, &made.name).await.map_err(|error| explain(&error))?;
                let object = self.found(kind, work, (&api, &known), made, found, &proofs).await?;
                Ok(Created { object, warnings: Vec::new() })
            }
            Err(error) => {
                if is_missing(&error) {
                    self.kinds.forget(&made.kind);
                }
                Err(naming_template(explain(&error), &path))
            }
        }
    }

    /// An object of that name is there.
    async fn found(
        &self,
        kind: StepKind,
        work: &Work,
        (api, known): (&kube::Api<Snapshot>, &Known),
        made: &Made,
        found: Option<Snapshot>,
        proofs: &Proofs,
    ) -> Result<Snapshot, Answer> {
        let again = |why: String| Answer::Again(Wait { why, ..Wait::after(Duration::from_millis(500)) });
        let Some(found) = found else { return Err(again(String::new())) };
        let going = found.metadata.deletion_timestamp.is_some();
        if proofs.is_of(&found.metadata, &made.kind, &work.key) {
            return if going { Err(again(format!("{} is being deleted", made.told()))) } else { Ok(found) };
        }
        let is_made_here = proofs.is_made_here(&found.metadata, &made.kind);
        if is_made_here && is_of_earlier(&found, &work.key) {
            // Its teardown is done: it came late, and goes.
            let uid = found.metadata.uid.unwrap_or_default();
            let deleted = super::remove::delete(api, known, &made.name, &uid).await;
            deleted.map_err(|error| refused(kind, &error))?;
            return Err(again(format!("{} is there from an earlier attempt, and is removed first", made.told())));
        }
        // Of two of one name that which is there now is the later: nothing is made any more for the other, whose teardown is
        // done. Where the controller that made this was killed before it could remove it again, nobody else would.
        let resource = work.resource.as_deref();
        if let Some(resource) = resource.filter(|r| is_made_here && is_of_namesake(&found, r))
            && self.accounts.is_there(resource).await.map_err(|error| refused(kind, &error))?
        {
            self.tell_of_leftover(work, &made.kind, &found.metadata);
            let uid = found.metadata.uid.unwrap_or_default();
            let deleted = super::remove::delete(api, known, &made.name, &uid).await;
            deleted.map_err(|error| refused(kind, &error))?;
            return Err(again(format!("{} is there from a Resource that is gone, and is removed first", made.told())));
        }
        let message = format!(
            "{} is there already, and was not made for this: nothing is adopted; have the template name another",
            made.told()
        );
        Err(for_good(kind, "ObjectExists", message))
    }
}

/// Whether an object was made for an earlier attempt of the same lease, on whatever resource.
fn is_of_earlier(object: &Snapshot, key: &EffectKey) -> bool {
    let Some((lease, attempt)) = &key.lease else { return false };
    let label = |name: &str| object.metadata.labels.as_ref()?.get(name).cloned();
    let of = label(ATTEMPT).and_then(|of| of.parse::<i64>().ok());
    label(OWNER).as_deref() == Some(lease) && of.is_some_and(|of| of < *attempt)
}

pub(super) fn kind_of(work: &Work) -> StepKind {
    if work.key.lease.is_some() { StepKind::Activate } else { StepKind::Build }
}

impl New {
    /// What was created by now is put on record first, and the step goes on from there; else this is its answer.
    fn or_first(self, record: &Record, work: &Work, answer: Answer) -> Answer {
        if self.seen.is_empty() {
            return answer;
        }
        let (why, warnings) = (work.told.clone(), self.warnings);
        Answer::Again(Wait { why, warnings, built: Some(record.value()), ..Wait::after(Duration::from_millis(0)) })
    }
}

/// Where a template stands in the Blueprint.
fn path_of_template(work: &Work, n: usize) -> String {
    let field = if work.key.lease.is_some() { "leaseTemplates" } else { "templates" };
    format!("spec.driver.objects.{field}[{n}]")
}

/// A failure for good is the template's, and names it.
fn naming_template(answer: Answer, path: &str) -> Answer {
    match answer {
        Answer::FailedForGood(failed) => {
            Answer::FailedForGood(Failure { message: format!("{path}: {}", failed.message), ..failed })
        }
        answer => answer,
    }
}
