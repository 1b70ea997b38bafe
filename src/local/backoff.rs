//! How long a revision whose replicas fail waits before the next start.

use std::time::Duration;

use tokio::time::Instant;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(10);
/// A replica that was ready for this long is no sign of a loop.
const HEALTHY: Duration = Duration::from_secs(30);

/// 0.1 s doubling to 10 s, reset by a replica that was ready for 30 s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    next: Option<Duration>,
    until: Option<Instant>,
}

impl Backoff {
    /// A replica failed that had been ready since `ready_since`.
    pub(super) fn failed(&mut self, now: Instant, ready_since: Option<Instant>) {
        let healthy =
            ready_since.is_some_and(|since| now.saturating_duration_since(since) >= HEALTHY);
        if healthy {
            self.next = None;
        } else if self.waiting(now).is_some() {
            // Replicas that fail together are one failure.
            return;
        }
        let wait = self.next.unwrap_or(FIRST);
        self.until = Some(now + wait);
        self.next = Some((wait * 2).min(LONGEST));
    }

    /// Until when no replica may be started.
    pub(super) fn waiting(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_clear(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now.saturating_duration_since(until) > LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn doubles_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let now = Instant::now();
            assert_eq!(backoff.waiting(now), None);
            backoff.failed(now, Some(now));
            let until = backoff.waiting(now).expect("waits");
            waits.push((until - now).as_millis());
            tokio::time::sleep_until(until).await;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_together_counts_once() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..5 {
            backoff.failed(now, None);
        }
        assert_eq!(backoff.waiting(now), Some(now + FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn thirty_seconds_of_ready_reset() {
        let mut backoff = Backoff::default();
        for _ in 0..6 {
            let now = Instant::now();
            backoff.failed(now, None);
            tokio::time::sleep_until(backoff.waiting(now).expect("waits")).await;
        }
        let ready = Instant::now();
        tokio::time::sleep(HEALTHY - Duration::from_millis(1)).await;
        let mut early = backoff;
        early.failed(Instant::now(), Some(ready));
        assert_eq!(
            early.waiting(Instant::now()),
            Some(Instant::now() + Duration::from_millis(6_400))
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
        backoff.failed(Instant::now(), Some(ready));
        assert_eq!(backoff.waiting(Instant::now()), Some(Instant::now() + FIRST));
    }
}
