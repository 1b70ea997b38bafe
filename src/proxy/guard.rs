//! What hyper reads of an HTTP/1 client: heads that have one meaning, and nothing else.
//!
//! hyper's parser makes up its mind about some heads that others read differently, and says nothing
//! of it: of a `Content-Length` beside a `Transfer-Encoding`, of a fragment in the target, of what
//! follows a request to switch protocols. So each head is looked at before it, and each body is
//! followed to its end. A head that is refused is replaced by a stand-in, which the answer to it is
//! made from; nothing behind it is read.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::model::Reason;
use crate::upstream::SharedIo;

use super::connection::HEAD_BYTES_MAX;
use super::framing::{Framing, Then};
use super::head::{Head, Judged, judge};

/// What hyper gets in place of a head that is refused; its answer has no body if the request was a
/// HEAD.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";
const STAND_IN_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: refused\r\n\r\n";
/// What is read at once while a head is not whole.
const READ_BYTES: usize = 8 * 1024;
/// What is kept of what comes before a switch of protocols is agreed to.
const EARLY_BYTES_MAX: usize = 16 * 1024;

/// Why a head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The token and the status.
    pub(super) reason: Reason,
    /// What is wrong, in words.
    pub(super) why: &'static str,
}

/// What is known of a request from its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why it is refused.
    pub(super) refused: Option<Refused>,
    /// It asks for another protocol: what follows it is no request, whatever the answer.
    pub(super) switches: bool,
}

/// Where in the stream of requests the next byte is.
#[derive(Debug)]
enum At {
    /// In a head.
    Head,
    /// In a body; whether its head asked for another protocol.
    Body(Framing, bool),
    /// Behind a request for another protocol that is not answered, or was refused.
    Asked,
    /// In a tunnel.
    Tunnel,
    /// Behind something that ends the connection.
    Over,
}

/// The state of one connection; shared by who reads and who answers. hyper wants it `Send`.
#[derive(Debug)]
pub(super) struct Guard(Mutex<State>);

#[derive(Debug)]
struct State {
    at: At,
    /// Read, and not yet passed on.
    input: Vec<u8>,
    /// Bytes at the start of `input` that may be passed on as they are.
    free: usize,
    /// Of heads that were passed on, and that nobody has answered yet.
    verdicts: VecDeque<Verdict>,
}

impl Guard {
    /// Of a connection whose next byte is a head's.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            at: At::Head,
            input: Vec::new(),
            free: 0,
            verdicts: VecDeque::new(),
        })))
    }

    /// The verdict on the request that is answered next.
    pub(super) fn verdict(&self) -> Verdict {
        self.0.lock().verdicts.pop_front().unwrap_or_default()
    }

    /// The switch of protocols was agreed to: what follows is not for us.
    pub(super) fn open_tunnel(&self) {
        let state = &mut *self.0.lock();
        state.at = At::Tunnel;
        state.free = state.input.len();
    }
}

impl State {
    /// Looks for a whole head in what was read, and lets it pass.
    fn look(&mut self) {
        if !matches!(self.at, At::Head) || self.free > 0 || self.input.is_empty() {
            return;
        }
        let verdict = match judge(&self.input, HEAD_BYTES_MAX) {
            Judged::Partial => return,
            Judged::Refused(refused, is_head) => {
                // hyper's to parse, and nothing else.
                self.input = if is_head { STAND_IN_HEAD } else { STAND_IN }.to_vec();
                self.free = self.input.len();
                self.at = At::Over;
                Verdict { refused: Some(refused), switches: false }
            }
            Judged::Plain(Head { bytes, framing, switches }) => {
                self.free = bytes;
                self.at = match framing {
                    Framing::Length(0) if switches => At::Asked,
                    Framing::Length(0) => At::Head,
                    framing => At::Body(framing, switches),
                };
                Verdict { refused: None, switches }
            }
        };
        self.verdicts.push_back(verdict);
    }

    /// Follows a body through bytes that are passed on; says how many of them are its.
    fn follow(at: &mut At, bytes: &[u8]) -> io::Result<usize> {
        let At::Body(framing, switches) = at else { return Ok(bytes.len()) };
        let piece = framing.consume(bytes);
        match piece.then {
            Then::More => Ok(bytes.len()),
            Then::End => {
                *at = if *switches { At::Asked } else { At::Head };
                Ok(piece.taken)
            }
            Then::Malformed => {
                *at = At::Over;
                Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not well chunked"))
            }
        }
    }

    /// Passes on what was read before and may pass: a head, and what there is of its body.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        self.look();
        let n = self.free.min(buf.remaining());
        self.free -= n;
        let mut end = n;
        if self.free == 0 && matches!(self.at, At::Body(..)) {
            let more = (self.input.len() - n).min(buf.remaining() - n);
            if more > 0 {
                end += Self::follow(&mut self.at, &self.input[n..n + more])?;
            }
        }
        buf.put_slice(&self.input[..end]);
        self.input.drain(..end);
        if self.input.is_empty() {
            // An idle connection keeps no buffer.
            self.input = Vec::new();
        }
        Ok(end > 0)
    }
}

/// A client's socket behind its guard.
#[derive(Debug)]
pub(super) struct Guarded {
    io: SharedIo,
    guard: Arc<Guard>,
}

impl Guarded {
    pub(super) fn new(io: SharedIo, guard: Arc<Guard>) -> Self {
        Self { io, guard }
    }

    /// Reads more into the guard's own buffer; 0 is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Not zeroed: that would cost more than the rest of a request's reading.
        let mut room = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.guard.0.lock().input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Reads a piece of a body, or of a tunnel, without a copy.
    fn poll_through(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let followed = State::follow(&mut self.guard.0.lock().at, &buf.filled()[before..]);
        let taken = match followed {
            Ok(taken) => taken,
            Err(error) => {
                buf.set_filled(before);
                return Poll::Ready(Err(error));
            }
        };
        let end = before + taken;
        if end < buf.filled().len() {
            self.guard.0.lock().input.extend_from_slice(&buf.filled()[end..]);
            buf.set_filled(end);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let (early, kept) = {
                let mut state = this.guard.0.lock();
                if state.pass(buf)? {
                    return Poll::Ready(Ok(()));
                }
                let early = match state.at {
                    At::Body(..) | At::Tunnel => None,
                    At::Head => Some(false),
                    At::Asked | At::Over => Some(true),
                };
                (early, state.input.len())
            };
            let Some(early) = early else { return this.poll_through(cx, buf) };
            if early && kept >= EARLY_BYTES_MAX {
                return Poll::Pending;
            }
            // The end of the connection, unless something is before it.
            match ready!(this.poll_more(cx))? {
                0 if early && kept > 0 => return Poll::Pending,
                0 => return Poll::Ready(Ok(())),
                _ => {}
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
