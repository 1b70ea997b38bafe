//! Which revisions there are: templates are stamped, `Revision` documents stand beside them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::admitted::{Admitted, Objects, label};
use super::identity::{Kind, ObjectKey};
use super::objects::Source;
use super::stamp::{NewTemplate, Stamps, number_of};
use crate::config::problem::ConfigProblem;
use crate::model::{ObjectName, RevisionId, ServiceId};

/// Label that ties a `Revision` document to its service.
pub(super) const SERVICE_LABEL: &str = "serving.knative.dev/service";
/// Label that ties it to its configuration.
pub(super) const CONFIGURATION_LABEL: &str = "serving.knative.dev/configuration";
/// Label with the generation it was made at.
pub(super) const GENERATION_LABEL: &str = "serving.knative.dev/configurationGeneration";

/// A configuration: a service's own, or one given apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Configuration<'a> {
    pub(super) id: &'a ObjectName,
    /// Whether a `Service` brings it.
    pub(super) of_service: bool,
    pub(super) admitted: &'a Admitted,
}

impl<'a> Configuration<'a> {
    fn template(&self) -> NewTemplate<'a> {
        NewTemplate {
            written: &self.admitted.written,
            admitted: &self.admitted.template,
            directory: self.admitted.source.folder(),
        }
    }
}

/// A revision, before it is resolved.
#[derive(Clone, Copy, Debug)]
pub(super) struct RevisionDraft<'a> {
    pub(super) service: Option<&'a ServiceId>,
    pub(super) configuration: &'a str,
    /// Metadata and spec with defaults.
    pub(super) template: &'a Arc<Value>,
    /// Folder of the manifest.
    pub(super) directory: &'a Path,
}

/// Revisions by name.
pub(super) type RevisionDrafts<'a> = BTreeMap<RevisionId, RevisionDraft<'a>>;

/// The configurations among the objects. A `Configuration` of a `Service`'s name is the service's.
pub(super) fn configurations<'a>(
    objects: &'a Objects,
    problems: &mut Vec<ConfigProblem>,
) -> Vec<Configuration<'a>> {
    let mut found: BTreeMap<&ObjectName, Configuration<'a>> = BTreeMap::new();
    for (key, admitted) in objects {
        let of_service = key.kind == Kind::Service;
        if !of_service && key.kind != Kind::Configuration {
            continue;
        }
        let configuration = Configuration { id: &key.name, of_service, admitted };
        // Services come first in the order of keys.
        if let Some(service) = found.get(&key.name) {
            problems.push(shadowed(key.kind, &key.name, &admitted.source, service.admitted));
        } else {
            found.insert(&key.name, configuration);
        }
    }
    found.into_values().collect()
}

/// A `Configuration` or `Route` beside a `Service` of its name.
pub(super) fn shadowed(
    kind: Kind,
    name: &ObjectName,
    source: &Source,
    service: &Admitted,
) -> ConfigProblem {
    let kind = kind.name();
    let message =
        format!("the Service {name} at {} brings a {kind} of this name already", service.source);
    let fix = format!("give the {kind} another name, or remove one of the two");
    source.place(ConfigProblem::error("metadata.name", message).fix(fix))
}

/// The `Revision` documents by the name of their configuration.
type Documents<'a> = HashMap<ObjectName, Vec<(&'a ObjectName, &'a Arc<Admitted>)>>;

fn documents(objects: &Objects) -> Documents<'_> {
    let mut documents = Documents::new();
    for (key, admitted) in objects.iter().filter(|(key, _)| key.kind == Kind::Revision) {
        if let Some(configuration) = configuration_of(&admitted.object) {
            let configuration = ObjectName::new(Arc::clone(&key.name.namespace), configuration);
            documents.entry(configuration).or_default().push((&key.name, admitted));
        }
    }
    documents
}

fn configuration_of(document: &Value) -> Option<&str> {
    label(document, CONFIGURATION_LABEL).or_else(|| label(document, SERVICE_LABEL))
}

/// Stamps the template of every configuration.
pub(super) fn stamp_all(
    configurations: &[Configuration<'_>],
    objects: &Objects,
    stamps: &mut Stamps,
    problems: &mut Vec<ConfigProblem>,
) {
    let documents = documents(objects);
    for configuration in configurations {
        let documents = documents.get(configuration.id).map_or(&[][..], Vec::as_slice);
        stamp_one(*configuration, documents, objects, stamps, problems);
    }
}

fn stamp_one(
    configuration: Configuration<'_>,
    documents: &[(&ObjectName, &Arc<Admitted>)],
    objects: &Objects,
    stamps: &mut Stamps,
    problems: &mut Vec<ConfigProblem>,
) {
    let id = configuration.id;
    let template = configuration.template();
    if !stamps.knows(id) {
        for (name, document) in documents {
            stamps.continue_after(id, generation_of(id, name, document).unwrap_or(0));
        }
        // The newest document may be this very template, as an export writes it.
        let newest = documents.iter().max_by_key(|(name, d)| generation_of(id, name, d));
        if let Some((name, document)) = newest
            && template.own_name().is_none_or(|own| own == &*name.name)
            && is_same_template(template.admitted, &document.object)
        {
            let generation = generation_of(id, name, document).unwrap_or(0);
            stamps.adopt(id, &name.name, generation, template);
            return;
        }
    }
    let document = |name: &str| {
        let name = ObjectName::new(Arc::clone(&id.namespace), name);
        objects.get(&ObjectKey { kind: Kind::Revision, name })
    };
    if let Some(own) = template.own_name()
        && stamps.revision(id, own).is_none()
        && let Some(document) = document(own)
        && !is_same_template(template.admitted, &document.object)
    {
        let message = format!("the Revision {own} at {} has another spec", document.source);
        let problem = ConfigProblem::error("spec.template.metadata.name", message)
            .fix("write another name: a revision never changes");
        problems.push(configuration.admitted.source.place(problem));
        return;
    }
    stamps.stamp(id, template, &|name| document(name).is_some());
}

/// Generation of a `Revision` document: its label, else the number in its name.
pub(super) fn generation_of(
    configuration: &ObjectName,
    name: &ObjectName,
    document: &Admitted,
) -> Option<u32> {
    let label = label(&document.object, GENERATION_LABEL).and_then(|text| text.parse().ok());
    label.or_else(|| number_of(&configuration.name, &name.name))
}

/// Whether a template is what a `Revision` document says: the same spec, and the same annotations
/// but those that Knative adds itself.
fn is_same_template(template: &Value, document: &Value) -> bool {
    let annotations = |object: &Value| {
        let mut annotations = super::admitted::metadata_map(object, "annotations");
        annotations.retain(|key, _| !key.starts_with("serving.knative.dev/"));
        annotations
    };
    is_same_spec(template, document) && annotations(template) == annotations(document)
}

/// Whether two templates have the same spec. Admission fills in `enableServiceLinks` only when an
/// object is created, so that is left out where it says what is so anyway.
fn is_same_spec(left: &Value, right: &Value) -> bool {
    let fields = |template: &Value| -> Vec<(String, Value)> {
        let spec = template.get("spec").and_then(Value::as_object);
        let fields = spec.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
        let mut fields: Vec<_> = fields
            .filter(|(key, value)| key != "enableServiceLinks" || *value == Value::Bool(true))
            .collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    };
    fields(left) == fields(right)
}

/// All revisions: those stamped from the configurations, and those that documents bring. With
/// them: whether two configurations have one of the same name.
pub(super) fn drafts<'a>(
    configurations: &[Configuration<'a>],
    objects: &'a Objects,
    stamps: &'a Stamps,
    problems: &mut Vec<ConfigProblem>,
) -> (RevisionDrafts<'a>, bool) {
    let mut drafts = RevisionDrafts::new();
    let mut is_ambiguous = false;
    for configuration in configurations {
        for stamped in stamps.revisions(configuration.id) {
            let namespace = Arc::clone(&configuration.id.namespace);
            let id = ObjectName::new(namespace, stamped.name.as_str());
            let draft = RevisionDraft {
                service: configuration.of_service.then_some(configuration.id),
                configuration: &configuration.id.name,
                template: &stamped.admitted,
                directory: &stamped.directory,
            };
            is_ambiguous |= drafts.insert(id, draft).is_some();
        }
    }
    for (key, document) in objects.iter().filter(|(key, _)| key.kind == Kind::Revision) {
        let stamped = drafts.get(&key.name);
        if let Some(stamped) = stamped
            && !is_same_spec(stamped.template, &document.object)
        {
            let message = format!("the revision {} exists and has another spec", key.name);
            let problem = ConfigProblem::error("metadata.name", message)
                .fix("write another name: a revision never changes");
            problems.push(document.source.place(problem));
            continue;
        }
        let configuration = configuration_of(&document.object).unwrap_or_default();
        let name = ObjectName::new(Arc::clone(&key.name.namespace), configuration);
        let service = configurations.binary_search_by(|known| known.id.cmp(&name)).ok();
        let service = service.map(|index| configurations[index]).filter(|known| known.of_service);
        drafts.insert(
            key.name.clone(),
            RevisionDraft {
                service: service.map(|service| service.id),
                configuration,
                template: &document.object,
                directory: document.source.folder(),
            },
        );
    }
    (drafts, is_ambiguous)
}
