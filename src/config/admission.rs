//! Admission: an object is decoded strictly, filled in and checked as Knative does it when the
//! object is created or replaced. All that is wrong is found at once; each problem has its place
//! and what to write instead.

mod annotations;
mod container;
mod decode;
mod defaults;
mod findings;
mod image;
mod mask;
mod metadata;
mod names;
mod plain;
mod pod;
mod probe;
mod scaling;
mod schema;
mod security;
mod serving;
mod traffic;
mod update;
mod view;
mod volumes;

#[cfg(test)]
mod crds;
#[cfg(test)]
mod tests;

pub use annotations::{
    AUTOSCALING, Annotations, HPA, KPA, autoscaling, autoscaling_names, first_of,
    validate_annotations,
};
pub use plain::{config_map_data, logging_settings, value_bytes};
pub use scaling::pod_autoscaler_annotations;
pub use update::is_same_spec;

use serde_json::Value as Json;

use super::problem::{ConfigProblem, Severity};
use super::settings::{AutoscalerConfig, DefaultsConfig, Features};
use super::yaml::{Node, Value};
use findings::{Finding, Findings, Path};

/// A kind of object that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `serving.knative.dev` Service.
    Service,
    /// `serving.knative.dev` Configuration.
    Configuration,
    /// `serving.knative.dev` Route.
    Route,
    /// `serving.knative.dev` Revision.
    Revision,
    /// `serving.knative.dev` DomainMapping.
    DomainMapping,
    /// `autoscaling.knative.dev` PodAutoscaler: the form that people write.
    PodAutoscaler,
    /// `autoscaling.internal.knative.dev` PodAutoscaler.
    InternalPodAutoscaler,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `logging.knative.dev` LoggingConfig.
    LoggingConfig,
}

impl Kind {
    /// The kind of an object, none if it is not one of these. Any version of a group is taken for
    /// the one that is known, as Knative's own types are the same in all of them.
    pub fn of(object: &Node) -> Option<Self> {
        let version = object.get("apiVersion").and_then(Node::as_str)?;
        let kind = object.get("kind").and_then(Node::as_str)?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        Some(match (group, kind) {
            ("serving.knative.dev", "Service") => Self::Service,
            ("serving.knative.dev", "Configuration") => Self::Configuration,
            ("serving.knative.dev", "Route") => Self::Route,
            ("serving.knative.dev", "Revision") => Self::Revision,
            ("serving.knative.dev", "DomainMapping") => Self::DomainMapping,
            ("autoscaling.knative.dev", "PodAutoscaler") => Self::PodAutoscaler,
            ("autoscaling.internal.knative.dev", "PodAutoscaler") => Self::InternalPodAutoscaler,
            ("", "ConfigMap") => Self::ConfigMap,
            ("", "Secret") => Self::Secret,
            ("logging.knative.dev", "LoggingConfig") => Self::LoggingConfig,
            _ => return None,
        })
    }

    /// The name within the schema.
    const fn schema(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Configuration => "Configuration",
            Self::Route => "Route",
            Self::Revision => "Revision",
            Self::DomainMapping => "DomainMapping",
            Self::PodAutoscaler => "PodAutoscaler",
            Self::InternalPodAutoscaler => "InternalPodAutoscaler",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::LoggingConfig => "LoggingConfig",
        }
    }
}

/// The settings against which objects are checked.
#[derive(Clone, Debug, Default)]
pub struct AdmissionContext {
    /// `config-autoscaler`.
    pub autoscaler: AutoscalerConfig,
    /// `config-defaults`.
    pub defaults: DefaultsConfig,
    /// `config-features`.
    pub features: Features,
    /// Whether objects come from files: then no owner references are asked for, and
    /// `config-autoscaler` is read over one machine's defaults.
    pub one_machine: bool,
}

impl AdmissionContext {
    /// One machine's defaults.
    pub fn one_machine() -> Self {
        Self { autoscaler: AutoscalerConfig::one_machine(), one_machine: true, ..Self::default() }
    }
}

/// What became of an object.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The object with everything filled in. What could not be decoded is left out, so it is to
    /// be used only if there are no problems.
    pub object: Json,
    /// Why it is not admitted; empty = admitted. Files and documents are not known here.
    pub problems: Vec<ConfigProblem>,
    /// What somebody should know though it is admitted.
    pub warnings: Vec<ConfigProblem>,
}

impl Admission {
    /// Whether the object is admitted.
    pub const fn is_admitted(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The objects of a `v1` `List`, as `kubectl get -o yaml` prints several; none for anything else.
pub fn list_items(object: &Node) -> Option<&[Node]> {
    let of = |key: &str| object.get(key).and_then(Node::as_str);
    if of("apiVersion") != Some("v1") || of("kind") != Some("List") {
        return None;
    }
    Some(object.get("items").and_then(Node::as_list).unwrap_or_default())
}

/// Decodes, fills in and checks an object. `stored` is the same object as admitted before; the
/// object is then an update of it.
pub fn admit(object: &Node, ctx: &AdmissionContext, stored: Option<&Node>) -> Admission {
    let mut out = Findings::default();
    let mut json = Json::Object(serde_json::Map::new());
    match Kind::of(object) {
        Some(kind) => json = check(object, kind, ctx, stored, &mut out),
        None => out.push(unknown_kind(object)),
    }
    let (problems, warnings) = out
        .into_problems(object)
        .into_iter()
        .partition(|problem| problem.severity == Severity::Error);
    Admission { object: json, problems, warnings }
}

fn check(
    object: &Node,
    kind: Kind,
    ctx: &AdmissionContext,
    stored: Option<&Node>,
    out: &mut Findings,
) -> Json {
    let mut decoding = Findings::default();
    let mut json = decode::decode(object, kind.schema(), &mut decoding);
    let stored = stored.map(|old| decode::decode(old, kind.schema(), &mut Findings::default()));
    let stored = stored.as_ref();
    let mut found = Findings::default();
    match kind {
        Kind::Service => serving::service(&mut json, ctx, stored, &mut found),
        Kind::Configuration => serving::configuration(&mut json, ctx, stored, &mut found),
        Kind::Route => serving::route(&mut json, ctx, stored, &mut found),
        Kind::Revision => serving::revision(&mut json, ctx, stored, &mut found),
        Kind::DomainMapping => serving::domain_mapping(&mut json, stored, &mut found),
        Kind::PodAutoscaler => scaling::public(&mut json, ctx, &mut found),
        Kind::InternalPodAutoscaler => scaling::internal(&mut json, ctx, &mut found),
        Kind::ConfigMap => plain::config_map(&json, ctx, &mut found),
        Kind::Secret => plain::secret(&json, &mut found),
        Kind::LoggingConfig => plain::logging_config(&json, object, &mut found),
    }
    // What was left out is missing only because it did not fit.
    let broken = decoding.paths();
    out.append(decoding);
    out.append(found.without_echoes_of(&broken));
    json
}

fn unknown_kind(object: &Node) -> Finding {
    let of = |key: &str| object.get(key).and_then(Node::as_str).unwrap_or_default();
    let (version, kind) = (of("apiVersion"), of("kind"));
    let (path, message, fix) = if !matches!(object.value, Value::Map(_)) {
        let message = match &object.value {
            Value::List(_) => "this is a list, not an object",
            _ => "this is a single value, not an object",
        };
        ("", message.to_owned(), "write apiVersion, kind, metadata and spec".to_owned())
    } else if version.is_empty() {
        let fix = "write apiVersion: serving.knative.dev/v1";
        ("apiVersion", "missing field(s)".to_owned(), fix.to_owned())
    } else if kind.is_empty() {
        ("kind", "missing field(s)".to_owned(), "write kind: Service".to_owned())
    } else {
        let message = format!("no matches for kind {kind:?} in version {version:?}");
        let known = ["Service", "Configuration", "Route", "Revision", "DomainMapping"];
        let fix = match super::text::nearest(kind, known) {
            Some(near) if version.starts_with("serving.knative.dev/") => format!("write {near}"),
            _ => "remove it".to_owned(),
        };
        ("kind", message, fix)
    };
    let paths = if path.is_empty() { Vec::new() } else { vec![Path::root().field(path)] };
    Finding { message, paths, fix, ..Finding::default() }
}
