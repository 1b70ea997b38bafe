//! Why an attempt failed, and what that allows.

use std::fmt;

use crate::model::Reason;

/// How much of the request reached the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Not one byte: the request may go to another endpoint, whatever it is.
    Nothing,
    /// Bytes were written to a connection that had been idle, and nothing came back: most likely
    /// it was closed meanwhile. Only what is idempotent and whole may be tried again.
    Unanswered,
    /// The endpoint may have acted on it.
    Some,
}

/// A failed attempt.
#[derive(Debug)]
pub struct SendError {
    /// The token for the client.
    pub reason: Reason,
    /// How much was sent.
    pub sent: Sent,
    /// In words.
    pub message: String,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SendError {}
