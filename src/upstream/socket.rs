//! A socket that hyper drives and others can look at.
//!
//! The handle is shared because hyper does not say what must be known: whether a client left while
//! its body is unread, what was written before an attempt failed, and the socket itself once a
//! connection has ended (to discard the rest of an upload, or to reset it).

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A connection of either kind.
#[derive(Debug)]
pub enum Socket {
    /// A real one.
    Tcp(TcpStream),
    /// In memory, for tests and simulation on paused time.
    Memory(DuplexStream),
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

    /// Whether the peer's end was read.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Shared {
    socket: Mutex<Socket>,
    traffic: Traffic,
    /// What was looked at in memory and not yet read.
    ahead: Mutex<Vec<u8>>,
}

/// A handle to a socket; all handles are the same socket. Only one task may read and write.
#[derive(Clone, Debug)]
pub struct SharedIo(Arc<Shared>);

impl SharedIo {
    /// Shares a socket.
    pub fn new(socket: Socket) -> Self {
        let (socket, traffic, ahead) = (Mutex::new(socket), Traffic::default(), Mutex::default());
        Self(Arc::new(Shared { socket, traffic, ahead }))
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
        match &*self.0.socket.lock() {
            Socket::Tcp(stream) => {
                let mut ready = std::pin::pin!(stream.ready(Interest::READABLE));
                match ready.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(ready)) => ready.is_read_closed(),
                    Poll::Ready(Err(_)) => true,
                    Poll::Pending => false,
                }
            }
            Socket::Memory(_) => false,
        }
    }

    /// Looks at the first bytes without taking them.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| match &mut *self.0.socket.lock() {
            Socket::Tcp(stream) => stream.poll_peek(cx, &mut ReadBuf::new(buffer)),
            Socket::Memory(stream) => peek_memory(stream, &mut self.0.ahead.lock(), buffer, cx),
        })
        .await
    }

    /// Closing will reset the connection, so that a cut response cannot look complete.
    pub fn reset_on_close(&self) {
        if let Socket::Tcp(stream) = &*self.0.socket.lock() {
            // A socket that refuses it is gone already.
            drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }

    /// Reads and discards until the peer ends, `bytes` were read or `time` has passed: a peer that
    /// is still sending would lose the answer to a reset otherwise.
    pub async fn discard(&mut self, bytes: u64, time: Duration) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
        let result = match &mut *self.0.socket.lock() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Memory(stream) => {
                let mut ahead = self.0.ahead.lock();
                if ahead.is_empty() {
                    Pin::new(stream).poll_read(cx, buf)
                } else {
                    let n = ahead.len().min(buf.remaining());
                    buf.put_slice(&ahead[..n]);
                    ahead.drain(..n);
                    Poll::Ready(Ok(()))
                }
            }
        };
        if let Poll::Ready(Ok(())) = &result {
            let n = buf.filled().len() - before;
            if n == 0 && buf.remaining() > 0 {
                self.0.traffic.ended.store(true, Ordering::Relaxed);
            }
            add(&self.0.traffic.read, n);
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
        let result = match &mut *self.0.socket.lock() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.0.traffic.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut *self.0.socket.lock() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.0.traffic.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.socket.lock() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.socket.lock() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A pipe cannot be peeked at: what is seen is read, and kept in `ahead`.
fn peek_memory(
    stream: &mut DuplexStream,
    ahead: &mut Vec<u8>,
    buffer: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut more = vec![0; buffer.len().saturating_sub(ahead.len())];
    let mut read = ReadBuf::new(&mut more);
    match Pin::new(stream).poll_read(cx, &mut read) {
        Poll::Ready(Ok(())) => ahead.extend_from_slice(read.filled()),
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        Poll::Pending if ahead.is_empty() => return Poll::Pending,
        Poll::Pending => {}
    }
    let n = ahead.len().min(buffer.len());
    buffer[..n].copy_from_slice(&ahead[..n]);
    Poll::Ready(Ok(n))
}

/// Single writer: the task that drives the socket.
fn add(counter: &AtomicU64, n: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n as u64), Ordering::Relaxed);
}

impl Socket {
    /// The peer of a real socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Memory(_) => None,
        }
    }
}
