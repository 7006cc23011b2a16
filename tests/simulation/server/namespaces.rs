//! Namespaces that go: from their deletion on nothing is made in them, all that is in them is deleted, and they are gone when
//! nothing is left. What the controller of namespaces does, which is somebody's own process and takes its time.

use super::{Change, Kind, Request, Server, State, Target, Verb, write::whole_seconds};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Who deletes what is in them.
const SWEEPER: &str = "namespaces";

/// Whether nothing is made in it any more.
pub fn is_terminating(namespace: &Value) -> bool {
    !namespace["metadata"]["deletionTimestamp"].is_null()
}

impl Server {
    /// Its deletion begins.
    pub(super) fn terminate(&self, state: &mut State, by: &Arc<str>, mut namespace: Value) -> Arc<Value> {
        if is_terminating(&namespace) {
            return Arc::new(namespace);
        }
        namespace["metadata"]["deletionTimestamp"] = whole_seconds(self.clocks.server()).into();
        namespace["status"] = json!({"phase": "Terminating"});
        self.store(state, by, Kind::Namespace, Change::Modified, namespace, false)
    }

    /// One round through the namespaces that are to go.
    pub fn sweep(&self) {
        let by: Arc<str> = SWEEPER.into();
        for namespace in self.all(Kind::Namespace).iter().filter(|namespace| is_terminating(namespace)) {
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            let mut left = 0;
            for kind in [Kind::Blueprint, Kind::Lease, Kind::Resource] {
                let within = |object: &Arc<Value>| object["metadata"]["namespace"] == name;
                for object in self.all(kind).into_iter().filter(within) {
                    left += 1;
                    let named = object["metadata"]["name"].as_str().map(str::to_owned);
                    let target = Target::Objects { kind, namespace: Some(name.into()), name: named, status: false };
                    let body = Value::Null;
                    let query = BTreeMap::new();
                    self.handle(&by, &Request { verb: Verb::Delete, target, query, body, metadata_only: false });
                }
            }
            if left == 0 {
                let mut state = self.state.lock().unwrap();
                self.store(&mut state, &by, Kind::Namespace, Change::Deleted, (**namespace).clone(), false);
            }
        }
    }
}
