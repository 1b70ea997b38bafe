//! One container.

use serde_json::Value as Json;

use super::findings::{Finding, Findings, Path};
use super::mask::{self, check_fields, set_fields};
use super::pod::Pod;
use super::view::{child, has, list, number, text};
use super::{image, probe, security, volumes};
use crate::config::text::quote;

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The only one.
    Only,
    /// The one of several that has the port.
    Serving,
    /// Beside the serving one.
    Sidecar,
    /// Before all others.
    Init,
}

const RESERVED_PORTS: [i64; 6] = [8012, 8013, 8022, 9090, 9091, 8008];
const RESERVED_NAMES: [&str; 4] = ["PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"];

/// Checks a container.
pub(super) fn check(container: &Json, role: Role, pod: &Pod<'_>, at: &Path, out: &mut Findings) {
    match role {
        Role::Only | Role::Serving => probe::check_all(container, Some(&pod.port_name), at, out),
        Role::Sidecar if pod.ctx.features.is_enabled("multi-container-probing") => {
            probe::check_all(container, None, at, out);
        }
        Role::Sidecar => check_no_probes(container, at, out),
        Role::Init => {}
    }
    if set_fields(container, "Container").is_empty() {
        out.missing(at.clone(), "write image: and where it is, or remove the item");
        return;
    }
    check_fields(container, "Container", mask::container_field, at, out);
    let name = text(container, "name");
    if name == "queue-proxy" {
        let message = format!("{} is a reserved container name", quote(name));
        out.say(at.field("name"), message, "write another name");
    }
    check_env(list(container, "env"), role, pod, &at.field("env"), out);
    check_env_from(list(container, "envFrom"), &at.field("envFrom"), out);
    check_image(text(container, "image"), &at.field("image"), out);
    check_ports(list(container, "ports"), role, &at.field("ports"), out);
    let allowed = |name: &str| matches!(name, "limits" | "requests");
    let resources = child(container, "resources");
    check_fields(resources, "ResourceRequirements", allowed, &at.field("resources"), out);
    let context = child(container, "securityContext");
    security::check_container(context, &pod.ctx.features, &at.field("securityContext"), out);
    let policy = text(container, "terminationMessagePolicy");
    if !matches!(policy, "" | "File" | "FallbackToLogsOnError") {
        let fix = "write File or FallbackToLogsOnError";
        out.invalid(at.field("terminationMessagePolicy"), policy, fix);
    }
    volumes::check_mounts(list(container, "volumeMounts"), pod, &at.field("volumeMounts"), out);
}

/// Containers beside the serving one have no probes unless a feature allows them.
fn check_no_probes(container: &Json, at: &Path, out: &mut Findings) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = child(container, name);
        let path = at.field(name);
        let mut paths: Vec<Path> = set_fields(probe, "Probe")
            .into_iter()
            // What asks has no name of its own in Knative's paths.
            .map(|field| {
                let handler = matches!(field, "exec" | "httpGet" | "tcpSocket" | "grpc");
                if handler { path.clone() } else { path.field(field) }
            })
            .collect();
        paths.dedup();
        if !paths.is_empty() {
            let fix = format!(
                "remove {name}, or set multi-container-probing: \"enabled\" in the ConfigMap config-features"
            );
            out.disallowed(paths, fix);
        }
    }
}

fn check_env(env: &[Json], role: Role, pod: &Pod<'_>, at: &Path, out: &mut Findings) {
    let reserved = match role {
        Role::Only | Role::Serving => &RESERVED_NAMES[..],
        // Only the serving container is given a port.
        Role::Sidecar | Role::Init => &RESERVED_NAMES[1..],
    };
    for (index, variable) in env.iter().enumerate() {
        let at = at.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            out.missing(at.field("name"), "write name: and the variable's name");
        } else if reserved.contains(&name) {
            let message = format!("{} is a reserved environment variable", quote(name));
            let fix = "remove it: it is set for each replica";
            out.say(at.field("name"), message, fix);
        }
        let field_ref = pod.ctx.features.is_allowed("kubernetes.podspec-fieldref");
        let allowed = |name: &str| match name {
            "configMapKeyRef" | "secretKeyRef" => true,
            "fieldRef" | "resourceFieldRef" => field_ref,
            _ => false,
        };
        let source = child(variable, "valueFrom");
        check_fields(source, "EnvVarSource", allowed, &at.field("valueFrom"), out);
    }
}

fn check_env_from(sources: &[Json], at: &Path, out: &mut Findings) {
    // Knative gives these two without the item's index.
    let paths = || vec![at.field("configMapRef"), at.field("secretRef")];
    for source in sources {
        match (has(source, "configMapRef"), has(source, "secretRef")) {
            (true, true) => out.multiple_one_of(paths()),
            (false, false) => out.missing_one_of(paths()),
            _ => {}
        }
    }
}

fn check_image(reference: &str, at: &Path, out: &mut Findings) {
    if reference.is_empty() {
        out.missing(at.clone(), "write image: and where it is, such as docker.io/example/app:1.0");
    } else if !image::is_reference(reference) {
        out.push(Finding {
            message: "Failed to parse image reference".to_owned(),
            paths: vec![at.clone()],
            details: format!(
                "image: {}, error: could not parse reference: {reference}",
                quote(reference)
            ),
            fix: "write [REGISTRY/]NAME[:TAG], such as docker.io/example/app:1.0".to_owned(),
            ..Finding::default()
        });
    }
}

fn check_ports(ports: &[Json], role: Role, at: &Path, out: &mut Findings) {
    if role == Role::Init {
        for port in ports {
            check_port(port, at, out);
        }
        return;
    }
    // Several ports are reported once for the pod; the first is the one that counts.
    let Some(port) = ports.first() else { return };
    check_port(port, at, out);
    let protocol = text(port, "protocol");
    if !matches!(protocol, "" | "TCP") {
        out.invalid(at.field("protocol"), protocol, "write TCP, or remove it");
    }
    let name = text(port, "name");
    if !matches!(name, "" | "h2c" | "http1") {
        out.push(Finding {
            message: format!("Port name {name} is not allowed"),
            paths: vec![at.clone()],
            details: "Name must be empty, or one of: 'h2c', 'http1'".to_owned(),
            fix: "write h2c if it speaks HTTP/2 or gRPC, else http1".to_owned(),
            ..Finding::default()
        });
    }
}

fn check_port(port: &Json, at: &Path, out: &mut Findings) {
    let allowed = |name: &str| matches!(name, "containerPort" | "name" | "protocol");
    check_fields(port, "ContainerPort", allowed, at, out);
    let number = number(port, "containerPort");
    let at = at.field("containerPort");
    if RESERVED_PORTS.contains(&number) {
        out.push(Finding {
            message: format!("invalid value: {number} is a reserved port"),
            paths: vec![at.clone()],
            details: format!("{number} is a reserved port, please use a different value"),
            fix: "write another port, such as 8080".to_owned(),
            ..Finding::default()
        });
    }
    if !(0..=65535).contains(&number) {
        out.out_of_bounds(at, number, 0, 65535);
    }
}
