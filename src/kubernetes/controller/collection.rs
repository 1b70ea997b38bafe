//! Revisions of a Configuration that nothing leads to go when they are past the limits of
//! `config-gc` (`pkg/reconciler/gc`). What was made of them goes with them.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::Cluster;
use super::meta::{ROUTING_STATE, ROUTING_STATE_MODIFIED};
use super::object::Parts;
use super::work::{Failure, Next};
use crate::config::retention::{Idle, KEEP, expired, next_expiry};
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

/// Deletes the revisions of a Configuration that are past the limits.
///
/// # Errors
/// A revision could not be deleted.
pub(super) async fn reconcile(cluster: &Cluster, name: ObjectName) -> Result<Next, Failure> {
    let Some(object) = cluster.configurations.get(&name).filter(|object| !object.is_leaving) else {
        return Ok(Next::WhenTold);
    };
    let configuration = object.value();
    let limits = &cluster.settings.get().retention;
    let revisions = cluster.revisions.of(&name);
    let idle: Vec<_> = revisions
        .iter()
        .filter(|revision| !revision.is_leaving)
        .filter_map(|object| idle(object, &object.value(), &configuration))
        .collect();
    let now = u64::try_from((cluster.now)().as_second()).unwrap_or_default();
    let next = next_expiry(&idle, limits, now).map_or(Next::WhenTold, Next::After);
    for revision in expired(idle, limits, now) {
        tracing::info!(revision = %revision.name, "past the limits of config-gc; it is deleted");
        cluster.writer.delete(Kind::Revision, revision).await?;
    }
    Ok(next)
}

/// A revision that nothing leads to, nor asks to keep. The one that was ready last always stays.
fn idle<T>(one: T, revision: &Value, configuration: &Value) -> Option<Idle<T>> {
    let name = revision.text("/metadata/name");
    let is_kept = name == configuration.text("/status/latestReadyRevisionName")
        || revision.annotation(KEEP).eq_ignore_ascii_case("true")
        || revision.label(ROUTING_STATE) != "reserve";
    if is_kept {
        return None;
    }
    let seconds = |text: &str| {
        let time: Timestamp = text.parse().ok()?;
        u64::try_from(time.as_second()).ok()
    };
    let created = seconds(revision.text("/metadata/creationTimestamp"))?;
    let last_active = seconds(revision.annotation(ROUTING_STATE_MODIFIED)).unwrap_or(created);
    Some(Idle { revision: one, created, last_active })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nothing_leads_to() {
        let configuration = json!({"status": {"latestReadyRevisionName": "latest"}});
        let of = |name: &str, state: &str, annotations: Value| {
            let revision = json!({"metadata": {
                "name": name, "creationTimestamp": "1970-01-01T00:01:00Z",
                "labels": {"serving.knative.dev/routingState": state}, "annotations": annotations,
            }});
            idle((), &revision, &configuration).map(|idle| (idle.created, idle.last_active))
        };
        let modified = json!({"serving.knative.dev/routingStateModified": "1970-01-01T00:02:00Z"});
        assert_eq!(of("old", "reserve", modified.clone()), Some((60, 120)));
        assert_eq!(of("old", "reserve", json!({})), Some((60, 60)));
        assert_eq!(of("old", "active", json!({})), None);
        assert_eq!(of("old", "pending", json!({})), None);
        assert_eq!(of("old", "", json!({})), None, "nobody has looked at it yet");
        assert_eq!(of("latest", "reserve", modified), None);
        assert_eq!(of("old", "reserve", json!({"serving.knative.dev/no-gc": "True"})), None);
    }
}
