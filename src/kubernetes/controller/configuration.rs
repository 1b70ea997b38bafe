//! A Configuration: its revisions, and which is the newest that is ready
//! (`pkg/reconciler/configuration/configuration.go`).

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Cluster;
use super::admitted::admitted;
use super::meta::{
    CONFIGURATION, CONFIGURATION_GENERATION, CONFIGURATION_UID, CREATOR, ROUTES, ROUTING_STATE,
    ROUTING_STATE_MODIFIED, SERVICE, SERVICE_UID, UPDATER, map_at, owned, with,
};
use super::object::Parts;
use super::service::{condition, is_of, is_ready};
use super::work::{Failure, Next};
use super::write::{Pace, Weight};
use crate::kubernetes::conditions::{ConditionSet, Conditions, seconds};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::names;
use crate::model::ObjectName;

const SET: ConditionSet = ConditionSet::living(&[]);
const READY: &str = "Ready";

/// Brings a Configuration in order.
///
/// # Errors
/// A write failed.
pub(super) async fn reconcile(cluster: &Cluster, name: ObjectName) -> Result<Next, Failure> {
    let Some(object) = cluster.configurations.get(&name).filter(|object| !object.is_leaving) else {
        cluster.writer.forget(Kind::Configuration, &name);
        return Ok(Next::WhenTold);
    };
    let configuration = object.value();
    let now = (cluster.now)();
    let mut status = ConfigurationStatus::of(&configuration, now);
    let done = match admitted(&configuration, &cluster.settings.get().admission) {
        Ok(filled) => follow(cluster, &filled, &mut status, now).await,
        Err(problem) => {
            // Only without the webhook.
            status.fail(&format!("Revision creation failed with message: {problem}."));
            Ok(())
        }
    };
    if let Err(failure) = done.as_ref()
        && !failure.is_ordinary()
    {
        let message = failure.to_string();
        cluster.writer.event(&configuration, Weight::Warning, "InternalError", message);
    }
    for (weight, reason, message) in std::mem::take(&mut status.events) {
        cluster.writer.event(&configuration, weight, reason, message);
    }
    let wanted = status.value(&configuration);
    let pace = pace(&configuration, &wanted);
    let next = cluster.writer.status(Kind::Configuration, &configuration, &wanted, pace).await?;
    done.map(|()| next)
}

/// Routes follow the newest ready revision, and hold on to the newest of all before it is ready; a
/// name that the template gives is waited for, since it may be taken. Of the very first revision
/// nothing is known before it is ready.
fn pace(configuration: &Value, wanted: &Value) -> Pace {
    let is_new = |key: &str| {
        let former = configuration.text(&format!("/status/{key}"));
        former != wanted.text(&format!("/{key}"))
    };
    let is_first = configuration.text("/status/latestCreatedRevisionName").is_empty()
        && configuration.text("/spec/template/metadata/name").is_empty();
    let is_urgent =
        is_new("latestReadyRevisionName") || (is_new("latestCreatedRevisionName") && !is_first);
    Pace::of(configuration, wanted).at_once_if(is_urgent)
}

async fn follow(
    cluster: &Cluster,
    configuration: &Value,
    status: &mut ConfigurationStatus,
    now: Timestamp,
) -> Result<(), Failure> {
    let all = cluster.revisions.of(&configuration.name());
    let all: Vec<Value> = all.iter().map(|object| object.value()).collect();
    let latest = match latest_created(cluster, configuration, &all) {
        Latest::Found(revision) => revision,
        Latest::Taken(name) => {
            let message = format!("revisions.serving.knative.dev {name:?} already exists");
            status.fail(&format!("Revision creation failed with message: {message}."));
            return Ok(());
        }
        Latest::Missing => {
            let wanted = revision(configuration, now);
            match cluster.writer.create(Kind::Revision, &wanted).await {
                Ok(made) => {
                    let message = format!("Created Revision {:?}", made.text("/metadata/name"));
                    status.events.push((Weight::Normal, "Created", message));
                    made
                }
                // The mirror is behind, or a revision of another Configuration has the name.
                Err(failure) if failure.code() == Some(409) => return Err(failure),
                Err(failure) => {
                    let words = failure.words();
                    let message = format!("Failed to create Revision: {words}");
                    status.events.push((Weight::Warning, "CreationFailed", message));
                    status.fail(&format!("Revision creation failed with message: {words}."));
                    return Err(failure);
                }
            }
        }
    };
    status.take(configuration, &latest, &all);
    Ok(())
}

/// The revision of a Configuration's generation.
enum Latest {
    Found(Value),
    Missing,
    /// Another one has the name that the template gives.
    Taken(String),
}

fn latest_created(cluster: &Cluster, configuration: &Value, all: &[Value]) -> Latest {
    let name = configuration.text("/spec/template/metadata/name");
    if !name.is_empty() {
        let id = ObjectName::new(configuration.text("/metadata/namespace"), name);
        return match cluster.revisions.get(&id).map(|object| object.value()) {
            None => Latest::Missing,
            Some(revision) if is_of(&revision, configuration) => Latest::Found(revision),
            Some(_) => Latest::Taken(name.to_owned()),
        };
    }
    let generation = configuration.generation().to_string();
    let found = all.iter().find(|one| one.label(CONFIGURATION_GENERATION) == generation);
    found.cloned().map_or(Latest::Missing, Latest::Found)
}

/// The revision of a Configuration as it is now (`resources/revision.go`).
fn revision(configuration: &Value, now: Timestamp) -> Value {
    let template = |pointer: &str| map_at(configuration, &format!("/spec/template{pointer}"));
    let given = configuration.text("/spec/template/metadata/name");
    let name = if given.is_empty() {
        names::revision(configuration.text("/metadata/name"), configuration.generation())
    } else {
        given.to_owned()
    };
    let routes = configuration.annotation(ROUTES);
    let state = if routes.is_empty() { "pending" } else { "active" };
    let generation = configuration.generation().to_string();
    let labels = with(
        template("/metadata/labels"),
        [
            (ROUTING_STATE, state),
            (CONFIGURATION, configuration.text("/metadata/name")),
            (SERVICE, configuration.label(SERVICE)),
            (CONFIGURATION_GENERATION, &generation),
            (CONFIGURATION_UID, configuration.text("/metadata/uid")),
            (SERVICE_UID, configuration.label(SERVICE_UID)),
        ],
    );
    let modified = seconds(now);
    let annotations = with(
        template("/metadata/annotations"),
        [
            (ROUTING_STATE_MODIFIED, &*modified),
            (CREATOR, configuration.annotation(UPDATER)),
            (ROUTES, routes),
        ],
    );
    let id = ObjectName::new(configuration.text("/metadata/namespace"), name);
    let spec = Value::Object(template("/spec"));
    owned(Kind::Revision, &id, configuration, labels, annotations, spec)
}

/// Revisions from the one that was ready last to the newest, newest first; one with a name that
/// the template gives before all.
fn candidates<'a>(
    configuration: &Value,
    last_ready: &str,
    latest: &'a Value,
    all: &'a [Value],
) -> Vec<&'a Value> {
    let generation =
        |revision: &Value| revision.label(CONFIGURATION_GENERATION).parse::<i64>().ok();
    let name = |revision: &Value| revision.text("/metadata/name").to_owned();
    let given = configuration.text("/spec/template/metadata/name");
    let newest = configuration.generation();
    let first = all.iter().find(|revision| name(revision) == last_ready);
    let first = first.map(|revision| generation(revision).unwrap_or(newest));
    let is_within = |revision: &Value| {
        let Some(first) = first else { return true };
        let of = generation(revision);
        of.is_some_and(|of| (first..=newest).contains(&of))
            || (!given.is_empty() && of == generation(latest))
    };
    let mut found: Vec<&Value> = all.iter().filter(|revision| is_within(revision)).collect();
    if !found.iter().any(|revision| name(revision) == name(latest)) {
        // Made right now.
        found.push(latest);
    }
    let is_given = |revision: &Value| !given.is_empty() && name(revision) == given;
    found.sort_by_key(|revision| (!is_given(revision), -generation(revision).unwrap_or_default()));
    found
}

/// A Configuration's status while it is worked on.
struct ConfigurationStatus {
    fields: Map<String, Value>,
    conditions: Conditions,
    events: Vec<(Weight, &'static str, String)>,
}

impl ConfigurationStatus {
    fn of(configuration: &Value, now: Timestamp) -> Self {
        let status = configuration.get("status").cloned().unwrap_or_default();
        let fields = status.as_object().cloned().unwrap_or_default();
        Self { fields, conditions: SET.read(&status, now), events: Vec::new() }
    }

    fn value(mut self, configuration: &Value) -> Value {
        let generation = json!(configuration.generation());
        self.fields.insert("observedGeneration".to_owned(), generation);
        self.fields.insert("conditions".to_owned(), self.conditions.to_value());
        Value::Object(self.fields)
    }

    fn fail(&mut self, message: &str) {
        self.conditions.mark_false(READY, "RevisionFailed", message);
    }

    fn last_ready(&self) -> String {
        let name = self.fields.get("latestReadyRevisionName").and_then(Value::as_str);
        name.unwrap_or_default().to_owned()
    }

    /// What follows from the newest revision, and from all of them.
    fn take(&mut self, configuration: &Value, latest: &Value, all: &[Value]) {
        let created = latest.text("/metadata/name");
        let last_ready = self.last_ready();
        self.fields.insert("latestCreatedRevisionName".to_owned(), json!(created));
        let before = self.conditions.clone();
        if last_ready != created {
            self.conditions.mark_unknown(READY, "", "");
        }
        if let Some(ready) = condition(latest, "Ready") {
            match ready.text("/status") {
                "True" if last_ready.is_empty() => {
                    let message = "Configuration becomes ready".to_owned();
                    self.events.push((Weight::Normal, "ConfigurationReady", message));
                }
                "False" => self.take_failure(&before, created, ready.text("/message")),
                _ => {}
            }
        }
        let candidates = candidates(configuration, &last_ready, latest, all);
        if let Some(ready) = candidates.into_iter().find(|revision| is_ready(revision)) {
            self.take_ready(ready.text("/metadata/name"), created);
        }
    }

    fn take_failure(&mut self, before: &Conditions, created: &str, message: &str) {
        self.fail(&format!("Revision {created:?} failed with message: {message}."));
        let said = |conditions: &Conditions| {
            let of = conditions.get(READY);
            of.map(|ready| (ready.status, ready.reason.clone(), ready.message.clone()))
        };
        if said(before) == said(&self.conditions) {
            return;
        }
        let (reason, which) = if self.last_ready() == created {
            ("LatestReadyFailed", "Latest ready")
        } else {
            ("LatestCreatedFailed", "Latest created")
        };
        let message = format!("{which} revision {created:?} has failed");
        self.events.push((Weight::Warning, reason, message));
    }

    fn take_ready(&mut self, name: &str, created: &str) {
        let former = self.last_ready();
        self.fields.insert("latestReadyRevisionName".to_owned(), json!(name));
        if name == created {
            self.conditions.mark_true(READY);
        }
        if former != name {
            let message = format!("LatestReadyRevisionName updated to {name:?}");
            self.events.push((Weight::Normal, "LatestReadyUpdate", message));
        }
    }
}

#[cfg(test)]
mod tests;
