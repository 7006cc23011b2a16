//! Instants and lengths of time as they stand in the API.

use jiff::{Timestamp, fmt::temporal::Pieces};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};

/// An instant with microseconds, on which decisions rest. A finer one is rounded **up**, so that nothing that waits for
/// it is ever early (api.md, 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroTime(Timestamp);

impl MicroTime {
    /// The instant itself.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// This instant and a length of time after it; the end of time where that is past what can be written.
    pub fn after(self, length: Duration) -> Self {
        Self::from(self.0.saturating_add(length.0).unwrap_or(Timestamp::MAX))
    }

    /// The end of time: the last instant that reads the same after it was written.
    fn last() -> Self {
        Self(Timestamp::new(Timestamp::MAX.as_second(), 999_999_000).unwrap_or(Timestamp::MAX))
    }
}

impl From<Timestamp> for MicroTime {
    fn from(instant: Timestamp) -> Self {
        let finer = instant.subsec_nanosecond().rem_euclid(1_000);
        let up = if finer == 0 { 0 } else { 1_000 - finer };
        let step = jiff::SignedDuration::from_nanos(i64::from(up));
        Self(instant.saturating_add(step).unwrap_or(Timestamp::MAX)).min(Self::last())
    }
}

impl fmt::Display for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl Serialize for MicroTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MicroTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.parse::<Timestamp>() {
            Ok(instant) => Ok(Self::from(instant)),
            // The calendar goes a day further than our instants, and 9999-12-31 is how many write "never".
            Err(_) if is_instant_of_the_last_days(&text) => Ok(Self::last()),
            Err(error) => Err(de::Error::custom(error)),
        }
    }
}

fn is_instant_of_the_last_days(text: &str) -> bool {
    let pieces = Pieces::parse(text).ok();
    pieces.is_some_and(|p| p.date() >= jiff::civil::date(9999, 12, 30) && p.time().is_some() && p.offset().is_some())
}

impl JsonSchema for MicroTime {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "MicroTime".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // `date-time` alone lets through what is no instant, as 10:00:00x5Z or +99:99, and more digits than can be kept.
        // The year has four digits that count, so that no offset takes it below what can be written.
        json_schema!({
            "type": "string",
            "format": "date-time",
            "maxLength": 35,
            "pattern": r"^[1-9][0-9-]{9}T[0-9:]{8}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
        })
    }
}

/// A length of time as Gateway API writes it (GEP-2257): up to four pairs of a number and `h`, `m`, `s` or `ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(jiff::SignedDuration);

/// Says why a text is no [`Duration`].
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a duration: write up to four numbers of at most five digits, each with h, m, s or ms, as in 1h30m"
)]
pub struct NotADuration(String);

impl Duration {
    /// So many whole seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(jiff::SignedDuration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(jiff::SignedDuration::from_millis(milliseconds))
    }

    /// The same length as jiff has it.
    pub fn signed(self) -> jiff::SignedDuration {
        self.0
    }

    /// The same length as the standard library has it.
    pub fn to_std(self) -> std::time::Duration {
        self.0.unsigned_abs()
    }

    /// A length of the standard library; one that is too long is cut.
    pub fn from_std(length: std::time::Duration) -> Self {
        Self(jiff::SignedDuration::try_from(length).unwrap_or(jiff::SignedDuration::MAX))
    }

    /// No time at all.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let wrong = || NotADuration(text.to_owned());
        let mut rest = text;
        let mut milliseconds: i64 = 0;
        for _ in 0..4 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) {
                return Err(wrong());
            }
            let (number, unit) = rest.split_at(digits);
            let (scale, length) = match unit.as_bytes() {
                [b'h', ..] => (3_600_000, 1),
                [b'm', b's', ..] => (1, 2),
                [b'm', ..] => (60_000, 1),
                [b's', ..] => (1_000, 1),
                _ => return Err(wrong()),
            };
            milliseconds += number.parse::<i64>().map_err(|_| wrong())? * scale;
            rest = &unit[length..];
            if rest.is_empty() {
                return Ok(Self::from_millis(milliseconds));
            }
        }
        Err(wrong())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds == 0 {
            return f.write_str("0s");
        }
        let parts = [
            (milliseconds / 3_600_000, "h"),
            (milliseconds / 60_000 % 60, "m"),
            (milliseconds / 1_000 % 60, "s"),
            (milliseconds % 1_000, "ms"),
        ];
        parts.iter().filter(|(n, _)| *n != 0).try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 32, "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_gateway_api_writes_them() {
        for (text, milliseconds, canonical) in [
            ("0s", 0, "0s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("1500ms", 1_500, "1s500ms"),
            ("99999h", 359_996_400_000, "99999h"),
            ("1m1ms", 60_001, "1m1ms"),
        ] {
            let read: Duration = text.parse().unwrap();
            assert_eq!(read, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(read.to_string(), canonical, "{text}");
        }
        for text in ["", "1", "1d", "-1s", "1.5h", "123456s", "1h 2m", "1h1h1h1h1h", "ms", "soon"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_instant_is_rounded_up_to_the_microsecond_and_never_down() {
        for (text, kept) in [
            ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000000Z"),
            ("2026-11-23T10:00:00.123456Z", "2026-11-23T10:00:00.123456Z"),
            ("2026-11-23T10:00:00.123456001Z", "2026-11-23T10:00:00.123457Z"),
            ("2026-11-23T10:00:00.999999999Z", "2026-11-23T10:00:01.000000Z"),
            ("2026-11-23T12:00:00+02:00", "2026-11-23T10:00:00.000000Z"),
            ("1969-12-31T23:59:59.5000001Z", "1969-12-31T23:59:59.500001Z"),
            ("9999-12-30T22:00:00.9999991Z", "9999-12-30T22:00:00.999999Z"),
            ("9999-12-31T23:59:59Z", "9999-12-30T22:00:00.999999Z"),
            ("9999-12-31T23:59:59-12:00", "9999-12-30T22:00:00.999999Z"),
        ] {
            let read: MicroTime = serde_json::from_value(serde_json::json!(text)).unwrap();
            assert_eq!(read.to_string(), kept, "{text}");
            let again: MicroTime = serde_json::from_value(serde_json::to_value(read).unwrap()).unwrap();
            assert_eq!(again, read, "{text}: what is written reads the same");
            assert!(read.after(Duration::from_secs(1)) >= read, "{text}");
        }
        for text in ["soon", "2026-11-23", "2026-11-23T10:00:00", "9999-12-31", "9999-12-31T25:00:00Z"] {
            assert!(serde_json::from_value::<MicroTime>(serde_json::json!(text)).is_err(), "{text}");
        }
    }
}
