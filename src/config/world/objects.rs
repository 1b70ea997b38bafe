//! The objects of all files: which there are, where they stand, which stand twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::SourceFile;
use crate::config::problem::ConfigProblem;
use crate::config::settings::CONFIG_MAPS;
use crate::config::text::nearest;
use crate::config::yaml::{Node, Parsed, parse_file};
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

/// Where an object stands: a document of a parsed file, or an item of a `List` in it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: Arc<Path>,
    parsed: Arc<Parsed>,
    document: usize,
    item: Option<usize>,
}

impl Source {
    /// The object.
    pub(super) fn node(&self) -> &Node {
        let node = &self.parsed.documents[self.document].node;
        let items = node.get("items").and_then(Node::as_list);
        self.item.and_then(|item| items?.get(item)).unwrap_or(node)
    }

    /// Whether this is the very same text as `other`, so that nothing has to be looked at again.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parsed, &other.parsed)
            && (self.document, self.item) == (other.document, other.item)
    }

    /// The folder that relative paths of this object start from.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// A problem with its place: the file, the document, and the object's line if it has none.
    pub(super) fn place(&self, mut problem: ConfigProblem) -> ConfigProblem {
        let document = &self.parsed.documents[self.document];
        if problem.line == 0 {
            problem.line = self.line();
        }
        problem.in_file(&*self.file, document.index)
    }

    fn line(&self) -> u32 {
        match self.item {
            Some(_) => self.node().line,
            None => self.parsed.documents[self.document].line,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line())
    }
}

/// Parsed files by path. A file whose text is unchanged is not parsed again.
#[derive(Debug, Default)]
pub(super) struct FileCache {
    files: HashMap<Arc<Path>, (Arc<str>, Arc<Parsed>)>,
}

impl FileCache {
    /// The parsed files, in the order given; what is no longer given is forgotten.
    fn parse(&mut self, files: &[SourceFile]) -> Vec<(Arc<Path>, Arc<Parsed>)> {
        let mut kept = HashMap::with_capacity(files.len());
        let mut parsed_files = Vec::with_capacity(files.len());
        for file in files {
            let known = self.files.remove_entry(file.path.as_path());
            let (path, parsed) = match known {
                Some((path, (text, parsed))) if text == file.text => (path, parsed),
                Some((path, _)) => (path, Arc::new(parse_file(&file.text))),
                None => (Arc::from(file.path.as_path()), Arc::new(parse_file(&file.text))),
            };
            kept.insert(Arc::clone(&path), (Arc::clone(&file.text), Arc::clone(&parsed)));
            parsed_files.push((path, parsed));
        }
        self.files = kept;
        parsed_files
    }
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Objects that stand once.
    pub(super) objects: BTreeMap<ObjectKey, Source>,
    /// Objects that stand more than once: none of them counts.
    pub(super) contested: BTreeSet<ObjectKey>,
    /// Files that could not be read in full: what they said before may still be meant.
    pub(super) broken_files: BTreeSet<Arc<Path>>,
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) warnings: Vec<String>,
    /// Objects of kinds that are not read: the first place and how many, by kind.
    skipped: BTreeMap<String, (String, usize)>,
}

/// Collects the objects of all files.
pub(super) fn collect(cache: &mut FileCache, files: &[SourceFile], strict: bool) -> Collected {
    let mut collected = Collected::default();
    for (file, parsed) in cache.parse(files) {
        for index in 0..parsed.documents.len() {
            let source = Source {
                file: Arc::clone(&file),
                parsed: Arc::clone(&parsed),
                document: index,
                item: None,
            };
            collected.take_document(source, strict);
        }
        if let Some(error) = &parsed.error {
            let problem = ConfigProblem::error("", error.message.clone()).at_line(error.line);
            collected.problems.push(problem.in_file(&*file, error.document));
            collected.broken_files.insert(file);
        }
    }
    for (kind, (place, count)) in std::mem::take(&mut collected.skipped) {
        let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        collected.warnings.push(format!("{kind} at {place}{others} skipped: {NOT_READ}"));
    }
    collected
}

const NOT_READ: &str = "tidegate does not read this kind";

impl Collected {
    fn take_document(&mut self, source: Source, strict: bool) {
        let node = source.node();
        let is_list = node.get("kind").and_then(Node::as_str) == Some("List");
        let items = node.get("items").and_then(Node::as_list).map(<[_]>::len);
        if let Some(items) = items.filter(|_| is_list) {
            for item in 0..items {
                self.take_object(Source { item: Some(item), ..source.clone() }, strict);
            }
        } else {
            self.take_object(source, strict);
        }
    }

    fn take_object(&mut self, source: Source, strict: bool) {
        match identify(source.node()) {
            Identity::Object(key) => self.insert(key, source),
            Identity::Skipped(what) if strict => {
                let problem = ConfigProblem::error("", format!("{what}: {NOT_READ}"))
                    .fix("move it to another file, or leave out --strict");
                self.problems.push(source.place(problem));
            }
            Identity::Skipped(what) => {
                let place = source.to_string();
                self.skipped.entry(what).or_insert((place, 0)).1 += 1;
            }
            Identity::Broken(problem) => {
                // Which object this was nobody can tell: all of the file keep what they were.
                self.problems.push(source.place(problem));
                self.broken_files.insert(Arc::clone(&source.file));
            }
        }
    }

    fn insert(&mut self, key: ObjectKey, source: Source) {
        let Some(first) = self.objects.get(&key) else {
            self.objects.insert(key, source);
            return;
        };
        let message = format!("{key} stands twice: here and at {first}");
        let fix = "remove one of the two; until then what was in effect before stays in effect";
        self.problems.push(source.place(ConfigProblem::error("metadata.name", message).fix(fix)));
        self.contested.insert(key);
    }
}

/// What an object is.
enum Identity {
    Object(ObjectKey),
    Skipped(String),
    Broken(ConfigProblem),
}

fn identify(node: &Node) -> Identity {
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
            return Identity::Skipped("something without apiVersion and kind".to_owned());
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
        Err(problem) => Identity::Broken(problem),
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
            _ => (
                "kind",
                format!("{group} has no kind {kind}"),
                match nearest(kind, KINDS) {
                    Some(near) => near,
                    None => {
                        "Service, Configuration, Route, Revision, DomainMapping or PodAutoscaler"
                    }
                },
            ),
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

fn name_of(node: &Node, kind: Kind) -> Result<ObjectName, ConfigProblem> {
    for field in ["metadata", "spec"] {
        if let Some(entry) = node.entry(field).filter(|entry| entry.node.is_null()) {
            let message =
                format!("{field} is empty: the indentation of what belongs to it is lost");
            let fix = format!("write the lines that belong to {field} two spaces further in");
            return Err(ConfigProblem::error(field, message).fix(fix).at_line(entry.line));
        }
    }
    let text = |key| node.at(&["metadata", key]).and_then(Node::as_str).filter(|t| !t.is_empty());
    let Some(name) = text("name") else {
        let message = "missing field(s)";
        let fix = format!("write metadata.name: the name of the {}", kind.name());
        let line = node.entry("metadata").map_or(node.line, |entry| entry.line);
        return Err(ConfigProblem::error("metadata.name", message).fix(fix).at_line(line));
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
