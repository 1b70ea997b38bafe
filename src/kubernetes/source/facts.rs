//! What is read of slices, pods and Deployments.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::kubernetes::SCALER_MANAGER;
use crate::kubernetes::controller::meta::REVISION;
use crate::model::{EndpointId, Problem, Reason};

pub(in crate::kubernetes) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The revision that an object is labelled with.
pub(in crate::kubernetes) fn revision(object: &Value) -> Option<&str> {
    object.pointer("/metadata/labels")?.get(REVISION)?.as_str().filter(|name| !name.is_empty())
}

/// An endpoint as a slice has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kubernetes) struct SliceEndpoint {
    pub(in crate::kubernetes) id: EndpointId,
    pub(in crate::kubernetes) address: IpAddr,
    pub(in crate::kubernetes) is_ready: bool,
    pub(in crate::kubernetes) is_terminating: bool,
}

/// What matters of an EndpointSlice: some of the pods behind the private Service of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kubernetes) struct Slice {
    pub(in crate::kubernetes) revision: Arc<str>,
    pub(in crate::kubernetes) endpoints: Vec<SliceEndpoint>,
}

impl Slice {
    /// Reads a slice; none if it is not one of a revision's pods. What has no word on `ready` is
    /// ready, and on `terminating` is not (`discovery/v1/types.go`).
    pub(in crate::kubernetes) fn read(object: &Value) -> Option<Self> {
        let revision = revision(object)?;
        let service = object.pointer("/metadata/labels")?.get("kubernetes.io/service-name")?;
        let service = service.as_str()?;
        // The Service of the revision's name leads to tidegate itself.
        if service == revision || !service.ends_with("-private") {
            return None;
        }
        let endpoints = list(object, "/endpoints").iter().filter_map(endpoint).collect();
        Some(Self { revision: revision.into(), endpoints })
    }
}

fn endpoint(endpoint: &Value) -> Option<SliceEndpoint> {
    // Consumers take the first address (`discovery/v1/types.go`).
    let address = endpoint.pointer("/addresses/0")?.as_str()?;
    let is = |name: &str| endpoint.get("conditions").and_then(|c| c.get(name)?.as_bool());
    let is_terminating = is("terminating").unwrap_or(false);
    Some(SliceEndpoint {
        id: EndpointId::new(text(endpoint, "/targetRef/uid").unwrap_or(address)),
        address: address.parse().ok()?,
        is_ready: is("ready").unwrap_or(true) && !is_terminating,
        is_terminating,
    })
}

/// What matters of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kubernetes) struct PodFacts {
    pub(in crate::kubernetes) revision: Arc<str>,
    pub(in crate::kubernetes) id: EndpointId,
    /// None before it has one. With several: its main one first.
    pub(in crate::kubernetes) addresses: Vec<IpAddr>,
    pub(in crate::kubernetes) is_ready: bool,
    pub(in crate::kubernetes) is_terminating: bool,
    /// It has run to its end and will not be started again.
    pub(in crate::kubernetes) is_over: bool,
    /// Whether readiness is its containers' alone.
    pub(in crate::kubernetes) is_gated: bool,
    /// Why it cannot be started for now.
    pub(in crate::kubernetes) problem: Option<Problem>,
}

impl PodFacts {
    /// Reads a pod; none if it is no revision's.
    pub(in crate::kubernetes) fn read(object: &Value) -> Option<Self> {
        Self::of(revision(object)?, object)
    }

    /// Reads a pod of this revision.
    pub(in crate::kubernetes) fn of(revision: &str, object: &Value) -> Option<Self> {
        let ips = list(object, "/status/podIPs").iter().filter_map(|ip| text(ip, "/ip"));
        let mut addresses: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
        if addresses.is_empty() {
            addresses
                .extend(text(object, "/status/podIP").and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        let is_terminating = object.pointer("/metadata/deletionTimestamp").is_some();
        let phase = text(object, "/status/phase").unwrap_or_default();
        let ready = condition(object, "Ready").and_then(|ready| text(ready, "/status"));
        Some(Self {
            revision: revision.into(),
            id: EndpointId::new(text(object, "/metadata/uid")?),
            addresses,
            is_ready: ready == Some("True") && !is_terminating,
            is_terminating,
            is_over: matches!(phase, "Succeeded" | "Failed"),
            is_gated: !list(object, "/spec/readinessGates").is_empty(),
            problem: problem(object).filter(|_| !is_terminating),
        })
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = list(object, "/status/conditions");
    conditions.iter().find(|condition| text(condition, "/type") == Some(kind))
}

/// Reasons of a waiting container that do not go away by waiting.
const STUCK: [&str; 8] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Why a pod cannot be started. Its Deployment does not tell (`syncRolloutStatus` skips what was
/// complete once). That no node takes it is no such reason: the scheduler says so at once, and a
/// cluster autoscaler needs minutes to add one.
fn problem(object: &Value) -> Option<Problem> {
    let init = list(object, "/status/initContainerStatuses");
    let containers = init.iter().chain(list(object, "/status/containerStatuses"));
    for status in containers {
        let Some(waiting) = status.pointer("/state/waiting") else { continue };
        let reason = text(waiting, "/reason").unwrap_or_default();
        if !STUCK.contains(&reason) {
            continue;
        }
        let name = text(status, "/name").unwrap_or("a container");
        let message = text(waiting, "/message").unwrap_or("no more is known");
        let mut said = format!("container {name}: {reason}: {message}");
        if let Some(ended) = status.pointer("/lastState/terminated") {
            let code = ended.pointer("/exitCode").and_then(Value::as_i64).unwrap_or(-1);
            said.push_str(&format!("; it ended with exit code {code}"));
        }
        let token = match reason {
            "CreateContainerConfigError" => Reason::MissingConfig,
            _ => Reason::StartFailed,
        };
        return Some(Problem::new(token, said));
    }
    None
}

/// What matters of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kubernetes) struct DeploymentFacts {
    pub(in crate::kubernetes) uid: Arc<str>,
    /// Replicas asked for.
    pub(in crate::kubernetes) replicas: u32,
    /// Whether the scaler wrote its count once.
    pub(in crate::kubernetes) is_ours: bool,
    /// Why pods cannot even be made, such as a quota.
    pub(in crate::kubernetes) problem: Option<Problem>,
}

impl DeploymentFacts {
    pub(in crate::kubernetes) fn read(object: &Value) -> Self {
        let replicas = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        let managers = list(object, "/metadata/managedFields");
        let failure = condition(object, "ReplicaFailure")
            .filter(|failure| text(failure, "/status") == Some("True"));
        Self {
            uid: text(object, "/metadata/uid").unwrap_or_default().into(),
            replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
            is_ours: managers.iter().any(is_scalers),
            problem: failure.map(|failure| {
                let message = text(failure, "/message").unwrap_or("pods cannot be created");
                Problem::new(Reason::StartFailed, message)
            }),
        }
    }
}

/// Whether an entry of `managedFields` is the scaler's count, which it writes to `/scale` alone.
/// Which fields it has is not asked: zero is left out of them.
fn is_scalers(entry: &Value) -> bool {
    text(entry, "/manager") == Some(SCALER_MANAGER) && text(entry, "/subresource") == Some("scale")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn slice(service: &str, endpoints: &Value) -> Option<Slice> {
        Slice::read(&json!({
            "metadata": {"labels": {
                "serving.knative.dev/revision": "a-1", "kubernetes.io/service-name": service}},
            "endpoints": endpoints,
        }))
    }

    #[test]
    fn what_is_not_said_of_an_endpoint() {
        let endpoint = |conditions: Value| {
            let endpoint = json!([{"addresses": ["10.0.0.1"], "conditions": conditions,
                "targetRef": {"uid": "u"}}]);
            let endpoint = slice("a-1-private", &endpoint).unwrap().endpoints.remove(0);
            (endpoint.is_ready, endpoint.is_terminating)
        };
        for (conditions, expected) in [
            (json!(null), (true, false)),
            (json!({}), (true, false)),
            (json!({"ready": null}), (true, false)),
            (json!({"ready": false}), (false, false)),
            (json!({"ready": false, "serving": true, "terminating": true}), (false, true)),
            // With `publishNotReadyAddresses`.
            (json!({"ready": true, "terminating": true}), (false, true)),
        ] {
            assert_eq!(endpoint(conditions.clone()), expected, "{conditions}");
        }
        let without_pod = json!([{"addresses": ["fd00::1"]}]);
        let found = slice("a-1-private", &without_pod).unwrap().endpoints.remove(0);
        assert_eq!(found.id, EndpointId::new("fd00::1"));
        assert!(slice("a-1", &json!([])).is_none(), "it leads to tidegate");
    }

    fn pod(status: &Value) -> PodFacts {
        PodFacts::read(&json!({
            "metadata": {"uid": "u", "labels": {"serving.knative.dev/revision": "a-1"}},
            "status": status,
        }))
        .unwrap()
    }

    fn why(status: &Value, expected: Expect) {
        let problem = pod(status).problem;
        let text = problem.map(|p| format!("{}: {}", p.reason, p.message)).unwrap_or_default();
        expected.assert_eq(&text);
    }

    #[test]
    fn why_a_pod_does_not_start() {
        let waiting = |reason: &str, message: &str| {
            json!({"containerStatuses": [{"name": "c",
            "state": {"waiting": {"reason": reason, "message": message}}}]})
        };
        why(&waiting("ContainerCreating", ""), expect![""]);
        why(&waiting("PodInitializing", ""), expect![""]);
        why(
            &waiting("ErrImagePull", "not found"),
            expect!["start_failed: container c: ErrImagePull: not found"],
        );
        why(
            &waiting("CreateContainerConfigError", "secret \"s\" not found"),
            expect![[
                r#"missing_config: container c: CreateContainerConfigError: secret "s" not found"#
            ]],
        );
        why(
            &json!({"containerStatuses": [{"name": "c",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                "lastState": {"terminated": {"exitCode": 3}}}]}),
            expect![
                "start_failed: container c: CrashLoopBackOff: back-off 10s; it ended with exit code 3"
            ],
        );
        // A node may come.
        why(
            &json!({"conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/1 nodes are available"}]}),
            expect![""],
        );
    }

    #[test]
    fn a_deployment() {
        let facts = DeploymentFacts::read(&json!({
            "metadata": {"uid": "d", "managedFields": [
                {"manager": "tidegate-controller"},
                {"manager": "tidegate-scaler", "subresource": "scale"}]},
            "spec": {"replicas": 0},
            "status": {"conditions": [{"type": "ReplicaFailure", "status": "True",
                "reason": "FailedCreate", "message": "exceeded quota: q"}]},
        }));
        assert_eq!((facts.replicas, facts.is_ours), (0, true));
        assert_eq!(&*facts.problem.unwrap().message, "exceeded quota: q");
        let other = DeploymentFacts::read(&json!({"metadata": {"managedFields": [
            {"manager": "tidegate-scaler"}, {"manager": "kubectl", "subresource": "scale"}]}}));
        assert!(!other.is_ours, "not its count");
        let bare = DeploymentFacts::read(&json!({"spec": {}}));
        assert_eq!((bare.replicas, bare.is_ours, bare.problem), (1, false, None));
    }
}
