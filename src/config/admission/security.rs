//! Security contexts of pods and containers.

use serde_json::Value as Json;

use super::findings::{Finding, Findings, Path};
use super::mask::check_fields;
use super::pod::check_id;
use super::view::{child, has, list, text};
use crate::config::problem::Severity;
use crate::config::settings::{Features, Flag};

fn secure_defaults(features: &Features) -> bool {
    matches!(features.flag("secure-pod-defaults"), Flag::Enabled | Flag::AllowRootBounded)
}

/// A pod's security context.
pub(super) fn check_pod(context: &Json, features: &Features, at: &Path, out: &mut Findings) {
    if context.is_null() {
        return;
    }
    let profile = text(child(context, "seccompProfile"), "type");
    let seccomp_alone =
        secure_defaults(features) && matches!(profile, "RuntimeDefault" | "Unconfined");
    let all = features.is_allowed("kubernetes.podspec-securitycontext");
    let allowed = |name: &str| match name {
        "seccompProfile" => all || seccomp_alone,
        "runAsUser" | "runAsGroup" | "runAsNonRoot" | "fsGroup" | "supplementalGroups" => all,
        _ => false,
    };
    check_fields(context, "PodSecurityContext", allowed, at, out);
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        check_id(context, field, at, out);
    }
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        let id = group.as_i64().unwrap_or(0);
        if !(0..=i64::from(i32::MAX)).contains(&id) {
            out.out_of_bounds(at.field("supplementalGroups").index(index), id, 0, i32::MAX);
        }
    }
}

/// A container's security context.
pub(super) fn check_container(context: &Json, features: &Features, at: &Path, out: &mut Findings) {
    if context.is_null() {
        return;
    }
    let unprivileged = context.get("privileged") == Some(&Json::Bool(false));
    let allowed = |name: &str| match name {
        "capabilities"
        | "readOnlyRootFilesystem"
        | "runAsUser"
        | "runAsGroup"
        | "runAsNonRoot"
        | "allowPrivilegeEscalation"
        | "seccompProfile" => true,
        "privileged" => unprivileged,
        _ => false,
    };
    check_fields(context, "SecurityContext", allowed, at, out);
    for field in ["runAsUser", "runAsGroup"] {
        check_id(context, field, at, out);
    }
    let capabilities = child(context, "capabilities");
    let low_ports = secure_defaults(features)
        && matches!(list(capabilities, "add"), [only] if only == "NET_BIND_SERVICE");
    let add = features.is_enabled("kubernetes.containerspec-addcapabilities") || low_ports;
    let at = at.field("capabilities");
    let allowed = |name: &str| name == "drop" || (name == "add" && add);
    check_fields(capabilities, "Capabilities", allowed, &at, out);
    if list(capabilities, "drop").first().is_some_and(|first| first == "all")
        && !secure_defaults(features)
        && has(capabilities, "drop")
    {
        out.push(Finding {
            message: "invalid value: all".to_owned(),
            paths: vec![at.field("drop")],
            details: "Must be spelled as 'ALL'".to_owned(),
            fix: "write ALL".to_owned(),
            severity: Severity::Warning,
            ..Finding::default()
        });
    }
}
