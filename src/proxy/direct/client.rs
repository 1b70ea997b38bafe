//! The client's end of a connection on the direct path.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use crate::proxy::body::Cut;
use crate::proxy::sweep::{Fired, Timer};
use crate::upstream::SharedIo;

use super::buffers::{Buffers, SMALL_BYTES};

/// A client's socket, and what was read from it.
pub(super) struct Client<'a> {
    pub(super) io: &'a SharedIo,
    /// Whether what was written may have to be sent on by us.
    pub(super) secure: bool,
    pub(super) buffers: &'a Buffers,
    /// Bytes of requests to come; has no memory when there are none.
    pub(super) input: Vec<u8>,
}

impl Client<'_> {
    /// Reads what there is; 0 is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            ready!(self.io.poll_readable(cx))?;
            self.input = self.buffers.small();
        }
        let read = self.io.poll_fill(cx, &mut self.input);
        if self.input.is_empty() {
            self.give_back();
        }
        read
    }

    /// Gives an empty buffer back.
    pub(super) fn give_back(&mut self) {
        self.buffers.give(std::mem::take(&mut self.input));
    }

    /// Takes the first bytes away.
    pub(super) fn consume(&mut self, bytes: usize) {
        if bytes == self.input.len() {
            self.give_back();
        } else {
            self.input.drain(..bytes);
        }
    }

    /// Ready when the client has left. Of further requests no more is read than fits the buffer:
    /// behind more than that an end is not seen, but by the sweep while the request waits.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < SMALL_BYTES {
            match ready!(self.poll_read(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Sends a head and what follows it; gives up when the request's time is over before the
    /// client has taken it.
    pub(super) async fn send(
        &self,
        timer: Option<&Timer>,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), End> {
        let mut sent = 0;
        poll_fn(|cx| {
            while sent < head.len() + body.len() {
                if let Some(fired) = timer.and_then(Timer::fired) {
                    return Poll::Ready(Err(End::from(fired)));
                }
                let left = head.get(sent..).filter(|left| !left.is_empty());
                let written = match left {
                    Some(left) if !body.is_empty() => {
                        self.io.poll_send_vectored(cx, &[IoSlice::new(left), IoSlice::new(body)])
                    }
                    Some(left) => self.io.poll_send(cx, left),
                    None => self.io.poll_send(cx, &body[sent - head.len()..]),
                };
                match written {
                    Poll::Ready(Ok(n)) if n > 0 => sent += n,
                    Poll::Ready(Ok(_) | Err(_)) => return Poll::Ready(Err(End::Gone)),
                    Poll::Pending => {
                        if let Some(timer) = timer {
                            timer.register(cx.waker());
                        }
                        return Poll::Pending;
                    }
                }
            }
            if self.secure {
                return self.poll_sent(timer, cx);
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ready when encrypted bytes are on their way, too.
    fn poll_sent(&self, timer: Option<&Timer>, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Some(fired) = timer.and_then(Timer::fired) {
            return Poll::Ready(Err(End::from(fired)));
        }
        if let Poll::Ready(sent) = self.io.poll_sent(cx) {
            return Poll::Ready(sent.map_err(|_gone| End::Gone));
        }
        if let Some(timer) = timer {
            timer.register(cx.waker());
        }
        Poll::Pending
    }
}

/// Why a response that had begun did not end.
#[derive(Debug)]
pub(super) enum End {
    /// Its rest is missing, or its time is over.
    Cut(Cut),
    /// The client left.
    Gone,
}

impl From<Fired> for End {
    fn from(fired: Fired) -> Self {
        match fired {
            Fired::Timeout(reason) => Self::Cut(Cut::Timeout(reason)),
            Fired::ClientGone => Self::Gone,
        }
    }
}
