//! Routes and `DomainMapping`s: hosts and traffic.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::claims::{Claim, Claimant};
use super::objects::{MappingObject, RouteObject};
use super::{ClusterWorld, remove};
use crate::config::settings::HttpProtocol;
use crate::config::world::canary;
use crate::config::world::hosts::{HostOwner, VISIBILITY};
use crate::config::world::rolling::set_shares;
use crate::config::world::routes::{http_protocol, mapped_host, redirect};
use crate::config::world::stamp::TrafficStamp;
use crate::model::{
    ObjectName, Problem, Reason, RevisionId, ServiceId, ServiceSpec, Tag, TrafficTarget,
    is_cluster_local,
};

/// A Route with the hosts it wants.
#[derive(Debug)]
pub(super) struct RouteEntry {
    object: Arc<RouteObject>,
    hosts: Vec<Arc<str>>,
    /// Tag, its hosts, its revision.
    tags: Vec<(Arc<str>, Vec<Arc<str>>, String)>,
}

impl RouteEntry {
    /// Hosts with the rank they are wanted at.
    fn wanted(&self) -> impl Iterator<Item = (u8, &Arc<str>)> {
        let of_tags = self.tags.iter().flat_map(|(_, hosts, _)| hosts).map(|host| (1, host));
        self.hosts.iter().map(|host| (0, host)).chain(of_tags)
    }

    fn revisions(&self, id: &ServiceId) -> BTreeSet<RevisionId> {
        let names = self.object.traffic.iter().flat_map(TrafficStamp::revisions);
        names.map(|name| RevisionId::new(Arc::clone(&id.namespace), name)).collect()
    }
}

impl ClusterWorld {
    /// A Route as it is now, or that it is gone.
    pub fn set_route(&mut self, id: &ServiceId, object: Option<Arc<RouteObject>>) {
        let entry = object.map(|object| self.route_entry(id, object));
        if let Some(former) = self.routes.remove(id) {
            for (rank, host) in former.wanted() {
                let now = self.claims.remove(host, &claim(rank, &former.object, id));
                self.owner_changed(now);
            }
            for revision in former.revisions(id) {
                remove(&mut self.named_by, &revision, id);
            }
        }
        if let Some(entry) = entry {
            for (rank, host) in entry.wanted() {
                let before = self.claims.add(host, claim(rank, &entry.object, id));
                self.owner_changed(before);
            }
            for revision in entry.revisions(id) {
                self.named_by.entry(revision).or_default().insert(id.clone());
            }
            self.routes.insert(id.clone(), entry);
        }
        self.changed_services.insert(id.clone());
        if self.adopted.contains_key(id) {
            self.changed_revisions.insert(id.clone());
        }
    }

    /// A DomainMapping as it is now, or that it is gone.
    pub fn set_mapping(&mut self, name: &ObjectName, object: Option<Arc<MappingObject>>) {
        let host = mapped_host(name);
        let claim = |object: &MappingObject| Claim {
            rank: 2,
            created: Arc::clone(&object.created),
            claimant: Claimant::Mapping(name.clone()),
        };
        if let Some(former) = self.mappings.remove(name) {
            if former.is_claimed {
                let now = self.claims.remove(&host, &claim(&former));
                self.owner_changed(now);
            }
            if let Some(target) = &former.target {
                remove(&mut self.mappings_of, target, name);
                self.changed_services.insert(target.clone());
            }
        }
        if let Some(object) = object {
            if object.is_claimed {
                let before = self.claims.add(&host, claim(&object));
                self.owner_changed(before);
            }
            if let Some(target) = &object.target {
                self.mappings_of.entry(target.clone()).or_default().insert(name.clone());
                self.changed_services.insert(target.clone());
            }
            self.mappings.insert(name.clone(), object);
        }
    }

    /// Somebody gets or loses a host.
    pub(super) fn owner_changed(&mut self, claimant: Option<Claimant>) {
        let service = match claimant {
            Some(Claimant::Route(id) | Claimant::Adopted(id)) => Some(id),
            Some(Claimant::Mapping(name)) => {
                self.mappings.get(&name).and_then(|mapping| mapping.target.clone())
            }
            None => None,
        };
        self.changed_services.extend(service);
    }

    /// The rules for hosts changed.
    pub(super) fn remake_routes(&mut self) {
        let routes: Vec<_> =
            self.routes.iter().map(|(id, entry)| (id.clone(), Arc::clone(&entry.object))).collect();
        for (id, object) in routes {
            self.set_route(&id, Some(object));
        }
    }

    fn route_entry(&self, id: &ServiceId, object: Arc<RouteObject>) -> RouteEntry {
        let (labels, annotations) = (&object.labels, &object.annotations);
        let owner = HostOwner { id, labels, annotations };
        let mut hidden = labels.clone();
        hidden.insert(VISIBILITY.to_owned(), "cluster-local".to_owned());
        let hidden = HostOwner { labels: &hidden, ..owner };
        // Each name may be kept inside the cluster by itself.
        let of = |name: Option<&String>| {
            if object.private.contains(&name.cloned()) { hidden } else { owner }
        };
        let rules = &self.settings.hosts;
        let tags = object.traffic.iter().flat_map(|traffic| &traffic.tags);
        let tags = tags.map(|(tag, revision)| {
            (tag.as_str().into(), rules.tag_hosts(tag, of(Some(tag))), revision.clone())
        });
        let (hosts, tags) = (rules.hosts(of(None)), tags.collect());
        RouteEntry { hosts, tags, object }
    }

    pub(super) fn remake_service(&mut self, id: &ServiceId) {
        let of_route = self.routes.get(id).filter(|_| self.is_alone);
        let of_route = of_route.map(|entry| self.service_spec(id, entry));
        let Some(spec) = of_route.or_else(|| self.adopted_service(id)) else {
            self.is_changed |= self.service_specs.remove(id).is_some();
            return;
        };
        if self.service_specs.get(id).is_none_or(|former| **former != spec) {
            self.service_specs.insert(id.clone(), Arc::new(spec));
            self.is_changed = true;
        }
    }

    fn service_spec(&self, id: &ServiceId, entry: &RouteEntry) -> ServiceSpec {
        let (rules, wrong) = &entry.object.canary;
        let mut warnings = wrong.clone();
        let own = Claimant::Route(id.clone());
        let mut spec = ServiceSpec {
            id: id.clone(),
            hosts: self.granted(&own, 0, &entry.hosts, &mut warnings),
            traffic: Vec::new(),
            tags: Vec::new(),
            tag_header_routing: self.settings.features.tag_header_based_routing(),
            https_hosts: Vec::new(),
            canaries: Vec::new(),
            problem: None,
            warnings: Vec::new(),
        };
        for (tag, hosts, revision) in &entry.tags {
            let hosts = self.granted(&own, 1, hosts, &mut warnings);
            let revision = RevisionId::new(Arc::clone(&id.namespace), revision.as_str());
            spec.tags.push(Tag { name: Arc::clone(tag), hosts, revision, moving: Vec::new() });
        }
        spec.tags.sort_by(|a, b| a.name.cmp(&b.name));
        let default = self.settings.hosts.network.http_protocol;
        match http_protocol(&entry.object.annotations, default) {
            Ok(HttpProtocol::Redirected) => redirect(&mut spec),
            Ok(HttpProtocol::Enabled | HttpProtocol::Disabled) => {}
            Err(text) => warnings.push(text),
        }
        self.set_traffic(entry, &mut spec, &mut warnings);
        if let (Some(rules), Some(traffic)) = (rules, &entry.object.traffic) {
            let known = traffic.rollout.configurations.iter();
            warnings.extend(known.filter_map(|known| canary::condition(known, rules)));
        }
        self.add_mapped(&mut spec, &mut warnings);
        spec.warnings = warnings.into_iter().map(Arc::from).collect();
        spec
    }

    /// Those of the wanted hosts that are its own; the others are warned of.
    pub(super) fn granted(
        &self,
        claimant: &Claimant,
        rank: u8,
        wanted: &[Arc<str>],
        warnings: &mut Vec<String>,
    ) -> Vec<Arc<str>> {
        let mut granted = Vec::with_capacity(wanted.len());
        for host in wanted {
            match self.claims.owner(host) {
                Some(claim) if claim.claimant == *claimant && claim.rank == rank => {
                    granted.push(Arc::clone(host));
                }
                Some(claim) if claim.claimant == *claimant => {}
                Some(claim) => {
                    let owner = &claim.claimant;
                    warnings
                        .push(format!("{claimant} does not get {host}: {owner} has it already"));
                }
                None => {}
            }
        }
        granted
    }

    /// Traffic in effect. While it names revisions that are not there yet, what was in effect
    /// before stays.
    fn set_traffic(&self, entry: &RouteEntry, spec: &mut ServiceSpec, warnings: &mut Vec<String>) {
        let exists = |id: &RevisionId| self.revision_specs.contains_key(id);
        let known = |targets: &[TrafficTarget]| targets.iter().all(|t| exists(&t.revision));
        let former = self.service_specs.get(&spec.id);
        let former = former.filter(|former| !former.traffic.is_empty() && known(&former.traffic));
        let Some(traffic) = &entry.object.traffic else {
            // What a Route once had stays until it has something else.
            if let Some(former) = former {
                return spec.traffic.clone_from(&former.traffic);
            }
            let why = entry.object.why.as_deref().unwrap_or("no revision of it is ready yet");
            let text = format!("service {} has no traffic yet: {why}", spec.id);
            spec.problem = Some(Problem::new(Reason::RevisionMissing, text));
            return;
        };
        let mut traffic = traffic.clone();
        let id = |name: &str| RevisionId::new(Arc::clone(&spec.id.namespace), name);
        traffic.rollout.retain(|name| exists(&id(name)));
        spec.tags.retain(|tag| exists(&tag.revision));
        let missing = traffic.targets.iter().map(|(name, _)| id(name)).find(|id| !exists(id));
        let Some(missing) = missing else {
            return set_shares(spec, &traffic, entry.object.canary.0.as_ref());
        };
        match former {
            Some(former) => {
                warnings.push(format!(
                    "RevisionMissing: traffic of {} names {}, not there; the traffic before stays \
                     in effect",
                    spec.id, missing.name
                ));
                spec.traffic.clone_from(&former.traffic);
            }
            None => {
                let text = format!("traffic of {} names {}, not there", spec.id, missing.name);
                let shares = traffic.shares().into_iter();
                let left = shares.map(|share| (id(&share.revision_name), share.percent));
                spec.traffic = whole_again(left.filter(|(id, _)| exists(id)).collect());
                if spec.traffic.is_empty() {
                    spec.problem = Some(Problem::new(Reason::RevisionMissing, text));
                } else {
                    // Whoever deleted it did not mean the others.
                    warnings.push(format!("RevisionMissing: {text}; the others have its share"));
                }
            }
        }
    }

    /// Hosts of `DomainMapping`s.
    fn add_mapped(&self, spec: &mut ServiceSpec, warnings: &mut Vec<String>) {
        let default = self.settings.hosts.network.http_protocol;
        for name in self.mappings_of.get(&spec.id).into_iter().flatten() {
            let Some(mapping) = self.mappings.get(name) else { continue };
            let host = mapped_host(name);
            if self.is_reserved(&host, &name.namespace) {
                warnings.push(format!(
                    "DomainMapping {name} is not in effect: hosts below the cluster's own domains \
                     cannot be mapped"
                ));
                continue;
            }
            if !mapping.is_claimed {
                warnings.push(format!(
                    "DomainMapping {name} is not in effect: its status does not say DomainClaimed"
                ));
                continue;
            }
            let claimant = Claimant::Mapping(name.clone());
            for host in self.granted(&claimant, 2, &[host], warnings) {
                match http_protocol(&mapping.annotations, default) {
                    Ok(HttpProtocol::Redirected) => spec.https_hosts.push(Arc::clone(&host)),
                    Ok(HttpProtocol::Enabled | HttpProtocol::Disabled) => {}
                    Err(text) => warnings.push(format!("DomainMapping {name}: {text}")),
                }
                spec.hosts.push(host);
            }
        }
    }

    /// Whether a host is one of those that the cluster gives out itself.
    fn is_reserved(&self, host: &str, namespace: &str) -> bool {
        let below = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let rules = &self.settings.hosts.domains.rules;
        is_cluster_local(host, namespace) || rules.iter().any(|rule| below(&rule.domain))
    }
}

/// Shares that were parts of more, as all there is: in their proportion, rounded so that the sum is
/// 100 and none is nothing.
fn whole_again(left: Vec<(RevisionId, u8)>) -> Vec<TrafficTarget> {
    let sum: u32 = left.iter().map(|(_, percent)| u32::from(*percent)).sum();
    let mut rest = 100;
    let mut parts: Vec<(u32, TrafficTarget)> = Vec::with_capacity(left.len());
    for (revision, percent) in left.into_iter().filter(|(_, percent)| *percent > 0) {
        let exact = u32::from(percent) * 100;
        let percent = u8::try_from(exact / sum).unwrap_or(100);
        rest -= u32::from(percent);
        parts.push((exact % sum, TrafficTarget { revision, percent }));
    }
    // Those that were rounded by most get one more; there are fewer of these than parts.
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(parts[*index].0));
    for index in order.into_iter().take(rest as usize) {
        parts[index].1.percent += 1;
    }
    parts.into_iter().map(|(_, target)| target).collect()
}

fn claim(rank: u8, object: &RouteObject, id: &ServiceId) -> Claim {
    Claim { rank, created: Arc::clone(&object.created), claimant: Claimant::Route(id.clone()) }
}
