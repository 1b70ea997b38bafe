//! Live revisions and tables to measure.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate::model::{
    ContainerConcurrency, EndpointId, ObjectName, Protocol, QueueSettings, RevisionSpec,
    ScalingSpec, ServiceSpec, Timeouts, Workload,
};
use tidegate::revision::{ProcessQueue, QueueLimits, Revision, Setting};
use tidegate::snapshot::{ServiceRoute, Split};
use tidegate::stats::{Clock, Nanos, RevisionStats};

/// Worker threads that are counted for.
pub(crate) const WORKERS: usize = 2;

pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

/// A revision with so many replicas, each with so many slots.
pub(crate) fn revision(
    title: &str,
    limit: Option<u32>,
    replicas: u16,
    clock: Clock,
) -> Arc<Revision> {
    let limit = limit.and_then(NonZeroU32::new);
    let spec = RevisionSpec {
        id: name(title),
        service: None,
        configuration: title.into(),
        container_concurrency: limit
            .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost),
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Static(Vec::new()),
    };
    let setting = Setting {
        workers: WORKERS,
        process: Arc::new(ProcessQueue::new(QueueLimits::default())),
        replans: Arc::default(),
        shares: None,
    };
    let stats = RevisionStats::new(name(title), clock, WORKERS, Arc::default());
    let revision = Revision::new(Arc::new(spec), stats, &setting, 7);
    let endpoints: Vec<_> = (0..replicas)
        .map(|i| (EndpointId::new(i.to_string()), ([127, 0, 0, 1], 10_000 + i).into()))
        .collect();
    revision.set_endpoints(&endpoints, Nanos(1));
    revision
}

/// A service on one host, all of whose traffic goes to one revision.
pub(crate) fn route(title: &str, host: &str, revision: &Arc<Revision>) -> Arc<ServiceRoute> {
    let spec = ServiceSpec {
        id: name(title),
        hosts: vec![host.into()],
        traffic: Vec::new(),
        tags: Vec::new(),
        tag_header_routing: false,
        https_hosts: Vec::new(),
        canaries: Vec::new(),
        problem: None,
        warnings: Vec::new(),
    };
    Arc::new(ServiceRoute {
        spec: Arc::new(spec),
        split: Split::new(vec![(100, Arc::clone(revision))], 1),
        tags: Vec::new(),
        moving_tags: Vec::new(),
    })
}
