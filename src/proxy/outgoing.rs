//! A request as it goes to an endpoint, as far as it does not depend on which.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::model::Protocol;
use crate::traces::SpanContext;
use crate::upstream::{ContinueGate, RequestBody, Returned, Unsent};

use super::connection::Connection;
use super::forwarded::request_id;
use super::headers::{Asked, frame_request, strip_request};
use super::scan::Seen;
use super::trace::Told;
use super::worker::Worker;

/// The trace and its caller, as a client tells them (W3C Trace Context).
pub(super) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What else vendors say of the trace.
pub(super) const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// A request on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    method: Method,
    uri: Uri,
    version: Version,
    pub(super) headers: HeaderMap,
    /// None once it is empty or was sent.
    pub(super) body: Option<Incoming>,
    pub(super) home: Option<Rc<Returned>>,
    gate: Option<Arc<ContinueGate>>,
    pub(super) upgrade: Option<hyper::upgrade::OnUpgrade>,
    /// `grpc-timeout`.
    pub(super) grpc_timeout: Option<Duration>,
    /// Whether the head was left behind by the last attempt.
    kept: bool,
}

impl Outgoing {
    /// Takes a request that was checked and scanned apart.
    pub(super) fn prepare(
        worker: &Worker,
        connection: &Connection,
        mut request: Request<Incoming>,
        seen: Seen,
        protocol: Protocol,
    ) -> Self {
        let position = worker.shared.settings.position;
        let Asked { upgrade, expects_continue } =
            strip_request(request.headers_mut(), seen, connection.is_http2(), position);
        let upgrade = match upgrade {
            Some(value) if protocol == Protocol::Http1 => {
                Some((value, hyper::upgrade::on(&mut request)))
            }
            _ => None,
        };
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        if seen.hosts == 0
            && !headers.contains_key(HOST)
            && let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            headers.insert(HOST, host);
        }
        let grpc_timeout = if seen.grpc_timeout { grpc_timeout(&headers) } else { None };
        let host = headers.get(HOST).cloned();
        connection.client.write(&mut headers, host.as_ref());
        if host.is_none() {
            // Of HTTP/1.0; a replica is asked in HTTP/1.1, which has one (RFC 9112 §3.2).
            headers.insert(HOST, HeaderValue::from_static("localhost"));
        }
        request_id(&mut headers, seen.request_id, &mut worker.rng.borrow_mut());
        let body = (!body.is_end_stream()).then_some(body);
        if protocol == Protocol::Http1 {
            let exact = body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
            frame_request(&mut headers, &parts.method, exact);
        }
        let upgrade = upgrade.map(|(protocol, upgrade)| {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol);
            upgrade
        });
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
            grpc_timeout,
            kept: false,
        }
    }

    /// Has it go on with this trace context.
    pub(super) fn tell(&mut self, told: &Told) {
        if told.begins {
            self.headers.remove(&TRACE_STATE);
        }
        self.tell_caller(told.context);
    }

    /// Tells the replica which span it is called by.
    pub(super) fn tell_caller(&mut self, context: SpanContext) {
        if let Ok(value) = HeaderValue::from_bytes(&context.to_header()) {
            self.headers.insert(TRACE_PARENT, value);
        }
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Whether the client waits to be told that its body is wanted.
    pub(super) fn expects_continue(&self) -> bool {
        self.gate.is_some()
    }

    /// Whether it goes out over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// Whether it may be sent again although an endpoint may have seen it (RFC 9110 §9.2.2).
    pub(super) fn is_replayable(&self) -> bool {
        self.home.is_none()
            && self.upgrade.is_none()
            && matches!(
                self.method,
                Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
            )
    }

    /// The request for one attempt; the head is left behind if `keep`.
    pub(super) fn attempt(&mut self, keep: bool) -> Request<RequestBody> {
        self.kept = keep;
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
            *request.uri_mut() = self.uri.clone();
            *request.headers_mut() = self.headers.clone();
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
    pub(super) fn take_back(&mut self, request: Unsent) -> bool {
        match request {
            Unsent::Unmade => return true,
            Unsent::Whole(request) => {
                let (parts, body) = request.into_parts();
                drop(body);
                (self.uri, self.headers) = (parts.uri, parts.headers);
            }
            Unsent::Lost if self.kept => {}
            Unsent::Lost => return false,
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
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
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
        for bad in ["", "1", "H", "123456789S", "-1S", "+1S", "1x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
