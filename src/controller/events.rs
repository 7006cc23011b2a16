//! Events: every Warning; of Normal ones only what the decisions draft. From a bounded queue that drops, and never delays
//! a pass (api.md, 7).

use super::{clock::ClockHandle, metrics::Metrics};
use crate::{
    api::{GROUP, VERSION},
    lifecycle::{EventDraft, EventKind, commands::shorten},
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
        let name = about.name.clone().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}.{number:x}", now.as_microsecond())),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(draft.reason.clone()),
            reason: Some(draft.reason),
            note: Some(shorten(draft.message, 1024)),
            type_: Some(
                match draft.kind {
                    EventKind::Normal => "Normal",
                    EventKind::Warning => "Warning",
                }
                .into(),
            ),
            event_time: Some(EventTime(now)),
            reporting_controller: Some(REPORTER.into()),
            reporting_instance: Some(self.instance.to_string()),
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
