//! Service, Configuration, Route, Revision, DomainMapping.

use serde_json::Value as Json;

use super::AdmissionContext;
use super::annotations as notes;
use super::findings::{Finding, Findings, Path};
use super::view::{child, child_mut, default, has, list, text};
use super::{defaults, metadata, names, pod, traffic, update};
use crate::config::text::quote;

const SERVICE_LABEL: &str = "serving.knative.dev/service";
const CONFIGURATION_LABEL: &str = "serving.knative.dev/configuration";

/// Fills in and checks a Service.
pub(super) fn service(
    object: &mut Json,
    ctx: &AdmissionContext,
    stored: Option<&Json>,
    out: &mut Findings,
) {
    default_template(object, ctx, stored);
    let targets = child_mut(child_mut_spec(object), "traffic");
    if targets.as_array().is_none_or(Vec::is_empty) {
        *targets = serde_json::json!([{ "latestRevision": true, "percent": 100 }]);
    }
    default_traffic(object);
    check_metadata(object, out);
    let annotations = metadata::annotations(object);
    notes::check_rollout_duration(&annotations, &at("metadata").field("annotations"), out);
    check_template(object, ctx, out);
    let spec = child(object, "spec");
    traffic::check(list(spec, "traffic"), true, &at("spec").field("traffic"), out);
    if let Some(old) = stored {
        update::check_authors(old, object, "ServiceSpec", out);
        check_name_change(old, object, out);
    }
}

/// Fills in and checks a Configuration.
pub(super) fn configuration(
    object: &mut Json,
    ctx: &AdmissionContext,
    stored: Option<&Json>,
    out: &mut Findings,
) {
    default_template(object, ctx, stored);
    check_metadata(object, out);
    check_owner(object, SERVICE_LABEL, "Service", ctx, out);
    check_template(object, ctx, out);
    if let Some(old) = stored {
        if !has(child(object, "metadata"), "ownerReferences") {
            update::check_authors(old, object, "ConfigurationSpec", out);
        }
        check_name_change(old, object, out);
    }
}

/// Fills in and checks a Route.
pub(super) fn route(
    object: &mut Json,
    ctx: &AdmissionContext,
    stored: Option<&Json>,
    out: &mut Findings,
) {
    default_traffic(object);
    check_metadata(object, out);
    check_owner(object, SERVICE_LABEL, "Service", ctx, out);
    let annotations = metadata::annotations(object);
    notes::check_rollout_duration(&annotations, &at("metadata").field("annotations"), out);
    let spec = child(object, "spec");
    traffic::check(list(spec, "traffic"), false, &at("spec").field("traffic"), out);
    if let Some(old) = stored
        && !has(child(object, "metadata"), "ownerReferences")
    {
        update::check_authors(old, object, "RouteSpec", out);
    }
}

/// Fills in and checks a Revision.
pub(super) fn revision(
    object: &mut Json,
    ctx: &AdmissionContext,
    stored: Option<&Json>,
    out: &mut Findings,
) {
    let meta_at = at("metadata");
    let meta = child(object, "metadata").clone();
    metadata::check_name(&meta, &meta_at, out);
    let annotations = metadata::annotations(object);
    let annotations_at = meta_at.field("annotations");
    notes::check_autoscaling(&annotations, &ctx.autoscaler, &annotations_at, out);
    check_owner(object, CONFIGURATION_LABEL, "Configuration", ctx, out);
    if let Some(old) = stored {
        update::check_revision(old, object, out);
        return;
    }
    defaults::revision(child_mut_spec(object), &meta, ctx, true);
    pod::check_revision_spec(child(object, "spec"), ctx, &at("spec"), out);
}

/// Fills in and checks a DomainMapping.
pub(super) fn domain_mapping(object: &mut Json, stored: Option<&Json>, out: &mut Findings) {
    let meta = child(object, "metadata").clone();
    let namespace = text(&meta, "namespace");
    let reference = child_mut(child_mut_spec(object), "ref");
    if !namespace.is_empty() && text(reference, "namespace").is_empty() {
        reference["namespace"] = namespace.into();
    }
    let name = text(&meta, "name");
    let name_at = at("metadata").field("name");
    if has(&meta, "generateName") && !text(&meta, "generateName").is_empty() {
        let fix = "write name: and the domain instead";
        out.disallowed(vec![at("metadata").field("generateName")], fix);
    }
    let fix = "write a domain such as app.example.com";
    if name.is_empty() {
        let message = format!("invalid name {}: name: Required value", quote(name));
        out.say(name_at.clone(), message, fix);
    } else if let Some((part, error)) = names::domain_name(name) {
        let message =
            format!("invalid name {}: name: Invalid value: {}: {error}", quote(name), quote(&part));
        out.say(name_at.clone(), message, fix);
    }
    if name.ends_with(".cluster.local") {
        let message = format!(
            "invalid name {}: must not be a subdomain of cluster local domain \"cluster.local\"",
            quote(name)
        );
        out.say(name_at, message, fix);
    }
    check_reference(child(child(object, "spec"), "ref"), namespace, &at("spec").field("ref"), out);
    if let Some(old) = stored {
        update::check_authors(old, object, "DomainMappingSpec", out);
    }
}

fn check_reference(reference: &Json, namespace: &str, at: &Path, out: &mut Findings) {
    if text(reference, "name").is_empty() {
        out.missing(at.field("name"), "write name: and the service's name");
    }
    if !text(reference, "group").is_empty() {
        out.disallowed(vec![at.field("group")], "write apiVersion: serving.knative.dev/v1");
    }
    if text(reference, "apiVersion").is_empty() {
        out.missing(at.field("apiVersion"), "write apiVersion: serving.knative.dev/v1");
    }
    if text(reference, "kind").is_empty() {
        out.missing(at.field("kind"), "write kind: Service");
    }
    let given = text(reference, "namespace");
    if !given.is_empty() && !namespace.is_empty() && given != namespace {
        out.push(Finding {
            message: "mismatched namespaces".to_owned(),
            paths: vec![at.field("namespace")],
            details: format!(
                "parent namespace: {} does not match ref: {}",
                quote(namespace),
                quote(given)
            ),
            fix: format!("write {namespace}"),
            ..Finding::default()
        });
    }
}

fn at(section: &str) -> Path {
    Path::root().field(section)
}

fn child_mut_spec(object: &mut Json) -> &mut Json {
    child_mut(object, "spec")
}

fn default_traffic(object: &mut Json) {
    if let Some(targets) =
        object.get_mut("spec").and_then(|spec| spec.get_mut("traffic")).and_then(Json::as_array_mut)
    {
        traffic::set_defaults(targets);
    }
}

fn default_template(object: &mut Json, ctx: &AdmissionContext, stored: Option<&Json>) {
    if stored.is_some_and(|old| update::keeps_name(old, object)) {
        return;
    }
    let parent = child(object, "metadata").clone();
    let template = child_mut(child_mut_spec(object), "template");
    default(template, "metadata", serde_json::Map::new());
    defaults::revision(child_mut(template, "spec"), &parent, ctx, stored.is_none());
}

/// Metadata of an object that holds a template or traffic.
fn check_metadata(object: &Json, out: &mut Findings) {
    metadata::check_name(child(object, "metadata"), &at("metadata"), out);
    let annotations = metadata::annotations(object);
    notes::check_no_autoscaling(&annotations, &at("metadata").field("annotations"), out);
}

fn check_owner(object: &Json, label: &str, kind: &str, ctx: &AdmissionContext, out: &mut Findings) {
    // In files nobody else owns an object; the label alone says what it belongs to.
    if !ctx.one_machine {
        metadata::check_owner_label(child(object, "metadata"), label, kind, &at("metadata"), out);
    }
}

fn check_template(object: &Json, ctx: &AdmissionContext, out: &mut Findings) {
    let template = child(child(object, "spec"), "template");
    let here = at("spec").field("template");
    pod::check_revision_spec(child(template, "spec"), ctx, &here.field("spec"), out);
    let annotations = metadata::annotations(template);
    let notes_at = here.field("metadata").field("annotations");
    notes::check_autoscaling(&annotations, &ctx.autoscaler, &notes_at, out);
    notes::check_networking(&annotations, &notes_at, out);
    notes::check_queue_sidecar(&annotations, &notes_at, out);
    notes::check_progress_deadline(&annotations, &notes_at, out);
    let parent = child(object, "metadata");
    let meta_at = here.field("metadata");
    metadata::check_revision_name(child(template, "metadata"), parent, &meta_at, out);
}

fn check_name_change(old: &Json, new: &Json, out: &mut Findings) {
    let template = |object: &Json| child(child(object, "spec"), "template").clone();
    let here = at("spec").field("template");
    update::check_template_name(&template(old), &template(new), &here, out);
}
