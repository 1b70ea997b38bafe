//! Clients: hyper's low-level connections, and bytes as they are.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(20);

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type H1 = http1::SendRequest<Body>;
pub(crate) type H2 = http2::SendRequest<Body>;

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The token of an answer that tidegate made itself.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("tidegate-reason")
    }

    /// gRPC's status, from the trailers or from an answer that is nothing but them.
    pub(crate) fn grpc_status(&self) -> Option<&str> {
        let trailers = self.trailers.as_ref();
        let status =
            trailers.and_then(|t| t.get("grpc-status")).or(self.headers.get("grpc-status"));
        status.map(|value| value.to_str().unwrap())
    }
}

/// Within a time in which it must have happened.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("not within 20 s")
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body that is written piece by piece.
pub(crate) fn channel() -> (Sender<Bytes, Infallible>, Body) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed_unsync())
}

pub(crate) async fn h1(address: SocketAddr) -> H1 {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

pub(crate) async fn h2(address: SocketAddr) -> H2 {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        // Room for many responses that a test does not read, of small frames as well.
        .initial_connection_window_size(1 << 30)
        .initial_stream_window_size(1 << 16)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// A request in HTTP/1.1's form.
pub(crate) fn request(method: &str, host: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", host)
}

/// A request in HTTP/2's form.
pub(crate) fn request2(method: &str, host: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://{host}{path}"))
}

/// A gRPC call; `path` is the method's.
pub(crate) fn call(host: &str, path: &str) -> http::request::Builder {
    request2("POST", host, path).header("content-type", "application/grpc").header("te", "trailers")
}

/// A gRPC message with its prefix.
pub(crate) fn message(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), payload].concat().into()
}

pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = soon(body.collect()).await.unwrap();
    let trailers = body.trailers().cloned();
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes(), trailers }
}

/// Sends on a connection that is there; the whole response.
pub(crate) async fn send1(connection: &mut H1, request: Request<Body>) -> Answer {
    soon(connection.ready()).await.unwrap();
    whole(soon(connection.send_request(request)).await.unwrap()).await
}

pub(crate) async fn send2(connection: &mut H2, request: Request<Body>) -> Answer {
    soon(connection.ready()).await.unwrap();
    whole(soon(connection.send_request(request)).await.unwrap()).await
}

/// One GET on its own connection.
pub(crate) async fn get(address: SocketAddr, host: &str, path: &str) -> Answer {
    send1(&mut h1(address).await, request("GET", host, path).body(empty()).unwrap()).await
}

/// One POST on its own connection.
pub(crate) async fn post(
    address: SocketAddr,
    host: &str,
    path: &str,
    body: impl Into<Bytes>,
) -> Answer {
    let request = request("POST", host, path).body(full(body)).unwrap();
    send1(&mut h1(address).await, request).await
}

/// Bytes as they are: what comes back until the end of the connection. `Err` when it was reset;
/// what came before is in both.
pub(crate) async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes.as_ref()).await;
    rest(&mut stream).await
}

/// Everything up to the end of a connection.
pub(crate) async fn rest(stream: &mut TcpStream) -> Result<String, String> {
    let mut read = Vec::new();
    let result = soon(stream.read_to_end(&mut read)).await;
    let text = String::from_utf8_lossy(&read).into_owned();
    match result {
        Ok(_) => Ok(text),
        Err(_) => Err(text),
    }
}

/// Reads until a text has come; returns all that came.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    soon(async {
        loop {
            let so_far = String::from_utf8_lossy(&read).into_owned();
            if so_far.contains(text) {
                return so_far;
            }
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "ended before {text:?}: {so_far}");
            read.extend_from_slice(&buffer[..n]);
        }
    })
    .await
}
