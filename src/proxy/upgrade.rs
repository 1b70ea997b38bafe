//! An upgraded connection: bytes in both directions, one request for its life.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::relay::Relay;
use super::sweep::Timer;

/// Carries bytes until either side ends or a timer fires.
pub(super) async fn tunnel(
    mut relay: Box<Relay>,
    client: OnUpgrade,
    replica: OnUpgrade,
    idle: Option<Duration>,
) {
    let exchange = &mut relay.exchange;
    let _counted = exchange.worker.shared.count_tunnel();
    let timer = Rc::clone(exchange.timer());
    let pause_after = exchange.local.with_spec(|spec| spec.queue.idle_connection);
    timer.upgraded(pause_after);
    timer.response_started(idle, None, exchange.worker.shared.clock.now());
    let both = async { Ok::<_, hyper::Error>((client.await?, replica.await?)) };
    let Ok((client, replica)) = both.await else { return };
    let mut client = Touching::new(client, &timer);
    let mut replica = Touching::new(replica, &timer);
    let copy = tokio::io::copy_bidirectional(&mut client, &mut replica);
    let mut copy = std::pin::pin!(copy);
    std::future::poll_fn(|cx| {
        if timer.fired().is_some() {
            return Poll::Ready(());
        }
        let copied = copy.as_mut().poll(cx);
        exchange.set_paused(timer.is_paused());
        if copied.is_ready() {
            return Poll::Ready(());
        }
        timer.register(cx.waker());
        Poll::Pending
    })
    .await;
}

/// An end of a tunnel that tells the timer of every byte it reads.
struct Touching {
    io: TokioIo<Upgraded>,
    timer: Rc<Timer>,
}

impl Touching {
    fn new(io: Upgraded, timer: &Rc<Timer>) -> Self {
        Self { io: TokioIo::new(io), timer: Rc::clone(timer) }
    }
}

impl AsyncRead for Touching {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        let n = buf.filled().len() - before;
        if n > 0 {
            self.timer.touch(n);
        }
        result
    }
}

impl AsyncWrite for Touching {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
