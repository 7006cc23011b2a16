//! Making: the objects of a key in their order, each on record before it is made, and then waited for until they are ready.
//! Nothing is ever adopted: what is there and not ours stays as it is, and the build fails.

use super::{
    NAME_AS_MANAGER, Workshop, failure, for_good, in_time, is_missing,
    kinds::Known,
    live::{Seen, Sight},
    plan::{ATTEMPT, About, OWNER, Plan, Unmade, is_of_namesake, owner_of},
    proof::{PROOF, Proofs},
    record::{Made, Record},
    refused,
};
use crate::{
    api::{
        Blueprint, Duration, Resource,
        step::{Answer, EffectKey, Facts, Observed, StepKind, Wait},
    },
    driver::Work,
};
use kube::{
    Client,
    api::{DynamicObject, PostParams},
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Where nothing tells of changes, an environment that is in use is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A step that has come this far so long after it began looks again whether it is wanted: it may have stood still meanwhile,
/// with its whole process, while another controller took over.
const STOOD_STILL: std::time::Duration = std::time::Duration::from_secs(1);

/// What a step is about, as far as it is there.
struct Job {
    blueprint: Arc<Blueprint>,
    resource: Arc<Resource>,
    plan: Arc<Plan>,
}

/// How the objects are: in order, as they were last seen.
struct Sights {
    seen: BTreeMap<usize, Seen>,
    /// Those that are gone, by the API server's own word.
    gone: Vec<usize>,
    /// Nothing tells of changes.
    polled: bool,
}

impl Workshop {
    /// What the teardown of what is to be made needs.
    pub(super) async fn allocate_record(&self, work: &Work) -> Value {
        let kind = kind_of(work);
        let nothing = || serde_json::json!({"driver": super::NAME});
        let Ok(about) = self.about(kind, work).await else { return nothing() };
        let lease_kinds = match work.key.lease {
            Some(_) => Vec::new(),
            None => {
                let (blueprint, resource) = (&about.blueprint, &about.resource);
                let about_it = About { blueprint, resource, lease: None, objects: None };
                about.plan.lease_kinds(&*self.evaluator, &about_it).await
            }
        };
        match self.render(kind, work, &about).await {
            Ok(objects) => about.plan.record(&objects, lease_kinds).value(),
            // It fails again as it is built, and is told then.
            Err(_) => about.plan.record(&[], lease_kinds).value(),
        }
    }

    /// Makes what the work is about. Each call goes on from what is on record.
    pub(super) async fn make(self: Arc<Self>, work: Work) -> Answer {
        let kind = kind_of(&work);
        let mut known_at = Instant::now();
        let about = match self.about(kind, &work).await {
            Ok(about) => about,
            Err(answer) => return answer,
        };
        let rendered = match self.render(kind, &work, &about).await {
            Ok(rendered) => rendered,
            Err(answer) => return answer,
        };
        let mut record = match Record::of(&work) {
            Ok(record) => record.unwrap_or_else(|| Record::new(about.plan.account.clone())),
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
        let known = record.objects.len();
        for (made, _) in &rendered {
            if !record.objects.iter().any(|recorded| recorded.is(made)) {
                record.objects.push(made.clone());
            }
        }
        if record.objects.len() > known {
            // The Blueprint has changed since: first on record, then made.
            return Answer::Again(Wait { built: Some(record.value()), ..Wait::after(Duration::from_millis(0)) });
        }
        let client = match self.client(&record) {
            Ok(client) => client,
            Err(error) => return refused(kind, &error),
        };
        let mut new = BTreeMap::new();
        for (made, object) in rendered {
            let Some(n) = record.objects.iter().position(|recorded| recorded.is(&made)) else { continue };
            if record.objects[n].uid.is_some() {
                continue;
            }
            match self.make_one(&work, &client, &record, &made, object, &mut known_at).await {
                Ok(object) => {
                    let seen = Seen::of(object.clone(), &made.kind);
                    record.objects[n].uid = object.metadata.uid;
                    record.objects[n].fields = seen.fields.clone();
                    new.insert(n, seen);
                }
                // What was made before it is put on record first.
                Err(_) if !new.is_empty() => return put_on_record(&record, &work),
                Err(answer) => return answer,
            }
        }
        self.await_ready(kind, work, &about, record, new).await
    }

    /// Waits until what was made is ready.
    async fn await_ready(
        &self,
        kind: StepKind,
        work: Work,
        about: &Job,
        record: Record,
        mut new: BTreeMap<usize, Seen>,
    ) -> Answer {
        let is_new = !new.is_empty();
        let owner = owner_of(&work.key).to_owned();
        let changed = self.live.changed(&owner);
        let mut pause = std::time::Duration::from_secs(1);
        loop {
            let sights = match self.look(&work, &record, std::mem::take(&mut new)).await {
                Ok(sights) => sights,
                Err(_) if is_new => return put_on_record(&record, &work),
                Err(error) => return refused(kind, &error),
            };
            if let Some(gone) = sights.gone.first() {
                let why = format!("{} was made and is gone again", record.objects[*gone].told());
                return for_good(kind, "ObjectLost", why);
            }
            let verdict = match self.judge(&work, about, &sights).await {
                Ok(verdict) => verdict,
                Err(_) if is_new => return put_on_record(&record, &work),
                Err(answer) => return answer,
            };
            let why = match verdict {
                Ok(outputs) => {
                    let interfaces = about.resource.status.as_ref().map(|s| s.interfaces.clone()).unwrap_or_default();
                    let built = Some(record.value());
                    return Answer::Done(Facts { interfaces, outputs, built, storage: None });
                }
                Err(why) => super::brief(why),
            };
            if is_new || why != work.told {
                let built = is_new.then(|| record.value());
                return Answer::Again(Wait { why, built, ..Wait::after(Duration::from_millis(0)) });
            }
            // What is judged with a lease may be its resource's, whose changes are told to that.
            let pause_now = if sights.polled || work.lease.is_some() { pause } else { LOOK_AGAIN.to_std() };
            let _ = tokio::time::timeout(pause_now, changed.notified()).await;
            pause = (pause * 2).min(LOOK_AGAIN.to_std());
        }
    }

    /// How the objects of a record are: as they were just made, as their watch shows them, or as they are read.
    async fn look(&self, work: &Work, record: &Record, new: BTreeMap<usize, Seen>) -> Result<Sights, kube::Error> {
        let mut sights = Sights { seen: new, gone: Vec::new(), polled: false };
        let owner = owner_of(&work.key);
        for (n, made) in record.objects.iter().enumerate() {
            if sights.seen.contains_key(&n) || made.uid.is_none() {
                continue;
            }
            match self.live.sight(&self.world(), &record.account, owner, made) {
                Sight::There(seen) => {
                    sights.seen.insert(n, seen);
                    continue;
                }
                Sight::NotSeen | Sight::NotYet => {}
                Sight::Denied => sights.polled = true,
            }
            match self.read_made(&self.client(record)?, record, made).await? {
                Some(found) if found.metadata.uid == made.uid => {
                    sights.seen.insert(n, Seen::of(found, &made.kind));
                }
                _ => sights.gone.push(n),
            }
        }
        Ok(sights)
    }

    /// Whether they are ready, and what the lease is told then; or why not.
    async fn judge(
        &self,
        work: &Work,
        about: &Job,
        sights: &Sights,
    ) -> Result<Result<BTreeMap<String, String>, String>, Answer> {
        let kind = kind_of(work);
        let objects = self.objects_of(work, about, sights).await.map_err(|error| refused(kind, &error))?;
        let about_it = About {
            blueprint: &about.blueprint,
            resource: &about.resource,
            lease: work.lease.as_deref(),
            objects: Some(objects),
        };
        if let Some(why) = self.not_ready(about, &about_it, work.lease.is_some()).await {
            return Ok(Err(why));
        }
        let outputs = about.plan.outputs(&*self.evaluator, &about_it).await;
        let outputs = outputs.map_err(|unmade| self.unmade(kind, &about.blueprint, &unmade))?;
        let mut all = match work.lease {
            Some(_) => about.resource.status.as_ref().map(|s| s.outputs.clone()).unwrap_or_default(),
            None => BTreeMap::new(),
        };
        all.extend(outputs);
        Ok(Ok(all))
    }

    /// What `readyWhen` says against it. An error means not ready, and is told.
    async fn not_ready(&self, about: &Job, about_it: &About<'_>, of_lease: bool) -> Option<String> {
        let expression = about.plan.ready_when.clone().filter(|_| about.plan.judges(of_lease))?;
        let bindings = super::plan::bindings(about_it, expression.roots());
        let outcome = self.evaluator.evaluate(vec![expression], bindings).await.pop()?;
        match outcome {
            Ok(Value::Bool(true)) => None,
            Ok(Value::Bool(false)) => Some(format!("readyWhen is false{}", told(about_it.objects.as_deref()))),
            Ok(other) => {
                Some(format!("readyWhen gives {}, which is neither true nor false", super::plan::told(&other)))
            }
            Err(error) => {
                if error == crate::expression::EvaluationError::TooSlow {
                    self.is_too_slow(&about.blueprint, format!("spec.driver.objects.readyWhen: {error}"));
                }
                Some(format!("readyWhen: {error}"))
            }
        }
    }

    /// `objects`: those of the work's own record, and for a lease those of its resource before them.
    async fn objects_of(&self, work: &Work, about: &Job, sights: &Sights) -> Result<Vec<Value>, kube::Error> {
        let mut objects = Vec::new();
        if work.lease.is_some()
            && about.plan.judges(true)
            && let Ok(Some(record)) = Record::of_resource(&about.resource)
        {
            let key = EffectKey::of_resource(&work.key.resource);
            let beneath = Work { key, lease: None, ..work.clone() };
            let sights = self.look(&beneath, &record, BTreeMap::new()).await?;
            objects.extend(sights.seen.values().map(|seen| (*seen.value).clone()));
        }
        objects.extend(sights.seen.values().map(|seen| (*seen.value).clone()));
        Ok(objects)
    }

    /// How what was made is by now.
    pub(super) async fn look_after(self: Arc<Self>, work: Work) -> Option<Observed> {
        let kind = kind_of(&work);
        let record = Record::of(&work).ok()??;
        let names_lease = || work.blueprint.as_ref().and_then(|b| b.spec.driver.objects.as_ref()?.ready_when.as_ref());
        let of_lease = work.lease.is_some();
        let judged_beneath = of_lease && names_lease().is_some_and(|text| text.contains("lease"));
        if record.objects.is_empty() && !judged_beneath {
            return Some(Observed::default());
        }
        let sights = match self.look(&work, &record, BTreeMap::new()).await {
            Ok(sights) => sights,
            Err(error) => {
                // It is not known; and nothing says when it will be.
                tracing::debug!(account = %record.account, "an environment cannot be looked at: {error}");
                return None;
            }
        };
        let mut observed =
            Observed { look_again: (sights.polled || judged_beneath).then_some(LOOK_AGAIN), ..Observed::default() };
        let gone: Vec<_> = sights.gone.iter().map(|n| &record.objects[*n]).collect();
        let gone_told = gone.iter().map(|made| format!("{} is gone", made.told())).collect::<Vec<_>>().join("; ");
        // Where its Blueprint cannot be read any more it is not known what matters: what was told stands.
        let about = self.about(kind, &work).await.ok()?;
        if about.plan.judges(work.lease.is_some()) {
            // With a question of its own it says what matters.
            let objects = self.objects_of(&work, &about, &sights).await.ok()?;
            let about_it = About {
                blueprint: &about.blueprint,
                resource: &about.resource,
                lease: work.lease.as_deref(),
                objects: Some(objects),
            };
            let against = self.not_ready(&about, &about_it, work.lease.is_some()).await;
            // A question that takes too long gets no answer, and is not asked again.
            self.plan(&about.blueprint).await.ok()?;
            if let Some(why) = against {
                let gone_told = if gone.is_empty() { String::new() } else { format!("{gone_told}; ") };
                observed.lost = Some(format!("{gone_told}{why}"));
                observed.for_good = !gone.is_empty();
            }
        } else if !gone.is_empty() {
            observed.lost = Some(gone_told);
            observed.for_good = true;
        }
        // From here on nothing is asked: what is news is told.
        for (n, seen) in &sights.seen {
            let made = &record.objects[*n];
            if made.fields.is_some() && seen.fields != made.fields && self.is_news(made, seen.fields.as_deref()) {
                observed.changed.push(format!("{} was changed by somebody; it is left so", made.told()));
            }
        }
        if observed.lost.is_none() {
            let news = gone.iter().filter(|made| self.is_news(made, None));
            observed.gone = news.map(|made| format!("{} is gone; it is not made again", made.told())).collect();
        }
        Some(observed)
    }

    async fn about(&self, kind: StepKind, work: &Work) -> Result<Job, Answer> {
        let (Some(blueprint), Some(resource)) = (work.blueprint.clone(), work.resource.clone()) else {
            return Err(Answer::Again(Wait::after(Duration::from_secs(1))));
        };
        match self.plan(&blueprint).await {
            Ok(plan) => Ok(Job { blueprint, resource, plan }),
            Err(trouble) => Err(for_good(kind, trouble.reason, trouble.message)),
        }
    }

    async fn render(&self, kind: StepKind, work: &Work, about: &Job) -> Result<Vec<(Made, Value)>, Answer> {
        let about_it = About {
            blueprint: &about.blueprint,
            resource: &about.resource,
            lease: work.lease.as_deref(),
            objects: None,
        };
        let rendered = about.plan.render(&*self.evaluator, &about_it, &work.key).await;
        rendered.map_err(|unmade| self.unmade(kind, &about.blueprint, &unmade))
    }

    fn unmade(&self, kind: StepKind, blueprint: &Blueprint, unmade: &Unmade) -> Answer {
        if unmade.is_too_slow() {
            self.is_too_slow(blueprint, unmade.to_string());
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
        object: Value,
        known_at: &mut Instant,
    ) -> Result<DynamicObject, Answer> {
        let kind = kind_of(work);
        let explain = |error: &kube::Error| match refused(kind, error) {
            Answer::Failed(failed) => Answer::Failed(crate::api::Failure {
                message: format!("{}: {}", made.told(), failed.message),
                ..failed
            }),
            Answer::FailedForGood(failed) => Answer::FailedForGood(crate::api::Failure {
                message: format!("{}: {}", made.told(), failed.message),
                ..failed
            }),
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
        let mut object: DynamicObject = serde_json::from_value(object)
            .map_err(|error| for_good(kind, "InvalidTemplate", format!("{}: {error}", made.told())))?;
        let proofs = self.prover.proofs().await.map_err(|error| explain(&error))?;
        let place = if known.namespaced { namespace } else { "" };
        if let Some(proof) = proofs.of(&work.key, &made.kind, place, &made.name) {
            object.metadata.annotations.get_or_insert_default().insert(PROOF.into(), proof);
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
                let params = PostParams { field_manager: Some(NAME_AS_MANAGER.into()), ..PostParams::default() };
                let created = in_time(api.create(&params, &object)).await;
                drop(open);
                created
            })
        };
        let created = creating.await.map_err(|error| failure(kind, "Panicked", error.to_string()))?;
        match created {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let found = super::read(&api, &made.name).await.map_err(|error| explain(&error))?;
                self.found(kind, work, (&api, &known), made, found, &proofs).await
            }
            Err(error) => {
                if is_missing(&error) {
                    self.kinds.forget(&made.kind);
                }
                Err(explain(&error))
            }
        }
    }

    /// An object of that name is there.
    async fn found(
        &self,
        kind: StepKind,
        work: &Work,
        (api, known): (&kube::Api<DynamicObject>, &Known),
        made: &Made,
        found: Option<DynamicObject>,
        proofs: &Proofs,
    ) -> Result<DynamicObject, Answer> {
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
fn is_of_earlier(object: &DynamicObject, key: &EffectKey) -> bool {
    let Some((lease, attempt)) = &key.lease else { return false };
    let label = |name: &str| object.metadata.labels.as_ref()?.get(name).cloned();
    let of = label(ATTEMPT).and_then(|of| of.parse::<i64>().ok());
    label(OWNER).as_deref() == Some(lease) && of.is_some_and(|of| of < *attempt)
}

fn kind_of(work: &Work) -> StepKind {
    if work.key.lease.is_some() { StepKind::Activate } else { StepKind::Build }
}

/// The step goes on when the UIDs that there are by now are on record.
fn put_on_record(record: &Record, work: &Work) -> Answer {
    let why = work.told.clone();
    Answer::Again(Wait { why, built: Some(record.value()), ..Wait::after(Duration::from_millis(0)) })
}

/// What the phases of the objects say, where they say anything: why an environment is not ready is seldom in the question.
fn told(objects: Option<&[Value]>) -> String {
    let phase = |object: &Value| {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
        Some(format!("{} {} is {}", text("/kind")?, text("/metadata/name")?, text("/status/phase")?))
    };
    let phases: Vec<_> = objects.unwrap_or_default().iter().filter_map(phase).take(8).collect();
    if phases.is_empty() { String::new() } else { format!(" ({})", phases.join(", ")) }
}
