//! What lies between a controller and the API server: requests that take their time, that are lost before or after they have
//! taken effect, watches that lag, leave out, repeat and end. And the controller's life: it is killed with a request.

use crate::{
    faults::Faults,
    journal::{Kind, What},
    server::{
        Server,
        answer::Answer,
        request::{Request, Target, Verb},
        watch::{self, Shown},
    },
};
use axum::body::{Body as Answered, Bytes};
use axum::http::{self, Response, header};
use futures::{FutureExt as _, future::BoxFuture, stream};
use kube::client::Body;
use serde_json::json;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// The wire of one controller.
#[derive(Clone)]
pub struct Wire {
    pub server: Arc<Server>,
    pub faults: Arc<Faults>,
    /// Who is at its end.
    pub name: Arc<str>,
    /// Whether that is killed: nothing is answered any more.
    pub dead: Arc<AtomicBool>,
    /// Told when it is killed.
    pub died: Arc<Notify>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl tower_service::Service<http::Request<Body>> for Wire {
    type Response = Response<Answered>;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Self::Response, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let wire = self.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let (type_, accept) = (text(header::CONTENT_TYPE), text(header::ACCEPT));
            let read = Request::read(head.method.as_str(), &head.uri.to_string(), type_, accept, &body);
            let request = read.ok_or_else(|| format!("no such request: {} {}", head.method, head.uri))?;
            let answer = wire.carry(&request).await;
            if wire.is_dead() {
                std::future::pending::<()>().await;
            }
            let answer = answer?;
            if let (Verb::Watch, true, Target::Objects { kind, namespace, .. }) =
                (request.verb, answer.is_ok(), &request.target)
            {
                return Ok(wire.watch(*kind, namespace.clone(), &request));
            }
            Ok(respond(&answer))
        }
        .boxed()
    }
}

/// What a server says that cannot serve now.
const TROUBLES: [(u16, &str); 4] =
    [(500, "InternalError"), (429, "TooManyRequests"), (503, "ServiceUnavailable"), (504, "Timeout")];

impl Wire {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Kills whoever is at the end.
    pub fn kill(&self) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            let note = What::Note(format!("{} is killed", self.name));
            self.server.journal.add(&self.name, note);
            self.died.notify_one();
        }
    }

    async fn carry(&self, request: &Request) -> Result<Answer, Failed> {
        let faults = &self.faults;
        let latency = || async {
            let slow = faults.happens(|r| r.slow);
            let takes = faults.chance.milliseconds(if slow { 500..20_000 } else { 1..12 });
            tokio::time::sleep(takes + faults.busy()).await;
        };
        latency().await;
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        let effective = faults.chance.permille(500);
        if faults.happens(|r| r.crash) {
            if effective {
                self.server.handle(&self.name, request);
            }
            self.kill();
            std::future::pending::<()>().await;
        }
        if faults.happens(|r| r.unanswered) {
            if effective {
                self.server.handle(&self.name, request);
            }
            std::future::pending::<()>().await;
        }
        if faults.happens(|r| r.lost_before) || self.is_shut(request) {
            return self.trouble();
        }
        if faults.happens(|r| r.unserved) && matches!(request.target, Target::Objects { .. }) {
            return Ok(Answer::not_served());
        }
        if faults.happens(|r| r.conflict) {
            self.come_between(request);
        }
        let answer = self.server.handle(&self.name, request);
        latency().await;
        if faults.happens(|r| r.lost_after) {
            return self.trouble();
        }
        self.note_list(request, &answer);
        Ok(answer)
    }

    /// Somebody else is faster, with what does not concern Drydock.
    fn come_between(&self, request: &Request) {
        let writes = matches!(request.verb, Verb::Replace | Verb::MergePatch | Verb::JsonPatch);
        let Target::Objects { kind, namespace, name: Some(name), .. } = &request.target else { return };
        if !writes {
            return;
        }
        let target =
            Target::Objects { kind: *kind, namespace: namespace.clone(), name: Some(name.clone()), status: false };
        let body = json!({"metadata": {"annotations": {"touched": self.faults.chance.number().to_string()}}});
        let touch = Request { verb: Verb::MergePatch, target, query: BTreeMap::new(), body, metadata_only: false };
        self.server.handle(&"somebody".into(), &touch);
    }

    fn is_shut(&self, request: &Request) -> bool {
        match (&request.target, request.verb) {
            (Target::Objects { kind, name: Some(name), status: true, .. }, Verb::Replace) => {
                self.faults.shuts_writes(&self.name, *kind, name)
            }
            _ => false,
        }
    }

    /// Who lists all of a kind knows all of it.
    fn note_list(&self, request: &Request, answer: &Answer) {
        let Target::Objects { kind, namespace: None, .. } = request.target else { return };
        let chosen =
            ["fieldSelector", "labelSelector"].iter().any(|s| request.query.get(*s).is_some_and(|s| !s.is_empty()));
        let version = answer.body["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        if let (Verb::List, false, true, Some(version)) = (request.verb, chosen, answer.is_ok(), version) {
            self.server.journal.shows(&self.name, kind, version);
        }
    }

    /// An error of the server, or none at all: the connection is reset.
    fn trouble(&self) -> Result<Answer, Failed> {
        if self.faults.chance.permille(300) {
            return Err("connection reset by peer".into());
        }
        let (code, reason) = TROUBLES[self.faults.chance.within(0..4) as usize];
        Ok(Answer::refused(code, reason, "trouble"))
    }

    fn watch(&self, kind: Kind, namespace: Option<String>, request: &Request) -> Response<Answered> {
        let number = |name: &str| request.query.get(name).and_then(|n| n.parse::<u64>().ok());
        let ends = Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(290));
        let view = View {
            wire: self.clone(),
            kind,
            namespace,
            shown: number("resourceVersion").unwrap_or(0),
            last: None,
            ends,
            relist_at: None,
            over: false,
        };
        let lines = stream::unfold(view, |mut view| async move {
            let line = view.next().await?;
            // The type first, as kube-apiserver writes it.
            let line = format!("{{\"type\":{},\"object\":{}}}\n", line["type"], line["object"]);
            Some((Ok::<_, Infallible>(Bytes::from(line)), view))
        });
        Response::new(Answered::from_stream(lines))
    }
}

/// One watch: what it has shown, and what it has done wrong.
struct View {
    wire: Wire,
    kind: Kind,
    namespace: Option<String>,
    /// The version up to which all is shown, or left out.
    shown: u64,
    /// The last event.
    last: Option<serde_json::Value>,
    ends: Instant,
    /// It has left something out: by then it must begin anew.
    relist_at: Option<Instant>,
    over: bool,
}

impl View {
    async fn next(&mut self) -> Option<serde_json::Value> {
        loop {
            if self.over {
                return None;
            }
            if self.wire.is_dead() {
                std::future::pending::<()>().await;
            }
            // A gap is never longer than the watch.
            if self.relist_at.is_some_and(|at| at.min(self.ends) <= Instant::now()) {
                self.over = true;
                return Some(watch::expired());
            }
            let server = self.wire.server.clone();
            let mut news = std::pin::pin!(server.news.notified());
            news.as_mut().enable();
            match server.after(self.kind, self.namespace.as_deref(), self.shown) {
                Shown::Expired => {
                    self.over = true;
                    return Some(watch::expired());
                }
                Shown::Version(version) => {
                    self.lag().await;
                    self.wire.faults.watch_is_open(&self.wire.name, self.kind).await;
                    let faults = &self.wire.faults;
                    if faults.expires(&self.wire.name, self.kind) {
                        self.over = true;
                        return Some(watch::expired());
                    }
                    self.shown = version.number;
                    if faults.happens(|r| r.cut) && self.relist_at.is_none() {
                        return None;
                    }
                    if faults.happens(|r| r.dropped) {
                        let wait = faults.chance.milliseconds(1..60_000);
                        self.relist_at.get_or_insert_with(|| Instant::now() + wait);
                        continue;
                    }
                    let event = watch::event(&version);
                    if let Some(again) = self.last.clone().filter(|_| faults.happens(|r| r.repeated)) {
                        // It comes again, and the new one with the next round.
                        self.shown = version.number - 1;
                        self.last = None;
                        return Some(again);
                    }
                    self.last = Some(event.clone());
                    self.shows(version.number);
                    return Some(event);
                }
                Shown::Nothing => {
                    let until = self.relist_at.map_or(self.ends, |at| at.min(self.ends));
                    if tokio::time::timeout_at(until, news).await.is_err() && self.relist_at.is_none() {
                        self.over = true;
                        if let Shown::Nothing = server.after(self.kind, self.namespace.as_deref(), self.shown) {
                            // What has happened elsewhere is told, so that the next watch begins there.
                            self.shows(server.newest());
                            return Some(watch::bookmark(self.kind, server.newest()));
                        }
                    }
                }
            }
        }
    }

    /// Up to here nothing was left out.
    fn shows(&self, number: u64) {
        if self.relist_at.is_none() && self.namespace.is_none() {
            self.wire.server.journal.shows(&self.wire.name, self.kind, number);
        }
    }

    async fn lag(&self) {
        let faults = &self.wire.faults;
        if faults.happens(|r| r.prompt) {
            return;
        }
        let stalled = faults.happens(|r| r.stalled);
        let lag = if stalled { 1_000..120_000 } else { 1..30 };
        tokio::time::sleep(faults.chance.milliseconds(lag)).await;
    }
}

/// A body that is a JSON string is sent as plain text: Kubernetes' own API has no such body.
fn respond(answer: &Answer) -> Response<Answered> {
    let (body, kind) = match &answer.body {
        serde_json::Value::String(text) => (text.clone(), "text/plain; charset=utf-8"),
        body => (body.to_string(), "application/json"),
    };
    let mut response = Response::new(Answered::from(body));
    *response.status_mut() = http::StatusCode::from_u16(answer.code).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
