//! What people do: they make, change and delete Services, and cause load.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use super::cluster::{CRASHING, MISSING};
use super::server::Server;
use super::store::By;
use crate::kubernetes::controller::object::Parts as _;
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

pub(super) const NAMESPACE: &str = "people";
const MIN_SCALE: &str = "autoscaling.knative.dev/min-scale";
/// How long pods may take.
const DEADLINE: &str = "60s";
const SERVICES: [&str; 4] = ["one", "two", "three", "four"];

/// People and what they want.
#[derive(Debug)]
pub(super) struct People {
    rng: Rng,
    /// What is to be of each Service.
    pub(super) services: BTreeMap<String, Value>,
    images: u32,
}

pub(super) fn name(name: &str) -> ObjectName {
    ObjectName::new(NAMESPACE, name)
}

impl People {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), services: BTreeMap::new(), images: 0 }
    }

    /// One of them does something; what.
    pub(super) fn act(&mut self, server: &Server) -> String {
        let which = SERVICES[self.rng.usize(..SERVICES.len())];
        if !self.services.contains_key(which) {
            return self.create(server, which);
        }
        match self.rng.u8(..20) {
            0..2 => self.delete(server, which),
            2 => {
                let deleted = self.delete(server, which);
                format!("{deleted}; {}", self.create(server, which))
            }
            3..10 => self.change(server, which),
            10..13 => self.split(server, which),
            13 => self.label(server, which),
            14 => self.settings(server),
            _ => self.load(server),
        }
    }

    fn image(&mut self) -> String {
        self.images += 1;
        match self.rng.u8(..8) {
            0 => MISSING.to_owned(),
            1 => CRASHING.to_owned(),
            _ => format!("image-{}", self.images),
        }
    }

    /// Kubelet alone asks whether it is ready.
    fn template(&mut self) -> Value {
        let image = self.image();
        let least = if self.rng.u8(..4) == 0 { "2" } else { "0" };
        json!({
            "metadata": {"annotations": {
                MIN_SCALE: least,
                "serving.knative.dev/progress-deadline": DEADLINE,
            }},
            "spec": {"containers": [{
                "image": image, "readinessProbe": {"exec": {"command": ["true"]}},
            }]},
        })
    }

    fn create(&mut self, server: &Server, which: &str) -> String {
        let mut service = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"namespace": NAMESPACE, "name": which},
            "spec": {"template": self.template()},
        });
        if self.rng.u8(..3) == 0 {
            service["metadata"]["annotations"] =
                json!({"serving.knative.dev/rollout-duration": "10s"});
        }
        server.store.lock().create(Kind::Service, service.clone(), "kubectl").unwrap();
        let shown = service["spec"].to_string();
        self.services.insert(which.to_owned(), service);
        format!("create {which} {shown}")
    }

    fn delete(&mut self, server: &Server, which: &str) -> String {
        self.services.remove(which);
        let of = format!("{which}-");
        server.wanted.lock().retain(|revision, _| !revision.starts_with(&of));
        server.store.lock().delete(Kind::Service, &name(which), None).unwrap();
        format!("delete {which}")
    }

    fn put(&mut self, server: &Server, which: &str, change: impl Fn(&mut Value)) -> Value {
        let service = self.services.get_mut(which).unwrap();
        change(service);
        let by = By { manager: "kubectl", part: "" };
        let changed = server.store.lock().update(Kind::Service, &name(which), by, |before| {
            let mut after = before.clone();
            change(&mut after);
            Ok(after)
        });
        changed.unwrap()["spec"].clone()
    }

    fn change(&mut self, server: &Server, which: &str) -> String {
        let template = self.template();
        let spec =
            self.put(server, which, |service| service["spec"]["template"] = template.clone());
        format!("change {which} {spec}")
    }

    fn label(&mut self, server: &Server, which: &str) -> String {
        let value = self.rng.u8(..3).to_string();
        self.put(server, which, |service| service["metadata"]["labels"]["people"] = json!(value));
        format!("label {which} {value}")
    }

    /// Traffic by percent, by tag, to older revisions, or all to the newest one.
    fn split(&mut self, server: &Server, which: &str) -> String {
        let ready = ready_revisions(server, which);
        let traffic = match ready.last() {
            Some(old) if self.rng.bool() => {
                let percent = self.rng.i32(0..=10) * 10;
                json!([
                    {"revisionName": old, "latestRevision": false, "percent": percent, "tag": "old"},
                    {"latestRevision": true, "percent": 100 - percent},
                ])
            }
            Some(old) if self.rng.bool() => {
                json!([{"revisionName": old, "latestRevision": false, "percent": 100}])
            }
            _ => json!([{"latestRevision": true, "percent": 100, "tag": "new"}]),
        };
        let spec = self.put(server, which, |service| service["spec"]["traffic"] = traffic.clone());
        format!("split {which} {}", spec["traffic"])
    }

    fn settings(&mut self, server: &Server) -> String {
        let domain = ["example.org", "example.com"][self.rng.usize(..2)];
        let mut map = json!({
            "metadata": {"namespace": "knative-serving", "name": "config-domain"}, "data": {},
        });
        map["data"][domain] = json!("");
        server.store.lock().put(Kind::ConfigMap, map);
        format!("domain {domain}")
    }

    /// As much load as takes so many replicas, on a revision that is ready.
    fn load(&mut self, server: &Server) -> String {
        let which = SERVICES[self.rng.usize(..SERVICES.len())];
        let ready = ready_revisions(server, which);
        if ready.is_empty() {
            return format!("no load on {which}");
        }
        let revision = &ready[self.rng.usize(..ready.len())];
        let object = server.store.lock().get(Kind::Revision, &name(revision));
        let least = object.map(|object| object.annotation(MIN_SCALE).parse().unwrap_or(0));
        let count = self.rng.u32(least.unwrap_or(0)..5);
        server.wanted.lock().insert(revision.clone(), count);
        format!("load of {count} on {revision}")
    }
}

/// Revisions of a Service that are ready, oldest first.
fn ready_revisions(server: &Server, service: &str) -> Vec<String> {
    let revisions = server.store.lock().all(Kind::Revision);
    let is_ready = |revision: &Value| {
        revision.label("serving.knative.dev/service") == service
            && revision
                .list("/status/conditions")
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let ready = revisions.into_iter().filter(|(_, revision)| is_ready(revision));
    ready.map(|(name, _)| name.name.to_string()).collect()
}
