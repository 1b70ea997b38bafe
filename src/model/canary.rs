//! A canary: a new revision that gets more traffic only as long as it does no worse than the old
//! one beside it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RevisionId, Tally, UnixNanos};

/// How a canary is judged: `tidegate.dev/rollout: canary` and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryRules {
    /// Shares of the traffic that moves, in per cent, ascending, each 1–99; all of it comes after.
    pub steps: Arc<[u8]>,
    /// Least time of a step.
    pub step_time: Duration,
    /// Answers without an error that a step needs of the new revision.
    pub samples: u64,
    /// Hundredths of a per cent of the requests by which the new one's errors may exceed the old
    /// one's.
    pub max_errors: u32,
    /// Per cent of the old one's time that the new one's answers may take, 100 or more.
    pub max_latency: u32,
}

impl Default for CanaryRules {
    fn default() -> Self {
        Self {
            steps: [5, 25, 50].into(),
            step_time: Duration::from_secs(30),
            samples: 100,
            max_errors: 100,
            max_latency: 150,
        }
    }
}

/// What was counted of two revisions over the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// How long that was.
    pub over: Duration,
    /// Of the old revision.
    pub old: Tally,
    /// Of the new one.
    pub new: Tally,
}

/// One revision's part of what was seen, to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Requests that ended, those whose client left not counted.
    pub requests: u64,
    /// Those among them that failed.
    pub errors: u64,
    /// Median time of the others, in microseconds.
    pub median_us: u64,
    /// The time that 95 % of them took at most, in microseconds.
    pub p95_us: u64,
}

/// What was seen of both revisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The old one.
    pub old: Figures,
    /// The new one.
    pub new: Figures,
}

/// Why a canary is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Harm {
    /// More of its requests fail.
    Errors,
    /// Its answers take longer at the median.
    Median,
    /// Its slowest 5 % of answers take longer.
    P95,
    /// Its replicas cannot be started.
    CannotStart,
}

/// That a canary was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenBack {
    /// Why.
    pub harm: Harm,
    /// When.
    pub at: UnixNanos,
    /// Per cent that it had.
    pub share: u8,
    /// What was seen; none where it did not get so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Compared>,
}

/// How far a canary is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryState {
    /// The step it is at, counted from 0.
    #[serde(default)]
    pub step: usize,
    /// Since when that step's share is in effect; unset until then.
    #[serde(default, skip_serializing_if = "UnixNanos::is_unset")]
    pub since: UnixNanos,
    /// How often the tests were made.
    #[serde(default)]
    pub looks: u32,
    /// Requests of the new revision at the last of them.
    #[serde(default)]
    pub looked_at: u64,
    /// What was seen at the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Compared>,
    /// Set for good when it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
}

/// A canary of a service, in progress or taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The tag that it is about; none for the service's own hosts.
    pub tag: Option<Arc<str>>,
    /// The revision that had the traffic before.
    pub old: RevisionId,
    /// The one that is tried.
    pub new: RevisionId,
    /// Per cent that the new one has of the service's or tag's traffic.
    pub share: u8,
    /// Per cent that both have.
    pub of: u8,
    /// By what it is judged.
    pub rules: Arc<CanaryRules>,
    /// How far it is; looks are not told.
    pub state: CanaryState,
}
