//! Traces of requests that hyper carries.

use http::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Request};

use crate::model::Reason;
use crate::proxy::connection::Active;
use crate::proxy::headers::TAG;
use crate::proxy::outgoing::{TRACE_PARENT, TRACE_STATE};
use crate::proxy::worker::{LocalRevision, Worker};
use crate::stats::Nanos;

use super::{Asked, Decision, Ending, Told, Trace};

/// Decides on a request, and begins to record it if it is to be recorded; none if its context goes
/// on as it came.
pub(in crate::proxy) fn begin<B>(
    active: &Active,
    worker: &Worker,
    request: &Request<B>,
    arrived: Nanos,
    local: Option<&LocalRevision>,
) -> Option<(Told, Option<Box<Trace>>)> {
    if !worker.shared.settings.tracer.is_on() {
        return None;
    }
    let decision = worker.decide(only(request.headers(), &TRACE_PARENT))?;
    let trace =
        decision.is_recorded().then(|| record(active, worker, request, arrived, local, decision));
    Some((decision.told(), trace))
}

/// Records a request that is refused before its revision is known, if it is to be recorded.
pub(in crate::proxy) fn refused<B>(
    active: &Active,
    worker: &Worker,
    request: &Request<B>,
    arrived: Nanos,
    reason: Reason,
) {
    if let Some((_, Some(trace))) = begin(active, worker, request, arrived, None) {
        let ending =
            Ending { status: Some(reason.status()), reason: Some(reason), ..Ending::default() };
        let Worker { shared, .. } = worker;
        trace.end(shared.clock.now(), ending, None, &shared.settings.tracer);
    }
}

fn record<B>(
    active: &Active,
    worker: &Worker,
    request: &Request<B>,
    arrived: Nanos,
    local: Option<&LocalRevision>,
    decision: Decision,
) -> Box<Trace> {
    let (connection, headers) = (active.connection(), request.headers());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.or_else(|| request.uri().authority().map(Authority::as_str));
    let secure = connection.client.is_secure(headers);
    let asked = Asked {
        method: request.method().as_str(),
        target: request.uri().path_and_query().map_or("", PathAndQuery::as_str),
        authority: authority.unwrap_or_default(),
        version: request.version(),
        secure,
        client: connection.client.ip,
        user_agent: headers.get(USER_AGENT).map(HeaderValue::as_bytes),
        state: headers.get(TRACE_STATE).map(HeaderValue::as_bytes),
    };
    let mut trace = Trace::begin(worker, decision, &asked, arrived);
    if let Some(local) = local {
        let tag = headers.get(&TAG).and_then(|tag| tag.to_str().ok());
        let way = connection.way(secure);
        trace.routed(&worker.choice(asked.authority, tag, way, &local.revision));
    }
    trace
}

/// The value of a header that is there once; none otherwise, as if it were not there.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}
