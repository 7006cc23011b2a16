//! A Blueprint's templates and expressions, parsed and checked once for each generation of it.

mod parse;
mod shown;
#[cfg(test)]
mod tests;

use super::{
    accounts::Account,
    kinds::Kind,
    record::{Made, Record},
    sites::{LeaseKind, SiteTemplate},
    snapshot::Snapshot,
};
use crate::{
    api::{Blueprint, Lease, Resource, blueprint::ObjectsDriver, step::EffectKey},
    driver::Trouble,
    expression::{self, EvaluationError, Evaluator, Expression, Template, template::RenderError},
};
use parse::{parse, parse_all, parse_question};
use serde_json::{Map, Value, json};
pub use shown::{bindings, empty, is_slow_by_itself, of_nobody, seen, without_data};
use std::collections::BTreeMap;

/// The label that says whose an object is: the UID of its resource, or of its lease.
pub const OWNER: &str = "drydock.dev/owner";
/// The label of the resource that an object is made for, or on.
pub const RESOURCE: &str = "drydock.dev/resource";
/// The label of the lease's attempt that an object is made for (protocol.md, D1).
pub const ATTEMPT: &str = "drydock.dev/attempt";
/// The annotation of the resource that an object is made for, or on, as `<namespace>/<name>`: by it, what came late for one
/// that is gone is known to the next of its name.
const NAMED: &str = "drydock.dev/resource-name";

/// Where the driver stands in a Blueprint.
const HERE: &str = "spec.driver.objects";

/// What may stand in a template's metadata. Owner references and finalizers would tie objects to things that are not ours.
const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

/// What the templates of a Blueprint may take in memory together: as much as some 500 KiB of usual YAML.
pub const MAX_TEMPLATES: u64 = 8 * MIB;
/// What the objects of one resource, or of one lease, may take in memory together when their templates are filled.
pub const MAX_ENVIRONMENT: u64 = 12 * MIB;
const MIB: u64 = 1024 * 1024;

/// The longest name, which is also the longest that most kinds may have.
const LONGEST_NAME: usize = 253;
/// The longest output, as the schema of a status has it.
const LONGEST_OUTPUT: usize = 1024;

/// See the module.
pub struct Plan {
    /// As whom everything is made.
    pub account: Account,
    /// What lives with the resource.
    pub templates: Vec<Template>,
    /// What lives with each lease.
    pub lease_templates: Vec<Template>,
    /// Where the latter make what.
    lease_sites: Vec<SiteTemplate>,
    /// When they are ready.
    pub ready_when: Option<Expression>,
    /// When they cannot become ready any more.
    pub failed_when: Option<Expression>,
    /// What the lease is told.
    pub outputs: BTreeMap<String, Template>,
}

/// What expressions may speak of.
pub struct About<'a> {
    /// `blueprint`.
    pub blueprint: &'a Blueprint,
    /// `resource`.
    pub resource: &'a Resource,
    /// `lease`.
    pub lease: Option<&'a Lease>,
    /// `objects`.
    pub objects: Option<Vec<Value>>,
}

/// Why nothing came of a plan.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    /// An expression.
    #[error("{0}")]
    Render(#[from] RenderError),
    /// What came out is no object that is made here.
    #[error("{path}: {why}")]
    Wrong {
        /// Where it stands in the Blueprint.
        path: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Two templates make the same object.
    #[error("{path}: it makes {what}, and so does {first}; name them apart")]
    Twice {
        /// Where the second stands in the Blueprint.
        path: String,
        /// The object.
        what: String,
        /// The first.
        first: String,
    },
}

impl Unmade {
    /// The word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Render(error) => error.source.reason(),
            Self::Wrong { .. } => "InvalidTemplate",
            Self::Twice { .. } => "ObjectExists",
        }
    }

    /// The expression that was too slow.
    pub fn too_slow(&self) -> Option<&Expression> {
        match self {
            Self::Render(RenderError { source: EvaluationError::TooSlow, expression, .. }) => expression.as_ref(),
            Self::Render(_) | Self::Wrong { .. } | Self::Twice { .. } => None,
        }
    }
}

impl Plan {
    /// Parses a Blueprint's, and checks what its schema cannot.
    ///
    /// # Errors
    /// Where an expression is none, or names what it may not see: `Ready=False/InvalidExpression`.
    pub async fn of(blueprint: &Blueprint, driver: &ObjectsDriver, evaluator: &dyn Evaluator) -> Result<Self, Trouble> {
        let account = Account {
            namespace: blueprint.metadata.namespace.clone().unwrap_or_default(),
            name: driver.service_account_name.clone(),
        };
        // It becomes a part of the name of the user that is impersonated.
        let of_account = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-' || char == '.';
        if account.name.is_empty() || !account.name.chars().all(of_account) {
            let message = format!("{HERE}.serviceAccountName: {} is no name of one", told(&json!(account.name)));
            return Err(Trouble { reason: "InvalidExpression", message });
        }
        let built = &["resource", "blueprint"][..];
        let leased = &["resource", "blueprint", "lease"][..];
        let judged = &["objects", "resource", "blueprint", "lease"][..];
        let weight: u64 = driver.templates.iter().chain(&driver.lease_templates).map(expression::weight).sum();
        if weight > MAX_TEMPLATES {
            let (weight, most) = (weight.div_ceil(MIB), MAX_TEMPLATES / MIB);
            let message = format!(
                "{HERE}: templates and leaseTemplates take {weight} MiB of memory together, and may take {most} MiB; divide them \
                 among several Blueprints, or make them smaller"
            );
            return Err(Trouble { reason: "InvalidExpression", message });
        }
        let ready_when = parse_question(evaluator, driver.ready_when.as_deref(), "readyWhen", judged).await?;
        let failed_when = parse_question(evaluator, driver.failed_when.as_deref(), "failedWhen", judged).await?;
        let mut outputs = BTreeMap::new();
        for (name, text) in &driver.outputs {
            let path = format!("{HERE}.outputs.{name}");
            outputs.insert(name.clone(), parse(evaluator, &json!(text), &path, judged).await?);
        }
        let templates = parse_all(evaluator, &driver.templates, "templates", built, &account.namespace).await?;
        let lease_templates =
            parse_all(evaluator, &driver.lease_templates, "leaseTemplates", leased, &account.namespace).await?;
        let mut lease_sites = Vec::with_capacity(lease_templates.len());
        for (n, template) in driver.lease_templates.iter().enumerate() {
            let path = format!("{HERE}.leaseTemplates[{n}]");
            lease_sites.push(SiteTemplate::of(evaluator, &account, template, &path).await?);
        }
        Ok(Self { account, templates, lease_templates, lease_sites, ready_when, failed_when, outputs })
    }

    /// The objects of a resource, or where there is a lease those of the lease, as they are to be made under this key.
    ///
    /// # Errors
    /// Where an expression fails, or gives what is no object.
    pub async fn render(
        &self,
        evaluator: &dyn Evaluator,
        about: &About<'_>,
        key: &EffectKey,
    ) -> Result<Vec<(Made, Value)>, Unmade> {
        let (templates, field) = match key.lease {
            Some(_) => (&self.lease_templates, "leaseTemplates"),
            None => (&self.templates, "templates"),
        };
        let mut objects = Vec::with_capacity(templates.len());
        let mut total = 0;
        for (n, template) in templates.iter().enumerate() {
            let rendered = template.render(evaluator, bindings(about, &template.roots())).await?;
            let wrong = |why: String| Unmade::Wrong { path: format!("{HERE}.{field}[{n}]"), why };
            total += expression::weight(&rendered);
            if total > MAX_ENVIRONMENT {
                let most = MAX_ENVIRONMENT / MIB;
                let why =
                    format!("with it, the objects take more than {most} MiB of memory; have its expressions give less");
                return Err(wrong(why));
            }
            let (made, object) = finish(rendered, key, about.resource).map_err(wrong)?;
            let place = |made: &Made| {
                let namespace = made.namespace.clone().unwrap_or_else(|| self.account.namespace.clone());
                (made.kind.group().to_owned(), made.kind.kind.clone(), namespace, made.name.clone())
            };
            if let Some(first) = objects.iter().position(|(other, _)| place(other) == place(&made)) {
                let path = format!("{HERE}.{field}[{n}]");
                return Err(Unmade::Twice { path, what: made.told(), first: format!("{field}[{first}]") });
            }
            objects.push((made, object));
        }
        Ok(objects)
    }

    /// Where the leases of a resource can get objects, and of which kinds.
    pub async fn lease_kinds(&self, evaluator: &dyn Evaluator, about: &About<'_>) -> Vec<LeaseKind> {
        let mut lease_kinds = Vec::with_capacity(self.lease_sites.len());
        for site in &self.lease_sites {
            lease_kinds.push(site.resolve(evaluator, about).await);
        }
        lease_kinds.sort();
        lease_kinds.dedup();
        lease_kinds
    }

    /// What is to be on record before the first of them is made; of a resource, where its leases can get objects, too.
    pub fn record(&self, objects: &[(Made, Value)], lease_kinds: Vec<LeaseKind>) -> Record {
        let objects = objects.iter().map(|(made, _)| made.clone()).collect();
        Record { objects, lease_kinds, ..Record::new(self.account.clone()) }
    }

    /// Whether what is ready is asked of the objects of a lease, or of those of its resource, too. An expression that
    /// speaks of the lease, or of objects that only a lease has, is not asked before there is one.
    pub fn judges(&self, of_lease: bool) -> bool {
        self.is_asked(self.ready_when.as_ref(), of_lease)
    }

    /// The same of whether it has failed.
    pub fn gives_up(&self, of_lease: bool) -> bool {
        self.is_asked(self.failed_when.as_ref(), of_lease)
    }

    fn is_asked(&self, expression: Option<&Expression>, of_lease: bool) -> bool {
        let Some(expression) = expression else { return false };
        match of_lease {
            true => !self.lease_templates.is_empty() || expression.roots().contains("lease"),
            false => !self.templates.is_empty() && !expression.roots().contains("lease"),
        }
    }

    /// Whether anything that is evaluated for a lease may name `objects`, those of its resource included.
    pub fn asks_objects_for_lease(&self) -> bool {
        let names = |template: &Template| template.roots().contains("objects") && self.waits_for_lease(template);
        self.judges(true) || self.gives_up(true) || self.outputs.values().any(names)
    }

    /// Whether an output needs what only a lease has.
    fn waits_for_lease(&self, output: &Template) -> bool {
        let roots = output.roots();
        roots.contains("lease") || (roots.contains("objects") && !self.lease_templates.is_empty())
    }

    /// What is given to the lease: from the resource on, but for what speaks of the lease, or of its objects.
    ///
    /// # Errors
    /// Where an expression fails, or gives what is no text.
    pub async fn outputs(
        &self,
        evaluator: &dyn Evaluator,
        about: &About<'_>,
    ) -> Result<BTreeMap<String, String>, Unmade> {
        let of_lease = about.lease.is_some();
        let mut outputs = BTreeMap::new();
        for (name, template) in &self.outputs {
            let roots = template.roots();
            if self.waits_for_lease(template) != of_lease {
                continue;
            }
            let wrong = |why: String| Unmade::Wrong { path: format!("{HERE}.outputs.{name}"), why };
            let text = match template.render(evaluator, bindings(about, &roots)).await? {
                Value::String(text) => text,
                value @ (Value::Bool(_) | Value::Number(_)) => value.to_string(),
                other => return Err(wrong(format!("an output is a text, and this gives {}", told(&other)))),
            };
            let length = text.chars().count();
            if length > LONGEST_OUTPUT {
                return Err(wrong(format!(
                    "an output may have {LONGEST_OUTPUT} characters, and this gives {length}; have it name where to find more"
                )));
            }
            outputs.insert(name.clone(), text);
        }
        Ok(outputs)
    }
}

/// The kind that a template names.
pub fn kind_of(template: &Value) -> Kind {
    let text = |field: &str| template.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Kind { api_version: text("apiVersion"), kind: text("kind") }
}

const OWN_KIND: &str = "Drydock's own kinds are not made from templates; create a Lease instead";
const OWN_LABEL: &str = "is Drydock's own; leave it out";

/// A kind of ours, in whatever version.
fn is_own(kind: &Kind) -> bool {
    kind.api_version.split('/').next() == Some(crate::api::GROUP)
}

fn is_own_label(label: &str) -> bool {
    label.split('/').next() == Some(crate::api::GROUP)
}

/// A rendered template becomes an object that says whose it is.
fn finish(mut object: Value, key: &EffectKey, resource: &Resource) -> Result<(Made, Value), String> {
    let kind = kind_of(&object);
    if is_own(&kind) {
        return Err(format!("apiVersion: {OWN_KIND}"));
    }
    super::volumes::deleted_with_their_sets(&mut object, "")?;
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or("metadata is missing")?;
    let name = name_in(metadata, "name")?.ok_or("metadata.name is missing")?;
    let namespace = name_in(metadata, "namespace")?;
    for field in ["labels", "annotations"] {
        let Some(texts) = metadata.get(field).filter(|texts| !texts.is_null()) else {
            metadata.remove(field);
            continue;
        };
        let texts = texts.as_object().ok_or_else(|| format!("metadata.{field} is {}, and no map", told(texts)))?;
        if let Some((key, value)) = texts.iter().find(|(_, value)| !value.is_string()) {
            let key = told(&json!(key));
            return Err(format!(
                "metadata.{field}: {key} is {}; it has to be a text, as string(…) makes one",
                told(value)
            ));
        }
    }
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    let labels = labels.as_object_mut().ok_or("metadata.labels is no map")?;
    if let Some(label) = labels.keys().find(|label| is_own_label(label)) {
        return Err(format!("metadata.labels: {label} {OWN_LABEL}"));
    }
    labels.extend(labels_of(key).into_iter().map(|(label, value)| (label.to_owned(), Value::String(value))));
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    let annotations = annotations.as_object_mut().ok_or("metadata.annotations is no map")?;
    annotations.insert(NAMED.into(), Value::String(name_of(resource)));
    Ok((Made { kind, namespace, name, uid: None, fields: None }, object))
}

/// A name in a rendered template. It becomes a part of paths: what could lead elsewhere is refused before it is on record.
fn name_in(metadata: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    let harmless = |char: char| char.is_ascii_alphanumeric() || "-._:@+~".contains(char);
    match metadata.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if name.len() > LONGEST_NAME => {
            Err(format!("metadata.{field} has {} bytes, and may have {LONGEST_NAME}", name.len()))
        }
        Some(Value::String(name)) if name.is_empty() => Err(format!("metadata.{field} is empty")),
        Some(Value::String(name)) if name.chars().all(harmless) && name.chars().any(|char| char != '.') => {
            Ok(Some(name.clone()))
        }
        Some(Value::String(name)) => {
            let name = told(&json!(name));
            Err(format!("metadata.{field} is {name}; it may hold letters, digits and -._:@+~ only"))
        }
        Some(other) => Err(format!("metadata.{field} is {}; it has to be a text, as string(…) makes one", told(other))),
    }
}

/// The beginning of a value: it may be as long as its author likes.
pub fn told(value: &Value) -> String {
    const ENOUGH: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The labels of what is made under a key.
pub fn labels_of(key: &EffectKey) -> Vec<(&'static str, String)> {
    let mut labels = vec![(RESOURCE, key.resource.clone())];
    match &key.lease {
        Some((lease, attempt)) => labels.extend([(OWNER, lease.clone()), (ATTEMPT, attempt.to_string())]),
        None => labels.push((OWNER, key.resource.clone())),
    }
    labels
}

fn name_of(resource: &Resource) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&resource.metadata.namespace), part(&resource.metadata.name))
}

/// Whether an object was made for, or on, another resource of the same name as this one.
pub fn is_of_namesake(object: &Snapshot, resource: &Resource) -> bool {
    let named = object.metadata.annotations.as_ref().and_then(|all| all.get(NAMED));
    let of = object.metadata.labels.as_ref().and_then(|all| all.get(RESOURCE));
    named == Some(&name_of(resource)) && of.is_some() && of != resource.metadata.uid.as_ref()
}

/// The UID of whose what is made under a key is.
pub fn owner_of(key: &EffectKey) -> &str {
    key.lease.as_ref().map_or(&key.resource, |(lease, _)| lease)
}
