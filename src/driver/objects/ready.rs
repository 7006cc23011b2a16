//! How the objects that were made are: whether what they are for is ready, has failed, or is lost by now.

use super::{
    Workshop, for_good,
    live::Sight,
    make::{Job, LOOK_AGAIN, kind_of},
    plan::{About, MAX_ENVIRONMENT, is_slow_by_itself, owner_of},
    record::Record,
    refused,
    snapshot::Seen,
    why::complaints,
};
use crate::{
    api::step::{Answer, EffectKey, Observed},
    driver::Work,
    expression::{EvaluationError, Expression},
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// How the objects are: in order, as they were last seen.
pub(super) struct Sights {
    pub(super) seen: BTreeMap<usize, Seen>,
    /// Those that are gone, by the API server's own word.
    pub(super) gone: Vec<usize>,
    /// Nothing tells of changes.
    pub(super) polled: bool,
}

/// What `failedWhen` says.
enum GivenUp {
    /// It cannot succeed, and why.
    Yes(String),
    /// There is no such question, or the answer is no.
    No,
    /// The question has ended in an error.
    Unknown(String),
}

impl Workshop {
    /// How the objects of a record are: as they were just made, as their watch shows them, or as they are read.
    pub(super) async fn look(
        &self,
        work: &Work,
        record: &Record,
        new: BTreeMap<usize, Seen>,
    ) -> Result<Sights, kube::Error> {
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
                    let seen = found.seen(&made.kind);
                    self.live.keep(&record.account, made, &seen);
                    sights.seen.insert(n, seen);
                }
                _ => sights.gone.push(n),
            }
        }
        Ok(sights)
    }

    /// Whether they are ready, and what the lease is told then; or why not.
    pub(super) async fn judge(
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
        let of_lease = work.lease.is_some();
        let unknown = match self.given_up(about, &about_it, of_lease).await {
            GivenUp::Yes(why) => return Err(for_good(kind, "FailedWhen", super::brief(why))),
            GivenUp::Unknown(why) => Some(why),
            GivenUp::No => None,
        };
        if let Some(why) = self.not_ready(about, &about_it, of_lease).await {
            return Ok(Err(std::iter::once(why).chain(unknown).collect::<Vec<_>>().join("; ")));
        }
        let outputs = match about.plan.outputs(&*self.evaluator_of(&about.blueprint), &about_it).await {
            Ok(outputs) => outputs,
            Err(unmade) => return Err(self.unmade(kind, &about_it, &unmade).await),
        };
        let mut all = match work.lease {
            Some(_) => about.resource.status.as_ref().map(|s| s.outputs.clone()).unwrap_or_default(),
            None => BTreeMap::new(),
        };
        all.extend(outputs);
        Ok(Ok(all))
    }

    /// What `readyWhen` says against it. An error means not ready, and is told.
    async fn not_ready(&self, about: &Job, about_it: &About<'_>, of_lease: bool) -> Option<String> {
        let expression = about.plan.ready_when.as_ref().filter(|_| about.plan.judges(of_lease))?;
        match self.ask("readyWhen", expression, about, about_it).await {
            Ok(true) => None,
            Ok(false) => Some(with_complaints("readyWhen is false", about_it)),
            // An error is often that of a field which is not there yet; what the objects say tells why.
            Err(why) => Some(with_complaints(&why, about_it)),
        }
    }

    /// Whether `failedWhen` gives up what it is asked of, and what the objects say then. An error means that it does not, and
    /// is told while something else is waited for.
    async fn given_up(&self, about: &Job, about_it: &About<'_>, of_lease: bool) -> GivenUp {
        let expression = about.plan.failed_when.as_ref().filter(|_| about.plan.gives_up(of_lease));
        let Some(expression) = expression else { return GivenUp::No };
        match self.ask("failedWhen", expression, about, about_it).await {
            Ok(true) => GivenUp::Yes(with_complaints("failedWhen is true", about_it)),
            Ok(false) => GivenUp::No,
            Err(why) => GivenUp::Unknown(why),
        }
    }

    /// Asks a question of the Blueprint that is answered with true or false.
    async fn ask(
        &self,
        field: &str,
        expression: &Expression,
        about: &Job,
        about_it: &About<'_>,
    ) -> Result<bool, String> {
        let bindings = super::plan::bindings(about_it, expression.roots());
        let evaluator = self.evaluator_of(&about.blueprint);
        let outcomes = evaluator.evaluate(vec![expression.clone()], bindings).await;
        match outcomes.into_iter().next() {
            Some(Ok(Value::Bool(answer))) => Ok(answer),
            Some(Ok(other)) => {
                Err(format!("{field} gives {}, which is neither true nor false", super::plan::told(&other)))
            }
            Some(Err(error)) => {
                // What is slow only with the objects or the lease is theirs.
                if error == EvaluationError::TooSlow && is_slow_by_itself(&*evaluator, about_it, expression).await {
                    self.is_too_slow(&about.blueprint, format!("spec.driver.objects.{field}: {error}"));
                }
                Err(format!("{field}: {error}"))
            }
            None => Err(format!("{field} was not evaluated")),
        }
    }

    /// `objects`: those of the work's own record, and for a lease those of its resource before them, where an expression
    /// names them.
    async fn objects_of(&self, work: &Work, about: &Job, sights: &Sights) -> Result<Vec<Value>, kube::Error> {
        let mut objects = Vec::new();
        if work.lease.is_some()
            && about.plan.asks_objects_for_lease()
            && let Ok(Some(record)) = Record::of_resource(&about.resource)
        {
            let key = EffectKey::of_resource(&work.key.resource);
            let beneath = Work { key, lease: None, ..work.clone() };
            let sights = self.look(&beneath, &record, BTreeMap::new()).await?;
            objects.extend(sights.seen.into_values());
        }
        objects.extend(sights.seen.values().cloned());
        Ok(parsed(&objects))
    }

    /// How what was made is by now.
    pub(super) async fn look_after(self: Arc<Self>, work: Work) -> Option<Observed> {
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
        let about = self.about(&work).await.ok()?;
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
            let is_changed = seen.is_whole && made.fields.is_some() && seen.fields != made.fields;
            if is_changed && self.is_news(made, seen.fields.as_deref()) {
                observed.changed.push(format!("{} was changed by somebody; it is left so", made.told()));
            }
        }
        if observed.lost.is_none() {
            let news = gone.iter().filter(|made| self.is_news(made, None));
            observed.gone = news.map(|made| format!("{} is gone; it is not made again", made.told())).collect();
        }
        Some(observed)
    }
}

/// The objects of an environment as values. Beyond what an environment may weigh only which objects they are.
fn parsed(objects: &[Seen]) -> Vec<Value> {
    let mut left = MAX_ENVIRONMENT;
    let value = |seen: &Seen| {
        let weight = seen.weight();
        let fits = weight <= left;
        left = left.saturating_sub(weight);
        if fits { seen.value() } else { seen.outline() }
    };
    objects.iter().map(value).collect()
}

/// A finding with what the objects say: why an environment is not ready is seldom in the question.
fn with_complaints(finding: &str, about_it: &About<'_>) -> String {
    let complaints = complaints(about_it.objects.as_deref().unwrap_or_default());
    if complaints.is_empty() { finding.to_owned() } else { format!("{finding}: {complaints}") }
}
