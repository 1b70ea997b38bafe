//! The parts of the API's answers that commands need. What is absent counts as empty, so that a
//! client understands a tidegate of another version.

use serde::Deserialize;

/// Services and revisions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Status {
    pub(in crate::cli) services: Vec<Service>,
    pub(in crate::cli) rejected: Vec<String>,
    pub(in crate::cli) conditions: Vec<String>,
    pub(in crate::cli) revisions: Vec<Revision>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Service {
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) name: String,
    pub(in crate::cli) url: String,
    pub(in crate::cli) traffic: Vec<Traffic>,
    pub(in crate::cli) tags: Vec<Tag>,
    pub(in crate::cli) problem: Option<Problem>,
    pub(in crate::cli) warnings: Vec<String>,
    pub(in crate::cli) canary: Option<CanaryOf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct CanaryOf {
    pub(in crate::cli) state: String,
    pub(in crate::cli) old: String,
    pub(in crate::cli) new: String,
    pub(in crate::cli) share: u8,
    pub(in crate::cli) of: u8,
    pub(in crate::cli) step: usize,
    pub(in crate::cli) steps: Vec<u8>,
    pub(in crate::cli) max_errors: f64,
    pub(in crate::cli) max_latency: f64,
    /// Of the old and the new one.
    pub(in crate::cli) seen: Vec<Figures>,
    pub(in crate::cli) why: String,
    pub(in crate::cli) taken_back_unix_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Figures {
    pub(in crate::cli) requests: u64,
    pub(in crate::cli) errors: u64,
    pub(in crate::cli) median_ms: f64,
    pub(in crate::cli) p95_ms: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Traffic {
    pub(in crate::cli) revision: String,
    pub(in crate::cli) percent: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Tag {
    pub(in crate::cli) name: String,
    pub(in crate::cli) revision: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Problem {
    pub(in crate::cli) reason: String,
    pub(in crate::cli) message: String,
}

impl Problem {
    /// The first line says what is wrong; the rest, what to write, is in the answer.
    pub(in crate::cli) fn short(&self) -> String {
        format!("{}: {}", self.reason, self.message.lines().next().unwrap_or_default())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Revision {
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) name: String,
    pub(in crate::cli) service: Option<String>,
    pub(in crate::cli) container_concurrency: u32,
    pub(in crate::cli) metric: String,
    pub(in crate::cli) target: f64,
    pub(in crate::cli) min_scale: u32,
    pub(in crate::cli) max_scale: Option<u32>,
    pub(in crate::cli) reachable: bool,
    pub(in crate::cli) desired: u32,
    pub(in crate::cli) ready: u32,
    pub(in crate::cli) starting: u32,
    pub(in crate::cli) in_flight: u64,
    pub(in crate::cli) waiting: u32,
    pub(in crate::cli) to_renew: u32,
    pub(in crate::cli) scaling: Scaling,
    pub(in crate::cli) problem: Option<Problem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Scaling {
    pub(in crate::cli) stable_window_s: f64,
    pub(in crate::cli) panic_window_s: f64,
    pub(in crate::cli) panic_threshold: f64,
    pub(in crate::cli) initial_scale: u32,
    pub(in crate::cli) activation_scale: u32,
    pub(in crate::cli) retention_s: f64,
    pub(in crate::cli) scale_down_delay_s: f64,
}

/// Decisions, newest first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Decisions {
    pub(in crate::cli) decisions: Vec<Decision>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Decision {
    pub(in crate::cli) age_ms: u64,
    pub(in crate::cli) trigger: String,
    pub(in crate::cli) stable: f64,
    pub(in crate::cli) panic: f64,
    pub(in crate::cli) target: f64,
    pub(in crate::cli) ready: u32,
    pub(in crate::cli) waiting: u32,
    pub(in crate::cli) panic_mode: bool,
    pub(in crate::cli) desired: u32,
    pub(in crate::cli) requested: u32,
    pub(in crate::cli) clamps: Vec<String>,
}

/// Requests that waited or were refused, newest first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Requests {
    pub(in crate::cli) requests: Vec<Noted>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Noted {
    pub(in crate::cli) id: String,
    pub(in crate::cli) unix_ms: u64,
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) revision: String,
    pub(in crate::cli) waited_ms: f64,
    pub(in crate::cli) met: Met,
    pub(in crate::cli) problem: Option<Problem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Met {
    pub(in crate::cli) ready: u32,
    pub(in crate::cli) starting: u32,
    pub(in crate::cli) waiting: u32,
}

/// Lines that replicas printed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Logs {
    pub(in crate::cli) lines: Vec<Line>,
    pub(in crate::cli) elsewhere: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Line {
    pub(in crate::cli) number: u64,
    pub(in crate::cli) replica: u64,
    pub(in crate::cli) stream: String,
    pub(in crate::cli) text: String,
}

impl Status {
    /// The service of this name.
    pub(in crate::cli) fn service(&self, name: &Name) -> Option<&Service> {
        self.services.iter().find(|service| name.is(&service.namespace, &service.name))
    }

    /// What a name stands for: the revisions of the service, or the revision.
    pub(in crate::cli) fn revisions_of(&self, name: &Name) -> Vec<&Revision> {
        let is_services = |revision: &&Revision| {
            revision.service.as_deref().is_some_and(|own| name.is(&revision.namespace, own))
        };
        if self.service(name).is_some() {
            return self.revisions.iter().filter(is_services).collect();
        }
        let is_it = |revision: &&Revision| name.is(&revision.namespace, &revision.name);
        self.revisions.iter().filter(is_it).collect()
    }
}

impl Revision {
    /// Its path in the API.
    pub(in crate::cli) fn path(&self, what: &str) -> String {
        format!("/api/v1/revisions/{}/{}{what}", self.namespace, self.name)
    }

    /// Its name, for people.
    pub(in crate::cli) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What somebody calls a service or revision.
#[derive(Debug)]
pub(in crate::cli) struct Name {
    namespace: String,
    name: String,
}

impl Name {
    /// As written: `NAME`, which is in the namespace `default`, or `NAMESPACE/NAME`.
    pub(in crate::cli) fn new(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// The path of the service in the API.
    pub(in crate::cli) fn service_path(&self, what: &str) -> String {
        format!("/api/v1/services/{}/{}{what}", self.namespace, self.name)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
