//! `PodAutoscaler`s: which revisions they set, and what.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::admitted::{Admitted, Objects};
use super::env::text;
use super::identity::Kind;
use super::revisions::RevisionDrafts;
use crate::config::problem::ConfigProblem;
use crate::config::scaling::PodAutoscalerSettings;
use crate::model::{ObjectName, RevisionId};

/// What a `PodAutoscaler` scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target<'a> {
    /// All revisions of a service or configuration.
    Configuration(&'a str),
    /// One revision.
    Revision(&'a str),
}

impl<'a> Target<'a> {
    /// What an object names; none if nothing that is scaled.
    pub(super) fn of(object: &'a Value) -> Option<Self> {
        let reference = object.pointer("/spec/scaleTargetRef")?;
        let name = text(reference, "name")?;
        match text(reference, "kind")? {
            "Service" | "Configuration" | "Route" => Some(Self::Configuration(name)),
            "Revision" => Some(Self::Revision(name)),
            // Knative's own form names the revision's Deployment.
            "Deployment" => name.strip_suffix("-deployment").map(Self::Revision),
            _ => None,
        }
    }
}

/// The service or configuration whose revisions a `PodAutoscaler` scales. `owner` tells that of a
/// revision. None if that cannot be told.
pub(super) fn scaled(object: &Value, owner: impl Fn(&str) -> Option<Arc<str>>) -> Option<Arc<str>> {
    match Target::of(object)? {
        Target::Configuration(name) => Some(name.into()),
        Target::Revision(name) => owner(name),
    }
}

/// What all `PodAutoscaler`s say.
#[derive(Debug, Default)]
pub(super) struct Scalers {
    by_revision: HashMap<RevisionId, Arc<PodAutoscalerSettings>>,
    /// Targets that are not there yet, one text each.
    pub(super) warnings: Vec<String>,
}

impl Scalers {
    /// Settings of a revision.
    pub(super) fn get(&self, revision: &RevisionId) -> Option<&PodAutoscalerSettings> {
        self.by_revision.get(revision).map(AsRef::as_ref)
    }
}

/// Reads all `PodAutoscaler`s. One that sets what another one sets already is a problem; one whose
/// target is missing waits for it.
pub(super) fn scalers(
    objects: &Objects,
    drafts: &RevisionDrafts<'_>,
    problems: &mut Vec<ConfigProblem>,
) -> Scalers {
    let mut scalers = Scalers::default();
    let mut taken: HashMap<(Arc<str>, Target<'_>), &Admitted> = HashMap::new();
    let mut own: HashMap<RevisionId, Arc<PodAutoscalerSettings>> = HashMap::new();
    for (key, admitted) in objects.iter().filter(|(key, _)| key.kind == Kind::PodAutoscaler) {
        let Some(target) = Target::of(&admitted.object) else {
            let problem = ConfigProblem::error("spec.scaleTargetRef", "it names nothing to scale");
            let fix = "write kind: Service and name: the service's name";
            problems.push(admitted.source.place(problem.fix(fix)));
            continue;
        };
        let namespace = Arc::clone(&key.name.namespace);
        if let Some(first) = taken.insert((Arc::clone(&namespace), target), admitted) {
            let message = format!("the PodAutoscaler at {} scales the same target", first.source);
            let problem = ConfigProblem::error("spec.scaleTargetRef", message);
            problems.push(admitted.source.place(problem.fix("remove one of the two")));
            taken.insert((namespace, target), first);
            continue;
        }
        let settings = Arc::new(PodAutoscalerSettings::of_object(&admitted.object));
        let before = scalers.by_revision.len() + own.len();
        match target {
            Target::Configuration(name) => {
                let of_target = drafts
                    .iter()
                    .filter(|(id, draft)| id.namespace == namespace && draft.configuration == name);
                for (id, _) in of_target {
                    scalers.by_revision.insert(id.clone(), Arc::clone(&settings));
                }
            }
            Target::Revision(name) => {
                let id = ObjectName::new(Arc::clone(&namespace), name);
                if drafts.contains_key(&id) {
                    own.insert(id, settings);
                }
            }
        }
        if scalers.by_revision.len() + own.len() == before {
            let (Target::Configuration(name) | Target::Revision(name)) = target;
            scalers.warnings.push(format!(
                "PodAutoscaler {}: its target {namespace}/{name} is not there yet; it takes \
                 effect when it appears",
                key.name
            ));
        }
    }
    // What names one revision wins over what names all of a service.
    scalers.by_revision.extend(own);
    scalers
}
