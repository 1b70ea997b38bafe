//! A request that hyper carries, from its revision to its response's head: a place in line, an
//! attempt, and another one where that is allowed.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Response, StatusCode, Version};
use hyper::body::Incoming;

use crate::model::{Problem, Protocol, Reason};

use super::answer::{Gone, closing, discard_short};
use super::attempt::{Again, Attempts, Stop, admit, admit_at_once, after_failure};
use super::body::{Expected, ResponseBody};
use super::forwarded::X_REQUEST_ID;
use super::grpc;
use super::headers::{has_odd_encoding, strip_response};
use super::refusal;
use super::relay::Relay;
use super::upgrade::tunnel;

/// A connection that was idle for this long may have been closed by the endpoint just now, and a
/// new one may be refused by it: the head of a request is kept, to be sent again. A copy costs
/// 2,000 instructions, so there is none on a busy connection to the only endpoint.
const STALE_AFTER: Duration = Duration::from_millis(100);

/// Waits for a place, sends, and again elsewhere where that is allowed.
pub(super) async fn forward(mut relay: Box<Relay>) -> Result<Response<ResponseBody>, Gone> {
    let sent = match speaks(&relay) {
        Ok(()) => attempts(&mut relay).await,
        Err(problem) => Err(Stop::Refuse(problem)),
    };
    let worker = Rc::clone(&relay.exchange.worker);
    let connection = Rc::clone(relay.exchange.connection());
    let head = *relay.outgoing.method() == Method::HEAD;
    let response = match sent {
        Ok(response) => respond(relay, response),
        Err(Stop::Gone) => return Err(Gone),
        // Boxed: what is rare is not to make the future of every request larger.
        Err(Stop::Refuse(problem)) => Box::pin(refuse(relay, problem)).await,
    };
    Ok(closing(&worker, &connection, head, response))
}

/// tidegate answers itself.
async fn refuse(mut relay: Box<Relay>, problem: Problem) -> Response<ResponseBody> {
    relay.refuse(&problem);
    relay.note(Some(&problem));
    relay.exchange.release();
    let mut response = relay.exchange.refusal(&problem, relay.grpc);
    if let Some(id) = relay.outgoing.headers.remove(&X_REQUEST_ID) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), id);
    }
    let connection = Rc::clone(relay.exchange.connection());
    let expects = relay.outgoing.expects_continue();
    let (body, lent) = (relay.outgoing.body.take(), relay.outgoing.home.is_some());
    // It has ended, and with it its deadlines: one that has passed must not cut the answer off.
    drop(relay);
    if let Some(body) = body.filter(|_| !expects) {
        discard_short(&connection, body).await;
    } else if lent {
        connection.refused_upload();
    }
    response
}

/// gRPC needs HTTP/2 at the replica.
fn speaks(relay: &Relay) -> Result<(), Problem> {
    let protocol = relay.exchange.local.with_spec(|spec| spec.protocol);
    if relay.grpc && protocol == Protocol::Http1 {
        return Err(Problem::new(
            Reason::BadRequest,
            "gRPC needs HTTP/2 at the replica: name the container's port `h2c` \
             (ports: [{name: h2c, containerPort: 8080}]), or start a sidecar with --h2c",
        ));
    }
    Ok(())
}

async fn attempts(relay: &mut Box<Relay>) -> Result<Response<Incoming>, Stop> {
    let mut attempts = Attempts::default();
    loop {
        if !admit_at_once(&mut relay.exchange, attempts.avoid) {
            Box::pin(admit(&mut relay.exchange, attempts.avoid)).await?;
            relay.note(None);
        }
        let Some(endpoint) = relay.exchange.hold.endpoint().map(Rc::clone) else {
            return Err(Stop::Gone);
        };
        if let Some(told) = relay.exchange.attempt(&endpoint) {
            relay.outgoing.tell_caller(told);
        }
        let replayable = relay.outgoing.is_replayable();
        // An HTTP/2 endpoint may refuse a stream without giving the request back.
        let always = relay.outgoing.is_http2() || replayable && relay.exchange.local.has_spare();
        let exchange = &relay.exchange;
        let now = if attempts.failed == 0 {
            exchange.arrived
        } else {
            exchange.worker.shared.clock.now()
        };
        let sent = {
            let Relay { exchange, outgoing, .. } = &mut **relay;
            let timer = Rc::clone(exchange.timer());
            let is_shared = outgoing.is_http2();
            let made = |idle: Option<Duration>| {
                if idle.is_none() && !is_shared {
                    exchange.connected();
                }
                let stale = replayable && idle.is_none_or(|idle| idle >= STALE_AFTER);
                outgoing.attempt(always || stale)
            };
            let mut sending = pin!(endpoint.pool.send(now, made));
            poll_fn(|cx| timer.poll_unless_fired(sending.as_mut(), cx)).await?
        };
        let failed = match sent {
            Ok((response, lease)) => {
                endpoint.state.connected();
                relay.lease = Some(lease);
                relay.returned = relay.outgoing.home.take();
                return Ok(response);
            }
            Err(failed) => failed,
        };
        let again = Again { whole: relay.outgoing.take_back(failed.request), replayable };
        let failing =
            after_failure(&mut relay.exchange, &endpoint, &failed.error, again, &mut attempts);
        Box::pin(failing).await?;
    }
}

/// The response's head is there: its body is sent on, or the connection becomes a tunnel.
fn respond(mut relay: Box<Relay>, mut response: Response<Incoming>) -> Response<ResponseBody> {
    let status = response.status();
    let exchange = &mut relay.exchange;
    exchange.answered();
    exchange.respond(status.as_u16());
    if has_odd_encoding(response.headers()) {
        let why = "its Transfer-Encoding is not `chunked`";
        let problem = Problem::new(Reason::UpstreamBroke, why);
        relay.refuse(&problem);
        return refusal::response(&problem, relay.grpc, None);
    }
    strip_response(response.headers_mut(), status);
    *response.version_mut() = Version::HTTP_11;
    let idle = exchange.local.with_spec(|spec| spec.timeouts.idle);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return switch(relay, response, idle);
    }
    let now = match idle {
        Some(_) => exchange.worker.shared.clock.now(),
        None => exchange.arrived,
    };
    exchange.timer().response_started(idle, relay.returned.as_ref(), now);
    let mut expected = Expected::default();
    if relay.outgoing.is_http2() {
        let headers = response.headers();
        let is_call = grpc::is_call(headers);
        expected.bytes = expected_bytes(relay.outgoing.method(), &response);
        expected.trailers = is_call && !headers.contains_key(grpc::STATUS);
        if is_call && !expected.trailers {
            relay.exchange.call_ended(grpc::Status::of(headers));
        }
    }
    response.map(|body| ResponseBody::stream(body, relay, expected))
}

/// How many bytes must come before the end of an HTTP/2 response counts as one.
fn expected_bytes(method: &Method, response: &Response<Incoming>) -> Option<u64> {
    let bodiless = *method == Method::HEAD
        || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = response.headers().get(http::header::CONTENT_LENGTH);
    length.and_then(|v| v.to_str().ok()?.parse().ok()).filter(|_| !bodiless)
}

/// The replica switches protocols, if it was asked to.
fn switch(
    mut relay: Box<Relay>,
    mut response: Response<Incoming>,
    idle: Option<Duration>,
) -> Response<ResponseBody> {
    let Some(client) = relay.outgoing.upgrade.take() else {
        let problem = Problem::new(
            Reason::UpstreamBroke,
            "the replica switched protocols without having been asked to",
        );
        relay.refuse(&problem);
        return refusal::response(&problem, false, None);
    };
    let replica = hyper::upgrade::on(&mut response);
    relay.exchange.outlive_connection();
    tokio::task::spawn_local(tunnel(relay, client, replica, idle));
    response.map(|_| ResponseBody::empty())
}
