//! An end that is given as an instant, or as a length of time from now.

use super::error::Error;
use crate::api::{Duration, MicroTime};
use jiff::Timestamp;
use serde::{
    Deserialize as _,
    de::{IntoDeserializer as _, value},
};
use std::str::FromStr;

/// The value of `--until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// At this instant.
    At(MicroTime),
    /// So long after now.
    In(Duration),
}

/// Says why a text is no [`Until`].
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAnEnd {
    #[error(
        "a time with its zone is needed, as 2026-11-23T10:00:00Z or 2026-11-23T10:00:00+02:00; or +D for now and D"
    )]
    Time,
    #[error("{0}, after the +")]
    Length(<Duration as FromStr>::Err),
    #[error("for a length of time from now write +{0}")]
    NoPlus(String),
}

impl FromStr for Until {
    type Err = NotAnEnd;

    fn from_str(text: &str) -> Result<Self, NotAnEnd> {
        if let Some(length) = text.strip_prefix('+') {
            return length.parse().map(Self::In).map_err(NotAnEnd::Length);
        }
        if text.parse::<Duration>().is_ok() {
            return Err(NotAnEnd::NoPlus(text.to_owned()));
        }
        read(text).map(Self::At).map_err(|_| NotAnEnd::Time)
    }
}

impl Until {
    /// The instant, which must be still to come.
    pub(super) fn instant(self, flag: &'static str, now: Timestamp) -> Result<MicroTime, Error> {
        let instant = match self {
            Self::At(instant) => instant,
            Self::In(length) if length.is_zero() => {
                let remedy = "it would be over at once; give a longer time".to_owned();
                return Err(Error::Flag { flag, value: format!("+{length}"), remedy });
            }
            Self::In(length) => MicroTime::from(now).after(length),
        };
        if instant.timestamp() <= now {
            let now = MicroTime::from(now);
            let remedy = format!("this time is in the past (it is {now}); give a later one, or +D for now and D");
            return Err(Error::Flag { flag, value: instant.to_string(), remedy });
        }
        Ok(instant)
    }
}

/// Reads an instant, for flags that take nothing else.
pub(super) fn instant(text: &str) -> Result<MicroTime, &'static str> {
    let wrong = "a time with its zone is needed, as 2026-11-23T10:00:00Z; for a length of time use --after";
    read(text).map_err(|_| wrong)
}

/// As the API reads it, 9999-12-31 included.
fn read(text: &str) -> Result<MicroTime, value::Error> {
    MicroTime::deserialize(text.into_deserializer())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-23T10:00:00.000000001Z";

    #[test]
    fn an_end_is_an_instant_or_a_length_from_now() {
        let now: Timestamp = NOW.parse().unwrap();
        for (text, end) in [
            ("+10s", "2026-11-23T10:00:10.000001Z"), // up to the microsecond: never early
            ("+1h30m", "2026-11-23T11:30:00.000001Z"),
            ("+1ms", "2026-11-23T10:00:00.001001Z"),
            ("2026-11-23T10:00:01Z", "2026-11-23T10:00:01.000000Z"),
            ("2026-11-23T12:30:00+02:00", "2026-11-23T10:30:00.000000Z"),
            ("2026-11-23 10:30Z", "2026-11-23T10:30:00.000000Z"),
            ("9999-12-31T23:59:59Z", "9999-12-30T22:00:00.999999Z"), // the end of time
        ] {
            let until: Until = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(until.instant("--until", now).unwrap().to_string(), end, "{text}");
        }
    }

    #[test]
    fn an_end_that_is_past_names_the_flag() {
        let now: Timestamp = NOW.parse().unwrap();
        for text in ["2026-11-23T10:00:00Z", "2020-01-01T00:00:00Z", "2026-11-23T11:00:00+02:00"] {
            let error = text.parse::<Until>().unwrap().instant("--until", now).unwrap_err().to_string();
            assert!(error.starts_with("--until 20") && error.contains("in the past"), "{text}: {error}");
        }
    }

    #[test]
    fn an_end_that_is_now_is_refused() {
        let error = "+0s".parse::<Until>().unwrap().instant("--until", NOW.parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "--until +0s: it would be over at once; give a longer time");
    }

    #[test]
    fn what_is_no_end_is_told_the_way() {
        for (text, hint) in [
            ("", "zone"),
            ("tomorrow", "zone"),
            ("2026-11-23T10:00:00", "zone"),
            ("2026-11-23", "zone"),
            ("10s", "write +10s"),
            ("+10", "after the +"),
            ("+", "after the +"),
            ("+1d", "after the +"),
            ("-10s", "zone"),
        ] {
            let error = text.parse::<Until>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
