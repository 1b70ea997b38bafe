//! One connection: TCP, TLS where asked for, HTTP/1.1 or HTTP/2, one request at a time per slot.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::recording::Outcome;
use super::target::{Protocol, Target};

/// HTTP/2 windows: large enough that the generator never is what holds up a body.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 26;
/// Characters of a label that are kept.
const LABEL_MAX: usize = 40;

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The sending half.
pub(super) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// The connection that the slots of one HTTP/2 connection have together.
pub(super) type Shared = Rc<Mutex<Option<http2::SendRequest<Full<Bytes>>>>>;

/// Why a request got no answer.
pub(super) enum Failure {
    /// No connection could be made.
    Connect(String),
    /// It was certainly not sent.
    Unsent,
    /// It may have been sent; nothing of an answer came.
    NoAnswer,
    /// The answer broke off.
    Broken,
}

impl Failure {
    pub(super) fn name(self) -> String {
        match self {
            Self::Connect(why) => format!("connect: {why}"),
            Self::Unsent | Self::NoAnswer => "no answer: connection closed".into(),
            Self::Broken => "answer broke off".into(),
        }
    }
}

impl Sender {
    /// A usable one: for HTTP/2 the one that is shared, if it is still good.
    pub(super) async fn open(
        target: &Target,
        shared: &Shared,
        connects: &mut u64,
    ) -> Result<Self, Failure> {
        match target.protocol {
            Protocol::Http1 => {
                *connects += 1;
                let (sender, connection) =
                    http1::handshake(TokioIo::new(connect(target).await?)).await.map_err(failed)?;
                // Its end shows in the request that needs it.
                tokio::task::spawn_local(connection);
                Ok(Self::Http1(sender))
            }
            Protocol::Http2 => {
                let mut shared = shared.lock().await;
                if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
                    return Ok(Self::Http2(sender.clone()));
                }
                *connects += 1;
                let (sender, connection) = http2::Builder::new(LocalExecutor)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .handshake(TokioIo::new(connect(target).await?))
                    .await
                    .map_err(failed)?;
                tokio::task::spawn_local(connection);
                *shared = Some(sender.clone());
                Ok(Self::Http2(sender))
            }
        }
    }

    /// Whether a further request may be sent on it.
    pub(super) async fn usable(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        wants_label: bool,
    ) -> Result<Outcome, Failure> {
        let answer = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        read(answer.map_err(|error| unanswered(&error))?, wants_label).await
    }
}

fn unanswered(error: &TrySendError<Request<Full<Bytes>>>) -> Failure {
    if error.message().is_some() { Failure::Unsent } else { Failure::NoAnswer }
}

async fn read(answer: Response<Incoming>, wants_label: bool) -> Result<Outcome, Failure> {
    let (head, mut body) = answer.into_parts();
    let (mut bytes, mut label) = (0, None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_error| Failure::Broken)?;
        if let Some(data) = frame.data_ref() {
            bytes += data.len() as u64;
            if wants_label && label.is_none() {
                label = Some(first_line(data));
            }
        }
    }
    if head.status.is_success() || head.status.is_redirection() {
        return Ok(Outcome::Good { label, bytes });
    }
    let reason = head.headers.get("tidegate-reason").and_then(|value| value.to_str().ok());
    let status = head.status.as_u16();
    Ok(Outcome::Bad(match reason {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }))
}

fn first_line(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    text.lines().next().unwrap_or_default().trim().chars().take(LABEL_MAX).collect()
}

async fn connect(target: &Target) -> Result<Box<dyn Io>, Failure> {
    let stream = TcpStream::connect(target.address).await.map_err(|error| refused(&error))?;
    // Small requests leave at once.
    let _ = stream.set_nodelay(true);
    let Some((config, name)) = &target.tls else { return Ok(Box::new(stream)) };
    let connector = TlsConnector::from(std::sync::Arc::clone(config));
    let stream = connector.connect(name.clone(), stream).await;
    Ok(Box::new(stream.map_err(|error| Failure::Connect(format!("TLS: {error}")))?))
}

fn refused(error: &io::Error) -> Failure {
    Failure::Connect(match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::AddrNotAvailable => "no free local port".into(),
        _ => error.to_string(),
    })
}

fn failed(error: hyper::Error) -> Failure {
    Failure::Connect(error.to_string())
}

/// Runs hyper's tasks on the thread's own runtime.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
