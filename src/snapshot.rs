//! Host → service → live revision, as of one moment. Replaced as a whole; queues and counters live
//! in the revisions and survive a reload.

mod host;
mod hosts;
mod registry;
mod split;

use std::sync::Arc;

use crate::model::{ServiceId, ServiceSpec, is_cluster_local};
use crate::revision::Revision;
use hosts::Hosts;

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

    /// Whether there is a tag of this name.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|(name, _)| **name == *tag) || self.moving_tag(tag).is_some()
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
    pub tag: Option<u32>,
    /// Whether only the cluster sees the host.
    pub cluster_local: bool,
}

/// The routing table of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    hosts: Hosts,
    services: Vec<Arc<ServiceRoute>>,
    default: Option<Arc<ServiceRoute>>,
    default_is_local: bool,
}

impl Snapshot {
    /// A table of these services. With no default named, a single service is it.
    pub fn new(services: Vec<Arc<ServiceRoute>>, default: Option<&ServiceId>) -> Self {
        let count = services.iter().map(|service| service.spec.hosts.len()).sum();
        let mut hosts = Hosts::for_about(count);
        services.iter().for_each(|service| add_hosts(&mut hosts, service));
        Self::of(hosts, services, default)
    }

    /// This table with other services: `gone` are no longer among them, `new` were not before.
    /// Costs what these cost, and a pointer for each of the others.
    fn patched(
        &self,
        services: Vec<Arc<ServiceRoute>>,
        gone: &[Arc<ServiceRoute>],
        new: &[Arc<ServiceRoute>],
        default: Option<&ServiceId>,
    ) -> Self {
        let mut hosts = self.hosts.clone();
        for service in gone {
            let of_tags = service.spec.tags.iter().flat_map(|tag| &tag.hosts);
            for host in service.spec.hosts.iter().chain(of_tags) {
                hosts.remove(host);
            }
        }
        new.iter().for_each(|service| add_hosts(&mut hosts, service));
        Self::of(hosts, services, default)
    }

    fn of(hosts: Hosts, services: Vec<Arc<ServiceRoute>>, default: Option<&ServiceId>) -> Self {
        let default = default_of(&services, default);
        // Where there is a host that is seen from outside, it is the first.
        let is_local = |route: &Arc<ServiceRoute>| route.spec.is_cluster_local();
        let default_is_local = default.as_ref().is_some_and(is_local);
        Self { hosts, services, default, default_is_local }
    }

    /// Where a normalised host leads.
    pub fn route(&self, host: &str) -> Option<&Route> {
        self.hosts.get(host)
    }

    /// The service for a Host that is `localhost` or an IP address.
    pub fn default_service(&self) -> Option<&Arc<ServiceRoute>> {
        self.default.as_ref()
    }

    /// Whether the default service is seen from the cluster alone.
    pub fn default_is_cluster_local(&self) -> bool {
        self.default_is_local
    }

    /// A service by its name.
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<ServiceRoute>> {
        let found = self.services.binary_search_by(|route| route.spec.id.cmp(id));
        found.ok().map(|index| &self.services[index])
    }

    /// All services, by name.
    pub fn services(&self) -> &[Arc<ServiceRoute>] {
        &self.services
    }
}

fn add_hosts(hosts: &mut Hosts, service: &Arc<ServiceRoute>) {
    let namespace = &service.spec.id.namespace;
    let route = |service: &Arc<ServiceRoute>, tag, host: &str| Route {
        service: Arc::clone(service),
        tag,
        cluster_local: is_cluster_local(host, namespace),
    };
    for host in &service.spec.hosts {
        hosts.add(host, || route(service, None, host));
    }
    for tag in &service.spec.tags {
        let live = service.tags.iter().position(|(name, _)| *name == tag.name);
        let Some(index) = live.and_then(|index| u32::try_from(index).ok()) else { continue };
        let (service, tag_of) = match service.moving_tag(&tag.name) {
            Some(moving) => (moving, None),
            None => (service, Some(index)),
        };
        for host in &tag.hosts {
            hosts.add(host, || route(service, tag_of, host));
        }
    }
}

fn default_of(
    services: &[Arc<ServiceRoute>],
    default: Option<&ServiceId>,
) -> Option<Arc<ServiceRoute>> {
    match (default, services) {
        (Some(id), _) => services.iter().find(|s| s.spec.id == *id).map(Arc::clone),
        (None, [only]) => Some(Arc::clone(only)),
        (None, _) => None,
    }
}
