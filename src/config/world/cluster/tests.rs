//! Objects in, world out; and one change at a time comes to the same as all at once.

mod missing;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::model::{ContainerConcurrency, Protocol, Workload};

fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}

fn data(pairs: &[(&str, &str)]) -> Data {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn revision(service: &str, state: &str) -> Value {
    json!({
        "metadata": {"name": "ignored", "labels": {
            "serving.knative.dev/service": service, "serving.knative.dev/configuration": service,
            "serving.knative.dev/routingState": state,
        }},
        "spec": {"containers": [{"image": "x"}]},
    })
}

fn route(created: &str, traffic: &Value) -> Value {
    json!({
        "metadata": {"creationTimestamp": created},
        "status": {"traffic": traffic},
    })
}

fn mapping(created: &str, to: &str) -> Value {
    json!({
        "metadata": {"creationTimestamp": created}, "spec": {"ref": {"name": to}},
        "status": {"conditions": [{"type": "DomainClaimed", "status": "True"}]},
    })
}

/// One change of the cluster.
#[derive(Clone, Debug)]
enum Change {
    Revision(&'static str, Option<Value>),
    Route(&'static str, Option<Value>),
    Mapping(&'static str, Option<Value>),
    Own(&'static str, Option<Value>),
    Public(&'static str, Option<Value>),
    Settings(&'static str, Option<Data>),
}

fn apply(world: &mut ClusterWorld, change: &Change) {
    match change {
        Change::Revision(at, object) => {
            let read = |object| Arc::new(RevisionObject::read(object));
            world.set_revision(&name(at), object.as_ref().map(read));
        }
        Change::Route(at, object) => {
            let read = |object| Arc::new(RouteObject::read(object, "rollout"));
            world.set_route(&name(at), object.as_ref().map(read));
        }
        Change::Mapping(at, object) => {
            let at = name(at);
            let read = |object| Arc::new(MappingObject::read(&at, object));
            world.set_mapping(&at, object.as_ref().map(read));
        }
        Change::Own(at, object) => {
            let at = name(at);
            let read = |object| Arc::new(ScalerObject::read(&at.namespace, object));
            world.set_scaler(&at, object.as_ref().map(read));
        }
        Change::Public(at, object) => {
            let at = name(at);
            let read = |object| Arc::new(ScalerObject::read(&at.namespace, object));
            world.set_public_scaler(&at, object.as_ref().map(read));
        }
        Change::Settings(map, data) => {
            let _ = world.set_settings(map, data.clone());
        }
    }
}

fn world_of(changes: &[Change]) -> World {
    let mut world = ClusterWorld::default();
    changes.iter().for_each(|change| apply(&mut world, change));
    world.take().unwrap()
}

fn shown(world: &World) -> String {
    let mut text = String::new();
    for service in &world.services {
        let traffic: Vec<String> = service
            .traffic
            .iter()
            .map(|target| format!("{} {}", target.revision.name, target.percent))
            .collect();
        text += &format!("{}: {}\n  {}\n", service.id, service.hosts.join(" "), traffic.join(", "));
        for tag in &service.tags {
            let moving: Vec<String> = tag
                .moving
                .iter()
                .map(|target| format!(" {} {}", target.revision.name, target.percent))
                .collect();
            let (hosts, moving) = (tag.hosts.join(" "), moving.join(","));
            text += &format!("  {} → {}{moving}: {hosts}\n", tag.name, tag.revision.name);
        }
        if let Some(problem) = &service.problem {
            text += &format!("  {}: {}\n", problem.reason, problem.message);
        }
        text.extend(service.warnings.iter().map(|warning| format!("  ! {warning}\n")));
    }
    text
}

fn check(changes: &[Change], expected: &Expect) {
    expected.assert_eq(&shown(&world_of(changes)));
}

fn all_to(revision: &str) -> Value {
    json!([{"revisionName": revision, "percent": 100, "latestRevision": true}])
}

#[test]
fn hosts_and_traffic() {
    let domain = ("config-domain", Some(data(&[("example.com", "")])));
    let traffic = json!([
        {"revisionName": "a-1", "percent": 70},
        {"revisionName": "a-2", "percent": 10, "tag": "next"},
        {"revisionName": "a-2", "percent": 20},
        {"revisionName": "a-1", "tag": "old"},
    ]);
    check(
        &[
            Change::Settings(domain.0, domain.1),
            Change::Revision("n/a-1", Some(revision("a", "active"))),
            Change::Revision("n/a-2", Some(revision("a", "active"))),
            Change::Route("n/a", Some(route("2026-01-01T00:00:00Z", &traffic))),
            Change::Mapping("n/a.org", Some(mapping("2026-01-02T00:00:00Z", "a"))),
            Change::Mapping("n/x.example.com", Some(mapping("2026-01-02T00:00:00Z", "a"))),
        ],
        &expect![[r#"
            n/a: a.n.example.com a.n.svc.cluster.local a.n.svc a.n a.org
              a-1 70, a-2 30
              next → a-2: next-a.n.example.com next-a.n.svc.cluster.local next-a.n.svc next-a.n
              old → a-1: old-a.n.example.com old-a.n.svc.cluster.local old-a.n.svc old-a.n
              ! DomainMapping n/x.example.com is not in effect: hosts below the cluster's own domains cannot be mapped
        "#]],
    );
}

#[test]
fn each_name_may_be_kept_inside_by_itself() {
    let mut traffic = json!([
        {"revisionName": "a-1", "percent": 100, "tag": "in"},
        {"revisionName": "a-1", "tag": "out", "url": "http://out-a.n.example.com"},
    ]);
    traffic[0]["url"] = json!("http://in-a.n.svc.cluster.local");
    let mut private = route("1", &traffic);
    private["status"]["url"] = json!("http://b.n.svc.cluster.local");
    check(
        &[
            Change::Settings("config-domain", Some(data(&[("example.com", "")]))),
            Change::Revision("n/a-1", Some(revision("a", "active"))),
            Change::Route("n/a", Some(route("1", &traffic))),
            Change::Route("n/b", Some(private)),
        ],
        &expect![[r#"
            n/a: a.n.example.com a.n.svc.cluster.local a.n.svc a.n
              a-1 100
              in → a-1: in-a.n.svc.cluster.local in-a.n.svc in-a.n
              out → a-1: out-a.n.example.com out-a.n.svc.cluster.local out-a.n.svc out-a.n
            n/b: b.n.svc.cluster.local b.n.svc b.n
              a-1 100
              in → a-1: in-b.n.svc.cluster.local in-b.n.svc in-b.n
              out → a-1: out-b.n.example.com out-b.n.svc.cluster.local out-b.n.svc out-b.n
        "#]],
    );
}

#[test]
fn without_a_domain_services_are_in_the_cluster_only() {
    check(
        &[
            Change::Revision("n/a-1", Some(revision("a", "active"))),
            Change::Route("n/a", Some(route("1", &all_to("a-1")))),
            Change::Route(
                "n/b",
                Some(json!({"status": {"conditions": [{
                    "type": "Ready", "status": "False", "reason": "RevisionMissing",
                    "message": "Configuration \"b\" does not have any ready Revision.",
                }]}})),
            ),
            Change::Route("n/c", Some(route("1", &all_to("c-1")))),
        ],
        &expect![[r#"
            n/a: a.n.svc.cluster.local a.n.svc a.n
              a-1 100
            n/b: b.n.svc.cluster.local b.n.svc b.n
              
              revision_missing: service n/b has no traffic yet: RevisionMissing: Configuration "b" does not have any ready Revision.
            n/c: c.n.svc.cluster.local c.n.svc c.n
              
              revision_missing: traffic of n/c names c-1, not there
        "#]],
    );
}

#[test]
fn a_host_is_the_oldest_objects() {
    let tagged = json!([{"revisionName": "x-1", "percent": 100, "tag": "a"}]);
    let objects = [
        Change::Revision("n/x-1", Some(revision("x", "active"))),
        Change::Revision("n/a-1", Some(revision("a", "active"))),
        // A tag of an older route does not take a younger route's own host.
        Change::Route("n/x", Some(route("2026-01-01T00:00:00Z", &tagged))),
        Change::Route("n/a-x", Some(route("2026-01-03T00:00:00Z", &all_to("a-1")))),
        Change::Mapping("n/shop.org", Some(mapping("2026-01-05T00:00:00Z", "x"))),
        Change::Mapping("m/shop.org", Some(mapping("2026-01-04T00:00:00Z", "y"))),
    ];
    let text = expect![[r#"
        n/a-x: a-x.n.svc.cluster.local a-x.n.svc a-x.n
          a-1 100
        n/x: x.n.svc.cluster.local x.n.svc x.n
          x-1 100
          a → x-1: 
          ! service n/x does not get a-x.n.svc.cluster.local: service n/a-x has it already
          ! service n/x does not get a-x.n.svc: service n/a-x has it already
          ! service n/x does not get a-x.n: service n/a-x has it already
          ! DomainMapping n/shop.org does not get shop.org: DomainMapping m/shop.org has it already
    "#]];
    check(&objects, &text);
    // Whoever is next gets it when the owner goes.
    let mut world = ClusterWorld::default();
    objects.iter().for_each(|change| apply(&mut world, change));
    world.take();
    apply(&mut world, &Change::Mapping("m/shop.org", None));
    apply(&mut world, &Change::Route("n/a-x", None));
    expect![[r#"
        n/x: x.n.svc.cluster.local x.n.svc x.n shop.org
          x-1 100
          a → x-1: a-x.n.svc.cluster.local a-x.n.svc a-x.n
    "#]]
    .assert_eq(&shown(&world.take().unwrap()));
}

#[test]
fn a_revision() {
    let object = json!({
        "metadata": {
            "uid": "u1",
            "labels": {
                "serving.knative.dev/service": "a", "serving.knative.dev/configuration": "a",
            },
            "annotations": {
                "autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/target": "7",
                "serving.knative.dev/progress-deadline": "90s", "tidegate.dev/queue-timeout": "3s",
                "tidegate.dev/waiting-page": "true",
            },
        },
        "spec": {
            "containerConcurrency": 4, "timeoutSeconds": 20,
            "containers": [
                {"name": "side"},
                {"ports": [{"name": "h2c", "containerPort": 9000}], "readinessProbe": {
                    "httpGet": {"path": "/up", "port": 9000}}},
            ],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let mut world = ClusterWorld::default();
    apply(&mut world, &Change::Revision("n/a-1", Some(object)));
    let spec = Arc::clone(&world.take().unwrap().revisions[0]);
    assert_eq!(spec.service, Some(name("n/a")));
    assert!(matches!(spec.container_concurrency, ContainerConcurrency::AtMost(n) if n.get() == 4));
    assert_eq!(spec.protocol, Protocol::H2c);
    assert_eq!((spec.timeouts.request.as_secs(), spec.queue.timeout.unwrap().as_secs()), (20, 3));
    assert!(spec.queue.waiting_page);
    let scaling = &spec.scaling;
    assert_eq!((scaling.min_scale, scaling.initial_scale, scaling.total_value), (1, 1, 4.0));
    assert_eq!(scaling.progress_deadline.as_secs(), 90);
    assert!(scaling.reachable && world.is_initialized(&spec.id));
    assert_eq!(scaling.initialized, None, "it has no PodAutoscaler that would say so");
    for is_initialized in ["Unknown", "True"] {
        let condition = json!({"type": "ScaleTargetInitialized", "status": is_initialized});
        let scaler = json!({"status": {"conditions": [condition]}});
        apply(&mut world, &Change::Own("n/a-1", Some(scaler)));
        let scaling = &world.take().unwrap().revisions[0].scaling;
        assert_eq!(scaling.initialized, Some(is_initialized == "True"));
    }
    let Workload::Pods(pods) = &spec.workload else { panic!("{spec:?}") };
    assert_eq!((pods.port, &*pods.scaled.name), (9000, "a-1-deployment"));
    assert!(format!("{:?}", pods.probes.readiness.action).contains("port: None"));
}

#[test]
fn who_says_how_a_revision_is_scaled() {
    let mut world = ClusterWorld::default();
    let mut step = |change: Change| {
        apply(&mut world, &change);
        let scaling = world.take().map(|world| world.revisions[0].scaling.clone());
        scaling.map(|s| (s.min_scale, s.max_scale, s.stable_window.as_secs(), s.reachable))
    };
    let reserve = || Some(revision("a", "reserve"));
    assert_eq!(step(Change::Revision("n/a-1", reserve())), Some((0, None, 60, false)));
    let own = json!({
        "metadata": {"annotations": {"autoscaling.knative.dev/max-scale": "5"}},
        "spec": {"reachability": "Reachable", "scaleTargetRef": {
            "apiVersion": "example.com/v1", "kind": "Robot", "name": "r"}},
    });
    assert_eq!(step(Change::Own("n/a-1", Some(own))), Some((0, Some(5), 60, true)));
    let public = |kind: &str, to: &str, min: u32| {
        let reference = json!({"kind": kind, "name": to});
        Some(json!({"spec": {"minScale": min, "scaleTargetRef": reference}}))
    };
    let of_service = public("Service", "a", 2);
    assert_eq!(step(Change::Public("n/z", of_service)), Some((2, Some(5), 60, true)));
    let of_revision = public("Deployment", "a-1-deployment", 3);
    assert_eq!(step(Change::Public("n/y", of_revision)), Some((3, Some(5), 60, true)));
    let window = Some(data(&[("stable-window", "90s")]));
    let expected = Some((3, Some(5), 90, true));
    assert_eq!(step(Change::Settings("config-autoscaler", window)), expected);
    // One that is bad is not taken.
    let bad = Some(data(&[("stable-window", "never")]));
    assert_eq!(step(Change::Settings("config-autoscaler", bad)), None);
    assert_eq!(step(Change::Public("n/y", None)), Some((2, Some(5), 90, true)));
    assert_eq!(step(Change::Public("n/z", None)), Some((0, Some(5), 90, true)));
}

#[test]
fn what_did_not_change_is_the_same_object() {
    let mut world = ClusterWorld::default();
    for change in [
        Change::Revision("n/a-1", Some(revision("a", "active"))),
        Change::Revision("n/b-1", Some(revision("b", "active"))),
        Change::Route("n/a", Some(route("1", &all_to("a-1")))),
        Change::Route("n/b", Some(route("1", &all_to("b-1")))),
    ] {
        apply(&mut world, &change);
    }
    let before = world.take().unwrap();
    apply(&mut world, &Change::Route("n/a", Some(route("1", &all_to("a-1")))));
    assert!(world.take().is_none(), "nothing is another than before");
    apply(&mut world, &Change::Revision("n/a-1", Some(revision("a", "reserve"))));
    let after = world.take().unwrap();
    assert!(!Arc::ptr_eq(&before.revisions[0], &after.revisions[0]));
    assert!(Arc::ptr_eq(&before.revisions[1], &after.revisions[1]));
    assert!(Arc::ptr_eq(&before.services[0], &after.services[0]));
}

#[test]
fn a_mapping_is_in_effect_once_its_host_is_its_own() {
    let mut refused = mapping("2026-01-01T00:00:00Z", "a");
    refused["status"] = json!({"conditions": [{"type": "DomainClaimed", "status": "False"}]});
    let objects = [
        Change::Revision("n/a-1", Some(revision("a", "active"))),
        Change::Route("n/a", Some(route("2026-01-01T00:00:00Z", &all_to("a-1")))),
        Change::Revision("m/b-1", Some(revision("b", "active"))),
        Change::Route("m/b", Some(route("2026-01-01T00:00:00Z", &all_to("b-1")))),
        // The older one is refused: it does not take the other one's.
        Change::Mapping("n/shop.org", Some(refused)),
        Change::Mapping("m/shop.org", Some(mapping("2026-01-02T00:00:00Z", "b"))),
    ];
    check(
        &objects,
        &expect![[r#"
            m/b: b.m.svc.cluster.local b.m.svc b.m shop.org
              b-1 100
            n/a: a.n.svc.cluster.local a.n.svc a.n
              a-1 100
              ! DomainMapping n/shop.org is not in effect: its status does not say DomainClaimed
        "#]],
    );
}

/// Any change of a small cluster, from numbers.
fn change(kind: u8, which: usize, how: usize) -> Change {
    const ROUTES: [&str; 3] = ["n/a", "n/x", "n/a-x"];
    const REVISIONS: [&str; 3] = ["n/a-1", "n/x-1", "n/x-2"];
    let made = format!("2026-01-0{}T00:00:00Z", how % 4 + 1);
    match kind {
        0 => {
            let states = [None, Some("active"), Some("reserve")];
            let service = ["a", "x"][how % 2];
            let object = states[how % 3].map(|state| revision(service, state));
            Change::Revision(REVISIONS[which], object)
        }
        1 => {
            let traffics = [
                json!([{"revisionName": "a-1", "percent": 100}]),
                json!([{"revisionName": "x-1", "percent": 100, "tag": "a"}]),
                json!([{"revisionName": "x-1", "percent": 50},
                    {"revisionName": "x-2", "percent": 50, "tag": "b"}]),
            ];
            let object = traffics.get(how % 4).map(|traffic| route(&made, traffic));
            Change::Route(ROUTES[which], object)
        }
        2 => {
            let to = [Some("a"), Some("x"), None][how % 3];
            let at = ["n/shop.org", "m/shop.org", "n/x.example.com"][which];
            Change::Mapping(at, to.map(|to| mapping(&made, to)))
        }
        3 => {
            let to = ["a", "x"][how % 2];
            let object = json!({"spec": {"minScale": how, "scaleTargetRef":
                {"kind": "Service", "name": to}}});
            Change::Public(["n/s", "n/t", "n/u"][which], (!how.is_multiple_of(3)).then_some(object))
        }
        _ => {
            let domain = [Some(data(&[("example.com", "")])), None][how % 2].clone();
            Change::Settings("config-domain", domain)
        }
    }
}

proptest::proptest! {
    /// Whatever happened before, what is there now decides; but for traffic that names what is
    /// not there, where what was in effect before stays.
    #[test]
    fn one_by_one_is_as_all_at_once(
        numbers in proptest::collection::vec((0_u8..5, 0_usize..3, 0_usize..12), 1..24),
    ) {
        let changes: Vec<Change> = numbers.iter().map(|(k, w, h)| change(*k, *w, *h)).collect();
        let mut stepwise = ClusterWorld::default();
        let mut last = World::default();
        for change in &changes {
            apply(&mut stepwise, change);
            last = stepwise.take().unwrap_or(last);
        }
        let at_once = world_of(&changes);
        proptest::prop_assert_eq!(&last.revisions, &at_once.revisions);
        proptest::prop_assert_eq!(last.services.len(), at_once.services.len());
        for (one, other) in last.services.iter().zip(&at_once.services) {
            let lacks = |text: &Arc<str>| text.starts_with("RevisionMissing");
            if other.problem.is_none() && !other.warnings.iter().any(lacks) {
                proptest::prop_assert_eq!(one, other);
            } else {
                proptest::prop_assert_eq!(&one.hosts, &other.hosts);
            }
        }
    }
}
