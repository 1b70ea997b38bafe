//! What is made of a revision: its Deployment, the Service (core) that its endpoints are found by,
//! and its PodAutoscaler (`pkg/reconciler/revision/resources`).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::meta::{
    REVISION, REVISION_UID, ROUTE, ROUTES, ROUTING_STATE, ROUTING_STATE_MODIFIED, SERVICE_TYPE,
    annotations_without, labels, owned, with,
};
use super::super::object::Parts;
use super::super::settings::Settings;
use super::pod::{PORT_NAME, is_h2c, pod_spec, serving};
use crate::config::admission::Annotations;
use crate::config::retention::KEEP;
use crate::config::scaling;
use crate::config::settings::AutoscalerConfig;
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::names;
use crate::model::{ContainerConcurrency, ObjectName, ScalingSpec};

/// Labels that are not handed down.
const NOT_LABELS: [&str; 2] = [ROUTE, ROUTING_STATE];
/// Annotations that are not handed down.
const NOT_ANNOTATIONS: [&str; 4] =
    ["serving.knative.dev/lastPinned", KEEP, ROUTING_STATE_MODIFIED, ROUTES];
/// Group of the annotations that are for the autoscaler alone.
const AUTOSCALING: &str = "autoscaling.knative.dev";
/// Label with the application's name.
const APP: &str = "app";

/// Namespace and name of something of a revision.
pub(super) fn name_of(revision: &Value, name: impl Fn(&str) -> String) -> ObjectName {
    let revision = revision.name();
    ObjectName::new(revision.namespace, name(&revision.name))
}

/// Annotations of a revision, as config reads them.
fn annotations(revision: &Value) -> Annotations {
    let map = annotations_without(revision, &[]);
    map.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect()
}

/// The bounds that a revision's annotations set. Nothing keeps one up that nobody reaches.
pub(super) fn bounds(revision: &Value, config: &AutoscalerConfig, reachable: bool) -> ScalingSpec {
    let unlimited = ContainerConcurrency::Unlimited;
    scaling::resolve(config, &annotations(revision), unlimited, reachable, None)
}

/// Replicas of a new Deployment: the initial scale, within the bounds.
pub(super) fn initial_replicas(revision: &Value, config: &AutoscalerConfig) -> u32 {
    let bounds = bounds(revision, config, reachability(revision, false) != UNREACHABLE);
    let least = bounds.initial_scale.max(bounds.min_scale);
    bounds.max_scale.map_or(least, |max| least.min(max))
}

/// Labels of everything that is made of a revision.
fn made_labels(revision: &Value) -> Map<String, Value> {
    let mut map = labels(revision);
    map.retain(|key, _| !NOT_LABELS.contains(&key.as_str()));
    let name = revision.text("/metadata/name");
    let mut map = with(map, [(REVISION, name), (REVISION_UID, revision.text("/metadata/uid"))]);
    map.entry(APP).or_insert_with(|| json!(name));
    map
}

/// Annotations for what is no autoscaler.
fn made_annotations(revision: &Value) -> Map<String, Value> {
    let mut map = annotations_without(revision, &NOT_ANNOTATIONS);
    map.retain(|key, _| !key.starts_with(AUTOSCALING));
    map
}

/// A revision's Deployment. `replicas` only for a new one: from then on the count is the scaler's.
pub(super) fn deployment(revision: &Value, settings: &Settings, replicas: Option<u32>) -> Value {
    let labels = made_labels(revision);
    let mut of_pods = made_annotations(revision);
    if let Some(serving) = serving(revision) {
        let name = serving.text("/name");
        of_pods = with(of_pods, [("kubectl.kubernetes.io/default-container", name)]);
    }
    let deadline = scaling::progress_deadline(&annotations(revision));
    let deadline = deadline.unwrap_or(settings.deployment.progress_deadline);
    let pod = pod_spec(revision, &settings.deployment);
    let mut spec = json!({
        "selector": {"matchLabels": {REVISION_UID: revision.text("/metadata/uid")}},
        "progressDeadlineSeconds": deadline.max(Duration::from_secs(1)).as_secs(),
        "revisionHistoryLimit": 0,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
        "template": {"metadata": {"labels": labels, "annotations": of_pods}, "spec": pod},
    });
    if let Some(replicas) = replicas {
        spec["replicas"] = json!(replicas);
    }
    let name = name_of(revision, names::deployment);
    owned(Kind::Deployment, &name, revision, labels, made_annotations(revision), spec)
}

/// A Deployment as a template's would be, to be tried and not kept.
pub fn sample_deployment(namespace: &str, template: &Value) -> Value {
    let mut metadata = template.get("metadata").cloned().unwrap_or_else(|| json!({}));
    metadata["namespace"] = json!(namespace);
    metadata["name"] = json!("dry-run-validation");
    // What pods are found by.
    metadata["uid"] = json!("dry-run-validation");
    let revision = json!({"metadata": metadata, "spec": template.get("spec")});
    let mut made = deployment(&revision, &Settings::default(), Some(0));
    if let Some(metadata) = made.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("name");
        metadata.insert("generateName".to_owned(), json!("dry-run-validation-"));
        // There is no revision yet that could own it.
        metadata.remove("ownerReferences");
    }
    made
}

/// The part of a Deployment by which somebody owns the count alone. With the identity of the one
/// that it is about none is made of it where that one is gone.
pub(super) fn held_count(deployment: &Value, replicas: i64) -> Value {
    let name = deployment.name();
    json!({
        "apiVersion": Kind::Deployment.api_version(),
        "kind": Kind::Deployment.kind(),
        "metadata": {
            "namespace": name.namespace, "name": name.name, "uid": deployment["metadata"]["uid"],
        },
        "spec": {"replicas": replicas},
    })
}

/// The Service whose slices are the revision's endpoints. It needs no address of its own: the
/// proxies go to the pods.
pub(super) fn private_service(revision: &Value) -> Value {
    let name = revision.text("/metadata/name");
    let labels = with(
        made_labels(revision),
        [("networking.internal.knative.dev/serverlessservice", name), (SERVICE_TYPE, "Private")],
    );
    let mut port = json!({
        "name": "http", "protocol": "TCP", "port": 80, "targetPort": PORT_NAME,
    });
    if is_h2c(revision) {
        port["name"] = json!("http2");
        port["appProtocol"] = json!("kubernetes.io/h2c");
    }
    let spec = json!({
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": {REVISION_UID: revision.text("/metadata/uid")},
        "ports": [port],
    });
    let id = name_of(revision, names::private_service);
    owned(Kind::CoreService, &id, revision, labels, made_annotations(revision), spec)
}

const REACHABLE: &str = "Reachable";
pub(super) const UNREACHABLE: &str = "Unreachable";

/// Whether somebody can reach a revision; empty = not known. One that cannot run is not reached.
pub(super) fn reachability(revision: &Value, is_broken: bool) -> &'static str {
    match revision.label(ROUTING_STATE) {
        _ if is_broken => UNREACHABLE,
        "active" => REACHABLE,
        "reserve" => UNREACHABLE,
        _ => "",
    }
}

/// A revision's PodAutoscaler.
pub(super) fn pod_autoscaler(
    revision: &Value,
    config: &AutoscalerConfig,
    is_broken: bool,
) -> Value {
    let mut annotations = annotations_without(revision, &NOT_ANNOTATIONS);
    let class = annotations
        .entry("autoscaling.knative.dev/class")
        .or_insert_with(|| json!(config.pod_autoscaler_class));
    let metric = match class.as_str() {
        Some("hpa.autoscaling.knative.dev") => "cpu",
        _ => "concurrency",
    };
    annotations.entry("autoscaling.knative.dev/metric").or_insert_with(|| json!(metric));
    let mut spec = json!({
        "containerConcurrency": revision.int("/spec/containerConcurrency").unwrap_or_default(),
        "scaleTargetRef": {
            "apiVersion": Kind::Deployment.api_version(),
            "kind": Kind::Deployment.kind(),
            "name": name_of(revision, names::deployment).name,
        },
        "protocolType": if is_h2c(revision) { "h2c" } else { "http1" },
    });
    let reachability = reachability(revision, is_broken);
    if !reachability.is_empty() {
        spec["reachability"] = json!(reachability);
    }
    let labels = made_labels(revision);
    owned(Kind::PodAutoscaler, &revision.name(), revision, labels, annotations, spec)
}
