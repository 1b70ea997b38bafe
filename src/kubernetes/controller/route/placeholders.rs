//! Services (core) of a Route's names: they make the names known in the cluster, and lead to
//! tidegate (`pkg/reconciler/route/resources/service.go`).

use serde_json::{Value, json};

use super::names::{Names, VISIBILITY, private_domain};
use crate::kubernetes::ROLLOUT_ANNOTATION;
use crate::kubernetes::controller::meta::{
    CANARY, LAST_APPLIED, ROUTE, annotations_without, labels, owned, with,
};
use crate::kubernetes::controller::object::Parts as _;
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

/// tidegate's namespace, unless a pod says which one is its own.
const NAMESPACE: &str = "tidegate-system";
/// tidegate's Service (core) for callers inside.
const INTERNAL: &str = "tidegate-internal";

/// The host that all names in the cluster lead to.
pub(in crate::kubernetes) fn internal_host() -> String {
    let namespace = std::env::var("POD_NAMESPACE").unwrap_or_else(|_| NAMESPACE.to_owned());
    format!("{INTERNAL}.{namespace}.{}", private_domain())
}

/// The Service of a tag, or of the Route itself.
pub(super) fn placeholder(
    route: &Value,
    names: &Names<'_>,
    tag: Option<&str>,
    internal: &str,
) -> Value {
    // A person may set the visibility of each name by itself.
    let mut labels = with(labels(route), [(ROUTE, route.text("/metadata/name"))]);
    labels.remove(VISIBILITY);
    let mut annotations = annotations_without(route, &[LAST_APPLIED, ROLLOUT_ANNOTATION]);
    annotations.retain(|key, _| !key.starts_with(CANARY));
    let name = ObjectName::new(route.text("/metadata/namespace"), names.service(tag));
    let spec = json!({
        "type": "ExternalName",
        "externalName": internal,
        "sessionAffinity": "None",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}],
    });
    owned(Kind::CoreService, &name, route, labels, annotations, spec)
}
