//! What a revision's PodAutoscaler says of its scale: whether it is active, and whether it ever had
//! what it was to begin with (`pkg/reconciler/autoscaling/kpa/kpa.go`, `computeActiveCondition`).
//! The wanted scale is the Deployment's: the autoscaler has written it there.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::object::Parts;
use super::contest;
use crate::kubernetes::conditions::{ConditionSet, Conditions, Status};
use crate::model::ScalingSpec;

const SET: ConditionSet = ConditionSet::living(&[ACTIVE, INITIALIZED, SKS_READY]);
const ACTIVE: &str = "Active";
const INITIALIZED: &str = "ScaleTargetInitialized";
const SKS_READY: &str = "SKSReady";

/// Scale of a revision: what its Deployment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    /// Replicas that are asked for.
    pub(super) wanted: i64,
    /// Replicas that are ready.
    pub(super) ready: i64,
}

impl Scale {
    /// The scale of a Deployment.
    pub(super) fn of(deployment: &Value) -> Self {
        Self {
            wanted: deployment.int("/spec/replicas").unwrap_or(1),
            ready: deployment.int("/status/readyReplicas").unwrap_or_default(),
        }
    }
}

/// A PodAutoscaler's status while it is worked on.
pub(super) struct ScalerStatus {
    fields: Map<String, Value>,
    conditions: Conditions,
}

impl ScalerStatus {
    /// The status of a PodAutoscaler as it is.
    pub(super) fn of(scaler: &Value, now: Timestamp) -> Self {
        let status = scaler.get("status").cloned().unwrap_or_default();
        let fields = status.as_object().cloned().unwrap_or_default();
        Self { fields, conditions: SET.read(&status, now) }
    }

    /// The status to write.
    pub(super) fn value(&self, scaler: &Value) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("observedGeneration".to_owned(), json!(scaler.generation()));
        fields.insert("conditions".to_owned(), self.conditions.to_value());
        Value::Object(fields)
    }

    /// Whether the revision once had the replicas that it was to begin with.
    pub(super) fn is_initialized(&self) -> bool {
        self.conditions.status(INITIALIZED) == Status::True
    }

    /// The top condition's status, reason and message.
    pub(super) fn ready(&self) -> (Status, String, String) {
        let ready = self.conditions.top();
        let ready = ready.map(|ready| (ready.status, ready.reason.clone(), ready.message.clone()));
        ready.unwrap_or((Status::Unknown, String::new(), String::new()))
    }

    /// What follows from the scale. `private` is the name of the Service of the endpoints.
    pub(super) fn take(&mut self, name: &str, private: &str, scale: Scale, bounds: &ScalingSpec) {
        for (key, value) in [
            ("serviceName", json!(name)),
            ("metricsServiceName", json!(private)),
            ("desiredScale", json!(scale.wanted)),
            ("actualScale", json!(scale.ready)),
        ] {
            self.fields.insert(key.to_owned(), value);
        }
        self.conditions.mark_true(SKS_READY);
        let least = if self.is_initialized() { 1 } else { bounds.initial_scale };
        let least = i64::from(bounds.min_scale.max(least));
        if scale.ready >= least {
            self.conditions.mark_true(INITIALIZED);
        }
        let active = self.conditions.status(ACTIVE);
        if scale.wanted == 0 || least == 0 {
            if active == Status::Unknown && least > 0 {
                let message = "The target could not be activated.";
                self.conditions.mark_false(ACTIVE, "TimedOut", message);
            } else if !self.has_timed_out() {
                let message = "The target is not receiving traffic.";
                self.conditions.mark_false(ACTIVE, "NoTraffic", message);
            }
        } else if scale.ready < least {
            let message = "Requests to the target are being buffered as resources are provisioned.";
            self.conditions.mark_unknown(ACTIVE, "Queued", message);
        } else {
            self.conditions.mark_true(ACTIVE);
        }
    }

    /// Who else writes the count, if anybody does.
    pub(super) fn take_contest(&mut self, contest: Option<&str>) {
        contest::mark(&mut self.conditions, contest);
    }

    /// Whether it was found not to start, and nothing was tried since.
    fn has_timed_out(&self) -> bool {
        let active = self.conditions.get(ACTIVE);
        active.is_some_and(|active| active.reason == "TimedOut")
    }
}
