//! Connections to one endpoint that wait for their next request.

use std::cell::RefCell;
use std::time::Duration;

use crate::model::Nanos;

/// How long an idle connection is reused when the endpoint does not say how long it keeps it:
/// below the shortest default in use (gunicorn: 2 s).
const IDLE_DEFAULT: Duration = Duration::from_millis(1_500);
/// Taken off what the endpoint says, so that its end and our request do not cross.
const IDLE_MARGIN: Duration = Duration::from_secs(1);
/// Idle connections kept to one endpoint by one worker.
const IDLE_MAX: usize = 256;

/// How long a connection may be idle after a response with this `Keep-Alive` header; none if it
/// must not be used again.
pub fn keep_for(keep_alive: Option<&[u8]>) -> Option<Duration> {
    let seconds = keep_alive.and_then(|value| {
        let text = std::str::from_utf8(value).ok()?;
        text.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.trim().parse().ok())
    });
    match seconds {
        Some(seconds) => Duration::from_secs(seconds).checked_sub(IDLE_MARGIN),
        None => Some(IDLE_DEFAULT),
    }
}

#[derive(Debug)]
struct Entry<T> {
    connection: T,
    since: Nanos,
    until: Nanos,
}

/// Idle connections, the last used one first.
#[derive(Debug)]
pub(super) struct Idle<T>(RefCell<Vec<Entry<T>>>);

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Idle<T> {
    /// The connection that was used last and is still good, and how long it was idle.
    pub(super) fn take(&self, now: Nanos, good: impl Fn(&T) -> bool) -> Option<(T, Duration)> {
        let mut entries = self.0.borrow_mut();
        while let Some(Entry { connection, since, until }) = entries.pop() {
            if now < until && good(&connection) {
                return Some((connection, now.since(since)));
            }
        }
        None
    }

    /// Keeps a connection, unless there are enough.
    pub(super) fn put(&self, connection: T, now: Nanos, keep: Duration) {
        let mut entries = self.0.borrow_mut();
        if entries.len() < IDLE_MAX {
            entries.push(Entry { connection, since: now, until: now.plus(keep) });
        }
    }

    /// Closes what is too old or no longer good.
    pub(super) fn sweep(&self, now: Nanos, good: impl Fn(&T) -> bool) {
        self.0.borrow_mut().retain(|entry| entry.until > now && good(&entry.connection));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_long_as_the_endpoint_says_less_a_second() {
        let keep = |value: &'static str| keep_for(Some(value.as_bytes()));
        assert_eq!(keep_for(None), Some(IDLE_DEFAULT));
        assert_eq!(keep("timeout=5"), Some(Duration::from_secs(4)));
        assert_eq!(keep("max=100, timeout=60"), Some(Duration::from_secs(59)));
        assert_eq!(keep("timeout=0"), None);
        assert_eq!(keep("max=3"), Some(IDLE_DEFAULT));
    }

    #[test]
    fn the_last_used_good_one_that_is_not_too_old() {
        let idle = Idle::default();
        let second = |n: u64| Nanos(n * 1_000_000_000);
        for (n, keep) in [(1, 9), (2, 9), (3, 1)] {
            idle.put(n, second(n), Duration::from_secs(keep));
        }
        let taken = idle.take(second(5), |n| *n != 2);
        assert_eq!(taken, Some((1, Duration::from_secs(4))), "3 is too old, 2 is not good");
        assert!(idle.is_empty());
    }
}
