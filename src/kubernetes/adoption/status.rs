//! What an adopted Service says of itself: conditions of its status.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Adopted, Served};
use crate::config::world::cluster::{AdoptedService, Counted, Refusal};

/// Whether it is served, and where.
pub(super) const ADOPTED: &str = "tidegate.dev/Adopted";
/// Whether its count is the autoscaler's.
pub(super) const SCALED: &str = "tidegate.dev/Scaled";
/// Whether callers of its own name go through tidegate; only where that is asked for.
pub(super) const SERVICE_ADOPTED: &str = "tidegate.dev/ServiceAdopted";

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) kind: &'static str,
    pub(super) holds: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Condition {
    fn yes(kind: &'static str, reason: &'static str, message: String) -> Self {
        Self { kind, holds: true, reason, message }
    }

    fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: false, reason, message: message.into() }
    }

    /// Whether a Service shows it, whatever its words are.
    pub(super) fn is_new(&self, live: &Value) -> bool {
        let former = find(live, self.kind);
        let of = |field: &str| former?.get(field)?.as_str();
        of("status") != Some(self.status()) || of("reason") != Some(self.reason)
    }

    fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }
}

fn find<'a>(live: &'a Value, kind: &str) -> Option<&'a Value> {
    live.as_array()?.iter().find(|known| known["type"] == kind)
}

/// What an adopted Service is to show; `name` is what became of its own name, if it is asked for.
pub(super) fn conditions(
    service: &AdoptedService,
    judged: &Result<Adopted, Refusal>,
    served: &Served,
    name: Option<&Result<String, Refusal>>,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    match judged {
        Err(refusal) => {
            conditions.push(Condition::no(ADOPTED, refusal.reason, refusal.message.clone()));
        }
        Ok(adopted) => {
            conditions.push(of_served(service, adopted, served));
            if *served != Served::Knative {
                conditions.push(of_count(adopted));
            }
        }
    }
    conditions.extend(name.map(|name| match name {
        Ok(message) => Condition::yes(SERVICE_ADOPTED, "Adopted", message.clone()),
        Err(refusal) => Condition::no(SERVICE_ADOPTED, refusal.reason, refusal.message.clone()),
    }));
    conditions
}

fn of_served(service: &AdoptedService, adopted: &Adopted, served: &Served) -> Condition {
    match served {
        Served::At(host) => {
            let mut message = format!(
                "http://{host} leads to port {} of {}",
                adopted.object.port,
                adopted.workload.object.shown()
            );
            if service.warnings.is_empty() {
                return Condition::yes(ADOPTED, "Adopted", message);
            }
            message.push_str("; not read: ");
            message.push_str(&service.warnings.join("; "));
            Condition::yes(ADOPTED, "BadAnnotations", message)
        }
        Served::HostsTaken => {
            let message = "its hosts are those of something else: a tag or a DomainMapping";
            Condition::no(ADOPTED, "HostsTaken", message)
        }
        Served::Knative => {
            let message = "a Knative Service, Route or Revision has this name, and its hosts; give \
                           one of the two another name";
            Condition::no(ADOPTED, "NameTaken", message)
        }
    }
}

fn of_count(adopted: &Adopted) -> Condition {
    let workload = adopted.workload.object.shown();
    match (&adopted.scaler, adopted.counted) {
        (Some(scaler), _) => {
            let message = format!(
                "HorizontalPodAutoscaler {scaler} scales {workload}, so tidegate does not; delete \
                 it to have tidegate do it"
            );
            Condition::no(SCALED, "HorizontalPodAutoscaler", message)
        }
        (None, Counted::AtLeast(_)) => {
            let message = format!(
                "{workload} is not scaled down before a first request has come through tidegate"
            );
            Condition::no(SCALED, "NoRequestSeen", message)
        }
        (None, _) => {
            let message =
                format!("{workload} is scaled by the requests that come through tidegate");
            Condition::yes(SCALED, "Scaled", message)
        }
    }
}

/// The conditions as a status has them; none if it has them already. What stays keeps its time.
pub(super) fn status(conditions: &[Condition], live: &Value, now: Timestamp) -> Option<Value> {
    let mut is_same = [ADOPTED, SCALED, SERVICE_ADOPTED].into_iter().all(|kind| {
        let is_wanted = conditions.iter().any(|condition| condition.kind == kind);
        is_wanted == find(live, kind).is_some()
    });
    let mut list = Vec::with_capacity(conditions.len());
    for condition in conditions {
        let former = find(live, condition.kind);
        let status = condition.status();
        let text = |field: &str| former?.get(field)?.as_str();
        let time = text("lastTransitionTime").filter(|_| text("status") == Some(status));
        is_same &= text("status") == Some(status)
            && text("reason") == Some(condition.reason)
            && text("message") == Some(&condition.message);
        list.push(json!({
            "type": condition.kind, "status": status, "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": time.map_or_else(|| format!("{now:.0}"), str::to_owned),
        }));
    }
    (!is_same).then(|| json!({ "conditions": list }))
}
