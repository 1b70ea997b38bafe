//! One request and its response: what it takes, given back when it ends, however it ends.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::rc::Rc;
use std::time::Duration;

use http::Response;

use crate::model::{Problem, Reason, nanos_of};
use crate::revision::Permit;
use crate::stats::{Ended, Nanos};
use crate::traces::SpanContext;

use super::access_log::{Ending, Record};
use super::body::{Cut, ResponseBody};
use super::connection::{Active, Connection};
use super::grpc;
use super::noted::{Met, Note};
use super::refusal;
use super::shared::Position;
use super::sweep::{Swept, Timer};
use super::trace::{self, Trace};
use super::waiting::{self, Wait};
use super::worker::{LocalEndpoint, LocalRevision, Worker};

/// The place a request has on an endpoint.
#[derive(Debug)]
pub(super) enum Hold {
    /// None yet.
    Nothing,
    /// Counted by this worker alone: the revision has no limit and the endpoint is warm.
    Free(Rc<LocalEndpoint>),
    /// A slot.
    Slot(Permit, Rc<LocalEndpoint>),
}

impl Hold {
    pub(super) fn endpoint(&self) -> Option<&Rc<LocalEndpoint>> {
        match self {
            Self::Nothing => None,
            Self::Free(endpoint) | Self::Slot(_, endpoint) => Some(endpoint),
        }
    }
}

/// The deadlines of a request: its connection's for HTTP/1, which has one at a time.
#[derive(Debug)]
pub(super) enum Clockwork {
    Connection(Rc<Timer>),
    Own(Swept<Connection>),
}

/// One request on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) local: Rc<LocalRevision>,
    pub(super) arrived: Nanos,
    pub(super) counted: bool,
    pub(super) hold: Hold,
    pub(super) log: Option<Box<Record>>,
    /// What is recorded of it, if it is.
    pub(super) trace: Option<Box<Trace>>,
    pub(super) waited: Duration,
    /// Whether it may be answered with a waiting page.
    pub(super) page: bool,
    /// What it met where it had to wait, or was refused.
    pub(super) met: Option<Box<Met>>,
    active: Active,
    clockwork: Clockwork,
    /// One more than nanoseconds: in eight bytes, as the status in two. An exchange is moved.
    ended: Option<NonZeroU64>,
    status: Option<NonZeroU16>,
    /// What a gRPC call ended with, where the replica said so.
    grpc: Option<grpc::Status>,
    reason: Option<Reason>,
    bytes: u64,
    answered: bool,
    paused: bool,
}

impl Exchange {
    /// A request arrived.
    pub(super) fn begin(
        worker: &Rc<Worker>,
        local: Rc<LocalRevision>,
        arrived: Nanos,
        active: Active,
        counted: bool,
    ) -> Self {
        let clockwork = active.clockwork(worker);
        if counted {
            local.revision.stats().arrive(worker.index, arrived);
        }
        local.retries.borrow_mut().request(arrived);
        let exchange = Self {
            worker: Rc::clone(worker),
            local,
            arrived,
            counted,
            hold: Hold::Nothing,
            log: None,
            trace: None,
            page: false,
            waited: Duration::ZERO,
            met: None,
            active,
            clockwork,
            ended: None,
            status: None,
            grpc: None,
            reason: None,
            bytes: 0,
            answered: false,
            paused: false,
        };
        let timeouts = exchange.local.with_spec(|spec| spec.timeouts);
        let response_start = timeouts.response_start.map(|t| arrived.plus(t));
        exchange.timer().start(arrived.plus(timeouts.request), response_start);
        exchange
    }

    /// The connection it came on.
    pub(super) fn connection(&self) -> &Rc<Connection> {
        self.active.connection()
    }

    pub(super) fn timer(&self) -> &Rc<Timer> {
        match &self.clockwork {
            Clockwork::Connection(timer) => timer,
            Clockwork::Own(swept) => &swept.timer,
        }
    }

    /// Takes a timer of its own: the connection's ends with the connection.
    pub(super) fn outlive_connection(&mut self) {
        self.timer().stop();
        self.clockwork = Clockwork::Own(self.worker.sweeper.timer());
    }

    /// The response's status is known.
    pub(super) fn respond(&mut self, status: u16) {
        self.status = NonZeroU16::new(status);
        if let Some(trace) = &mut self.trace {
            trace.answered(self.worker.shared.clock.now(), status);
        }
    }

    /// The replica said how the gRPC call ended that it is.
    pub(super) fn call_ended(&mut self, status: grpc::Status) {
        self.grpc = Some(status);
    }

    /// It is sent to an endpoint; what that is told of the trace, where it is recorded.
    pub(super) fn attempt(&mut self, endpoint: &LocalEndpoint) -> Option<SpanContext> {
        let trace = self.trace.as_mut()?;
        Some(trace.attempt(self.worker.shared.clock.now(), endpoint.state.address()))
    }

    /// A connection was made for it.
    pub(super) fn connected(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.connected(self.worker.shared.clock.now());
        }
    }

    /// tidegate answers itself.
    pub(super) fn refuse(&mut self, problem: &Problem) {
        self.status = NonZeroU16::new(problem.reason.status());
        self.reason = Some(problem.reason);
        self.local.revision.stats().refused(problem.reason);
    }

    /// Has it noted that it waited, or why it is refused; once.
    pub(super) fn note(&mut self, id: &[u8], problem: Option<&Problem>) {
        let revision = &self.local.revision;
        let met = self.met.take();
        if met.is_none() && problem.is_none() {
            return;
        }
        self.worker.shared.noted.push(Note {
            id: id.into(),
            revision: Some(revision.id().clone()),
            arrived: self.arrived,
            waited: self.waited,
            met: met.map_or_else(|| Met::now(revision.stats()), |met| *met),
            problem: problem.cloned(),
        });
    }

    /// The answer in place of a replica's; says when to try again where time may cure it.
    pub(super) fn refusal(&self, problem: &Problem, grpc: bool) -> Response<ResponseBody> {
        let revision = &self.local.revision;
        let page = problem.reason == Reason::WaitingPage;
        let cured = matches!(problem.reason, Reason::QueueFull | Reason::StartFailed);
        let retry_after = cured.then(|| revision.retry_after_seconds());
        let mut response = refusal::response(problem, grpc, retry_after);
        if page {
            let now = self.worker.shared.clock.now();
            let wait = Wait {
                waited: revision.shown_waiting_for(self.arrived, now),
                usual: revision.last_cold_start(),
                starting: revision.stats().starting() > 0,
            };
            waiting::show(&mut response, wait);
        }
        response
    }

    /// Bytes went to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.timer().touch(bytes);
    }

    /// The replica answered with a whole response, or began to.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// The response ended in order; says when.
    pub(super) fn complete(&mut self) -> Nanos {
        self.answered = true;
        let now = self.worker.shared.clock.now();
        self.ended = Some(NonZeroU64::MIN.saturating_add(now.0));
        now
    }

    /// The response had begun and cannot be finished.
    pub(super) fn cut(&mut self, cut: &Cut) {
        let reason = match cut {
            Cut::Upstream(_) | Cut::Broken(_) | Cut::Short => Reason::UpstreamBroke,
            Cut::Timeout(reason) => *reason,
        };
        self.reason = Some(reason);
        self.local.revision.stats().refused(reason);
    }

    /// An upgraded connection was silent for long enough not to count, or is no longer.
    pub(super) fn set_paused(&mut self, paused: bool) {
        if !self.counted || self.paused == paused {
            return;
        }
        self.paused = paused;
        let now = self.worker.shared.clock.now();
        let stats = self.local.revision.stats();
        if paused {
            stats.pause(self.worker.index, now);
        } else {
            stats.resume(self.worker.index, now);
        }
    }

    /// Gives the place on an endpoint back.
    pub(super) fn release(&mut self) {
        match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Nothing => {}
            Hold::Free(endpoint) => {
                if endpoint.state.leave(self.worker.index) {
                    self.local.revision.free_left(&endpoint.state);
                }
            }
            Hold::Slot(mut permit, _) => {
                if self.answered {
                    permit.answered();
                }
            }
        }
    }

    /// The replica's own part of it, as queue-proxy's `revision_app_*` have it.
    fn end_app(&self, now: Nanos) {
        let broke = matches!(self.reason, Some(Reason::UpstreamConnect | Reason::UpstreamBroke));
        if self.answered || broke {
            let took = now.since(self.arrived).saturating_sub(self.waited);
            self.local.revision.stats().app_ended(
                self.worker.index,
                self.status.map(NonZeroU16::get),
                took,
            );
        }
    }

    /// What its revision is judged by beside another one. A client that left says nothing, and
    /// neither does a request that is no load, or what tidegate refuses for reasons of its own.
    fn judge(&self, now: Nanos) {
        let ended = match self.reason {
            Some(
                Reason::Asleep
                | Reason::WaitingPage
                | Reason::ServiceRemoved
                | Reason::ShuttingDown,
            ) => return,
            Some(_) => Ended::Failed,
            None => match self.status.map(NonZeroU16::get) {
                Some(500..) => Ended::Failed,
                Some(101) => Ended::Upgraded,
                Some(_) if self.grpc.is_some_and(grpc::Status::is_failure) => Ended::Failed,
                Some(_) if self.ended.is_some() => {
                    let took = now.since(self.arrived).saturating_sub(self.waited);
                    Ended::Answered(nanos_of(took))
                }
                Some(_) | None => return,
            },
        };
        self.local.revision.stats().judge(self.worker.index, ended);
    }

    fn write_trace(&mut self, trace: Box<Trace>, now: Nanos) {
        let ending = trace::Ending {
            status: self.status.map(NonZeroU16::get),
            grpc: self.grpc,
            reason: self.reason,
            bytes: self.bytes,
        };
        let tracer = &self.worker.shared.settings.tracer;
        self.local.with_spec(|spec| trace.end(now, ending, Some(spec), tracer));
    }

    fn write_log(&mut self, now: Nanos, endpoint: Option<SocketAddr>) {
        let Some(record) = self.log.take() else { return };
        let Some(log) = &self.worker.shared.settings.access_log else { return };
        self.local.with_spec(|spec| {
            let ending = Ending {
                status: self.status.map(NonZeroU16::get),
                reason: self.reason,
                bytes: self.bytes,
                took: now.since(self.arrived),
                waited: self.waited,
                revision: &spec.id,
                service: spec.service.as_ref(),
                configuration: &spec.configuration,
                endpoint,
            };
            record.write(&ending, &log.sink);
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = self.ended.map(|at| Nanos(at.get() - 1));
        let now = now.unwrap_or_else(|| self.worker.shared.clock.now());
        let endpoint = self.hold.endpoint().map(|e| e.state.address());
        self.timer().stop();
        self.set_paused(false);
        self.release();
        let stats = self.local.revision.stats();
        let status = self.status.map(NonZeroU16::get);
        if self.counted {
            stats.leave(self.worker.index, self.arrived, now, status);
        } else {
            stats.ended_uncounted(self.worker.index, self.arrived, now, status);
        }
        if stats.is_compared() && self.counted {
            self.judge(now);
        }
        if self.worker.shared.settings.position == Position::Sidecar {
            self.end_app(now);
        }
        self.write_log(now, endpoint);
        if let Some(trace) = self.trace.take() {
            self.write_trace(trace, now);
        }
        self.active.end(now);
    }
}
