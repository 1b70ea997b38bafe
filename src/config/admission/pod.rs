//! The pod that a revision's template describes.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::container::{self, Role};
use super::findings::{Finding, Findings, Path};
use super::mask;
use super::names;
use super::view::{child, has, int, list, number, text};
use super::{AdmissionContext, security, volumes};

/// What a container is checked against.
pub(super) struct Pod<'a> {
    pub(super) ctx: &'a AdmissionContext,
    /// Volumes; of several with one name the last.
    pub(super) volumes: Vec<(&'a str, &'a Json)>,
    /// Name of the serving port, `http` if it has none.
    pub(super) port_name: String,
}

impl<'a> Pod<'a> {
    /// A volume by its name.
    pub(super) fn volume(&self, name: &str) -> Option<&'a Json> {
        self.volumes.iter().rev().find(|(volume, _)| *volume == name).map(|(_, volume)| *volume)
    }
}

/// Checks a revision's spec.
pub(super) fn check_revision_spec(
    spec: &Json,
    ctx: &AdmissionContext,
    at: &Path,
    out: &mut Findings,
) {
    check_pod(spec, ctx, at, out);
    let max = ctx.defaults.max_revision_timeout_seconds;
    if let Some(timeout) = int(spec, "timeoutSeconds").filter(|t| *t != 0 && !(0..=max).contains(t))
    {
        out.out_of_bounds(at.field("timeoutSeconds"), timeout, 0, max);
    }
    if let Some(concurrency) = int(spec, "containerConcurrency") {
        check_concurrency(concurrency, ctx, &at.field("containerConcurrency"), out);
    }
}

/// Checks a container concurrency against the cluster's limits.
pub(super) fn check_concurrency(
    concurrency: i64,
    ctx: &AdmissionContext,
    at: &Path,
    out: &mut Findings,
) {
    let low = i64::from(!ctx.defaults.allow_container_concurrency_zero);
    let high = ctx.defaults.container_concurrency_max_limit;
    if concurrency < low || concurrency > high {
        out.out_of_bounds(at.clone(), concurrency, low, high);
    }
}

fn check_pod(spec: &Json, ctx: &AdmissionContext, at: &Path, out: &mut Findings) {
    let features = &ctx.features;
    mask::check_fields(spec, "PodSpec", |name| mask::pod_field(name, spec, features), at, out);
    let containers = list(spec, "containers");
    let init = list(spec, "initContainers");
    security::check_pod(
        child(spec, "securityContext"),
        features,
        &at.field("securityContext"),
        out,
    );
    let mounted: HashSet<&str> = init
        .iter()
        .chain(containers)
        .flat_map(|container| list(container, "volumeMounts"))
        .map(|mount| text(mount, "name"))
        .collect();
    volumes::check(list(spec, "volumes"), &mounted, features, &at.field("volumes"), out);
    let pod = Pod {
        ctx,
        volumes: list(spec, "volumes").iter().map(|v| (text(v, "name"), v)).collect(),
        port_name: check_ports(containers, &at.field("containers[*]"), out),
    };
    check_init(init, containers, &pod, at, out);
    check_containers(containers, &pod, at, out);
    let account = text(spec, "serviceAccountName");
    if !account.is_empty() {
        for details in names::dns1123_subdomain(account) {
            out.push(Finding {
                message: format!("invalid value: {account}"),
                paths: vec![at.field("serviceAccountName")],
                details,
                fix: format!("write {}", names::suggestion(account)),
                ..Finding::default()
            });
        }
    }
}

/// One container has one port; gives the port's name.
fn check_ports(containers: &[Json], at: &Path, out: &mut Findings) -> String {
    let count: usize = containers.iter().map(|c| list(c, "ports").len()).sum();
    let port = containers.iter().rev().find_map(|c| list(c, "ports").first());
    if count == 0 && containers.len() > 1 {
        let fix = "write ports with one containerPort in the container that serves";
        out.missing(at.field("ports"), fix);
    }
    if count > 1 {
        out.push(Finding {
            message: "more than one container port is set".to_owned(),
            paths: vec![at.field("ports")],
            details: "Only a single port is allowed across all containers".to_owned(),
            fix: "keep one containerPort and remove the others".to_owned(),
            ..Finding::default()
        });
    }
    let name = port.map_or("", |port| text(port, "name"));
    if name.is_empty() { "http".to_owned() } else { name.to_owned() }
}

fn duplicate(name: &str, path: Path, out: &mut Findings) {
    let message = format!("duplicate container name {}", crate::config::text::quote(name));
    out.say(path, message, "write a name that no other container has");
}

fn check_init(init: &[Json], containers: &[Json], pod: &Pod<'_>, at: &Path, out: &mut Findings) {
    if init.is_empty() {
        return;
    }
    if !pod.ctx.features.is_enabled("kubernetes.podspec-init-containers") {
        let message = format!(
            "pod spec support for init-containers is off, but found {} init containers",
            init.len()
        );
        out.say_all(Vec::new(), message, "remove initContainers");
        return;
    }
    let taken: HashSet<&str> = containers.iter().map(|c| text(c, "name")).collect();
    for (index, container) in init.iter().enumerate() {
        // Knative's paths say containers here, too.
        let at = at.field("containers").index(index);
        if taken.contains(text(container, "name")) {
            duplicate(text(container, "name"), at.field("name"), out);
        }
        for field in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if has(container, field) {
                let message = "field not allowed in an init container";
                out.say(at.field(field), message, format!("remove {field}"));
            }
        }
        container::check(container, Role::Init, pod, &at, out);
    }
}

fn check_containers(containers: &[Json], pod: &Pod<'_>, at: &Path, out: &mut Findings) {
    if containers.is_empty() {
        let fix = "write containers with an item \"- image: …\"";
        out.missing(at.field("containers"), fix);
        return;
    }
    if containers.len() == 1 {
        let at = at.field("containers").index(0);
        container::check(&containers[0], Role::Only, pod, &at, out);
        return;
    }
    if !pod.ctx.features.is_enabled("multi-container") {
        let message = format!("multi-container is off, but found {} containers", containers.len());
        out.say_all(Vec::new(), message, "keep one container");
        return;
    }
    let mut taken = HashSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = at.field("containers").index(index);
        let name = text(container, "name");
        if !taken.insert(name) {
            duplicate(name, at.field("name"), out);
        }
        let serving = !list(container, "ports").is_empty();
        let role = if serving { Role::Serving } else { Role::Sidecar };
        container::check(container, role, pod, &at, out);
    }
}

/// Bounds of a numeric user or group.
pub(super) fn check_id(object: &Json, field: &str, at: &Path, out: &mut Findings) {
    if int(object, field).is_some() {
        let id = number(object, field);
        if !(0..=i64::from(i32::MAX)).contains(&id) {
            out.out_of_bounds(at.field(field), id, 0, i32::MAX);
        }
    }
}
