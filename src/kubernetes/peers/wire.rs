//! What goes over a connection: frames with a length before them (four bytes, big endian), in each
//! a word, the end of a line, and JSON. Unknown words and unknown fields are ignored, so that a
//! version and the one before it work together.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio_util::codec::LengthDelimitedCodec;

use super::PeerId;

/// Versions that this program speaks, oldest and newest. A change that others need not know of is
/// no new version.
pub(super) const VERSIONS: (u32, u32) = (1, 1);
/// Largest frame in bytes.
pub(super) const FRAME_MAX: usize = 4 * 1024 * 1024;

/// First word of both sides.
pub(super) const HELLO: &str = "hello";
/// Said when there is nothing else to say.
pub(super) const ALIVE: &str = "alive";
/// Last word of a proxy that has no request any more.
pub(super) const BYE: &str = "bye";
/// Last word on a connection that is given up: whoever says it lives on.
pub(super) const CUT: &str = "cut";

/// Who one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Oldest version that it speaks.
    pub(super) oldest: u32,
    /// Newest version that it speaks.
    pub(super) newest: u32,
    /// Its name.
    pub(super) id: PeerId,
    /// Its pod.
    pub(super) pod: String,
}

impl Hello {
    pub(super) fn new(id: PeerId, pod: &str) -> Self {
        Self { oldest: VERSIONS.0, newest: VERSIONS.1, id, pod: pod.to_owned() }
    }

    /// The newest version that both speak.
    pub(super) fn agree(&self, other: &Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// The frames of a connection.
pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_MAX).new_codec()
}

/// A frame; none if it would be too large.
pub(super) fn frame(kind: &str, body: &impl Serialize) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(256);
    bytes.put_slice(kind.as_bytes());
    bytes.put_u8(b'\n');
    let mut writer = bytes.writer();
    match serde_json::to_writer(&mut writer, body) {
        Ok(()) => {}
        Err(error) => {
            tracing::error!(%error, kind, "a message to other proxies cannot be written");
            return None;
        }
    }
    let bytes = writer.into_inner();
    if bytes.len() > FRAME_MAX {
        tracing::warn!(kind, bytes = bytes.len(), "a message to other proxies is too large");
        return None;
    }
    Some(bytes.freeze())
}

/// A word alone.
pub(super) fn word(word: &'static str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(word.len() + 3);
    bytes.put_slice(word.as_bytes());
    bytes.put_slice(b"\n{}");
    bytes.freeze()
}

/// Word and body of a frame; a frame without the end of a line has no body.
pub(super) fn split(frame: &[u8]) -> (&[u8], &[u8]) {
    match frame.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&frame[..at], &frame[at + 1..]),
        None => (frame, &[]),
    }
}
