//! The label selectors of kubectl, read into the API's selector.

use crate::api::{
    Selector,
    common::{Operator, Requirement},
};

/// Says why a text is no selector.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotASelector {
    #[error("{0:?} is no requirement: write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY")]
    Requirement(String),
    #[error("{key} cannot be both {one} and {other}; leave one out, or write {key} in ({one},{other}) for either")]
    Both { key: String, one: String, other: String },
}

/// Reads requirements that are separated by commas: `arch=arm64, disk in (ssd,nvme), !broken`.
pub(super) fn parse(text: &str) -> Result<Selector, NotASelector> {
    let mut selector = Selector::default();
    for part in split(text) {
        match requirement(part).ok_or_else(|| NotASelector::Requirement(part.to_owned()))? {
            Part::Label(key, value) => match selector.match_labels.get(key) {
                Some(one) if one != value => {
                    return Err(NotASelector::Both { key: key.into(), one: one.clone(), other: value.into() });
                }
                _ => drop(selector.match_labels.insert(key.into(), value.into())),
            },
            Part::Expression(requirement) => selector.match_expressions.push(requirement),
        }
    }
    Ok(selector)
}

enum Part<'a> {
    Label(&'a str, &'a str),
    Expression(Requirement),
}

/// At the commas that stand outside of brackets.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
}

fn requirement(text: &str) -> Option<Part<'_>> {
    let expression = |key: &str, operator, values: Vec<&str>| {
        let values = values.into_iter().map(str::to_owned).collect();
        Part::Expression(Requirement { key: key.to_owned(), operator, values })
    };
    if let Some(rest) = text.strip_prefix('!') {
        return Some(expression(word(rest)?, Operator::DoesNotExist, vec![]));
    }
    if let Some((head, values)) = text.split_once('(') {
        let values = values.strip_suffix(')')?;
        let values: Vec<&str> = values.split(',').map(value).collect::<Option<_>>()?;
        if values == [""] {
            return None;
        }
        let mut words = head.split_whitespace();
        let (key, operator) = (word(words.next()?)?, words.next()?);
        return match (operator, words.next()) {
            ("in", None) => Some(expression(key, Operator::In, values)),
            ("notin", None) => Some(expression(key, Operator::NotIn, values)),
            _ => None,
        };
    }
    if let Some((key, not)) = text.split_once("!=") {
        return Some(expression(word(key)?, Operator::NotIn, vec![value(not)?]));
    }
    if let Some((key, is)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Part::Label(word(key)?, value(is)?));
    }
    Some(expression(word(text)?, Operator::Exists, vec![]))
}

/// A key. What else may stand in one is for the API server to say.
fn word(text: &str) -> Option<&str> {
    value(text).filter(|key| !key.is_empty())
}

/// A value, which may be empty.
fn value(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.contains(|c: char| c.is_whitespace() || "!=(),<>".contains(c))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_read_as_kubectl_reads_them() {
        let one = |key: &str, operator: &str| json!({"matchExpressions": [{"key": key, "operator": operator}]});
        let set = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (text, expected) in [
            ("arch=arm64", json!({"matchLabels": {"arch": "arm64"}})),
            ("arch==arm64", json!({"matchLabels": {"arch": "arm64"}})),
            (" arch = arm64 , disk=ssd", json!({"matchLabels": {"arch": "arm64", "disk": "ssd"}})),
            ("arch=arm64,arch=arm64", json!({"matchLabels": {"arch": "arm64"}})),
            ("example.org/arch=arm64", json!({"matchLabels": {"example.org/arch": "arm64"}})),
            ("empty=", json!({"matchLabels": {"empty": ""}})),
            ("arch!=arm64", set("arch", "NotIn", &["arm64"])),
            ("arch in (arm64,amd64)", set("arch", "In", &["arm64", "amd64"])),
            ("arch in(arm64, amd64 )", set("arch", "In", &["arm64", "amd64"])),
            ("arch notin (arm64)", set("arch", "NotIn", &["arm64"])),
            ("arch in (,arm64)", set("arch", "In", &["", "arm64"])),
            ("arch", one("arch", "Exists")),
            ("in", one("in", "Exists")),
            ("!arch", one("arch", "DoesNotExist")),
            ("! arch", one("arch", "DoesNotExist")),
            (
                "arch=arm64,disk in (ssd,nvme),!broken,gpu",
                json!({"matchLabels": {"arch": "arm64"}, "matchExpressions": [
                    {"key": "disk", "operator": "In", "values": ["ssd", "nvme"]},
                    {"key": "broken", "operator": "DoesNotExist"},
                    {"key": "gpu", "operator": "Exists"},
                ]}),
            ),
        ] {
            let read = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(serde_json::to_value(read).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_told_the_way() {
        for (text, hint) in [
            ("", "write KEY=VALUE"),
            ("arch=arm64,", "write KEY=VALUE"),
            ("=arm64", "write KEY=VALUE"),
            ("!", "write KEY=VALUE"),
            ("!arch=arm64", "write KEY=VALUE"),
            ("a=b=c", "write KEY=VALUE"),
            ("arch in arm64", "write KEY=VALUE"),
            ("arch in ()", "write KEY=VALUE"),
            ("arch in (arm64", "write KEY=VALUE"),
            ("arch in (arm64) x", "write KEY=VALUE"),
            ("arch near (arm64)", "write KEY=VALUE"),
            ("in (arm64)", "write KEY=VALUE"),
            ("cores>4", "write KEY=VALUE"),
            ("arch=arm64,arch=amd64", "arch in (arm64,amd64)"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
