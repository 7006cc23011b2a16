//! Which failures of a request are waited out.
//!
//! An API server that restarts is away first; then, for a moment, it knows neither users nor their rights nor our kinds, and answers
//! 401, 403 and 404. To whom it has answered well before, these say nothing for a while.

use super::error::Error;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// For how long.
const STARTING: Duration = Duration::from_secs(60);

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long failures of one kind of request are waited out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tolerance {
    /// Not at all: the server has not answered well yet, so that what it refuses is refused.
    None,
    /// It has answered well; and since when it has not.
    Proven { failing_since: Option<Instant> },
}

impl Tolerance {
    /// For requests of somebody to whom the server has answered well.
    pub(super) fn proven() -> Self {
        Self::Proven { failing_since: None }
    }

    /// Notes that it has answered well.
    pub(super) fn answered(&mut self) {
        *self = Self::proven();
    }

    /// Whether to ask again after this failure.
    pub(super) fn forgives(&mut self, error: &Error) -> bool {
        let Self::Proven { failing_since } = self else { return false };
        if !error.is_passing() && !error.is_of_a_start() {
            return false;
        }
        failing_since.get_or_insert_with(Instant::now).elapsed() < STARTING
    }

    /// The pause before it is asked again.
    pub(super) async fn pause() {
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(status: Value) -> Error {
        Error::Refused { tried: "lease/l".to_owned(), status: serde_json::from_value(status).unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_says_that_has_just_started_is_waited_out_for_a_minute() {
        let object = json!({"name": "l", "group": "drydock.dev", "kind": "leases"});
        for (status, forgiven) in [
            (json!({"code": 401, "reason": "Unauthorized"}), true),
            (
                json!({"code": 403, "reason": "Forbidden", "message": "User \"alice\" cannot get resource \"leases\""}),
                true,
            ),
            (json!({"code": 403, "reason": "Forbidden", "message": "exceeded quota: leases"}), false),
            (json!({"code": 404, "reason": "NotFound"}), true),
            (json!({"code": 404, "reason": "NotFound", "details": {}}), true),
            (json!({"code": 404, "reason": "NotFound", "details": object}), false),
            (json!({"code": 404, "reason": "NotFound", "details": {"name": "ci", "kind": "namespaces"}}), false),
            (json!({"code": 500, "reason": "InternalError", "message": "etcdserver: request timed out"}), true),
            (json!({"code": 503, "reason": "ServiceUnavailable"}), true),
            (json!({"code": 400, "reason": "BadRequest"}), false),
            (json!({"code": 422, "reason": "Invalid"}), false),
        ] {
            let error = refused(status.clone());
            assert!(!Tolerance::None.forgives(&error), "{status}");
            let mut tolerance = Tolerance::proven();
            assert_eq!(tolerance.forgives(&error), forgiven, "{status}");
            tokio::time::advance(STARTING).await;
            assert!(!tolerance.forgives(&error), "{status}, after a minute");
            tolerance.answered();
            assert_eq!(tolerance.forgives(&error), forgiven, "{status}, once it had answered again");
        }
    }
}
