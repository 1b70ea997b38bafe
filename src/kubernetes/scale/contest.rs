//! Two that write one count.
//!
//! A conflict names somebody else who wrote it since. One or two are a person or a rollout; the
//! third within a minute is somebody who goes on: then the count is left to them for five minutes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const CONFLICTS: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);
const LEFT_FOR: Duration = Duration::from_secs(300);

/// The conflicts of one count.
#[derive(Debug, Default)]
pub(super) struct Contest {
    conflicts: VecDeque<Instant>,
    left_until: Option<Instant>,
}

impl Contest {
    /// A write was refused; true if the count is left to somebody else from now on.
    pub(super) fn conflict(&mut self, now: Instant) -> bool {
        if self.is_contested(now) {
            return false;
        }
        self.forget_old(now);
        self.conflicts.push_back(now);
        if self.conflicts.len() < CONFLICTS {
            return false;
        }
        self.conflicts.clear();
        self.left_until = Some(now + LEFT_FOR);
        true
    }

    /// Whether it is left to somebody else.
    pub(super) fn is_contested(&self, now: Instant) -> bool {
        self.left_until.is_some_and(|until| now < until)
    }

    /// Whether nothing of it matters any more.
    pub(super) fn is_calm(&mut self, now: Instant) -> bool {
        self.forget_old(now);
        self.conflicts.is_empty() && !self.is_contested(now)
    }

    fn forget_old(&mut self, now: Instant) {
        while self.conflicts.front().is_some_and(|at| now - *at >= WITHIN) {
            self.conflicts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_within_a_minute() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut contest = Contest::default();
        let conflicts = [(0, false), (30, false), (61, false), (89, true)];
        for (second, expected) in conflicts {
            assert_eq!(contest.conflict(at(second)), expected, "{second}");
        }
        assert!(!contest.conflict(at(90)), "said once");
        assert!(contest.is_contested(at(388)) && !contest.is_contested(at(389)));
        assert!(contest.is_calm(at(389)));
    }
}
