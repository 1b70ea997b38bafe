//! One revision as the runtime keeps it. At rest it is a few words; while active it has windows
//! and a decider.

use std::sync::Arc;
use std::time::Duration;

use super::Restored;
use super::clamp::{Clamp, Clamps};
use super::decider::Outcome;
use super::decision::{Cause, Decision, Log};
use super::misc::bounds;
use super::multiscaler::{Sample, Scaler};
use super::zero::{Active, StepFacts, ZeroState};
use crate::model::{RevisionSpec, Workload};
use crate::stats::{Nanos, Reading, RevisionStats};

/// Extra decisions of one revision are at least this far apart.
pub(super) const EAGER_INTERVAL: Duration = Duration::from_millis(100);

/// How long after the first request at 0 the requests that came with it are counted. That first
/// decision is no extra one: a burst would otherwise wait an interval for all but its first replica.
pub(super) const BURST_WINDOW: Duration = Duration::from_millis(10);

/// A moment as the pure code wants it.
pub(super) fn time(now: Nanos) -> Duration {
    Duration::from_nanos(now.0)
}

/// Whole seconds of a moment.
pub(super) fn second(now: Nanos) -> u64 {
    now.0 / 1_000_000_000
}

/// What an active revision has on top.
#[derive(Debug)]
pub(super) struct Awake {
    pub(super) scaler: Scaler,
    /// Sums at the last sample.
    last: Reading,
    /// The second that the last sample was recorded at.
    second: u64,
    /// What a poke has already recorded of the running second.
    reported: f64,
    /// Concurrency and arrivals elsewhere in the last second.
    elsewhere: (f64, f64),
    /// When the last extra decision was made.
    eager_at: Option<Nanos>,
    /// When to look again before the next tick.
    pub(super) recheck: Option<Nanos>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: Arc<RevisionSpec>,
    pub(super) stats: Arc<RevisionStats>,
    pub(super) zero: ZeroState,
    /// The count after bounds and the steps to zero.
    pub(super) wanted: u32,
    /// The count after the process' bound: what is stated.
    pub(super) granted: u32,
    /// When it was last granted more than before.
    pub(super) granted_at: Option<Nanos>,
    /// What of the wanted count is in the sum that the process' bound is compared with.
    pub(super) counted: u32,
    pub(super) log: Log,
    /// A decision of this turn that waits for the process' bound.
    pending: Option<Decision>,
    /// Arrivals up to when it went to rest.
    arrivals_at_rest: u64,
    /// The count it had before a restart, until it wakes.
    restored: u32,
    pub(super) awake: Option<Box<Awake>>,
}

impl Entry {
    /// A revision, and what is known of it from before a restart.
    pub(super) fn new(
        spec: Arc<RevisionSpec>,
        stats: Arc<RevisionStats>,
        restored: Restored,
        now: Nanos,
    ) -> Self {
        let initialized = restored.initialized;
        let mut zero = ZeroState::new(initialized, time(now));
        let restored = bounds(i64::from(restored.replicas), 0, spec.scaling.max_scale);
        let restored = u32::try_from(restored).unwrap_or(0);
        let wanted = zero.resting_count(&spec.scaling).max(restored);
        if wanted == 0 && stats.ready() == 0 {
            zero = ZeroState::with(Active::NoTraffic, time(now), initialized);
        }
        zero.observe(&spec.scaling, None, stats.ready(), true, time(now));
        Self {
            zero,
            wanted,
            granted: 0,
            granted_at: None,
            counted: 0,
            log: Log::default(),
            pending: None,
            arrivals_at_rest: stats.read(now).arrivals,
            restored,
            awake: None,
            spec,
            stats,
        }
    }

    /// New settings for the same revision.
    pub(super) fn update(
        &mut self,
        spec: Arc<RevisionSpec>,
        stats: Arc<RevisionStats>,
        now: Nanos,
    ) {
        if let Some(awake) = self.awake.as_mut().filter(|_| spec.scaling != self.spec.scaling) {
            awake.scaler.update(spec.scaling.clone(), time(now));
        }
        if !Arc::ptr_eq(&stats, &self.stats) {
            let reading = stats.read(now);
            self.arrivals_at_rest = reading.arrivals;
            if let Some(awake) = &mut self.awake {
                (awake.last, awake.reported) = (reading, 0.0);
            }
            self.stats = stats;
        }
        self.spec = spec;
        let resting = self.zero.resting_count(&self.spec.scaling);
        if self.awake.is_none() && resting > 0 {
            self.wanted = resting;
            self.zero = ZeroState::new(self.zero.initialized(&self.spec.scaling), time(now));
        }
    }

    /// Whether it has or wants replicas, or has requests: only then it costs ticks.
    pub(super) fn is_active(&self, now: Nanos) -> bool {
        self.wanted > 0 || self.stats.ready() > 0 || self.stats.starting() > 0 || self.is_busy(now)
    }

    /// Whether a request is in flight or waits, here or elsewhere.
    pub(super) fn is_busy(&self, now: Nanos) -> bool {
        self.stats.waiting_everywhere() > 0
            || self.stats.in_flight_elsewhere() > 0
            || self.stats.read(now).in_flight > 0
    }

    /// Whether its replicas count towards the process' bound.
    pub(super) fn is_bounded(&self) -> bool {
        matches!(self.spec.workload, Workload::Process(_))
    }

    /// Whether its count means something: replicas that were found are not to be ended before the
    /// first decision.
    pub(super) fn is_decided(&self) -> bool {
        let undecided = |awake: &Awake| awake.scaler.status().desired.is_none();
        self.wanted > 0 || !self.awake.as_deref().is_some_and(undecided)
    }

    /// Whether the load alone, and what is always to be there, ask for no replica.
    pub(super) fn is_decided_zero(&self) -> bool {
        let decided = self.awake.as_ref().and_then(|awake| awake.scaler.status().desired);
        decided == Some(0) && self.zero.resting_count(&self.spec.scaling) == 0
    }

    /// Begins to sample. A revision that has replicas without having been asked for any decides
    /// at the next tick, as the original after a restart; one without starts at 0, so that a
    /// request decides at once. One that is restored goes on from its count.
    pub(super) fn wake(&mut self, now: Nanos) {
        let restored = std::mem::take(&mut self.restored);
        let ready = self.stats.ready().max(restored);
        let found = self.wanted == 0 && (ready > 0 || self.stats.starting() > 0);
        let desired = (!found).then_some(restored);
        let scaler = Scaler::new(self.spec.scaling.clone(), desired, ready, time(now));
        // In flight from now on, arrivals from when it went to rest: the request that woke it is
        // counted.
        let last = Reading { arrivals: self.arrivals_at_rest, ..self.stats.read(now) };
        self.awake = Some(Box::new(Awake {
            scaler,
            last,
            second: second(now),
            reported: 0.0,
            elsewhere: (0.0, 0.0),
            eager_at: None,
            recheck: None,
        }));
    }

    /// Goes to rest: windows and decider are dropped.
    pub(super) fn rest(&mut self, now: Nanos) {
        self.awake = None;
        self.granted = 0;
        self.arrivals_at_rest = self.stats.read(now).arrivals;
        self.settle();
        self.log.shrink();
    }

    /// Records the seconds that are complete, zeros included. After a pause of the whole process
    /// each missed second gets the average over all of them.
    pub(super) fn sample(&mut self, now: Nanos) {
        let Some(awake) = &mut self.awake else { return };
        let newest = second(now);
        let missed = newest.saturating_sub(awake.second);
        if missed == 0 {
            return;
        }
        let reading = self.stats.read(now);
        let arrivals = reading.arrivals_since(&awake.last) as f64;
        let elsewhere = self.stats.take_elsewhere();
        let concurrency = reading.concurrency_since(&awake.last) + elsewhere.0;
        let arrivals = arrivals + elsewhere.1 * missed as f64;
        let sample = Sample {
            concurrency: (concurrency - awake.reported).max(0.0),
            rps: (arrivals - awake.reported).max(0.0) / missed as f64,
        };
        awake.elsewhere = elsewhere;
        let window = self.spec.scaling.stable_window.as_secs().max(1);
        let oldest = (awake.second + 1).max(newest.saturating_sub(window));
        for at in oldest..=newest {
            #[cfg(planted)]
            if at % 10 == 0 && crate::model::planted::is(crate::model::planted::Bug::LostSecond) {
                continue;
            }
            awake.scaler.record(Duration::from_secs(at), sample);
        }
        (awake.last, awake.second, awake.reported) = (reading, newest, 0.0);
    }

    /// The decision of a tick. While reports are missing nothing is lowered: what is not known is
    /// not taken for nothing.
    pub(super) fn tick(&mut self, is_incomplete: bool, now: Nanos) {
        let floor = self.floor();
        let Some(awake) = &mut self.awake else { return };
        let mut outcome = awake.scaler.tick(Some(self.stats.ready()), time(now)).outcome;
        if is_incomplete && outcome.as_ref().is_none_or(|outcome| outcome.desired < floor) {
            awake.scaler.keep_at_least(floor);
            outcome = None;
            // On the way to zero.
            if floor == 0 && self.wanted > 0 {
                return;
            }
        }
        self.step(outcome.map(|outcome| (outcome, Cause::Tick)), now);
    }

    /// The count that the last decision stands for; before the first what was found.
    fn floor(&self) -> u32 {
        let desired = self.awake.as_ref().and_then(|awake| awake.scaler.status().desired);
        desired.unwrap_or_else(|| self.stats.ready().saturating_add(self.stats.starting()))
    }

    /// Between ticks: a request for a revision at 0 decides at once; more waiting requests than
    /// slots decide as if the running second were complete.
    pub(super) fn look(&mut self, is_incomplete: bool, now: Nanos) {
        let reading = self.stats.read(now);
        let busy = reading.in_flight > 0
            || self.stats.waiting_everywhere() > 0
            || self.stats.in_flight_elsewhere() > 0;
        let ready = self.stats.ready();
        let was_at_zero = self.wanted == 0;
        let Some(awake) = &mut self.awake else { return };
        let outcome = if awake.scaler.wants_poke(f64::from(u8::from(busy))) {
            // What the original's activator reports of a first request, before it is measured.
            awake.scaler.record(time(now), Sample { concurrency: 1.0, rps: 1.0 });
            awake.reported += 1.0;
            awake.scaler.tick(Some(ready), time(now)).outcome
        } else {
            None
        };
        self.step(outcome.map(|outcome| (outcome, Cause::Poke)), now);
        // A first request is no burst: what comes with it is counted by the next look.
        let is_enough = was_at_zero && !self.exceeds(u64::from(self.wanted));
        if !is_enough && self.wants_eager(now) {
            self.eager(&reading, is_incomplete, now);
        }
    }

    /// Whether more requests wait than ready and starting replicas have slots.
    fn is_short(&self) -> bool {
        self.exceeds(u64::from(self.stats.ready()) + u64::from(self.stats.starting()))
    }

    /// Whether more requests wait than so many replicas have slots.
    fn exceeds(&self, replicas: u64) -> bool {
        u64::from(self.stats.waiting_everywhere())
            > u64::from(self.spec.slots_per_replica()) * replicas
    }

    fn wants_eager(&self, now: Nanos) -> bool {
        let Some(awake) = &self.awake else { return false };
        let at_most = self.spec.scaling.max_scale.filter(|max| *max > 0);
        self.spec.queue.eager
            && self.is_short()
            && at_most.is_none_or(|max| self.wanted < max)
            && awake.eager_at.is_none_or(|at| now.since(at) >= EAGER_INTERVAL)
    }

    /// Whether the last extra decision was made at this moment.
    pub(super) fn is_eager_at(&self, now: Nanos) -> bool {
        self.awake.as_ref().is_some_and(|awake| awake.eager_at == Some(now))
    }

    /// An extra decision. It never lowers, and leaves no sample behind.
    fn eager(&mut self, reading: &Reading, is_incomplete: bool, now: Nanos) {
        let floor = self.floor();
        let Some(awake) = &mut self.awake else { return };
        awake.eager_at = Some(now);
        let average = reading.concurrency_since(&awake.last).max(reading.in_flight as f64);
        let elsewhere = awake.elsewhere.0.max(self.stats.in_flight_elsewhere() as f64);
        let arrivals = reading.arrivals_since(&awake.last) as f64 + awake.elsewhere.1;
        let sample = Sample {
            concurrency: (average + elsewhere - awake.reported).max(0.0),
            rps: (arrivals - awake.reported).max(0.0),
        };
        // What a poke recorded is part of the running second.
        let at = awake.second + u64::from(awake.reported == 0.0);
        let before = awake.scaler.status().desired.or(is_incomplete.then_some(floor));
        let as_if = (Duration::from_secs(at), sample);
        let ticked = awake.scaler.tick_as_if(as_if, Some(self.stats.ready()), time(now));
        let Some(outcome) = ticked.outcome else { return };
        if before.is_some_and(|before| outcome.desired <= before) {
            awake.scaler.keep_at_least(before.unwrap_or_default());
            return;
        }
        self.step(Some((outcome, Cause::Eager)), now);
    }

    /// From the decider's count to the wanted one, and the Active condition. Without a new
    /// decision it follows what changed around it: settings, ready replicas.
    pub(super) fn step(&mut self, decided: Option<(Outcome, Cause)>, now: Nanos) {
        let Some(awake) = &self.awake else { return };
        let spec = &self.spec.scaling;
        let desired = awake.scaler.status().desired;
        let facts = StepFacts::always_proxied(desired, Some(self.wanted));
        let step = self.zero.scale(spec, facts, time(now));
        self.wanted = step.write.unwrap_or(self.wanted);
        self.zero.observe(spec, step.want, self.stats.ready(), true, time(now));
        if let Some((outcome, cause)) = decided {
            let mut clamps: Clamps = outcome.clamps;
            clamps.add_all(step.clamps);
            self.finish();
            self.pending = Some(Decision {
                at: time(now),
                unix_ms: 0,
                cause,
                stable: outcome.averages.stable,
                panic: outcome.averages.panic,
                ready: outcome.ready,
                starting: self.stats.starting(),
                waiting: self.stats.waiting_everywhere(),
                raw: outcome.raw,
                decided: outcome.desired,
                desired: self.wanted,
                clamps,
                panicking: outcome.panicking,
                excess_burst: outcome.excess_burst,
            });
        }
    }

    fn finish(&mut self) {
        if let Some(decision) = self.pending.take() {
            self.log.push(decision);
        }
    }

    /// The process' bound has been applied: keeps the decision of this turn, if there is one.
    pub(super) fn settle(&mut self) {
        let (granted, bounded) = (self.granted, self.granted < self.wanted);
        if let Some(decision) = &mut self.pending {
            decision.desired = granted;
            decision.clamps.add_if(bounded, Clamp::MaxReplicas);
        }
        self.finish();
    }
}
