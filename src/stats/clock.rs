//! Tokio's clock as a number of nanoseconds.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Nanos, nanos_of};

/// Tokio's clock, counted from one moment; paused with it in tests.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(self) -> Nanos {
        self.at(Instant::now())
    }

    /// A moment of tokio's as nanoseconds.
    pub fn at(self, instant: Instant) -> Nanos {
        Nanos(nanos_of(instant.saturating_duration_since(self.start)))
    }

    /// Nanoseconds as a moment of tokio's.
    pub fn instant(self, nanos: Nanos) -> Instant {
        self.start + Duration::from_nanos(nanos.0)
    }
}
