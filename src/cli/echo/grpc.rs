//! gRPC without generated code: messages are echoed as the frames they are.
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>)

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::body::{self, Body, Gone, Writer};
use super::http::{plain, value};
use super::state::State;
use crate::model::is_grpc as is_grpc_type;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Flag byte and four bytes of length before each message.
const PREFIX: usize = 5;
/// Larger messages are refused, as servers do (their default is 4 MiB).
const MAX_MESSAGE: usize = 64 << 20;
/// Serialised `HealthCheckResponse` with the status `SERVING`, `NOT_SERVING`, `SERVICE_UNKNOWN`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];
const SERVICE_UNKNOWN: &[u8] = &[0, 0, 0, 0, 2, 8, 3];

/// How a call ends: a code of gRPC and a text.
type Status = (u32, &'static str);
const OK: Status = (0, "");
const TOO_LARGE: Status = (8, "message larger than 64 MiB");
const FAILED: Status = (13, "failed on purpose");
const UNIMPLEMENTED: Status =
    (12, "unknown method: tidegate.Echo has Unary ClientStream ServerStream Bidi");

/// Whether the request is a call.
pub(super) fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| is_grpc_type(value.as_bytes()))
}

/// Answers a call. Metadata steers it: `x-delay-ms` waits before the first message, `x-repeat`
/// (default 3) is how often `ServerStream` repeats its message, `x-interval-ms` the time between,
/// `x-grpc-status` the code it ends with.
pub(super) fn answer(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    if request.version() != Version::HTTP_2 {
        let text = "gRPC needs HTTP/2: name the container port h2c in the manifest\n";
        return plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED, text);
    }
    if request.uri().path().starts_with("/tidegate.Echo/") && state.fails() {
        return trailers_only(FAILED);
    }
    let (head, incoming) = request.into_parts();
    let options = Options::from(&head.headers);
    let messages = Messages { body: incoming, buffer: BytesMut::new() };
    let state = Arc::clone(state);
    let call = match head.uri.path() {
        "/tidegate.Echo/Unary" => Call::Unary,
        "/tidegate.Echo/ClientStream" => Call::ClientStream,
        "/tidegate.Echo/ServerStream" => Call::ServerStream,
        "/tidegate.Echo/Bidi" => Call::Bidi,
        "/grpc.health.v1.Health/Check" => Call::Check,
        "/grpc.health.v1.Health/Watch" => Call::Watch,
        _ => return trailers_only(UNIMPLEMENTED),
    };
    let body = body::streamed(move |writer| async move {
        let status = match run(call, &options, messages, &state, &writer).await {
            Ok(()) if options.status == 0 => OK,
            Ok(()) => (options.status, "asked for by x-grpc-status"),
            Err(End::Status(status)) => status,
            Err(End::Gone) => return Err(Gone),
        };
        writer.trailers(trailers(status)).await
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value("application/grpc"));
    if let Some(encoding) = head.headers.get(&ENCODING) {
        // Echoed messages stay compressed as they came.
        headers.insert(ENCODING, encoding.clone());
    }
    response
}

struct Options {
    delay: Duration,
    interval: Duration,
    repeat: u64,
    status: u32,
}

impl Options {
    fn from(headers: &HeaderMap) -> Self {
        let number = |name| headers.get(name)?.to_str().ok()?.parse().ok();
        Self {
            delay: Duration::from_millis(number("x-delay-ms").unwrap_or(0)),
            interval: Duration::from_millis(number("x-interval-ms").unwrap_or(0)),
            repeat: number("x-repeat").unwrap_or(3),
            status: number("x-grpc-status").and_then(|code| code.try_into().ok()).unwrap_or(0),
        }
    }

    async fn delay(&self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

/// Why a call ends before its time.
enum End {
    Status(Status),
    Gone,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

#[derive(Clone, Copy)]
enum Call {
    Unary,
    ClientStream,
    ServerStream,
    Bidi,
    Check,
    Watch,
}

async fn run(
    call: Call,
    options: &Options,
    mut messages: Messages,
    state: &State,
    writer: &Writer,
) -> Result<(), End> {
    options.delay().await;
    match call {
        Call::Unary => writer.data(messages.one().await?).await?,
        Call::ClientStream => {
            // One answer: the payloads of all messages, one after the other.
            let mut all = BytesMut::new();
            while let Some(message) = messages.next().await? {
                all.extend_from_slice(&message[PREFIX..]);
                if all.len() > MAX_MESSAGE {
                    return Err(TOO_LARGE.into());
                }
            }
            writer.data(frame(&all)).await?;
        }
        Call::ServerStream => {
            let message = messages.one().await?;
            for number in 0..options.repeat {
                if number > 0 && !options.interval.is_zero() {
                    tokio::select! {
                        () = tokio::time::sleep(options.interval) => {}
                        () = writer.closed() => return Err(End::Gone),
                    }
                }
                writer.data(message.clone()).await?;
            }
        }
        Call::Bidi => {
            while let Some(message) = messages.next().await? {
                writer.data(message).await?;
            }
        }
        Call::Check => {
            if !is_known(&messages.one().await?) {
                return Err((5, "unknown service").into());
            }
            writer.data(SERVING).await?;
        }
        Call::Watch => watch(messages, state, writer).await?,
    }
    Ok(())
}

/// Tells the state now and when it changes, as the health protocol asks of `Watch`.
async fn watch(mut messages: Messages, state: &State, writer: &Writer) -> Result<(), End> {
    if !is_known(&messages.one().await?) {
        writer.data(SERVICE_UNKNOWN).await?;
    } else {
        writer.data(SERVING).await?;
    }
    let mut stop = state.stop();
    tokio::select! {
        () = stop.asked() => Ok(writer.data(NOT_SERVING).await?),
        () = writer.closed() => Err(End::Gone),
    }
}

/// Whether a `HealthCheckRequest` (with its prefix) names a service we have; no name means all.
fn is_known(message: &[u8]) -> bool {
    let service: &[u8] = match &message[PREFIX..] {
        [] => b"",
        // Field 1, a string, shorter than 128 bytes; the message has no other field.
        [0x0a, length, name @ ..] if name.len() == usize::from(*length) => name,
        _ => return false,
    };
    matches!(service, b"" | b"tidegate.Echo" | b"grpc.health.v1.Health")
}

fn frame(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), payload].concat().into()
}

/// The messages of a request, each with its prefix.
struct Messages {
    body: Incoming,
    buffer: BytesMut,
}

impl Messages {
    async fn next(&mut self) -> Result<Option<Bytes>, End> {
        loop {
            if let Some(prefix) = self.buffer.get(..PREFIX) {
                let length = (&prefix[1..]).get_u32() as usize;
                if length > MAX_MESSAGE {
                    return Err(TOO_LARGE.into());
                }
                if self.buffer.len() >= PREFIX + length {
                    return Ok(Some(self.buffer.split_to(PREFIX + length).freeze()));
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err((1, "the request broke off").into()),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err((13, "the request ends within a message").into()),
            }
        }
    }

    async fn one(&mut self) -> Result<Bytes, End> {
        self.next().await?.ok_or(End::Status((13, "this call needs one message")))
    }
}

fn trailers((code, message): Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, code.into());
    if !message.is_empty() {
        trailers.insert(MESSAGE, HeaderValue::from_static(message));
    }
    trailers
}

fn trailers_only(status: Status) -> Response<Body> {
    let mut response = Response::new(body::full(""));
    response.headers_mut().insert(header::CONTENT_TYPE, value("application/grpc"));
    response.headers_mut().extend(trailers(status));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_requests_name_a_service() {
        let named = |name: &[u8]| {
            let length = u8::try_from(name.len()).unwrap();
            frame(&[&[0x0a, length][..], name].concat())
        };
        assert!(is_known(&frame(b"")));
        assert!(is_known(&named(b"")));
        assert!(is_known(&named(b"tidegate.Echo")));
        assert!(!is_known(&named(b"other")));
        assert!(!is_known(&frame(b"\x0a\x7fshort")));
    }
}
