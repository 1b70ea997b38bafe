//! How many attempts may be made again: a fifth of the requests of the last ten seconds, and ten
//! a second, so that a sick revision is not hit harder than it was.

use std::time::Duration;

use crate::stats::Nanos;

/// Attempts after the first that one request may have.
pub(super) const RETRIES_MAX: u32 = 2;
const HALF: Duration = Duration::from_secs(5);
const SHARE: f64 = 0.2;
const PER_SECOND: f64 = 10.0;

/// The budget of one revision on one worker. The last ten seconds are kept as two halves.
#[derive(Debug)]
pub(super) struct RetryBudget {
    half_began: Nanos,
    requests: [u32; 2],
    retries: [u32; 2],
}

impl RetryBudget {
    pub(super) fn new(now: Nanos) -> Self {
        Self { half_began: now, requests: [0; 2], retries: [0; 2] }
    }

    /// A request arrived.
    pub(super) fn request(&mut self, now: Nanos) {
        self.advance(now);
        self.requests[0] = self.requests[0].saturating_add(1);
    }

    /// Takes one retry, if there is one left.
    pub(super) fn take(&mut self, now: Nanos) -> bool {
        self.advance(now);
        let requests = f64::from(self.requests[0]) + f64::from(self.requests[1]);
        let allowed = requests * SHARE + PER_SECOND * 2.0 * HALF.as_secs_f64();
        let used = f64::from(self.retries[0]) + f64::from(self.retries[1]);
        let left = used + 1.0 <= allowed;
        if left {
            self.retries[0] += 1;
        }
        left
    }

    fn advance(&mut self, now: Nanos) {
        let passed = now.since(self.half_began);
        if passed < HALF {
            return;
        }
        let fresh = passed < HALF * 2;
        self.requests = [0, if fresh { self.requests[0] } else { 0 }];
        self.retries = [0, if fresh { self.retries[0] } else { 0 }];
        self.half_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_and_ten_a_second() {
        let second = |n: u64| Nanos(n * 1_000_000_000);
        let mut budget = RetryBudget::new(second(0));
        for _ in 0..1_000 {
            budget.request(second(1));
        }
        let taken = (0..1_000).filter(|_| budget.take(second(1))).count();
        assert_eq!(taken, 300, "200 of 1,000 requests, 100 of ten seconds");
        assert!(!budget.take(second(4)));
        assert!(budget.take(second(30)), "ten seconds later all is forgotten");
    }
}
