//! Deployments of somebody else that are served as they are: a Service (core) with the annotation
//! `tidegate.dev/adopt` and what is behind it.
//!
//! ```text
//! Service ─ selector ─▶ pods, Deployment or StatefulSet, HorizontalPodAutoscaler
//!         └─ judged ─▶ data plane (each)   hosts, endpoints, counts
//!                  └─▶ keeper (leader)     conditions, events, and of a Service whose name is taken
//!                                          over its selector and slices
//! ```
//!
//! Nothing but the Service's selector is ever changed, and that by one key which no pod has: with
//! it the cluster's own slices lead nowhere, without it everything is as it was. What people or
//! programs make of the rest of the Service meanwhile stays.

mod follow;
mod keeper;
mod slices;
mod status;
#[cfg(test)]
pub(super) mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::mirror::Mirror;
use super::source::facts::{DeploymentFacts, PodFacts};
use super::source::{Change, Tell};
use super::work::Work;
use crate::config::world::cluster::{
    AdoptedObject, AdoptedService, Counted, Refusal, WorkloadObject, workload_of,
};
use crate::model::{ObjectName, ObjectReference, ServiceId};
use follow::Cluster;
pub(super) use keeper::apply_status;
pub use keeper::keep;
use slices::OwnSlice;

/// A Deployment or StatefulSet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    pub(super) object: Arc<WorkloadObject>,
    pub(super) facts: DeploymentFacts,
}

/// A pod behind an adopted Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) facts: Arc<PodFacts>,
    node: Option<Arc<str>>,
}

/// A pod of tidegate itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gate {
    addresses: Vec<IpAddr>,
    node: Option<Arc<str>>,
    /// It takes requests, and is not about to go.
    is_ready: bool,
}

/// What is scaled by a HorizontalPodAutoscaler.
type Scaled = ObjectReference;

/// What a namespace has that an adopted Service may be about.
#[derive(Debug, Default)]
struct Space {
    deployments: Rc<Mirror<Workload>>,
    stateful_sets: Rc<Mirror<Workload>>,
    scalers: Rc<Mirror<Scaled>>,
    tasks: Vec<AbortHandle>,
}

impl Space {
    fn is_complete(&self) -> bool {
        self.deployments.is_complete()
            && self.stateful_sets.is_complete()
            && self.scalers.is_complete()
    }

    fn workloads(&self) -> HashMap<ObjectReference, Arc<Workload>> {
        let all = self.deployments.all().into_iter().chain(self.stateful_sets.all());
        all.map(|(_, workload)| (workload.object.reference.clone(), workload)).collect()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The pods behind one Service.
#[derive(Debug, Default)]
struct Pods {
    selector: BTreeMap<String, String>,
    mirror: Rc<Mirror<Pod>>,
    task: Option<AbortHandle>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What became of an adopted Service in the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// At this host.
    At(Arc<str>),
    /// Nowhere: its hosts are others'.
    HostsTaken,
    /// Nowhere: something of Knative's has its name.
    Knative,
}

/// An adopted Service with all that it takes.
#[derive(Clone, Debug)]
pub(super) struct Adopted {
    pub(super) workload: Arc<Workload>,
    pub(super) object: Arc<AdoptedObject>,
    pub(super) counted: Counted,
    /// The HorizontalPodAutoscaler that scales it.
    scaler: Option<Arc<str>>,
}

/// Which port of tidegate's pods is whose.
pub type Ports = BTreeMap<ServiceId, u16>;

/// What is known of adopted Services.
#[derive(Debug)]
pub struct Adoption {
    tell: Tell,
    /// Names for the keeper to look at.
    queue: Work<ObjectName>,
    cluster: RefCell<Option<Cluster>>,
    services: Mirror<AdoptedService>,
    slices: Mirror<OwnSlice>,
    gates: Mirror<Gate>,
    spaces: RefCell<HashMap<Arc<str>, Space>>,
    pods: RefCell<HashMap<ServiceId, Pods>>,
    served: RefCell<HashMap<ServiceId, Served>>,
    /// Those of which a request was seen here, and may not be noted yet.
    seen: RefCell<HashSet<ServiceId>>,
    ports: watch::Sender<Ports>,
}

impl Adoption {
    /// Nothing known yet; the source is told what changes.
    pub(super) fn new(tell: Tell) -> Rc<Self> {
        Rc::new(Self {
            tell,
            queue: Work::default(),
            cluster: RefCell::default(),
            services: Mirror::default(),
            slices: Mirror::default(),
            gates: Mirror::default(),
            spaces: RefCell::default(),
            pods: RefCell::default(),
            served: RefCell::default(),
            seen: RefCell::default(),
            ports: watch::Sender::new(Ports::new()),
        })
    }

    /// Where the source is told what changes.
    pub(super) fn tell(&self) -> Tell {
        Arc::clone(&self.tell)
    }

    /// The ports that are to be listened on, and for whom.
    pub fn ports(&self) -> watch::Receiver<Ports> {
        self.ports.subscribe()
    }

    fn told(&self, name: &ObjectName) {
        self.tell.tell(Change::Adopted(name.clone()));
        self.queue.add(name.clone());
    }

    /// What a Service comes to; none while not all is known, or if it is not adopted.
    pub(super) fn judge(&self, name: &ServiceId) -> Option<Result<Adopted, Refusal>> {
        let service = self.services.get(name)?;
        let is_adopted = self.is_adopted(name);
        let spaces = self.spaces.borrow();
        let space = spaces.get(&name.namespace).filter(|space| space.is_complete())?;
        is_adopted.then(|| self.judged(name, &service, space))
    }

    fn judged(
        &self,
        name: &ServiceId,
        service: &AdoptedService,
        space: &Space,
    ) -> Result<Adopted, Refusal> {
        service.served()?;
        let workloads = space.workloads();
        let objects: Vec<_> = workloads.values().map(|w| Arc::clone(&w.object)).collect();
        let found = workload_of(service, &objects)?;
        let workload = workloads
            .get(&found.reference)
            .map(Arc::clone)
            .ok_or_else(|| Refusal::new("NoWorkload", format!("{} is not there", found.shown())))?;
        let scaler = scaler_of(space, &found.reference);
        let replicas = workload.facts.replicas;
        let counted = match &scaler {
            Some(_) => Counted::Fixed(replicas),
            None if self.is_seen(name, service) => Counted::Free,
            None => Counted::AtLeast(replicas),
        };
        let object = Arc::new(AdoptedObject::of(service, &found, counted)?);
        Ok(Adopted { workload, object, counted, scaler })
    }

    fn is_seen(&self, name: &ServiceId, service: &AdoptedService) -> bool {
        service.is_seen || self.seen.borrow().contains(name)
    }

    /// Whether there is one of which no request was noted in the cluster yet.
    pub(super) fn has_unseen(&self) -> bool {
        self.services.any(is_unseen)
    }

    /// Those of which no request was noted in the cluster yet.
    pub(super) fn unseen(&self) -> Vec<ServiceId> {
        let all = self.services.all().into_iter();
        all.filter(|(_, service)| is_unseen(service)).map(|(name, _)| name).collect()
    }

    /// A request was seen: from now on it may be scaled down.
    pub(super) fn note_seen(&self, name: &ServiceId) {
        if self.seen.borrow_mut().insert(name.clone()) {
            tracing::info!(service = %name, "a first request came through tidegate: its count is \
                the autoscaler's from now on");
            self.told(name);
        }
    }

    /// The routing table says where it is served.
    pub(super) fn note_served(&self, name: &ServiceId, served: Option<Served>) {
        let mut all = self.served.borrow_mut();
        let former = match &served {
            Some(served) => all.insert(name.clone(), served.clone()),
            None => all.remove(name),
        };
        if former != served {
            self.queue.add(name.clone());
        }
    }

    /// The pods behind a Service, by name.
    pub(super) fn pods(&self, name: &ServiceId) -> Vec<(ObjectName, Arc<Pod>)> {
        let pods = self.pods.borrow();
        let mut all = pods.get(name).map(|pods| pods.mirror.all()).unwrap_or_default();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Whether a Service is adopted, or callers of its name may still come in here.
    pub(super) fn is_adopted(&self, name: &ServiceId) -> bool {
        let may_come = self.ports.borrow().contains_key(name);
        let is = |service: &AdoptedService| service.is_wanted || service.is_taken || may_come;
        self.services.get(name).is_some_and(|service| is(&service))
    }

    /// Names of all adopted Services, and of those that still show that they were.
    pub(super) fn names(&self) -> BTreeSet<ServiceId> {
        self.services.all().into_iter().map(|(name, _)| name).collect()
    }
}

fn is_unseen(service: &AdoptedService) -> bool {
    service.is_wanted && !service.is_seen
}

/// The HorizontalPodAutoscaler of a workload, the first by name where there are several.
fn scaler_of(space: &Space, of: &ObjectReference) -> Option<Arc<str>> {
    let scalers = space.scalers.all().into_iter();
    let names = scalers.filter(|(_, scaled)| scaled.kind == of.kind && scaled.name == of.name);
    names.map(|(name, _)| name.name).min()
}
