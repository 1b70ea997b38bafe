//! What is recorded of a sampled request on its way, and what its replica is told of the trace.
//!
//! ```text
//! GET                        the request, from its arrival to the end of its response
//! ├── route                  to a revision: by a tag, or drawn by its share
//! ├── queue                  where it waited for a place
//! ├── cold start             where it waited for a replica's start, which may have begun before it
//! │   ├── spawn
//! │   └── ready
//! └── upstream               each attempt at a replica
//!     └── connect            where a connection was made for it
//! ```

mod carried;
mod describe;
mod ending;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::revision::ColdStart;
use crate::stats::Nanos;
use crate::traces::{Attribute, Event, Kind, Span, SpanContext, SpanId, TraceId};
use crate::upstream::SendError;

use super::grpc;
use super::noted::Met;
use super::worker::Worker;

/// How a gRPC call ended, by the name that OpenTelemetry's tools know.
const GRPC_STATUS: &str = "rpc.grpc.status_code";

pub(super) use carried::{begin, refused};
pub(super) use describe::{Asked, Choice};
pub(super) use ending::Ending;

/// What is decided on a request's trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    /// Our own span.
    own: SpanContext,
    /// The caller's; none where the trace begins here.
    parent: Option<SpanContext>,
}

impl Decision {
    /// Whether the request is recorded.
    pub(super) fn is_recorded(self) -> bool {
        self.own.is_sampled()
    }

    /// What goes on in place of the caller's context. What a replica is told as the caller is our
    /// span for the attempt where there is one.
    pub(super) fn told(self) -> Told {
        Told { context: self.own, begins: self.parent.is_none() }
    }
}

/// The trace context that a request goes on with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) context: SpanContext,
    /// The trace begins here: a `tracestate` that came would be another's.
    pub(super) begins: bool,
}

impl Worker {
    /// Decides on a request that came with this `traceparent`, if any; none if its context goes on
    /// as it came. As the caller has decided; where it has not, by the share that the settings say.
    /// A request that is not recorded is told so on its way, so that what comes next does not
    /// decide anew.
    pub(super) fn decide(&self, given: Option<&[u8]>) -> Option<Decision> {
        let mut rng = self.rng.borrow_mut();
        match given.and_then(SpanContext::parse) {
            Some(parent) if !parent.is_sampled() => None,
            Some(parent) => {
                let own = parent.with_span(SpanId::draw(&mut rng));
                Some(Decision { own, parent: Some(parent) })
            }
            None => {
                let trace = TraceId::draw(&mut rng);
                let sampled = self.shared.settings.tracer.samples(trace);
                let own = SpanContext::begin(trace, SpanId::draw(&mut rng), sampled);
                Some(Decision { own, parent: None })
            }
        }
    }
}

/// A request that is recorded.
#[derive(Debug)]
pub(super) struct Trace {
    decision: Decision,
    /// `tracestate`, as it came.
    state: String,
    method: &'static str,
    attributes: Vec<Attribute>,
    /// Spans that have ended.
    spans: Vec<Span>,
    attempt: Option<Attempt>,
    /// How many attempts there were before.
    resent: u32,
    /// Where in the head that goes to a replica the digits of the caller's span are, on the direct
    /// path.
    pub(super) span_at: usize,
    arrived: Nanos,
    wall: Wall,
    rng: fastrand::Rng,
}

/// An attempt at a replica.
#[derive(Debug)]
struct Attempt {
    id: SpanId,
    began: Nanos,
    address: SocketAddr,
    /// When the head of the response was there, and its status.
    answered: Option<(Nanos, u16)>,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Wall {
    at: Nanos,
    /// Since 1970.
    since_epoch: Duration,
}

impl Wall {
    fn now(at: Nanos) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at, since_epoch }
    }

    /// Nanoseconds since 1970, for what was before and what came after.
    fn of(self, at: Nanos) -> u64 {
        let time = if at >= self.at {
            self.since_epoch + at.since(self.at)
        } else {
            self.since_epoch.saturating_sub(self.at.since(at))
        };
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Trace {
    /// Begins to record a request that has arrived.
    pub(super) fn begin(
        worker: &Worker,
        decision: Decision,
        asked: &Asked<'_>,
        arrived: Nanos,
    ) -> Box<Self> {
        let (method, attributes) = describe::request(asked);
        Box::new(Self {
            decision,
            state: describe::state(asked.state.filter(|_| decision.parent.is_some())),
            method,
            attributes,
            spans: Vec::new(),
            attempt: None,
            resent: 0,
            span_at: 0,
            arrived,
            wall: Wall::now(worker.shared.clock.now()),
            rng: fastrand::Rng::with_seed(worker.rng.borrow_mut().u64(..)),
        })
    }

    /// A step within ours.
    fn step(&mut self, name: &'static str, from: Nanos, to: Nanos, of: SpanId) -> &mut Span {
        let span = Span {
            id: SpanId::draw(&mut self.rng),
            parent: Some(of),
            is_parent_remote: false,
            name: Cow::Borrowed(name),
            kind: Kind::Internal,
            start: self.wall.of(from),
            end: self.wall.of(to),
            attributes: Vec::new(),
            events: Vec::new(),
            error: None,
        };
        let at = self.spans.len();
        self.spans.push(span);
        &mut self.spans[at]
    }

    /// Its revision is found.
    pub(super) fn routed(&mut self, choice: &Choice) {
        let (from, to, own) = (self.arrived, self.wall.at, self.decision.own.span);
        self.step("route", from, to, own).attributes = choice.attributes();
    }

    /// It waited for a place. `start` is the last start of a replica, if there was one.
    pub(super) fn waited(&mut self, from: Nanos, to: Nanos, met: &Met, start: Option<ColdStart>) {
        let own = self.decision.own.span;
        self.step("queue", from, to, own).attributes = vec![
            ("tidegate.queue.waiting", met.waiting.into()),
            ("tidegate.replicas.ready", met.ready.into()),
            ("tidegate.replicas.starting", met.starting.into()),
        ];
        let waited_for = start.filter(|start| met.ready == 0 && (from..=to).contains(&start.ended));
        if let Some(ColdStart { ended, spawn, ready }) = waited_for {
            let spawned = ended.minus(ready);
            let ordered = spawned.minus(spawn);
            let id = self.step("cold start", ordered, ended, own).id;
            self.step("spawn", ordered, spawned, id);
            self.step("ready", spawned, ended, id);
        }
    }

    /// An attempt begins; what the replica is told.
    pub(super) fn attempt(&mut self, began: Nanos, address: SocketAddr) -> SpanContext {
        let id = SpanId::draw(&mut self.rng);
        self.attempt = Some(Attempt { id, began, address, answered: None });
        self.decision.own.with_span(id)
    }

    /// A connection was made for the attempt.
    pub(super) fn connected(&mut self, now: Nanos) {
        if let Some(Attempt { id, began, .. }) = self.attempt {
            self.step("connect", began, now, id);
        }
    }

    /// The replica answered.
    pub(super) fn answered(&mut self, now: Nanos, status: u16) {
        if let Some(attempt) = &mut self.attempt {
            attempt.answered = Some((now, status));
        }
    }

    /// The attempt failed.
    pub(super) fn failed(&mut self, now: Nanos, error: &SendError) {
        self.end_attempt(now, Some((error.reason.token(), error.to_string())), None);
        self.resent += 1;
    }

    /// The attempt ended, and with it a call; `error` says of which type it failed, and how.
    fn end_attempt(
        &mut self,
        now: Nanos,
        error: Option<(&'static str, String)>,
        call: Option<grpc::Status>,
    ) {
        let Some(attempt) = self.attempt.take() else { return };
        let (method, resent, wall) = (self.method, self.resent, self.wall);
        let own = self.decision.own.span;
        let span = self.step("upstream", attempt.began, now, own);
        (span.id, span.kind) = (attempt.id, Kind::Client);
        let attributes = &mut span.attributes;
        attributes.push(("http.request.method", method.into()));
        attributes.push(("server.address", attempt.address.ip().into()));
        attributes.push(("server.port", attempt.address.port().into()));
        if resent > 0 {
            attributes.push(("http.request.resend_count", resent.into()));
        }
        if let Some((at, status)) = attempt.answered {
            attributes.push(("http.response.status_code", status.into()));
            span.events.push(Event { at: wall.of(at), name: "response.head" });
            if status >= 500 {
                attributes.push(("error.type", status.to_string().into()));
                span.error = Some(String::new());
            }
        }
        if let Some(status) = call {
            attributes.push((GRPC_STATUS, status.code().into()));
            if status.is_failure() {
                attributes.push(("error.type", status.name().into()));
                span.error = Some(String::new());
            }
        }
        if let Some((kind, message)) = error {
            span.attributes.retain(|(name, _)| *name != "error.type");
            span.attributes.push(("error.type", kind.into()));
            span.error = Some(message);
        }
    }
}
