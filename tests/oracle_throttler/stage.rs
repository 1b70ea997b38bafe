//! A revision with endpoints, and the requests that it runs or holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate::model::{
    ContainerConcurrency, EndpointId, ObjectName, Protocol, QueueSettings, Reason, RevisionSpec,
    ScalingSpec, Timeouts, Workload,
};
use tidegate::revision::{Admission, Permit, ProcessQueue, QueueLimits, Revision, Setting, Ticket};
use tidegate::stats::{Clock, Pokes, RevisionStats};

/// What became of a request at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Runs,
    Waits,
    Full,
}

/// A revision at work. Requests have the numbers that the data give them.
pub(crate) struct Stage {
    revision: Arc<Revision>,
    clock: Clock,
    running: BTreeMap<u32, Permit>,
    waiting: BTreeMap<u32, Ticket>,
    /// Endpoints reported last.
    reported: BTreeSet<u32>,
}

impl Stage {
    /// A revision whose replicas take `limit` requests each (0 = any number), with a bound of
    /// waiting requests.
    pub(crate) fn new(limit: u32, may_wait: u32) -> Self {
        let spec = RevisionSpec {
            id: ObjectName::new("default", "hello-00001"),
            service: None,
            configuration: "hello".into(),
            container_concurrency: NonZeroU32::new(limit)
                .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost),
            protocol: Protocol::Http1,
            timeouts: Timeouts {
                request: Duration::from_secs(300),
                response_start: None,
                idle: None,
            },
            scaling: ScalingSpec::default(),
            queue: QueueSettings::default(),
            depends_on: Vec::new(),
            workload: Workload::Static(Vec::new()),
        };
        let limits = QueueLimits { revision: may_wait, process: may_wait };
        let setting = Setting {
            workers: 1,
            process: Arc::new(ProcessQueue::new(limits)),
            replans: Arc::default(),
            shares: None,
        };
        let clock = Clock::start();
        let stats = RevisionStats::new(spec.id.clone(), clock, 1, Arc::new(Pokes::default()));
        Self {
            revision: Revision::new(Arc::new(spec), stats, &setting, 7),
            clock,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reported: BTreeSet::new(),
        }
    }

    /// These endpoints are ready, and no others.
    pub(crate) fn report(&mut self, endpoints: BTreeSet<u32>) {
        let ready: Vec<_> = endpoints
            .iter()
            .map(|n| {
                let port = u16::try_from(9_000 + n).unwrap();
                (EndpointId::new(format!("{n}")), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            })
            .collect();
        self.reported = endpoints;
        self.revision.set_endpoints(&ready, self.clock.now());
        self.look();
    }

    /// A request asks for a slot.
    pub(crate) fn ask(&mut self, id: u32) -> Asked {
        let asked = match self.revision.admit(self.clock.now(), None) {
            Admission::Granted(permit) => {
                self.running.insert(id, permit);
                Asked::Runs
            }
            Admission::Waiting(ticket) => {
                self.waiting.insert(id, ticket);
                Asked::Waits
            }
            Admission::Refused(problem) => {
                assert_eq!(problem.reason, Reason::QueueFull, "{problem:?}");
                Asked::Full
            }
        };
        self.look();
        asked
    }

    /// A running request ends.
    pub(crate) fn finish(&mut self, id: u32) {
        drop(self.running.remove(&id).unwrap_or_else(|| panic!("{id} does not run")));
        self.look();
    }

    /// The client of a request leaves; whether it waited.
    pub(crate) fn leave(&mut self, id: u32) -> bool {
        let waited = self.waiting.remove(&id).is_some();
        self.look();
        waited
    }

    /// Takes what was handed to those who wait, and checks what always holds.
    fn look(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut served = Vec::new();
        for (id, ticket) in &mut self.waiting {
            if let Poll::Ready(outcome) = ticket.poll_outcome(&mut cx) {
                served.push((*id, outcome.unwrap()));
            }
        }
        for (id, permit) in served {
            self.waiting.remove(&id);
            self.running.insert(id, permit);
        }
        assert_eq!(self.revision.check(), Ok(()));
    }

    /// Numbers of those that run.
    pub(crate) fn running(&self) -> BTreeSet<u32> {
        self.running.keys().copied().collect()
    }

    /// Numbers of those that wait.
    pub(crate) fn waiting(&self) -> BTreeSet<u32> {
        self.waiting.keys().copied().collect()
    }

    /// The endpoint of a running request.
    pub(crate) fn endpoint_of(&self, id: u32) -> u32 {
        self.running[&id].endpoint().id().0.parse().unwrap()
    }

    /// Endpoints reported last.
    pub(crate) fn reported(&self) -> &BTreeSet<u32> {
        &self.reported
    }

    /// Requests on each endpoint, those that went included.
    pub(crate) fn load(&self) -> BTreeMap<u32, u32> {
        let mut load = BTreeMap::new();
        for id in self.running.keys() {
            *load.entry(self.endpoint_of(*id)).or_default() += 1;
        }
        load
    }
}
