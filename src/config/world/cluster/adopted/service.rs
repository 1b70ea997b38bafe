//! What a Service (core) says that has its Deployment adopted.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::config::admission::{AUTOSCALING, Annotations};
use crate::config::text::parse_duration;
use crate::config::world::admitted::{label, metadata_map, texts};
use crate::config::world::annotations::{ADOPTION_ANNOTATIONS, names};
use crate::config::world::dependencies::Needed;
use crate::config::world::env::{list, text};
use crate::config::world::own::{OwnSettings, PREFIX, SHARED_SETTINGS, own_settings};
use crate::model::{ContainerConcurrency, Protocol, QueueSettings};

/// Has the Deployment behind a Service adopted.
pub const ADOPT: &str = "tidegate.dev/adopt";
/// Has callers of the Service's own name go through tidegate, too.
pub const ADOPT_SERVICE: &str = "tidegate.dev/adopt-service";
/// A further condition in the selector of a Service whose name is taken over: no pod has such a
/// label, so nothing but tidegate's own slices leads anywhere, and without it the selector is as it
/// was.
pub const SELECTOR_KEY: &str = "tidegate.dev/adopted";
/// Condition of the Service: a request was seen.
pub const REQUEST_SEEN: &str = "tidegate.dev/RequestSeen";

/// The annotations there are, less the prefix; those of a template's queue come on top.
const KNOWN: [&str; 6] = names(&ADOPTION_ANNOTATIONS);
/// How long a request waits for a replica unless `queue-timeout` says otherwise.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(300);

/// A port of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedPort {
    /// Its name; empty where there is none.
    pub name: Arc<str>,
    /// Its number.
    pub number: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub transport: Arc<str>,
    /// What it is in the pods, if that says another number or a name.
    pub target: Option<TargetPort>,
    protocol: Arc<str>,
}

/// The port of the pods, as a Service names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// Its number.
    Number(u16),
    /// The name of a container's port.
    Name(Arc<str>),
}

/// Why something is not adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs.
    pub reason: &'static str,
    /// A sentence that says what to do.
    pub message: String,
}

impl Refusal {
    /// From its parts.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What matters of a Service that is adopted, or was and still shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdoptedService {
    /// Its UID.
    pub uid: Arc<str>,
    /// Whether it is to be adopted.
    pub is_wanted: bool,
    /// Whether its own name is to lead to tidegate.
    pub takes_name: bool,
    /// Whether its selector leads nowhere for that reason.
    pub is_taken: bool,
    /// Which pods are its, whether or not the selector leads nowhere.
    pub selector: BTreeMap<String, String>,
    /// Its ports, in its order.
    pub ports: Vec<AdoptedPort>,
    /// Whether a request was seen already.
    pub is_seen: bool,
    /// Annotations that cannot be read and count as not given, one text each.
    pub warnings: Vec<String>,
    /// `kind/name` of what is scaled, in lower case, where it is named.
    pub workload: Option<Arc<str>>,
    /// Conditions of its status, as they are.
    pub conditions: Value,
    /// Why its name cannot be taken over.
    pub fixed_name: Option<Refusal>,
    /// Whether pods count that are not ready.
    pub publishes_not_ready: bool,
    /// Index of the port whose requests go through tidegate.
    pub served: Result<usize, Refusal>,
    pub(super) created: Arc<str>,
    pub(super) labels: Annotations,
    pub(super) annotations: Annotations,
    pub(super) autoscaling: Annotations,
    pub(super) queue: QueueSettings,
    pub(super) depends_on: Vec<Needed>,
    pub(super) concurrency: ContainerConcurrency,
    pub(super) timeout: Option<Duration>,
    refusal: Option<Refusal>,
}

impl AdoptedService {
    /// Reads a Service; none if it is not adopted and nothing of it shows that it was.
    pub fn read(object: &Value) -> Option<Self> {
        let annotations = metadata_map(object, "annotations");
        let is = |key: &str| annotations.get(key).map(String::as_str);
        let takes_name = is(ADOPT_SERVICE) == Some("true");
        let is_wanted = is(ADOPT).map_or(takes_name, |value| value == "true");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let mut selector = texts(spec.get("selector"));
        let is_taken = selector.remove(SELECTOR_KEY).is_some();
        let status = object.get("status").unwrap_or(&Value::Null);
        let conditions = list(status, "conditions");
        let mut types = conditions.iter().filter_map(|condition| text(condition, "type"));
        let is_noted = types.any(|of| of.starts_with(PREFIX));
        if !is_wanted && !is_taken && !is_noted {
            return None;
        }
        let mut warnings = Vec::new();
        let mut shared = annotations.clone();
        shared.retain(|key, _| is_shared(key));
        let own = own_settings(&shared).unwrap_or_else(|errors| {
            warnings.extend(errors.iter().map(|e| format!("{}: {}; {}", e.key, e.message, e.fix)));
            OwnSettings::default()
        });
        let mut queue = own.queue;
        queue.timeout = queue.timeout.or(Some(QUEUE_TIMEOUT));
        warnings.extend(unknown(&annotations));
        let concurrency = concurrency(&annotations, &mut warnings);
        let timeout = timeout(&annotations, &mut warnings);
        let mut autoscaling = annotations.clone();
        autoscaling.retain(|key, _| key.starts_with(AUTOSCALING));
        let ports: Vec<AdoptedPort> = list(spec, "ports").iter().filter_map(port).collect();
        let mut types = conditions.iter().filter_map(|condition| text(condition, "type"));
        let seen = types.any(|of| of == REQUEST_SEEN);
        let mut shown = annotations.clone();
        shown.retain(|key, _| !key.starts_with("kubectl.kubernetes.io/"));
        Some(Self {
            uid: object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or("").into(),
            is_wanted,
            takes_name: is_wanted && takes_name,
            is_taken,
            served: served(&ports, annotations.get("tidegate.dev/port").map(String::as_str)),
            ports,
            is_seen: seen,
            warnings,
            workload: annotations.get("tidegate.dev/workload").map(|w| w.to_lowercase().into()),
            conditions: Value::Array(conditions.to_vec()),
            fixed_name: fixed_name(spec),
            publishes_not_ready: spec.get("publishNotReadyAddresses") == Some(&Value::Bool(true)),
            refusal: refusal(object, &selector),
            selector,
            created: super::super::objects::created(object),
            labels: metadata_map(object, "labels"),
            annotations: shown,
            autoscaling,
            queue,
            depends_on: own.depends_on,
            concurrency,
            timeout,
        })
    }

    /// The port whose requests go through tidegate.
    ///
    /// # Errors
    /// Why the Service cannot be adopted.
    pub fn served(&self) -> Result<&AdoptedPort, Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let index = self.served.clone()?;
        self.ports.get(index).ok_or_else(|| no_port(&self.ports))
    }
}

fn port(port: &Value) -> Option<AdoptedPort> {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let target = port.get("targetPort").and_then(|target| match target {
        Value::String(name) => Some(TargetPort::Name(name.as_str().into())),
        other => number(other).filter(|number| *number > 0).map(TargetPort::Number),
    });
    Some(AdoptedPort {
        name: text(port, "name").unwrap_or_default().into(),
        number: number(port.get("port")?)?,
        transport: text(port, "protocol").unwrap_or("TCP").into(),
        target,
        protocol: text(port, "appProtocol").unwrap_or_default().into(),
    })
}

impl AdoptedPort {
    /// What it speaks: by `appProtocol`, else by the beginning of its name; none = nothing that is
    /// proxied here. Names as Kubernetes (KEP-3726) and service meshes give them.
    pub fn speaks(&self) -> Option<Protocol> {
        if *self.transport != *"TCP" {
            return None;
        }
        let protocol = self.protocol.to_ascii_lowercase();
        let by_name = self.name.split('-').next().unwrap_or_default();
        let is_web = self.name.starts_with("grpc-web");
        match if protocol.is_empty() { by_name } else { &protocol } {
            "grpc" if is_web && protocol.is_empty() => Some(Protocol::Http1),
            "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Some(Protocol::H2c),
            "https" | "tls" | "kubernetes.io/wss" | "wss" => None,
            "tcp" | "udp" | "mysql" | "postgres" | "postgresql" | "redis" | "mongo" | "mongodb"
            | "kafka" | "amqp" => None,
            _ => Some(Protocol::Http1),
        }
    }

    fn shown(&self) -> String {
        let name = if self.name.is_empty() { "" } else { " " };
        format!("{}{name}{}", self.number, self.name)
    }
}

/// The port that is named, the only one that can be, the one that is HTTP's by its number or name.
fn served(ports: &[AdoptedPort], named: Option<&str>) -> Result<usize, Refusal> {
    let can = |port: &AdoptedPort| port.speaks().is_some();
    if let Some(named) = named {
        let is = |port: &AdoptedPort| *port.name == *named || port.number.to_string() == named;
        let found = ports.iter().position(is);
        return found.filter(|index| can(&ports[*index])).ok_or_else(|| {
            let has = ports.iter().map(AdoptedPort::shown).collect::<Vec<_>>().join(", ");
            let message = format!(
                "tidegate.dev/port is {named:?}: write the name or number of a port that speaks \
                 HTTP; the Service has {has}"
            );
            Refusal::new("NoPort", message)
        });
    }
    let fits: Vec<usize> = (0..ports.len()).filter(|index| can(&ports[*index])).collect();
    let with = |test: &dyn Fn(&AdoptedPort) -> bool| {
        let mut found = fits.iter().copied().filter(|index| test(&ports[*index]));
        found.next()
    };
    match fits.as_slice() {
        [] => Err(no_port(ports)),
        [only] => Ok(*only),
        [first, ..] => Ok(with(&|port| port.name.starts_with("http") || port.number == 80)
            .or_else(|| with(&|port| !port.protocol.is_empty()))
            .or_else(|| with(&|port| port.speaks() == Some(Protocol::H2c)))
            .unwrap_or(*first)),
    }
}

fn no_port(ports: &[AdoptedPort]) -> Refusal {
    let has = ports.iter().map(AdoptedPort::shown).collect::<Vec<_>>().join(", ");
    let message = format!(
        "none of its ports ({has}) speaks HTTP by its appProtocol, name and transport; name one \
         with tidegate.dev/port"
    );
    Refusal::new("NoPort", message)
}

fn refusal(object: &Value, selector: &BTreeMap<String, String>) -> Option<Refusal> {
    if label(object, "serving.knative.dev/route").is_some()
        || label(object, "serving.knative.dev/revision").is_some()
    {
        let message = "this Service is part of a Knative Service already";
        return Some(Refusal::new("Knative", message));
    }
    selector.is_empty().then(|| {
        let message = "the Service has no selector, so nothing tells which pods are behind it";
        Refusal::new("NoSelector", message)
    })
}

/// Services whose name leads somewhere by other means than slices of any pods.
fn fixed_name(spec: &Value) -> Option<Refusal> {
    let is = |field: &str, value: &str| text(spec, field) == Some(value);
    let message = if is("clusterIP", "None") {
        "the Service is headless: its name gives the addresses of pods, at ports that tidegate does \
         not have; make it one with a cluster IP, or call the new host"
    } else if is("internalTrafficPolicy", "Local") {
        "internalTrafficPolicy is Local: callers on nodes without a pod of tidegate would reach \
         nothing; make it Cluster"
    } else {
        return None;
    };
    Some(Refusal::new("NameNotAdoptable", message))
}

fn is_shared(key: &str) -> bool {
    key.strip_prefix(PREFIX).is_some_and(|name| SHARED_SETTINGS.contains(&name))
}

fn unknown(annotations: &Annotations) -> Vec<String> {
    let own = annotations.keys().filter(|key| !is_shared(key));
    let names = own.filter_map(|key| key.strip_prefix(PREFIX));
    let unknown = names.filter(|name| !KNOWN.contains(name));
    unknown.map(|name| format!("{PREFIX}{name}: a Service has no such setting")).collect()
}

fn concurrency(annotations: &Annotations, warnings: &mut Vec<String>) -> ContainerConcurrency {
    let key = "tidegate.dev/container-concurrency";
    let Some(given) = annotations.get(key) else { return ContainerConcurrency::Unlimited };
    match given.parse::<u32>() {
        Ok(limit) => NonZeroU32::new(limit)
            .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost),
        Err(_) => {
            warnings.push(format!("{key}: {given:?} is no number of requests; write \"10\""));
            ContainerConcurrency::Unlimited
        }
    }
}

fn timeout(annotations: &Annotations, warnings: &mut Vec<String>) -> Option<Duration> {
    let key = "tidegate.dev/timeout";
    let given = annotations.get(key)?;
    let nanos = parse_duration(given).ok().and_then(|nanos| u64::try_from(nanos).ok());
    let timeout = nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    if timeout.is_none() {
        warnings.push(format!("{key}: {given:?} is no time; write \"60s\""));
    }
    timeout
}
