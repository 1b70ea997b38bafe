//! What Services cost in writes where all goes well: each object few, a restart none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::asked::Verb;
use super::clock;
use super::cluster::Cluster;
use super::people::NAMESPACE;
use super::replica::{Replica, beside};
use super::server::{Call, Server};
use super::store::By;
use crate::kubernetes::controller::object::Parts as _;
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

/// Services that are made at once.
const SERVICES: u32 = 12;
/// Pods, and what follows from them.
const SETTLED_AFTER: Duration = Duration::from_secs(30);

/// A calm cluster with one replica of tidegate.
struct Calm {
    server: Arc<Server>,
    replicas: RefCell<Vec<Option<Replica>>>,
}

/// Plays something in a calm cluster.
fn play(what: impl AsyncFnOnce(&Calm)) {
    fastrand::seed(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        clock::begin();
        let server = Server::new(1, &mut Rng::with_seed(1));
        server.weather.lock().calm_down();
        let calm = Rc::new(Calm { server: Arc::clone(&server), replicas: RefCell::default() });
        let cluster = Cluster::default();
        beside(&calm.replicas, async {
            tokio::select! {
                biased;
                () = cluster.run(&server) => {}
                () = what(&calm) => {}
            }
        })
        .await;
        calm.replicas.borrow_mut().clear();
        assert_eq!(*server.violations.lock(), [""; 0]);
    });
}

impl Calm {
    fn start(&self, number: usize) {
        self.replicas.borrow_mut().push(Some(Replica::start(&self.server, number)));
    }

    fn put_service(&self, number: u32, initial_scale: &str) {
        let annotations = json!({"autoscaling.knative.dev/initial-scale": initial_scale});
        // Kubelet alone asks whether it is ready.
        let probe = json!({"exec": {"command": ["true"]}});
        let containers = json!([{"image": "image", "readinessProbe": probe}]);
        let service = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"namespace": NAMESPACE, "name": format!("service-{number}")},
            "spec": {"template": {
                "metadata": {"annotations": annotations}, "spec": {"containers": containers},
            }},
        });
        self.server.store.lock().create(Kind::Service, service, "kubectl").unwrap();
    }

    /// Calls about objects of Knative's kinds and what is made of them, but for watches.
    fn calls_since(&self, index: usize) -> Vec<Call> {
        let calls = self.server.calls.lock();
        let others = calls[index..].iter().filter(|call| call.part != "lease");
        others.filter(|call| call.verb != Verb::Watch).cloned().collect()
    }

    fn count(&self) -> usize {
        self.server.calls.lock().len()
    }

    fn are_ready(&self) -> bool {
        let services = self.server.store.lock().all(Kind::Service);
        let is_ready = |service: &Value| {
            let mut conditions = service.list("/status/conditions").iter();
            conditions.any(|found| found["type"] == "Ready" && found["status"] == "True")
        };
        services.iter().all(|(_, service)| is_ready(service) && service.is_observed())
    }
}

/// Writes of statuses and of the objects themselves, by kind.
fn writes(calls: &[Call]) -> BTreeMap<(Kind, bool), u32> {
    let mut counts = BTreeMap::new();
    let writes = calls.iter().filter(|call| {
        matches!(call.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
    });
    for call in writes {
        *counts.entry((call.kind, call.line.ends_with("/status"))).or_default() += 1;
    }
    counts
}

fn check(of: &str, calls: &[Call], services: u32, most: &[(Kind, u32, u32)]) {
    let counts = writes(calls);
    let most: BTreeMap<(Kind, bool), u32> = most
        .iter()
        .flat_map(|(kind, object, status)| [((*kind, false), *object), ((*kind, true), *status)])
        .collect();
    for (what, count) in &counts {
        let most = most.get(what).copied().unwrap_or(0) * services;
        assert!(*count <= most, "{of}: {count} writes of {what:?}, at most {most}: {counts:?}");
    }
    let lists = calls.iter().filter(|call| call.verb == Verb::List).count();
    assert_eq!(lists, 0, "{of}");
}

/// Kinds with the most writes for one Service: of the object, of its status.
const AT_ZERO: [(Kind, u32, u32); 7] = [
    (Kind::Service, 0, 1),
    (Kind::Configuration, 1, 1),
    (Kind::Revision, 1, 1),
    // Where traffic leads is told first, and that it does once the proxies were told.
    (Kind::Route, 1, 2),
    // It, and who owns its count.
    (Kind::Deployment, 2, 0),
    (Kind::CoreService, 2, 0),
    (Kind::PodAutoscaler, 1, 1),
];

/// Pods take seconds: each step that is waited for says so once.
const WITH_PODS: [(Kind, u32, u32); 7] = [
    (Kind::Service, 0, 4),
    (Kind::Configuration, 1, 2),
    (Kind::Revision, 1, 2),
    (Kind::Route, 1, 4),
    (Kind::Deployment, 2, 0),
    (Kind::CoreService, 2, 0),
    (Kind::PodAutoscaler, 1, 2),
];

/// Of both revisions: the former is noted to be led to no more.
const AFTER_AN_EDIT: [(Kind, u32, u32); 7] = [
    (Kind::Service, 0, 2),
    (Kind::Configuration, 1, 2),
    (Kind::Revision, 2, 4),
    (Kind::Route, 0, 3),
    (Kind::Deployment, 3, 0),
    (Kind::CoreService, 1, 0),
    (Kind::PodAutoscaler, 2, 4),
];

/// The same with pods.
const EDITED_WITH_PODS: [(Kind, u32, u32); 7] = [
    (Kind::Service, 0, 4),
    (Kind::Configuration, 1, 3),
    (Kind::Revision, 2, 4),
    (Kind::Route, 0, 4),
    (Kind::Deployment, 3, 0),
    (Kind::CoreService, 1, 0),
    (Kind::PodAutoscaler, 2, 5),
];

#[test]
fn services_cost_few_writes_and_a_restart_none() {
    let edited = [AFTER_AN_EDIT, EDITED_WITH_PODS];
    for ((initial_scale, most), edited) in [("0", AT_ZERO), ("1", WITH_PODS)].iter().zip(edited) {
        play(async |calm| {
            let settings = json!({
                "metadata": {"namespace": "knative-serving", "name": "config-autoscaler"},
                "data": {"allow-zero-initial-scale": "true"},
            });
            calm.server.store.lock().put(Kind::ConfigMap, settings);
            calm.start(0);
            sleep(SETTLED_AFTER).await;
            let begun = calm.count();
            (0..SERVICES).for_each(|number| calm.put_service(number, initial_scale));
            sleep(SETTLED_AFTER).await;
            assert!(calm.are_ready());
            check("all", &calm.calls_since(begun), SERVICES, most);

            let begun = calm.count();
            let name = ObjectName::new(NAMESPACE, "service-3");
            let by = By { manager: "kubectl", part: "" };
            let edit = |before: &Value| {
                let mut after = before.clone();
                after["spec"]["template"]["spec"]["containers"][0]["image"] = json!("newer");
                Ok(after)
            };
            calm.server.store.lock().update(Kind::Service, &name, by, edit).unwrap();
            sleep(SETTLED_AFTER).await;
            assert!(calm.are_ready());
            check("an edit", &calm.calls_since(begun), 1, &edited);

            calm.replicas.borrow_mut()[0] = None;
            let begun = calm.count();
            calm.start(1);
            sleep(SETTLED_AFTER * 3).await;
            assert_eq!(writes(&calm.calls_since(begun)), BTreeMap::new());
            let replicas = calm.replicas.borrow();
            let told =
                replicas[1].as_ref().map(|replica| replica.told.borrow().world.services.len());
            assert_eq!(told, Some(SERVICES as usize));
        });
    }
}
