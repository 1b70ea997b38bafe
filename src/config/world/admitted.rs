//! Objects that were admitted, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::canary::{self, canary_rules};
use super::data::Data;
use super::dependencies::of_template;
use super::identity::{Kind, ObjectKey};
use super::objects::Source;
use super::own::{OwnError, PREFIX, own_settings};
use super::settings::Settings;
use super::stamp::{Stamps, without_nulls};
use super::workload::ignored;
use crate::config::admission::{Admission, AdmissionContext, admit};
use crate::config::problem::{ConfigProblem, Severity};
use crate::config::yaml::Node;
use crate::model::Dependency;

/// An object as it is in effect.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Where it stands.
    pub(super) source: Source,
    /// The object with defaults, without `spec.template`; of a ConfigMap or Secret only its
    /// metadata.
    pub(super) object: Arc<Value>,
    /// `spec.template` with defaults; `Null` for other kinds.
    pub(super) template: Arc<Value>,
    /// What the user wrote as `spec.template`, nulls left out; `Null` for other kinds.
    pub(super) written: Arc<Value>,
    /// What the template depends on.
    pub(super) depends_on: Arc<[Dependency]>,
    /// Parts of the template that mean nothing on one machine.
    pub(super) ignored: Arc<[String]>,
    /// Contents of a ConfigMap or Secret.
    pub(super) data: Option<Arc<Data>>,
    /// Warnings of its admission, to be said again with every load.
    pub(super) warnings: Vec<String>,
    /// Settings it was admitted under.
    pub(super) settings: u64,
}

impl Admitted {
    /// Whether the other one is this one, if at another place of its file.
    pub(super) fn says(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.object, &other.object) && Arc::ptr_eq(&self.template, &other.template)
    }

    /// The same object at another place of its file.
    fn moved_to(&self, source: &Source) -> Self {
        Self {
            source: source.clone(),
            object: Arc::clone(&self.object),
            template: Arc::clone(&self.template),
            written: Arc::clone(&self.written),
            depends_on: Arc::clone(&self.depends_on),
            ignored: Arc::clone(&self.ignored),
            data: self.data.as_ref().map(Arc::clone),
            warnings: Vec::new(),
            settings: self.settings,
        }
    }
}

/// All objects in effect.
pub(super) type Objects = BTreeMap<ObjectKey, Arc<Admitted>>;

/// The texts of a map below `metadata`.
pub(super) fn metadata_map(object: &Value, field: &str) -> BTreeMap<String, String> {
    texts(object.get("metadata").and_then(|metadata| metadata.get(field)))
}

/// What of a map is text.
pub(super) fn texts(map: Option<&Value>) -> BTreeMap<String, String> {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// One label.
pub(super) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// Admits objects under settings.
pub(super) struct Admitter<'a> {
    context: AdmissionContext,
    strict: bool,
    count: u64,
    stamps: &'a Stamps,
}

impl<'a> Admitter<'a> {
    /// `count` tells settings apart.
    pub(super) fn new(settings: &Settings, count: u64, strict: bool, stamps: &'a Stamps) -> Self {
        let context = AdmissionContext {
            autoscaler: settings.autoscaler.clone(),
            defaults: settings.defaults.clone(),
            features: settings.features.clone(),
            one_machine: settings.one_machine,
        };
        Self { context, strict, count, stamps }
    }

    /// The object as it is in effect from now on. An object whose text and settings are as before
    /// is what it was.
    pub(super) fn admit(
        &self,
        key: &ObjectKey,
        source: &Source,
        former: Option<&Arc<Admitted>>,
    ) -> Result<Arc<Admitted>, Vec<ConfigProblem>> {
        if let Some(former) = former.filter(|former| former.settings == self.count) {
            if former.source.is_same(source) {
                return Ok(Arc::clone(former));
            }
            // Another object of its file changed. Warnings name lines, which may be others now.
            if former.warnings.is_empty() && source.is_moved_from(&former.source) {
                return Ok(Arc::new(former.moved_to(source)));
            }
        }
        self.admit_anew(key, source, former)
            .map(Arc::new)
            .map_err(|problems| problems.into_iter().map(|problem| source.place(problem)).collect())
    }

    fn admit_anew(
        &self,
        key: &ObjectKey,
        source: &Source,
        former: Option<&Arc<Admitted>>,
    ) -> Result<Admitted, Vec<ConfigProblem>> {
        let node = source.node();
        // An update is checked as one, but filled in as if it were new: as Knative fills in what
        // is stored, not what is applied.
        let mut admission = admit(node, &self.context, None);
        let former = former.map(|former| former.source.node()).filter(|former| *former != node);
        if let Some(former) = former {
            let update = admit(node, &self.context, Some(former));
            admission = Admission { object: admission.object, ..update };
        }
        let mut problems = admission.problems;
        let mut warnings = admission.warnings;
        if self.strict && key.kind == Kind::PodAutoscaler {
            // What is left to its default is meant to be written down.
            let severity = Severity::Error;
            problems.extend(warnings.drain(..).map(|w| ConfigProblem { severity, ..w }));
        }
        let warnings =
            warnings.into_iter().map(|warning| source.place(warning).to_string()).collect();
        let mut object = admission.object;
        let written = match key.kind {
            Kind::Service | Kind::Configuration => {
                let template = node.at(&["spec", "template"]);
                without_nulls(template.map_or(Value::Null, Node::to_json))
            }
            _ => Value::Null,
        };
        let data = match key.kind {
            Kind::ConfigMap => Some(Data::of_object(&object, false)),
            Kind::Secret => Some(Data::of_object(&object, true)),
            _ => None,
        };
        // Contents are kept in one place only, which never shows them.
        if let Some(map) = object.as_object_mut().filter(|_| data.is_some()) {
            map.retain(|field, _| field == "metadata");
        }
        let data = data.map(Arc::new);
        let template = match key.kind {
            Kind::Service | Kind::Configuration => {
                object.pointer_mut("/spec/template").map_or(Value::Null, Value::take)
            }
            _ => Value::Null,
        };
        problems.extend(own_problems(key.kind.name(), node));
        if let Some(name) = self.stamps.name_conflict(&key.name, &written)
            && problems.is_empty()
        {
            let line = line_of(node, &["spec", "template", "metadata", "name"]);
            let message = format!("the revision {name} exists and has another template");
            let problem = ConfigProblem::error("spec.template.metadata.name", message)
                .fix("write another name: a revision never changes");
            problems.push(problem.at_line(line));
        }
        if problems.is_empty() {
            Ok(Admitted {
                source: source.clone(),
                object: Arc::new(object),
                depends_on: of_template(&template, &key.name.namespace).into(),
                template: Arc::new(template),
                ignored: ignored(&written).into(),
                written: Arc::new(written),
                data,
                warnings,
                settings: self.count,
            })
        } else {
            Err(problems)
        }
    }
}

/// What is wrong with the annotations `tidegate.dev/*` of an object of that kind: they stand where
/// they mean something, and are right.
pub fn own_problems(kind: &str, node: &Node) -> Vec<ConfigProblem> {
    let above: &[&str] = &["metadata", "annotations"];
    let template: &[&str] = &["spec", "template", "metadata", "annotations"];
    let of_template =
        |path: &[&str]| own_settings(&own_annotations(node, path)).err().unwrap_or_default();
    let of_route = || canary_rules(&own_annotations(node, above)).err().unwrap_or_default();
    let errors = match kind {
        "Service" => [(above, of_route()), (template, of_template(template))].into(),
        "Configuration" => {
            let misplaced = misplaced(&own_annotations(node, above));
            [(above, misplaced), (template, of_template(template))].into()
        }
        "Revision" => vec![(above, of_template(above))],
        "Route" => vec![(above, of_route())],
        _ => Vec::new(),
    };
    let mut problems = Vec::new();
    for (path, errors) in errors {
        report(node, path, errors, &mut problems);
    }
    problems
}

/// The annotations `tidegate.dev/*` of a map.
fn own_annotations(node: &Node, path: &[&str]) -> BTreeMap<String, String> {
    let entries = node.at(path).and_then(Node::as_map).unwrap_or_default();
    let own = entries.iter().filter(|entry| entry.key.starts_with(PREFIX));
    let text = |node: &Node| node.as_str().unwrap_or_default().to_owned();
    own.map(|entry| (entry.key.clone(), text(&entry.node))).collect()
}

/// Own annotations on a Configuration itself: they would be without effect.
fn misplaced(annotations: &BTreeMap<String, String>) -> Vec<OwnError> {
    let error = |key: &String| {
        let of_route = key.strip_prefix(PREFIX).is_some_and(|name| canary::KNOWN.contains(&name));
        let to = if of_route { "the Route" } else { "spec.template.metadata.annotations" };
        let message = "without effect here".to_owned();
        OwnError { key: key.clone(), message, fix: format!("move it to {to}") }
    };
    annotations.keys().map(error).collect()
}

fn report(node: &Node, path: &[&str], errors: Vec<OwnError>, problems: &mut Vec<ConfigProblem>) {
    let entries = node.at(path).and_then(Node::as_map).unwrap_or_default();
    for error in errors {
        let line = entries.iter().find(|entry| entry.key == error.key).map_or(0, |e| e.line);
        let path = format!("{}.{}", path.join("."), error.key);
        problems.push(ConfigProblem::error(path, error.message).fix(error.fix).at_line(line));
    }
}

fn line_of(node: &Node, path: &[&str]) -> u32 {
    node.at(path).map_or(0, |node| node.line)
}
