//! What a Route notes on the objects its traffic leads to (`pkg/reconciler/labeler`).

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::traffic::{Known, ready};
use crate::kubernetes::conditions::seconds;
use crate::kubernetes::controller::meta::{ROUTES, ROUTING_STATE, ROUTING_STATE_MODIFIED};
use crate::kubernetes::controller::object::Parts as _;

/// Names that the traffic of a Route leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) revisions: BTreeSet<String>,
    pub(super) configurations: BTreeSet<String>,
    /// Whether a Configuration may have a revision of which it does not say so yet.
    pub(super) is_behind: bool,
}

/// What a Route leads to, and what it is about to. `status` is its newest one.
pub(super) fn reached(route: &Value, status: &Value, known: &dyn Known) -> Reached {
    let mut reached = Reached::default();
    for entry in status.list("/traffic").iter().chain(route.list("/spec/traffic")) {
        let name = entry.text("/revisionName");
        let mut configuration = entry.text("/configurationName").to_owned();
        if !name.is_empty() {
            let Some(revision) = known.revision(name) else { continue };
            reached.revisions.insert(name.to_owned());
            let owner = revision.controller().filter(|o| o.text("/kind") == "Configuration");
            if let Some(owner) = owner {
                owner.text("/name").clone_into(&mut configuration);
            }
        }
        if configuration.is_empty() {
            continue;
        }
        let Some(object) = known.configuration(&configuration) else { continue };
        reached.configurations.insert(configuration);
        // The next revision gets ready only once it is led to.
        let created = object.text("/status/latestCreatedRevisionName");
        let follows = entry.get("latestRevision").and_then(Value::as_bool);
        if follows.unwrap_or(name.is_empty()) {
            reached.is_behind |= !object.is_observed();
            reached.revisions.extend(Some(created.to_owned()).filter(|name| !name.is_empty()));
        }
    }
    reached
}

/// Whether what a Route no longer leads to is known: its status is about all of its traffic.
pub(super) fn is_settled(route: &Value, status: &Value) -> bool {
    let observed = status.int("/observedGeneration").unwrap_or_default();
    let status = json!({ "status": status });
    observed == route.generation() && matches!(ready(&status), "True" | "False")
}

/// The change of metadata that notes on an object whether a Route leads to it; none if it is noted.
pub(super) fn note(
    object: &Value,
    route: &str,
    is_reached: bool,
    is_revision: bool,
    now: Timestamp,
) -> Option<Value> {
    let before = object.annotation(ROUTES);
    let mut routes: BTreeSet<&str> = before.split(',').filter(|name| !name.is_empty()).collect();
    let has_changed = if is_reached { routes.insert(route) } else { routes.remove(route) };
    let (mut labels, mut annotations) = (Map::new(), Map::new());
    if has_changed {
        let list = routes.iter().copied().collect::<Vec<_>>().join(",");
        let list = if list.is_empty() { Value::Null } else { json!(list) };
        annotations.insert(ROUTES.to_owned(), list);
    }
    let state = if routes.is_empty() { "reserve" } else { "active" };
    if is_revision && object.label(ROUTING_STATE) != state {
        labels.insert(ROUTING_STATE.to_owned(), json!(state));
        annotations.insert(ROUTING_STATE_MODIFIED.to_owned(), json!(seconds(now)));
    }
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    (!metadata.is_empty()).then_some(Value::Object(metadata))
}
