//! Services: hosts and traffic.

use std::sync::Arc;

use super::{Canary, Problem, RevisionId, RevisionSpec, ServiceId};

/// Domain of the names that only a cluster sees.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Whether a host of a service in the namespace is one of those that only its cluster sees:
/// `name.namespace`, `name.namespace.svc`, `name.namespace.svc.cluster.local`. Knative redirects
/// none of them, and does not answer them to clients from outside.
pub fn is_cluster_local(host: &str, namespace: &str) -> bool {
    let bare = host.strip_suffix(namespace).and_then(|rest| rest.strip_suffix('.'));
    host.ends_with(".svc")
        || host.strip_suffix(CLUSTER_DOMAIN).is_some_and(|rest| rest.ends_with(".svc."))
        || bare.is_some_and(|name| !name.contains('.'))
}

/// A share of a service's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficTarget {
    /// Where it goes.
    pub revision: RevisionId,
    /// Per cent, 1–100; a service's targets add up to 100.
    pub percent: u8,
}

/// A tag: an own host that leads to one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: Arc<str>,
    /// Hosts, lower case, without port or trailing dot.
    pub hosts: Vec<Arc<str>>,
    /// Where it leads.
    pub revision: RevisionId,
    /// Shares of its traffic while it moves to `revision` step by step; empty when nothing moves.
    pub moving: Vec<TrafficTarget>,
}

/// A service as the router needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub id: ServiceId,
    /// Hosts, lower case, without port or trailing dot; the first is the one shown to people.
    pub hosts: Vec<Arc<str>>,
    /// Shares of traffic; revisions are distinct, percents at least 1. Empty only when
    /// `problem` is set.
    pub traffic: Vec<TrafficTarget>,
    /// Tags, by name.
    pub tags: Vec<Tag>,
    /// Whether the `Knative-Serving-Tag` header chooses a tag (`tag-header-based-routing`).
    pub tag_header_routing: bool,
    /// Hosts whose requests are redirected to https when they come without TLS, where there is a
    /// listener for it (`networking.knative.dev/http-protocol`).
    pub https_hosts: Vec<Arc<str>>,
    /// New revisions that are tried, or were taken back.
    pub canaries: Vec<Canary>,
    /// Set when the service cannot serve (for example `revision_missing` with no traffic before).
    pub problem: Option<Problem>,
    /// Conditions worth showing that do not stop it, one line each (for example that the newest
    /// traffic is not in effect).
    pub warnings: Vec<Arc<str>>,
}

impl ServiceSpec {
    /// Revisions that its traffic leads to; those of tags are not among them.
    pub fn routed(&self) -> impl Iterator<Item = &RevisionId> {
        self.traffic.iter().map(|target| &target.revision)
    }

    /// Whether only the cluster sees the service: a host that is seen from outside would be first.
    pub fn is_cluster_local(&self) -> bool {
        self.hosts.first().is_some_and(|host| is_cluster_local(host, &self.id.namespace))
    }
}

/// Everything one configuration says: replaced as a whole. Unchanged parts keep their `Arc`, so
/// that a change is found by comparing pointers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Services by name.
    pub services: Vec<Arc<ServiceSpec>>,
    /// Revisions by name; every revision that a service's traffic or tag names is among them.
    pub revisions: Vec<Arc<RevisionSpec>>,
    /// Service for a Host that is `localhost` or an IP address.
    pub default_service: Option<ServiceId>,
    /// Objects of the newest configuration that were not admitted and keep their former self:
    /// one text each, as printed by `tidegate validate`.
    pub rejected: Vec<Arc<str>>,
    /// Revisions, by name, that new revisions of other services wait for before they get traffic:
    /// they are to be started.
    pub awaited: Vec<RevisionId>,
}

impl World {
    /// A service by name.
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<ServiceSpec>> {
        let found = self.services.binary_search_by(|service| service.id.cmp(id));
        found.ok().map(|index| &self.services[index])
    }

    /// A revision by name.
    pub fn revision(&self, id: &RevisionId) -> Option<&Arc<RevisionSpec>> {
        let found = self.revisions.binary_search_by(|revision| revision.id.cmp(id));
        found.ok().map(|index| &self.revisions[index])
    }
}
