//! Notices that an HTTP/2 endpoint says goodbye (GOAWAY, RFC 9113 §6.8): the library tells nobody
//! until the next request fails, and then not whether the endpoint has seen it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::SharedIo;

/// Length of a frame's header (RFC 9113 §4.1).
const HEADER_BYTES: usize = 9;
const GOAWAY: u8 = 7;

/// Follows the frames of a byte stream by their headers.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the payload that are to come.
    left: usize,
}

impl Frames {
    /// Whether a GOAWAY frame begins in these bytes, which follow those seen before.
    fn has_goaway(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return found;
            }
            let taken = (HEADER_BYTES - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER_BYTES {
                let [a, b, c, kind, ..] = self.header;
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
                found |= kind == GOAWAY;
            }
        }
    }
}

/// A socket to an HTTP/2 endpoint. Once the endpoint has said goodbye, its end is read as an error:
/// so requests that it left unanswered fail differently from those that it says it never saw.
#[derive(Debug)]
pub(super) struct Listening {
    io: SharedIo,
    frames: Frames,
    said: Rc<Cell<bool>>,
}

impl Listening {
    pub(super) fn new(io: SharedIo) -> Self {
        Self { io, frames: Frames::default(), said: Rc::default() }
    }

    /// Whether goodbye was said; true from then on.
    pub(super) fn said(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.said)
    }
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            if self.frames.has_goaway(read) {
                self.said.set(true);
            }
        } else if self.said.get() && buf.remaining() > 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Whether an endpoint says by its goodbye that it has not seen a request.
pub(super) fn is_unseen(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let header = [length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
        [&header[..], &vec![GOAWAY; payload]].concat()
    }

    #[test]
    fn goaway_is_found_wherever_reads_end() {
        let before = [frame(4, 0), frame(0, 70_000), frame(6, 8)].concat();
        let all = [before.clone(), frame(GOAWAY, 8), frame(0, 3)].concat();
        for size in [1, 2, 7, 9, 10, 4096, all.len()] {
            let mut frames = Frames::default();
            let mut seen = 0;
            let mut found = None;
            for piece in all.chunks(size) {
                seen += piece.len();
                if frames.has_goaway(piece) {
                    assert_eq!(found.replace(seen), None, "found once");
                }
            }
            let end = before.len() + HEADER_BYTES;
            assert_eq!(found, Some(end.div_ceil(size).saturating_mul(size).min(all.len())));
        }
    }
}
