//! Events: every Warning; of Normal ones only what the decisions draft. From a bounded queue that drops, and never delays
//! a pass (api.md, 7).

use super::{clock::ClockHandle, metrics::Metrics};
use crate::{
    api::{GROUP, VERSION},
    lifecycle::{EventDraft, EventKind, commands::shorten_bytes},
};
use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime as EventTime;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::mpsc;

/// How many wait to be published at most.
const WAITING: usize = 1000;

/// What the API server takes at most, in bytes (k8s.io/kubernetes, pkg/apis/core/validation/events.go): the note of an Event, its
/// reason, action and reporting instance, and its name.
const NOTE_BYTES: usize = 1024;
const WORD_BYTES: usize = 128;
const NAME_BYTES: usize = 253;

/// The controller's name in Events.
const REPORTER: &str = "drydock.dev/controller";

/// Where passes put Events.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    clock: ClockHandle,
    metrics: Arc<Metrics>,
    instance: Arc<str>,
    number: Arc<AtomicU64>,
}

/// What publishes them.
pub struct Publisher {
    queue: mpsc::Receiver<Event>,
    client: Client,
    metrics: Arc<Metrics>,
}

/// Both ends of the queue.
pub fn queue(client: Client, clock: ClockHandle, metrics: Arc<Metrics>, instance: &str) -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let events =
        Events { queue: sender, clock, metrics: metrics.clone(), instance: instance.into(), number: Arc::default() };
    (events, Publisher { queue: receiver, client, metrics })
}

impl Events {
    /// Publishes these about an object; or drops them, where too many wait.
    pub fn publish(&self, kind: &str, about: &ObjectMeta, drafts: Vec<EventDraft>) {
        for draft in drafts {
            let object = super::key::ObjectKey::of(about);
            match draft.kind {
                EventKind::Normal => tracing::info!(kind, %object, reason = draft.reason, "{}", draft.message),
                EventKind::Warning => tracing::warn!(kind, %object, reason = draft.reason, "{}", draft.message),
            }
            if self.queue.try_send(self.event(kind, about, draft)).is_err() {
                self.metrics.event_dropped();
            }
        }
    }

    fn event(&self, kind: &str, about: &ObjectMeta, draft: EventDraft) -> Event {
        let now = self.clock.now().timestamp();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let reason = shorten_bytes(draft.reason, WORD_BYTES);
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(about, &format!(".{:x}.{number:x}", now.as_microsecond()))),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(reason.clone()),
            reason: Some(reason),
            note: Some(shorten_bytes(draft.message, NOTE_BYTES)),
            type_: Some(
                match draft.kind {
                    EventKind::Normal => "Normal",
                    EventKind::Warning => "Warning",
                }
                .into(),
            ),
            event_time: Some(EventTime(now)),
            reporting_controller: Some(REPORTER.into()),
            reporting_instance: Some(shorten_bytes(self.instance.to_string(), WORD_BYTES)),
            regarding: Some(ObjectReference {
                api_version: Some(format!("{GROUP}/{VERSION}")),
                kind: Some(kind.into()),
                name: about.name.clone(),
                namespace: about.namespace.clone(),
                uid: about.uid.clone(),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

/// As much of the object's name as fits before what makes the Event's name unique, and ends as a DNS label may.
fn event_name(about: &ObjectMeta, unique: &str) -> String {
    let name = about.name.as_deref().unwrap_or_default();
    // Names are ASCII.
    let kept = name.get(..NAME_BYTES.saturating_sub(unique.len())).unwrap_or(name);
    format!("{}{unique}", kept.trim_end_matches(['-', '.']))
}

impl Publisher {
    /// Publishes until every [`Events`] is dropped. An Event that cannot be published is dropped and counted.
    pub async fn run(mut self) {
        while let Some(event) = self.queue.recv().await {
            let namespace = event.metadata.namespace.clone().unwrap_or_default();
            let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
            if let Err(error) = super::writer::in_time(api.create(&PostParams::default(), &event)).await {
                self.metrics.event_dropped();
                tracing::debug!(%error, "an Event was not published");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_name_that_the_api_server_takes() {
        let named = |name: &str| {
            event_name(&ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ".64f0c3a8d2b40.1a")
        };
        assert_eq!(named("build-1"), "build-1.64f0c3a8d2b40.1a");
        let longest = named(&"a".repeat(253));
        assert_eq!((longest.len(), longest.ends_with("a.64f0c3a8d2b40.1a")), (NAME_BYTES, true));
        let cut = named(&format!("{}--.{}", "a".repeat(233), "b".repeat(17)));
        assert!(cut.len() <= NAME_BYTES && cut.contains("a.64f"), "{cut}");
    }
}
