//! Probes of the serving container.

use serde_json::Value as Json;

use super::findings::{Finding, Findings, Path};
use super::view::{child, has, number};

/// Checks a container's probes. `port_name` is the serving port's name; none for a container that
/// does not serve.
pub(super) fn check_all(container: &Json, port_name: Option<&str>, at: &Path, out: &mut Findings) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if has(container, name) {
            let (probe, at) = (child(container, name), at.field(name));
            check(probe, port_name, &at, out);
            if name == "readinessProbe" {
                check_readiness(probe, &at, out);
            }
        }
    }
}

fn check(probe: &Json, port_name: Option<&str>, at: &Path, out: &mut Findings) {
    for action in ["httpGet", "tcpSocket"] {
        if has(probe, action) {
            check_port(child(probe, action), port_name, &at.field(action), out);
        }
    }
    let actions = ["httpGet", "tcpSocket", "exec", "grpc"];
    let given: Vec<&str> = actions.into_iter().filter(|action| has(probe, action)).collect();
    if given.is_empty() {
        out.missing_one_of(actions.map(|action| at.field(action)).into());
    } else if given.len() > 1 {
        // Knative spells grpc so in this message.
        let spelled = |action: &str| if action == "grpc" { "gRPC" } else { action }.to_owned();
        out.multiple_one_of(given.iter().map(|action| at.field(&spelled(action))).collect());
    }
}

fn check_port(action: &Json, port_name: Option<&str>, at: &Path, out: &mut Findings) {
    let port = child(action, "port");
    let name = port.as_str().unwrap_or_default();
    let is_zero = name.is_empty() && port.as_i64().unwrap_or(0) == 0;
    let (bad, details, fix) = match port_name {
        Some(expected) => (
            !name.is_empty() && name != expected,
            "Probe port must match container port",
            format!("write {expected}, or remove it"),
        ),
        None => (is_zero, "Probe port must be specified", "write the port's number".to_owned()),
    };
    if bad {
        let shown =
            port.as_str().map_or_else(|| port.as_i64().unwrap_or(0).to_string(), str::to_owned);
        out.push(Finding {
            message: format!("invalid value: {shown}"),
            paths: vec![at.field("port")],
            details: details.to_owned(),
            fix,
            ..Finding::default()
        });
    }
}

fn check_readiness(probe: &Json, at: &Path, out: &mut Findings) {
    let mut at_least = |field: &str, low: i64| {
        let value = number(probe, field);
        if value < low {
            out.out_of_bounds(at.field(field), value, low, i32::MAX);
        }
    };
    at_least("periodSeconds", 0);
    at_least("initialDelaySeconds", 0);
    at_least("successThreshold", 1);
    if number(probe, "periodSeconds") != 0 {
        at_least("timeoutSeconds", 1);
        at_least("failureThreshold", 1);
        return;
    }
    // A period of zero asks for Knative's own, fast probing.
    for field in ["failureThreshold", "timeoutSeconds"] {
        if number(probe, field) != 0 {
            let message = format!("{field} is disallowed when periodSeconds is zero");
            out.say(
                at.field(field),
                message,
                format!("write periodSeconds: 10, or remove {field}"),
            );
        }
    }
}
