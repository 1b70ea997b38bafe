//! Probes of the serving container, with Kubernetes' defaults where Knative sets none.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::env::{list, text};
use crate::model::{Probe, ProbeAction, Probes};

/// The probes of a container after admission. Without a readiness probe: a connection to the port,
/// asked as often as it takes (`periodSeconds` 0), as Knative does.
pub(super) fn probes(container: &Value) -> Probes {
    let port = ServingPort::of(container);
    let given = |field: &str| container.get(field).filter(|probe| probe.is_object());
    let empty = Value::Object(serde_json::Map::new());
    let readiness = given("readinessProbe").unwrap_or(&empty);
    Probes {
        startup: given("startupProbe").map(|written| probe(written, &port, 10)),
        readiness: probe(readiness, &port, 0),
        liveness: given("livenessProbe").map(|written| probe(written, &port, 10)),
    }
}

/// The port a manifest writes for the container, which here only means "the replica's own".
struct ServingPort<'a> {
    number: u64,
    name: Option<&'a str>,
}

impl<'a> ServingPort<'a> {
    fn of(container: &'a Value) -> Self {
        let port = list(container, "ports").first();
        let number = port.and_then(|port| port.get("containerPort")?.as_u64());
        let number = number.filter(|number| *number != 0);
        // Knative's default port.
        Self { number: number.unwrap_or(8080), name: port.and_then(|port| text(port, "name")) }
    }

    /// A port other than the replica's own.
    fn other(&self, written: Option<&Value>) -> Option<u16> {
        let number = match written? {
            Value::Number(number) => number.as_u64()?,
            Value::String(name) if Some(name.as_str()) == self.name => return None,
            Value::String(digits) => digits.parse().ok()?,
            _ => return None,
        };
        if number == self.number {
            return None;
        }
        u16::try_from(number).ok().filter(|number| *number != 0)
    }
}

fn probe(written: &Value, port: &ServingPort<'_>, default_period: u64) -> Probe {
    let number = |field: &str| written.get(field).and_then(Value::as_u64);
    let positive = |field: &str, default: u64| number(field).filter(|n| *n > 0).unwrap_or(default);
    let count = |field, default| u32::try_from(positive(field, default)).unwrap_or(u32::MAX);
    Probe {
        action: action(written, port),
        initial_delay: Duration::from_secs(number("initialDelaySeconds").unwrap_or(0)),
        period: Duration::from_secs(positive("periodSeconds", default_period)),
        timeout: Duration::from_secs(positive("timeoutSeconds", 1)),
        success_threshold: count("successThreshold", 1),
        failure_threshold: count("failureThreshold", 3),
    }
}

fn action(written: &Value, port: &ServingPort<'_>) -> ProbeAction {
    let given = |field: &str| written.get(field).filter(|action| action.is_object());
    if let Some(http) = given("httpGet") {
        let path = text(http, "path").filter(|path| !path.is_empty()).unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut headers: Vec<(Arc<str>, Arc<str>)> = list(http, "httpHeaders")
            .iter()
            .filter_map(|header| Some((text(header, "name")?, text(header, "value")?)))
            .map(|(name, value)| (Arc::from(name), Arc::from(value)))
            .collect();
        let has_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if let Some(host) = text(http, "host").filter(|host| !host.is_empty() && !has_host) {
            // The replica is on this machine whatever `host` says; it may still look at the name.
            headers.push((Arc::from("Host"), Arc::from(host)));
        }
        return ProbeAction::Http {
            path: format!("{slash}{path}").into(),
            port: port.other(http.get("port")),
            headers,
        };
    }
    if let Some(grpc) = given("grpc") {
        let service = Arc::from(text(grpc, "service").unwrap_or_default());
        return ProbeAction::Grpc { port: port.other(grpc.get("port")), service };
    }
    if let Some(exec) = given("exec") {
        let command: Vec<Arc<str>> =
            list(exec, "command").iter().filter_map(Value::as_str).map(Arc::from).collect();
        if !command.is_empty() {
            return ProbeAction::Exec { command };
        }
    }
    let tcp = given("tcpSocket");
    ProbeAction::Tcp { port: port.other(tcp.and_then(|tcp| tcp.get("port"))) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_any_the_port_is_asked_as_often_as_it_takes() {
        let found = probes(&json!({}));
        let readiness = Probe {
            action: ProbeAction::Tcp { port: None },
            initial_delay: Duration::ZERO,
            period: Duration::ZERO,
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        };
        assert_eq!(found, Probes { startup: None, readiness, liveness: None });
    }

    #[test]
    fn numbers_and_defaults() {
        let found = probes(&json!({
            "readinessProbe": {"periodSeconds": 3, "timeoutSeconds": 2, "failureThreshold": 5,
                "initialDelaySeconds": 4, "successThreshold": 2, "httpGet": {"path": "ready"}},
            "livenessProbe": {"tcpSocket": {"port": 9000}},
            "startupProbe": {"exec": {"command": ["test", "-f", "/tmp/up"]}},
        }));
        let seconds = Duration::from_secs;
        assert_eq!(
            found.readiness,
            Probe {
                action: ProbeAction::Http { path: "/ready".into(), port: None, headers: vec![] },
                initial_delay: seconds(4),
                period: seconds(3),
                timeout: seconds(2),
                success_threshold: 2,
                failure_threshold: 5,
            }
        );
        let liveness = found.liveness.unwrap();
        assert_eq!(liveness.action, ProbeAction::Tcp { port: Some(9000) });
        assert_eq!((liveness.period, liveness.timeout), (seconds(10), seconds(1)));
        let command = vec!["test".into(), "-f".into(), "/tmp/up".into()];
        assert_eq!(found.startup.unwrap().action, ProbeAction::Exec { command });
    }

    #[test]
    fn a_probe_that_names_the_port_means_the_replicas_own() {
        let port = |ports: Value, written: Value| {
            let container = json!({
                "ports": ports, "readinessProbe": {"grpc": {"port": written, "service": "a"}},
            });
            match probes(&container).readiness.action {
                ProbeAction::Grpc { port, service } if *service == *"a" => port,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(port(json!([{"containerPort": 3000}]), json!(3000)), None);
        assert_eq!(port(json!([{"containerPort": 3000}]), json!(8080)), Some(8080));
        assert_eq!(port(json!([{"containerPort": 3000, "name": "h2c"}]), json!("h2c")), None);
        assert_eq!(port(json!([{"name": "h2c"}]), json!(8080)), None);
        assert_eq!(port(json!([]), json!(8080)), None);
        assert_eq!(port(json!([]), json!(0)), None);
        assert_eq!(port(json!([]), json!("9001")), Some(9001));
    }
}
