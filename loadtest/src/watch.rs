//! Looks at a tidegate again and again while it is under load: desired and ready replicas,
//! requests in flight and waiting.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::progress;
use crate::tidegate::{Admin, RevisionView};

/// Time between two lines that tell how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// What was seen at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was asked for.
    pub at: Instant,
    /// All revisions.
    pub revisions: Vec<RevisionView>,
}

/// Looks until it is stopped or dropped.
#[derive(Debug)]
pub struct Watcher {
    admin: watch::Sender<Admin>,
    task: JoinHandle<Vec<Sample>>,
}

impl Watcher {
    /// Looks at short intervals, and tells how far it is.
    pub fn start(admin: Admin, every: Duration) -> Self {
        let (admin, seen) = watch::channel(admin);
        Self { admin, task: tokio::spawn(look(seen, every)) }
    }

    /// From now on at this one: after a restart.
    pub fn follow(&self, admin: Admin) {
        self.admin.send_replace(admin);
    }

    /// Everything that was seen.
    pub async fn stop(self) -> Vec<Sample> {
        drop(self.admin);
        self.task.await.unwrap_or_default()
    }
}

async fn look(mut admin: watch::Receiver<Admin>, every: Duration) -> Vec<Sample> {
    let begun = Instant::now();
    let mut told = begun;
    let mut samples = Vec::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // An error tells that the other side is gone.
        if admin.has_changed().is_err() {
            return samples;
        }
        let now = *admin.borrow_and_update();
        let at = Instant::now();
        // One that restarts does not answer; that is a gap.
        let Ok(revisions) = now.revisions().await else { continue };
        let sample = Sample { at, revisions };
        if told.elapsed() >= TOLD_EVERY {
            told = at;
            progress(line(&sample, begun));
        }
        samples.push(sample);
    }
}

fn line(sample: &Sample, begun: Instant) -> String {
    let sum = |field: fn(&RevisionView) -> u64| sample.revisions.iter().map(field).sum::<u64>();
    format!(
        "  {:>4.0} s  in flight {}, waiting {}, replicas {} of {}",
        sample.at.saturating_duration_since(begun).as_secs_f64(),
        sum(|revision| revision.in_flight),
        sum(|revision| revision.waiting.into()),
        sum(|revision| revision.ready.into()),
        sum(|revision| revision.desired.into()),
    )
}

/// A number of some revisions over time, in seconds since `start`.
pub fn curve(
    samples: &[Sample],
    start: Instant,
    which: impl Fn(&RevisionView) -> bool,
    field: impl Fn(&RevisionView) -> u64,
) -> Vec<(f64, f64)> {
    samples
        .iter()
        .filter(|sample| sample.at >= start)
        .map(|sample| {
            let chosen = sample.revisions.iter().filter(|revision| which(revision));
            let sum = chosen.map(&field).sum::<u64>() as f64;
            ((sample.at - start).as_secs_f64(), sum)
        })
        .collect()
}

/// The greatest value of a curve.
pub fn peak(curve: &[(f64, f64)]) -> f64 {
    curve.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}
