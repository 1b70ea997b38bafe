//! Connections of clients: HTTP/1.1 or HTTP/2 over duplex pipes, and what clients do to bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use crate::body::Drip;
use crate::replica::Local;

/// What a client does to its own direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sending {
    /// It ends behind the first request.
    pub(crate) half_close: bool,
    /// So many bytes at a time, with a pause between.
    pub(crate) drip: Option<(usize, Duration)>,
}

/// A client's end of a connection.
struct ClientIo {
    stream: DuplexStream,
    sending: Sending,
    wrote: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        let piece = self.sending.drip.map_or(usize::MAX, |(piece, _)| piece);
        let piece = &buf[..buf.len().min(piece)];
        let n = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, piece))?;
        self.wrote = true;
        if let Some((_, pause)) = self.sending.drip {
            self.sleep = Some(Box::pin(tokio::time::sleep(pause)));
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.wrote && self.sending.half_close {
            std::task::ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Ends what drives a connection, and with it the connection.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Drip<()>>),
    Http2(http2::SendRequest<Drip<()>>),
}

/// Whether a request without a response was never sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsent(pub(crate) bool);

/// A connection, or a share of one; dropping the last of it closes it.
#[derive(Debug)]
pub(crate) struct Line {
    sender: Sender,
    _driver: std::rc::Rc<Driver>,
}

impl Line {
    /// A connection that speaks HTTP/1.1.
    pub(crate) async fn http1(stream: DuplexStream, sending: Sending) -> Self {
        let io = ClientIo { stream, sending, wrote: false, sleep: None };
        let (sender, driver) =
            http1::handshake(TokioIo::new(io)).await.expect("nothing is sent yet");
        Self { sender: Sender::Http1(sender), _driver: drive(driver.with_upgrades()) }
    }

    /// A connection that speaks HTTP/2; none if its other end is gone already.
    pub(crate) async fn http2(stream: DuplexStream) -> Option<Self> {
        let (sender, driver) = http2::handshake(Local, TokioIo::new(stream)).await.ok()?;
        Some(Self { sender: Sender::Http2(sender), _driver: drive(driver) })
    }

    /// Another share of an HTTP/2 connection.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let sender = Sender::Http2(sender.clone());
        (!self.is_closed()).then(|| Self { sender, _driver: std::rc::Rc::clone(&self._driver) })
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until another request can be sent; false if none can.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request. Where there is no response, says whether nothing of it was sent: its end
    /// and the connection's crossed.
    pub(crate) async fn send(
        &mut self,
        request: Request<Drip<()>>,
    ) -> Result<Response<Incoming>, Unsent> {
        let unsent = |mut error: hyper::client::conn::TrySendError<Request<Drip<()>>>| {
            Unsent(error.take_message().is_some())
        };
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await.map_err(unsent),
            Sender::Http2(sender) => sender.try_send_request(request).await.map_err(unsent),
        }
    }
}

fn drive<E>(driver: impl Future<Output = Result<(), E>> + 'static) -> std::rc::Rc<Driver> {
    let driver = tokio::task::spawn_local(async move {
        // How a connection ends shows in its requests.
        drop(driver.await);
    });
    std::rc::Rc::new(Driver(driver.abort_handle()))
}
