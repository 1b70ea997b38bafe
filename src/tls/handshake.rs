//! One handshake, and how handshakes ended.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::server::TlsServer;

/// The first byte of every TLS connection: a record of type handshake (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new session.
    Full,
    /// A session of before goes on.
    Resumed,
    /// The client sent HTTP without TLS.
    PlainHttp,
    /// The client left before it was done.
    Left,
    /// The client refused, for example the certificate.
    Refused,
    /// No agreement: version, cipher, protocol, or bytes that are no TLS.
    Failed,
    /// It was not done in time.
    Timeout,
}

impl Outcome {
    /// Every outcome, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::Resumed,
        Self::PlainHttp,
        Self::Left,
        Self::Refused,
        Self::Failed,
        Self::Timeout,
    ];

    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::PlainHttp => "plain_http",
            Self::Left => "left",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        }
    }
}

/// Handshakes by outcome.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; Outcome::ALL.len()]);

/// What came of a handshake.
#[derive(Debug)]
pub enum Handshake {
    /// The connection is encrypted.
    Done(Box<TlsStream<TcpStream>>),
    /// The client speaks HTTP without TLS; nothing of what it said was read.
    PlainHttp(TcpStream),
    /// It came to nothing.
    Failed,
}

impl TlsServer {
    /// Makes the handshake of an accepted connection and counts it. Takes as long as the client
    /// does: the caller bounds it, and counts [`Outcome::Timeout`].
    pub async fn handshake(&self, stream: TcpStream) -> Handshake {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE_RECORD => {}
            // The first letter of a method.
            Ok(1) if first[0].is_ascii_alphabetic() => {
                self.count(Outcome::PlainHttp);
                return Handshake::PlainHttp(stream);
            }
            Ok(1..) => {
                self.count(Outcome::Failed);
                return Handshake::Failed;
            }
            Ok(0) | Err(_) => {
                self.count(Outcome::Left);
                return Handshake::Failed;
            }
        }
        let acceptor = TlsAcceptor::from(std::sync::Arc::clone(&self.config));
        match acceptor.accept(stream).await {
            Ok(stream) => {
                let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                self.count(if resumed { Outcome::Resumed } else { Outcome::Full });
                Handshake::Done(Box::new(stream))
            }
            Err(error) => {
                let outcome = outcome(&error);
                tracing::debug!(%error, outcome = outcome.word(), "TLS handshake");
                self.count(outcome);
                Handshake::Failed
            }
        }
    }

    /// Counts a handshake.
    pub fn count(&self, outcome: Outcome) {
        self.counts.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Handshakes so far.
    pub fn handshakes(&self) -> [(Outcome, u64); Outcome::ALL.len()] {
        Outcome::ALL.map(|o| (o, self.counts.0[o as usize].load(Ordering::Relaxed)))
    }
}

fn outcome(error: &io::Error) -> Outcome {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(_)) => Outcome::Refused,
        Some(_) => Outcome::Failed,
        None => Outcome::Left,
    }
}
