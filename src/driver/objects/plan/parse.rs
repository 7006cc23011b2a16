//! Parsing of templates and expressions, and what is wrong with them whatever they are evaluated over.

use super::{HERE, METADATA, OWN_KIND, OWN_LABEL, is_own, is_own_label, kind_of};
use crate::{
    driver::Trouble,
    expression::{Evaluator, Expression, Invalid, Template, template::LITERAL},
};
use serde_json::Value;

pub(super) async fn parse_all(
    evaluator: &dyn Evaluator,
    templates: &[Value],
    field: &str,
    roots: &[&str],
    namespace: &str,
) -> Result<Vec<Template>, Trouble> {
    let mut parsed = Vec::with_capacity(templates.len());
    for (n, template) in templates.iter().enumerate() {
        let path = format!("{HERE}.{field}[{n}]");
        if let Some(first) = templates[..n].iter().position(|first| makes_the_same(first, template, namespace)) {
            let what = format!("it makes the same object as {field}[{first}], whatever its version");
            let message = format!("{path}: {what}; name them apart, or leave one out");
            return Err(Trouble { reason: "InvalidExpression", message });
        }
        let metadata = template.pointer("/metadata").and_then(Value::as_object);
        if let Some(name) = metadata.and_then(|m| m.keys().find(|key| !METADATA.contains(&key.as_str()))) {
            let message = format!("{path}.metadata.{name}: a template's metadata has {} only", METADATA.join(", "));
            return Err(Trouble { reason: "InvalidExpression", message });
        }
        let kind = kind_of(template);
        let literal = [("apiVersion", &kind.api_version), ("kind", &kind.kind)];
        if let Some((field, _)) = literal.iter().find(|(_, text)| text.contains("${")) {
            let message = format!("{path}.{field}: it is taken as it is, and holds an expression");
            return Err(Trouble { reason: "InvalidExpression", message });
        }
        if is_own(&kind) {
            let message = format!("{path}.apiVersion: {OWN_KIND}");
            return Err(Trouble { reason: "InvalidExpression", message });
        }
        let labels = metadata.and_then(|m| m.get("labels")).and_then(Value::as_object);
        if let Some(label) = labels.and_then(|labels| labels.keys().find(|label| is_own_label(label))) {
            let message = format!("{path}.metadata.labels: {label} {OWN_LABEL}");
            return Err(Trouble { reason: "InvalidExpression", message });
        }
        parsed.push(parse(evaluator, template, &path, roots).await?);
    }
    Ok(parsed)
}

/// Parses an expression that is answered with true or false.
pub(super) async fn parse_question(
    evaluator: &dyn Evaluator,
    source: Option<&str>,
    field: &str,
    roots: &[&str],
) -> Result<Option<Expression>, Trouble> {
    let Some(source) = source else { return Ok(None) };
    let path = format!("{HERE}.{field}");
    let expression = evaluator.parse(source).await.map_err(|e| invalid(&path, &e))?;
    see_only(&path, expression.roots().iter().map(String::as_str), roots)?;
    Ok(Some(expression))
}

pub(super) async fn parse(
    evaluator: &dyn Evaluator,
    text: &Value,
    path: &str,
    roots: &[&str],
) -> Result<Template, Trouble> {
    let template = Template::parse(evaluator, text, path).await;
    let template = template.map_err(|e| Trouble { reason: "InvalidExpression", message: e.to_string() })?;
    let named = template.roots();
    let at = |root: &str| template.path_of_root(root).unwrap_or(path).to_owned();
    match named.iter().find(|root| !roots.contains(&root.as_str())) {
        Some(root) => see_only(&at(root), [root.as_str()].into_iter(), roots)
            .map(|()| template)
            .map_err(|trouble| Trouble { message: format!("{}{LITERAL}", trouble.message), ..trouble }),
        None => Ok(template),
    }
}

fn see_only<'a>(path: &str, mut named: impl Iterator<Item = &'a str>, roots: &[&str]) -> Result<(), Trouble> {
    match named.find(|name| !roots.contains(name)) {
        Some(name) => {
            let message = format!("{path}: {name} is not known here; an expression may name {}", roots.join(", "));
            Err(Trouble { reason: "InvalidExpression", message })
        }
        None => Ok(()),
    }
}

fn invalid(path: &str, invalid: &Invalid) -> Trouble {
    Trouble { reason: "InvalidExpression", message: format!("{path}: {invalid}") }
}

/// Whether two templates make the same object, as far as their texts tell: what is written alike gives the same name. The
/// version is no part of an object's identity.
fn makes_the_same(one: &Value, other: &Value, default_namespace: &str) -> bool {
    let identity = |template: &Value| {
        let text =
            |field: &str| template.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).map(str::to_owned);
        let kind = kind_of(template);
        let namespace = text("namespace").unwrap_or_else(|| default_namespace.to_owned());
        Some((kind.group().to_owned(), kind.kind, namespace, text("name")?))
    };
    let (one, other) = (identity(one), identity(other));
    one.is_some() && one == other
}
