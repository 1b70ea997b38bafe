//! All that makes a world, as objects of Kubernetes that make the same one elsewhere: what the files
//! say, with revisions by their names, and traffic as it was ordered.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::admitted::Admitted;
use super::identity::{Kind, ObjectKey};
use super::revisions::{CONFIGURATION_LABEL, GENERATION_LABEL, SERVICE_LABEL};
use super::stamp::StampedRevision;
use super::{FileChange, Loader, LoaderOptions, Moment, SourceFile};
use crate::config::problem::ConfigProblem;
use crate::model::{ObjectName, RevisionId, World};

/// Objects, in an order in which they can be applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    /// The objects.
    pub items: Vec<Value>,
    /// What was left out, one text each: Secrets, unless they were asked for.
    pub omitted: Vec<String>,
}

/// In which order kinds are applied: what others need first.
const ORDER: [Kind; 9] = [
    Kind::ConfigMap,
    Kind::Secret,
    Kind::LoggingConfig,
    Kind::Revision,
    Kind::Configuration,
    Kind::Service,
    Kind::Route,
    Kind::PodAutoscaler,
    Kind::DomainMapping,
];

impl Loader {
    /// Everything in effect; the values of Secrets only with `secrets`.
    pub fn export(&self, secrets: bool) -> Export {
        let mut export = Export::default();
        export.items.extend(self.config_maps.objects());
        for kind in ORDER {
            for (key, admitted) in self.objects.iter().filter(|(key, _)| key.kind == kind) {
                if kind == Kind::Secret && !secrets {
                    export.omitted.push(key.to_string());
                    continue;
                }
                if matches!(kind, Kind::Service | Kind::Configuration) {
                    export.items.extend(self.former_revisions(key));
                }
                export.items.push(self.exported(key, admitted));
            }
        }
        export
    }

    /// An object as it was written, in its namespace.
    fn exported(&self, key: &ObjectKey, admitted: &Admitted) -> Value {
        let mut object = in_namespace(admitted.source.node().to_json(), &key.name.namespace);
        if matches!(key.kind, Kind::Service | Kind::Configuration)
            && let Some(latest) = self.stamps.latest(&key.name)
            && let Some(stamped) = self.stamps.revision(&key.name, latest)
        {
            let mut template = (*stamped.written).clone();
            template["metadata"]["name"] = json!(latest);
            object["spec"]["template"] = template;
        }
        let ordered = self.stamps.good_traffic(&key.name).and_then(|good| good.ordered.as_ref());
        let written = admitted.object.pointer("/spec/traffic");
        if matches!(key.kind, Kind::Service | Kind::Route)
            && let Some(traffic) = ordered.and_then(|ordered| ordered.in_place_of(written))
        {
            object["spec"]["traffic"] = traffic.clone();
        }
        object
    }

    /// Revisions of a service or configuration that its template no longer says, and no document.
    fn former_revisions(&self, key: &ObjectKey) -> Vec<Value> {
        let latest = self.stamps.latest(&key.name);
        let namespace = &key.name.namespace;
        let is_document = |name: &str| {
            let name = ObjectName::new(Arc::clone(namespace), name);
            self.objects.contains_key(&ObjectKey { kind: Kind::Revision, name })
        };
        let exists = |name: &str| {
            let id = RevisionId::new(Arc::clone(namespace), name);
            self.world.revision(&id).is_some()
        };
        let stamped = self.stamps.revisions(&key.name).iter();
        let former = stamped.filter(|revision| {
            let name = revision.name.as_str();
            Some(name) != latest && !is_document(name) && exists(name)
        });
        former.map(|revision| document(key, revision)).collect()
    }
}

/// A revision as an object of its own.
fn document(key: &ObjectKey, revision: &StampedRevision) -> Value {
    let ObjectName { namespace, name } = &key.name;
    let metadata = revision.written.get("metadata").and_then(Value::as_object);
    let map = |field: &str| -> Map<String, Value> {
        let map = metadata.and_then(|metadata| metadata.get(field)).and_then(Value::as_object);
        map.cloned().unwrap_or_default()
    };
    let mut labels = map("labels");
    // The label of its configuration is only for who is owned by it, where there is an API server.
    let whose = if key.kind == Kind::Service { SERVICE_LABEL } else { CONFIGURATION_LABEL };
    labels.insert(whose.to_owned(), json!(name));
    labels.insert(GENERATION_LABEL.to_owned(), json!(revision.generation.to_string()));
    let mut metadata = json!({"name": revision.name, "namespace": namespace, "labels": labels});
    let annotations = map("annotations");
    if !annotations.is_empty() {
        metadata["annotations"] = Value::Object(annotations);
    }
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": metadata,
        "spec": revision.written.get("spec").unwrap_or(&Value::Null),
    })
}

/// An object that names its namespace, wherever it is applied.
pub(super) fn in_namespace(mut object: Value, namespace: &str) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    object
}

/// The world that a text makes by itself, as if it were the only file.
///
/// # Errors
/// What is wrong with it.
pub fn world_of(text: String) -> Result<Arc<World>, Vec<ConfigProblem>> {
    let mut loader = Loader::new(LoaderOptions::default());
    let file = FileChange::from(SourceFile::new("export.yaml", text));
    let loaded = loader.load_changes(vec![file], &Moment::default());
    if loaded.problems.is_empty() { Ok(loaded.world) } else { Err(loaded.problems) }
}
