//! A body that comes in pieces with pauses, in either direction.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

/// Broken off on purpose.
#[derive(Debug, thiserror::Error)]
#[error("broken off on purpose")]
pub(crate) struct Broken;

/// The body; `G` is dropped with its last byte.
#[derive(Debug)]
pub(crate) struct Drip<G> {
    left: usize,
    fill: u8,
    piece: usize,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Bytes left at which it breaks off.
    break_at: Option<usize>,
    /// Read to its end before this one ends.
    drain: Option<Incoming>,
    exact: bool,
    guard: Option<G>,
}

impl<G> Drip<G> {
    /// `bytes` of `fill` in a few pieces.
    pub(crate) fn new(bytes: usize, fill: u8, pause: Duration, guard: G) -> Self {
        Self {
            left: bytes,
            fill,
            piece: bytes.div_ceil(4).clamp(1, 16 * 1024),
            pause,
            sleep: None,
            break_at: None,
            drain: None,
            exact: true,
            guard: Some(guard),
        }
    }

    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self {
            left: 0,
            fill: 0,
            piece: 1,
            pause: Duration::ZERO,
            sleep: None,
            break_at: None,
            drain: None,
            exact: true,
            guard: None,
        }
    }

    /// Does not say how long it is.
    pub(crate) fn chunked(mut self) -> Self {
        self.exact = false;
        self
    }

    /// Breaks off in the middle.
    pub(crate) fn breaking(mut self) -> Self {
        self.break_at = Some(self.left / 2);
        self
    }

    /// Begins after a while, and reads the other direction's body all the time.
    pub(crate) fn draining(mut self, body: Incoming, after: Duration) -> Self {
        self.sleep = Some(Box::pin(tokio::time::sleep(after)));
        self.drain = Some(body);
        self.exact = false;
        self
    }
}

impl<G: Unpin> Body for Drip<G> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut drained = true;
        while let Some(body) = &mut self.drain {
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(Broken))),
                Poll::Ready(None) => self.drain = None,
                Poll::Pending => {
                    drained = false;
                    break;
                }
            }
        }
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        if self.break_at.is_some_and(|at| self.left <= at) {
            self.guard = None;
            return Poll::Ready(Some(Err(Broken)));
        }
        if self.left == 0 {
            if !drained {
                return Poll::Pending;
            }
            self.guard = None;
            return Poll::Ready(None);
        }
        let n = self.piece.min(self.left);
        self.left -= n;
        if self.left == 0 && drained {
            self.guard = None;
        } else if !self.pause.is_zero() {
            let pause = self.pause;
            self.sleep = Some(Box::pin(tokio::time::sleep(pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![self.fill; n])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.drain.is_none() && self.break_at.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.exact { SizeHint::with_exact(self.left as u64) } else { SizeHint::default() }
    }
}
