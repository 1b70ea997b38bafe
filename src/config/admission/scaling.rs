//! PodAutoscalers: the form that people write, and Knative's internal one.

use serde_json::Value as Json;

use super::AdmissionContext;
use super::annotations::{AUTOSCALING, Annotations, HPA, KPA, check_autoscaling};
use super::findings::{Finding, Findings, Path};
use super::view::{child, child_mut, default, has, text};
use super::{metadata, names, pod};
use crate::config::problem::Severity;

/// Fields of a public PodAutoscaler's spec and the annotations that they stand for.
const FIELDS: [(&str, &str); 15] = [
    ("minScale", "min-scale"),
    ("maxScale", "max-scale"),
    ("initialScale", "initial-scale"),
    ("activationScale", "activation-scale"),
    ("target", "target"),
    ("targetUtilizationPercentage", "target-utilization-percentage"),
    ("targetBurstCapacity", "target-burst-capacity"),
    ("metric", "metric"),
    ("class", "class"),
    ("window", "window"),
    ("stableWindow", "window"),
    ("panicWindowPercentage", "panic-window-percentage"),
    ("panicThresholdPercentage", "panic-threshold-percentage"),
    ("scaleDownDelay", "scale-down-delay"),
    ("scaleToZeroPodRetentionPeriod", "scale-to-zero-pod-retention-period"),
];

/// The autoscaling annotations that an admitted PodAutoscaler stands for: those of its metadata,
/// and over them the fields of its spec. They go over the annotations of its target's revisions.
pub fn pod_autoscaler_annotations(object: &Json) -> Annotations {
    let mut annotations = metadata::annotations(object);
    annotations.retain(|key, _| key.starts_with(AUTOSCALING));
    annotations.extend(spec_annotations(child(object, "spec")));
    annotations
}

fn spec_annotations(spec: &Json) -> Annotations {
    let value = |json: &Json| match json {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    };
    FIELDS
        .iter()
        .filter_map(|(field, name)| {
            let value = value(spec.get(*field)?)?;
            Some((format!("{AUTOSCALING}/{name}"), value))
        })
        .collect()
}

/// The field that stands for an annotation.
fn field_of(path: &str, spec: &Json) -> Option<String> {
    let rest = path.strip_prefix(AUTOSCALING)?.strip_prefix('/')?;
    FIELDS
        .iter()
        .filter(|(field, name)| rest.starts_with(name) && (has(spec, field) || *field != "window"))
        .max_by_key(|(_, name)| name.len())
        .map(|(field, _)| (*field).to_owned())
}

/// Checks the form that people write.
pub(super) fn public(object: &mut Json, ctx: &AdmissionContext, out: &mut Findings) {
    let meta_at = Path::root().field("metadata");
    let meta = child(object, "metadata").clone();
    metadata::check_plain_name(&meta, &meta_at, out);
    let annotations = metadata::annotations(object);
    check_autoscaling(&annotations, &ctx.autoscaler, &meta_at.field("annotations"), out);
    let reference = child_mut(child_mut(object, "spec"), "scaleTargetRef");
    default(reference, "apiVersion", "serving.knative.dev/v1");
    let spec = child(object, "spec");
    let at = Path::root().field("spec");
    check_target(child(spec, "scaleTargetRef"), &at.field("scaleTargetRef"), out);
    if has(spec, "window") && has(spec, "stableWindow") {
        out.multiple_one_of(vec![at.field("window"), at.field("stableWindow")]);
    }
    let mut below = Findings::default();
    check_autoscaling(&spec_annotations(spec), &ctx.autoscaler, &Path::root(), &mut below);
    out.append(below.renamed(|path| {
        field_of(path.as_str(), spec).map_or_else(|| at.clone(), |field| at.field(&field))
    }));
    if let Some(concurrency) = spec.get("containerConcurrency").and_then(Json::as_i64) {
        pod::check_concurrency(concurrency, ctx, &at.field("containerConcurrency"), out);
    }
    warn_of_defaults(spec, ctx, &at, out);
}

/// People expect these three; what applies without them is said once.
fn warn_of_defaults(spec: &Json, ctx: &AdmissionContext, at: &Path, out: &mut Findings) {
    let c = &ctx.autoscaler;
    let max = if c.max_scale == 0 { "unlimited".to_owned() } else { c.max_scale.to_string() };
    let target = if text(spec, "metric") == "rps" {
        c.rps_target_default
    } else {
        c.container_concurrency_target_default
    };
    let defaults = [
        ("minScale", c.min_scale.to_string()),
        ("maxScale", max),
        ("target", crate::config::text::format_float(target)),
    ];
    let absent: Vec<&(&str, String)> =
        defaults.iter().filter(|(field, _)| !has(spec, field)).collect();
    if absent.is_empty() {
        return;
    }
    let list = |join: &str, unlimited: &str| {
        let shown = |value: &str| value.replace("unlimited", unlimited);
        let parts: Vec<String> =
            absent.iter().map(|(field, value)| format!("{field}{join}{}", shown(value))).collect();
        parts.join(", ")
    };
    out.push(Finding {
        message: format!("not given, so these defaults apply: {}", list(" ", "unlimited")),
        paths: absent.iter().map(|(field, _)| at.field(field)).collect(),
        fix: format!("write {}", list(": ", "0")),
        severity: Severity::Warning,
        ..Finding::default()
    });
}

fn check_target(reference: &Json, at: &Path, out: &mut Findings) {
    if text(reference, "name").is_empty() {
        out.missing(at.field("name"), "write name: and the service's name");
    }
    let (kind, version) = (text(reference, "kind"), text(reference, "apiVersion"));
    // What is adopted in a cluster may be named itself.
    let is_apps = version == "apps/v1" && matches!(kind, "Deployment" | "StatefulSet");
    if kind.is_empty() {
        out.missing(at.field("kind"), "write kind: Service");
    } else if !is_apps && !matches!(kind, "Service" | "Configuration" | "Revision") {
        out.invalid(at.field("kind"), kind, "write Service, Configuration or Revision");
    }
    if !is_apps && !version.starts_with("serving.knative.dev/") {
        out.invalid(at.field("apiVersion"), version, "write serving.knative.dev/v1");
    }
}

/// Fills in and checks Knative's internal form.
pub(super) fn internal(object: &mut Json, ctx: &AdmissionContext, out: &mut Findings) {
    let meta_at = Path::root().field("metadata");
    if object.is_object() {
        let annotations = child_mut(child_mut(object, "metadata"), "annotations");
        default(
            annotations,
            "autoscaling.knative.dev/class",
            ctx.autoscaler.pod_autoscaler_class.as_str(),
        );
        let metric = match text(annotations, "autoscaling.knative.dev/class") {
            KPA => "concurrency",
            HPA => "cpu",
            _ => "",
        };
        default(annotations, "autoscaling.knative.dev/metric", metric);
    }
    metadata::check_name(child(object, "metadata"), &meta_at, out);
    let annotations = metadata::annotations(object);
    check_autoscaling(&annotations, &ctx.autoscaler, &meta_at.field("annotations"), out);
    let at = Path::root().field("spec");
    let spec = child(object, "spec");
    if super::mask::set_fields(spec, "InternalPodAutoscalerSpec").is_empty() {
        out.missing(at, "write spec: with scaleTargetRef below it");
        return;
    }
    check_reference(child(spec, "scaleTargetRef"), &at.field("scaleTargetRef"), out);
    let concurrency = super::view::number(spec, "containerConcurrency");
    pod::check_concurrency(concurrency, ctx, &at.field("containerConcurrency"), out);
    let protocol = text(spec, "protocolType");
    match protocol {
        "http1" | "h2c" => {}
        "" => out.missing(at.field("protocolType"), "write http1 or h2c"),
        _ => out.invalid(at.field("protocolType"), protocol, "write http1 or h2c"),
    }
}

fn check_reference(reference: &Json, at: &Path, out: &mut Findings) {
    let allowed = |name: &str| matches!(name, "apiVersion" | "kind" | "name");
    super::mask::check_fields(reference, "ObjectReference", allowed, at, out);
    let mut check = |field: &str, errors: fn(&str) -> Vec<String>, example: &str| {
        let value = text(reference, field);
        if value.is_empty() {
            out.missing(at.field(field), format!("write {field}: {example}"));
            return;
        }
        let errors = errors(value);
        if !errors.is_empty() {
            out.invalid(at.field(field), errors.join(", "), format!("write {example}"));
        }
    };
    check("apiVersion", names::qualified_name, "apps/v1");
    check("kind", names::c_identifier, "Deployment");
    check("name", names::dns1123_label, "my-deployment");
}
