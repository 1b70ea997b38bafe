//! What a revision says of itself: what its Deployment, its pods and its scale say
//! (`pkg/reconciler/revision/reconcile_resources.go`, `pkg/apis/serving/v1/revision_lifecycle.go`).

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::object::Parts;
use super::scaler::{Scale, ScalerStatus};
use super::{contest, digest};
use crate::kubernetes::conditions::{ConditionSet, Conditions, Status};

const SET: ConditionSet = ConditionSet::living(&[RESOURCES, HEALTHY]);
const RESOURCES: &str = "ResourcesAvailable";
const HEALTHY: &str = "ContainerHealthy";
const ACTIVE: &str = "Active";
const DEPLOYING: &str = "Deploying";
const DEADLINE: &str = "ProgressDeadlineExceeded";

/// Reasons of a waiting container that waiting does not end, or hardly.
const LASTING: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// A revision's status while it is worked on.
pub(super) struct RevisionStatus {
    fields: Map<String, Value>,
    conditions: Conditions,
}

impl RevisionStatus {
    /// The status of a revision as it is.
    pub(super) fn of(revision: &Value, now: Timestamp) -> Self {
        let status = revision.get("status").cloned().unwrap_or_default();
        let fields = status.as_object().cloned().unwrap_or_default();
        Self { fields, conditions: SET.read(&status, now) }
    }

    /// The status to write.
    pub(super) fn value(&self, revision: &Value) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("observedGeneration".to_owned(), json!(revision.generation()));
        fields.insert("conditions".to_owned(), self.conditions.to_value());
        Value::Object(fields)
    }

    /// Which image each container has: by its digest once a pod of it has said that, which it
    /// stays; until then as the manifest names it.
    pub(super) fn take_images(&mut self, revision: &Value, pods: &[Value]) {
        for (key, containers) in [
            ("containerStatuses", "/spec/containers"),
            ("initContainerStatuses", "/spec/initContainers"),
        ] {
            let former = self.fields.remove(key).unwrap_or_default();
            let known = |name: &str| {
                let of = former.list("").iter().find(|status| status.text("/name") == name)?;
                Some(of.text("/imageDigest")).filter(|image| image.contains('@')).map(str::to_owned)
            };
            let of = |container: &Value| {
                let (name, image) = (container.text("/name"), container.text("/image"));
                let digest = known(name)
                    .or_else(|| digest::of_pods(image, name, pods, &format!("/status/{key}")));
                json!({"name": name, "imageDigest": digest.unwrap_or_else(|| image.to_owned())})
            };
            let statuses: Vec<Value> = revision.list(containers).iter().map(of).collect();
            if !statuses.is_empty() {
                self.fields.insert(key.to_owned(), Value::Array(statuses));
            }
        }
    }

    /// Who else writes its count, if anybody does. That is no failure of the revision.
    pub(super) fn take_contest(&mut self, contest: Option<&str>) {
        contest::mark(&mut self.conditions, contest);
    }

    /// Whether it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.conditions.is_ready()
    }

    /// Whether its resources or its containers are known to fail.
    pub(super) fn is_broken(&self) -> bool {
        [RESOURCES, HEALTHY].iter().any(|kind| self.conditions.status(kind) == Status::False)
    }

    /// Its Deployment has just been made.
    pub(super) fn deploying(&mut self) {
        self.conditions.mark_unknown(RESOURCES, DEPLOYING, "");
        self.conditions.mark_unknown(HEALTHY, DEPLOYING, "");
    }

    /// Something of it cannot be made.
    pub(super) fn unavailable(&mut self, reason: &str, message: &str) {
        self.conditions.mark_false(RESOURCES, reason, message);
    }

    /// What its Deployment and its pods say.
    pub(super) fn take_deployment(
        &mut self,
        deployment: &Value,
        pods: &[Value],
        is_always_schedulable: bool,
    ) {
        match progress(deployment) {
            (Status::True, _, _) => self.conditions.mark_true(RESOURCES),
            (Status::False, reason, message) => {
                self.conditions.mark_false(RESOURCES, reason, message);
            }
            (Status::Unknown, reason, message) => {
                self.conditions.mark_unknown(RESOURCES, reason, message);
            }
        }
        let scale = Scale::of(deployment);
        let available = deployment.int("/status/availableReplicas").unwrap_or_default();
        if scale.wanted > 0 && available == 0 {
            self.take_pods(pods, is_always_schedulable, has_timed_out(deployment));
        }
        if scale.ready > 0 {
            self.conditions.mark_true(HEALTHY);
        }
    }

    /// Why no pod is available. All fail alike: the first that says something speaks for them.
    fn take_pods(&mut self, pods: &[Value], is_always_schedulable: bool, has_timed_out: bool) {
        let mut pods: Vec<&Value> = pods.iter().collect();
        pods.sort_by_key(|pod| {
            (pod.text("/metadata/creationTimestamp"), pod.text("/metadata/name"))
        });
        for pod in pods {
            if let Some(condition) = unschedulable(pod).filter(|_| !is_always_schedulable) {
                let (reason, message) = (condition.text("/reason"), condition.text("/message"));
                self.conditions.mark_false(RESOURCES, reason, message);
                return;
            }
            for container in pod.list("/status/initContainerStatuses") {
                if self.take_container(container, has_timed_out, true) {
                    return;
                }
            }
            for container in pod.list("/status/containerStatuses") {
                if self.take_container(container, has_timed_out, false) {
                    return;
                }
            }
        }
    }

    /// Whether a container says why it does not run.
    fn take_container(&mut self, container: &Value, has_timed_out: bool, is_init: bool) -> bool {
        let ended = ["/lastState/terminated", "/state/terminated"]
            .iter()
            .filter_map(|pointer| container.pointer(pointer))
            // An init container that ended well has done its work.
            .find(|ended| !is_init || ended.int("/exitCode") != Some(0));
        if let Some(ended) = ended {
            let code = ended.int("/exitCode").unwrap_or_default();
            let message = match ended.text("/message") {
                "" if code == 0 => "container exited with no error",
                "" => ended.text("/reason"),
                message => message,
            };
            let message = format!("Container failed with: {message}");
            self.conditions.mark_false(HEALTHY, &format!("ExitCode{code}"), &message);
            return true;
        }
        let Some(waiting) = container.pointer("/state/waiting") else { return false };
        let reason = waiting.text("/reason");
        let is_final = LASTING.contains(&reason);
        if is_final || has_timed_out {
            self.conditions.mark_false(RESOURCES, reason, waiting.text("/message"));
            return true;
        }
        false
    }

    /// What its scale says. `scaler` is the status of its PodAutoscaler as it is now.
    pub(super) fn take_scaler(&mut self, scaler: &ScalerStatus, scale: Scale) {
        let is_broken = self.is_broken();
        self.fields.insert("actualReplicas".to_owned(), json!(scale.ready));
        self.fields.insert("desiredReplicas".to_owned(), json!(scale.wanted));
        let is_initialized = scaler.is_initialized();
        if is_initialized && !is_broken {
            self.conditions.mark_true(RESOURCES);
            self.conditions.mark_true(HEALTHY);
        }
        if !is_initialized && self.conditions.status(RESOURCES) == Status::True {
            self.conditions.mark_unknown(RESOURCES, DEPLOYING, "");
        }
        let (ready, reason, message) = scaler.ready();
        match ready {
            Status::Unknown => self.conditions.mark_unknown(ACTIVE, &reason, &message),
            Status::True => self.conditions.mark_true(ACTIVE),
            Status::False => {
                if !is_initialized && !is_broken {
                    let message = "Initial scale was never achieved";
                    self.conditions.mark_false(RESOURCES, DEADLINE, message);
                }
                self.conditions.mark_false(ACTIVE, &reason, &message);
            }
        }
    }
}

/// Whether a Deployment gets on (`pkg/apis/serving/k8s_lifecycle.go`).
fn progress(deployment: &Value) -> (Status, &str, &str) {
    let of = |condition: &'_ Value| condition.text("/status") == "True";
    let failure = deployment_condition(deployment, "ReplicaFailure").filter(|found| of(found));
    if let Some(failure) = failure {
        return (Status::False, failure.text("/reason"), failure.text("/message"));
    }
    let Some(progressing) = deployment_condition(deployment, "Progressing") else {
        return (Status::Unknown, DEPLOYING, "");
    };
    let status = match progressing.text("/status") {
        "True" => Status::True,
        "False" => Status::False,
        _ => Status::Unknown,
    };
    (status, progressing.text("/reason"), progressing.text("/message"))
}

fn has_timed_out(deployment: &Value) -> bool {
    deployment_condition(deployment, "Progressing").is_some_and(|progressing| {
        progressing.text("/status") == "False" && progressing.text("/reason") == DEADLINE
    })
}

fn deployment_condition<'a>(deployment: &'a Value, kind: &str) -> Option<&'a Value> {
    deployment.list("/status/conditions").iter().find(|found| found.text("/type") == kind)
}

/// The condition of a pod that no node takes.
fn unschedulable(pod: &Value) -> Option<&Value> {
    pod.list("/status/conditions").iter().find(|condition| {
        condition.text("/type") == "PodScheduled" && condition.text("/status") == "False"
    })
}
