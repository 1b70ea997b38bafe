//! How fast a cold endpoint of an unlimited revision may be filled.
//!
//! Thousands of waiting requests would fall on the first replica at once. It gets `target` of
//! them, and no more until it answered that many; from then on twice as many each second.

use std::time::Duration;

use crate::stats::Nanos;

const DOUBLING: Duration = Duration::from_secs(1);

/// How many requests an endpoint may hold at once, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// `containerConcurrency`.
    Fixed(u32),
    /// Cold, no limit of its own: filled step by step.
    Metered(Meter),
    /// Warm and without limit.
    Open,
}

impl Limit {
    /// Whether one more fits beside `held`.
    pub(super) fn admits(self, held: u32) -> bool {
        #[cfg(planted)]
        let held =
            held - u32::from(held > 0 && super::planted::is(super::planted::Bug::OneTooMany));
        match self {
            Self::Fixed(limit) => held < limit,
            Self::Metered(meter) => held < meter.allowed,
            Self::Open => true,
        }
    }
}

/// The metering of one cold endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meter {
    allowed: u32,
    unanswered: u32,
    doubled_at: Option<Nanos>,
}

impl Meter {
    /// A meter that starts with `target` requests.
    pub(super) fn new(target: u32) -> Self {
        let target = target.max(1);
        Self { allowed: target, unanswered: target, doubled_at: None }
    }

    /// The endpoint answered a request.
    pub(super) fn answered(&mut self, now: Nanos) {
        if self.unanswered > 0 {
            self.unanswered -= 1;
            if self.unanswered == 0 {
                self.double(now);
            }
        }
    }

    /// Takes the doublings that are due; true if the allowance grew.
    pub(super) fn advance(&mut self, now: Nanos) -> bool {
        let before = self.allowed;
        while let Some(at) = self.doubled_at
            && now.since(at) >= DOUBLING
        {
            self.double(at.plus(DOUBLING));
        }
        self.allowed != before
    }

    /// Whether it answered its first `target` requests.
    pub(super) fn is_proven(&self) -> bool {
        self.unanswered == 0
    }

    fn double(&mut self, at: Nanos) {
        self.allowed = self.allowed.saturating_mul(2);
        self.doubled_at = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_first_then_doubling_each_second() {
        let second = |n: u64| Nanos(n * 1_000_000_000);
        let mut meter = Meter::new(3);
        assert!(Limit::Metered(meter).admits(2));
        assert!(!Limit::Metered(meter).admits(3));
        assert!(!meter.advance(second(100)), "no time makes it grow before it answered");
        for _ in 0..3 {
            assert!(!meter.is_proven());
            meter.answered(second(100));
        }
        assert!(meter.is_proven());
        assert_eq!(meter.allowed, 6);
        assert!(!meter.advance(Nanos(second(101).0 - 1)));
        assert!(meter.advance(second(101)));
        assert_eq!(meter.allowed, 12);
        assert!(meter.advance(second(104)));
        assert_eq!(meter.allowed, 96, "each passed second doubles once");
    }
}
