//! Time as a number of nanoseconds, so that it fits an atomic.

use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds since the clock's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Time passed since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `duration` later.
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

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
        let nanos = instant.saturating_duration_since(self.start).as_nanos();
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Nanoseconds as a moment of tokio's.
    pub fn instant(self, nanos: Nanos) -> Instant {
        self.start + Duration::from_nanos(nanos.0)
    }
}
