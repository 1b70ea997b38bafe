//! A Route: where its traffic goes, the names that lead to it, and what it notes on the objects
//! that it leads to (`pkg/reconciler/route`, `pkg/reconciler/labeler`).
//!
//! ```text
//! spec.traffic ─ traffic ─▶ revisions ─ plan ─▶ status, shares of the moment (annotation)
//!                                          └──▶ Services (core): placeholders
//!                                   labels ───▶ notes on Revisions and Configurations
//! ```

mod canaries;
mod gate;
mod labels;
mod names;
mod placeholders;
mod plan;
mod traffic;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::Cluster;
use super::knative::let_go;
use super::object::{Parts as _, VERSION};
use super::work::{Failure, Next};
use super::write::{Pace, Weight};
use crate::kubernetes::ROLLOUT_ANNOTATION;
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::spread;
use crate::model::ObjectName;
use labels::{Reached, is_settled, note, reached};
use plan::{Around, Leads, plan};
use traffic::Known;

pub(super) use canaries::taken_back;
pub(in crate::kubernetes) use placeholders::internal_host;

/// Brings a Route in order.
///
/// # Errors
/// A write failed, or the name of one of its Services (core) is somebody else's.
pub(super) async fn reconcile(cluster: &Cluster, name: ObjectName) -> Result<Next, Failure> {
    let now = (cluster.now)();
    let known = cluster.routes.get(&name);
    let Some(object) = known.as_ref().filter(|object| !object.is_leaving) else {
        cluster.writer.forget(Kind::Route, &name);
        sync_notes(cluster, &name, &Reached::default(), true, now).await?;
        let_go(cluster, Kind::Route, known.as_deref()).await?;
        return Ok(Next::WhenTold);
    };
    let mut route = object.value();
    let settings = cluster.settings.get();
    let services = cluster.route_services.of(&name);
    let services: Vec<Value> = services.iter().map(|service| service.value()).collect();
    let known = InNamespace { cluster, namespace: &name.namespace };
    let mut plan = {
        let internal = &cluster.internal_host;
        let services = &services;
        let trials = &cluster.trials;
        let settings = &settings;
        plan(&route, &Around { known: &known, services, settings, internal, trials, now })
    };
    // A Route that it waits for tells; what is adopted does not.
    let mut next = if plan.is_waiting { Next::After(gate::AGAIN) } else { Next::WhenTold };
    let mut done = Ok(());
    if let Some(leads) = &plan.leads {
        next = leads.next.map_or(Next::WhenTold, Next::After).or(next);
        done = put_services(cluster, &route, leads, &services).await;
        let news = canaries::news(&route, leads.rollout.as_ref());
        if let Some(version) = note_rollout(cluster, &route, leads).await? {
            tell(cluster, &route, news);
            route["metadata"][VERSION] = version;
        }
    }
    if plan.becomes_ready()
        && let Some(leads) = spread::Leads::of_route(&name, &route)
        && !cluster.spread.is_everywhere(&leads).await
    {
        plan.hold();
        next = Next::After(spread::AGAIN);
    }
    let leads_somewhere = plan.leads.is_some();
    let taken = match &done {
        Err(Trouble::NotOwned(taken)) => Some(taken.as_str()),
        Ok(()) | Err(Trouble::Failed(_)) => None,
    };
    let status = plan.status(taken);
    // Where its traffic leads, the proxies go by it; that it leads nowhere yet may change soon.
    let pace = Pace::Settled.at_once_if(leads_somewhere);
    let next = cluster.writer.status(Kind::Route, &route, &status, pace).await?.or(next);
    let reached = reached(&route, &status, &known);
    let is_settled = is_settled(&route, &status) && !reached.is_behind;
    sync_notes(cluster, &name, &reached, is_settled, now).await?;
    match done {
        Ok(()) => Ok(next),
        Err(Trouble::Failed(failure)) => Err(failure),
        Err(Trouble::NotOwned(taken)) => {
            let failure = format!("route: {:?} does not own Service: {taken:?}", name.name);
            cluster.writer.event(&route, Weight::Warning, "InternalError", failure.clone());
            Err(Failure::Other(failure))
        }
    }
}

/// The objects of one namespace.
struct InNamespace<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl Known for InNamespace<'_> {
    fn configuration(&self, name: &str) -> Option<Value> {
        self.configuration_of(&ObjectName::new(self.namespace, name))
    }

    fn revision(&self, name: &str) -> Option<Value> {
        self.revision_of(&ObjectName::new(self.namespace, name))
    }

    fn configuration_of(&self, name: &ObjectName) -> Option<Value> {
        self.cluster.configurations.get(name).map(|object| object.value())
    }

    fn revision_of(&self, name: &ObjectName) -> Option<Value> {
        self.cluster.revisions.get(name).map(|object| object.value())
    }

    fn route(&self, name: &ObjectName) -> Option<Value> {
        self.cluster.routes.get(name).map(|object| object.value())
    }

    fn is_adopted(&self, name: &ObjectName) -> bool {
        self.cluster.spread.has(name)
    }
}

/// Why the names of a Route are not there.
enum Trouble {
    Failed(Failure),
    /// This one is somebody else's.
    NotOwned(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Makes the Services (core) of a Route what they are to be; deletes the others.
async fn put_services(
    cluster: &Cluster,
    route: &Value,
    leads: &Leads,
    services: &[Value],
) -> Result<(), Trouble> {
    let writer = &cluster.writer;
    let mut wanted_names = BTreeSet::new();
    for wanted in &leads.services {
        let name = wanted.name();
        let known = services.iter().find(|service| service.name() == name).cloned();
        let live = match known {
            Some(known) => Some(known),
            // The mirror has only those of Routes, and may be behind.
            None => writer.read(Kind::CoreService, &name).await?,
        };
        if live.as_ref().is_some_and(|live| !live.is_controlled_by(route)) {
            return Err(Trouble::NotOwned(name.name.to_string()));
        }
        if let Err(failure) = writer.apply(Kind::CoreService, wanted, live.as_ref()).await {
            if live.is_none() {
                let message = format!(
                    "Failed to create placeholder service {:?}: {}",
                    name.name,
                    failure.words()
                );
                writer.event(route, Weight::Warning, "CreationFailed", message);
            }
            return Err(failure.into());
        }
        if live.is_none() {
            let message = format!("Created placeholder service {:?}", name.name);
            writer.event(route, Weight::Normal, "Created", message);
        }
        wanted_names.insert(name);
    }
    for service in cluster.route_services.of(&route.name()) {
        if !wanted_names.contains(&service.name) && service.value().is_controlled_by(route) {
            writer.delete(Kind::CoreService, &service).await?;
            writer.forget(Kind::CoreService, &service.name);
        }
    }
    Ok(())
}

/// Events about canaries, on the Service where there is one.
fn tell(cluster: &Cluster, route: &Value, news: Vec<canaries::News>) {
    let service = cluster.services.get(&route.name()).map(|service| service.value());
    let service = service.filter(|service| route.is_controlled_by(service));
    for (weight, reason, text) in news {
        cluster.writer.event(service.as_ref().unwrap_or(route), weight, reason, text);
    }
}

/// Keeps the shares of the moment on the Route: proxies follow them, and another leader goes on
/// from there. Answers the version that the Route has then, if it has another one.
async fn note_rollout(
    cluster: &Cluster,
    route: &Value,
    leads: &Leads,
) -> Result<Option<Value>, Failure> {
    let before = route.annotation(ROLLOUT_ANNOTATION);
    let wanted = leads.rollout.as_ref().and_then(|rollout| serde_json::to_string(rollout).ok());
    if wanted.as_deref().unwrap_or_default() == before {
        return Ok(None);
    }
    let metadata = json!({"annotations": {ROLLOUT_ANNOTATION: wanted}});
    cluster.writer.merge(Kind::Route, route, metadata).await.map(Some)
}

/// Notes the Route on what it leads to, and takes the note off the rest once it `is_settled` what
/// the rest is.
async fn sync_notes(
    cluster: &Cluster,
    route: &ObjectName,
    reached: &Reached,
    is_settled: bool,
    now: Timestamp,
) -> Result<(), Failure> {
    let kinds = [
        (Kind::Revision, &cluster.revisions, &reached.revisions),
        (Kind::Configuration, &cluster.configurations, &reached.configurations),
    ];
    for (kind, objects, names) in kinds {
        let of = |name: &String| ObjectName::new(route.namespace.as_ref(), name.as_str());
        let mut all: BTreeSet<ObjectName> = names.iter().map(of).collect();
        if is_settled {
            all.extend(objects.mentioning(route));
        }
        for name in all {
            let Some(object) = objects.get(&name).filter(|object| !object.is_leaving) else {
                continue;
            };
            let is_reached = names.contains(&*name.name);
            let is_revision = kind == Kind::Revision;
            let object = object.value();
            if let Some(patch) = note(&object, &route.name, is_reached, is_revision, now) {
                gone_is_fine(cluster.writer.merge(kind, &object, patch).await.map(drop))?;
            }
        }
    }
    Ok(())
}

fn gone_is_fine(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.code() == Some(404) => Ok(()),
        other => other,
    }
}
