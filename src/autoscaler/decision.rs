//! What was decided lately, and why: kept per revision for the admin API and `why`.

use std::collections::VecDeque;
use std::time::Duration;

use super::clamp::Clamps;

/// Decisions kept per revision.
const KEPT: usize = 100;
/// Decisions kept of a revision at rest: ten thousand of them are to stay small.
const KEPT_AT_REST: usize = 20;

/// Who asked for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The tick, every two seconds.
    Tick,
    /// A request for a revision at zero.
    Poke,
    /// More requests waited than ready and starting replicas have slots.
    Eager,
}

impl Cause {
    /// Its stable token.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Poke => "poke",
            Self::Eager => "eager",
        }
    }
}

/// One decision with its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// When, since the start of the clock.
    pub at: Duration,
    /// When, in milliseconds since the Unix epoch (start of the process by the wall clock, plus
    /// `at`).
    pub unix_ms: u64,
    /// Who asked.
    pub cause: Cause,
    /// Average over the stable window, in the revision's metric.
    pub stable: f64,
    /// Average over the panic window.
    pub panic: f64,
    /// Ready replicas.
    pub ready: u32,
    /// Starting replicas.
    pub starting: u32,
    /// Waiting requests.
    pub waiting: u32,
    /// Replicas that the load alone asks for.
    pub raw: u32,
    /// Replicas that the decider asked for, before bounds and the steps to zero.
    pub decided: u32,
    /// Replicas that were stated, after everything.
    pub desired: u32,
    /// Every rule that had a say between `raw` and `desired`.
    pub clamps: Clamps,
    /// Whether it was made in panic.
    pub panicking: bool,
    /// Excess burst capacity in requests; −1 also stands for a target burst capacity of −1.
    pub excess_burst: i64,
}

/// The newest decisions, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(VecDeque<Decision>);

impl Log {
    pub(super) fn push(&mut self, decision: Decision) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(decision);
    }

    /// The revision went to rest.
    pub(super) fn shrink(&mut self) {
        self.0.drain(..self.0.len().saturating_sub(KEPT_AT_REST));
        self.0.shrink_to_fit();
    }

    /// What is kept, with wall clock times.
    pub(super) fn recent(&self, start_unix_ms: u64) -> Vec<Decision> {
        let dated = |decision: &Decision| {
            let since = u64::try_from(decision.at.as_millis()).unwrap_or(u64::MAX);
            Decision { unix_ms: start_unix_ms.saturating_add(since), ..*decision }
        };
        self.0.iter().map(dated).collect()
    }
}
