//! The wall clock of a run: it goes with the paused clock.

use std::cell::Cell;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// 2030-01-01.
const START_S: i64 = 1_893_456_000;

thread_local! {
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A run begins.
pub(super) fn begin() {
    BEGUN.set(Some(Instant::now()));
}

/// Time since the run began.
pub(super) fn elapsed() -> std::time::Duration {
    BEGUN.get().map_or(std::time::Duration::ZERO, |begun| begun.elapsed())
}

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let start = Timestamp::from_second(START_S).unwrap();
    start + SignedDuration::try_from(elapsed()).unwrap()
}
