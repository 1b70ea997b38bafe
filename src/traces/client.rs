//! A collector, spoken to by OTLP over gRPC or HTTP/1.1 (OTLP specification 1.x). One connection,
//! kept; one request at a time.

mod answer;

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, Protocol};
use super::exporter::Outcome;
use super::otlp;
use super::resource::Resource;
use super::span::Recorded;

/// What is read of an answer.
const ANSWER_BYTES: usize = 64 * 1024;
/// Before a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Why there is no answer.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A collector.
pub(super) struct Client {
    endpoint: Endpoint,
    resource: Resource,
    headers: HeaderMap,
    connection: Option<Sender>,
}

/// A connection.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    /// Whether it takes a request.
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// An answer, whole.
struct Answered {
    status: http::StatusCode,
    /// With the trailers, which come last and win.
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    /// A client that has no connection yet. Of `headers`, those that HTTP does not allow are left
    /// out.
    pub(super) fn new(
        endpoint: Endpoint,
        resource: Resource,
        headers: Vec<(String, String)>,
    ) -> Self {
        let header = |(name, value): (String, String)| {
            let name = HeaderName::try_from(name).ok()?;
            let mut value = HeaderValue::try_from(value).ok()?;
            // Often a password.
            value.set_sensitive(true);
            Some((name, value))
        };
        let headers = headers.into_iter().filter_map(header).collect();
        Self { endpoint, resource, headers, connection: None }
    }

    /// Sends a batch once, but again at once where a kept connection turns out to have ended.
    pub(super) async fn send(&mut self, batch: &[Recorded]) -> Outcome {
        let message = self.framed(batch);
        let was_kept = self.connection.is_some();
        let mut answer = self.ask(message.clone()).await;
        if answer.is_err() && was_kept {
            answer = self.ask(message).await;
        }
        match answer {
            Ok(answered) => answer::outcome(self.endpoint.protocol, &answered),
            Err(error) => Outcome::Again(None, format!("{}: {error}", self.endpoint.authority())),
        }
    }

    /// The batch as the protocol frames it.
    fn framed(&self, batch: &[Recorded]) -> Bytes {
        let request = otlp::request(&self.resource, batch);
        let length = request.encoded_len();
        let mut message = BytesMut::with_capacity(PREFIX_BYTES + length);
        if self.endpoint.protocol == Protocol::Grpc {
            message.put_u8(0);
            // A batch has a bound that is far below.
            message.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        }
        message.put_slice(&request.encode_to_vec());
        message.freeze()
    }

    async fn ask(&mut self, message: Bytes) -> Result<Answered, Failed> {
        // Taken out: one on which something fails is not kept.
        let mut connection = match self.connection.take() {
            Some(kept) => kept,
            None => connect(&self.endpoint).await?,
        };
        if !connection.is_ready().await {
            return Err("the connection has ended".into());
        }
        let response = connection.send(self.request(message)?).await?;
        let (parts, body) = response.into_parts();
        let collected = Limited::new(body, ANSWER_BYTES).collect().await?;
        let mut headers = parts.headers;
        headers.extend(collected.trailers().cloned().unwrap_or_default());
        self.connection = Some(connection);
        Ok(Answered { status: parts.status, headers, body: collected.to_bytes() })
    }

    fn request(&self, message: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let Endpoint { secure, path, protocol, .. } = &self.endpoint;
        let authority = self.endpoint.authority();
        let uri = match protocol {
            Protocol::Grpc => Uri::builder()
                .scheme(if *secure { "https" } else { "http" })
                .authority(authority.as_str())
                .path_and_query(path.as_str())
                .build()?,
            Protocol::Http => Uri::builder().path_and_query(path.as_str()).build()?,
        };
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        let agent = concat!("OTel-OTLP-Exporter-tidegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        match protocol {
            Protocol::Grpc => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(TE, HeaderValue::from_static("trailers"));
            }
            Protocol::Http => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                headers.insert(HOST, HeaderValue::try_from(authority)?);
            }
        }
        Ok(request)
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Sender, Failed> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    if !endpoint.secure {
        return handshake(stream, endpoint.protocol).await;
    }
    let name = ServerName::try_from(endpoint.host.clone())?;
    let connector = TlsConnector::from(Arc::new(tls(endpoint.protocol)?));
    handshake(connector.connect(name, stream).await?, endpoint.protocol).await
}

/// TLS that trusts whom this machine trusts.
fn tls(protocol: Protocol) -> Result<ClientConfig, Failed> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = match protocol {
        Protocol::Grpc => vec![b"h2".to_vec()],
        Protocol::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

async fn handshake<S>(stream: S, protocol: Protocol) -> Result<Sender, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    Ok(match protocol {
        Protocol::Grpc => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            // Its end is seen by who sends next.
            tokio::spawn(async move { drop(connection.await) });
            Sender::Http2(sender)
        }
        Protocol::Http => {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(async move { drop(connection.await) });
            Sender::Http1(sender)
        }
    })
}
