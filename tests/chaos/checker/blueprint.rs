//! Blueprints: what of them may be acted on, and that they outlive what was built of them.

use super::{
    Checker, Kind, Verdict,
    values::{is_deleting, owner, phase, uid},
    wrong,
};
use serde_json::Value;

impl Checker {
    pub(super) fn blueprint(&mut self, new: &Value) -> Verdict {
        let at = self.at;
        let versions = self.blueprints.entry(uid(new).to_owned()).or_default();
        if versions.last().is_none_or(|(spec, _)| *spec != new["spec"]) {
            if let Some((_, until)) = versions.last_mut() {
                *until = Some(at);
            }
            versions.push((new["spec"].clone(), None));
        }
        if is_deleting(new) {
            self.drained.insert(uid(new).to_owned());
        }
        Ok(())
    }

    /// B2: nothing that was built of it is left. What a late controller creates after that was never begun (R1).
    pub(super) fn blueprint_gone(&mut self, last: &Value) -> Verdict {
        let id = uid(last);
        self.drained.insert(id.to_owned());
        let begun = |resource: &&Value| phase(resource) != "Pending" || !resource["status"]["built"].is_null();
        match self.of(Kind::Resource).values().filter(|r| owner(r) == id).find(begun) {
            Some(left) if phase(left) != "Destroyed" => {
                wrong("B2: a Blueprint is gone, and a resource of it is left", &[id, uid(left)])
            }
            _ => Ok(()),
        }
    }
}
