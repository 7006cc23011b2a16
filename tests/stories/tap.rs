//! The way of a controller's requests to the API server, with a tap in it: what is to be changed can be held back, or cut off
//! before it is sent, or before its answer comes.

// Words for stories, of which not each is said today.
#![allow(dead_code)]

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Nothing that is awaited here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a controller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dies {
    /// Just before the request is sent.
    Before,
    /// When it has taken effect, before its answer is there.
    After,
}

/// A controller dies at its n-th change.
pub struct Bomb {
    at: usize,
    dies: Dies,
    changes: AtomicUsize,
    dead: watch::Sender<bool>,
}

impl Bomb {
    /// At this change; counted from 1.
    pub fn new(at: usize, dies: Dies) -> Arc<Bomb> {
        Arc::new(Bomb { at, dies, changes: AtomicUsize::new(0), dead: watch::Sender::new(false) })
    }

    /// Returns when the moment has come.
    pub async fn dead(&self) {
        self.dead.subscribe().wait_for(|dead| *dead).await.expect("the bomb is there");
    }

    /// Whether it has.
    pub fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// The way past it: nothing is asked of the API server after the moment has come.
    pub fn way(self: &Arc<Self>) -> impl FnOnce(Client) -> Client + Send + use<> {
        let bomb = self.clone();
        through(move |request, own| {
            let bomb = bomb.clone();
            async move {
                let number = if is_change(&request) { bomb.changes.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
                let is_it = number == bomb.at;
                if is_it && bomb.dies == Dies::After {
                    let _ = own.send(request).await;
                } else if !is_it && number < bomb.at && !bomb.is_dead() {
                    return own.send(request).await;
                }
                if is_it {
                    bomb.dead.send_replace(true);
                }
                std::future::pending().await
            }
        })
    }
}

/// Holds back what is to be created of a kind, until it is let go.
pub struct Dam {
    plural: &'static str,
    arrived: watch::Sender<usize>,
    open: watch::Sender<bool>,
    answered: watch::Sender<usize>,
}

impl Dam {
    /// For objects of this kind, by its name in paths; it is closed.
    pub fn new(plural: &'static str) -> Arc<Dam> {
        let (arrived, answered) = (watch::Sender::new(0), watch::Sender::new(0));
        Arc::new(Dam { plural, arrived, open: watch::Sender::new(false), answered })
    }

    /// Returns when so many requests are held back, or were.
    pub async fn arrived(&self, requests: usize) {
        come_to(&self.arrived, "the requests that are held back", |n| *n >= requests).await;
    }

    /// Lets everything go, from now on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns when so many of the requests that were held back were answered.
    pub async fn answered(&self, requests: usize) {
        come_to(&self.answered, "the answers to what was held back", |n| *n >= requests).await;
    }

    /// The way through it. What has arrived goes on when it is opened, whoever still waits for it.
    pub fn way(self: &Arc<Self>) -> impl FnOnce(Client) -> Client + Send + use<> {
        let dam = self.clone();
        through(move |request, own| {
            let dam = dam.clone();
            async move {
                let path = request.uri().path();
                if *request.method() != Method::POST || !path.ends_with(&format!("/{}", dam.plural)) {
                    return own.send(request).await;
                }
                dam.arrived.send_modify(|n| *n += 1);
                let sent = tokio::spawn(async move {
                    dam.open.subscribe().wait_for(|open| *open).await.expect("the dam is there");
                    let answer = own.send(request).await;
                    dam.answered.send_modify(|n| *n += 1);
                    answer
                });
                sent.await.expect("a request does not panic")
            }
        })
    }
}

/// A controller that stands still, as if its process had been stopped, when it first asks what kinds there are, just before it
/// makes something. It learns of no change by others before or after, but from what it asks itself.
pub struct Standstill {
    stands: watch::Sender<bool>,
    goes_on: watch::Sender<bool>,
    asked: watch::Sender<usize>,
}

impl Standstill {
    /// Before it has begun.
    pub fn new() -> Arc<Standstill> {
        let (stands, goes_on) = (watch::Sender::new(false), watch::Sender::new(false));
        Arc::new(Standstill { stands, goes_on, asked: watch::Sender::new(0) })
    }

    /// Returns when it stands still.
    pub async fn stands(&self) {
        come_to(&self.stands, "the standstill", |stands| *stands).await;
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.goes_on.send_replace(true);
    }

    /// Returns when it has read a Resource again since.
    pub async fn asked(&self) {
        come_to(&self.asked, "its question after the standstill", |n| *n > 0).await;
    }

    /// The way of its requests.
    pub fn way(self: &Arc<Self>) -> impl FnOnce(Client) -> Client + Send + use<> {
        let still = self.clone();
        through(move |request, own| {
            let still = still.clone();
            async move {
                let reads = *request.method() == Method::GET;
                if reads && request.uri().query().is_some_and(|query| query.contains("watch=")) {
                    return std::future::pending().await;
                }
                if reads && request.uri().path() == "/api/v1" {
                    still.stands.send_replace(true);
                    still.goes_on.subscribe().wait_for(|goes_on| *goes_on).await.expect("the tap is there");
                }
                let of_resource = reads && request.uri().path().contains("/resources/");
                let answer = own.send(request).await;
                if of_resource && *still.goes_on.borrow() {
                    still.asked.send_modify(|n| *n += 1);
                }
                answer
            }
        })
    }
}

/// Notes what is asked of the API server.
#[derive(Default)]
pub struct Notes {
    requests: std::sync::Mutex<Vec<String>>,
}

impl Notes {
    /// None yet.
    pub fn new() -> Arc<Notes> {
        Arc::default()
    }

    /// The requests so far: method, path and query as they are sent, and what is accepted.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The way past it.
    pub fn way(self: &Arc<Self>) -> impl FnOnce(Client) -> Client + Send + use<> {
        let notes = self.clone();
        through(move |request, own| {
            let accepted = request.headers().get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let request_line = format!("{} {} {accepted}", request.method(), request.uri());
            notes.requests.lock().unwrap().push(request_line);
            async move { own.send(request).await }
        })
    }
}

/// Answers a number of requests with 429 (Too Many Requests), as an API server that is busy does.
pub struct Busy {
    method: Method,
    part: &'static str,
    retry_after: &'static str,
    left: AtomicUsize,
    refused: watch::Sender<usize>,
}

impl Busy {
    /// For so many requests of this method whose path holds this part, and with this `Retry-After`.
    pub fn new(method: Method, part: &'static str, requests: usize, retry_after: &'static str) -> Arc<Busy> {
        let (left, refused) = (AtomicUsize::new(requests), watch::Sender::new(0));
        Arc::new(Busy { method, part, retry_after, left, refused })
    }

    /// Returns when so many have been refused.
    pub async fn refused(&self, requests: usize) {
        come_to(&self.refused, "the requests that are refused", |n| *n >= requests).await;
    }

    /// The way past it.
    pub fn way(self: &Arc<Self>) -> impl FnOnce(Client) -> Client + Send + use<> {
        let busy = self.clone();
        through(move |request, own| {
            let busy = busy.clone();
            async move {
                let is_meant = *request.method() == busy.method && request.uri().path().contains(busy.part);
                let one_less = |left: usize| left.checked_sub(1);
                let refuses = is_meant && busy.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
                if !refuses {
                    return own.send(request).await;
                }
                busy.refused.send_modify(|n| *n += 1);
                // As API Priority and Fairness says it.
                let text = b"Too many requests, please try again later.\n".to_vec();
                let answer = Response::builder().status(429).header("Retry-After", busy.retry_after);
                Ok(answer.body(Body::from(text)).unwrap())
            }
        })
    }
}

/// A change of what matters: Events are told in their own time, and would make every count another.
fn is_change(request: &Request<Body>) -> bool {
    !matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.uri().path().ends_with("/events")
        && !request.uri().path().contains("/events/")
}

/// Waits until something has come about; fails the test where it does not.
async fn come_to<T>(told: &watch::Sender<T>, what: &str, is: impl FnMut(&T) -> bool) {
    let mut told = told.subscribe();
    let came = tokio::time::timeout(PATIENCE, told.wait_for(is)).await;
    assert!(came.is_ok_and(|told| told.is_ok()), "waited {PATIENCE:?} for {what}");
}

fn through<F>(tap: impl Fn(Request<Body>, Client) -> F + Send + Sync + 'static) -> impl FnOnce(Client) -> Client + Send
where
    F: Future<Output = kube::Result<Response<Body>>> + Send + 'static,
{
    move |own: Client| {
        let namespace = own.default_namespace().to_owned();
        let tap = Arc::new(tap);
        let service = tower::service_fn(move |request: Request<Body>| tap(request, own.clone()));
        Client::new(service, namespace)
    }
}
