//! What is written of adopted Services, by an API server that notes it.

use expect_test::{Expect, expect};
use futures_util::stream;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::keeper::Keeper;
use super::*;
use crate::kubernetes::controller::testing::{Call, Server};
use crate::kubernetes::controller::work::Next;
use crate::kubernetes::feed::Seen;
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::mirror::value;

fn object(value: Value) -> Arc<DynamicObject> {
    Arc::new(serde_json::from_value(value).unwrap())
}

async fn feed<T: PartialEq>(
    mirror: &Mirror<T>,
    event: Seen,
    keep: impl Fn(&DynamicObject) -> Option<T>,
    changed: impl Fn(&ObjectName),
) {
    // As if listed: whatever comes is all that is known.
    let listed = [Event::Init, Event::InitDone];
    let first = if mirror.is_complete() { Vec::new() } else { Vec::from(listed) };
    let events = first.into_iter().chain([event]);
    mirror.take_all(stream::iter(events), keep, changed).await;
}

/// A Service as the API server has it now.
pub(in crate::kubernetes) async fn put_service(adoption: &Rc<Adoption>, service: Value) {
    let keep = |object: &DynamicObject| AdoptedService::read(&value(object));
    let changed = |name: &ObjectName| adoption.service_changed(name);
    feed(&adoption.services, Event::Apply(object(service)), keep, changed).await;
}

/// The workloads and autoscalers of namespace `shop`: all there are.
pub(in crate::kubernetes) async fn put_workload(
    adoption: &Rc<Adoption>,
    kind: Kind,
    workload: Value,
) {
    let (deployments, stateful_sets, scalers) = {
        let spaces = adoption.spaces.borrow();
        let Space { deployments, stateful_sets, scalers, .. } = &spaces["shop"];
        (Rc::clone(deployments), Rc::clone(stateful_sets), Rc::clone(scalers))
    };
    for mirror in [&deployments, &stateful_sets] {
        mirror.take_all(stream::iter([Event::Init, Event::InitDone]), |_| None, |_| ()).await;
    }
    let told = |_: &ObjectName| adoption.names().iter().for_each(|name| adoption.told(name));
    let event = Event::Apply(object(workload));
    if kind == Kind::HorizontalPodAutoscaler {
        feed(&scalers, event, |object| follow::scaled(&value(object)), told).await;
        return;
    }
    let none = [Event::Init, Event::InitDone];
    if !scalers.is_complete() {
        scalers.take_all(stream::iter(none), |_| None, |_| ()).await;
    }
    let mirror = if kind == Kind::StatefulSet { stateful_sets } else { deployments };
    feed(&mirror, event, |object| Some(Workload::read(kind, &value(object))), told).await;
}

/// A pod of `shop/web`.
pub(in crate::kubernetes) async fn put_pod(adoption: &Rc<Adoption>, pod: Value) {
    let name = ObjectName::new("shop", "web");
    let mirror = Rc::clone(&adoption.pods.borrow()[&name].mirror);
    let keep = |object: &DynamicObject| Pod::read("web", &value(object));
    feed(&mirror, Event::Apply(object(pod)), keep, |_| adoption.told(&name)).await;
}

/// The Service `shop/web` with these annotations.
pub(in crate::kubernetes) fn service(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": "web", "uid": "s", "annotations": annotations},
        "spec": {"selector": {"app": "web"}, "ports": [
            {"name": "http", "port": 80, "targetPort": 8000},
            {"name": "metrics", "port": 9000, "protocol": "TCP"}]},
    })
}

/// A Deployment or StatefulSet of its pods.
pub(in crate::kubernetes) fn workload(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "web", "uid": "d"},
        "spec": {"replicas": replicas, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8000}]}]}}},
    })
}

/// A HorizontalPodAutoscaler of it.
pub(in crate::kubernetes) fn scaler() -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"namespace": "shop", "name": "hpa"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    })
}

/// A pod with this address.
pub(in crate::kubernetes) fn pod(uid: &str, ip: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": format!("pod-{uid}"), "uid": uid},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

struct Stage {
    adoption: Rc<Adoption>,
    keeper: Keeper,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        let (client, server) = Server::start(answer);
        let adoption = Adoption::new(Arc::default());
        let keeper = Keeper::new(Rc::clone(&adoption), client);
        Self { adoption, keeper, server }
    }

    async fn reconcile(&self) -> Next {
        self.keeper.reconcile(ObjectName::new("shop", "web")).await.unwrap()
    }

    /// What is written by one look.
    async fn writes(&self, expected: Expect) -> Next {
        let next = self.reconcile().await;
        let calls = self.server.taken().into_iter();
        let shown: String = calls.map(|call| shown(&call)).collect();
        expected.assert_eq(&shown);
        next
    }

    async fn put_slice(&self, port: u16, ends: &Value) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "web-tidegate", "labels": {
                "kubernetes.io/service-name": "web", "tidegate.dev/leads-to": "tidegate"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": ends,
        });
        let keep = |object: &DynamicObject| OwnSlice::read(&value(object));
        let changed = |name: &ObjectName| self.adoption.slice_changed(name);
        feed(&self.adoption.slices, Event::Apply(object(slice)), keep, changed).await;
    }

    async fn put_gate(&self) {
        let keep = |object: &DynamicObject| Gate::read(&value(object));
        let event = Event::Apply(object(pod("g", "127.0.0.1", true)));
        feed(&self.adoption.gates, event, keep, |_| ()).await;
    }

    fn serve(&self, host: &str) {
        self.adoption.note_served(&ObjectName::new("shop", "web"), Some(Served::At(host.into())));
    }
}

/// The cluster's own slice of the Service leads to a pod.
fn answer(call: &Call) -> (u16, Value) {
    if !call.line.starts_with("GET") {
        return (200, json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}}));
    }
    (
        200,
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": {},
        "items": [{"metadata": {"name": "web-abc"},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]}]}),
    )
}

/// Method, path, and what matters of the body.
fn shown(call: &Call) -> String {
    let line = call.line.replace("/namespaces/shop", "");
    let line = line.split('&').next().unwrap().split("?").next().unwrap();
    let mut text = line.to_owned();
    if let Some(selector) = call.body.pointer("/spec/selector") {
        text.push_str(&format!(" {selector}"));
    }
    for end in call.body["endpoints"].as_array().into_iter().flatten() {
        text.push_str(&format!(" {} {}", end["addresses"][0], end["conditions"]["ready"]));
    }
    for port in call.body["ports"].as_array().into_iter().flatten() {
        text.push_str(&format!(" :{}", port["name"]));
    }
    for condition in
        call.body.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
    {
        let text_of = |field: &str| condition[field].as_str().unwrap().to_owned();
        text.push_str(&format!(
            "\n  {} {} {}: {}",
            text_of("type"),
            text_of("status"),
            text_of("reason"),
            text_of("message")
        ));
    }
    format!("{text}\n")
}

async fn staged(test: impl AsyncFnOnce(&Stage)) {
    LocalSet::new().run_until(async { test(&Stage::new()).await }).await;
}

#[tokio::test]
async fn an_adopted_service_says_where_it_is_served() {
    staged(async |stage| {
        put_service(&stage.adoption, service(&json!({"tidegate.dev/adopt": "true"}))).await;
        stage.writes(expect![""]).await;
        put_workload(&stage.adoption, Kind::Deployment, workload(1)).await;
        stage.writes(expect![""]).await;
        stage.serve("web.shop.example.com");
        stage.writes(expect![[r#"
            PATCH /api/v1/services/web/status
              tidegate.dev/Adopted True Adopted: http://web.shop.example.com leads to port 8000 of deployment/web
              tidegate.dev/Scaled False NoRequestSeen: deployment/web is not scaled down before a first request has come through tidegate
        "#]]).await;
        stage.adoption.note_seen(&ObjectName::new("shop", "web"));
        stage.writes(expect![[r#"
            PATCH /api/v1/services/web/status
              tidegate.dev/Adopted True Adopted: http://web.shop.example.com leads to port 8000 of deployment/web
              tidegate.dev/Scaled True Scaled: deployment/web is scaled by the requests that come through tidegate
        "#]]).await;
        put_workload(&stage.adoption, Kind::HorizontalPodAutoscaler, scaler()).await;
        put_workload(&stage.adoption, Kind::Deployment, workload(1)).await;
        stage.writes(expect![[r#"
            PATCH /api/v1/services/web/status
              tidegate.dev/Adopted True Adopted: http://web.shop.example.com leads to port 8000 of deployment/web
              tidegate.dev/Scaled False HorizontalPodAutoscaler: HorizontalPodAutoscaler hpa scales deployment/web, so tidegate does not; delete it to have tidegate do it
        "#]]).await;
        stage.adoption.note_served(&ObjectName::new("shop", "web"), Some(Served::Knative));
        stage.writes(expect![[r#"
            PATCH /api/v1/services/web/status
              tidegate.dev/Adopted False NameTaken: a Knative Service, Route or Revision has this name, and its hosts; give one of the two another name
        "#]]).await;
    })
    .await;
}

#[tokio::test]
async fn a_name_is_taken_over_step_by_step_and_given_back() {
    staged(async |stage| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let wanted = service(&json!({"tidegate.dev/adopt-service": "true"}));
        put_service(&stage.adoption, wanted.clone()).await;
        put_workload(&stage.adoption, Kind::Deployment, workload(1)).await;
        put_pod(&stage.adoption, pod("p", "10.0.0.1", true)).await;
        stage.serve("web.shop.example.com");
        // A port is given out, and nobody is led to it.
        let next = stage.writes(expect![[r#"
            PATCH /apis/discovery.k8s.io/v1/endpointslices/web-tidegate :"http"
            PATCH /apis/discovery.k8s.io/v1/endpointslices/web-pods "10.0.0.1" true :"metrics"
        "#]]).await;
        assert!(matches!(next, Next::After(_)));
        // All proxies listen there; this one takes connections.
        stage.put_slice(port, &json!([])).await;
        assert_eq!(stage.adoption.ports().borrow().values().collect::<Vec<_>>(), [&port]);
        stage.put_gate().await;
        stage.writes(expect![[r#"
            PATCH /apis/discovery.k8s.io/v1/endpointslices/web-tidegate "127.0.0.1" true :"http"
            PATCH /apis/discovery.k8s.io/v1/endpointslices/web-pods "10.0.0.1" true :"metrics"
            PATCH /api/v1/services/web {"tidegate.dev/adopted":"web"}
            PATCH /api/v1/services/web/status
              tidegate.dev/Adopted True Adopted: http://web.shop.example.com leads to port 8000 of deployment/web
              tidegate.dev/Scaled False NoRequestSeen: deployment/web is not scaled down before a first request has come through tidegate
              tidegate.dev/ServiceAdopted True Adopted: callers of port 80 go through tidegate; port 9000 leads to the pods as before
        "#]]).await;
        // Nobody takes connections any more: those that were led to stay.
        drop(listener);
        let end = json!([{"addresses": ["127.0.0.1"], "nodeName": "n", "conditions": {"ready": true}}]);
        stage.put_slice(port, &end).await;
        let mut taken = wanted;
        taken["spec"]["selector"]["tidegate.dev/adopted"] = json!("web");
        put_service(&stage.adoption, taken.clone()).await;
        stage.reconcile().await;
        assert!(stage.server.calls().iter().all(|call| !call.contains("web-tidegate")));
        // The annotation is removed, maybe while nobody looked: the selector is first.
        taken["metadata"]["annotations"] = json!({});
        taken["status"] = json!({"conditions": [{"type": "tidegate.dev/Adopted", "status": "True"}]});
        put_service(&stage.adoption, taken.clone()).await;
        let next = stage.writes(expect![[r#"
            PATCH /api/v1/services/web {"tidegate.dev/adopted":null}
        "#]]).await;
        assert!(matches!(next, Next::After(_)));
        taken["spec"]["selector"] = json!({"app": "web"});
        put_service(&stage.adoption, taken).await;
        stage.writes(expect![[r#"
            GET /apis/discovery.k8s.io/v1/endpointslices
            PATCH /apis/discovery.k8s.io/v1/endpointslices/web-tidegate :"http"
        "#]])
            .await;
        // Nodes hear of it by and by.
        stage.put_slice(port, &json!([])).await;
        tokio::time::pause();
        assert!(matches!(stage.writes(expect![""]).await, Next::After(_)));
        assert!(stage.adoption.is_adopted(&ObjectName::new("shop", "web")));
        tokio::time::advance(std::time::Duration::from_secs(4)).await;
        stage
            .writes(expect![[r#"
            DELETE /apis/discovery.k8s.io/v1/endpointslices/web-tidegate
            PATCH /api/v1/services/web/status
            PATCH /api/v1/services/web/status
        "#]]).await;
    })
    .await;
}

#[tokio::test]
async fn a_name_is_given_back_when_nothing_is_behind_it_any_more() {
    staged(async |stage| {
        let mut taken = service(&json!({"tidegate.dev/adopt-service": "true"}));
        taken["spec"]["selector"]["tidegate.dev/adopted"] = json!("web");
        put_service(&stage.adoption, taken).await;
        let mut other = workload(1);
        other["spec"]["template"]["metadata"]["labels"]["app"] = json!("other");
        put_workload(&stage.adoption, Kind::Deployment, other).await;
        stage.writes(expect![[r#"
            PATCH /api/v1/services/web {"tidegate.dev/adopted":null}
            PATCH /api/v1/services/web/status
              tidegate.dev/Adopted False NoWorkload: no Deployment or StatefulSet has pods with the labels that the Service selects
        "#]]).await;
    })
    .await;
}

#[tokio::test]
async fn a_headless_service_keeps_its_name() {
    staged(async |stage| {
        let mut headless = service(&json!({"tidegate.dev/adopt-service": "true"}));
        headless["spec"]["clusterIP"] = json!("None");
        put_service(&stage.adoption, headless).await;
        put_workload(&stage.adoption, Kind::Deployment, workload(1)).await;
        stage.serve("web.shop.svc.cluster.local");
        stage.reconcile().await;
        let body = stage.server.bodies().remove(0);
        assert_eq!(body["status"]["conditions"][2]["reason"], "NameNotAdoptable");
        assert_eq!(body["status"]["conditions"][0]["status"], "True");
    })
    .await;
}
