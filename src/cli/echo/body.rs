//! Response bodies.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;

use super::state::InFlight;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
/// Every response's body.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

static FILL: [u8; 65536] = [b'x'; 65536];

fn never(error: Infallible) -> BoxError {
    match error {}
}

/// A body that is known whole.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body of `bytes` letters `x`, made as it is sent.
pub(super) fn fill(bytes: u64) -> Body {
    Fill { left: bytes }.map_err(never).boxed_unsync()
}

struct Fill {
    left: u64,
}

impl HttpBody for Fill {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(FILL.len());
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&FILL).slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The writing end of a streamed body.
#[derive(Debug)]
pub(super) struct Writer(mpsc::Sender<Result<Frame<Bytes>, BoxError>>);

/// The client no longer reads.
#[derive(Debug)]
pub(super) struct Gone;

impl Writer {
    pub(super) async fn data(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Ok(Frame::data(bytes.into()))).await.or(Err(Gone))
    }

    pub(super) async fn trailers(&self, trailers: HeaderMap) -> Result<(), Gone> {
        self.0.send(Ok(Frame::trailers(trailers))).await.or(Err(Gone))
    }

    /// Breaks the response off: the connection closes, or the stream is reset.
    pub(super) async fn cut(&self, why: &'static str) -> Result<(), Gone> {
        self.0.send(Err(why.into())).await.or(Err(Gone))
    }

    /// Waits until the client no longer reads.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A body written by a task of its own. A slow client holds the task up: one frame waits at a
/// time.
pub(super) fn streamed<F, W>(write: F) -> Body
where
    F: FnOnce(Writer) -> W,
    W: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(write(Writer(sender)));
    Streamed(receiver).boxed_unsync()
}

struct Streamed(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context)
    }
}

/// A body that keeps its request in flight until it has been sent or dropped.
pub(super) fn counted(body: Body, in_flight: InFlight) -> Body {
    Counted { body, _in_flight: in_flight }.boxed_unsync()
}

struct Counted {
    body: Body,
    _in_flight: InFlight,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
