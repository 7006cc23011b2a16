//! Between JSON and CEL's values.

use cel::common::{
    types::{
        CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString,
        CelTimestamp, CelUInt,
    },
    value::Val,
};
use chrono::DateTime;
use jiff::Timestamp;
use serde_json::Value;

use super::meter;

/// What a JSON value takes in memory: its place in a list, with the room that lists keep to grow.
const VALUE: u64 = 64;
/// What a map takes that has an entry: a whole node of its tree.
const NODE: u64 = 640;
/// What an entry takes in a node that may be half empty.
const ENTRY: u64 = 64;

/// About how many bytes a value takes in memory. A map of one entry takes a hundred times its text.
pub fn weight(value: &Value) -> u64 {
    VALUE
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len() as u64,
            Value::Array(list) => list.iter().map(weight).sum(),
            Value::Object(map) => {
                NODE + map.iter().map(|(key, value)| ENTRY + key.len() as u64 + weight(value)).sum::<u64>()
            }
        }
}

/// At least how many bytes a value takes in memory, by its text: without parsing it, which would take them.
pub fn weight_of_text(text: &str) -> u64 {
    let (mut weight, mut in_string, mut escaped) = (text.len() as u64 + VALUE, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => weight += VALUE + NODE,
            b'[' => weight += VALUE,
            b',' => weight += VALUE,
            b':' => weight += ENTRY,
            _ => {}
        }
    }
    weight
}

/// A CEL value that borrows its texts.
pub(super) fn to_cel<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            // All other numbers are doubles; there is none that is not.
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(list) => Box::new(CelList::from(list.iter().map(to_cel).collect::<Vec<_>>())),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| (CelMapKey::from(key.as_str()), to_cel(value)));
            Box::new(CelMap::from(entries.collect::<std::collections::HashMap<_, _>>()))
        }
    }
}

/// What `timestamp("…")` gives for this point in time.
pub(super) fn timestamp_to_cel<'v>(at: Timestamp) -> Result<Box<dyn Val + 'v>, String> {
    let nanos = u32::try_from(at.as_nanosecond().rem_euclid(1_000_000_000)).unwrap_or(0);
    let seconds = i64::try_from(at.as_nanosecond().div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
    let at = DateTime::from_timestamp(seconds, nanos).ok_or_else(|| format!("{at} is no time that CEL knows"))?;
    Ok(Box::new(CelTimestamp::from(at.fixed_offset())))
}

/// The JSON of a CEL value: timestamps in RFC 3339, durations in seconds as `1.5s`, the keys of maps as text.
pub(super) fn from_cel(value: &dyn Val) -> Result<Value, String> {
    meter::result(VALUE);
    if let Some(text) = value.downcast_ref::<CelString>() {
        meter::result(text.inner().len() as u64);
        return Ok(Value::String(text.inner().to_owned()));
    }
    if let Some(list) = value.downcast_ref::<CelList>() {
        return list.inner().iter().map(|element| from_cel(element.as_ref())).collect();
    }
    if let Some(map) = value.downcast_ref::<CelMap>() {
        return from_map(map);
    }
    if let Some(value) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*value.inner()));
    }
    if let Some(number) = value.downcast_ref::<CelInt>() {
        return Ok(Value::from(*number.inner()));
    }
    if let Some(number) = value.downcast_ref::<CelUInt>() {
        return Ok(Value::from(*number.inner()));
    }
    if let Some(number) = value.downcast_ref::<CelDouble>() {
        let number = *number.inner();
        let json = serde_json::Number::from_f64(number);
        return json.map(Value::Number).ok_or_else(|| format!("{number} is no number in JSON"));
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    if let Some(at) = value.downcast_ref::<CelTimestamp>() {
        let at = at.inner();
        let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
        let json = Timestamp::new(at.timestamp(), nanos).map_err(|error| error.to_string())?;
        return Ok(Value::String(json.to_string()));
    }
    if let Some(duration) = value.downcast_ref::<CelDuration>() {
        return Ok(Value::String(seconds(duration.inner().num_seconds(), duration.inner().subsec_nanos())));
    }
    if value.downcast_ref::<CelBytes>().is_some() {
        return Err("bytes have no form in JSON: make a text of them with string()".to_owned());
    }
    Err(format!("a value of type {} has no form in JSON", value.get_type().name()))
}

fn from_map(map: &CelMap<'_>) -> Result<Value, String> {
    let mut json = serde_json::Map::new();
    meter::result(NODE);
    for (key, value) in map.inner() {
        let key = match key {
            CelMapKey::String(text) => text.inner().to_owned(),
            CelMapKey::Bool(key) => key.inner().to_string(),
            CelMapKey::Int(key) => key.inner().to_string(),
            CelMapKey::UInt(key) => key.inner().to_string(),
        };
        meter::result(ENTRY + key.len() as u64);
        if json.insert(key.clone(), from_cel(value.as_ref())?).is_some() {
            return Err(format!("a map has two keys that are {key:?} in JSON"));
        }
    }
    Ok(Value::Object(json))
}

fn seconds(seconds: i64, nanos: i32) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let whole = seconds.unsigned_abs();
    let text = format!("{sign}{whole}.{:09}", nanos.unsigned_abs());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}
