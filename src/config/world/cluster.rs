//! From the objects of a cluster to the [`World`], one object at a time: what a change costs is
//! what that object is part of, and a pointer for each of the rest.
//!
//! ```text
//! Revision, PodAutoscalers, config-autoscaler ─▶ RevisionSpec
//! Route, DomainMappings, config-domain, config-network, config-features ─▶ ServiceSpec
//! Service (core) that is adopted, its Deployment ─▶ both
//! ```
//!
//! The API server has admitted the objects, and controllers have resolved them: traffic is what a
//! Route's status says. Rules for hosts, scaling and own settings are those of the file mode.

mod adopted;
mod claims;
mod objects;
mod services;
mod traffic;
#[cfg(test)]
mod tests;

pub use adopted::{
    ADOPT, ADOPT_SERVICE, AdoptedObject, AdoptedPort, AdoptedService, Counted, REQUEST_SEEN,
    Refusal, SELECTOR_KEY, TargetPort, WorkloadObject, workload_of,
};
pub use objects::{MappingObject, RevisionObject, RouteObject, Scaled, ScalerObject};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::settings::Settings;
use crate::config::problem::ConfigProblem;
use crate::config::settings::{
    CONFIG_MAPS, Data, LoggingSettings, ObservabilityConfig, validate_settings,
};
use crate::model::{
    CLUSTER_DOMAIN, ObjectName, RevisionId, RevisionSpec, ServiceId, ServiceSpec, World,
};
use adopted::AdoptedEntry;
use claims::Claims;
use services::RouteEntry;

/// The objects there are, and the world they come to.
#[derive(Debug)]
pub struct ClusterWorld {
    maps: BTreeMap<&'static str, Data>,
    settings: Settings,
    revisions: BTreeMap<RevisionId, Arc<RevisionObject>>,
    /// Revisions by configuration.
    of_configuration: HashMap<ObjectName, BTreeSet<RevisionId>>,
    /// The PodAutoscaler that each revision has of its own.
    scalers: HashMap<RevisionId, Arc<ScalerObject>>,
    /// Those that people write.
    public: HashMap<ObjectName, Arc<ScalerObject>>,
    /// The same by what they scale.
    public_of: HashMap<Scaled, BTreeSet<ObjectName>>,
    routes: BTreeMap<ServiceId, RouteEntry>,
    adopted: BTreeMap<ServiceId, AdoptedEntry>,
    mappings: HashMap<ObjectName, Arc<MappingObject>>,
    mappings_of: HashMap<ServiceId, BTreeSet<ObjectName>>,
    /// Routes by the revisions they name.
    named_by: HashMap<RevisionId, BTreeSet<ServiceId>>,
    claims: Claims,
    changed_revisions: BTreeSet<RevisionId>,
    changed_services: BTreeSet<ServiceId>,
    revision_specs: BTreeMap<RevisionId, Arc<RevisionSpec>>,
    service_specs: BTreeMap<ServiceId, Arc<ServiceSpec>>,
    /// Whether nobody else reconciles Knative's kinds: otherwise they are not served here.
    is_alone: bool,
    is_changed: bool,
}

impl Default for ClusterWorld {
    fn default() -> Self {
        let maps = BTreeMap::new();
        Self {
            settings: settings(&maps),
            maps,
            revisions: BTreeMap::new(),
            of_configuration: HashMap::new(),
            scalers: HashMap::new(),
            public: HashMap::new(),
            public_of: HashMap::new(),
            routes: BTreeMap::new(),
            adopted: BTreeMap::new(),
            mappings: HashMap::new(),
            mappings_of: HashMap::new(),
            named_by: HashMap::new(),
            claims: Claims::default(),
            changed_revisions: BTreeSet::new(),
            changed_services: BTreeSet::new(),
            revision_specs: BTreeMap::new(),
            service_specs: BTreeMap::new(),
            is_alone: true,
            // An empty world is one, too.
            is_changed: true,
        }
    }
}

/// Without a `config-domain` services are only in the cluster.
fn settings(maps: &BTreeMap<&'static str, Data>) -> Settings {
    Settings::of(|name| maps.get(name), &format!("svc.{CLUSTER_DOMAIN}"), false)
}

impl ClusterWorld {
    /// A Revision as it is now, or that it is gone.
    pub fn set_revision(&mut self, id: &RevisionId, object: Option<Arc<RevisionObject>>) {
        let former = match object {
            Some(object) => {
                let configuration = object.configuration_of(id);
                self.of_configuration.entry(configuration).or_default().insert(id.clone());
                self.revisions.insert(id.clone(), object)
            }
            None => self.revisions.remove(id),
        };
        let now = self.revisions.get(id).map(|object| object.configuration_of(id));
        if let Some(former) = former.map(|object| object.configuration_of(id))
            && now.as_ref() != Some(&former)
        {
            remove(&mut self.of_configuration, &former, id);
        }
        self.changed_revisions.insert(id.clone());
    }

    /// Whether nobody else reconciles Knative's kinds. While somebody does, only what is adopted
    /// is served, and what has Knative's names still goes before it.
    pub fn set_alone(&mut self, is_alone: bool) {
        if std::mem::replace(&mut self.is_alone, is_alone) != is_alone {
            self.changed_revisions.extend(self.revisions.keys().cloned());
            self.changed_services.extend(self.routes.keys().cloned());
        }
    }

    /// The PodAutoscaler of a revision (`autoscaling.internal.knative.dev`).
    pub fn set_scaler(&mut self, id: &RevisionId, object: Option<Arc<ScalerObject>>) {
        match object {
            Some(object) => self.scalers.insert(id.clone(), object),
            None => self.scalers.remove(id),
        };
        self.changed_revisions.insert(id.clone());
    }

    /// A PodAutoscaler that somebody wrote (`autoscaling.knative.dev`).
    pub fn set_public_scaler(&mut self, name: &ObjectName, object: Option<Arc<ScalerObject>>) {
        let former = match object {
            Some(object) => {
                if let Some(scaled) = object.scaled() {
                    self.public_of.entry(scaled.clone()).or_default().insert(name.clone());
                }
                self.public.insert(name.clone(), object)
            }
            None => self.public.remove(name),
        };
        let scaled_by = |object: &Arc<ScalerObject>| object.scaled().cloned();
        let now = self.public.get(name).and_then(scaled_by);
        let former = former.as_ref().and_then(scaled_by);
        if let Some(former) = &former
            && now.as_ref() != Some(former)
        {
            remove(&mut self.public_of, former, name);
        }
        for scaled in former.iter().chain(&now) {
            match scaled {
                Scaled::Revision(id) => {
                    self.changed_revisions.insert(id.clone());
                }
                Scaled::Configuration(name) => {
                    let revisions = self.of_configuration.get(name).into_iter().flatten();
                    self.changed_revisions.extend(revisions.cloned());
                }
                Scaled::Workload(..) => {}
            }
            self.changed_revisions.extend(self.adopted_for(scaled));
        }
    }

    /// A ConfigMap with settings. One that is bad is not taken: what it said before stays.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn set_settings(
        &mut self,
        name: &str,
        data: Option<Data>,
    ) -> Result<(), Vec<ConfigProblem>> {
        let Some(name) = CONFIG_MAPS.into_iter().find(|known| *known == name) else {
            return Ok(());
        };
        let problems = data.as_ref().map(|data| validate_settings(name, data)).unwrap_or_default();
        if !problems.is_empty() {
            return Err(problems);
        }
        let former = match data {
            Some(data) => self.maps.insert(name, data),
            None => self.maps.remove(name),
        };
        if former.as_ref() == self.maps.get(name) {
            return Ok(());
        }
        self.settings = settings(&self.maps);
        match name {
            "config-autoscaler" => {
                let all = self.revisions.keys().chain(self.adopted.keys());
                self.changed_revisions.extend(all.cloned());
            }
            "config-domain" | "config-network" | "config-features" => {
                self.remake_routes();
                self.remake_adopted();
            }
            _ => {}
        }
        Ok(())
    }

    /// What `config-logging` says.
    pub fn logging(&self) -> Option<&LoggingSettings> {
        self.settings.logging.as_ref()
    }

    /// `config-observability`.
    pub fn observability(&self) -> &ObservabilityConfig {
        &self.settings.observability
    }

    /// A revision's effective settings.
    pub fn revision(&self, id: &RevisionId) -> Option<&Arc<RevisionSpec>> {
        self.revision_specs.get(id)
    }

    /// Whether a revision's replicas were ready once.
    pub fn is_initialized(&self, id: &RevisionId) -> bool {
        self.is_adopted(id)
            || self.scalers.get(id).is_some_and(|scaler| scaler.is_initialized)
            || self.revisions.get(id).is_some_and(|revision| revision.was_ready)
    }

    /// The world, if it is another one than the last time. Parts that did not change are the same
    /// `Arc` as before.
    pub fn take(&mut self) -> Option<World> {
        for id in std::mem::take(&mut self.changed_revisions) {
            self.remake_revision(&id);
        }
        for id in std::mem::take(&mut self.changed_services) {
            self.remake_service(&id);
        }
        std::mem::take(&mut self.is_changed).then(|| World {
            services: self.service_specs.values().map(Arc::clone).collect(),
            revisions: self.revision_specs.values().map(Arc::clone).collect(),
            ..World::default()
        })
    }

    fn remake_revision(&mut self, id: &RevisionId) {
        let Some(spec) = self.revision_spec(id).or_else(|| self.adopted_revision(id)) else {
            if self.revision_specs.remove(id).is_some() {
                self.is_changed = true;
                self.note_existence(id);
            }
            return;
        };
        match self.revision_specs.get(id) {
            Some(former) if **former == spec => {}
            former => {
                let is_new = former.is_none();
                self.revision_specs.insert(id.clone(), Arc::new(spec));
                self.is_changed = true;
                if is_new {
                    self.note_existence(id);
                }
            }
        }
    }

    fn revision_spec(&self, id: &RevisionId) -> Option<RevisionSpec> {
        let object = self.revisions.get(id).filter(|_| self.is_alone)?;
        let own = self.scalers.get(id).map(AsRef::as_ref);
        let public = self.public_scaler(id, &object.configuration_of(id));
        Some(object.resolve(id, &self.settings.autoscaler, own, public))
    }

    /// What people wrote for a revision: for itself, else for all of its configuration; the first
    /// by name where there are several.
    fn public_scaler(&self, id: &RevisionId, configuration: &ObjectName) -> Option<&ScalerObject> {
        self.first_scaler(&Scaled::Revision(id.clone()))
            .or_else(|| self.first_scaler(&Scaled::Configuration(configuration.clone())))
    }

    fn first_scaler(&self, scaled: &Scaled) -> Option<&ScalerObject> {
        let name = self.public_of.get(scaled)?.first()?;
        self.public.get(name).map(AsRef::as_ref)
    }

    /// A revision appeared or went: routes that name it may lead elsewhere.
    fn note_existence(&mut self, id: &RevisionId) {
        let routes = self.named_by.get(id).into_iter().flatten();
        self.changed_services.extend(routes.cloned());
        if self.adopted.contains_key(id) {
            self.changed_services.insert(id.clone());
        }
    }
}

/// Takes a name out of an index.
fn remove<K: Eq + std::hash::Hash, V: Ord>(
    index: &mut HashMap<K, BTreeSet<V>>,
    key: &K,
    value: &V,
) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}
