//! A JSON value whose texts may hold `${CEL}`.
//!
//! A text that is exactly one `${…}` becomes the value of the expression, whatever its type. In any other, texts are put
//! in as they are, numbers and booleans as in JSON, and all else is an error. `$${` is the text `${`. Keys are taken as
//! they are.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::BoxFuture;
use serde_json::Value;

use super::{Bindings, EvaluationError, Evaluator, Expression, Invalid};

mod text;

/// How many expressions one template may hold: they share one allowance of time.
pub const MAX_EXPRESSIONS: usize = 256;

/// A template whose expressions are parsed.
#[derive(Clone, Debug)]
pub struct Template {
    root: Node,
    holes: Vec<Hole>,
}

/// An expression, and where it stands.
#[derive(Clone, Debug)]
struct Hole {
    path: String,
    expression: Expression,
}

/// A value with holes, by their places in the list of all.
#[derive(Clone, Debug)]
enum Node {
    Plain(Value),
    Hole(usize),
    Text(Vec<Part>),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Hole(usize),
}

/// Why a template is not one, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {invalid}{}", literal(invalid))]
pub struct InvalidAt {
    /// Where it stands.
    pub path: String,
    /// What is wrong there.
    pub invalid: Invalid,
}

/// What to do where a text was meant, and no expression: scripts have `${HOME}`. Added to messages about templates.
pub const LITERAL: &str = "; the literal text ${ is written $${";

fn literal(invalid: &Invalid) -> &'static str {
    match invalid {
        // The first says so itself; to the others it makes no difference.
        Invalid::Unclosed | Invalid::TooManyExpressions(_) => "",
        _ => LITERAL,
    }
}

fn literal_of(source: &EvaluationError) -> &'static str {
    // What is too slow or too large was meant.
    if matches!(source, EvaluationError::Failed(_)) { LITERAL } else { "" }
}

/// Why a template could not be filled, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {source}{}", literal_of(.source))]
pub struct RenderError {
    /// Where the expression stands.
    pub path: String,
    /// What came of it.
    pub source: EvaluationError,
    /// The expression.
    pub expression: Option<Expression>,
}

impl Template {
    /// Parses a template that stands at a path, as `spec.driver.objects.templates[0]`; the first error in its order.
    pub async fn parse(evaluator: &dyn Evaluator, template: &Value, path: &str) -> Result<Self, InvalidAt> {
        let mut found = Sources { sources: vec![] };
        let root = found.node(template, path)?;
        let mut holes = Vec::with_capacity(found.sources.len());
        for (path, source) in found.sources {
            match evaluator.parse(&source).await {
                Ok(expression) => holes.push(Hole { path, expression }),
                Err(invalid) => return Err(InvalidAt { path, invalid }),
            }
        }
        Ok(Self { root, holes })
    }

    /// The variables that its expressions name.
    #[must_use]
    pub fn roots(&self) -> BTreeSet<String> {
        self.holes.iter().flat_map(|hole| hole.expression.roots()).cloned().collect()
    }

    /// Where a variable is named first, to tell of one that is not there.
    #[must_use]
    pub fn path_of_root(&self, root: &str) -> Option<&str> {
        self.holes.iter().find(|hole| hole.expression.roots().contains(root)).map(|hole| hole.path.as_str())
    }

    /// Fills the template: all expressions are evaluated in one job. The first error in its order.
    pub fn render<'a>(
        &'a self,
        evaluator: &dyn Evaluator,
        bindings: Arc<Bindings>,
    ) -> BoxFuture<'a, Result<Value, RenderError>> {
        let expressions: Vec<Expression> = self.holes.iter().map(|hole| hole.expression.clone()).collect();
        let results = (!expressions.is_empty()).then(|| evaluator.evaluate(expressions, bindings));
        Box::pin(async move {
            let results = match results {
                Some(results) => results.await,
                None => vec![],
            };
            let mut values = Vec::with_capacity(results.len());
            for (hole, result) in self.holes.iter().zip(results) {
                values.push(result.map_err(|source| RenderError {
                    path: hole.path.clone(),
                    source,
                    expression: Some(hole.expression.clone()),
                })?);
            }
            self.fill(&self.root, &mut values)
        })
    }

    fn fill(&self, node: &Node, values: &mut [Value]) -> Result<Value, RenderError> {
        Ok(match node {
            Node::Plain(value) => value.clone(),
            // Each value is put in one place.
            Node::Hole(hole) => values.get_mut(*hole).map(std::mem::take).unwrap_or_default(),
            Node::Text(parts) => {
                let mut filled = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => filled.push_str(text),
                        Part::Hole(hole) => filled.push_str(&self.in_text(*hole, values)?),
                    }
                }
                Value::String(filled)
            }
            Node::List(nodes) => nodes.iter().map(|node| self.fill(node, values)).collect::<Result<_, _>>()?,
            Node::Map(nodes) => {
                let entries = nodes.iter().map(|(key, node)| Ok((key.clone(), self.fill(node, values)?)));
                Value::Object(entries.collect::<Result<_, _>>()?)
            }
        })
    }

    fn in_text(&self, hole: usize, values: &[Value]) -> Result<String, RenderError> {
        let what = match values.get(hole) {
            Some(Value::String(text)) => return Ok(text.clone()),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => return Ok(value.to_string()),
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "a map",
            Some(Value::Null) | None => "null",
        };
        let path = self.holes.get(hole).map(|hole| hole.path.clone()).unwrap_or_default();
        let text = format!("its value is {what}, which cannot be put into a text");
        Err(RenderError { path, source: EvaluationError::Failed(text), expression: None })
    }
}

/// The expressions found so far, and where.
struct Sources {
    sources: Vec<(String, String)>,
}

impl Sources {
    fn node(&mut self, value: &Value, path: &str) -> Result<Node, InvalidAt> {
        Ok(match value {
            Value::String(text) => self.text(text, path)?,
            Value::Array(list) => {
                let nodes = list.iter().enumerate().map(|(i, value)| self.node(value, &format!("{path}[{i}]")));
                Node::List(nodes.collect::<Result<_, _>>()?)
            }
            Value::Object(map) => {
                let nodes = map.iter().map(|(key, value)| {
                    let path = below(path, key);
                    if key.contains("${") {
                        return Err(InvalidAt { path, invalid: Invalid::InKey(key.clone()) });
                    }
                    Ok((key.clone(), self.node(value, &path)?))
                });
                Node::Map(nodes.collect::<Result<_, _>>()?)
            }
            plain => Node::Plain(plain.clone()),
        })
    }

    fn text(&mut self, text: &str, path: &str) -> Result<Node, InvalidAt> {
        let pieces = text::pieces(text).map_err(|invalid| InvalidAt { path: path.to_owned(), invalid })?;
        let is_one = matches!(pieces.as_slice(), [text::Piece::Expression(_)]);
        let mut parts = vec![];
        for piece in pieces {
            match piece {
                text::Piece::Text(text) => parts.push(Part::Text(text)),
                text::Piece::Expression(source) => {
                    if self.sources.len() >= MAX_EXPRESSIONS {
                        let invalid = Invalid::TooManyExpressions(MAX_EXPRESSIONS);
                        return Err(InvalidAt { path: path.to_owned(), invalid });
                    }
                    parts.push(Part::Hole(self.sources.len()));
                    self.sources.push((path.to_owned(), source.to_owned()));
                }
            }
        }
        Ok(match parts.as_slice() {
            [Part::Hole(hole)] if is_one => Node::Hole(*hole),
            [] => Node::Plain(Value::String(String::new())),
            [Part::Text(text)] => Node::Plain(Value::String(text.clone())),
            _ => Node::Text(parts),
        })
    }
}

/// The path of a field, or of an entry whose key is not a plain word.
fn below(path: &str, key: &str) -> String {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    if !key.is_empty() && key.chars().all(is_word) { format!("{path}.{key}") } else { format!("{path}[{key}]") }
}
