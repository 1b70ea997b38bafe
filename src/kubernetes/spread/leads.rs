//! Where an object says that requests lead, and whether a configuration has it so.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::world::cluster::RouteObject;
use crate::kubernetes::ROLLOUT_ANNOTATION;
use crate::model::{ServiceId, ServiceSpec, World};

/// Where requests are to lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leads {
    namespace: String,
    /// The Route's.
    name: String,
    /// One of its hosts; none = whichever it has.
    #[serde(default)]
    host: Option<String>,
    /// Revisions and per cent; none = whatever its traffic is.
    #[serde(default)]
    targets: Option<Vec<(String, u8)>>,
    /// Tags and revisions.
    #[serde(default)]
    tags: Vec<(String, String)>,
}

impl fmt::Display for Leads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "host {host} of Route {}/{}", self.namespace, self.name),
            None => write!(f, "Route {}/{}", self.namespace, self.name),
        }
    }
}

impl Leads {
    /// As the status of a Route says whose traffic does not move; none while it has no traffic.
    pub fn of_route(id: &ServiceId, route: &Value) -> Option<Self> {
        let object = RouteObject::read(route, ROLLOUT_ANNOTATION);
        let traffic = object.traffic()?;
        let (mut targets, mut tags) = (traffic.targets.clone(), traffic.tags.clone());
        targets.sort();
        tags.sort();
        Some(Self { targets: Some(targets), tags, ..Self::to(id) })
    }

    /// As a DomainMapping says: a host leads to a Route.
    pub fn of_host(host: &str, id: &ServiceId) -> Self {
        Self { host: Some(host.to_owned()), ..Self::to(id) }
    }

    fn to(id: &ServiceId) -> Self {
        let (namespace, name) = (id.namespace.to_string(), id.name.to_string());
        Self { namespace, name, host: None, targets: None, tags: Vec::new() }
    }

    /// Whether requests lead there in this configuration.
    pub fn is_in(&self, world: &World) -> bool {
        let id = ServiceId::new(self.namespace.as_str(), self.name.as_str());
        world.service(&id).is_some_and(|service| self.is_of(service))
    }

    fn is_of(&self, service: &ServiceSpec) -> bool {
        let has_host = |host: &String| service.hosts.iter().any(|known| **known == **host);
        let has_targets = |targets: &Vec<(String, u8)>| {
            let known = service.traffic.iter();
            let known = known.map(|target| (target.revision.name.to_string(), target.percent));
            let mut known: Vec<_> = known.collect();
            known.sort();
            known == *targets
        };
        let has_tag = |(tag, revision): &(String, String)| {
            let is_so = |known: &crate::model::Tag| {
                *known.name == **tag && *known.revision.name == **revision
            };
            service.tags.iter().any(is_so)
        };
        service.problem.is_none()
            && self.host.as_ref().is_none_or(has_host)
            && self.targets.as_ref().is_none_or(has_targets)
            && self.tags.iter().all(has_tag)
    }
}

/// All of a Service's traffic to its first revision.
#[cfg(test)]
pub(super) fn sample(name: &str) -> Leads {
    let targets = Some(vec![(format!("{name}-00001"), 100)]);
    Leads { targets, ..Leads::to(&ServiceId::new("ns", name)) }
}

/// A configuration that has it so.
#[cfg(test)]
pub(super) fn sample_world(name: &str) -> World {
    use std::sync::Arc;

    use crate::model::{RevisionId, TrafficTarget};

    let revision = RevisionId::new("ns", format!("{name}-00001"));
    let service = ServiceSpec {
        id: ServiceId::new("ns", name),
        hosts: vec![format!("{name}.ns.example.com").into()],
        traffic: vec![TrafficTarget { revision, percent: 100 }],
        tags: Vec::new(),
        tag_header_routing: false,
        https_hosts: Vec::new(),
        canaries: Vec::new(),
        problem: None,
        warnings: Vec::new(),
    };
    World { services: vec![Arc::new(service)], ..World::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::model::{Problem, Reason, RevisionId, Tag, TrafficTarget};

    fn world(change: impl Fn(&mut ServiceSpec)) -> World {
        let mut service = (*sample_world("a").services[0]).clone();
        let revision = |name: &str| RevisionId::new("ns", name);
        service.traffic = vec![
            TrafficTarget { revision: revision("a-00002"), percent: 90 },
            TrafficTarget { revision: revision("a-00001"), percent: 10 },
        ];
        let hosts = vec!["old-a.ns.example.com".into()];
        let revision = revision("a-00001");
        service.tags = vec![Tag { name: "old".into(), hosts, revision, moving: Vec::new() }];
        change(&mut service);
        World { services: vec![Arc::new(service)], ..World::default() }
    }

    #[test]
    fn a_route_leads_where_its_status_says() {
        let id = ServiceId::new("ns", "a");
        let route = json!({"status": {"traffic": [
            {"revisionName": "a-00001", "percent": 10, "tag": "old"},
            {"revisionName": "a-00002", "percent": 90, "latestRevision": true},
        ]}});
        let leads = Leads::of_route(&id, &route).unwrap();
        assert!(leads.is_in(&world(|_| ())));
        assert!(!leads.is_in(&World::default()));
        assert!(!leads.is_in(&world(|service| service.traffic[0].percent = 80)));
        assert!(!leads.is_in(&world(|service| drop(service.traffic.pop()))));
        assert!(!leads.is_in(&world(|service| service.tags.clear())));
        let other = || RevisionId::new("ns", "a-00002");
        assert!(!leads.is_in(&world(|service| service.tags[0].revision = other())));
        let problem = || Some(Problem::new(Reason::RevisionMissing, "no revision"));
        assert!(!leads.is_in(&world(|service| service.problem = problem())));
        // As it goes to another proxy.
        let sent = serde_json::to_string(&leads).unwrap();
        assert_eq!(serde_json::from_str::<Leads>(&sent).unwrap(), leads);

        assert_eq!(Leads::of_route(&id, &json!({"status": {"traffic": []}})), None);
    }

    #[test]
    fn a_host_leads_to_its_route() {
        let id = ServiceId::new("ns", "a");
        assert!(Leads::of_host("a.ns.example.com", &id).is_in(&world(|_| ())));
        assert!(!Leads::of_host("b.example.com", &id).is_in(&world(|_| ())));
        let other = ServiceId::new("ns", "b");
        assert!(!Leads::of_host("a.ns.example.com", &other).is_in(&world(|_| ())));
    }
}
