//! What an object is: its kind and name, or why nobody can tell.

use std::fmt;

use crate::config::problem::ConfigProblem;
use crate::config::settings::CONFIG_MAPS;
use crate::config::text::nearest;
use crate::config::yaml::Node;
use crate::model::ObjectName;

/// The kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Service,
    Configuration,
    Route,
    Revision,
    DomainMapping,
    PodAutoscaler,
    ConfigMap,
    Secret,
    LoggingConfig,
}

impl Kind {
    /// The kind by API group and name.
    fn find(group: &str, kind: &str) -> Option<Self> {
        Some(match (group, kind) {
            ("serving.knative.dev", "Service") => Self::Service,
            ("serving.knative.dev", "Configuration") => Self::Configuration,
            ("serving.knative.dev", "Route") => Self::Route,
            ("serving.knative.dev", "Revision") => Self::Revision,
            ("serving.knative.dev", "DomainMapping") => Self::DomainMapping,
            ("autoscaling.knative.dev" | "autoscaling.internal.knative.dev", "PodAutoscaler") => {
                Self::PodAutoscaler
            }
            ("", "ConfigMap") => Self::ConfigMap,
            ("", "Secret") => Self::Secret,
            ("logging.knative.dev", "LoggingConfig") => Self::LoggingConfig,
            _ => return None,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Configuration => "Configuration",
            Self::Route => "Route",
            Self::Revision => "Revision",
            Self::DomainMapping => "DomainMapping",
            Self::PodAutoscaler => "PodAutoscaler",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::LoggingConfig => "LoggingConfig",
        }
    }
}

/// Kind and name: what may stand only once in all files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectKey {
    pub(super) kind: Kind,
    pub(super) name: ObjectName,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// Namespace of Knative's own ConfigMaps; without a namespace, or in `default`, they mean the same.
const KNATIVE_NAMESPACE: &str = "knative-serving";

/// What an object is.
pub(super) enum Identity {
    Object(ObjectKey),
    Skipped(String),
    Broken(ConfigProblem),
}

/// What a document or an item of a list is.
pub(super) fn identify(node: &Node) -> Identity {
    if node.as_map().is_none() {
        let message = format!("this is no Kubernetes object but a {}", node.kind());
        let fix = "write apiVersion, kind, metadata and spec";
        return Identity::Broken(ConfigProblem::error("", message).fix(fix).at_line(node.line));
    }
    let text = |key| node.get(key).and_then(Node::as_str);
    let (api_version, kind) = match (text("apiVersion"), text("kind")) {
        (Some(api_version), Some(kind)) => (api_version, kind),
        // Other tools' files lie in the same folders.
        (None, None) if node.get("metadata").is_none() && node.get("spec").is_none() => {
            return Identity::Skipped("a document without apiVersion and kind".to_owned());
        }
        (api_version, _) => {
            let missing = if api_version.is_none() { "apiVersion" } else { "kind" };
            let problem = ConfigProblem::error(missing, "missing field(s)")
                .fix("write apiVersion: serving.knative.dev/v1 and kind: Service for a service");
            return Identity::Broken(problem.at_line(node.line));
        }
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let Some(known) = Kind::find(group, kind) else { return unknown(node, api_version, kind) };
    match name_of(node, known) {
        Ok(name) => Identity::Object(ObjectKey { kind: known, name }),
        Err(problem) => Identity::Broken(*problem),
    }
}

/// A kind that is not read. In Knative's own groups it is more likely a slip than another tool's.
fn unknown(node: &Node, api_version: &str, kind: &str) -> Identity {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if nearest(group, GROUPS).is_some() {
        let (field, message, fix) = match nearest(group, GROUPS) {
            Some(near) if near != group => {
                ("apiVersion", format!("there is no API group {group}"), near)
            }
            _ => {
                let all = "Service, Configuration, Route, Revision, DomainMapping, PodAutoscaler";
                let fix = nearest(kind, KINDS).unwrap_or(all);
                ("kind", format!("{group} has no kind {kind}"), fix)
            }
        };
        let line = node.entry(field).map_or(node.line, |entry| entry.line);
        let problem = ConfigProblem::error(field, message).fix(format!("write {fix}"));
        return Identity::Broken(problem.at_line(line));
    }
    match (group, kind) {
        ("", "Service") => Identity::Skipped("Service (v1, not serving.knative.dev/v1)".to_owned()),
        _ => Identity::Skipped(format!("{kind} ({api_version})")),
    }
}

/// The API groups whose kinds are read.
const GROUPS: [&str; 4] = [
    "serving.knative.dev",
    "autoscaling.knative.dev",
    "autoscaling.internal.knative.dev",
    "logging.knative.dev",
];

/// The kinds in them.
const KINDS: [&str; 7] = [
    "Service",
    "Configuration",
    "Route",
    "Revision",
    "DomainMapping",
    "PodAutoscaler",
    "LoggingConfig",
];

fn name_of(node: &Node, kind: Kind) -> Result<ObjectName, Box<ConfigProblem>> {
    for field in ["metadata", "spec"] {
        if let Some(entry) = node.entry(field).filter(|entry| entry.node.is_null()) {
            let message =
                format!("{field} is empty: the indentation of what belongs to it is lost");
            let fix = format!("write the lines that belong to {field} two spaces further in");
            let problem = ConfigProblem::error(field, message).fix(fix).at_line(entry.line);
            return Err(Box::new(problem));
        }
    }
    let text = |key| node.at(&["metadata", key]).and_then(Node::as_str).filter(|t| !t.is_empty());
    let Some(name) = text("name") else {
        let message = "missing field(s)";
        let fix = format!("write metadata.name: the name of the {}", kind.name());
        let line = node.entry("metadata").map_or(node.line, |entry| entry.line);
        let problem = ConfigProblem::error("metadata.name", message).fix(fix).at_line(line);
        return Err(Box::new(problem));
    };
    let namespace = text("namespace").unwrap_or("default");
    let is_knatives = kind == Kind::ConfigMap && CONFIG_MAPS.contains(&name);
    let namespace =
        if is_knatives && namespace == "default" { KNATIVE_NAMESPACE } else { namespace };
    Ok(ObjectName::new(namespace, name))
}

/// Key of one of Knative's own ConfigMaps.
pub(super) fn knative_config_map(name: &str) -> ObjectKey {
    ObjectKey { kind: Kind::ConfigMap, name: ObjectName::new(KNATIVE_NAMESPACE, name) }
}
