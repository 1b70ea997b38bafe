//! Host → service → live revision, as of one moment. Replaced as a whole; queues and counters live
//! in the revisions and survive a reload.

mod host;
mod registry;
mod split;

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{ServiceId, ServiceSpec};
use crate::revision::Revision;

pub use host::{HostKind, normalize};
pub use registry::{Changes, Registry};
pub use split::Split;

/// A service with its live revisions.
#[derive(Debug)]
pub struct ServiceRoute {
    /// What the configuration says.
    pub spec: Arc<ServiceSpec>,
    /// Shares of traffic.
    pub split: Split,
    /// Revisions by tag: where its traffic goes in the end.
    pub tags: Vec<(Arc<str>, Arc<Revision>)>,
    /// Tags whose traffic moves from one revision to another, each with the shares it has now.
    pub moving_tags: Vec<(Arc<str>, Arc<ServiceRoute>)>,
}

impl ServiceRoute {
    /// The revision of a tag; while its traffic moves, the one for the next request.
    pub fn tagged(&self, tag: &str) -> Option<&Arc<Revision>> {
        if let Some(moving) = self.moving_tag(tag) {
            return moving.split.draw();
        }
        self.tags.iter().find(|(name, _)| **name == *tag).map(|(_, revision)| revision)
    }

    fn moving_tag(&self, tag: &str) -> Option<&Arc<Self>> {
        self.moving_tags.iter().find(|(name, _)| **name == *tag).map(|(_, route)| route)
    }
}

/// Where a host leads.
#[derive(Clone, Debug)]
pub struct Route {
    /// The service, or what stands for it on the host of a tag whose traffic moves.
    pub service: Arc<ServiceRoute>,
    /// The index in its tags, for a tag's own host.
    pub tag: Option<usize>,
}

/// The routing table of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    hosts: HashMap<Arc<str>, Route, foldhash::fast::RandomState>,
    services: Vec<Arc<ServiceRoute>>,
    default: Option<Arc<ServiceRoute>>,
}

impl Snapshot {
    /// A table of these services. With no default named, a single service is it.
    pub fn new(services: Vec<Arc<ServiceRoute>>, default: Option<&ServiceId>) -> Self {
        let mut hosts: HashMap<Arc<str>, Route, _> = HashMap::default();
        for service in &services {
            for host in &service.spec.hosts {
                let route = Route { service: Arc::clone(service), tag: None };
                hosts.entry(Arc::clone(host)).or_insert(route);
            }
            for tag in &service.spec.tags {
                let live = service.tags.iter().position(|(name, _)| *name == tag.name);
                let Some(index) = live else { continue };
                let (service, tag_of) = match service.moving_tag(&tag.name) {
                    Some(moving) => (moving, None),
                    None => (service, Some(index)),
                };
                for host in &tag.hosts {
                    let route = Route { service: Arc::clone(service), tag: tag_of };
                    hosts.entry(Arc::clone(host)).or_insert(route);
                }
            }
        }
        let default = match (default, services.as_slice()) {
            (Some(id), _) => services.iter().find(|s| s.spec.id == *id).map(Arc::clone),
            (None, [only]) => Some(Arc::clone(only)),
            (None, _) => None,
        };
        Self { hosts, services, default }
    }

    /// Where a normalised host leads.
    pub fn route(&self, host: &str) -> Option<&Route> {
        self.hosts.get(host)
    }

    /// The service for a Host that is `localhost` or an IP address.
    pub fn default_service(&self) -> Option<&Arc<ServiceRoute>> {
        self.default.as_ref()
    }

    /// All services, in the configuration's order.
    pub fn services(&self) -> &[Arc<ServiceRoute>] {
        &self.services
    }
}
