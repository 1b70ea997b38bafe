//! What is scaled behind an adopted Service: a Deployment or StatefulSet of somebody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::service::{AdoptedPort, AdoptedService, Refusal, TargetPort};
use crate::config::world::admitted::texts;
use crate::config::world::env::{list, text};
use crate::config::world::probes::probes;
use crate::model::{ObjectReference, Probes};

/// What matters of a Deployment or StatefulSet.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadObject {
    /// Kind and name.
    pub reference: ObjectReference,
    /// Labels of its pods.
    labels: BTreeMap<String, String>,
    /// Containers of its pods: ports and probes.
    containers: Vec<Value>,
}

impl WorkloadObject {
    /// Reads one; `kind` is one of group `apps`.
    pub fn read(kind: &str, object: &Value) -> Self {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let spec = object.pointer("/spec/template/spec").unwrap_or(&Value::Null);
        let part = |container: &Value| {
            let fields = ["ports", "readinessProbe", "startupProbe"]
                .map(|field| (field.to_owned(), container.get(field).cloned().unwrap_or_default()));
            Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
        };
        Self {
            reference: ObjectReference {
                api_version: "apps/v1".into(),
                kind: kind.into(),
                name: name.into(),
            },
            labels: texts(object.pointer("/spec/template/metadata/labels")),
            containers: list(spec, "containers").iter().map(part).collect(),
        }
    }

    fn is_behind(&self, service: &AdoptedService) -> bool {
        service.selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// `kind/name`, as kubectl takes it.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.reference.kind.to_lowercase(), self.reference.name)
    }

    /// The number of a Service's port in the pods; none if no container has a port of its name.
    pub fn target(&self, port: &AdoptedPort) -> Option<u16> {
        match &port.target {
            None => Some(port.number),
            Some(TargetPort::Number(number)) => Some(*number),
            Some(TargetPort::Name(name)) => {
                let mut ports = self.containers.iter().flat_map(|c| list(c, "ports"));
                let port = ports.find(|port| text(port, "name") == Some(name))?;
                port.get("containerPort")?.as_u64().and_then(|n| u16::try_from(n).ok())
            }
        }
    }

    /// The probes of the container that has a port: a probe that names this port means it, also
    /// where the container has others, and before it.
    pub(super) fn probes(&self, number: u16) -> Probes {
        let is =
            |port: &Value| port.get("containerPort").and_then(Value::as_u64) == Some(number.into());
        let has = |container: &&Value| list(container, "ports").iter().any(is);
        let container = self.containers.iter().find(has).or_else(|| self.containers.first());
        let mut container = container.cloned().unwrap_or_else(|| json!({}));
        let mut own = json!({"containerPort": number});
        let ports = list(&container, "ports");
        if let Some(port) = ports.iter().find(|port| is(port)) {
            own.clone_from(port);
        }
        for probe in ["readinessProbe", "startupProbe"] {
            named_port(&mut container, probe);
        }
        container["ports"] = json!([own]);
        probes(&container)
    }
}

/// A probe's port by its number, where a container's port has the name.
fn named_port(container: &mut Value, probe: &str) {
    let ports = list(container, "ports").to_vec();
    let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) else { return };
    for action in ["httpGet", "tcpSocket"] {
        let Some(port) = probe.get_mut(action).and_then(|action| action.get_mut("port")) else {
            continue;
        };
        let named = ports.iter().find(|known| text(known, "name") == port.as_str());
        if let Some(number) = named.and_then(|known| known.get("containerPort")) {
            *port = number.clone();
        }
    }
}

/// The one of all workloads of its namespace that is behind a Service.
///
/// # Errors
/// None is, or it is not clear which.
pub fn workload_of(
    service: &AdoptedService,
    all: &[Arc<WorkloadObject>],
) -> Result<Arc<WorkloadObject>, Refusal> {
    let mut behind: Vec<&Arc<WorkloadObject>> =
        all.iter().filter(|workload| workload.is_behind(service)).collect();
    behind.sort_by(|a, b| a.reference.cmp(&b.reference));
    if let Some(named) = &service.workload {
        let found = behind.iter().find(|workload| *workload.shown() == **named);
        return found.map(|found| Arc::clone(found)).ok_or_else(|| {
            let message = format!(
                "tidegate.dev/workload is {named:?}: write deployment/NAME or statefulset/NAME of \
                 one whose pods the Service selects"
            );
            Refusal::new("NoWorkload", message)
        });
    }
    match behind.as_slice() {
        [one] => Ok(Arc::clone(one)),
        [] => {
            let message = "no Deployment or StatefulSet has pods with the labels that the Service \
                           selects";
            Err(Refusal::new("NoWorkload", message))
        }
        several => {
            let names: Vec<String> = several.iter().map(|workload| workload.shown()).collect();
            let message = format!(
                "{} have pods that the Service selects; say with tidegate.dev/workload which one \
                 is scaled",
                names.join(", ")
            );
            Err(Refusal::new("SeveralWorkloads", message))
        }
    }
}
