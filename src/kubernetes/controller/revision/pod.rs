//! The pods of a revision: the runtime contract, over what the manifest says
//! (`pkg/reconciler/revision/resources/deploy.go`). There is no sidecar: probes are kubelet's, and
//! nothing is mounted that the manifest does not mount.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::meta::{CONFIGURATION, REVISION, SERVICE};
use super::super::object::Parts;
use crate::config::settings::DeploymentConfig;
use crate::kubernetes::prestop::{HOLD, path};
use crate::model::RevisionId;

/// Port of a container that names none.
const DEFAULT_PORT: i64 = 8080;
/// Name of the user's port.
pub(super) const PORT_NAME: &str = "user-port";
/// What a pod gets after its revision's timeout, to end: seconds.
const GRACE_S: i64 = 30;
/// Seconds between kubelet's readiness probes where the manifest leaves it to the platform. The
/// proxies probe a new replica themselves, far more often.
const PERIOD_S: i64 = 1;

/// Fields of a revision's spec that are not a pod's.
const NOT_OF_PODS: [&str; 4] =
    ["containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"];

/// The container that serves: the only one, or the one with a port.
pub(super) fn serving(revision: &Value) -> Option<&Value> {
    let containers = revision.list("/spec/containers");
    match containers {
        [only] => Some(only),
        several => several.iter().find(|container| !container.list("/ports").is_empty()),
    }
}

/// Whether the container's port is HTTP/2 without TLS.
pub(super) fn is_h2c(revision: &Value) -> bool {
    serving(revision).is_some_and(|container| container.text("/ports/0/name") == "h2c")
}

/// A pod's spec.
pub(super) fn pod_spec(revision: &Value, config: &DeploymentConfig) -> Value {
    let mut spec = revision.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    let timeout = revision.int("/spec/timeoutSeconds").unwrap_or_default();
    for key in NOT_OF_PODS {
        spec.remove(key);
    }
    let all = revision.list("/spec/containers");
    let hold = hold(revision, timeout, config);
    let containers = all.iter().map(|container| {
        let serves = all.len() == 1 || !container.list("/ports").is_empty();
        container_of(container, revision, serves, &hold)
    });
    spec.insert("containers".to_owned(), containers.collect());
    if let Some(inits) = spec.get_mut("initContainers").and_then(Value::as_array_mut) {
        inits.iter_mut().filter_map(Value::as_object_mut).for_each(|init| only_once(init, "env"));
    }
    only_once(&mut spec, "imagePullSecrets");
    spec.insert("terminationGracePeriodSeconds".to_owned(), json!(timeout + GRACE_S));
    if config.spreads_over_nodes && spec.get("affinity").is_none_or(Value::is_null) {
        spec.insert("affinity".to_owned(), apart(revision.text("/metadata/name")));
    }
    spec.retain(|_, value| !value.is_null());
    Value::Object(spec)
}

fn container_of(container: &Value, revision: &Value, serves: bool, hold: &Value) -> Value {
    let mut made = container.as_object().cloned().unwrap_or_default();
    let mut env = container.list("/env").to_vec();
    let port = port_of(container);
    if serves {
        let port = json!([{"name": PORT_NAME, "containerPort": port, "protocol": "TCP"}]);
        made.insert("ports".to_owned(), port);
    }
    if serves {
        env.push(json!({"name": "PORT", "value": port.to_string()}));
    }
    for (name, value) in [
        ("K_REVISION", revision.text("/metadata/name")),
        ("K_CONFIGURATION", revision.label(CONFIGURATION)),
        ("K_SERVICE", revision.label(SERVICE)),
    ] {
        env.push(json!({"name": name, "value": value}));
    }
    made.insert("env".to_owned(), Value::Array(env));
    only_once(&mut made, "env");
    made.remove("stdin");
    made.remove("tty");
    made.insert("lifecycle".to_owned(), json!({"preStop": hold}));
    if container.text("/terminationMessagePolicy").is_empty() {
        made.insert("terminationMessagePolicy".to_owned(), json!("FallbackToLogsOnError"));
    }
    for key in ["readinessProbe", "livenessProbe", "startupProbe"] {
        let Some(probe) = made.remove(key).filter(|probe| !probe.is_null()) else { continue };
        made.insert(key.to_owned(), probe_of(probe, serves.then_some(port), key));
    }
    made.retain(|_, value| !value.is_null());
    Value::Object(made)
}

/// What keeps a pod before it is told to end: tidegate, until no request is left, where kubelets can
/// ask it; else some time, in which no proxy sends to it any more and most requests end.
fn hold(revision: &Value, timeout: i64, config: &DeploymentConfig) -> Value {
    let timeout = Duration::from_secs(timeout.max(1).unsigned_abs());
    let Some(address) = config.prestop_address else {
        return json!({"sleep": {"seconds": HOLD.min(timeout).as_secs()}});
    };
    let [namespace, name] = ["namespace", "name"].map(|key| &revision["metadata"][key]);
    let [namespace, name] = [namespace, name].map(|value| value.as_str().unwrap_or_default());
    let path = path(&RevisionId::new(namespace, name), timeout);
    json!({"httpGet": {"host": address.ip(), "port": address.port(), "path": path, "scheme": "HTTP"}})
}

fn port_of(container: &Value) -> i64 {
    let given = container.int("/ports/0/containerPort");
    given.filter(|port| *port != 0).unwrap_or(DEFAULT_PORT)
}

/// A probe as kubelet takes it. `port` is the user's, for probes that name none.
fn probe_of(mut probe: Value, port: Option<i64>, key: &str) -> Value {
    for action in ["httpGet", "tcpSocket", "grpc"] {
        let Some(action) = probe.get_mut(action).and_then(Value::as_object_mut) else { continue };
        let names_none = match action.get("port") {
            None | Some(Value::Null) => true,
            Some(port) => port.as_i64() == Some(0) || port.as_str() == Some(""),
        };
        if names_none && let Some(port) = port {
            action.insert("port".to_owned(), json!(port));
        }
        // Knative's sidecar takes `http` as well.
        if let Some(Value::String(scheme)) = action.get_mut("scheme") {
            scheme.make_ascii_uppercase();
        }
    }
    let Some(fields) = probe.as_object_mut() else { return probe };
    // Zero is Go's word for what is left out.
    fields.retain(|_, value| !value.is_null() && value.as_i64() != Some(0));
    if key == "readinessProbe" {
        // Left out, Knative's sidecar probes many times a second.
        fields.entry("periodSeconds").or_insert_with(|| json!(PERIOD_S));
    }
    probe
}

/// Leaves the last of each name, where Kubernetes would take it: apply refuses lists with two.
fn only_once(map: &mut Map<String, Value>, key: &str) {
    let Some(list) = map.get_mut(key).and_then(Value::as_array_mut) else { return };
    let names: Vec<String> = list.iter().map(|item| item.text("/name").to_owned()).collect();
    let mut index = 0;
    list.retain(|_| {
        index += 1;
        !names.get(index..).unwrap_or_default().contains(&names[index - 1])
    });
}

fn apart(revision: &str) -> Value {
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {REVISION: revision}},
        },
    }]}})
}
