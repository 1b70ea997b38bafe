//! Objects in by the mirrors, updates out.

use futures_util::stream;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::facts::{DeploymentFacts, PodFacts, Slice};
use super::*;
use crate::config::settings::ObservabilityConfig;
use crate::config::world::cluster::{RevisionObject, RouteObject};
use crate::kubernetes::ROLLOUT_ANNOTATION;
use crate::kubernetes::feed::Seen;
use crate::kubernetes::mirror::value;
use crate::platform::ReplicaCounts;

/// The source without its watches: objects are put and removed.
struct Stage {
    state: State,
    updates: Updates,
    received: mpsc::Receiver<Update>,
}

fn object(value: Value) -> Arc<DynamicObject> {
    Arc::new(serde_json::from_value(value).unwrap())
}

impl Stage {
    fn new() -> Self {
        let (updates, received) = mpsc::channel(64);
        let state = {
            let adoption = Adoption::new(Tell::default());
            State::new(Rc::default(), adoption, Arc::default(), Takers::default())
        };
        Self { state, updates, received }
    }

    async fn feed(&mut self, kind: Kind, event: Seen) {
        let mirrors = Rc::clone(&self.state.mirrors);
        let tell = Arc::clone(&self.state.tell);
        let changed = |name: &ObjectName| tell.tell(Change::Object(kind, name.clone()));
        let events = stream::iter([event]);
        match kind {
            Kind::Route => {
                let keep =
                    |o: &DynamicObject| Some(RouteObject::read(&value(o), ROLLOUT_ANNOTATION));
                mirrors.routes.take_all(events, keep, changed).await;
            }
            Kind::Revision => {
                let keep = |o: &DynamicObject| Some(RevisionObject::read(&value(o)));
                mirrors.revisions.take_all(events, keep, changed).await;
            }
            Kind::Deployment => {
                let keep = |o: &DynamicObject| Some(DeploymentFacts::read(&value(o)));
                mirrors.deployments.take_all(events, keep, changed).await;
            }
            Kind::EndpointSlice => {
                mirrors.slices.take_all(events, |o| Slice::read(&value(o)), changed).await;
            }
            Kind::Pod => {
                mirrors.pods.take_all(events, |o| PodFacts::read(&value(o)), changed).await;
            }
            Kind::ConfigMap => {
                mirrors.settings.take_all(events, super::mirrors::settings, changed).await;
            }
            other => panic!("{other:?} is not fed"),
        }
    }

    async fn put(&mut self, kind: Kind, value: Value) {
        self.feed(kind, Event::Apply(object(value))).await;
    }

    async fn remove(&mut self, kind: Kind, value: Value) {
        self.feed(kind, Event::Delete(object(value))).await;
    }

    /// What is reported of all that was put since.
    async fn updates(&mut self) -> String {
        while let Some(change) = self.state.tell.take() {
            self.state.apply(change);
        }
        self.state.flush(&self.updates).await.unwrap();
        let mut lines = Vec::new();
        while let Ok(update) = self.received.try_recv() {
            lines.push(shown(&update));
        }
        lines.join("\n")
    }
}

fn shown(update: &Update) -> String {
    match update {
        Update::World(world) => {
            format!("world of {} and {}", world.services.len(), world.revisions.len())
        }
        Update::Found { revision, replicas, initialized } => {
            format!("{} has {replicas}, initialized {initialized}", revision.name)
        }
        Update::Replicas { revision, endpoints, counts } => {
            let endpoints: Vec<String> =
                endpoints.iter().map(|e| format!("{}@{}", e.id, e.address)).collect();
            let ReplicaCounts { starting, ready, stopping } = counts;
            format!("{}: {starting} {ready} {stopping} [{}]", revision.name, endpoints.join(" "))
        }
        Update::StartFailed { revision, problem } => {
            format!("{}: {}: {}", revision.name, problem.reason, problem.message)
        }
        Update::ColdStart { revision, .. } => format!("{} started", revision.name),
    }
}

#[tokio::test]
async fn where_traces_go_is_taken_when_it_changes() {
    let mut stage = Stage::new();
    let taken = Rc::new(std::cell::RefCell::new(Vec::new()));
    let told = Rc::clone(&taken);
    let observability = Box::new(move |config: &ObservabilityConfig| {
        told.borrow_mut().push(config.tracing_endpoint.clone());
    });
    stage.state.takers = Takers { observability, ..Takers::default() };
    let config_map = |data: Value| {
        let metadata = json!({"namespace": "knative-serving", "name": "config-observability"});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    };
    let sent = |to: &str| config_map(json!({"tracing-protocol": "grpc", "tracing-endpoint": to}));
    stage.put(Kind::ConfigMap, sent("http://one:4317")).await;
    stage.updates().await;
    stage.put(Kind::ConfigMap, config_map(json!({"tracing-protocol": "smoke"}))).await;
    stage.updates().await;
    stage.put(Kind::ConfigMap, sent("http://two:4317")).await;
    stage.updates().await;
    stage.remove(Kind::ConfigMap, sent("http://two:4317")).await;
    stage.updates().await;
    assert_eq!(*taken.borrow(), ["http://one:4317", "http://two:4317", ""]);
}

fn labels() -> Value {
    json!({"serving.knative.dev/revision": "a-1", "serving.knative.dev/configuration": "a",
        "serving.knative.dev/routingState": "active"})
}

fn revision(ready: bool) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {"namespace": "n", "name": "a-1", "labels": labels()},
        "spec": {"containers": [{"image": "x", "ports": [{"containerPort": 9000}]}]},
        "status": {"conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "Unknown" }}]},
    })
}

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "n", "name": "a-1-deployment", "uid": "d", "labels": labels()},
        "spec": {"replicas": replicas},
    })
}

fn pod(uid: &str, ip: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "n", "name": format!("pod-{uid}"), "uid": uid, "labels": labels()},
        "status": {"phase": "Running", "podIPs": if ip.is_empty() { json!([]) } else {
            json!([{"ip": ip}, {"ip": "fd00::9"}]) },
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

fn slice(name: &str, endpoints: &Value) -> Value {
    let mut labels = labels();
    labels["kubernetes.io/service-name"] = json!("a-1-private");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "n", "name": name, "labels": labels},
        "endpoints": endpoints,
    })
}

fn endpoint(uid: &str, ip: &str, conditions: &Value) -> Value {
    json!({"addresses": [ip], "conditions": conditions, "targetRef": {"uid": uid}})
}

async fn staged(test: impl AsyncFnOnce(&mut Stage)) {
    LocalSet::new().run_until(async { test(&mut Stage::new()).await }).await;
}

#[tokio::test]
async fn what_was_there_before_goes_on() {
    staged(async |stage| {
        assert_eq!(stage.updates().await, "world of 0 and 0");
        stage.put(Kind::Deployment, deployment(2)).await;
        stage.put(Kind::Revision, revision(true)).await;
        stage.put(Kind::Pod, pod("p", "10.0.0.1", true)).await;
        assert_eq!(
            stage.updates().await,
            "a-1 has 2, initialized true\nworld of 0 and 1\na-1: 1 1 0 [p@10.0.0.1:9000]"
        );
        // The count alone is no reason to say anything of endpoints but counts.
        stage.put(Kind::Deployment, deployment(1)).await;
        assert_eq!(stage.updates().await, "a-1: 0 1 0 [p@10.0.0.1:9000]");
        stage.put(Kind::Deployment, deployment(1)).await;
        assert_eq!(stage.updates().await, "");
    })
    .await;
}

#[tokio::test]
async fn a_new_revision_begins_with_its_initial_scale() {
    staged(async |stage| {
        stage.put(Kind::Revision, revision(false)).await;
        assert_eq!(stage.updates().await, "world of 0 and 1");
        stage.put(Kind::Deployment, deployment(1)).await;
        assert_eq!(stage.updates().await, "a-1: 1 0 0 []");
        stage.put(Kind::Pod, pod("p", "10.0.0.1", true)).await;
        assert_eq!(stage.updates().await, "a-1: 0 1 0 [p@10.0.0.1:9000]");
    })
    .await;
    staged(async |stage| {
        stage.put(Kind::Deployment, deployment(1)).await;
        stage.put(Kind::Revision, revision(false)).await;
        assert_eq!(stage.updates().await, "world of 0 and 1\na-1: 1 0 0 []");
    })
    .await;
}

#[tokio::test]
async fn slices_and_pods_are_one() {
    staged(async |stage| {
        stage.put(Kind::Revision, revision(true)).await;
        stage.put(Kind::Deployment, deployment(1)).await;
        stage.updates().await;
        // A slice may come before its pod.
        let ready = json!({"ready": true});
        let of = |conditions: &Value| json!([endpoint("p", "10.0.0.1", conditions)]);
        stage.put(Kind::EndpointSlice, slice("s", &of(&ready))).await;
        assert_eq!(stage.updates().await, "a-1: 0 1 0 [p@10.0.0.1:9000]");
        stage.put(Kind::Pod, pod("p", "10.0.0.1", true)).await;
        // The other family's slice, and one that is behind.
        stage
            .put(Kind::EndpointSlice, slice("s6", &json!([endpoint("p", "fd00::9", &ready)])))
            .await;
        assert_eq!(stage.updates().await, "");
        // The pod is ahead of its slice.
        let mut ending = pod("p", "10.0.0.1", true);
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        stage.put(Kind::Pod, ending.clone()).await;
        assert_eq!(stage.updates().await, "a-1: 1 0 1 []");
        // One address, another pod, before the old one is gone.
        stage.put(Kind::Pod, pod("q", "10.0.0.1", true)).await;
        assert_eq!(stage.updates().await, "a-1: 0 1 1 [q@10.0.0.1:9000]");
        stage.remove(Kind::Pod, ending).await;
        assert_eq!(stage.updates().await, "a-1: 0 1 0 [q@10.0.0.1:9000]");
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_used_as_soon_as_it_answers() {
    staged(async |stage| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut object = revision(true);
        object["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(port);
        stage.put(Kind::Revision, object).await;
        stage.put(Kind::Deployment, deployment(1)).await;
        stage.put(Kind::Pod, pod("p", "", false)).await;
        stage.updates().await;
        stage.put(Kind::Pod, pod("p", "127.0.0.1", false)).await;
        assert_eq!(stage.updates().await, "", "it has not answered yet");
        let told = stage.state.tell.next().await;
        stage.state.apply(told);
        let used = format!("a-1: 0 1 0 [p@127.0.0.1:{port}]");
        assert_eq!(stage.updates().await, used);
        // Then the cluster says so too, and from then on it is its word that counts.
        stage.put(Kind::Pod, pod("p", "127.0.0.1", true)).await;
        assert_eq!(stage.updates().await, "");
        stage.put(Kind::Pod, pod("p", "127.0.0.1", false)).await;
        assert_eq!(stage.updates().await, "a-1: 1 0 0 []");
    })
    .await;
}

#[tokio::test]
async fn a_start_that_cannot_succeed_is_told() {
    staged(async |stage| {
        stage.put(Kind::Revision, revision(true)).await;
        stage.put(Kind::Deployment, deployment(1)).await;
        stage.updates().await;
        let mut broken = pod("p", "", false);
        broken["status"]["containerStatuses"] = json!([{"name": "c", "state": {"waiting": {
            "reason": "ImagePullBackOff", "message": "no such image"}}}]);
        stage.put(Kind::Pod, broken.clone()).await;
        let failed = "a-1: start_failed: container c: ImagePullBackOff: no such image";
        assert_eq!(stage.updates().await, failed);
        assert_eq!(stage.updates().await, "");
        // Who comes later is told, too.
        stage.state.repeat_failures();
        assert_eq!(stage.updates().await, failed);
        // Not while another one may yet be ready.
        stage.put(Kind::Pod, pod("q", "", false)).await;
        stage.updates().await;
        stage.state.repeat_failures();
        assert_eq!(stage.updates().await, "");
        stage.remove(Kind::Pod, broken).await;
        stage.remove(Kind::Pod, pod("q", "", false)).await;
        let mut quota = deployment(1);
        quota["status"] = json!({"conditions": [{"type": "ReplicaFailure", "status": "True",
            "message": "exceeded quota"}]});
        stage.put(Kind::Deployment, quota).await;
        assert_eq!(stage.updates().await, "a-1: start_failed: exceeded quota");
        stage.put(Kind::Deployment, deployment(0)).await;
        assert_eq!(stage.updates().await, "a-1: 0 0 0 []");
    })
    .await;
}

#[tokio::test]
async fn a_deleted_revision_is_followed_until_its_pods_are_gone() {
    staged(async |stage| {
        stage.put(Kind::Revision, revision(true)).await;
        stage.put(Kind::Deployment, deployment(1)).await;
        stage.put(Kind::Pod, pod("p", "10.0.0.1", true)).await;
        stage.updates().await;
        stage.remove(Kind::Revision, revision(true)).await;
        assert_eq!(stage.updates().await, "world of 0 and 0");
        stage.remove(Kind::Deployment, deployment(1)).await;
        stage.remove(Kind::Pod, pod("p", "10.0.0.1", true)).await;
        assert_eq!(stage.updates().await, "a-1: 0 0 0 []");
        assert!(stage.state.tracked.is_empty() && stage.state.of_deployment.is_empty());
        // One of that name later begins anew.
        stage.put(Kind::Revision, revision(false)).await;
        assert_eq!(stage.updates().await, "world of 0 and 1");
    })
    .await;
}

proptest::proptest! {
    /// However endpoints are spread over slices and repeated: each pod once, and what is not
    /// terminating wins.
    #[test]
    fn slices_in_any_order(
        entries in proptest::collection::vec((0_u8..3, 0_u8..4, 0_u8..3, proptest::bool::ANY), 1..12),
    ) {
        let slice_of = |number: u8| {
            let of = entries.iter().filter(|(slice, ..)| *slice == number);
            let endpoints: Vec<Value> = of.map(|(_, pod, state, v6)| {
                let conditions = [
                    json!({}),
                    json!({"ready": false}),
                    json!({"ready": false, "serving": true, "terminating": true}),
                ][usize::from(*state)].clone();
                let ip = if *v6 { format!("fd00::{pod}") } else { format!("10.0.0.{pod}") };
                endpoint(&pod.to_string(), &ip, &conditions)
            }).collect();
            let value = slice(&number.to_string(), &json!(endpoints));
            Arc::new(Slice::read(&value).unwrap())
        };
        let mut slices: Vec<_> = (0..3).map(slice_of).collect();
        let mut look = || {
            let replicas = replicas::Memory::default().look(&slices, &[]);
            slices.reverse();
            replicas
        };
        let replicas = look();
        proptest::prop_assert_eq!(&replicas, &look(), "the order of slices means nothing");
        for (id, replica) in &replicas {
            let states: Vec<u8> = entries.iter()
                .filter(|(_, pod, ..)| pod.to_string() == *id.0).map(|e| e.2).collect();
            let expected = match states.iter().min() {
                Some(0) => replicas::State::Ready,
                Some(1) => replicas::State::Starting,
                _ => replicas::State::Stopping,
            };
            proptest::prop_assert_eq!(replica.state, expected);
        }
    }
}

mod adopted {
    use super::super::super::adoption::tests::{
        pod, put_pod, put_service, put_workload, scaler, service, workload,
    };
    use super::*;
    use crate::kubernetes::observed::Hold;

    fn web() -> ObjectName {
        ObjectName::new("shop", "web")
    }

    #[tokio::test]
    async fn pods_of_somebody_else_are_endpoints_and_stay_when_they_are_let_go() {
        staged(async |stage| {
            let adoption = Rc::clone(&stage.state.adoption);
            let wanted = json!({"tidegate.dev/adopt": "true"});
            put_service(&adoption, service(&wanted)).await;
            assert_eq!(stage.updates().await, "world of 0 and 0");
            put_workload(&adoption, Kind::Deployment, workload(2)).await;
            put_pod(&adoption, pod("p", "10.0.0.1", true)).await;
            assert_eq!(
                stage.updates().await,
                "web has 2, initialized true\nworld of 1 and 1\nweb: 1 1 0 [p@10.0.0.1:8000]"
            );
            // Until a first request it is not lowered, also not by an order that is on its way.
            let least = |stage: &Stage| stage.state.world.revisions[0].scaling.min_scale;
            assert_eq!((least(stage), stage.state.observed.hold(&web())), (2, Hold::NotLower));
            put_workload(&adoption, Kind::Deployment, workload(3)).await;
            stage.updates().await;
            assert_eq!(least(stage), 3);
            adoption.note_seen(&web());
            stage.updates().await;
            assert_eq!((least(stage), stage.state.observed.hold(&web())), (0, Hold::Free));
            // Somebody else scales it.
            put_workload(&adoption, Kind::HorizontalPodAutoscaler, scaler()).await;
            put_workload(&adoption, Kind::Deployment, workload(3)).await;
            stage.updates().await;
            assert_eq!((least(stage), stage.state.observed.hold(&web())), (3, Hold::Off));
            put_service(&adoption, service(&json!({}))).await;
            assert_eq!(stage.updates().await, "world of 0 and 0\nweb: 0 0 0 []");
            assert_eq!(stage.state.observed.hold(&web()), Hold::Off, "its count stays");
        })
        .await;
    }

    #[tokio::test]
    async fn beside_knative_only_what_is_adopted_is_served() {
        staged(async |stage| {
            stage.put(Kind::Revision, revision(true)).await;
            stage.put(Kind::Deployment, deployment(1)).await;
            stage.put(Kind::Pod, super::pod("p", "10.0.0.1", true)).await;
            let adoption = Rc::clone(&stage.state.adoption);
            put_service(&adoption, service(&json!({"tidegate.dev/adopt": "true"}))).await;
            put_workload(&adoption, Kind::Deployment, workload(1)).await;
            stage.updates().await;
            let id = RevisionId::new("n", "a-1");
            assert_eq!(stage.state.observed.hold(&id), Hold::Free);
            stage.state.set_alone(false);
            assert_eq!(stage.updates().await, "world of 1 and 1");
            assert_eq!(stage.state.observed.hold(&id), Hold::Off);
            assert_eq!(stage.state.observed.hold(&web()), Hold::NotLower);
            stage.state.set_alone(true);
            let updates = stage.updates().await;
            assert!(updates.contains("world of 1 and 2"), "{updates}");
            assert_eq!(stage.state.observed.hold(&id), Hold::Free);
        })
        .await;
    }
}
