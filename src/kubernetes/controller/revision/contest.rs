//! Who else writes a Deployment's count: a HorizontalPodAutoscaler that names it, or whoever owns
//! `spec.replicas` now. It is said, and not fought: the scaler's own rules are in
//! `kubernetes::scale`.

use std::sync::Arc;

use serde_json::Value;

use super::super::object::{Object, Parts as _};
use super::COUNT_MANAGER;
use crate::kubernetes::conditions::Conditions;
use crate::kubernetes::{CONTROLLER_MANAGER, SCALER_MANAGER};

/// Whether tidegate alone has the count. There only while it has not.
const SCALE_OWNED: &str = "ScaleOwned";
/// As the event is called.
const CONFLICT: &str = "ScaleConflict";

/// Field managers of Knative's controller and autoscaler. What they have written is inherited: where
/// they live tidegate writes nothing.
const KNATIVES: [&str; 2] = ["controller", "autoscaler"];

/// Says it among conditions, or no longer.
pub(super) fn mark(conditions: &mut Conditions, contest: Option<&str>) {
    match contest {
        Some(message) => conditions.mark_false(SCALE_OWNED, CONFLICT, message),
        None => conditions.clear(SCALE_OWNED),
    }
}

/// Who else writes the count of a Deployment, and what to do about it. `horizontal` are the
/// HorizontalPodAutoscalers that name it.
pub(super) fn contest(deployment: &Object, horizontal: &[Arc<Object>]) -> Option<String> {
    let name = &deployment.name.name;
    let mut autoscalers: Vec<&str> = horizontal.iter().map(|one| &*one.name.name).collect();
    autoscalers.sort_unstable();
    if !autoscalers.is_empty() {
        let autoscalers = autoscalers.join(", ");
        return Some(format!(
            "HorizontalPodAutoscaler {autoscalers} scales Deployment {name} too: tidegate raises \
             it from 0 and leaves the rest to it; delete one of the two"
        ));
    }
    let own = [CONTROLLER_MANAGER, COUNT_MANAGER, SCALER_MANAGER];
    let is_others = |manager: &&str| !own.contains(manager) && !KNATIVES.contains(manager);
    let others: Vec<&str> =
        deployment.scalers.iter().map(|manager| &**manager).filter(is_others).collect();
    if others.is_empty() {
        return None;
    }
    let others = others.join(", ");
    Some(format!(
        "{others} has written the replicas of Deployment {name}: tidegate leaves them so; scaled to \
         0 they are its own again with the next request"
    ))
}

/// The Deployment that a HorizontalPodAutoscaler scales (`autoscaling/v2`).
pub(in super::super) fn target(autoscaler: &Value) -> Option<&str> {
    let is_deployment = autoscaler.text("/spec/scaleTargetRef/kind") == "Deployment"
        && autoscaler.text("/spec/scaleTargetRef/apiVersion").starts_with("apps/");
    is_deployment.then(|| autoscaler.text("/spec/scaleTargetRef/name"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::kubernetes::conditions::ConditionSet;

    fn object(kind: &str, name: &str, managers: &[&str]) -> Object {
        let entry = |manager: &&str| json!({"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let managed: Vec<Value> = managers.iter().map(entry).collect();
        let value = json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": {"namespace": "ns", "name": name, "managedFields": managed},
        });
        Object::keep(&serde_json::from_value(value).unwrap(), |_| ()).unwrap()
    }

    #[test]
    fn who_else_writes_the_count() {
        let of = |managers: &[&str], horizontal: &[&str]| {
            let horizontal: Vec<_> = horizontal
                .iter()
                .map(|name| Arc::new(object("HorizontalPodAutoscaler", name, &[])))
                .collect();
            contest(&object("Deployment", "d", managers), &horizontal).unwrap_or_default()
        };
        assert_eq!(of(&[], &[]), "");
        assert_eq!(of(&[CONTROLLER_MANAGER, COUNT_MANAGER, SCALER_MANAGER], &[]), "");
        assert_eq!(of(&["controller", "autoscaler", COUNT_MANAGER], &[]), "", "Knative was here");
        assert!(of(&[COUNT_MANAGER, "kubectl"], &[]).starts_with("kubectl has written"));
        // Also before it has written anything.
        let found = of(&[SCALER_MANAGER], &["b", "a"]);
        assert!(found.starts_with("HorizontalPodAutoscaler a, b scales Deployment d"), "{found}");
    }

    #[test]
    fn it_only_informs_and_goes() {
        const SET: ConditionSet = ConditionSet::living(&["A"]);
        let now = Timestamp::UNIX_EPOCH;
        let mut conditions = SET.read(&json!({}), now);
        conditions.mark_true("A");
        mark(&mut conditions, Some("somebody"));
        conditions.mark_true("A");
        assert!(conditions.is_ready());
        let said = conditions.get(SCALE_OWNED).unwrap();
        assert_eq!((&*said.severity, &*said.reason), ("Info", CONFLICT));
        mark(&mut conditions, None);
        assert!(conditions.get(SCALE_OWNED).is_none() && conditions.is_ready());
    }

    #[test]
    fn only_deployments_are_looked_at() {
        let of = |version: &str, kind: &str| {
            let reference = json!({"apiVersion": version, "kind": kind, "name": "d"});
            target(&json!({"spec": {"scaleTargetRef": reference}})).map(str::to_owned)
        };
        assert_eq!(of("apps/v1", "Deployment"), Some("d".to_owned()));
        assert_eq!(of("apps/v1", "StatefulSet"), None);
        assert_eq!(of("example.com/v1", "Deployment"), None);
    }
}
