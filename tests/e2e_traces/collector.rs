//! A collector: takes OTLP over gRPC or HTTP/1.1, with or without TLS, and decodes it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use crate::serving::until;

/// How spans are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    /// As `tracing-protocol` has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }
}

/// What a collector got with one request, and how it answered.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) decoded: ExportTraceServiceRequest,
    pub(crate) taken: bool,
}

impl Export {
    pub(crate) fn spans(&self) -> impl Iterator<Item = &Span> {
        let of_resources = self.decoded.resource_spans.iter();
        of_resources.flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans)
    }
}

/// An address where whoever connects is refused, and which nobody else gets while the socket is kept:
/// it is bound and does not listen.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A collector; it ends with the test's runtime.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    exports: Arc<Mutex<Vec<Export>>>,
}

/// What a collector says to its first requests, in place of thanks.
pub(crate) type Refusals = Vec<Response<Body>>;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer over HTTP, or one that is no gRPC.
pub(crate) fn refusal(status: u16, headers: &[(&'static str, &'static str)]) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let headers = headers.iter().map(|(name, value)| (*name, HeaderValue::from_static(value)));
    headers.for_each(|(name, value)| drop(response.headers_mut().insert(name, value)));
    response
}

impl Collector {
    pub(crate) async fn start(protocol: Protocol) -> Self {
        Self::refusing(protocol, Vec::new()).await
    }

    /// The first requests are answered so, and what they bring is not taken.
    pub(crate) async fn refusing(protocol: Protocol, refusals: Refusals) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::listening(listener, protocol, refusals, None)
    }

    pub(crate) fn listening(
        listener: TcpListener,
        protocol: Protocol,
        refusals: Refusals,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let exports: Arc<Mutex<Vec<Export>>> = Arc::default();
        let refusals = Arc::new(Mutex::new(VecDeque::from(refusals)));
        let taken = Arc::clone(&exports);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (taken, refusals) = (Arc::clone(&taken), Arc::clone(&refusals));
                match tls.clone() {
                    None => drop(tokio::spawn(serve(stream, protocol, taken, refusals))),
                    Some(tls) => drop(tokio::spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, protocol, taken, refusals).await;
                        }
                    })),
                }
            }
        });
        Self { address, protocol, exports }
    }

    /// A `config-observability` that sends this share of requests' spans here.
    pub(crate) fn config(&self, rate: &str) -> String {
        config(self.protocol.word(), Some(&format!("http://{}", self.address)), rate)
    }

    /// What came so far.
    pub(crate) fn exports(&self) -> Vec<Export> {
        self.exports.lock().clone()
    }

    /// Waits for the trace of the request for a path; the spans, the request's own first.
    pub(crate) async fn trace(&self, path: &str) -> Trace {
        until(&format!("the trace of {path}"), || self.find(path).is_some()).await;
        self.find(path).unwrap()
    }

    /// The trace of the request for a path, if it was taken.
    pub(crate) fn find(&self, path: &str) -> Option<Trace> {
        let exports = self.exports.lock();
        let export = exports.iter().filter(|export| export.taken).find(|export| {
            export.spans().any(|span| text(&span.attributes, "url.path").as_deref() == Some(path))
        })?;
        let own = export
            .spans()
            .find(|span| text(&span.attributes, "url.path").as_deref() == Some(path))
            .unwrap();
        // A caller may have several requests in one trace: what hangs on this one is its.
        let mut spans = vec![own.clone()];
        let mut at = 0;
        while at < spans.len() {
            let id = spans[at].span_id.clone();
            spans.extend(export.spans().filter(|span| span.parent_span_id == id).cloned());
            at += 1;
        }
        Some(Trace { spans })
    }
}

/// A `config-observability`.
pub(crate) fn config(protocol: &str, endpoint: Option<&str>, rate: &str) -> String {
    let endpoint = endpoint.map(|url| format!(", tracing-endpoint: '{url}'")).unwrap_or_default();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-observability}}\ndata: \
         {{tracing-protocol: {protocol}{endpoint}, tracing-sampling-rate: '{rate}'}}\n"
    )
}

async fn serve<S>(
    stream: S,
    protocol: Protocol,
    exports: Arc<Mutex<Vec<Export>>>,
    refusals: Arc<Mutex<VecDeque<Response<Body>>>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let (exports, refusals) = (Arc::clone(&exports), Arc::clone(&refusals));
        async move { Ok::<_, Infallible>(take(protocol, request, &exports, &refusals).await) }
    });
    let io = TokioIo::new(stream);
    match protocol {
        Protocol::Grpc => {
            drop(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
        }
        Protocol::Http => drop(http1::Builder::new().serve_connection(io, service).await),
    }
}

async fn take(
    protocol: Protocol,
    request: Request<Incoming>,
    exports: &Mutex<Vec<Export>>,
    refusals: &Mutex<VecDeque<Response<Body>>>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let message = match protocol {
        Protocol::Http => body,
        Protocol::Grpc => {
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
            assert_eq!((body[0], body.len()), (0, 5 + length as usize), "one whole message");
            body.slice(5..)
        }
    };
    let decoded = ExportTraceServiceRequest::decode(message).unwrap();
    let refusal = refusals.lock().pop_front();
    let path = head.uri.path().to_owned();
    let taken = refusal.is_none();
    exports.lock().push(Export { path, headers: head.headers, decoded, taken });
    refusal.unwrap_or_else(|| thanks(protocol))
}

fn thanks(protocol: Protocol) -> Response<Body> {
    match protocol {
        Protocol::Http => {
            let mut response = refusal(200, &[("content-type", "application/x-protobuf")]);
            *response.body_mut() = Full::new(Bytes::new()).boxed_unsync();
            response
        }
        Protocol::Grpc => {
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )]);
            let body = Full::new(Bytes::from_static(&[0; 5]));
            let body = body.with_trailers(async move { Some(Ok(trailers)) }).boxed_unsync();
            let mut response = Response::new(body);
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            response
        }
    }
}

/// The spans of one request, its own first.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) spans: Vec<Span>,
}

/// What differs from run to run.
const MASKED: [&str; 4] =
    ["server.port", "client.address", "user_agent.original", "http.response.body.size"];

impl Trace {
    /// The request's own span.
    pub(crate) fn own(&self) -> &Span {
        &self.spans[0]
    }

    /// The only span of a name.
    pub(crate) fn span(&self, name: &str) -> &Span {
        let found: Vec<_> = self.spans.iter().filter(|span| span.name == name).collect();
        let [only] = found[..] else { panic!("{} are called {name:?}: {self:?}", found.len()) };
        only
    }

    /// The tree, a line each: names, what is known, how it ended; without times and ports.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        self.show(self.own(), 0, &mut text);
        text
    }

    fn show(&self, span: &Span, indent: usize, text: &mut String) {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert_eq!(span.trace_id, self.own().trace_id);
        let kind = match span.kind() {
            SpanKind::Server => " (server)",
            SpanKind::Client => " (client)",
            _ => "",
        };
        let _ = write!(text, "{:indent$}{}{kind}", "", span.name);
        for KeyValue { key, .. } in &span.attributes {
            if !MASKED.contains(&key.as_str()) {
                let _ = write!(text, " {key}={}", self::text(&span.attributes, key).unwrap());
            }
        }
        for event in &span.events {
            let _ = write!(text, " [{}]", event.name);
        }
        if let Some(status) = &span.status {
            let _ = write!(text, " {:?}", status.code());
        }
        text.push('\n');
        for child in self.spans.iter().filter(|child| child.parent_span_id == span.span_id) {
            self.show(child, indent + 2, text);
        }
    }
}

/// An attribute, as a text.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
