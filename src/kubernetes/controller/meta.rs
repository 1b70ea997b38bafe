//! Labels, annotations and what else stands above a spec: Knative's keys
//! (`pkg/apis/serving/register.go`), and how they are handed down.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::object::Parts;
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

/// Name of a Service.
pub const SERVICE: &str = "serving.knative.dev/service";
/// Identity of a Service.
pub const SERVICE_UID: &str = "serving.knative.dev/serviceUID";
/// Name of a Configuration.
pub const CONFIGURATION: &str = "serving.knative.dev/configuration";
/// Identity of a Configuration.
pub const CONFIGURATION_UID: &str = "serving.knative.dev/configurationUID";
/// Generation of the Configuration that a revision was made of.
pub const CONFIGURATION_GENERATION: &str = "serving.knative.dev/configurationGeneration";
/// Name of a revision.
pub const REVISION: &str = "serving.knative.dev/revision";
/// What a Service (core) of a revision is for: `Private` ones select its pods.
pub const SERVICE_TYPE: &str = "networking.internal.knative.dev/serviceType";
/// Identity of a revision.
pub const REVISION_UID: &str = "serving.knative.dev/revisionUID";
/// Name of a Route, on what is made for its names.
pub const ROUTE: &str = "serving.knative.dev/route";
/// Routes that lead to a revision or Configuration, with commas.
pub const ROUTES: &str = "serving.knative.dev/routes";
/// Whether Routes lead to a revision: `pending`, `active`, `reserve`.
pub const ROUTING_STATE: &str = "serving.knative.dev/routingState";
/// When that changed last.
pub const ROUTING_STATE_MODIFIED: &str = "serving.knative.dev/routingStateModified";
/// Who made an object.
pub const CREATOR: &str = "serving.knative.dev/creator";
/// Who changed it last.
pub const UPDATER: &str = "serving.knative.dev/lastModifier";
/// How long traffic takes to move, in both spellings.
pub const ROLLOUT_DURATION: [&str; 2] =
    ["serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration"];
/// Begins what is said of canaries.
pub const CANARY: &str = "tidegate.dev/rollout";
/// What `kubectl apply` notes for itself.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A map of strings at a pointer; empty where there is none.
pub fn map_at(object: &Value, pointer: &str) -> Map<String, Value> {
    object.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Labels.
pub fn labels(object: &Value) -> Map<String, Value> {
    map_at(object, "/metadata/labels")
}

/// Annotations but the given ones.
pub fn annotations_without(object: &Value, without: &[&str]) -> Map<String, Value> {
    let mut map = map_at(object, "/metadata/annotations");
    map.retain(|key, _| !without.contains(&key.as_str()));
    map
}

/// Adds entries that are not empty.
pub fn with<'a>(
    mut map: Map<String, Value>,
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Map<String, Value> {
    let entries = entries.into_iter().filter(|(_, value)| !value.is_empty());
    map.extend(entries.map(|(key, value)| (key.to_owned(), json!(value))));
    map
}

/// A list with commas and one more in it, in order.
pub fn listed(list: &str, more: &str) -> String {
    let names = list.split(',').filter(|name| !name.is_empty()).chain([more]);
    names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

/// An object that belongs to another one.
pub fn owned(
    kind: Kind,
    name: &ObjectName,
    owner: &Value,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    spec: Value,
) -> Value {
    let mut metadata = json!({
        "namespace": name.namespace,
        "name": name.name,
        "labels": labels,
        "annotations": annotations,
        "ownerReferences": [owner.owner_reference()],
    });
    if annotations_are_empty(&metadata)
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.remove("annotations");
    }
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind(),
        "metadata": metadata,
        "spec": spec,
    })
}

fn annotations_are_empty(metadata: &Value) -> bool {
    metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_each_name_once() {
        assert_eq!(listed("", "a"), "a");
        assert_eq!(listed("b,a", "a"), "a,b");
        assert_eq!(listed("a,c", "b"), "a,b,c");
    }
}
