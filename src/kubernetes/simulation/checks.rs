//! What must be true in the end, from the objects that people wrote alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::cluster::{CRASHING, MISSING, is_ready, orphans};
use super::people::{NAMESPACE, People, name};
use super::replica::Replica;
use super::server::Server;
use super::store::Store;
use crate::kubernetes::controller::object::Parts as _;
use crate::kubernetes::kinds::Kind;
use crate::model::{ObjectName, RevisionId};

/// What is not as it has to be.
pub(super) fn unsettled(server: &Server, people: &People) -> Option<String> {
    if let Some((kind, name)) = orphans(server).first() {
        return Some(format!("{} {name} belongs to nobody", kind.kind()));
    }
    let all = |kind| server.store.lock().all(kind);
    for (kind, is_there) in [Kind::Service, Kind::Configuration, Kind::Route].map(|kind| {
        let names: BTreeSet<String> =
            all(kind).into_iter().map(|(name, _)| name.name.to_string()).collect();
        (kind, people.services.keys().eq(names.iter()))
    }) {
        if !is_there {
            return Some(format!("{}s are not those of people", kind.kind()));
        }
    }
    let services = people.services.iter();
    let of_service =
        services.clone().find_map(|(which, service)| of_service(server, which, service));
    of_service.or_else(|| {
        let revisions = all(Kind::Revision);
        revisions.iter().find_map(|(name, revision)| {
            let problem = of_revision(server, name, revision)?;
            Some(format!("{name}: {problem}"))
        })
    })
}

fn condition<'a>(object: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let mut conditions = object.list("/status/conditions").iter();
    let found = conditions.rfind(|condition| condition["type"] == kind);
    found.map_or(("", ""), |found| (found.text("/status"), found.text("/reason")))
}

fn image(object: &Value, at: &str) -> String {
    object.text(&format!("{at}/containers/0/image")).to_owned()
}

fn of_service(server: &Server, which: &str, wanted: &Value) -> Option<String> {
    let get = |kind, name: &ObjectName| {
        let found = server.store.lock().get(kind, name);
        found.map(|object| (*object).clone()).unwrap_or_default()
    };
    let (service, configuration) =
        (get(Kind::Service, &name(which)), get(Kind::Configuration, &name(which)));
    let route = get(Kind::Route, &name(which));
    for (object, kind) in
        [(&service, "Service"), (&configuration, "Configuration"), (&route, "Route")]
    {
        if !object.is_observed() {
            return Some(format!("{kind} {which} is not observed: {}", object["status"]));
        }
    }
    for key in ["template", "traffic"] {
        if service["spec"][key] != wanted["spec"][key] {
            return Some(format!("{which} is not what was written: {}", service["spec"]));
        }
    }
    let image_wanted = image(wanted, "/spec/template/spec");
    let created = configuration.text("/status/latestCreatedRevisionName");
    let latest = get(Kind::Revision, &name(created));
    if image(&latest, "/spec") != image_wanted {
        return Some(format!("{created} is not the newest of {which}: {image_wanted}"));
    }
    if latest.label("serving.knative.dev/configurationGeneration")
        != configuration.generation().to_string()
    {
        return Some(format!("{created} is of another generation"));
    }
    let is_good = ![MISSING, CRASHING].contains(&&*image_wanted);
    let (ready, reason) = condition(&service, "Ready");
    let is_latest_ready = configuration.text("/status/latestReadyRevisionName") == created;
    if is_good != (ready == "True") || is_good != is_latest_ready {
        return Some(format!("{which} is {ready} {reason} with {image_wanted}"));
    }
    if !is_good && ready != "False" {
        return Some(format!("{which} does not say that {image_wanted} fails: {ready} {reason}"));
    }
    is_good.then(|| of_traffic(wanted, &route, created)).flatten()
}

/// The traffic as asked for, led to revisions.
fn of_traffic(wanted: &Value, route: &Value, latest: &str) -> Option<String> {
    let default = [json!({"latestRevision": true, "percent": 100})];
    let asked = wanted.list("/spec/traffic");
    let asked = if asked.is_empty() { &default } else { asked };
    let wanted: Vec<Value> = asked
        .iter()
        .map(|entry| {
            let named = entry.text("/revisionName");
            let revision = if named.is_empty() { latest } else { named };
            json!([revision, entry["percent"].as_i64().unwrap_or(0), entry["tag"]])
        })
        .collect();
    let shown: Vec<Value> = route
        .list("/status/traffic")
        .iter()
        .map(|entry| {
            json!([entry["revisionName"], entry["percent"].as_i64().unwrap_or(0), entry["tag"]])
        })
        .collect();
    let sorted =
        |list: &[Value]| -> BTreeSet<String> { list.iter().map(Value::to_string).collect() };
    (sorted(&wanted) != sorted(&shown)).then(|| format!("traffic is {shown:?}, wanted {wanted:?}"))
}

fn of_revision(server: &Server, revision: &ObjectName, object: &Value) -> Option<String> {
    let store = server.store.lock();
    let get = |kind, suffix: &str| {
        let name = format!("{}{suffix}", revision.name);
        let found = store.get(kind, &name_in(&name));
        found.filter(|found| found.is_controlled_by(object))
    };
    let Some(deployment) = get(Kind::Deployment, "-deployment") else {
        return Some("no Deployment".to_owned());
    };
    if get(Kind::PodAutoscaler, "").is_none() || get(Kind::CoreService, "-private").is_none() {
        return Some("no PodAutoscaler, or no private Service".to_owned());
    }
    let all = store.all(Kind::Deployment);
    let is_its = |label: &Value| *label == *object.text("/metadata/uid");
    let same =
        |other: &Value| is_its(&other["metadata"]["labels"]["serving.knative.dev/revisionUID"]);
    if all.iter().filter(|(_, other)| same(other)).count() != 1 {
        return Some("more than one Deployment".to_owned());
    }
    let wanted_image = image(object, "/spec");
    if image(&deployment, "/spec/template/spec") != wanted_image {
        return Some("its Deployment has another image".to_owned());
    }
    if let Some(problem) = of_routing(&store, revision, object) {
        return Some(problem);
    }
    let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let wanted = server.wanted.lock().get(&*revision.name).copied();
    if wanted.is_some_and(|wanted| u64::from(wanted) != replicas) {
        return Some(format!("{replicas} replicas, wanted {wanted:?}"));
    }
    let pods = store.all(Kind::Pod);
    let of = pods.iter().filter(|(_, pod)| pod.is_controlled_by(&deployment));
    let (there, ready) =
        of.fold((0, 0), |(there, ready), (_, pod)| (there + 1, ready + u64::from(is_ready(pod))));
    let is_good = ![MISSING, CRASHING].contains(&&*wanted_image);
    if there != replicas || (is_good && ready != replicas) {
        return Some(format!("{there} pods, {ready} ready, of {replicas}"));
    }
    let (state, reason) = condition(object, "Ready");
    if is_good != (state == "True") {
        return Some(format!("{wanted_image} is {state} {reason}"));
    }
    None
}

/// Whether a revision says of itself whether its Route leads to it.
fn of_routing(store: &Store, revision: &ObjectName, object: &Value) -> Option<String> {
    let service = object.label("serving.knative.dev/service");
    let get = |kind| store.get(kind, &name(service)).map(|found| (*found).clone());
    let (route, configuration) = (get(Kind::Route)?, get(Kind::Configuration)?);
    let is_newest = configuration.text("/status/latestCreatedRevisionName") == &*revision.name;
    let asked = route.list("/spec/traffic").iter();
    let follows = asked.clone().any(|entry| entry.text("/revisionName").is_empty());
    let shown = route.list("/status/traffic").iter();
    let is_named = asked.chain(shown).any(|entry| entry.text("/revisionName") == &*revision.name);
    let wanted = if is_named || (is_newest && follows) { "active" } else { "reserve" };
    let state = object.label("serving.knative.dev/routingState");
    (state != wanted).then(|| format!("it is {state}, not {wanted}"))
}

fn name_in(name: &str) -> ObjectName {
    ObjectName::new(NAMESPACE, name)
}

/// What a replica's data plane was told that is not so.
pub(super) fn unsettled_replica(server: &Server, replica: &Replica) -> Option<String> {
    let told = replica.told.borrow();
    let number = replica.link.replica;
    let store = server.store.lock();
    let services = told.world.services.len();
    let routes = store.all(Kind::Route).len();
    if services != routes {
        return Some(format!("replica {number} knows {services} of {routes} services"));
    }
    let pods = store.all(Kind::Pod);
    for revision in &told.world.revisions {
        let is_its = |pod: &Value| pod.label("serving.knative.dev/revision") == &*revision.id.name;
        let ready: BTreeSet<&str> = pods
            .iter()
            .filter(|(_, pod)| is_its(pod) && is_ready(pod))
            .map(|(_, pod)| pod.text("/metadata/uid"))
            .collect();
        let id: &RevisionId = &revision.id;
        let known = told.replicas.get(id);
        let known: BTreeSet<&str> = known
            .into_iter()
            .flat_map(|(endpoints, _)| endpoints.iter().map(|endpoint| &*endpoint.id.0))
            .collect();
        if ready != known {
            return Some(format!("replica {number} uses {known:?} of {}: {ready:?}", id.name));
        }
    }
    None
}
