//! What a Service says, what is behind it, and who gets its hosts.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::config::world::cluster::{RevisionObject, RouteObject};
use crate::model::World;

fn service(annotations: &Value, spec: &Value) -> AdoptedService {
    let mut annotations = annotations.clone();
    annotations["tidegate.dev/adopt"] = json!("true");
    read(&annotations, spec).unwrap()
}

fn read(annotations: &Value, spec: &Value) -> Option<AdoptedService> {
    AdoptedService::read(&json!({
        "metadata": {"uid": "u", "annotations": annotations,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }))
}

fn web() -> Value {
    json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]})
}

fn deployment(name: &str, app: &str) -> Arc<WorkloadObject> {
    let object = json!({
        "metadata": {"name": name},
        "spec": {"template": {"metadata": {"labels": {"app": app, "x": "y"}}, "spec": {"containers": [
            {"name": "log", "ports": [{"name": "log", "containerPort": 1}]},
            {"name": "web", "ports": [
                {"name": "metrics", "containerPort": 9000}, {"name": "http", "containerPort": 8000}],
             "readinessProbe": {"httpGet": {"path": "/up", "port": "http"}}},
        ]}}},
    });
    Arc::new(WorkloadObject::read("Deployment", &object))
}

/// The served port, and what it speaks.
fn port(annotations: &Value, ports: &Value) -> String {
    let spec = json!({"selector": {"app": "web"}, "ports": ports});
    match service(annotations, &spec).served() {
        Ok(port) => format!("{} {:?}", port.number, port.speaks().unwrap()),
        Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
    }
}

#[test]
fn the_port_that_goes_through_tidegate() {
    let none = json!({});
    for (ports, expected) in [
        (json!([{"port": 3000}]), "3000 Http1"),
        (json!([{"port": 3000, "name": "h2c"}]), "3000 H2c"),
        (json!([{"port": 3000, "name": "grpc-api"}]), "3000 H2c"),
        (json!([{"port": 3000, "name": "grpc-web"}]), "3000 Http1"),
        (json!([{"port": 3000, "name": "a", "appProtocol": "kubernetes.io/h2c"}]), "3000 H2c"),
        (json!([{"port": 3000, "name": "grpc", "appProtocol": "http"}]), "3000 Http1"),
        (json!([{"port": 9, "name": "metrics"}, {"port": 81, "name": "http-api"}]), "81 Http1"),
        (json!([{"port": 9, "name": "a"}, {"port": 80, "name": "b"}]), "80 Http1"),
        (
            json!([{"port": 9, "name": "a"}, {"port": 8, "name": "b", "appProtocol": "http"}]),
            "8 Http1",
        ),
        (json!([{"port": 9, "name": "a"}, {"port": 8, "name": "grpc"}]), "8 H2c"),
        (json!([{"port": 9, "name": "a"}, {"port": 8, "name": "b"}]), "9 Http1"),
        (
            json!([{"port": 53, "name": "dns", "protocol": "UDP"}, {"port": 8, "name": "b"}]),
            "8 Http1",
        ),
    ] {
        assert_eq!(port(&none, &ports), expected, "{ports}");
    }
    let two = json!([{"port": 9, "name": "a"}, {"port": 443, "name": "https"}]);
    assert_eq!(port(&json!({"tidegate.dev/port": "a"}), &two), "9 Http1");
    expect![[r#"NoPort: tidegate.dev/port is "443": write the name or number of a port that speaks HTTP; the Service has 9 a, 443 https"#]]
        .assert_eq(&port(&json!({"tidegate.dev/port": "443"}), &two));
    expect!["NoPort: none of its ports (443 https) speaks HTTP by its appProtocol, name and transport; name one with tidegate.dev/port"]
        .assert_eq(&port(&none, &json!([{"port": 443, "name": "https"}])));
}

#[test]
fn who_is_adopted() {
    let is = |annotations: Value, spec: Value| {
        read(&annotations, &spec).map(|s| (s.is_wanted, s.takes_name, s.is_taken))
    };
    assert_eq!(is(json!({}), web()), None);
    assert_eq!(is(json!({"tidegate.dev/adopt": "yes"}), web()), None);
    assert_eq!(is(json!({"tidegate.dev/adopt": "true"}), web()), Some((true, false, false)));
    assert_eq!(is(json!({"tidegate.dev/adopt-service": "true"}), web()), Some((true, true, false)));
    let both = json!({"tidegate.dev/adopt": "false", "tidegate.dev/adopt-service": "true"});
    assert_eq!(is(both, web()), None);
    // The name is not given back yet, and the selector is what it was.
    let mut taken = web();
    taken["selector"][SELECTOR_KEY] = json!("web");
    assert_eq!(is(json!({}), taken.clone()), Some((false, false, true)));
    assert_eq!(read(&json!({}), &taken).unwrap().selector.len(), 1);
    // What it still shows is to be taken away.
    let noted = json!({"spec": web(), "status": {"conditions": [{"type": REQUEST_SEEN}]}});
    assert!(AdoptedService::read(&noted).is_some_and(|s| !s.is_wanted && s.is_seen));
    let others = json!({"spec": web(), "status": {"conditions": [{"type": "LoadBalancer"}]}});
    assert!(AdoptedService::read(&others).is_none());
    let why = |spec: Value| service(&json!({}), &spec).served().unwrap_err().reason;
    assert_eq!(why(json!({"ports": [{"port": 80}]})), "NoSelector");
    let fixed = |spec: Value| service(&json!({}), &spec).fixed_name.is_some();
    assert!(fixed(json!({"clusterIP": "None"})) && !fixed(web()));
    assert!(fixed(json!({"internalTrafficPolicy": "Local"})));
}

#[test]
fn which_workload() {
    let all = [deployment("a", "web"), deployment("b", "web"), deployment("c", "other")];
    let found = |annotations: Value, all: &[Arc<WorkloadObject>]| match workload_of(
        &service(&annotations, &web()),
        all,
    ) {
        Ok(workload) => workload.shown(),
        Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
    };
    assert_eq!(found(json!({}), &all[1..]), "deployment/b");
    assert_eq!(found(json!({"tidegate.dev/workload": "Deployment/a"}), &all), "deployment/a");
    expect!["SeveralWorkloads: deployment/a, deployment/b have pods that the Service selects; say with tidegate.dev/workload which one is scaled"]
        .assert_eq(&found(json!({}), &all));
    expect![
        "NoWorkload: no Deployment or StatefulSet has pods with the labels that the Service selects"
    ]
    .assert_eq(&found(json!({}), &all[2..]));
    expect![[r#"NoWorkload: tidegate.dev/workload is "deployment/c": write deployment/NAME or statefulset/NAME of one whose pods the Service selects"#]]
        .assert_eq(&found(json!({"tidegate.dev/workload": "deployment/c"}), &all));
}

fn object(annotations: &Value, counted: Counted) -> Arc<AdoptedObject> {
    let service = service(annotations, &web());
    Arc::new(AdoptedObject::of(&service, &deployment("a", "web"), counted).unwrap())
}

fn id() -> ServiceId {
    ServiceId::new("shop", "web")
}

fn adopted(object: Option<Arc<AdoptedObject>>) -> ClusterWorld {
    let mut world = ClusterWorld::default();
    world.set_adopted(&id(), object);
    world
}

#[test]
fn settings_are_the_services() {
    let annotations = json!({
        "tidegate.dev/container-concurrency": "4", "tidegate.dev/timeout": "2m",
        "tidegate.dev/queue-timeout": "9s", "autoscaling.knative.dev/max-scale": "7",
        "autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/target": "3",
    });
    let world = adopted(Some(object(&annotations, Counted::Free))).take().unwrap();
    let spec = &world.revisions[0];
    assert_eq!(spec.container_concurrency, ContainerConcurrency::AtMost(4.try_into().unwrap()));
    assert_eq!(spec.timeouts.request, Duration::from_secs(120));
    assert_eq!(spec.queue.timeout, Some(Duration::from_secs(9)));
    assert_eq!((spec.scaling.min_scale, spec.scaling.max_scale), (1, Some(7)));
    let Workload::Pods(pods) = &spec.workload else { panic!("{spec:?}") };
    assert_eq!((pods.port, &*pods.scaled.kind, &*pods.scaled.name), (8000, "Deployment", "a"));
    // The probe names the port: it is the one that requests go to.
    let action = format!("{:?}", pods.probes.readiness.action);
    expect![[r#"Http { path: "/up", port: None, headers: [] }"#]].assert_eq(&action);
}

#[test]
fn what_cannot_be_read_is_said_and_counts_as_not_given() {
    let annotations = json!({
        "tidegate.dev/container-concurrency": "many", "tidegate.dev/timeout": "2",
        "tidegate.dev/eager": "no", "tidegate.dev/prot": "80",
    });
    let service = service(&annotations, &web());
    expect![[r#"
        tidegate.dev/eager: "no" is neither true nor false; write "true" or "false"
        tidegate.dev/prot: a Service has no such setting
        tidegate.dev/container-concurrency: "many" is no number of requests; write "10"
        tidegate.dev/timeout: "2" is no time; write "60s""#]]
    .assert_eq(&service.warnings.join("\n"));
    assert_eq!(service.concurrency, ContainerConcurrency::Unlimited);
}

#[test]
fn how_the_count_is_bounded() {
    let bounds = |annotations: &Value, counted: Counted| {
        let world = adopted(Some(object(annotations, counted))).take().unwrap();
        let scaling = &world.revisions[0].scaling;
        (scaling.min_scale, scaling.max_scale)
    };
    assert_eq!(bounds(&json!({}), Counted::Free), (0, None));
    assert_eq!(bounds(&json!({}), Counted::AtLeast(3)), (3, None));
    let least = json!({"autoscaling.knative.dev/min-scale": "5"});
    assert_eq!(bounds(&least, Counted::AtLeast(3)), (5, None));
    assert_eq!(bounds(&least, Counted::Fixed(2)), (2, Some(2)));
}

fn shown(world: &World) -> String {
    let services = world.services.iter().map(|service| {
        let (hosts, problems) = (service.hosts.join(" "), service.warnings.join("; "));
        format!("{}: {hosts} {problems}\n", service.id)
    });
    let revisions = world.revisions.iter().map(|spec| {
        let Workload::Pods(pods) = &spec.workload else { panic!("{spec:?}") };
        format!("{} by {}, least {}\n", spec.id, pods.scaled.name, spec.scaling.min_scale)
    });
    services.chain(revisions).collect()
}

fn check(world: &mut ClusterWorld, expected: Expect) {
    expected.assert_eq(&world.take().map(|world| shown(&world)).unwrap_or_default());
}

#[test]
fn knatives_go_before_what_is_adopted() {
    let mut world = adopted(Some(object(&json!({}), Counted::Free)));
    let data = [("example.com".to_owned(), String::new())].into_iter().collect();
    world.set_settings("config-domain", Some(data)).unwrap();
    check(
        &mut world,
        expect![[r#"
        shop/web: web.shop.example.com web.shop.svc.cluster.local web.shop.svc web.shop 
        shop/web by a, least 0
    "#]],
    );
    let route = json!({"status": {"traffic": [{"revisionName": "r-1", "percent": 100}]}});
    world.set_route(&id(), Some(Arc::new(RouteObject::read(&route, "rollout"))));
    assert!(!world.is_adopted(&id()) && world.has_adopted(&id()));
    check(
        &mut world,
        expect![[r#"
        shop/web: web.shop.example.com web.shop.svc.cluster.local web.shop.svc web.shop 
    "#]],
    );
    // Also where they are not served here.
    world.set_alone(false);
    check(&mut world, expect![""]);
    world.set_route(&id(), None);
    check(
        &mut world,
        expect![[r#"
        shop/web: web.shop.example.com web.shop.svc.cluster.local web.shop.svc web.shop 
        shop/web by a, least 0
    "#]],
    );
    let revision = json!({"metadata": {"name": "web"}, "spec": {"containers": [{}]}});
    world.set_revision(&id(), Some(Arc::new(RevisionObject::read(&revision))));
    check(&mut world, expect![""]);
    world.set_alone(true);
    check(
        &mut world,
        expect![[r#"
        shop/web by web-deployment, least 0
    "#]],
    );
    world.set_revision(&id(), None);
    world.set_adopted(&id(), None);
    check(&mut world, expect![""]);
}

#[test]
fn an_autoscaler_that_names_it() {
    let scaler = |kind: &str, version: &str, name: &str| {
        let object = json!({
            "spec": {"scaleTargetRef": {"apiVersion": version, "kind": kind, "name": name},
                "minScale": 6},
        });
        let mut world = adopted(Some(object_of()));
        world.take();
        let read = ScalerObject::read(&"shop".into(), &object);
        world.set_public_scaler(&ObjectName::new("shop", "pa"), Some(Arc::new(read)));
        world.take().map(|world| world.revisions[0].scaling.min_scale)
    };
    let object_of_service = scaler("Service", "serving.knative.dev/v1", "web");
    assert_eq!(object_of_service, Some(6));
    assert_eq!(scaler("Deployment", "apps/v1", "a"), Some(6));
    assert_eq!(scaler("Deployment", "apps/v1", "b"), None);
    assert_eq!(scaler("StatefulSet", "apps/v1", "a"), None);
}

fn object_of() -> Arc<AdoptedObject> {
    object(&json!({}), Counted::Free)
}
