//! Routing tables made of what changed are those made of everything.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use tidegate::model::{
    ContainerConcurrency, ObjectName, Protocol, QueueSettings, RevisionId, RevisionSpec,
    ScalingSpec, ServiceId, ServiceSpec, Tag, Timeouts, TrafficTarget, Workload, World,
};
use tidegate::revision::{ProcessQueue, QueueLimits, Revision, Setting};
use tidegate::snapshot::{Registry, Snapshot};
use tidegate::stats::{Clock, RevisionStats};

const SERVICES: usize = 24;

/// A service as a test wants it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wish {
    /// Which of its hosts it has; they are others' in turn.
    hosts: u8,
    /// Makes a live revision another one.
    concurrency: u32,
    is_tagged: bool,
    /// Changes nothing that is live for its revision but the spec.
    scaling: u32,
}

fn wish() -> impl Strategy<Value = Wish> {
    (0_u8..4, 1_u32..3, any::<bool>(), 0_u32..3).prop_map(
        |(hosts, concurrency, is_tagged, scaling)| Wish { hosts, concurrency, is_tagged, scaling },
    )
}

fn revision_spec(index: usize, wish: Wish) -> RevisionSpec {
    RevisionSpec {
        id: RevisionId::new("default", format!("s{index:02}-00001")),
        service: Some(id(index)),
        configuration: format!("s{index:02}").into(),
        container_concurrency: ContainerConcurrency::AtMost(
            NonZeroU32::new(wish.concurrency).expect("1 or 2"),
        ),
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(1), response_start: None, idle: None },
        scaling: ScalingSpec { min_scale: wish.scaling, ..ScalingSpec::default() },
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Static(Vec::new()),
    }
}

fn service_spec(index: usize, wish: Wish) -> ServiceSpec {
    let revision = RevisionId::new("default", format!("s{index:02}-00001"));
    let shared = (index + usize::from(wish.hosts)) % SERVICES;
    let tag = || Tag {
        name: "t".into(),
        hosts: vec![format!("t-s{index}").into()],
        revision: revision.clone(),
        moving: Vec::new(),
    };
    ServiceSpec {
        id: id(index),
        hosts: vec![format!("s{index}").into(), format!("of{}-{shared}", wish.hosts).into()],
        tags: wish.is_tagged.then(tag).into_iter().collect(),
        traffic: vec![TrafficTarget { revision, percent: 100 }],
        tag_header_routing: false,
        https_hosts: Vec::new(),
        canaries: Vec::new(),
        problem: None,
        warnings: Vec::new(),
    }
}

fn id(index: usize) -> ServiceId {
    ObjectName::new("default", format!("s{index:02}"))
}

/// The world of these wishes; what is as before is the same object.
fn world(wishes: &BTreeMap<usize, Wish>, before: &World) -> Arc<World> {
    fn kept<T: PartialEq>(new: T, before: &[Arc<T>]) -> Arc<T> {
        let known = before.iter().find(|known| ***known == new);
        known.map_or_else(|| Arc::new(new), Arc::clone)
    }
    let services = wishes.iter().map(|(index, wish)| service_spec(*index, *wish));
    let revisions = wishes.iter().map(|(index, wish)| revision_spec(*index, *wish));
    Arc::new(World {
        services: services.map(|spec| kept(spec, &before.services)).collect(),
        revisions: revisions.map(|spec| kept(spec, &before.revisions)).collect(),
        default_service: wishes.keys().next().map(|index| id(*index)),
        ..World::default()
    })
}

fn make(spec: &Arc<RevisionSpec>) -> Arc<Revision> {
    let setting = Setting {
        workers: 1,
        process: Arc::new(ProcessQueue::new(QueueLimits::default())),
        replans: Arc::default(),
        shares: None,
    };
    let stats = RevisionStats::new(spec.id.clone(), Clock::start(), 1, Arc::default());
    Revision::new(Arc::clone(spec), stats, &setting, 7)
}

/// Where every host that there may be leads: service, tag, and the live revision behind it.
fn shown(snapshot: &Snapshot, registry: &Registry) -> Vec<String> {
    let mut lines = Vec::new();
    let hosts = (0..SERVICES).flat_map(|s| {
        let of = (0..4).map(move |variant| format!("of{variant}-{s}"));
        of.chain([format!("s{s}"), format!("t-s{s}")])
    });
    for host in hosts {
        let Some(route) = snapshot.route(&host) else { continue };
        let drawn = route.service.split.draw().expect("every service has traffic");
        let live = registry.revision(drawn.id()).expect("drawn, so live");
        assert!(Arc::ptr_eq(live, drawn), "{host} leads to a revision that is gone");
        lines.push(format!("{host}: {} {:?} {:?}", route.service.spec.id, route.tag, live.spec()));
    }
    let services = snapshot.services().iter().map(|service| service.spec.id.to_string());
    lines.push(services.collect::<Vec<_>>().join(" "));
    lines.push(format!("{:?}", snapshot.default_service().map(|service| &service.spec.id)));
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_of_what_changed_is_one_of_everything(
        start in proptest::collection::btree_map(0..SERVICES, wish(), 0..SERVICES),
        steps in proptest::collection::vec(
            proptest::collection::btree_map(0..SERVICES, proptest::option::weighted(0.7, wish()), 0..4),
            1..12,
        ),
    ) {
        let mut wishes = start;
        let mut registry = Registry::default();
        let mut now = world(&wishes, &World::default());
        registry.apply(&now, make, 7);
        for step in steps {
            let before = now;
            for (index, wish) in step {
                match wish {
                    Some(wish) => wishes.insert(index, wish),
                    None => wishes.remove(&index),
                };
            }
            now = world(&wishes, &before);
            let (patched, changes) = registry.apply(&now, make, 7);
            let mut fresh = Registry::default();
            let (whole, all) = fresh.apply(&now, make, 7);
            prop_assert_eq!(shown(&patched, &registry), shown(&whole, &fresh));
            prop_assert_eq!(all.added.len(), now.revisions.len());
            let is_new = |service: &&Arc<ServiceSpec>| {
                !before.services.iter().any(|known| known.id == service.id)
            };
            let new: Vec<_> = now.services.iter().filter(is_new).cloned().collect();
            prop_assert_eq!(changes.services, new);
            prop_assert_eq!(registry.revisions().count(), now.revisions.len());
        }
    }
}
