//! Deployments of somebody else that are served under the name of their Service (core): hosts and
//! traffic of a service, and a revision whose pods are not made here.

mod service;
#[cfg(test)]
mod tests;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use super::claims::{Claim, Claimant};
use super::objects::Scaled;
use super::{ClusterWorld, ScalerObject};
use crate::config::admission::Annotations;
use crate::config::scaling::resolve;
use crate::config::settings::{AutoscalerConfig, HttpProtocol};
use crate::config::world::dependencies::Needed;
use crate::config::world::hosts::HostOwner;
use crate::config::world::routes::{http_protocol, redirect};
use crate::model::{
    ContainerConcurrency, ObjectName, ObjectReference, PodsSpec, Probes, Protocol, QueueSettings,
    RevisionId, RevisionSpec, ServiceId, ServiceSpec, Timeouts, TrafficTarget, Workload,
};

pub use service::{
    ADOPT, ADOPT_SERVICE, AdoptedPort, AdoptedService, REQUEST_SEEN, Refusal, SELECTOR_KEY,
    TargetPort,
};
pub use workload::{WorkloadObject, workload_of};

/// What went on for longer before it was adopted is not to be cut now.
const NO_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How the count is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The autoscaler says how many.
    Free,
    /// It is not to be lowered below so many: no request was seen yet.
    AtLeast(u32),
    /// Somebody else says how many: so many.
    Fixed(u32),
}

/// An adopted Service with what is behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdoptedObject {
    /// The object whose `/scale` is written.
    pub scaled: ObjectReference,
    /// Port of a pod that requests go to.
    pub port: u16,
    created: Arc<str>,
    labels: Annotations,
    annotations: Annotations,
    autoscaling: Annotations,
    queue: QueueSettings,
    depends_on: Vec<Needed>,
    concurrency: ContainerConcurrency,
    protocol: Protocol,
    timeouts: Timeouts,
    probes: Probes,
    counted: Counted,
}

impl AdoptedObject {
    /// A Service that is adopted, with the workload behind it.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn of(
        service: &AdoptedService,
        workload: &WorkloadObject,
        counted: Counted,
    ) -> Result<Self, Refusal> {
        let served = service.served()?;
        let port = workload.target(served).ok_or_else(|| {
            let message = format!(
                "no container of {} has a port of the name that port {} leads to",
                workload.shown(),
                served.number
            );
            Refusal::new("NoPort", message)
        })?;
        Ok(Self {
            scaled: workload.reference.clone(),
            port,
            created: Arc::clone(&service.created),
            labels: service.labels.clone(),
            annotations: service.annotations.clone(),
            autoscaling: service.autoscaling.clone(),
            queue: service.queue.clone(),
            depends_on: service.depends_on.clone(),
            concurrency: service.concurrency,
            protocol: served.speaks().unwrap_or(Protocol::Http1),
            timeouts: Timeouts {
                request: service.timeout.unwrap_or(NO_TIMEOUT),
                response_start: None,
                idle: None,
            },
            probes: workload.probes(port),
            counted,
        })
    }

    fn resolve(
        &self,
        id: &RevisionId,
        autoscaler: &AutoscalerConfig,
        public: Option<&ScalerObject>,
    ) -> RevisionSpec {
        let public = public.map(ScalerObject::settings);
        let mut scaling = resolve(autoscaler, &self.autoscaling, self.concurrency, true, public);
        match self.counted {
            Counted::Free => {}
            Counted::AtLeast(count) => scaling.min_scale = scaling.min_scale.max(count),
            Counted::Fixed(count) => {
                scaling.min_scale = count;
                scaling.max_scale = Some(count.max(1));
            }
        }
        let pods =
            PodsSpec { scaled: self.scaled.clone(), port: self.port, probes: self.probes.clone() };
        RevisionSpec {
            id: id.clone(),
            service: Some(id.clone()),
            configuration: Arc::clone(&id.name),
            container_concurrency: self.concurrency,
            protocol: self.protocol,
            timeouts: self.timeouts,
            scaling,
            queue: self.queue.clone(),
            depends_on: self.depends_on.iter().map(|needed| needed.by(&id.namespace)).collect(),
            workload: Workload::Pods(Arc::new(pods)),
        }
    }
}

/// An adopted Service with the hosts it wants.
#[derive(Debug)]
pub(super) struct AdoptedEntry {
    object: Arc<AdoptedObject>,
    hosts: Vec<Arc<str>>,
}

fn claim(object: &AdoptedObject, id: &ServiceId) -> Claim {
    // After all that is Knative's: that wins.
    Claim { rank: 3, created: Arc::clone(&object.created), claimant: Claimant::Adopted(id.clone()) }
}

impl ClusterWorld {
    /// An adopted Service as it is now, or that it is none.
    pub fn set_adopted(&mut self, id: &ServiceId, object: Option<Arc<AdoptedObject>>) {
        let entry = object.map(|object| self.adopted_entry(id, object));
        if let Some(former) = self.adopted.remove(id) {
            for host in &former.hosts {
                let now = self.claims.remove(host, &claim(&former.object, id));
                self.owner_changed(now);
            }
        }
        if let Some(entry) = entry {
            for host in &entry.hosts {
                let before = self.claims.add(host, claim(&entry.object, id));
                self.owner_changed(before);
            }
            self.adopted.insert(id.clone(), entry);
        }
        self.changed_revisions.insert(id.clone());
        self.changed_services.insert(id.clone());
    }

    /// Whether it is served as what was adopted: nothing of Knative's has its name.
    pub fn is_adopted(&self, id: &ServiceId) -> bool {
        self.adopted.contains_key(id)
            && !self.routes.contains_key(id)
            && !self.revisions.contains_key(id)
    }

    /// Whether one of this name is adopted, served or not.
    pub fn has_adopted(&self, id: &ServiceId) -> bool {
        self.adopted.contains_key(id)
    }

    /// The host to show of a service.
    pub fn host(&self, id: &ServiceId) -> Option<Arc<str>> {
        self.service_specs.get(id)?.hosts.first().map(Arc::clone)
    }

    /// The rules for hosts changed.
    pub(super) fn remake_adopted(&mut self) {
        let all = self.adopted.iter();
        let all: Vec<_> = all.map(|(id, entry)| (id.clone(), Arc::clone(&entry.object))).collect();
        for (id, object) in all {
            self.set_adopted(&id, Some(object));
        }
    }

    /// Names of the adopted ones that an object is scaled for.
    pub(super) fn adopted_for(&self, scaled: &Scaled) -> Vec<ServiceId> {
        match scaled {
            Scaled::Configuration(id) | Scaled::Revision(id) => {
                self.adopted.contains_key(id).then(|| id.clone()).into_iter().collect()
            }
            Scaled::Workload(kind, name) => {
                let of = |(id, entry): &(&ServiceId, &AdoptedEntry)| {
                    let scaled = &entry.object.scaled;
                    id.namespace == name.namespace
                        && scaled.kind == *kind
                        && scaled.name == name.name
                };
                self.adopted.iter().filter(of).map(|(id, _)| id.clone()).collect()
            }
        }
    }

    fn adopted_entry(&self, id: &ServiceId, object: Arc<AdoptedObject>) -> AdoptedEntry {
        let (labels, annotations) = (&object.labels, &object.annotations);
        let hosts = self.settings.hosts.hosts(HostOwner { id, labels, annotations });
        AdoptedEntry { hosts, object }
    }

    pub(super) fn adopted_revision(&self, id: &RevisionId) -> Option<RevisionSpec> {
        let entry = self.adopted.get(id).filter(|_| self.is_adopted(id))?;
        let scaled = &entry.object.scaled;
        let name = ObjectName::new(Arc::clone(&id.namespace), Arc::clone(&scaled.name));
        let by_workload = self.first_scaler(&Scaled::Workload(Arc::clone(&scaled.kind), name));
        let public = by_workload.or_else(|| self.public_scaler(id, id));
        Some(entry.object.resolve(id, &self.settings.autoscaler, public))
    }

    pub(super) fn adopted_service(&self, id: &ServiceId) -> Option<ServiceSpec> {
        if !self.is_adopted(id) || !self.revision_specs.contains_key(id) {
            return None;
        }
        let entry = self.adopted.get(id)?;
        let mut warnings = Vec::new();
        let own = Claimant::Adopted(id.clone());
        let mut spec = ServiceSpec {
            id: id.clone(),
            hosts: self.granted(&own, 3, &entry.hosts, &mut warnings),
            traffic: vec![TrafficTarget { revision: id.clone(), percent: 100 }],
            tags: Vec::new(),
            tag_header_routing: false,
            https_hosts: Vec::new(),
            canaries: Vec::new(),
            problem: None,
            warnings: Vec::new(),
        };
        let default = self.settings.hosts.network.http_protocol;
        match http_protocol(&entry.object.annotations, default) {
            Ok(HttpProtocol::Redirected) => redirect(&mut spec),
            Ok(HttpProtocol::Enabled | HttpProtocol::Disabled) => {}
            Err(text) => warnings.push(text),
        }
        spec.warnings = warnings.into_iter().map(Arc::from).collect();
        Some(spec)
    }
}
