//! Watches a few objects and tells each change of them, in order, until the asker has seen enough. Nothing polls, and nothing is
//! watched that nobody waits for.

use super::{error::Error, print, queued::Queued, tolerance::Tolerance};
use futures::{
    StreamExt as _,
    stream::{AbortHandle, BoxStream, SelectAll, abortable},
};
use kube::{
    Api, ResourceExt as _,
    core::{DeserializeGuard, Status},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Config, Event, watcher},
    },
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many objects are watched at once, each by its name. The rest wait for their turn: a connection to the API server carries a
/// hundred requests, and watches hold theirs.
const AT_ONCE: usize = 32;

/// What was seen of one of the objects.
#[derive(Debug)]
pub(super) enum Sight<K> {
    /// It is so now.
    Now(K),
    /// It is gone; with the last that was seen of it, where the server told.
    Gone { name: String, last: Option<K> },
}

/// What one watch tells, and of which object; of all of them, where it has no name.
type Told<K> = (Option<String>, watcher::Result<Event<DeserializeGuard<K>>>);

/// Follows objects by name and UID.
pub(super) struct Follower<K: Queued> {
    tried: String,
    api: Api<DeserializeGuard<K>>,
    events: SelectAll<BoxStream<'static, Told<K>>>,
    /// Those that are still there, by name, with their UIDs.
    wanted: BTreeMap<String, String>,
    /// Those whose watch has not begun.
    unwatched: VecDeque<String>,
    /// Ends the watch of one.
    watches: BTreeMap<String, AbortHandle>,
    /// During a list: those that it has not shown yet.
    missing: BTreeSet<String>,
    told: VecDeque<Sight<K>>,
    tolerance: Tolerance,
}

impl<K: Queued> Follower<K> {
    /// Follows these `(name, uid)`, each by a watch of its own: the first few of them, and the others as those are left. The API server
    /// has answered the asker before.
    pub(super) fn new(api: &Api<K>, wanted: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut follower = Self::idle(api, wanted.into_iter().collect());
        follower.unwatched = follower.wanted.keys().cloned().collect();
        follower.watch_more();
        follower
    }

    /// Follows these `(name, uid)`, all of which have this label, and no others do: by one watch.
    pub(super) fn labelled(api: &Api<K>, label: &str, wanted: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut follower = Self::idle(api, wanted.into_iter().collect());
        let events = watcher(follower.api.clone(), Config::default().labels(label)).default_backoff();
        follower.events.push(events.map(|event| (None, event)).boxed());
        follower
    }

    fn idle(api: &Api<K>, wanted: BTreeMap<String, String>) -> Self {
        let namespace = api.namespace().unwrap_or_default().to_owned();
        Self {
            tried: format!("watching {}s in namespace {namespace}", K::WORD),
            api: Api::namespaced(api.clone().into_client(), &namespace),
            events: SelectAll::new(),
            wanted,
            unwatched: VecDeque::new(),
            watches: BTreeMap::new(),
            missing: BTreeSet::new(),
            told: VecDeque::new(),
            tolerance: Tolerance::proven(),
        }
    }

    fn watch_more(&mut self) {
        while self.watches.len() < AT_ONCE {
            let Some(name) = self.unwatched.pop_front() else { return };
            let config = Config::default().fields(&format!("metadata.name={name}"));
            let (events, end) = abortable(watcher(self.api.clone(), config).default_backoff());
            let of = name.clone();
            self.events.push(events.map(move |event| (Some(of.clone()), event)).boxed());
            self.watches.insert(name, end);
        }
    }

    /// Follows this one no longer.
    pub(super) fn leave(&mut self, name: &str) {
        self.wanted.remove(name);
        self.missing.remove(name);
        self.unwatched.retain(|unwatched| unwatched != name);
        if let Some(end) = self.watches.remove(name) {
            end.abort();
        }
        self.watch_more();
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
                Some((of, Ok(event))) => {
                    self.tolerance.answered();
                    self.take(of.as_deref(), event);
                }
                Some((
                    _,
                    Err(
                        watcher::Error::InitialListFailed(kube::Error::Api(status))
                        | watcher::Error::WatchStartFailed(kube::Error::Api(status)),
                    ),
                )) if is_final(&status) => {
                    let error = Error::Refused { tried: self.tried.clone(), status };
                    if !self.tolerance.forgives(&error) {
                        return Err(error);
                    }
                    print::tell(&format!("{error}; watching again, as an API server says so that has just started"));
                }
                // Too much has happened since: it is listed again, and nobody need be told.
                Some((_, Err(watcher::Error::WatchError(status)))) if status.code == 410 => {}
                Some((_, Err(error))) => tracing::warn!(%error, "the watch was cut off; watching again"),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes in what the watch of this object tells, or that of all of them.
    fn take(&mut self, of: Option<&str>, event: Event<DeserializeGuard<K>>) {
        match event {
            Event::Init => match of {
                Some(name) => drop(self.missing.insert(name.to_owned())),
                None => self.missing = self.wanted.keys().cloned().collect(),
            },
            Event::InitApply(object) | Event::Apply(object) => self.see(object),
            Event::InitDone => {
                let missing = match of {
                    Some(name) => self.missing.take(name).into_iter().collect(),
                    None => std::mem::take(&mut self.missing),
                };
                for name in missing {
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
        if self.wanted.contains_key(name) {
            self.leave(name);
            self.told.push_back(Sight::Gone { name: name.to_owned(), last });
        }
    }
}

/// Whether the server knows us and says no, or does not know what is asked for.
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

    fn follower(wanted: &[(&str, &str)], events: BoxStream<'static, watcher::Result<Seen>>) -> Follower<Lease> {
        let client = kube::Client::new(
            tower::service_fn(async |_: http::Request<kube::client::Body>| {
                Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody is there"))
            }),
            "ci",
        );
        let wanted = wanted.iter().map(|(name, uid)| ((*name).to_owned(), (*uid).to_owned()));
        let mut follower = Follower::idle(&Api::namespaced(client, "ci"), wanted.collect());
        follower.events.push(events.map(|event| (None, event)).boxed());
        follower
    }

    fn text(sight: Result<Sight<Lease>, Error>) -> String {
        match sight {
            Ok(Sight::Now(lease)) => format!("{} now", lease.name()),
            Ok(Sight::Gone { name, last: Some(_) }) => format!("{name} gone, seen"),
            Ok(Sight::Gone { name, last: None }) => format!("{name} gone"),
            Err(error) => error.to_string(),
        }
    }

    /// What a follower of `a` (UID 1) and `b` (UID 2) tells of these events.
    fn told(events: Vec<watcher::Result<Seen>>) -> Vec<String> {
        let mut follower = follower(&[("a", "1"), ("b", "2")], stream::iter(events).boxed());
        let mut told = vec![];
        while let Some(sight) = follower.next().now_or_never() {
            told.push(text(sight));
        }
        told
    }

    #[tokio::test]
    async fn changes_are_told_of_the_objects_that_are_meant_and_no_others() {
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

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_the_watch_after_a_minute_and_a_gap_does_not() {
        let status = |code| Status::failure("no", "").with_code(code).boxed();
        let refused = |code| Err(watcher::Error::InitialListFailed(kube::Error::Api(status(code))));
        assert_eq!(told(vec![refused(400)]), ["watching leases in namespace ci: no"]);
        let expired = watcher::Error::WatchError(status(410));
        let cut = watcher::Error::WatchStartFailed(kube::Error::Api(status(503)));
        let lease = || Ok(Event::Apply(lease("a", "1")));
        assert_eq!(told(vec![Err(expired), Err(cut), lease()]), ["a now"]);
        for code in [401, 403, 404] {
            let events = vec![
                (0, refused(code)),
                (59, refused(code)),
                (0, lease()),
                (60, refused(code)),
                (0, refused(code)),
                (61, refused(code)),
            ];
            let events = stream::iter(events).then(async |(seconds, event)| {
                tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
                event
            });
            let mut follower = follower(&[("a", "1")], events.boxed());
            assert_eq!(text(follower.next().await), "a now", "{code}");
            assert!(text(follower.next().await).contains("no"), "{code}");
        }
    }

    #[tokio::test]
    async fn a_few_are_watched_at_once_and_each_by_its_name() {
        let names: Vec<String> = (0..100).map(|n| format!("l-{n}")).collect();
        let asked = std::sync::Arc::new(std::sync::Mutex::new(BTreeSet::new()));
        let record = asked.clone();
        let client = kube::Client::new(
            tower::service_fn(move |request: http::Request<kube::client::Body>| {
                record.lock().unwrap().insert(request.uri().query().unwrap_or_default().to_owned());
                async { std::future::pending::<Result<http::Response<kube::client::Body>, std::io::Error>>().await }
            }),
            "ci",
        );
        let wanted = names.iter().map(|name| (name.clone(), "u".to_owned()));
        let mut follower = Follower::<Lease>::new(&Api::namespaced(client, "ci"), wanted);
        for left in [None, follower.watches.keys().next().cloned()] {
            let expected = AT_ONCE + usize::from(left.is_some());
            left.iter().for_each(|name| follower.leave(name));
            while asked.lock().unwrap().len() < expected {
                assert!(follower.next().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            let asked = asked.lock().unwrap();
            assert!(asked.iter().all(|query| query.contains("fieldSelector=metadata.name%3Dl-")), "{asked:?}");
            assert_eq!((follower.watches.len(), asked.len()), (AT_ONCE, expected));
        }
    }
}
