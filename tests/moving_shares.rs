//! Shares that change while requests are drawn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate::model::{
    ContainerConcurrency, ObjectName, Protocol, QueueSettings, RevisionId, RevisionSpec,
    ScalingSpec, ServiceSpec, Tag, Timeouts, TrafficTarget, Workload, World,
};
use tidegate::revision::{ProcessQueue, QueueLimits, Revision, Setting};
use tidegate::snapshot::Registry;
use tidegate::stats::{Clock, Pokes, RevisionStats};

fn id(name: &str) -> RevisionId {
    ObjectName::new("default", name)
}

fn spec(name: &str) -> Arc<RevisionSpec> {
    Arc::new(RevisionSpec {
        id: id(name),
        service: None,
        configuration: "hello".into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Static(Vec::new()),
    })
}

fn make(spec: &Arc<RevisionSpec>) -> Arc<Revision> {
    let setting = Setting {
        workers: 1,
        process: Arc::new(ProcessQueue::new(QueueLimits::default())),
        replans: Arc::default(),
        shares: None,
    };
    let pokes = Arc::new(Pokes::default());
    let stats = RevisionStats::new(spec.id.clone(), Clock::start(), 1, pokes);
    Revision::new(Arc::clone(spec), stats, &setting, 7)
}

/// A world with one service, whose newest revision has so many per cent of it, and of its tag.
fn world(revisions: &[Arc<RevisionSpec>], newest: u8, of_tag: Option<u8>) -> Arc<World> {
    let shares = |newest: u8| {
        let target = |name: &str, percent| TrafficTarget { revision: id(name), percent };
        vec![target("old", 100 - newest), target("new", newest)]
    };
    let tag = Tag {
        name: "next".into(),
        hosts: vec!["next-hello".into()],
        revision: id("new"),
        moving: of_tag.map(shares).unwrap_or_default(),
    };
    let service = ServiceSpec {
        id: id("hello"),
        hosts: vec!["hello".into()],
        traffic: shares(newest),
        tags: vec![tag],
        tag_header_routing: true,
        https_hosts: Vec::new(),
        canaries: Vec::new(),
        problem: None,
        warnings: Vec::new(),
    };
    Arc::new(World {
        services: vec![Arc::new(service)],
        revisions: revisions.to_vec(),
        ..World::default()
    })
}

/// Draws go on where they were, so that shares that change all the time are met all the same.
#[test]
fn changing_shares_are_met() {
    let revisions = [spec("new"), spec("old")];
    let mut registry = Registry::default();
    let mut drawn: BTreeMap<String, u32> = BTreeMap::new();
    for step in (0..3_u8).cycle().take(2_000) {
        // Every other table is another one, by little.
        let world = world(&revisions, 29 + step, Some(69 + step));
        let (snapshot, _) = registry.apply(&world, make, 42);
        for _ in 0..2 {
            let own = snapshot.route("hello").unwrap().service.split.draw().unwrap();
            *drawn.entry(format!("own {}", own.id().name)).or_default() += 1;
            let route = snapshot.route("next-hello").unwrap();
            assert_eq!(route.tag, None);
            let tag = route.service.split.draw().unwrap();
            *drawn.entry(format!("tag {}", tag.id().name)).or_default() += 1;
            let by_header = snapshot.services()[0].tagged("next").unwrap();
            *drawn.entry(format!("tag {}", by_header.id().name)).or_default() += 1;
        }
    }
    assert_eq!(drawn["own new"] + drawn["own old"], 4_000);
    assert!(drawn["own new"].abs_diff(1_200) < 40, "{drawn:?}");
    assert!(drawn["tag new"].abs_diff(5_600) < 80, "{drawn:?}");
}

#[test]
fn a_tag_that_has_moved_leads_to_one() {
    let revisions = [spec("new"), spec("old")];
    let mut registry = Registry::default();
    registry.apply(&world(&revisions, 10, Some(10)), make, 42);
    let (snapshot, _) = registry.apply(&world(&revisions, 10, None), make, 42);
    let route = snapshot.route("next-hello").unwrap();
    assert_eq!(&*route.service.tags[route.tag.unwrap() as usize].1.id().name, "new");
    for _ in 0..100 {
        assert_eq!(&*route.service.tagged("next").unwrap().id().name, "new");
    }
}
