//! One connection, from the first word of both sides to its end, over whatever carries bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::Loss;
use super::wire::{ALIVE, BYE, CUT, HELLO, Hello, codec, frame, split, word};

/// Whoever says nothing for so long is cut off.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// How often something is said.
const ALIVE_EVERY: Duration = Duration::from_millis(200);
/// A last word takes no longer.
const LAST_WORD: Duration = Duration::from_millis(200);
/// Messages that may wait for a peer.
const QUEUE: usize = 256;
/// Bytes of them.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// What waits to be sent to one peer.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
    /// Has the session end with this last word.
    last: watch::Sender<Option<&'static str>>,
}

/// The session's end of it.
#[derive(Debug)]
pub(super) struct Outgoing {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
    last: watch::Receiver<Option<&'static str>>,
}

/// A queue of one session.
pub(super) fn queue() -> (Queue, Outgoing) {
    let (frames, taken) = mpsc::channel(QUEUE);
    let (last, asked) = watch::channel(None);
    let bytes = Arc::new(AtomicUsize::new(0));
    let outgoing = Outgoing { frames: taken, bytes: Arc::clone(&bytes), last: asked };
    (Queue { frames, bytes, last }, outgoing)
}

#[cfg(test)]
impl Outgoing {
    /// What waits to be sent.
    pub(super) fn try_next(&mut self) -> Option<Bytes> {
        self.frames.try_recv().ok()
    }
}

impl Queue {
    /// Adds a message unless too much waits already.
    pub(super) fn push(&self, frame: Bytes) -> bool {
        let length = frame.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        // One is always taken, however large.
        let fits = before == 0 || before + length <= QUEUE_BYTES;
        if fits && self.frames.try_send(frame).is_ok() {
            return true;
        }
        self.bytes.fetch_sub(length, Ordering::Relaxed);
        false
    }

    /// Ends the session with a goodbye, after what waits.
    pub(super) fn say_bye(&self) {
        self.last.send_replace(Some(BYE));
    }

    /// Ends the session: this side lives on.
    pub(super) fn cut(&self) {
        self.last.send_replace(Some(CUT));
    }

    /// Whether both belong to the same session.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.frames.same_channel(&other.frames)
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it did not say who it is in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("it does not speak this protocol")]
    Unknown,
    #[error(
        "it speaks versions {theirs:?}, this one {ours:?}: update one version at a time, and let \
         each update end before the next"
    )]
    Version { ours: (u32, u32), theirs: (u32, u32) },
}

/// A connection on which both sides have said who they are.
#[derive(Debug)]
pub(super) struct Session<S> {
    reader: FramedRead<ReadHalf<S>, LengthDelimitedCodec>,
    writer: FramedWrite<WriteHalf<S>, LengthDelimitedCodec>,
    /// Who the other side is.
    pub(super) peer: Hello,
}

impl<S: AsyncRead + AsyncWrite> Session<S> {
    /// Says who this is, and hears who that is.
    ///
    /// # Errors
    /// See [`HelloError`].
    pub(super) async fn open(stream: S, me: &Hello) -> Result<Self, HelloError> {
        let (reader, writer) = tokio::io::split(stream);
        let mut reader = FramedRead::new(reader, codec());
        let mut writer = FramedWrite::new(writer, codec());
        let said = timeout(SILENCE, async {
            writer.send(frame(HELLO, me).ok_or(HelloError::Unknown)?).await?;
            reader.next().await.ok_or(HelloError::Unknown)?.map_err(HelloError::Io)
        });
        let said = said.await??;
        let (kind, body) = split(&said);
        let peer: Hello = (kind == HELLO.as_bytes())
            .then(|| serde_json::from_slice(body).ok())
            .flatten()
            .ok_or(HelloError::Unknown)?;
        if me.agree(&peer).is_none() {
            let (ours, theirs) = ((me.oldest, me.newest), (peer.oldest, peer.newest));
            return Err(HelloError::Version { ours, theirs });
        }
        Ok(Self { reader, writer, peer })
    }

    /// Carries messages both ways until the connection is over.
    pub(super) async fn run(
        self,
        outgoing: Outgoing,
        mut received: impl FnMut(&[u8], &[u8]),
    ) -> Loss {
        let Self { mut reader, mut writer, .. } = self;
        let Outgoing { mut frames, bytes, mut last } = outgoing;
        let reading = async {
            loop {
                // What has come is looked at before the clock: this process may have been stopped.
                match timeout(SILENCE, reader.next()).await {
                    Ok(Some(Ok(frame))) => match split(&frame) {
                        (kind, _) if kind == BYE.as_bytes() => return Loss::Ended,
                        (kind, _) if kind == CUT.as_bytes() => return Loss::CutOff,
                        (kind, body) => received(kind, body),
                    },
                    Ok(Some(Err(error))) => return loss(&error),
                    Ok(None) => return Loss::Dead,
                    Err(_elapsed) => return Loss::CutOff,
                }
            }
        };
        let writing = async {
            let mut alive = interval(ALIVE_EVERY);
            alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let next = tokio::select! {
                    biased;
                    Some(frame) = frames.recv() => {
                        bytes.fetch_sub(frame.len(), Ordering::Relaxed);
                        frame
                    }
                    Ok(word) = last.wait_for(Option::is_some) => return *word,
                    _ = alive.tick() => word(ALIVE),
                };
                // How the connection broke, the reader sees.
                if writer.send(next).await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        // The writer's word is a copy: nothing is locked here.
        let (loss, word_left) = tokio::select! {
            biased;
            loss = reading => (loss, Some(CUT)),
            word = writing => (Loss::CutOff, word),
        };
        if let Some(last) = word_left.filter(|_| loss == Loss::CutOff) {
            let saying = async {
                writer.send(word(last)).await?;
                futures_util::SinkExt::<Bytes>::close(&mut writer).await
            };
            // It may not be there to hear it.
            drop(timeout(LAST_WORD, saying).await);
        }
        loss
    }
}

/// What a broken connection says of the other side: its kernel closes what its process had open.
fn loss(error: &io::Error) -> Loss {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        // The codec's, for an end in the middle of a frame.
        | io::ErrorKind::Other => Loss::Dead,
        _ => Loss::CutOff,
    }
}
