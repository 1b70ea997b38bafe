//! The room as a whole, on paused time.

mod ejection;
mod endpoints;
mod metered;
mod model;
mod queue;
mod renewal;
mod shares;
mod victims;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Admission, Permit, ProcessQueue, QueueLimits, Revision, Setting, Ticket};
use crate::model::{
    ContainerConcurrency, EndpointId, ObjectName, Problem, Protocol, QueueSettings, RevisionSpec,
    ScalingSpec, Timeouts, Workload,
};
use crate::stats::{Clock, Nanos, Pokes, RevisionStats};

/// `timeoutSeconds` of the revisions here.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A revision and what it shares with others.
struct Room {
    revision: Arc<Revision>,
    process: Arc<ProcessQueue>,
    pokes: Arc<Pokes>,
    replans: Arc<Pokes>,
    clock: Clock,
}

/// A revision that takes so many requests a replica; 0 = unlimited with a target of 3.
fn spec(name: &str, limit: u32) -> RevisionSpec {
    RevisionSpec {
        id: ObjectName::new("default", name),
        service: None,
        configuration: name.into(),
        container_concurrency: NonZeroU32::new(limit)
            .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost),
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: TIMEOUT, response_start: None, idle: None },
        scaling: ScalingSpec { target_value: 2.1, ..ScalingSpec::default() },
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Static(Vec::new()),
    }
}

impl Room {
    fn new(limit: u32) -> Self {
        Self::with(spec("hello-00001", limit), Arc::default())
    }

    fn with(spec: RevisionSpec, process: Arc<ProcessQueue>) -> Self {
        Self::sharing(spec, process, None)
    }

    fn sharing(spec: RevisionSpec, process: Arc<ProcessQueue>, shares: Option<Arc<Pokes>>) -> Self {
        let clock = Clock::start();
        let pokes = Arc::new(Pokes::default());
        let replans = Arc::new(Pokes::default());
        let setting = Setting {
            workers: 2,
            process: Arc::clone(&process),
            replans: Arc::clone(&replans),
            shares,
        };
        let stats = RevisionStats::new(spec.id.clone(), clock, 2, Arc::clone(&pokes));
        let revision = Revision::new(Arc::new(spec), stats, &setting, 7);
        Self { revision, process, pokes, replans, clock }
    }

    fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// The platform reports these replicas, by number.
    fn report(&self, replicas: &[u16]) {
        let endpoints: Vec<_> = replicas.iter().map(|n| (id(*n), address(*n))).collect();
        self.revision.set_endpoints(&endpoints, self.now());
        self.holds();
    }

    fn ask(&self) -> Admission {
        let admission = self.revision.admit(self.now(), None);
        self.holds();
        admission
    }

    /// Asks for a slot that is there.
    fn granted(&self) -> Permit {
        match self.ask() {
            Admission::Granted(permit) => permit,
            other => panic!("expected a permit, got {other:?}"),
        }
    }

    /// Asks for a slot that is not there.
    fn waiting(&self) -> Ticket {
        match self.ask() {
            Admission::Waiting(ticket) => ticket,
            other => panic!("expected a place in line, got {other:?}"),
        }
    }

    fn refused(&self) -> Problem {
        match self.ask() {
            Admission::Refused(problem) => problem,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    /// What people see of the endpoints: name, requests, state.
    fn shown(&self) -> Vec<String> {
        let endpoints = self.revision.endpoints();
        endpoints.iter().map(|e| format!("{} {} {}", e.id, e.in_flight, e.state)).collect()
    }

    #[track_caller]
    fn holds(&self) {
        assert_eq!(self.revision.check(), Ok(()));
        assert_eq!(self.revision.stats().waiting(), self.process.waiting());
    }
}

fn id(replica: u16) -> EndpointId {
    EndpointId::new(format!("r{replica}"))
}

fn address(replica: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9_000 + replica))
}

fn replica_of(permit: &Permit) -> String {
    permit.endpoint().id().to_string()
}

fn poll(ticket: &mut Ticket) -> Poll<Result<Permit, Problem>> {
    ticket.poll_outcome(&mut Context::from_waker(Waker::noop()))
}

/// The permit of a ticket that was served.
#[track_caller]
fn served(ticket: &mut Ticket) -> Permit {
    match poll(ticket) {
        Poll::Ready(Ok(permit)) => permit,
        other => panic!("expected a permit, got {other:?}"),
    }
}

#[track_caller]
fn waits(ticket: &mut Ticket) {
    let outcome = poll(ticket);
    assert!(outcome.is_pending(), "expected to wait, got {outcome:?}");
}

/// Bounds of waiting requests.
fn bounds(revision: u32, process: u32) -> Arc<ProcessQueue> {
    Arc::new(ProcessQueue::new(QueueLimits { revision, process }))
}
