//! Services and routes: where their traffic goes, and by which hosts they are reached.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::admitted::{Admitted, Objects, metadata_map};
use super::build::Warnings;
use super::env::text;
use super::hosts::{Claims, HostOwner, HostRules};
use super::identity::Kind;
use super::revisions::{RevisionDrafts, shadowed};
use super::rolling::{Pace, Speed, set_shares};
use super::stamp::{Stamps, TrafficStamp};
use super::traffic::{Missing, Revisions, resolve, targets};
use crate::config::problem::ConfigProblem;
use crate::config::settings::HttpProtocol;
use crate::model::{
    ObjectName, Problem, Reason, RevisionId, ServiceId, ServiceSpec, Tag, is_cluster_local,
};

/// Said of a service whose traffic is not that of its manifest.
pub(super) const ORDERED: &str = "TrafficOrdered: by `tidegate traffic`; it holds until spec.traffic in the \
                       manifest changes";

/// A service or route, before its hosts are claimed.
#[derive(Debug)]
pub(super) struct RouteDraft<'a> {
    pub(super) id: &'a ServiceId,
    pub(super) of_service: bool,
    pub(super) admitted: &'a Admitted,
    pub(super) traffic: TrafficStamp,
    /// How it moves.
    pub(super) speed: Speed,
    /// Whether the traffic is what the object asks for.
    pub(super) is_resolved: bool,
    pub(super) problem: Option<Problem>,
    pub(super) warnings: Vec<String>,
    /// What its moving traffic is doing: shown, and no cause for concern.
    pub(super) conditions: Vec<String>,
}

impl RouteDraft<'_> {
    /// Revisions that traffic or a tag leads to.
    pub(super) fn revisions(&self) -> impl Iterator<Item = RevisionId> + '_ {
        let namespace = &self.id.namespace;
        self.traffic.revisions().map(|name| RevisionId::new(Arc::clone(namespace), name))
    }
}

/// The services and routes among the objects, traffic resolved. A `Route` of a `Service`'s name is
/// the service's.
pub(super) fn routes<'a>(
    objects: &'a Objects,
    drafts: &RevisionDrafts<'_>,
    stamps: &Stamps,
    pace: &Pace<'_>,
    problems: &mut Vec<ConfigProblem>,
) -> Vec<RouteDraft<'a>> {
    let mut routes: BTreeMap<&ObjectName, RouteDraft<'a>> = BTreeMap::new();
    for (key, admitted) in objects {
        let of_service = key.kind == Kind::Service;
        if !of_service && key.kind != Kind::Route {
            continue;
        }
        // Services come first in the order of keys.
        if let Some(service) = routes.get(&key.name) {
            problems.push(shadowed(key.kind, &key.name, &admitted.source, service.admitted));
            continue;
        }
        let mut draft = RouteDraft {
            id: &key.name,
            of_service,
            admitted,
            traffic: TrafficStamp::default(),
            speed: pace.speed(&admitted.object),
            is_resolved: false,
            problem: None,
            warnings: Vec::new(),
            conditions: Vec::new(),
        };
        draft.resolve_traffic(drafts, stamps, pace);
        routes.insert(&key.name, draft);
    }
    routes.into_values().collect()
}

/// The revisions one service or route may lead to.
struct Reachable<'a> {
    route: &'a ObjectName,
    of_service: bool,
    drafts: &'a RevisionDrafts<'a>,
    stamps: &'a Stamps,
}

impl Revisions for Reachable<'_> {
    fn exists(&self, name: &str) -> bool {
        let id = ObjectName::new(Arc::clone(&self.route.namespace), name);
        // A service may lead only to its own revisions.
        self.drafts
            .get(&id)
            .is_some_and(|draft| !self.of_service || draft.configuration == &*self.route.name)
    }

    fn latest(&self, configuration: Option<&str>) -> Option<String> {
        let configuration = configuration.unwrap_or(&self.route.name);
        let namespace = &self.route.namespace;
        let id = ObjectName::new(Arc::clone(namespace), configuration);
        let latest = self.stamps.latest(&id)?;
        // Stamps may outlive their configuration while a file cannot be read.
        let id = ObjectName::new(Arc::clone(namespace), latest);
        self.drafts.contains_key(&id).then(|| latest.to_owned())
    }
}

impl RouteDraft<'_> {
    fn resolve_traffic(&mut self, drafts: &RevisionDrafts<'_>, stamps: &Stamps, pace: &Pace<'_>) {
        let written = self.admitted.object.pointer("/spec/traffic");
        let good = stamps.good_traffic(self.id);
        // What is no longer in place of this block is forgotten.
        let ordered = good.and_then(|good| good.ordered.as_ref());
        let ordered = ordered.filter(|ordered| ordered.in_place_of(written).is_some());
        let held = ordered.and_then(|ordered| ordered.in_place_of(written));
        let targets = targets(held.or(written));
        let revisions = Reachable { route: self.id, of_service: self.of_service, drafts, stamps };
        match resolve(&targets, &revisions, &self.id.name) {
            Ok(mut traffic) => {
                let before = good.map(|before| {
                    let mut before = before.rollout.clone();
                    before.retain(|name| revisions.exists(name));
                    before
                });
                (traffic.rollout, self.conditions) =
                    pace.moved(&self.speed, traffic.rollout, before.as_ref(), self.id);
                traffic.ordered = ordered.map(Arc::clone);
                self.conditions.extend(ordered.map(|_| ORDERED.to_owned()));
                self.is_resolved = true;
                self.traffic = traffic;
            }
            Err(missing) => {
                let good = good.filter(|good| good.revisions().all(|name| revisions.exists(name)));
                match good.cloned() {
                    Some(good) => {
                        self.warnings.push(self.kept_traffic(&missing));
                        self.traffic = good;
                    }
                    None => {
                        let message = self.missing_traffic(&missing, drafts);
                        self.problem = Some(Problem::new(Reason::RevisionMissing, message));
                    }
                }
            }
        }
    }

    fn kept_traffic(&self, Missing(names): &Missing) -> String {
        format!(
            "RevisionMissing: traffic of {} names {}, not there; the traffic before stays in effect",
            self.id,
            names.join(", ")
        )
    }

    fn missing_traffic(&self, Missing(names): &Missing, drafts: &RevisionDrafts<'_>) -> String {
        let ServiceId { namespace, name } = self.id;
        let existing: Vec<&str> = drafts
            .iter()
            .filter(|(id, draft)| id.namespace == *namespace && draft.configuration == &**name)
            .map(|(id, _)| &*id.name)
            .collect();
        let there = match existing.as_slice() {
            [] => "there is none of its revisions yet".to_owned(),
            [one] => format!("so far there is {one}"),
            many => format!("so far there are {}", many.join(", ")),
        };
        let missing = names.join(", ");
        let first = &names[0];
        format!(
            "traffic of {} names {missing}, not there; {there}.\nEach change of spec.template \
             makes the next revision: change it once more, or add the missing one as a document\n\
             apiVersion: serving.knative.dev/v1\nkind: Revision\nmetadata:\n  name: {first}\n  \
             namespace: {namespace}\n  labels:\n    serving.knative.dev/service: {name}\n\
             spec: what spec.template.spec of that version was\n\
             or let traffic name a revision that is there",
            self.id
        )
    }
}

/// A `DomainMapping`: the host is its name.
struct Mapping<'a> {
    host: Arc<str>,
    admitted: &'a Admitted,
    target: Option<ObjectName>,
}

fn mappings(objects: &Objects) -> Vec<Mapping<'_>> {
    objects
        .iter()
        .filter(|(key, _)| key.kind == Kind::DomainMapping)
        .map(|(key, admitted)| {
            let target = mapping_target(&key.name, &admitted.object);
            Mapping { host: mapped_host(&key.name), admitted, target }
        })
        .collect()
}

/// The host that a `DomainMapping` of this name stands for.
pub(super) fn mapped_host(name: &ObjectName) -> Arc<str> {
    name.name.trim_end_matches('.').to_ascii_lowercase().into()
}

/// The service or route that a `DomainMapping` leads to.
pub(super) fn mapping_target(name: &ObjectName, mapping: &Value) -> Option<ObjectName> {
    let reference = mapping.pointer("/spec/ref").unwrap_or(&Value::Null);
    let namespace = text(reference, "namespace").unwrap_or(&name.namespace);
    text(reference, "name").map(|name| ObjectName::new(namespace, name))
}

/// Gives every service its hosts: services and routes first, then tags, then `DomainMapping`s.
/// With them: whether any was asked for twice.
pub(super) fn service_specs(
    routes: Vec<RouteDraft<'_>>,
    objects: &Objects,
    rules: &HostRules,
    tag_header_routing: bool,
    warnings: &mut Warnings,
) -> (Vec<ServiceSpec>, bool) {
    let mut claims = Claims::default();
    let mut specs: Vec<ServiceSpec> = Vec::with_capacity(routes.len());
    let mut refusals: Vec<Vec<String>> = Vec::with_capacity(routes.len());
    let mut redirected = Vec::with_capacity(routes.len());
    let labelled: Vec<_> = routes
        .iter()
        .map(|route| {
            let object = &route.admitted.object;
            (metadata_map(object, "labels"), metadata_map(object, "annotations"))
        })
        .collect();
    for (route, (labels, annotations)) in routes.iter().zip(&labelled) {
        let owner = HostOwner { id: route.id, labels, annotations };
        let mut hosts = rules.hosts(owner);
        refusals.push(claims.claim(&format!("service {}", route.id).into(), &mut hosts));
        specs.push(service_spec(route, hosts, tag_header_routing));
        match http_protocol(annotations, rules.network.http_protocol) {
            Ok(HttpProtocol::Redirected) => redirected.push(true),
            Ok(HttpProtocol::Enabled | HttpProtocol::Disabled) => redirected.push(false),
            Err(text) => {
                refusals[specs.len() - 1].push(text);
                redirected.push(false);
            }
        }
    }
    for (index, (route, (labels, annotations))) in routes.iter().zip(&labelled).enumerate() {
        let owner = HostOwner { id: route.id, labels, annotations };
        for (tag, revision) in &route.traffic.tags {
            let mut hosts = rules.tag_hosts(tag, owner);
            let claimant = format!("tag {tag} of service {}", route.id).into();
            refusals[index].extend(claims.claim(&claimant, &mut hosts));
            let revision = RevisionId::new(Arc::clone(&route.id.namespace), revision.as_str());
            let name = tag.as_str().into();
            specs[index].tags.push(Tag { name, hosts, revision, moving: Vec::new() });
        }
        if redirected[index] {
            redirect(&mut specs[index]);
        }
        set_shares(&mut specs[index], &route.traffic, route.speed.rules());
        specs[index].tags.sort_by(|a, b| a.name.cmp(&b.name));
    }
    map_domains(
        &routes,
        objects,
        rules,
        &mut claims,
        &mut Mapped { specs: &mut specs, refusals: &mut refusals },
        warnings,
    );
    let is_contested = refusals.iter().any(|refused| !refused.is_empty());
    for ((spec, refused), route) in specs.iter_mut().zip(refusals).zip(routes) {
        let texts = route.warnings.into_iter().chain(refused);
        for text in texts {
            spec.warnings.push(text.as_str().into());
            warnings.add(&spec.id, &text);
        }
        spec.warnings.extend(route.conditions.iter().map(|text| Arc::from(text.as_str())));
        if let Some(problem) = &spec.problem {
            warnings.add(&spec.id, &format!("RevisionMissing: {}", problem.message));
        }
    }
    (specs, is_contested)
}

/// What `DomainMapping`s add to.
struct Mapped<'a> {
    specs: &'a mut [ServiceSpec],
    refusals: &'a mut [Vec<String>],
}

/// Gives services the hosts of `DomainMapping`s.
fn map_domains(
    routes: &[RouteDraft<'_>],
    objects: &Objects,
    rules: &HostRules,
    claims: &mut Claims,
    mapped: &mut Mapped<'_>,
    warnings: &mut Warnings,
) {
    let by_id: HashMap<&ObjectName, usize> =
        routes.iter().enumerate().map(|(index, route)| (route.id, index)).collect();
    for mapping in mappings(objects) {
        let index = mapping.target.as_ref().and_then(|target| by_id.get(target));
        let Some(index) = index else {
            warnings.general.push(format!(
                "DomainMapping {} at {}: the service it refers to is not there yet; it takes \
                 effect when it appears",
                mapping.host, mapping.admitted.source
            ));
            continue;
        };
        let claimant = format!("service {}", routes[*index].id).into();
        let mut hosts = vec![mapping.host];
        mapped.refusals[*index].extend(claims.claim(&claimant, &mut hosts));
        hosts.retain(|host| !mapped.specs[*index].hosts.contains(host));
        let annotations = metadata_map(&mapping.admitted.object, "annotations");
        match http_protocol(&annotations, rules.network.http_protocol) {
            Ok(HttpProtocol::Redirected) => {
                mapped.specs[*index].https_hosts.extend(hosts.iter().map(Arc::clone));
            }
            Ok(HttpProtocol::Enabled | HttpProtocol::Disabled) => {}
            Err(text) => mapped.refusals[*index]
                .push(format!("DomainMapping {}: {text}", mapping.admitted.source)),
        }
        mapped.specs[*index].hosts.extend(hosts);
    }
}

/// What `networking.knative.dev/http-protocol` says, or the cluster's default (Knative's
/// `pkg/networking/util.go`).
pub(super) fn http_protocol(
    annotations: &BTreeMap<String, String>,
    default: HttpProtocol,
) -> Result<HttpProtocol, String> {
    let keys = ["networking.knative.dev/http-protocol", "networking.knative.dev/httpOption"];
    let Some((key, value)) = keys.iter().find_map(|key| Some((*key, annotations.get(*key)?)))
    else {
        return Ok(default);
    };
    match value.to_ascii_lowercase().as_str() {
        "" => Ok(default),
        "enabled" => Ok(HttpProtocol::Enabled),
        "redirected" => Ok(HttpProtocol::Redirected),
        _ => Err(format!("{key}: {value:?} means nothing; write Enabled or Redirected")),
    }
}

/// Has the hosts that are seen from outside redirected, those of tags too.
pub(super) fn redirect(spec: &mut ServiceSpec) {
    let all = spec.hosts.iter().chain(spec.tags.iter().flat_map(|tag| &tag.hosts));
    let outside = all.filter(|host| !is_cluster_local(host, &spec.id.namespace));
    spec.https_hosts = outside.map(Arc::clone).collect();
}

fn service_spec(
    route: &RouteDraft<'_>,
    hosts: Vec<Arc<str>>,
    tag_header_routing: bool,
) -> ServiceSpec {
    ServiceSpec {
        id: route.id.clone(),
        hosts,
        traffic: Vec::new(),
        tags: Vec::with_capacity(route.traffic.tags.len()),
        tag_header_routing,
        https_hosts: Vec::new(),
        canaries: Vec::new(),
        problem: route.problem.clone(),
        warnings: Vec::new(),
    }
}
