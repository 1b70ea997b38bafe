//! The answer to one request: what can be said without waiting is said at once; the rest waits in
//! one small allocation, so that hyper moves a pointer and not the whole state of a request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, EXPECT, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::model::{NoWake, Problem, Reason};
use crate::snapshot::HostKind;
use crate::stats::Nanos;

use super::access_log::Record;
use super::body::ResponseBody;
use super::connection::{Active, Connection};
use super::edge::{Checked, check};
use super::exchange::Exchange;
use super::forward::forward;
use super::forwarded::X_REQUEST_ID;
use super::guard::Refused;
use super::noted::{Met, Note};
use super::outgoing::Outgoing;
use super::probe::network_probe;
use super::refusal;
use super::relay::Relay;
use super::scan::{Seen, scan};
use super::shared::{DrainState, Position};
use super::trace;
use super::waiting::is_navigation;
use super::worker::{LocalRevision, Worker};

/// Where the data listeners tell whether they are ready.
pub(super) const HEALTH_PATH: &str = "/.tidegate/ready";
/// A refused body up to this size is read before the answer: the connection stays usable.
const SHORT_BODY_BYTES: u64 = 64 * 1024;
const SHORT_BODY_TIME: Duration = Duration::from_secs(1);

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

type Later = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Gone>>>>;

/// The answer to one request.
pub(super) enum Answer {
    /// At once; none once it was taken.
    Now(Option<Response<ResponseBody>>),
    /// After waiting.
    Later(Later),
}

impl Future for Answer {
    type Output = Result<Response<ResponseBody>, Gone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
            Self::Later(later) => later.as_mut().poll(cx),
        }
    }
}

/// What a request is, as far as it can be told from its head.
enum Verdict {
    /// Answered without a service.
    Answered(Response<ResponseBody>),
    /// Malformed: where the next request begins may be a matter of opinion.
    Malformed(Refused),
    /// To come by https, to this URL.
    Redirected(String),
    /// Refused before a revision was known.
    Refused(Problem),
    /// For a revision.
    Routed(Rc<LocalRevision>, Option<Box<Record>>),
}

/// Has a request noted that is refused before its revision is known.
fn note(worker: &Worker, request: &Request<Incoming>, arrived: Nanos, problem: &Problem) {
    let id = request.headers().get(&X_REQUEST_ID);
    worker.shared.noted.push(Note {
        id: id.map_or(b"".as_slice(), HeaderValue::as_bytes).into(),
        revision: None,
        arrived,
        waited: Duration::ZERO,
        met: Met::default(),
        problem: Some(problem.clone()),
    });
}

/// Answers one request.
pub(super) fn answer(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    request: Request<Incoming>,
) -> Answer {
    let arrived = worker.shared.clock.now();
    let active = connection.begin(arrived);
    let head = *request.method() == Method::HEAD;
    let (seen, verdict) = match connection.verdict().refused {
        Some(refused) => (Seen::default(), Verdict::Malformed(refused)),
        None => judge(worker, connection, &request),
    };
    match verdict {
        Verdict::Answered(response) => {
            Answer::Now(Some(closing(worker, connection, head, response)))
        }
        Verdict::Malformed(refused) => {
            worker.shared.refused(refused.reason);
            let problem = Problem::new(refused.reason, refused.why);
            let mut response = refusal::response(&problem, seen.grpc, None);
            if !connection.is_http2() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                connection.refused_upload();
            }
            Answer::Now(Some(response))
        }
        Verdict::Redirected(location) => {
            worker.shared.refused(Reason::HttpsRedirect);
            let response = refusal::redirect(request.method(), &location, seen.grpc);
            turned_away(worker, active, request, response)
        }
        Verdict::Refused(problem) => {
            worker.shared.refused(problem.reason);
            note(worker, &request, arrived, &problem);
            trace::refused(&active, worker, &request, arrived, problem.reason);
            let response = refusal::response(&problem, seen.grpc, None);
            turned_away(worker, active, request, response)
        }
        Verdict::Routed(local, record) => {
            let relay = begin(worker, local, arrived, active, request, seen, record);
            Answer::Later(Box::pin(forward(relay)))
        }
    }
}

/// An answer to a request whose body nobody wants.
fn turned_away(
    worker: &Worker,
    active: Active,
    request: Request<Incoming>,
    response: Response<ResponseBody>,
) -> Answer {
    let head = *request.method() == Method::HEAD;
    let connection = active.connection();
    let response = closing(worker, connection, head, response);
    let expects = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    if body.is_end_stream() {
        return Answer::Now(Some(response));
    }
    if expects && !connection.is_http2() {
        // To read it would be to ask for it.
        connection.refused_upload();
        return Answer::Now(Some(response));
    }
    Answer::Later(Box::pin(async move {
        discard_short(active.connection(), body).await;
        Ok(response)
    }))
}

/// The last touch: on the way down, responses close their connections; what tidegate says itself
/// is not said to HEAD (HTTP/1's side leaves it out by itself).
pub(super) fn closing(
    worker: &Worker,
    connection: &Connection,
    head: bool,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    if head && connection.is_http2() && response.body().is_text() {
        *response.body_mut() = ResponseBody::empty();
    }
    if connection.is_http2() {
        return response;
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        connection.open_tunnel();
        return response;
    }
    if connection.switches() {
        // What follows may be meant for the other protocol: it is no request.
        connection.refused_upload();
    }
    if connection.switches() || worker.shared.drain_state() >= DrainState::Draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn judge(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: &Request<Incoming>,
) -> (Seen, Verdict) {
    let drawn = connection.take_drawn();
    let scan = scan(request.headers());
    let seen = scan.seen;
    let checked = match check(request, &scan) {
        Ok(checked) => checked,
        Err(why) => {
            let refused = Refused { reason: Reason::BadRequest, why };
            return (seen, Verdict::Malformed(refused));
        }
    };
    let probed = seen.ours && worker.shared.settings.position == Position::Sidecar;
    let probe = if probed { network_probe(worker, request.headers()) } else { None };
    if let Some(response) = probe.or_else(|| health(worker, connection, request, &checked)) {
        return (seen, Verdict::Answered(response));
    }
    if worker.shared.drain_state() >= DrainState::Closing {
        let text = "this proxy is going down; try again";
        return (seen, Verdict::Refused(Problem::new(Reason::ShuttingDown, text)));
    }
    let tag = seen.tag.then(|| request.headers());
    let secure = connection.client.is_secure(request.headers());
    let way = connection.way(secure);
    match drawn.map_or_else(|| worker.route(&checked, tag, way), Ok) {
        Ok(local) => {
            let record = record(worker, connection, request, &checked);
            (seen, Verdict::Routed(local, record))
        }
        Err(problem) if problem.reason == Reason::HttpsRedirect => {
            (seen, Verdict::Redirected(location(&problem, request.uri())))
        }
        Err(problem) => (seen, Verdict::Refused(problem)),
    }
}

/// Where a redirected request is to go: the same path and query.
fn location(problem: &Problem, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    // `OPTIONS *` has no path.
    let path = if path.starts_with('/') { path } else { "/" };
    format!("https://{}{path}", problem.message)
}

/// What the access log needs, if this request is in it.
fn record(
    worker: &Worker,
    connection: &Connection,
    request: &Request<Incoming>,
    checked: &Checked<'_>,
) -> Option<Box<Record>> {
    if !worker.is_logged() {
        return None;
    }
    Some(Record::new(
        request.method().as_str(),
        request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str),
        request.version(),
        checked.authority.unwrap_or_default(),
        connection.client.ip,
        |name| request.headers().get(name).map(HeaderValue::as_bytes),
    ))
}

fn begin(
    worker: &Rc<Worker>,
    local: Rc<LocalRevision>,
    arrived: Nanos,
    active: Active,
    request: Request<Incoming>,
    seen: Seen,
    record: Option<Box<Record>>,
) -> Box<Relay> {
    let (wakes, protocol, page) = local.with_spec(|spec| {
        let wakes = !matches_no_wake(&spec.queue.no_wake, &request);
        (wakes, spec.protocol, spec.queue.waiting_page)
    });
    let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let page = page && is_navigation(request.method().as_str(), header);
    let http10 = request.version() == Version::HTTP_10;
    let traced = trace::begin(&active, worker, &request, arrived, Some(&local));
    let mut outgoing = Outgoing::prepare(worker, active.connection(), request, seen, protocol);
    let mut exchange = Exchange::begin(worker, local, arrived, active, wakes);
    exchange.log = record;
    if let Some((told, trace)) = traced {
        outgoing.tell(&told);
        if let (Some(log), true) = (&mut exchange.log, trace.is_some()) {
            log.traced(told.context);
        }
        exchange.trace = trace;
    }
    exchange.page = page;
    if let Some(timeout) = outgoing.grpc_timeout {
        exchange.timer().set_grpc(arrived.plus(timeout));
    }
    let reset_if_cut = http10.then(|| exchange.connection().io.clone());
    let mut relay = Relay::new(exchange, outgoing, seen.grpc);
    relay.reset_if_cut = reset_if_cut;
    relay
}

/// `GET|HEAD /.tidegate/ready`, and `--health-path` where no service could be meant.
fn health(
    worker: &Worker,
    connection: &Connection,
    request: &Request<Incoming>,
    checked: &Checked<'_>,
) -> Option<Response<ResponseBody>> {
    let path = request.uri().path();
    if !worker.may_be_health(path) || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    if path != HEALTH_PATH {
        let ours = match &checked.host {
            None => true,
            Some((_, HostKind::Local)) => true,
            Some((host, HostKind::Name)) => {
                connection.service.is_none() && !worker.knows(host, connection.outside)
            }
        };
        if !ours {
            return None;
        }
    }
    let state = worker.shared.drain_state();
    let ready = worker.is_ready();
    let word = match state {
        DrainState::Serving if !ready => "the backend is not ready",
        _ => state.word(),
    };
    let mut response = Response::new(ResponseBody::text(format!("{word}\n")));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Some(response)
}

fn matches_no_wake<B>(rules: &[NoWake], request: &Request<B>) -> bool {
    let agent = |headers: &HeaderMap, prefix: &str| {
        headers.get(USER_AGENT).is_some_and(|a| a.as_bytes().starts_with(prefix.as_bytes()))
    };
    rules.iter().any(|rule| match rule {
        NoWake::Method(method) => request.method().as_str() == &**method,
        NoWake::PathPrefix(prefix) => request.uri().path().starts_with(&**prefix),
        NoWake::UserAgentPrefix(prefix) => agent(request.headers(), prefix),
    })
}

/// Reads a short body that nobody wants, so that the connection stays usable; a longer one is
/// discarded after the answer.
pub(super) async fn discard_short(connection: &Connection, mut body: Incoming) {
    if body.is_end_stream() || connection.is_http2() {
        return;
    }
    let short = body.size_hint().exact().is_some_and(|bytes| bytes <= SHORT_BODY_BYTES);
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
