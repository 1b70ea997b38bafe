//! A request that has a revision, until its response's head: a place in line, an attempt, and
//! another one where that is allowed.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Response, StatusCode, Version};
use hyper::body::Incoming;

use crate::model::{Problem, Protocol, Reason};
use crate::revision::{Admission, pick};
use crate::upstream::{Failed, SendError, Sent};

use super::answer::{Gone, closing, discard_short};
use super::body::{Expected, ResponseBody};
use super::exchange::{Exchange, Hold};
use super::forwarded::X_REQUEST_ID;
use super::headers::strip_response;
use super::refusal;
use super::retry::RETRIES_MAX;
use super::sweep::Fired;
use super::upgrade::tunnel;
use super::worker::LocalEndpoint;

/// Before the same endpoint is asked again after a refused connection: its end may be on its way
/// to us. Multiplied by 4 for each further attempt.
const SAME_ENDPOINT_PAUSE: Duration = Duration::from_millis(25);

/// A connection that was idle for this long may have been closed by the endpoint just now, and a
/// new one may be refused by it: the head of a request is kept, to be sent again. A copy costs
/// 2,000 instructions, so there is none on a busy connection to the only endpoint.
const STALE_AFTER: Duration = Duration::from_millis(100);

/// Why a request does not get a response from a replica.
#[derive(Debug)]
enum Stop {
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
            "no replica was free within tidegate.dev/queue-timeout; see containerConcurrency and \
             max-scale"
        }
        _ => "the request took longer than timeoutSeconds, waiting included",
    }
}

/// Waits for a place, sends, and again elsewhere where that is allowed.
pub(super) async fn forward(mut exchange: Box<Exchange>) -> Result<Response<ResponseBody>, Gone> {
    let sent = match speaks(&exchange) {
        Ok(()) => attempts(&mut exchange).await,
        Err(problem) => Err(Stop::Refuse(problem)),
    };
    let worker = Rc::clone(&exchange.worker);
    let connection = Rc::clone(exchange.connection());
    let head = *exchange.outgoing.method() == Method::HEAD;
    let response = match sent {
        Ok(response) => respond(exchange, response),
        Err(Stop::Gone) => return Err(Gone),
        // Boxed: what is rare is not to make the future of every request larger.
        Err(Stop::Refuse(problem)) => Box::pin(refuse(exchange, problem)).await,
    };
    Ok(closing(&worker, &connection, head, response))
}

/// tidegate answers itself.
async fn refuse(mut exchange: Box<Exchange>, problem: Problem) -> Response<ResponseBody> {
    exchange.refuse(&problem);
    let retry_after = matches!(problem.reason, Reason::QueueFull | Reason::StartFailed)
        .then(|| exchange.local.revision.retry_after_seconds());
    exchange.release();
    let mut response = refusal::response(&problem, exchange.grpc, retry_after);
    if let Some(id) = exchange.outgoing.headers.remove(&X_REQUEST_ID) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), id);
    }
    let connection = Rc::clone(exchange.connection());
    let (body, lent) = (exchange.outgoing.body.take(), exchange.outgoing.home.is_some());
    // It has ended, and with it its deadlines: one that has passed must not cut the answer off.
    drop(exchange);
    if let Some(body) = body {
        discard_short(&connection, body).await;
    } else if lent {
        connection.refused_upload();
    }
    response
}

/// gRPC needs HTTP/2 at the replica.
fn speaks(exchange: &Exchange) -> Result<(), Problem> {
    if exchange.grpc && exchange.local.with_spec(|spec| spec.protocol) == Protocol::Http1 {
        return Err(Problem::new(
            Reason::BadRequest,
            "gRPC needs HTTP/2 at the replica: name the container's port `h2c` \
             (ports: [{name: h2c, containerPort: 8080}])",
        ));
    }
    Ok(())
}

async fn attempts(exchange: &mut Box<Exchange>) -> Result<Response<Incoming>, Stop> {
    let mut avoid = None;
    let mut attempt = 0;
    loop {
        if !admit_at_once(exchange, avoid) {
            Box::pin(admit(exchange, avoid)).await?;
        }
        let Some(endpoint) = exchange.hold.endpoint().map(Rc::clone) else {
            return Err(Stop::Gone);
        };
        let replayable = exchange.outgoing.is_replayable();
        // An HTTP/2 endpoint may refuse a stream without giving the request back.
        let always = exchange.outgoing.is_http2() || replayable && exchange.local.has_spare();
        let clock = exchange.worker.shared.clock;
        let now = if attempt == 0 { exchange.arrived } else { clock.now() };
        let sent = {
            let timer = Rc::clone(exchange.timer());
            let outgoing = &mut exchange.outgoing;
            let made = |idle: Option<Duration>| {
                let stale = replayable && idle.is_none_or(|idle| idle >= STALE_AFTER);
                outgoing.attempt(always || stale)
            };
            let mut sending = pin!(endpoint.pool.send(now, made));
            poll_fn(|cx| timer.poll_unless_fired(sending.as_mut(), cx)).await?
        };
        let failed = match sent {
            Ok((response, lease)) => {
                endpoint.state.connected();
                exchange.lease = Some(lease);
                exchange.returned = exchange.outgoing.home.take();
                return Ok(response);
            }
            Err(failed) => failed,
        };
        Box::pin(after_failure(exchange, &endpoint, failed, avoid, attempt)).await?;
        avoid = Some(endpoint.state.key());
        attempt += 1;
    }
}

/// Decides whether a failed attempt may be made again, and pauses before one at the same endpoint.
async fn after_failure(
    exchange: &mut Box<Exchange>,
    endpoint: &LocalEndpoint,
    failed: Box<Failed>,
    avoid: Option<u64>,
    attempt: u32,
) -> Result<(), Stop> {
    let Failed { error, request } = *failed;
    let now = exchange.worker.shared.clock.now();
    let refused = error.reason == Reason::UpstreamConnect;
    let key = endpoint.state.key();
    if refused {
        exchange.local.revision.connect_failed(key, now);
    }
    let whole = exchange.outgoing.take_back(request);
    let allowed = whole
        && (error.sent == Sent::Nothing || exchange.outgoing.is_replayable())
        && attempt < RETRIES_MAX
        && exchange.local.retries.borrow_mut().take(now);
    exchange.release();
    if !allowed {
        return Err(Stop::Refuse(failure(&error)));
    }
    if avoid == Some(key) || refused {
        let pause = SAME_ENDPOINT_PAUSE * 4_u32.pow(attempt);
        let mut pausing = pin!(tokio::time::sleep(pause));
        poll_fn(|cx| exchange.timer().poll_unless_fired(pausing.as_mut(), cx)).await?;
    }
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
fn admit_at_once(exchange: &mut Exchange, avoid: Option<u64>) -> bool {
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
async fn admit(exchange: &mut Box<Exchange>, avoid: Option<u64>) -> Result<(), Stop> {
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
    let permit = match revision.admit(now, avoid) {
        Admission::Granted(permit) => permit,
        Admission::Refused(problem) => return Err(Stop::Refuse(problem)),
        Admission::Waiting(mut ticket) => {
            let deadline = local.with_spec(|s| s.queue.timeout.map(|t| exchange.arrived.plus(t)));
            let connection = exchange.connection();
            let client = (!connection.is_http2()).then(|| connection.io.clone());
            let timer = Rc::clone(exchange.timer());
            timer.wait(deadline, client);
            let mut outcome = pin!(poll_fn(|cx| ticket.poll_outcome(cx)));
            let outcome = poll_fn(|cx| timer.poll_unless_fired(outcome.as_mut(), cx)).await;
            timer.waited();
            exchange.waited += clock.now().since(now);
            revision.stats().waited(exchange.waited);
            outcome?.map_err(Stop::Refuse)?
        }
    };
    let endpoint = local.endpoint(permit.endpoint(), &exchange.worker);
    exchange.hold = Hold::Slot(permit, endpoint);
    Ok(())
}

/// The response's head is there: its body is sent on, or the connection becomes a tunnel.
fn respond(
    mut exchange: Box<Exchange>,
    mut response: Response<Incoming>,
) -> Response<ResponseBody> {
    let status = response.status();
    exchange.answered();
    exchange.respond(status.as_u16());
    strip_response(response.headers_mut(), status);
    *response.version_mut() = Version::HTTP_11;
    let idle = exchange.local.with_spec(|spec| spec.timeouts.idle);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return switch(exchange, response, idle);
    }
    let now = match idle {
        Some(_) => exchange.worker.shared.clock.now(),
        None => exchange.arrived,
    };
    exchange.timer().response_started(idle, exchange.returned.as_ref(), now);
    let expected = if exchange.outgoing.is_http2() {
        expected(exchange.outgoing.method(), &response)
    } else {
        Expected::default()
    };
    response.map(|body| ResponseBody::stream(body, exchange, expected))
}

/// What must come before the end of an HTTP/2 response counts as one.
fn expected(method: &Method, response: &Response<Incoming>) -> Expected {
    let headers = response.headers();
    let bodiless = *method == Method::HEAD
        || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = headers.get(http::header::CONTENT_LENGTH);
    let bytes = length.and_then(|v| v.to_str().ok()?.parse().ok()).filter(|_| !bodiless);
    let trailers = refusal::is_grpc(headers) && !headers.contains_key("grpc-status");
    Expected { bytes, trailers }
}

/// The replica switches protocols, if it was asked to.
fn switch(
    mut exchange: Box<Exchange>,
    mut response: Response<Incoming>,
    idle: Option<Duration>,
) -> Response<ResponseBody> {
    let Some(client) = exchange.outgoing.upgrade.take() else {
        let problem = Problem::new(
            Reason::UpstreamBroke,
            "the replica switched protocols without having been asked to",
        );
        exchange.refuse(&problem);
        return refusal::response(&problem, false, None);
    };
    let replica = hyper::upgrade::on(&mut response);
    exchange.outlive_connection();
    tokio::task::spawn_local(tunnel(exchange, client, replica, idle));
    response.map(|_| ResponseBody::empty())
}
