//! The recorder: a watch of its own on etcd, beneath the API server, from the first version on.
//!
//! An API server that has been killed does not tell what was written just before, and its watches begin anew. etcd keeps every
//! revision until somebody compacts it, and nobody does here; so this resumes after the last revision that it has seen, across
//! restarts of both, and lacks nothing: if it did, it would say that history is lost. And it shares no code with the watches of
//! the controllers, nor the API server's cache.

use crate::checker::{Checker, Kind, Version, Wrong};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::watch,
    task::JoinSet,
};

/// The record: what the checker knows, and what it found wrong.
#[derive(Default)]
pub struct Record {
    pub checker: Checker,
    pub wrongs: Vec<Wrong>,
    /// The last revision that was seen, of anything at all.
    pub revision: u64,
    /// Counts the moments at which something is about to be done outside.
    moments: watch::Sender<usize>,
}

/// Records until it is dropped.
#[derive(Clone)]
pub struct Recorder {
    record: Arc<Mutex<Record>>,
    _watch: Arc<JoinSet<()>>,
}

impl Recorder {
    /// Begins with the first revision of all.
    pub fn start(socket: PathBuf) -> Recorder {
        let record = Arc::new(Mutex::new(Record::default()));
        let mut watch = JoinSet::new();
        watch.spawn(follow(socket, record.clone()));
        Recorder { record, _watch: Arc::new(watch) }
    }

    pub fn look(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// Waits until something is about to be done outside.
    pub async fn moment(&self) {
        let mut moments = self.look().moments.subscribe();
        let _ = moments.changed().await;
    }

    /// Notes what is done to the world.
    pub fn tell(&self, what: &str) {
        let mut record = self.look();
        let revision = record.revision;
        record.checker.story.tell(revision, Timestamp::now(), what);
    }
}

/// An answer of etcd's watch, as its JSON gateway has it.
#[derive(Deserialize)]
struct Answer {
    result: Option<Events>,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Events {
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    canceled: bool,
    compact_revision: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default, rename = "type")]
    type_: String,
    kv: Stored,
}

#[derive(Deserialize)]
struct Stored {
    key: ByteString,
    mod_revision: String,
    value: Option<ByteString>,
}

async fn follow(socket: PathBuf, record: Arc<Mutex<Record>>) {
    loop {
        // etcd is away, or was: go on after the last.
        if let Err(lost) = connected(&socket, &record).await.unwrap_or(Ok(())) {
            record.lock().unwrap().wrongs.push(Wrong { what: format!("history lost: {lost}"), uids: vec![] });
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Watches as long as the connection lasts. The inner error is final.
async fn connected(socket: &PathBuf, record: &Mutex<Record>) -> io::Result<Result<(), String>> {
    let from = record.lock().unwrap().revision + 1;
    let all = json!({"create_request": {
        "key": ByteString(b"/registry/".to_vec()), "range_end": ByteString(b"/registry0".to_vec()),
        "start_revision": from.to_string(),
    }})
    .to_string();
    let mut stream = UnixStream::connect(socket).await?;
    // HTTP/1.0, so that the answers come as they are, a line each.
    let request = format!("POST /v3/watch HTTP/1.0\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n{all}", all.len());
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        if !line.starts_with('{') {
            continue; // the head of the answer
        }
        let answer: Answer = match serde_json::from_str(&line) {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(format!("{error} in {line}"))),
        };
        let Some(events) = answer.result else {
            return Err(io::Error::other(answer.error.to_string()));
        };
        if let Some(compacted) = events.compact_revision {
            return Ok(Err(format!("asked for {from}, and compacted up to {compacted}")));
        }
        if events.canceled {
            return Err(io::Error::other("the watch was cancelled"));
        }
        let mut record = record.lock().unwrap();
        for event in events.events {
            take(&mut record, event);
        }
    }
    Ok(Ok(()))
}

fn take(record: &mut Record, event: Event) {
    let revision = event.kv.mod_revision.parse().expect("a revision is a number");
    record.revision = revision;
    let key = String::from_utf8_lossy(&event.kv.key.0).into_owned();
    let Some(kind) = kind_of(&key) else { return };
    let object = match event.type_.as_str() {
        "DELETE" => None,
        _ => match object(kind, event.kv.value.unwrap_or_default(), &event.kv.mod_revision) {
            Some(object) => Some(object),
            None => return,
        },
    };
    let begins = object.as_ref().is_some_and(begins);
    let verdict = record.checker.take(Version { revision, at: Timestamp::now(), kind, key, object });
    record.wrongs.extend(verdict.err());
    if begins {
        record.moments.send_modify(|count| *count += 1);
    }
}

/// Whether something is about to be done outside: it is on record, and begins when that is seen.
fn begins(object: &Value) -> bool {
    let has_effects = object.pointer("/status/built/objects").is_some();
    has_effects && matches!(crate::checker::phase(object), "Pending" | "Acquired" | "Released")
}

/// What is stored under a key.
fn kind_of(key: &str) -> Option<Kind> {
    match key.strip_prefix("/registry/")?.split_once('/')?.0 {
        "configmaps" | "namespaces" => Some(Kind::Made),
        "drydock.dev" => match key.split('/').nth(3)? {
            "blueprints" => Some(Kind::Blueprint),
            "resources" => Some(Kind::Resource),
            "leases" => Some(Kind::Lease),
            _ => None,
        },
        _ => None,
    }
}

/// The object, without what nobody looks at. Of others than ours, those that the driver made.
fn object(kind: Kind, value: ByteString, revision: &str) -> Option<Value> {
    let mut object: Value = serde_json::from_slice(&value.0).expect("objects are stored as JSON");
    if kind == Kind::Made && object["metadata"]["labels"]["drydock.dev/owner"].is_null() {
        return None;
    }
    object["metadata"].as_object_mut()?.remove("managedFields");
    object["metadata"]["resourceVersion"] = json!(revision);
    Some(object)
}
