//! The body of a request on its way to an endpoint.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

/// How long an endpoint has to answer `Expect: 100-continue` before the body is sent anyway
/// (RFC 9110 §10.1.1: not indefinitely).
const CONTINUE_FALLBACK: Duration = Duration::from_secs(1);

/// Where a body that was never polled comes back to, and how far it went.
#[derive(Debug, Default)]
pub struct Returned {
    body: RefCell<Option<Incoming>>,
    finished: Cell<bool>,
    frames: Cell<u64>,
}

impl Returned {
    /// The body, if the attempt failed before it was touched.
    pub fn take(&self) -> Option<Incoming> {
        self.body.borrow_mut().take()
    }

    /// Frames that went out so far: whether the client sends anything.
    pub fn frames(&self) -> u64 {
        self.frames.get()
    }

    /// Whether the body was sent to its end.
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }
}

/// Holds a body back until the endpoint asks for it.
#[derive(Debug, Default)]
pub struct ContinueGate {
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ContinueGate {
    /// The endpoint said 100.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A client's body, lent to one attempt.
pub struct RequestBody {
    incoming: Option<Incoming>,
    home: Option<Rc<Returned>>,
    touched: bool,
    gate: Option<(Arc<ContinueGate>, Pin<Box<tokio::time::Sleep>>)>,
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("touched", &self.touched).finish_non_exhaustive()
    }
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self { incoming: None, home: None, touched: false, gate: None }
    }

    /// A client's body; it returns to `home` if it is never polled.
    pub fn lent(body: Incoming, home: Rc<Returned>) -> Self {
        Self { incoming: Some(body), home: Some(home), touched: false, gate: None }
    }

    /// Waits for the gate before the first byte.
    #[must_use]
    pub fn gated(mut self, gate: Arc<ContinueGate>) -> Self {
        self.gate = Some((gate, Box::pin(tokio::time::sleep(CONTINUE_FALLBACK))));
        self
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((gate, fallback)) = &mut self.gate {
            if !gate.open.load(Ordering::Acquire) {
                *gate.waker.lock() = Some(cx.waker().clone());
                // Opened between the two: look again.
                if !gate.open.load(Ordering::Acquire) {
                    std::task::ready!(fallback.as_mut().poll(cx));
                }
            }
            self.gate = None;
        }
        Poll::Ready(())
    }

    fn finished(&mut self) {
        if let Some(home) = &self.home {
            home.finished.set(true);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        std::task::ready!(self.poll_gate(cx));
        self.touched = true;
        loop {
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            match std::task::ready!(Pin::new(incoming).poll_frame(cx)) {
                // Never forwarded: a peer may count empty frames as an attack.
                Some(Ok(frame))
                    if frame.data_ref().is_some_and(Bytes::is_empty) && !self.is_end_stream() => {}
                Some(Ok(frame)) => {
                    if let Some(home) = &self.home {
                        home.frames.set(home.frames.get() + 1);
                    }
                    if self.is_end_stream() {
                        self.finished();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.finished();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (Some(body), Some(home)) = (self.incoming.take(), &self.home) {
            if !self.touched {
                *home.body.borrow_mut() = Some(body);
            } else if body.is_end_stream() {
                home.finished.set(true);
            }
        }
    }
}
