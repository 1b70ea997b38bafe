//! A place on an endpoint, and another attempt where that is allowed: the same for a request that
//! hyper carries and for one on the direct path.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::model::{Problem, Reason};
use crate::revision::{Admission, pick};
use crate::upstream::{SendError, Sent};

use super::exchange::{Exchange, Hold};
use super::noted::Met;
use super::retry::RETRIES_MAX;
use super::sweep::Fired;
use super::waiting::{PAGE_AFTER, starting};
use super::worker::LocalEndpoint;

/// Before the same endpoint is asked again after a refused connection: its end may be on its way
/// to us. Multiplied by 4 for each further attempt.
const SAME_ENDPOINT_PAUSE: Duration = Duration::from_millis(25);

/// Why a request does not get a response from a replica.
#[derive(Debug)]
pub(super) enum Stop {
    Refuse(Problem),
    Gone,
}

impl From<Fired> for Stop {
    fn from(fired: Fired) -> Self {
        match fired {
            Fired::ClientGone => Self::Gone,
            Fired::Timeout(reason) => Self::Refuse(Problem::new(reason, timeout_text(reason))),
        }
    }
}

fn timeout_text(reason: Reason) -> &'static str {
    match reason {
        Reason::ResponseStartTimeout => {
            "the replica did not begin to answer within responseStartTimeoutSeconds"
        }
        Reason::IdleTimeout => "nothing was sent or received for idleTimeoutSeconds",
        Reason::GrpcTimeout => "the call's grpc-timeout has passed",
        Reason::QueueTimeout => {
            "no replica was free within tidegate.dev/queue-timeout (--queue-timeout of a sidecar); \
             see containerConcurrency and max-scale"
        }
        _ => {
            "the request took longer than timeoutSeconds (--timeout of a sidecar), waiting included"
        }
    }
}

/// Which attempts were made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    /// How many failed.
    pub(super) failed: u32,
    /// The endpoint of the last one, to be avoided.
    pub(super) avoid: Option<u64>,
}

/// What may be done with a request whose attempt failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    /// All of it is still there.
    pub(super) whole: bool,
    /// It may be sent although an endpoint may have seen it (RFC 9110 §9.2.2).
    pub(super) replayable: bool,
}

/// Decides whether a failed attempt may be made again, and pauses before one at the same endpoint.
pub(super) async fn after_failure(
    exchange: &mut Exchange,
    endpoint: &LocalEndpoint,
    error: &SendError,
    again: Again,
    attempts: &mut Attempts,
) -> Result<(), Stop> {
    let now = exchange.worker.shared.clock.now();
    if let Some(trace) = &mut exchange.trace {
        trace.failed(now, error);
    }
    let refused = error.reason == Reason::UpstreamConnect;
    let key = endpoint.state.key();
    if refused {
        exchange.local.revision.connect_failed(key, now);
    }
    #[cfg(planted)]
    if crate::model::planted::is(crate::model::planted::Bug::SentAgain) {
        attempts.failed = attempts.failed.min(1);
    }
    let allowed = again.whole
        && (error.sent == Sent::Nothing || again.replayable)
        && attempts.failed < RETRIES_MAX
        && exchange.local.retries.borrow_mut().take(now);
    exchange.release();
    if !allowed {
        return Err(Stop::Refuse(failure(error)));
    }
    if attempts.avoid == Some(key) || refused {
        let pause = SAME_ENDPOINT_PAUSE * 4_u32.pow(attempts.failed);
        let mut pausing = pin!(tokio::time::sleep(pause));
        poll_fn(|cx| exchange.timer().poll_unless_fired(pausing.as_mut(), cx)).await?;
    }
    attempts.avoid = Some(key);
    attempts.failed += 1;
    Ok(())
}

fn failure(error: &SendError) -> Problem {
    let what = match error.reason {
        Reason::UpstreamConnect => "the replica accepts no connection",
        _ => "the replica broke off before it answered",
    };
    Problem::new(error.reason, format!("{what}: {error}"))
}

/// Takes a place on a warm endpoint of a revision without a limit, if there is one: nothing shared
/// is written.
pub(super) fn admit_at_once(exchange: &mut Exchange, avoid: Option<u64>) -> bool {
    let worker = &exchange.worker;
    let local = &exchange.local;
    let revision = &local.revision;
    local.refresh(worker);
    // A newcomer never overtakes a waiter.
    if revision.limit().is_some() || avoid.is_some() || revision.stats().waiting() > 0 {
        return false;
    }
    let free = local.with_open(|open| {
        let load = |i: usize| open[i].state.load_of(worker.index);
        let picked = pick(open.len(), &mut worker.rng.borrow_mut(), load)?;
        Some(Rc::clone(&open[picked]))
    });
    let Some(endpoint) = free else { return false };
    endpoint.state.enter(worker.index);
    exchange.hold = Hold::Free(endpoint);
    true
}

/// Takes a slot: at once, or after waiting in line.
pub(super) async fn admit(exchange: &mut Exchange, avoid: Option<u64>) -> Result<(), Stop> {
    let local = Rc::clone(&exchange.local);
    let revision = &local.revision;
    let clock = exchange.worker.shared.clock;
    if !exchange.counted && revision.stats().ready() == 0 {
        return Err(Stop::Refuse(Problem::new(
            Reason::Asleep,
            "the service is at zero and tidegate.dev/no-wake keeps this request from waking it",
        )));
    }
    let now = clock.now();
    let met = Met::now(revision.stats());
    let permit = match revision.admit(now, avoid) {
        Admission::Granted(permit) => permit,
        Admission::Refused(problem) => {
            exchange.met = Some(Box::new(met));
            return Err(Stop::Refuse(problem));
        }
        Admission::Waiting(mut ticket) => {
            exchange.met = Some(Box::new(met));
            let deadline = local.with_spec(|s| s.queue.timeout.map(|t| exchange.arrived.plus(t)));
            let connection = exchange.connection();
            let client = (!connection.is_http2()).then(|| connection.io.clone());
            let timer = Rc::clone(exchange.timer());
            timer.wait(deadline, client);
            let mut outcome = pin!(poll_fn(|cx| ticket.poll_outcome(cx)));
            let mut page = exchange.page.then(|| Box::pin(tokio::time::sleep(PAGE_AFTER)));
            let outcome = poll_fn(|cx| {
                let outcome = timer.poll_unless_fired(outcome.as_mut(), cx).map_err(Stop::from);
                let due = page.as_mut().is_some_and(|page| page.as_mut().poll(cx).is_ready());
                if outcome.is_pending() && due {
                    page = None;
                    // Where there are replicas, one of them will have a place before one more starts.
                    if revision.stats().ready() == 0 {
                        return Poll::Ready(Err(Stop::Refuse(starting())));
                    }
                }
                outcome
            })
            .await;
            timer.waited();
            let ended = clock.now();
            exchange.waited += ended.since(now);
            if let Some(trace) = &mut exchange.trace {
                trace.waited(now, ended, &met, revision.last_cold_start_phases());
            }
            revision.stats().waited(exchange.waited);
            outcome?.map_err(Stop::Refuse)?
        }
    };
    let endpoint = local.endpoint(permit.endpoint(), &exchange.worker);
    exchange.hold = Hold::Slot(permit, endpoint);
    Ok(())
}
