//! What else lives in a cluster: what makes pods of Deployments, the kubelet, what makes slices of
//! Services, what collects garbage. Each does its work a while after there is any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::server::Server;
use super::store::name_of;
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

/// An image that is not there.
pub(super) const MISSING: &str = "missing";
/// An image whose program ends.
pub(super) const CRASHING: &str = "crashing";

const TICK: Duration = Duration::from_millis(600);

/// The cluster's own programs.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// When each pod is ready, or gone.
    due: BTreeMap<String, Instant>,
    /// When a Deployment last got on, and whether it ever was complete.
    progress: BTreeMap<String, (Instant, Value, bool)>,
    addresses: u32,
    pods: u64,
    seen: u64,
    busy: bool,
}

impl Cluster {
    pub(super) async fn run(mut self, server: &Server) {
        loop {
            sleep(TICK).await;
            self.step(server);
        }
    }

    /// Does a part of what there is to do.
    fn step(&mut self, server: &Server) {
        let revision = server.store.lock().revision();
        if revision == self.seen && !self.busy {
            return;
        }
        self.seen = revision;
        self.busy = false;
        let is_now = |chance: f64| server.rng.lock().f64() < chance;
        let all = |kind| server.store.lock().all(kind);
        let pods = all(Kind::Pod);
        for (_, deployment) in all(Kind::Deployment) {
            if is_now(0.7) {
                self.deploy(server, &deployment, &pods);
            }
            self.state(server, &deployment);
        }
        for (name, pod) in &pods {
            self.pod(server, name, pod);
        }
        for (_, service) in all(Kind::CoreService) {
            if is_now(0.6) {
                slice(server, &service);
            } else {
                self.busy = true;
            }
        }
        if is_now(0.4) {
            collect(server);
        } else {
            self.busy = true;
        }
    }

    /// Makes and ends pods, one at a time, as `maxUnavailable: 0` has it.
    fn deploy(&mut self, server: &Server, deployment: &Value, pods: &[(ObjectName, Arc<Value>)]) {
        let template = &deployment["spec"]["template"];
        let of = owned(deployment, pods);
        let (new, old): (Vec<&Value>, Vec<&Value>) =
            of.iter().partition(|pod| pod["spec"] == template["spec"]);
        let wanted = usize::try_from(deployment["spec"]["replicas"].as_i64().unwrap()).unwrap();
        let ready = of.iter().filter(|pod| is_ready(pod)).count();
        let mut store = server.store.lock();
        if new.len() > wanted {
            self.busy = true;
            if let Some(pod) = new.iter().min_by_key(|pod| (is_ready(pod), cost(pod))) {
                store.delete(Kind::Pod, &name_of(pod), None).unwrap();
            }
        } else if new.len() < wanted && of.len() <= wanted {
            self.busy = true;
            self.pods += 1;
            let metadata = &deployment["metadata"];
            let name = format!("{}-{}", metadata["name"].as_str().unwrap(), self.pods);
            let pod = json!({
                "metadata": {
                    "namespace": metadata["namespace"], "name": name,
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"],
                        "uid": metadata["uid"], "controller": true,
                    }],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            });
            store.put(Kind::Pod, pod);
        } else if let Some(pod) = old.iter().min_by_key(|pod| is_ready(pod))
            && (ready > wanted || !is_ready(pod) || wanted == 0)
        {
            self.busy = true;
            store.delete(Kind::Pod, &name_of(pod), None).unwrap();
        }
    }

    /// The status of a Deployment.
    fn state(&mut self, server: &Server, deployment: &Value) {
        let pods = server.store.lock().all(Kind::Pod);
        let of = owned(deployment, &pods);
        let ready = of.iter().filter(|pod| is_ready(pod)).count();
        let uid = deployment["metadata"]["uid"].as_str().unwrap().to_owned();
        let wanted = usize::try_from(deployment["spec"]["replicas"].as_i64().unwrap()).unwrap();
        let is_complete = ready >= wanted && of.len() == wanted;
        let now = Instant::now();
        let shape = json!([ready, of.len(), deployment["spec"]]);
        let (since, before, was_complete) =
            self.progress.entry(uid).or_insert((now, Value::Null, false));
        if *before != shape {
            (*since, *before) = (now, shape);
        }
        *was_complete |= is_complete;
        let seconds = deployment["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(600);
        let is_late = !*was_complete && since.elapsed() > Duration::from_secs(seconds);
        self.busy |= !is_complete;
        let (status, reason) = match (is_complete, is_late) {
            (true, _) => ("True", "NewReplicaSetAvailable"),
            (false, false) => ("True", "ReplicaSetUpdated"),
            (false, true) => ("False", "ProgressDeadlineExceeded"),
        };
        let status = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": of.len(), "readyReplicas": ready, "availableReplicas": ready,
            "conditions": [{"type": "Progressing", "status": status, "reason": reason}],
        });
        if deployment["status"] != status {
            let mut object = deployment.clone();
            object["status"] = status;
            server.store.lock().put(Kind::Deployment, object);
        }
    }

    /// The kubelet.
    fn pod(&mut self, server: &Server, name: &ObjectName, pod: &Arc<Value>) {
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let is_leaving = !pod["metadata"]["deletionTimestamp"].is_null();
        let is_settled = !is_leaving && (is_ready(pod) || !pod["status"]["reason"].is_null());
        if is_settled {
            return;
        }
        self.busy = true;
        let key = format!("{uid} {is_leaving}");
        let mut rng = server.rng.lock();
        let after = Duration::from_millis(rng.u64(100..6000));
        drop(rng);
        let due = *self.due.entry(key.clone()).or_insert_with(|| Instant::now() + after);
        if Instant::now() < due {
            return;
        }
        self.due.remove(&key);
        if is_leaving {
            return server.store.lock().remove(Kind::Pod, name);
        }
        let mut started = (**pod).clone();
        started["status"] = self.started(pod["spec"]["containers"][0]["image"].as_str().unwrap());
        server.store.lock().put(Kind::Pod, started);
    }

    fn started(&mut self, image: &str) -> Value {
        self.addresses += 1;
        let address = format!("10.1.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
        let waiting = |reason: &str| {
            json!({
                "phase": "Pending", "reason": reason, "podIP": address,
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{
                    "name": "user-container", "state": {"waiting": {"reason": reason}},
                }],
            })
        };
        match image {
            MISSING => waiting("ErrImagePull"),
            CRASHING => {
                let mut status = waiting("CrashLoopBackOff");
                status["containerStatuses"][0]["lastState"] =
                    json!({"terminated": {"exitCode": 7, "message": "ended"}});
                status
            }
            _ => json!({
                "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "user-container", "ready": true}],
            }),
        }
    }
}

fn owned<'a>(deployment: &Value, pods: &'a [(ObjectName, Arc<Value>)]) -> Vec<&'a Value> {
    let is_owned = |pod: &&Value| {
        pod["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"]
            && pod["metadata"]["deletionTimestamp"].is_null()
    };
    pods.iter().map(|(_, pod)| &**pod).filter(is_owned).collect()
}

pub(super) fn is_ready(pod: &Value) -> bool {
    let is_leaving = !pod["metadata"]["deletionTimestamp"].is_null();
    pod["status"]["conditions"][0]["status"] == "True" && !is_leaving
}

fn cost(pod: &Value) -> i64 {
    let cost = &pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
    cost.as_str().and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// The slice of a Service (core) that selects pods.
fn slice(server: &Server, service: &Value) {
    let Some(selector) = service["spec"]["selector"].as_object() else { return };
    let mut store = server.store.lock();
    let is_selected = |pod: &Value| {
        let labels = &pod["metadata"]["labels"];
        selector.iter().all(|(key, value)| labels[key] == *value)
    };
    let pods = store.all(Kind::Pod);
    let selected = pods.iter().filter(|(_, pod)| is_selected(pod));
    let endpoints: Vec<Value> = selected
        .filter(|(_, pod)| !pod["status"]["podIP"].is_null())
        .map(|(_, pod)| {
            let is_leaving = !pod["metadata"]["deletionTimestamp"].is_null();
            json!({
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": is_ready(pod), "terminating": is_leaving},
                "targetRef": {"uid": pod["metadata"]["uid"]},
            })
        })
        .collect();
    let metadata = &service["metadata"];
    let name = format!("{}-x", metadata["name"].as_str().unwrap());
    let name = ObjectName::new(metadata["namespace"].as_str().unwrap(), name);
    let mut labels = metadata["labels"].clone();
    labels["kubernetes.io/service-name"] = metadata["name"].clone();
    let owner = json!([{
        "apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"],
        "controller": true,
    }]);
    let former = store.get(Kind::EndpointSlice, &name);
    let is_same = |former: &Value| {
        former["endpoints"].as_array() == Some(&endpoints)
            && former["metadata"]["labels"] == labels
            && former["metadata"]["ownerReferences"] == owner
    };
    if former.as_deref().is_some_and(is_same) {
        return;
    }
    let mut slice = former.as_deref().cloned().unwrap_or_default();
    slice["metadata"]["namespace"] = metadata["namespace"].clone();
    slice["metadata"]["name"] = json!(&*name.name);
    slice["metadata"]["labels"] = labels;
    slice["metadata"]["ownerReferences"] = owner;
    slice["endpoints"] = Value::Array(endpoints);
    store.put(Kind::EndpointSlice, slice);
}

const OWNED: [Kind; 7] = [
    Kind::Configuration,
    Kind::Route,
    Kind::Revision,
    Kind::Deployment,
    Kind::CoreService,
    Kind::PodAutoscaler,
    Kind::EndpointSlice,
];

/// Objects whose owner is gone.
pub(super) fn orphans(server: &Server) -> Vec<(Kind, ObjectName)> {
    let store = server.store.lock();
    let kinds = OWNED.into_iter().chain([Kind::Service, Kind::Pod]);
    let all: Vec<(Kind, ObjectName, Arc<Value>)> = kinds
        .flat_map(|kind| store.all(kind).into_iter().map(move |(n, o)| (kind, n, o)))
        .collect();
    let uids: BTreeSet<&str> =
        all.iter().filter_map(|(_, _, object)| object["metadata"]["uid"].as_str()).collect();
    let is_orphan = |object: &Value| {
        let owner = object["metadata"]["ownerReferences"][0]["uid"].as_str();
        owner.is_some_and(|owner| !uids.contains(owner))
    };
    let orphans = all.iter().filter(|(_, _, object)| is_orphan(object));
    orphans.map(|(kind, name, _)| (*kind, name.clone())).collect()
}

/// Deletes what nobody owns any more.
fn collect(server: &Server) {
    for (kind, name) in orphans(server) {
        // A pod on its way out is its kubelet's.
        drop(server.store.lock().delete(kind, &name, None));
    }
}
