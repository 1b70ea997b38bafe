//! What Knative fills in before it checks.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json};

use super::AdmissionContext;
use super::findings::texts;
use super::view::{child, child_mut, default, has, list, number, text};
use crate::config::settings::Flag;
use crate::config::text::Template;

/// Fills in a revision's spec. `parent` is the metadata of the object that holds the template.
pub(super) fn revision(spec: &mut Json, parent: &Json, ctx: &AdmissionContext, create: bool) {
    if !spec.is_object() {
        *spec = Json::Object(Map::new());
    }
    let d = &ctx.defaults;
    if number(spec, "timeoutSeconds") == 0 {
        spec["timeoutSeconds"] = d.revision_timeout_seconds.into();
    }
    let timeout = number(spec, "timeoutSeconds");
    for (field, value) in [
        ("idleTimeoutSeconds", d.revision_idle_timeout_seconds),
        ("responseStartTimeoutSeconds", d.revision_response_start_timeout_seconds),
    ] {
        if value != 0 && value < timeout {
            default(spec, field, value);
        }
    }
    default(spec, "containerConcurrency", d.container_concurrency);
    name_containers(spec, parent, ctx);
    let alone = list(spec, "containers").len() == 1;
    let writable: HashSet<String> = list(spec, "volumes")
        .iter()
        .filter(|volume| {
            ["emptyDir", "persistentVolumeClaim", "ephemeral"].iter().any(|kind| has(volume, kind))
        })
        .map(|volume| text(volume, "name").to_owned())
        .collect();
    let pod_security = child(spec, "securityContext").clone();
    let any = !list(spec, "containers").is_empty();
    for container in items_mut(spec, "containers") {
        resources(container, ctx);
        probes(container, alone);
        for mount in items_mut(container, "volumeMounts") {
            if !writable.contains(text(mount, "name")) && mount.is_object() {
                mount["readOnly"] = true.into();
            }
        }
        security(container, &pod_security, ctx);
    }
    for container in items_mut(spec, "initContainers") {
        security(container, &pod_security, ctx);
    }
    if let Some(links) = d.enable_service_links.filter(|_| create && any) {
        default(spec, "enableServiceLinks", links);
    }
}

fn items_mut<'a>(object: &'a mut Json, field: &str) -> &'a mut [Json] {
    object.get_mut(field).and_then(Json::as_array_mut).map_or(&mut [], |items| items.as_mut_slice())
}

fn name_containers(spec: &mut Json, parent: &Json, ctx: &AdmissionContext) {
    let mut taken: HashSet<String> = list(spec, "containers")
        .iter()
        .chain(list(spec, "initContainers"))
        .map(|container| text(container, "name").to_owned())
        .collect();
    let render = |template: &Template| {
        let fields = ["Name", "Namespace", "GenerateName"]
            .map(|field| (field, metadata_field(parent, field)));
        let (annotations, labels) = (texts(parent.get("annotations")), texts(parent.get("labels")));
        let maps = BTreeMap::from([("Annotations", &annotations), ("Labels", &labels)]);
        template.render(&BTreeMap::from(fields), &maps)
    };
    let user = render(&ctx.defaults.container_name_template);
    let init = render(&ctx.defaults.init_container_name_template);
    apply_names(items_mut(spec, "containers"), &mut taken, &user);
    apply_names(items_mut(spec, "initContainers"), &mut taken, &init);
}

fn metadata_field<'a>(metadata: &'a Json, field: &str) -> &'a str {
    match field {
        "Name" => text(metadata, "name"),
        "Namespace" => text(metadata, "namespace"),
        _ => text(metadata, "generateName"),
    }
}

/// Names containers that have no name; several get a number, past names that are taken.
fn apply_names(containers: &mut [Json], taken: &mut HashSet<String>, base: &str) {
    let several = containers.len() > 1 || taken.contains(base);
    let mut next = 0..;
    for container in containers {
        if !text(container, "name").is_empty() || !container.is_object() {
            continue;
        }
        let name = if several {
            next.by_ref()
                .map(|number: usize| format!("{base}-{number}"))
                .find(|name| !taken.contains(name))
                .unwrap_or_default()
        } else {
            base.to_owned()
        };
        container["name"] = name.into();
    }
}

fn resources(container: &mut Json, ctx: &AdmissionContext) {
    if !container.is_object() {
        return;
    }
    let resources = child_mut(container, "resources");
    for (field, amounts) in [("requests", &ctx.defaults.requests), ("limits", &ctx.defaults.limits)]
    {
        for (resource, amount) in amounts {
            default(child_mut(resources, field), resource, amount.as_str());
        }
    }
}

fn probes(container: &mut Json, alone: bool) {
    if !container.is_object() {
        return;
    }
    let serving = alone || !list(container, "ports").is_empty();
    if serving {
        let probe = child_mut(container, "readinessProbe");
        if !["tcpSocket", "httpGet", "exec", "grpc"].iter().any(|action| has(probe, action)) {
            probe["tcpSocket"] = serde_json::json!({ "port": 0 });
        }
    }
    if let Some(probe) = container.get_mut("readinessProbe").filter(|probe| probe.is_object()) {
        if number(probe, "successThreshold") == 0 {
            probe["successThreshold"] = 1.into();
        }
        // Kubernetes' defaults where its way of probing is asked for.
        if number(probe, "periodSeconds") != 0 {
            for (field, value) in [("failureThreshold", 3), ("timeoutSeconds", 1)] {
                if number(probe, field) == 0 {
                    probe[field] = value.into();
                }
            }
        }
    }
    for name in ["readinessProbe", "livenessProbe", "startupProbe"] {
        let action = container.get_mut(name).and_then(|probe| probe.get_mut("grpc"));
        if let Some(action) = action.filter(|action| action.is_object()) {
            default(action, "service", "");
        }
    }
}

/// `secure-pod-defaults`.
fn security(container: &mut Json, pod: &Json, ctx: &AdmissionContext) {
    let flag = ctx.features.flag("secure-pod-defaults");
    if !matches!(flag, Flag::Enabled | Flag::AllowRootBounded) || !container.is_object() {
        return;
    }
    let low_port = list(container, "ports").iter().any(|p| number(p, "containerPort") < 1024);
    let context = child_mut(container, "securityContext");
    default(context, "allowPrivilegeEscalation", false);
    if text(child(pod, "seccompProfile"), "type").is_empty()
        && text(child(context, "seccompProfile"), "type").is_empty()
    {
        child_mut(context, "seccompProfile")["type"] = "RuntimeDefault".into();
    }
    if !has(context, "capabilities") {
        let capabilities = child_mut(context, "capabilities");
        capabilities["drop"] = serde_json::json!(["ALL"]);
        if low_port {
            capabilities["add"] = serde_json::json!(["NET_BIND_SERVICE"]);
        }
    }
    if flag == Flag::Enabled && !has(pod, "runAsNonRoot") {
        default(context, "runAsNonRoot", true);
    }
}
