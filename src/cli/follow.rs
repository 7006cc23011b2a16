//! Watches a few objects and tells each change of them, in order, until the asker has seen enough. Nothing polls.

use super::{error::Error, queued::Queued};
use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, ResourceExt as _,
    core::{DeserializeGuard, Status},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Config, Event, watcher},
    },
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What was seen of one of the objects.
#[derive(Debug)]
pub(super) enum Sight<K> {
    /// It is so now.
    Now(K),
    /// It is gone; with the last that was seen of it, where the server told.
    Gone { name: String, last: Option<K> },
}

type Events<K> = BoxStream<'static, watcher::Result<Event<DeserializeGuard<K>>>>;

/// Follows objects by name and UID.
pub(super) struct Follower<K> {
    tried: String,
    events: Events<K>,
    /// Those that are still there, by name, with their UIDs.
    wanted: BTreeMap<String, String>,
    /// During a list: those that it has not shown yet.
    missing: BTreeSet<String>,
    told: VecDeque<Sight<K>>,
}

impl<K: Queued> Follower<K> {
    /// Follows these `(name, uid)`. One object is watched alone; of several, all of the namespace are watched.
    pub(super) fn new(api: Api<K>, wanted: impl IntoIterator<Item = (String, String)>) -> Self {
        let wanted: BTreeMap<String, String> = wanted.into_iter().collect();
        let config = match wanted.keys().next() {
            Some(name) if wanted.len() == 1 => Config::default().fields(&format!("metadata.name={name}")),
            _ => Config::default(),
        };
        let namespace = api.namespace().unwrap_or_default().to_owned();
        let tried = format!("watching {}s in namespace {namespace}", K::WORD);
        let api: Api<DeserializeGuard<K>> = Api::namespaced(api.into_client(), &namespace);
        Self::of(tried, wanted, watcher(api, config).default_backoff().boxed())
    }

    fn of(tried: String, wanted: BTreeMap<String, String>, events: Events<K>) -> Self {
        Self { tried, events, wanted, missing: BTreeSet::new(), told: VecDeque::new() }
    }

    /// The next thing seen of any of them; never anything once all are gone.
    ///
    /// # Errors
    /// Where the watch is refused. What passes (a restart of the API server, a cut line) is waited out, and told in the log.
    pub(super) async fn next(&mut self) -> Result<Sight<K>, Error> {
        loop {
            if let Some(sight) = self.told.pop_front() {
                return Ok(sight);
            }
            match self.events.next().await {
                Some(Ok(event)) => self.take(event),
                Some(Err(
                    watcher::Error::InitialListFailed(kube::Error::Api(status))
                    | watcher::Error::WatchStartFailed(kube::Error::Api(status)),
                )) if is_final(&status) => return Err(Error::Refused { tried: self.tried.clone(), status }),
                // Too much has happened since: it is listed again, and nobody need be told.
                Some(Err(watcher::Error::WatchError(status))) if status.code == 410 => {}
                Some(Err(error)) => tracing::warn!(%error, "the watch was cut off; watching again"),
                None => std::future::pending().await,
            }
        }
    }

    fn take(&mut self, event: Event<DeserializeGuard<K>>) {
        match event {
            Event::Init => self.missing = self.wanted.keys().cloned().collect(),
            Event::InitApply(object) | Event::Apply(object) => self.see(object),
            Event::InitDone => {
                for name in std::mem::take(&mut self.missing) {
                    self.lose(&name, None);
                }
            }
            Event::Delete(object) => {
                let name = object.name_any();
                if self.is_wanted(&name, object.uid().as_deref()) {
                    self.lose(&name, object.0.ok());
                }
            }
        }
    }

    fn see(&mut self, object: DeserializeGuard<K>) {
        let name = object.name_any();
        if self.is_wanted(&name, object.uid().as_deref()) {
            self.missing.remove(&name);
            match object.0 {
                Ok(object) => self.told.push_back(Sight::Now(object)),
                Err(error) => {
                    tracing::warn!(%name, %error, "cannot read what the server says of it; a newer drydock may")
                }
            }
        } else if self.wanted.contains_key(&name) {
            self.lose(&name, None); // another one has its name: the one that was meant is gone
        }
    }

    fn is_wanted(&self, name: &str, uid: Option<&str>) -> bool {
        self.wanted.get(name).is_some_and(|wanted| Some(wanted.as_str()) == uid)
    }

    fn lose(&mut self, name: &str, last: Option<K>) {
        self.missing.remove(name);
        if let Some((name, _)) = self.wanted.remove_entry(name) {
            self.told.push_back(Sight::Gone { name, last });
        }
    }
}

/// Whether watching again is no use: the server knows us and says no, or does not know what is asked for.
fn is_final(status: &Status) -> bool {
    matches!(status.code, 400 | 401 | 403 | 404)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Lease;
    use futures::{FutureExt as _, stream};

    type Seen = Event<DeserializeGuard<Lease>>;

    fn lease(name: &str, uid: &str) -> DeserializeGuard<Lease> {
        let mut lease = Lease::new(name, Default::default());
        lease.metadata.uid = Some(uid.to_owned());
        DeserializeGuard(Ok(lease))
    }

    /// What a follower of `a` (UID 1) and `b` (UID 2) tells of these events.
    fn told(events: Vec<watcher::Result<Seen>>) -> Vec<String> {
        let wanted = [("a", "1"), ("b", "2")].map(|(name, uid)| (name.to_owned(), uid.to_owned()));
        let mut follower = Follower::of("watching".to_owned(), wanted.into(), stream::iter(events).boxed());
        let mut told = vec![];
        while let Some(sight) = follower.next().now_or_never() {
            told.push(match sight {
                Ok(Sight::Now(lease)) => format!("{} now", lease.name()),
                Ok(Sight::Gone { name, last: Some(_) }) => format!("{name} gone, seen"),
                Ok(Sight::Gone { name, last: None }) => format!("{name} gone"),
                Err(error) => error.to_string(),
            });
        }
        told
    }

    #[test]
    fn changes_are_told_of_the_objects_that_are_meant_and_no_others() {
        let list = |objects: Vec<DeserializeGuard<Lease>>| {
            let mut events = vec![Ok(Event::Init)];
            events.extend(objects.into_iter().map(Event::InitApply).map(Ok));
            events.push(Ok(Event::InitDone));
            events
        };
        let both = || list(vec![lease("a", "1"), lease("b", "2"), lease("c", "3")]);
        for (then, expected) in [
            (vec![], vec![]),
            (vec![Ok(Event::Apply(lease("b", "2"))), Ok(Event::Apply(lease("c", "3")))], vec!["b now"]),
            (vec![Ok(Event::Delete(lease("a", "1")))], vec!["a gone, seen"]),
            (vec![Ok(Event::Delete(lease("a", "9")))], vec![]),
            // Another one has its name: it is gone, once.
            (vec![Ok(Event::Apply(lease("a", "9"))), Ok(Event::Delete(lease("a", "9")))], vec!["a gone"]),
            // A list after a gap shows who is left.
            (list(vec![lease("b", "2")]), vec!["b now", "a gone"]),
            (list(vec![lease("a", "9"), lease("b", "2")]), vec!["a gone", "b now"]),
        ] {
            let events = both().into_iter().chain(then).collect();
            let expected: Vec<&str> = ["a now", "b now"].into_iter().chain(expected).collect();
            assert_eq!(told(events), expected);
        }
    }

    #[test]
    fn a_refusal_ends_the_watch_and_a_gap_does_not() {
        let status = |code| Status::failure("no", "").with_code(code).boxed();
        let refused = watcher::Error::InitialListFailed(kube::Error::Api(status(403)));
        assert_eq!(told(vec![Err(refused)]).len(), 1);
        let expired = watcher::Error::WatchError(status(410));
        let cut = watcher::Error::WatchStartFailed(kube::Error::Api(status(503)));
        assert_eq!(told(vec![Err(expired), Err(cut), Ok(Event::Apply(lease("a", "1")))]), ["a now"]);
    }
}
