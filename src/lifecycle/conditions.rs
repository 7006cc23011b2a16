//! Conditions that keep the time of their last change.

use crate::api::{Condition, MicroTime};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `True` or `False`, as conditions spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not so.
    False,
}

impl Truth {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
        }
    }
}

/// Sets a condition; `lastTransitionTime` moves only where its status does.
pub fn set(
    conditions: &mut Vec<Condition>,
    now: MicroTime,
    type_: &str,
    truth: Truth,
    reason: &str,
    message: impl Into<String>,
) {
    let message = message.into();
    if let Some(condition) = conditions.iter_mut().find(|c| c.type_ == type_) {
        if condition.status != truth.as_str() {
            condition.status = truth.as_str().into();
            condition.last_transition_time = Time(now.timestamp());
        }
        if condition.reason != reason {
            condition.reason = reason.into();
        }
        if condition.message != message {
            condition.message = message;
        }
        return;
    }
    conditions.push(Condition {
        type_: type_.into(),
        status: truth.as_str().into(),
        reason: reason.into(),
        message,
        last_transition_time: Time(now.timestamp()),
        observed_generation: None,
    });
}

/// The condition of this type.
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// The reason of this condition, where its status is True.
pub fn true_reason<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a str> {
    get(conditions, type_).filter(|c| c.status == "True").map(|c| c.reason.as_str())
}

/// The reason of this condition, whatever its status.
pub fn reason<'a>(conditions: &'a [Condition], type_: &str) -> &'a str {
    get(conditions, type_).map_or("", |c| c.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_only_with_the_status() {
        let at = |s: i64| MicroTime::from(jiff::Timestamp::from_second(s).unwrap());
        let mut conditions = Vec::new();
        set(&mut conditions, at(1), "Ready", Truth::False, "Waiting", "one");
        set(&mut conditions, at(2), "Ready", Truth::False, "Activating", "two");
        assert_eq!(conditions[0].last_transition_time.0.as_second(), 1);
        assert_eq!((conditions[0].reason.as_str(), conditions[0].message.as_str()), ("Activating", "two"));
        set(&mut conditions, at(3), "Ready", Truth::True, "Active", "");
        assert_eq!(conditions[0].last_transition_time.0.as_second(), 3);
        assert_eq!(conditions.len(), 1);
    }
}
