//! A socket that hyper drives and others can look at.
//!
//! The handle is shared because hyper does not say what must be known: whether a client left while
//! its body is unread, what was written before an attempt failed, and the socket itself once a
//! connection has ended (to discard the rest of an upload, or to reset it).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection of either kind.
#[derive(Debug)]
pub enum Socket {
    /// A real one.
    Tcp(TcpStream),
    /// A real one of a client that speaks TLS. Bytes are counted as they are inside.
    Tls(Box<TlsStream<TcpStream>>),
    /// In memory, for tests and simulation on paused time.
    Memory(DuplexStream),
}

impl Socket {
    /// The connection below, if there is one.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Memory(_) => None,
        }
    }
}

/// What went over a socket.
#[derive(Debug, Default)]
pub struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
    ended: AtomicBool,
    stalled: AtomicBool,
}

impl Traffic {
    /// Bytes read.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes written.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes in both directions.
    pub fn bytes(&self) -> u64 {
        self.bytes_read().wrapping_add(self.bytes_written())
    }

    /// Whether the last write found no room: something is waiting to go out.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Notes how a write went.
    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        self.stalled.store(result.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(n)) = result {
            add(&self.written, *n);
        }
    }

    /// Notes what was read; nothing is the end.
    fn read(&self, n: usize) {
        if n == 0 {
            self.ended.store(true, Ordering::Relaxed);
        }
        add(&self.read, n);
    }

    /// Whether the peer's end was read.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    traffic: Traffic,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    /// Closing is to be a reset: nothing is said any more.
    reset: bool,
    /// Read by one who handed the connection on; it comes first. Mostly empty.
    unread: Vec<u8>,
}

/// A handle to a socket; all handles are the same socket. Only one task may read and write.
#[derive(Clone, Debug)]
pub struct SharedIo(Arc<Shared>);

impl SharedIo {
    /// Shares a socket.
    pub fn new(socket: Socket) -> Self {
        let inner = Mutex::new(Inner { socket, reset: false, unread: Vec::new() });
        Self(Arc::new(Shared { inner, traffic: Traffic::default() }))
    }

    /// Gives back what was read, for the next reader of this socket.
    pub fn unread(&self, bytes: Vec<u8>) {
        self.0.inner.lock().unread = bytes;
    }

    /// Ready when a read may find something. In memory that cannot be told: always.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0.inner.lock().socket {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Tls(stream) => match stream.get_ref() {
                (tcp, session) if session.wants_read() => tcp.poll_read_ready(cx),
                // Something is decrypted already.
                _ => Poll::Ready(Ok(())),
            },
            Socket::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads into the room that a buffer has left, without looking at what was unread; 0 is the
    /// end.
    pub fn poll_fill(&self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let result = match &mut self.0.inner.lock().socket {
            Socket::Tcp(stream) => std::pin::pin!(stream.read_buf(buf)).poll(cx),
            Socket::Tls(stream) => std::pin::pin!(stream.read_buf(buf)).poll(cx),
            Socket::Memory(stream) => std::pin::pin!(stream.read_buf(buf)).poll(cx),
        };
        if let Poll::Ready(Ok(n)) = &result {
            self.0.traffic.read(*n);
        }
        result
    }

    /// Writes as much as there is room for.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = match &mut self.0.inner.lock().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.0.traffic.wrote(&result);
        result
    }

    /// The same for several pieces at once.
    pub fn poll_send_vectored(
        &self,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.0.inner.lock().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Socket::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        };
        self.0.traffic.wrote(&result);
        result
    }

    /// Whether an idle connection is as it should be: open, and with nothing to read. Costs no
    /// system call unless something came.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let quiet = match &mut self.0.inner.lock().socket {
            Socket::Tcp(stream) => {
                matches!(stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
            Socket::Tls(stream) => is_pending(stream, &mut byte),
            Socket::Memory(stream) => is_pending(stream, &mut byte),
        };
        quiet && !self.0.traffic.has_ended()
    }

    /// What went over it.
    pub fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// Whether the peer closed or reset the connection, also behind bytes that nobody has read
    /// yet. Costs no system call. In memory only an end that was read is seen.
    pub fn is_closed_by_peer(&self) -> bool {
        if self.0.traffic.has_ended() {
            return true;
        }
        let inner = self.0.inner.lock();
        let Some(stream) = inner.socket.tcp() else { return false };
        let mut ready = std::pin::pin!(stream.ready(Interest::READABLE));
        match ready.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Closing will reset the connection, so that a cut response cannot look complete.
    pub fn reset_on_close(&self) {
        let mut inner = self.0.inner.lock();
        inner.reset = true;
        if let Some(stream) = inner.socket.tcp() {
            // A socket that refuses it is gone already.
            drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }

    /// Sends what was written and is not on its way yet: encrypted bytes that found no room.
    pub fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.inner.lock().socket {
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tcp(_) | Socket::Memory(_) => Poll::Ready(Ok(())),
        }
    }

    /// Tells the peer of a TLS connection that this is its end (RFC 8446 §6.1), as far as that
    /// goes without waiting; not where the connection is to look cut.
    pub fn say_goodbye(&self) {
        let inner = &mut *self.0.inner.lock();
        if let Socket::Tls(stream) = &mut inner.socket
            && !inner.reset
        {
            // A peer that has no room for it, or is gone, will not miss it.
            drop(Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop())));
        }
    }

    /// Reads and discards until the peer ends, `bytes` were read or `time` has passed: a peer that
    /// is still sending would lose the answer to a reset otherwise.
    pub async fn discard(&mut self, bytes: u64, time: Duration) {
        use tokio::io::AsyncWriteExt as _;
        let discard = async {
            // Our side is done; the peer sees the end of the answer.
            if self.shutdown().await.is_err() {
                return;
            }
            let mut buffer = vec![0_u8; 16 * 1024];
            let mut left = bytes;
            while left > 0 {
                match self.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => left = left.saturating_sub(n as u64),
                }
            }
        };
        // Either end of it is fine: the socket is dropped next.
        drop(tokio::time::timeout(time, discard).await);
    }
}

impl AsyncRead for SharedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let inner = &mut *self.0.inner.lock();
        if !inner.unread.is_empty() {
            let n = inner.unread.len().min(buf.remaining());
            buf.put_slice(&inner.unread[..n]);
            inner.unread.drain(..n);
            if inner.unread.is_empty() {
                inner.unread = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let result = match &mut inner.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if let Poll::Ready(Ok(())) = &result {
            let n = buf.filled().len() - before;
            if n > 0 || buf.remaining() > 0 {
                self.0.traffic.read(n);
            }
        }
        result
    }
}

impl AsyncWrite for SharedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.inner.lock().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.inner.lock().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Whether there is nothing to read, and no end.
fn is_pending(stream: &mut (impl AsyncRead + Unpin), byte: &mut [u8]) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(byte)).is_pending()
}

/// Single writer: the task that drives the socket.
fn add(counter: &AtomicU64, n: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n as u64), Ordering::Relaxed);
}
