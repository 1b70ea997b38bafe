//! A Service: its Configuration and its Route, and what both say
//! (`pkg/reconciler/service/service.go`).

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Cluster;
use super::admitted::{admitted, normal};
use super::meta::{
    CANARY, CONFIGURATION_GENERATION, LAST_APPLIED, ROLLOUT_DURATION, ROUTES, SERVICE, SERVICE_UID,
    annotations_without, labels, listed, owned, with,
};
use super::object::Parts;
use super::route::taken_back;
use super::work::{Failure, Next};
use super::write::{Pace, Weight};
use crate::kubernetes::conditions::{ConditionSet, Conditions, Status};
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

const SET: ConditionSet = ConditionSet::living(&[CONFIGURATIONS_READY, ROUTES_READY]);
const CONFIGURATIONS_READY: &str = "ConfigurationsReady";
const ROUTES_READY: &str = "RoutesReady";

/// Fields of a status that are a Configuration's.
const OF_CONFIGURATION: [&str; 2] = ["latestCreatedRevisionName", "latestReadyRevisionName"];
/// Fields of a status that are a Route's.
const OF_ROUTE: [&str; 3] = ["url", "address", "traffic"];

/// Brings a Service in order.
///
/// # Errors
/// A write failed, or something of its name belongs to somebody else.
pub(super) async fn reconcile(cluster: &Cluster, name: ObjectName) -> Result<Next, Failure> {
    let Some(object) = cluster.services.get(&name).filter(|object| !object.is_leaving) else {
        cluster.writer.forget(Kind::Service, &name);
        return Ok(Next::WhenTold);
    };
    let service = object.value();
    let mut status = ServiceStatus::of(&service, (cluster.now)());
    let done = match admitted(&service, &cluster.settings.get().admission) {
        Ok(filled) => follow(cluster, &service, &filled, &mut status).await,
        Err(problem) => {
            // Only without the webhook.
            status.conditions.mark_false(CONFIGURATIONS_READY, "InvalidService", &problem);
            Ok(())
        }
    };
    if let Err(failure) = done.as_ref()
        && !failure.is_ordinary()
    {
        cluster.writer.event(&service, Weight::Warning, "InternalError", failure.to_string());
    }
    let wanted = status.value(&service);
    let pace = Pace::of(&service, &wanted);
    let next = cluster.writer.status(Kind::Service, &service, &wanted, pace).await?;
    done.map(|()| next)
}

async fn follow(
    cluster: &Cluster,
    service: &Value,
    filled: &Value,
    status: &mut ServiceStatus,
) -> Result<(), Failure> {
    let name = service.name();
    let live = cluster.configurations.get(&name).map(|object| object.value());
    let wanted = |live: Option<&Value>| configuration(filled, live);
    let configuration = match child(cluster, Kind::Configuration, service, live, wanted).await? {
        Child::Owned(configuration) => configuration,
        Child::Foreign => {
            let message = not_owned("Configuration", &name);
            status.conditions.mark_false(CONFIGURATIONS_READY, "NotOwned", &message);
            return Err(Failure::Other(format!(
                "service: {:?} does not own configuration: {:?}",
                name.name, name.name
            )));
        }
    };
    status.take_configuration(&configuration);
    let template_name = configuration.text("/spec/template/metadata/name");
    if !configuration.is_observed() && !template_name.is_empty() {
        // A name that somebody gave may be taken: the Route waits for what comes of it.
        return Ok(());
    }
    if is_taken(cluster, &configuration) {
        let message = format!(
            "The revision name {template_name:?} is taken by a conflicting Revision, so traffic \
             will not be migrated"
        );
        status.conditions.mark_false(ROUTES_READY, "RevisionNameTaken", &message);
        return Ok(());
    }
    let live = cluster.routes.get(&name).map(|object| object.value());
    match child(cluster, Kind::Route, service, live, |_| route(filled)).await? {
        Child::Owned(route) => {
            status.take_route(&route);
            status.check_migrated(&configuration, &route);
            if let Some(why) = taken_back(&route) {
                status.conditions.mark_false(ROUTES_READY, "CanaryTakenBack", &why);
            }
            Ok(())
        }
        Child::Foreign => {
            let message = not_owned("Route", &name);
            status.conditions.mark_false(ROUTES_READY, "NotOwned", &message);
            let (service, route) = (&name.name, &name.name);
            Err(Failure::Other(format!("service: {service:?} does not own route: {route:?}")))
        }
    }
}

/// What became of an object that was to be made.
enum Child {
    /// It is there.
    Owned(Value),
    /// Somebody else has one of that name.
    Foreign,
}

/// Makes an object of the Service's name what is wanted of it.
async fn child(
    cluster: &Cluster,
    kind: Kind,
    service: &Value,
    live: Option<Value>,
    wanted: impl Fn(Option<&Value>) -> Value,
) -> Result<Child, Failure> {
    let writer = &cluster.writer;
    let name = service.name();
    let live = match live {
        Some(live) => Some(live),
        // The mirror may be behind; and nothing of somebody else's is taken.
        None => writer.read(kind, &name).await?,
    };
    if live.as_ref().is_some_and(|live| !live.is_controlled_by(service)) {
        return Ok(Child::Foreign);
    }
    let is_new = live.is_none();
    let made = writer.apply(kind, &wanted(live.as_ref()), live.as_ref()).await;
    let (kind, name) = (kind.kind(), &name.name);
    match &made {
        Ok(_) if is_new => {
            let message = format!("Created {kind} {name:?}");
            writer.event(service, Weight::Normal, "Created", message);
        }
        Err(failure) if is_new => {
            let message = format!("Failed to create {kind} {name:?}: {}", failure.words());
            writer.event(service, Weight::Warning, "CreationFailed", message);
        }
        _ => {}
    }
    made.map(Child::Owned)
}

fn not_owned(kind: &str, name: &ObjectName) -> String {
    format!("There is an existing {kind} {:?} that we do not own.", name.name)
}

/// The Configuration of a Service.
fn configuration(service: &Value, live: Option<&Value>) -> Value {
    let name = service.name();
    let uid = service.text("/metadata/uid");
    let labels = with(labels(service), [(SERVICE, &*name.name), (SERVICE_UID, uid)]);
    let without = [LAST_APPLIED, ROLLOUT_DURATION[0], ROLLOUT_DURATION[1]];
    let mut annotations = annotations_without(service, &without);
    // What is said of traffic is the Route's.
    annotations.retain(|key, _| !key.starts_with(CANARY));
    let routes = listed(live.map_or("", |live| live.annotation(ROUTES)), &name.name);
    let annotations = with(annotations, [(ROUTES, &*routes)]);
    let template = service.pointer("/spec/template").cloned().unwrap_or_default();
    owned(Kind::Configuration, &name, service, labels, annotations, json!({"template": template}))
}

/// The Route of a Service.
fn route(service: &Value) -> Value {
    let name = service.name();
    let labels = with(labels(service), [(SERVICE, &*name.name)]);
    let annotations = annotations_without(service, &[LAST_APPLIED]);
    let targets = service.list("/spec/traffic").iter().cloned().map(|mut target| {
        if target.text("/revisionName").is_empty()
            && let Some(target) = target.as_object_mut()
        {
            target.insert("configurationName".to_owned(), json!(name.name));
        }
        target
    });
    let traffic: Vec<Value> = targets.collect();
    owned(Kind::Route, &name, service, labels, annotations, json!({"traffic": traffic}))
}

/// Whether the revision name that the template gives is another revision's.
fn is_taken(cluster: &Cluster, configuration: &Value) -> bool {
    let name = configuration.text("/spec/template/metadata/name");
    let id = ObjectName::new(configuration.text("/metadata/namespace"), name);
    let revision = cluster.revisions.get(&id).filter(|_| !name.is_empty());
    revision.is_some_and(|revision| !is_of(&revision.value(), configuration))
}

/// Whether a revision with the template's name is the one that the template asks for.
pub(super) fn is_of(revision: &Value, configuration: &Value) -> bool {
    let generation = configuration.generation().to_string();
    let spec = |object: &Value, pointer: &str| object.pointer(pointer).map(normal);
    revision.is_controlled_by(configuration)
        && (revision.label(CONFIGURATION_GENERATION) == generation
            || spec(revision, "/spec") == spec(configuration, "/spec/template/spec"))
}

/// A Service's status while it is worked on.
struct ServiceStatus {
    fields: Map<String, Value>,
    conditions: Conditions,
}

impl ServiceStatus {
    fn of(service: &Value, now: Timestamp) -> Self {
        let status = service.get("status").cloned().unwrap_or_default();
        let fields = status.as_object().cloned().unwrap_or_default();
        Self { fields, conditions: SET.read(&status, now) }
    }

    fn value(mut self, service: &Value) -> Value {
        self.fields.insert("observedGeneration".to_owned(), json!(service.generation()));
        self.fields.insert("conditions".to_owned(), self.conditions.to_value());
        Value::Object(self.fields)
    }

    fn copy(&mut self, keys: &[&str], from: &Value) {
        for key in keys {
            match from.get("status").and_then(|status| status.get(key)) {
                Some(value) => self.fields.insert((*key).to_owned(), value.clone()),
                None => self.fields.remove(*key),
            };
        }
    }

    fn take_configuration(&mut self, configuration: &Value) {
        if configuration.is_observed() {
            self.copy(&OF_CONFIGURATION, configuration);
            self.take_ready(CONFIGURATIONS_READY, configuration);
        } else {
            let message =
                "The Configuration is still working to reflect the latest desired specification.";
            self.conditions.mark_unknown(CONFIGURATIONS_READY, "OutOfDate", message);
        }
    }

    fn take_route(&mut self, route: &Value) {
        if route.is_observed() {
            self.copy(&OF_ROUTE, route);
            self.take_ready(ROUTES_READY, route);
        } else {
            let message = "The Route is still working to reflect the latest desired specification.";
            self.conditions.mark_unknown(ROUTES_READY, "OutOfDate", message);
        }
    }

    /// A condition is what another object's `Ready` is.
    fn take_ready(&mut self, kind: &str, from: &Value) {
        let Some(ready) = condition(from, "Ready") else { return };
        let (reason, message) = (ready.text("/reason"), ready.text("/message"));
        match ready.text("/status") {
            "True" => self.conditions.mark_true(kind),
            "False" => self.conditions.mark_false(kind, reason, message),
            _ => self.conditions.mark_unknown(kind, reason, message),
        }
    }

    /// A Route that is ready may not lead to what is wanted by now.
    fn check_migrated(&mut self, configuration: &Value, route: &Value) {
        if self.conditions.status(ROUTES_READY) != Status::True {
            return;
        }
        let name = configuration.text("/metadata/name");
        let latest = configuration.text("/status/latestReadyRevisionName");
        let wanted = route.list("/spec/traffic").iter().map(|target| {
            let is_latest = target.text("/configurationName") == name;
            let revision = if is_latest { latest } else { target.text("/revisionName") };
            (revision, target.text("/tag"), target.int("/percent").unwrap_or_default())
        });
        let found = route.list("/status/traffic").iter().map(|target| {
            let revision = target.text("/revisionName");
            (revision, target.text("/tag"), target.int("/percent").unwrap_or_default())
        });
        if !wanted.eq(found) {
            let message = "Traffic is not yet migrated to the latest revision.";
            self.conditions.mark_unknown(ROUTES_READY, "TrafficNotMigrated", message);
        }
    }
}

/// A condition of an object's status.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object.list("/status/conditions").iter().find(|condition| condition.text("/type") == kind)
}

/// Whether an object's `Ready` holds, and was found for this very generation.
pub(super) fn is_ready(object: &Value) -> bool {
    let ready = condition(object, "Ready").is_some_and(|ready| ready.text("/status") == "True");
    ready && object.is_observed()
}

#[cfg(test)]
mod tests;
