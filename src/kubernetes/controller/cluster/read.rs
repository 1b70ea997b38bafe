//! What is read of objects when they are taken in: whose they are, and whom they mention.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::super::meta::{CONFIGURATION, REVISION, ROUTE, ROUTES, SERVICE};
use super::super::revision::target;
use crate::config::world::dependencies_of;
use crate::model::ObjectName;

pub(super) fn nothing(_: &DynamicObject) -> BTreeSet<ObjectName> {
    BTreeSet::new()
}

/// The Routes that lead to an object, as it says itself.
pub(super) fn routes(object: &DynamicObject) -> BTreeSet<ObjectName> {
    let list = object.metadata.annotations.as_ref().and_then(|map| map.get(ROUTES));
    let names = list.into_iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
    in_its_namespace(object, names)
}

/// The Routes that lead to a revision, as it says itself, and what stands for the services that it
/// depends on.
pub(super) fn routes_and_needed(object: &DynamicObject) -> BTreeSet<ObjectName> {
    let mut names = routes(object);
    let annotations = serde_json::json!({"metadata": {"annotations": object.metadata.annotations}});
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let needed = dependencies_of(&annotations, &namespace);
    names.extend(needed.iter().map(|needed| needed_of(&needed.service)));
    names
}

/// What stands for a service, among names, where something depends on it.
pub(super) fn needed_of(service: &ObjectName) -> ObjectName {
    ObjectName::new(Arc::clone(&service.namespace), format!("={}", service.name))
}

/// Whether a name stands for a service that something depends on.
pub(super) fn is_needed(name: &ObjectName) -> bool {
    name.name.starts_with('=')
}

/// What the traffic of a Route names, as it is asked for and as it is.
pub(super) fn targets(object: &DynamicObject) -> BTreeSet<ObjectName> {
    let lists = ["/spec/traffic", "/status/traffic"].map(|at| object.data.pointer(at));
    let entries = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
    let names = entries.flat_map(|entry| {
        ["configurationName", "revisionName"].map(|key| entry.get(key).and_then(Value::as_str))
    });
    in_its_namespace(object, names.flatten())
}

/// The host of a DomainMapping, and what it leads to.
pub(super) fn host_and_target(object: &DynamicObject) -> BTreeSet<ObjectName> {
    let target = object.data.pointer("/spec/ref/name").and_then(Value::as_str);
    let mut names = in_its_namespace(object, target);
    names.extend(object.metadata.name.as_deref().map(host_of));
    names
}

/// What stands for a host among names: it belongs to no namespace.
pub(in super::super) fn host_of(name: &str) -> ObjectName {
    ObjectName::new("", name)
}

fn in_its_namespace<'a>(
    object: &DynamicObject,
    names: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<ObjectName> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    names.into_iter().map(|name| ObjectName::new(namespace, name)).collect()
}

pub(super) fn nobody(_: &DynamicObject) -> Option<String> {
    None
}

pub(super) fn service(object: &DynamicObject) -> Option<String> {
    label(object, SERVICE)
}

pub(super) fn configuration(object: &DynamicObject) -> Option<String> {
    label(object, CONFIGURATION)
}

pub(super) fn revision(object: &DynamicObject) -> Option<String> {
    label(object, REVISION)
}

pub(super) fn route(object: &DynamicObject) -> Option<String> {
    label(object, ROUTE)
}

/// The Deployment that a HorizontalPodAutoscaler scales.
pub(super) fn scaled(object: &DynamicObject) -> Option<String> {
    target(&object.data).map(str::to_owned)
}

fn label(object: &DynamicObject, key: &str) -> Option<String> {
    object.metadata.labels.as_ref()?.get(key).cloned()
}

/// Leaves the name: that it is there is all that matters.
pub(super) fn name_alone(object: &mut Value) {
    *object = json!({"metadata": {"name": object.pointer("/metadata/name")}});
}

/// Leaves the state of a pod: what it is made of, its Deployment says.
pub(super) fn state_of_pod(pod: &mut Value) {
    let of = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or_default();
    *pod = json!({
        "metadata": {
            "namespace": of("/metadata/namespace"),
            "name": of("/metadata/name"),
            "uid": of("/metadata/uid"),
            "labels": of("/metadata/labels"),
            "creationTimestamp": of("/metadata/creationTimestamp"),
        },
        "status": {
            "phase": of("/status/phase"),
            "conditions": of("/status/conditions"),
            "containerStatuses": of("/status/containerStatuses"),
            "initContainerStatuses": of("/status/initContainerStatuses"),
        },
    });
}
