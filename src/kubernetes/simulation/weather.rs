//! What goes wrong in a run: most of it not at all, some of it often.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

/// How often what goes wrong, as parts of one; drawn from the seed.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// 409 without a reason that anybody could do something about.
    conflict: f64,
    /// 429 with `Retry-After`.
    busy: f64,
    /// 500, 503, 504.
    broken: f64,
    /// The call never arrives.
    lost_call: f64,
    /// It is done, and nobody hears of it.
    lost_answer: f64,
    /// The answer takes up to so long.
    slow: f64,
    slow_ms: u64,
    /// Time to and fro of a usual call.
    usual_ms: u64,
    /// A watch lasts no longer than this, in seconds.
    watch_s: Option<u64>,
    /// An event of a watch comes so late, in milliseconds.
    late_ms: u64,
    /// A list is of an older revision.
    stale: f64,
    /// Old revisions are forgotten.
    pub(super) is_forgetful: bool,
    pub(super) outages: bool,
    pub(super) partitions: bool,
    pub(super) freezes: bool,
    pub(super) crashes: bool,
    /// Replicas of tidegate.
    pub(super) replicas: usize,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Conflict,
    Busy(u32),
    Broken(u16),
    LostCall,
    LostAnswer,
}

/// What happens to one watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The connection breaks.
    Breaks,
    /// It ends as if all was well.
    Ends,
    /// The API server says that the revision is too old.
    Expires,
    /// The API server says that something went wrong inside of it.
    Fails,
    /// It falls silent.
    Stalls,
}

impl Weather {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut some = |most: f64| if rng.u8(..3) == 0 { rng.f64() * most } else { 0.0 };
        let (conflict, busy, broken) = (some(0.3), some(0.3), some(0.3));
        let (lost_call, lost_answer, slow, stale) = (some(0.1), some(0.15), some(0.3), some(0.8));
        let mut sometimes = || rng.u8(..3) == 0;
        let (is_forgetful, outages, partitions) = (sometimes(), sometimes(), sometimes());
        let (freezes, crashes) = (sometimes(), sometimes());
        Self {
            conflict,
            busy,
            broken,
            lost_call,
            lost_answer,
            slow,
            slow_ms: rng.u64(100..12_000),
            usual_ms: rng.u64(1..40),
            watch_s: rng.bool().then(|| rng.u64(2..40)),
            late_ms: if rng.u8(..3) == 0 { rng.u64(..6000) } else { 10 },
            stale,
            is_forgetful,
            outages,
            partitions,
            freezes,
            crashes,
            replicas: rng.usize(1..=3),
        }
    }

    /// Nothing goes wrong any more.
    pub(super) fn calm_down(&mut self) {
        let replicas = self.replicas;
        *self = Self {
            conflict: 0.0,
            busy: 0.0,
            broken: 0.0,
            lost_call: 0.0,
            lost_answer: 0.0,
            slow: 0.0,
            slow_ms: 0,
            usual_ms: 5,
            watch_s: None,
            late_ms: 10,
            stale: 0.0,
            is_forgetful: false,
            outages: false,
            partitions: false,
            freezes: false,
            crashes: false,
            replicas,
        };
    }

    pub(super) fn fault(&self, rng: &mut Rng, is_write: bool) -> Fault {
        let mut happens = |chance: f64| chance > 0.0 && rng.f64() < chance;
        if is_write && happens(self.conflict) {
            Fault::Conflict
        } else if happens(self.busy) {
            Fault::Busy(rng.u32(1..5))
        } else if happens(self.broken) {
            Fault::Broken([500, 503, 504][rng.usize(..3)])
        } else if happens(self.lost_call) {
            Fault::LostCall
        } else if happens(self.lost_answer) {
            Fault::LostAnswer
        } else {
            Fault::None
        }
    }

    /// How long a call takes, each way.
    pub(super) fn way(&self, rng: &mut Rng) -> Duration {
        let is_slow = self.slow > 0.0 && rng.f64() < self.slow;
        let most = if is_slow { self.slow_ms } else { self.usual_ms };
        Duration::from_millis(rng.u64(..=most))
    }

    /// What becomes of a watch that begins now, and when.
    pub(super) fn fate(&self, rng: &mut Rng) -> Option<(Instant, Fate)> {
        let most = self.watch_s?;
        let at = Instant::now() + Duration::from_millis(rng.u64(..=most * 1000));
        let fates = [Fate::Breaks, Fate::Ends, Fate::Expires, Fate::Fails, Fate::Stalls];
        Some((at, fates[rng.usize(..fates.len())]))
    }

    /// How late the next event of a watch is.
    pub(super) fn late(&self, rng: &mut Rng) -> Duration {
        Duration::from_millis(rng.u64(..=self.late_ms))
    }

    /// Whether a list is an old one.
    pub(super) fn is_stale(&self, rng: &mut Rng) -> bool {
        self.stale > 0.0 && rng.f64() < self.stale
    }
}
