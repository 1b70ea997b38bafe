//! One connection: which version it speaks, and its requests.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::http;
use super::state::State;

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const STREAMS: u32 = 1024;
const STREAM_WINDOW: u32 = 64 * 1024;

/// Serves a connection to its end. `alive` is held as long as it, or a tunnel out of it, lives.
pub(super) async fn serve(mut stream: TcpStream, state: Arc<State>, alive: mpsc::Sender<()>) {
    let _ = stream.set_nodelay(true);
    let mut stop = state.stop();
    let sniffed = tokio::select! {
        sniffed = sniff(&mut stream) => sniffed,
        () = stop.asked() => return,
    };
    let Ok((read, is_http2)) = sniffed else { return };
    let io = TokioIo::new(Rewound { read, stream });
    let service = service_fn(move |request| {
        let (state, alive) = (Arc::clone(&state), alive.clone());
        async move { Ok::<_, Infallible>(http::answer(state, alive, request).await) }
    });
    if is_http2 {
        let mut connection = std::pin::pin!(
            http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(STREAMS)
                .max_pending_accept_reset_streams(Some(STREAMS as usize))
                .initial_stream_window_size(STREAM_WINDOW)
                // Streams that are not read must not hold up their neighbours.
                .initial_connection_window_size(STREAMS * STREAM_WINDOW)
                .serve_connection(io, service)
        );
        tokio::select! {
            _ = &mut connection => return,
            () = stop.asked() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut connection =
            std::pin::pin!(http1::Builder::new().serve_connection(io, service).with_upgrades());
        tokio::select! {
            _ = &mut connection => return,
            () = stop.asked() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// Reads until it is certain which version the client speaks; returns what was read.
async fn sniff(stream: &mut TcpStream) -> io::Result<(Bytes, bool)> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    loop {
        let length = read.len();
        if read[..] != PREFACE[..length] {
            return Ok((read.freeze(), false));
        }
        if length == PREFACE.len() {
            return Ok((read.freeze(), true));
        }
        let mut rest = (&mut *stream).take((PREFACE.len() - length) as u64);
        if rest.read_buf(&mut read).await? == 0 {
            return Ok((read.freeze(), false));
        }
    }
}

/// A stream whose first bytes were read already.
struct Rewound {
    read: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.has_remaining() {
            let length = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
