//! How many replicas each revision is to have.
//!
//! ```text
//! stats ──each second──▶ windows ──▶ decider ──▶ bounds, steps to zero ──▶ process' bound ──▶ count
//!   └──poke: at once──────────────────────▲
//! ```
//!
//! The pure parts ([`Window`], [`Decider`], [`Scaler`], [`zero`]) reproduce Knative's recorded
//! decisions; [`Autoscaler`] runs them for all revisions on one task with one timer. Revisions at
//! rest cost nothing.

mod clamp;
mod decider;
mod decision;
mod entry;
mod estimate;
mod max_window;
mod misc;
mod multiscaler;
mod run;
mod share;
mod weighted;
mod window;
pub mod zero;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{RevisionId, RevisionSpec};
use crate::stats::{Clock, Pokes, RevisionStats};

pub use clamp::{Clamp, Clamps};
pub use decider::{Averages, Decider, Facts, Outcome};
pub use decision::{Cause, Decision};
pub use estimate::{Estimate, estimate};
pub use max_window::MaxWindow;
pub use misc::{bounds, num_activators};
pub use multiscaler::{Sample, Scaler, Status, Ticked};
pub use window::Window;

/// Bounds of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessLimits {
    /// At most so many replicas over all revisions whose replicas tidegate starts
    /// (`--max-replicas`); none = no bound.
    pub max_replicas: Option<u32>,
}

/// A revision is to have so many replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Which revision.
    pub revision: RevisionId,
    /// How many replicas.
    pub desired: u32,
}

/// What is known of a revision from before a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Replicas it was to have.
    pub replicas: u32,
    /// Whether as many replicas as `initial-scale` asks for were ready once.
    pub initialized: bool,
}

/// A revision's scaler as metrics and people see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalerView {
    /// Whether it is active, that is sampled and decided upon.
    pub active: bool,
    /// Replicas stated.
    pub desired: u32,
    /// Replicas wanted before the process' bound.
    pub wanted: u32,
    /// Average over the stable window, in the revision's metric.
    pub stable: f64,
    /// Average over the panic window.
    pub panic: f64,
    /// Load per replica aimed at.
    pub target: f64,
    /// Whether it is in panic.
    pub panicking: bool,
    /// Excess burst capacity of the last decision.
    pub excess_burst: i64,
    /// The Active condition.
    pub condition: zero::Active,
    /// Whether as many replicas as `initial-scale` asks for were ready once; to be kept over a
    /// restart.
    pub initialized: bool,
}

/// The autoscaler of all revisions. Its methods may be called from any thread.
#[derive(Debug)]
pub struct Autoscaler {
    pokes: Arc<Pokes>,
    clock: Clock,
    /// Wall clock at the clock's start, in milliseconds since the Unix epoch; only for display.
    start_unix_ms: u64,
    state: Mutex<run::State>,
    /// Revisions were added, changed or removed.
    edited: Notify,
}

impl Autoscaler {
    /// An autoscaler without revisions. `pokes` are those that the revisions' stats poke, and
    /// `clock` the one they are read by.
    pub fn new(pokes: Arc<Pokes>, clock: Clock, limits: ProcessLimits) -> Self {
        let now = clock.now();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let start = wall.saturating_sub(Duration::from_nanos(now.0)).as_millis();
        Self {
            pokes,
            clock,
            start_unix_ms: u64::try_from(start).unwrap_or(u64::MAX),
            state: Mutex::new(run::State::new(limits, now)),
            edited: Notify::new(),
        }
    }

    /// Adds a revision that never had replicas, or gives a known one new settings: they take
    /// effect at once, and windows, panic and counts stay.
    pub fn upsert(&self, spec: Arc<RevisionSpec>, stats: Arc<RevisionStats>) {
        self.restore(spec, stats, Restored::default());
    }

    /// Adds a revision from before a restart: it gets the count it had, and keeps it as the
    /// original does when it is restarted beside running replicas, in panic for a stable window.
    /// For a known revision the same as [`Self::upsert`].
    pub fn restore(&self, spec: Arc<RevisionSpec>, stats: Arc<RevisionStats>, restored: Restored) {
        self.state.lock().upsert(spec, stats, restored, self.clock.now());
        self.edited.notify_one();
    }

    /// Forgets a revision. Nothing more is stated for it; ending its replicas is up to whoever
    /// removed it.
    pub fn remove(&self, revision: &RevisionId) {
        self.state.lock().remove(revision);
        self.edited.notify_one();
    }

    /// Whether load may be missing that others have to report. Then counts are kept or raised,
    /// never lowered.
    pub fn set_incomplete(&self, is_incomplete: bool) {
        self.state.lock().set_incomplete(is_incomplete);
    }

    /// What wakes it.
    pub const fn pokes(&self) -> &Arc<Pokes> {
        &self.pokes
    }

    /// The newest decisions of a revision, oldest first: about 100, fewer once it went to rest.
    pub fn recent(&self, revision: &RevisionId) -> Vec<Decision> {
        let state = self.state.lock();
        state.get(revision).map(|entry| entry.log.recent(self.start_unix_ms)).unwrap_or_default()
    }

    /// How a revision's scaler stands; none for an unknown revision.
    pub fn view(&self, revision: &RevisionId) -> Option<ScalerView> {
        let now = entry::time(self.clock.now());
        let state = self.state.lock();
        let entry = state.get(revision)?;
        let scaler = entry.awake.as_ref().map(|awake| &awake.scaler);
        let averages = scaler.and_then(|scaler| scaler.averages(now));
        Some(ScalerView {
            active: scaler.is_some(),
            desired: entry.granted,
            wanted: entry.wanted,
            stable: averages.map_or(0.0, |averages| averages.stable),
            panic: averages.map_or(0.0, |averages| averages.panic),
            target: entry.spec.scaling.target_value,
            panicking: scaler.is_some_and(|scaler| scaler.decider().panicking()),
            excess_burst: scaler.map_or_else(
                || multiscaler::excess_burst_at_rest(&entry.spec.scaling),
                |scaler| scaler.status().excess_burst,
            ),
            condition: entry.zero.active(),
            initialized: entry.zero.initialized(&entry.spec.scaling),
        })
    }

    /// Runs until it is dropped. `sink` is told the count of every active revision on every tick,
    /// and of a single one as soon as it changes; it must not block.
    pub async fn run(&self, mut sink: impl FnMut(Statement)) {
        loop {
            for statement in self.turn() {
                sink(statement);
            }
            let next = self.state.lock().next_turn();
            let timer = async {
                match next {
                    Some(next) => tokio::time::sleep_until(self.clock.instant(next)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.pokes.poked() => {}
                () = self.edited.notified() => {}
                () = timer => {}
            }
        }
    }

    /// One turn as of now.
    fn turn(&self) -> Vec<Statement> {
        self.state.lock().turn(&self.pokes, self.clock.now())
    }
}
