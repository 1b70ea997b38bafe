//! A replica's end of a connection: it can stand still with its replica, and say what is not HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::Instant;

/// Whether a replica moves at all. Of one thread; hyper asks for more of what can be upgraded.
#[derive(Debug, Default)]
pub(crate) struct Valve {
    hung: AtomicBool,
    ever: AtomicBool,
    /// When it went on.
    went_on: Mutex<Option<Instant>>,
    open: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

impl Valve {
    /// From now on nothing moves, or everything again.
    pub(crate) fn set_hung(&self, hung: bool) {
        self.hung.store(hung, Ordering::Relaxed);
        if hung {
            self.ever.store(true, Ordering::Relaxed);
        } else {
            *self.went_on.lock() = Some(Instant::now());
            let wakers = std::mem::take(&mut *self.wakers.lock());
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn is_hung(&self) -> bool {
        self.hung.load(Ordering::Relaxed)
    }

    /// Whether it has been moving for a while, so that it knows who has left.
    pub(crate) fn is_current(&self) -> bool {
        let fresh = |at: Instant| at.elapsed() < Duration::from_secs(2);
        !self.is_hung() && !self.went_on.lock().is_some_and(fresh)
    }

    /// Whether it ever stood still.
    pub(crate) fn ever_hung(&self) -> bool {
        self.ever.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn moves(&self, cx: &Context<'_>) -> bool {
        let hung = self.is_hung();
        if hung {
            self.wakers.lock().push(cx.waker().clone());
        }
        !hung
    }
}

/// What is said instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Garbage {
    Noise,
    HalfAHead,
    BadLength,
    TwoLengths,
    EndlessHead,
    BadChunk,
    /// An answer, and another one that nobody asked for.
    Unasked,
}

impl Garbage {
    pub(crate) const ALL: [Self; 7] = [
        Self::Noise,
        Self::HalfAHead,
        Self::BadLength,
        Self::TwoLengths,
        Self::EndlessHead,
        Self::BadChunk,
        Self::Unasked,
    ];

    /// The words, given what would have been said.
    fn words(self, answer: &[u8]) -> Vec<u8> {
        let head = "HTTP/1.1 200 OK\r\n";
        match self {
            Self::Noise => (0..200_u8).map(|n| n.wrapping_mul(73) ^ 0x55).collect(),
            Self::HalfAHead => format!("{head}content-le").into_bytes(),
            Self::BadLength => format!("{head}content-length: 1x\r\n\r\nab").into_bytes(),
            Self::TwoLengths => {
                format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nab").into_bytes()
            }
            Self::EndlessHead => format!("{head}x: {}\r\n", "y".repeat(80_000)).into_bytes(),
            Self::BadChunk => {
                format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\nab\r\n").into_bytes()
            }
            Self::Unasked => {
                let unasked = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong";
                [answer, unasked].concat()
            }
        }
    }
}

/// What is to be said next on a connection.
pub(crate) type Mouth = Arc<Mutex<Option<Garbage>>>;

/// A replica's end of a connection.
#[derive(Debug)]
pub(crate) struct Tap {
    stream: DuplexStream,
    valve: Arc<Valve>,
    mouth: Mouth,
    /// What goes out before anything else.
    words: Vec<u8>,
    /// Nothing more after that.
    last: bool,
}

impl Tap {
    pub(crate) fn new(stream: DuplexStream, valve: &Arc<Valve>, mouth: &Mouth) -> Self {
        valve.open.fetch_add(1, Ordering::Relaxed);
        let (valve, mouth) = (Arc::clone(valve), Arc::clone(mouth));
        Self { stream, valve, mouth, words: Vec::new(), last: false }
    }

    /// Says what is to be said first; then it may be that nothing more is.
    fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.words.is_empty() {
            let n = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &self.words))?;
            self.words.drain(..n);
        }
        if self.last {
            std::task::ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.valve.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.valve.moves(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.valve.moves(cx) {
            return Poll::Pending;
        }
        std::task::ready!(self.poll_words(cx))?;
        let garbage = self.mouth.lock().take();
        if let Some(garbage) = garbage {
            self.words = garbage.words(buf);
            self.last = garbage != Garbage::Unasked;
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.valve.moves(cx) {
            return Poll::Pending;
        }
        std::task::ready!(self.poll_words(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.valve.moves(cx) {
            return Poll::Pending;
        }
        std::task::ready!(self.poll_words(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
