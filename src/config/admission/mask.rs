//! Which fields may be set: Knative allows a part of what Kubernetes has.

use serde_json::Value as Json;

use super::findings::{Findings, Path};
use super::schema::{self, Type};
use crate::config::settings::Features;

/// Whether a field counts as set: a number or text that is not its zero value; anything that can
/// be absent, if it is there.
pub(super) fn is_set(value: &Json, ty: &Type) -> bool {
    match (ty, value) {
        (_, Json::Null) => false,
        (Type::Object(name), Json::Object(map)) => {
            let object = schema::object(name);
            map.iter()
                .any(|(key, value)| object.field(key).is_some_and(|field| is_set(value, &field.ty)))
        }
        (Type::Optional(_) | Type::List(_) | Type::Map(_) | Type::Any, _) => true,
        (_, Json::Bool(value)) => *value,
        (_, Json::Number(number)) => number.as_f64() != Some(0.0),
        (_, Json::String(text)) => !text.is_empty(),
        _ => true,
    }
}

/// The fields of a kind that are set in an object.
pub(super) fn set_fields(object: &Json, kind: &str) -> Vec<&'static str> {
    let mut fields: Vec<&'static str> = schema::object(kind)
        .fields
        .iter()
        .filter(|field| object.get(&field.name).is_some_and(|value| is_set(value, &field.ty)))
        .map(|field| field.name.as_str())
        .collect();
    fields.sort_unstable();
    fields
}

/// Reports the fields that are set and not allowed.
pub(super) fn check_fields(
    object: &Json,
    kind: &str,
    allowed: impl Fn(&str) -> bool,
    at: &Path,
    out: &mut Findings,
) {
    for name in set_fields(object, kind).into_iter().filter(|name| !allowed(name)) {
        let fix = match feature_of(name).filter(|_| kind == "PodSpec" || kind == "VolumeSource") {
            Some(feature) => {
                format!(
                    "remove {name}, or set {feature}: \"enabled\" in the ConfigMap config-features"
                )
            }
            None => format!("remove {name}"),
        };
        out.disallowed(vec![at.field(name)], fix);
    }
}

/// The feature that allows a field of a pod or a kind of volume.
fn feature_of(field: &str) -> Option<&'static str> {
    POD_FEATURES
        .iter()
        .chain(&VOLUME_FEATURES)
        .find(|(name, _)| *name == field)
        .map(|(_, feature)| *feature)
}

const POD_FEATURES: [(&str, &str); 17] = [
    ("affinity", "kubernetes.podspec-affinity"),
    ("topologySpreadConstraints", "kubernetes.podspec-topologyspreadconstraints"),
    ("hostAliases", "kubernetes.podspec-hostaliases"),
    ("nodeSelector", "kubernetes.podspec-nodeselector"),
    ("runtimeClassName", "kubernetes.podspec-runtimeclassname"),
    ("tolerations", "kubernetes.podspec-tolerations"),
    ("securityContext", "kubernetes.podspec-securitycontext"),
    ("shareProcessNamespace", "kubernetes.podspec-shareprocessnamespace"),
    ("priorityClassName", "kubernetes.podspec-priorityclassname"),
    ("schedulerName", "kubernetes.podspec-schedulername"),
    ("initContainers", "kubernetes.podspec-init-containers"),
    ("dnsPolicy", "kubernetes.podspec-dnspolicy"),
    ("dnsConfig", "kubernetes.podspec-dnsconfig"),
    ("hostIPC", "kubernetes.podspec-hostipc"),
    ("hostPID", "kubernetes.podspec-hostpid"),
    ("hostNetwork", "kubernetes.podspec-hostnetwork"),
    ("fieldRef", "kubernetes.podspec-fieldref"),
];

/// Kinds of volumes that need a feature, in the order in which Knative lists them.
pub(super) const VOLUME_FEATURES: [(&str, &str); 6] = [
    ("emptyDir", "kubernetes.podspec-volumes-emptydir"),
    ("persistentVolumeClaim", "kubernetes.podspec-persistent-volume-claim"),
    ("hostPath", "kubernetes.podspec-volumes-hostpath"),
    ("csi", "kubernetes.podspec-volumes-csi"),
    ("ephemeral", "kubernetes.podspec-volumes-ephemeral"),
    ("image", "kubernetes.podspec-volumes-image"),
];

/// Whether a pod's field may be set.
pub(super) fn pod_field(name: &str, spec: &Json, features: &Features) -> bool {
    match name {
        "serviceAccountName" | "containers" | "volumes" | "imagePullSecrets"
        | "enableServiceLinks" => true,
        "automountServiceAccountToken" => spec.get(name) == Some(&Json::Bool(false)),
        "securityContext" if features.is_allowed("secure-pod-defaults") => true,
        "fieldRef" => false,
        _ => POD_FEATURES
            .iter()
            .find(|(field, _)| *field == name)
            .is_some_and(|(_, feature)| features.is_allowed(feature)),
    }
}

/// Whether a container's field may be set.
pub(super) fn container_field(name: &str) -> bool {
    matches!(
        name,
        "name"
            | "args"
            | "command"
            | "env"
            | "workingDir"
            | "envFrom"
            | "image"
            | "imagePullPolicy"
            | "livenessProbe"
            | "ports"
            | "readinessProbe"
            | "resources"
            | "securityContext"
            | "startupProbe"
            | "terminationMessagePath"
            | "terminationMessagePolicy"
            | "volumeMounts"
    )
}

/// Whether a kind of volume may be used.
pub(super) fn volume_source(name: &str, features: &Features) -> bool {
    matches!(name, "secret" | "configMap" | "projected")
        || VOLUME_FEATURES
            .iter()
            .find(|(source, _)| *source == name)
            .is_some_and(|(_, feature)| features.is_allowed(feature))
}
