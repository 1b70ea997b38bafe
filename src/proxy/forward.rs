//! A request from its head to the response's head, in order.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::model::{NoWake, Problem, Protocol, Reason};
use crate::revision::{Admission, pick};
use crate::snapshot::HostKind;
use crate::upstream::{ContinueGate, RequestBody, Returned, SendError, Sent};

use super::access_log::Record;
use super::body::{Expected, ResponseBody};
use super::connection::{Active, Connection};
use super::edge::{Checked, check};
use super::exchange::{Clockwork, Exchange, Hold};
use super::forwarded::{X_REQUEST_ID, request_id};
use super::headers::{Asked, frame_request, strip_request, strip_response};
use super::refusal;
use super::retry::RETRIES_MAX;
use super::shared::DrainState;
use super::sweep::Fired;
use super::upgrade::tunnel;
use super::worker::Worker;

/// Where the data listeners tell whether they are ready.
const HEALTH_PATH: &str = "/.tidegate/ready";
/// A refused body up to this size is read before the answer: the connection stays usable.
const SHORT_BODY_BYTES: u64 = 64 * 1024;
const SHORT_BODY_TIME: Duration = Duration::from_secs(1);
/// Before the same endpoint is asked again after a refused connection: its end may be on its way
/// to us. Multiplied by 4 for each further attempt.
const SAME_ENDPOINT_PAUSE: Duration = Duration::from_millis(25);

/// The client left: the connection is of no use any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client left")]
pub(super) struct Gone;

impl Gone {
    /// For a stream that nobody reads.
    pub(super) fn response() -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
        response
    }
}

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

/// Answers one request.
pub(super) async fn handle(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
    active: Active,
    clockwork: Clockwork,
) -> Result<Response<ResponseBody>, Gone> {
    let http1 = !connection.is_http2();
    let bodiless = !http1 && request.method() == Method::HEAD;
    let mut response = answer(&worker, &connection, request, (active, clockwork)).await?;
    if http1 && worker.shared.drain_state() >= DrainState::Draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if bodiless && response.body().is_text() {
        // HTTP/1's side leaves it out by itself.
        *response.body_mut() = ResponseBody::empty();
    }
    Ok(response)
}

async fn answer(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    request: Request<Incoming>,
    begun: (Active, Clockwork),
) -> Result<Response<ResponseBody>, Gone> {
    let arrived = worker.shared.clock.now();
    let grpc = refusal::is_grpc(request.headers());
    let checked = match check(&request) {
        Ok(checked) => checked,
        Err(refused) => {
            worker.shared.refused(Reason::BadRequest);
            let mut response =
                refusal::response(&Problem::new(Reason::BadRequest, refused), grpc, None);
            if !connection.is_http2() {
                // Where the next request begins may be a matter of opinion.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                connection.refused_upload();
            }
            return Ok(response);
        }
    };
    if let Some(response) = health(worker, &request, &checked) {
        return Ok(response);
    }
    let routed = if worker.shared.drain_state() >= DrainState::Closing {
        Err(Problem::new(Reason::ShuttingDown, "this proxy is going down; try again"))
    } else {
        worker.route(&checked, request.headers())
    };
    let local = match routed {
        Ok(local) => local,
        Err(problem) => {
            worker.shared.refused(problem.reason);
            discard_short(connection, request.into_body()).await;
            return Ok(refusal::response(&problem, grpc, None));
        }
    };
    let wakes = local.with_spec(|spec| !matches_no_wake(&spec.queue.no_wake, &request));
    let mut exchange = Exchange::begin(worker, local, arrived, begun, wakes);
    if request.version() == Version::HTTP_10 {
        exchange.reset_if_cut = Some(connection.io.clone());
    }
    if worker.shared.settings.access_log.is_some_and(|log| worker.rng.borrow_mut().f64() < log.sample)
    {
        exchange.log = Some(Record::new(
            request.method(),
            request.uri(),
            request.version(),
            request.headers(),
            checked.authority.unwrap_or_default(),
            connection.client.ip,
        ));
    }
    let outgoing = Outgoing::prepare(worker, connection, request, &exchange);
    forward(exchange, connection, outgoing, grpc).await
}

/// `GET|HEAD /.tidegate/ready`, and `--health-path` where no service could be meant.
fn health(
    worker: &Worker,
    request: &Request<Incoming>,
    checked: &Checked<'_>,
) -> Option<Response<ResponseBody>> {
    let path = request.uri().path();
    let further = worker.shared.settings.health_path.as_deref();
    if path != HEALTH_PATH && further != Some(path) {
        return None;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    if path != HEALTH_PATH {
        let ours = match &checked.host {
            None => true,
            Some((_, HostKind::Local)) => true,
            Some((host, HostKind::Name)) => !worker.knows(host),
        };
        if !ours {
            return None;
        }
    }
    let state = worker.shared.drain_state();
    let mut response = Response::new(ResponseBody::text(format!("{}\n", state.word())));
    if state != DrainState::Serving {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Some(response)
}

fn matches_no_wake<B>(rules: &[NoWake], request: &Request<B>) -> bool {
    rules.iter().any(|rule| match rule {
        NoWake::Method(method) => request.method().as_str() == &**method,
        NoWake::PathPrefix(prefix) => request.uri().path().starts_with(&**prefix),
        NoWake::UserAgentPrefix(prefix) => request
            .headers()
            .get(USER_AGENT)
            .is_some_and(|agent| agent.as_bytes().starts_with(prefix.as_bytes())),
    })
}

/// A request as it goes to an endpoint, as far as it does not depend on which.
struct Outgoing {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    /// None once it is empty or was sent.
    body: Option<Incoming>,
    home: Option<Rc<Returned>>,
    gate: Option<Arc<ContinueGate>>,
    upgrade: Option<(HeaderValue, hyper::upgrade::OnUpgrade)>,
}

impl Outgoing {
    fn prepare(
        worker: &Worker,
        connection: &Connection,
        mut request: Request<Incoming>,
        exchange: &Exchange,
    ) -> Self {
        let http2_in = connection.is_http2();
        let protocol = exchange.local.with_spec(|spec| spec.protocol);
        let Asked { upgrade, expects_continue } = strip_request(request.headers_mut(), http2_in);
        let upgrade = match upgrade {
            Some(value) if protocol == Protocol::Http1 => {
                Some((value, hyper::upgrade::on(&mut request)))
            }
            _ => None,
        };
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        if !headers.contains_key(HOST)
            && let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            headers.insert(HOST, host);
        }
        if let Some(length) = grpc_timeout(&headers) {
            exchange.timer().set_grpc(exchange.arrived.plus(length));
        }
        let host = headers.get(HOST).cloned();
        connection.client.write(&mut headers, host.as_ref());
        request_id(&mut headers, &mut worker.rng.borrow_mut());
        let body = (!body.is_end_stream()).then_some(body);
        if protocol == Protocol::Http1 {
            let exact = body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
            frame_request(&mut headers, &parts.method, exact);
        }
        if let Some((protocol, _)) = &upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(http::header::UPGRADE, protocol.clone());
        }
        let (uri, version) = target(parts.uri, &mut headers, protocol);
        Self {
            method: parts.method,
            uri,
            version,
            headers,
            home: body.is_some().then(Rc::default),
            // An HTTP/2 endpoint's 100 is not passed on to us; the client gets its own from here.
            gate: (expects_continue && body.is_some() && protocol == Protocol::Http1)
                .then(Arc::default),
            body,
            upgrade,
        }
    }

    /// Whether it may be sent again although an endpoint may have seen it (RFC 9110 §9.2.2).
    fn is_replayable(&self) -> bool {
        self.home.is_none()
            && self.upgrade.is_none()
            && matches!(
                self.method,
                Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
            )
    }

    /// The request for one attempt; the head is left behind if `keep`.
    fn attempt(&mut self, keep: bool) -> Request<RequestBody> {
        let mut body = match (self.body.take(), &self.home) {
            (Some(body), Some(home)) => RequestBody::lent(body, Rc::clone(home)),
            _ => RequestBody::empty(),
        };
        if let Some(gate) = &self.gate {
            body = body.gated(Arc::clone(gate));
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.version_mut() = self.version;
        if keep {
            request.uri_mut().clone_from(&self.uri);
            request.headers_mut().clone_from(&self.headers);
        } else {
            *request.uri_mut() = std::mem::take(&mut self.uri);
            *request.headers_mut() = std::mem::take(&mut self.headers);
        }
        if let Some(gate) = &self.gate {
            let gate = Arc::clone(gate);
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        request
    }

    /// Takes back what a failed attempt did not send; false if something is missing.
    fn take_back(&mut self, unsent: Option<Request<RequestBody>>, kept: bool) -> bool {
        if let Some(request) = unsent {
            let (parts, body) = request.into_parts();
            drop(body);
            (self.uri, self.headers) = (parts.uri, parts.headers);
        } else if !kept {
            return false;
        }
        match &self.home {
            None => true,
            Some(home) => {
                self.body = home.take();
                self.body.is_some()
            }
        }
    }
}

/// The target as the endpoint's protocol writes it.
fn target(uri: Uri, headers: &mut HeaderMap, protocol: Protocol) -> (Uri, Version) {
    match protocol {
        Protocol::Http1 if uri.scheme().is_none() && uri.authority().is_none() => {
            (uri, Version::HTTP_11)
        }
        Protocol::Http1 => {
            let path = uri.into_parts().path_and_query.unwrap_or_else(slash);
            (Uri::from(path), Version::HTTP_11)
        }
        Protocol::H2c => {
            let host = headers.remove(HOST);
            let authority = host.and_then(|h| http::uri::Authority::try_from(h.as_bytes()).ok());
            let mut parts = uri.into_parts();
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority =
                authority.or_else(|| Some(http::uri::Authority::from_static("localhost")));
            parts.path_and_query = Some(parts.path_and_query.unwrap_or_else(slash));
            (Uri::from_parts(parts).unwrap_or_default(), Version::HTTP_2)
        }
    }
}

fn slash() -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static("/")
}

/// `grpc-timeout` (gRPC's `PROTOCOL-HTTP2.md`): up to eight digits and a unit.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3_600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// Waits for a place, sends, and again elsewhere where that is allowed.
async fn forward(
    mut exchange: Box<Exchange>,
    connection: &Rc<Connection>,
    mut outgoing: Outgoing,
    grpc: bool,
) -> Result<Response<ResponseBody>, Gone> {
    let result = match speaks(&exchange, grpc) {
        Ok(()) => attempts(&mut exchange, connection, &mut outgoing).await,
        Err(problem) => Err(Stop::Refuse(problem)),
    };
    match result {
        Ok(response) => respond(exchange, outgoing, response).await,
        Err(Stop::Gone) => Err(Gone),
        Err(Stop::Refuse(problem)) => {
            exchange.refuse(&problem);
            let retry_after = matches!(problem.reason, Reason::QueueFull | Reason::StartFailed)
                .then(|| exchange.local.revision.retry_after_seconds());
            exchange.release();
            let mut response = refusal::response(&problem, grpc, retry_after);
            if let Some(id) = outgoing.headers.remove(&X_REQUEST_ID) {
                response.headers_mut().insert(X_REQUEST_ID.clone(), id);
            }
            if let Some(body) = outgoing.body.take() {
                discard_short(connection, body).await;
            } else if outgoing.home.is_some() {
                connection.refused_upload();
            }
            Ok(response)
        }
    }
}

/// gRPC needs HTTP/2 at the replica.
fn speaks(exchange: &Exchange, grpc: bool) -> Result<(), Problem> {
    let protocol = exchange.local.with_spec(|spec| spec.protocol);
    if grpc && protocol == Protocol::Http1 {
        return Err(Problem::new(
            Reason::BadRequest,
            "gRPC needs HTTP/2 at the replica: name the container's port `h2c` \
             (ports: [{name: h2c, containerPort: 8080}])",
        ));
    }
    Ok(())
}

async fn attempts(
    exchange: &mut Box<Exchange>,
    connection: &Rc<Connection>,
    outgoing: &mut Outgoing,
) -> Result<Response<Incoming>, Stop> {
    let timer = Rc::clone(exchange.timer());
    let mut avoid = None;
    let mut attempt = 0;
    loop {
        admit(exchange, connection, avoid).await?;
        let Some(endpoint) = exchange.hold.endpoint().map(Rc::clone) else {
            return Err(Stop::Gone);
        };
        // An HTTP/2 endpoint may refuse a stream without giving the request back.
        let keep = outgoing.is_replayable() || outgoing.version == Version::HTTP_2;
        let request = outgoing.attempt(keep);
        let (error, unsent) = match timer.race(endpoint.pool.send(request)).await? {
            Ok((response, lease)) => {
                endpoint.state.connected();
                exchange.lease = Some(lease);
                exchange.returned = outgoing.home.take();
                return Ok(response);
            }
            Err(failed) => failed,
        };
        let now = exchange.worker.shared.clock.now();
        let refused = error.reason == Reason::UpstreamConnect;
        if refused {
            exchange.local.revision.connect_failed(endpoint.state.key(), now);
        }
        let whole = outgoing.take_back(unsent, keep);
        let allowed = whole
            && (error.sent == Sent::Nothing || outgoing.is_replayable())
            && attempt < RETRIES_MAX
            && exchange.local.retries.borrow_mut().take(now);
        exchange.release();
        if !allowed {
            return Err(Stop::Refuse(failure(&error)));
        }
        if avoid == Some(endpoint.state.key()) || refused {
            let pause = SAME_ENDPOINT_PAUSE * 4_u32.pow(attempt);
            timer.race(tokio::time::sleep(pause)).await?;
        }
        avoid = Some(endpoint.state.key());
        attempt += 1;
    }
}

fn failure(error: &SendError) -> Problem {
    let what = match error.reason {
        Reason::UpstreamConnect => "the replica accepts no connection",
        _ => "the replica broke off before it answered",
    };
    Problem::new(error.reason, format!("{what}: {error}"))
}

/// Takes a place on an endpoint: at once, or after waiting in line.
async fn admit(
    exchange: &mut Box<Exchange>,
    connection: &Rc<Connection>,
    avoid: Option<u64>,
) -> Result<(), Stop> {
    let worker = Rc::clone(&exchange.worker);
    let local = Rc::clone(&exchange.local);
    let revision = &local.revision;
    local.refresh(&worker);
    // A newcomer never overtakes a waiter.
    if revision.limit().is_none() && avoid.is_none() && revision.stats().waiting() == 0 {
        let free = local.with_open(|open| {
            let load = |i: usize| open[i].state.load_of(worker.index);
            let picked = pick(open.len(), &mut worker.rng.borrow_mut(), load)?;
            Some(Rc::clone(&open[picked]))
        });
        if let Some(endpoint) = free {
            endpoint.state.enter(worker.index);
            exchange.hold = Hold::Free(endpoint);
            return Ok(());
        }
    }
    if !exchange.counted && revision.stats().ready() == 0 {
        return Err(Stop::Refuse(Problem::new(
            Reason::Asleep,
            "the service is at zero and tidegate.dev/no-wake keeps this request from waking it",
        )));
    }
    let now = worker.shared.clock.now();
    let permit = match revision.admit(now, avoid) {
        Admission::Granted(permit) => permit,
        Admission::Refused(problem) => return Err(Stop::Refuse(problem)),
        Admission::Waiting(mut ticket) => {
            let deadline = local.with_spec(|s| s.queue.timeout.map(|t| exchange.arrived.plus(t)));
            let client = (!connection.is_http2()).then(|| connection.io.clone());
            let timer = Rc::clone(exchange.timer());
            timer.wait(deadline, client);
            let outcome = timer.race(poll_fn(|cx| ticket.poll_outcome(cx))).await;
            timer.waited();
            exchange.waited += worker.shared.clock.now().since(now);
            revision.stats().waited(exchange.waited);
            outcome?.map_err(Stop::Refuse)?
        }
    };
    let endpoint = local.endpoint(permit.endpoint(), &worker);
    exchange.hold = Hold::Slot(permit, endpoint);
    Ok(())
}

/// The response's head is there: its body is sent on, or the connection becomes a tunnel.
async fn respond(
    mut exchange: Box<Exchange>,
    outgoing: Outgoing,
    mut response: Response<Incoming>,
) -> Result<Response<ResponseBody>, Gone> {
    let status = response.status();
    exchange.answered();
    exchange.respond(status.as_u16());
    strip_response(response.headers_mut(), status);
    *response.version_mut() = Version::HTTP_11;
    let now = exchange.worker.shared.clock.now();
    let idle = exchange.local.with_spec(|spec| spec.timeouts.idle);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switch(exchange, outgoing, response, idle));
    }
    exchange.timer().response_started(idle, exchange.returned.as_ref(), now);
    let http2 = outgoing.version == Version::HTTP_2;
    let expected = if http2 { expected(&outgoing.method, &response) } else { Expected::default() };
    Ok(response.map(|body| ResponseBody::stream(body, exchange, expected)))
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
    mut outgoing: Outgoing,
    mut response: Response<Incoming>,
    idle: Option<Duration>,
) -> Response<ResponseBody> {
    let Some((_, client)) = outgoing.upgrade.take() else {
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

/// Reads a short body that nobody wants, so that the connection stays usable; a longer one is
/// discarded after the answer.
async fn discard_short(connection: &Connection, body: Incoming) {
    if body.is_end_stream() || connection.is_http2() {
        return;
    }
    let short = body.size_hint().exact().is_some_and(|bytes| bytes <= SHORT_BODY_BYTES);
    let mut body = body;
    let read = async {
        use http_body_util::BodyExt as _;
        while let Some(Ok(_)) = body.frame().await {}
        body.is_end_stream()
    };
    let whole = short && matches!(tokio::time::timeout(SHORT_BODY_TIME, read).await, Ok(true));
    if !whole {
        connection.refused_upload();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts() {
        let parse = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            grpc_timeout(&headers)
        };
        assert_eq!(parse("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "1", "H", "123456789S", "-1S", "1x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
