//! What settings come to under a load that was measured: the same decisions as in production, on a
//! clock of its own.

use std::collections::VecDeque;
use std::time::Duration;

use super::multiscaler::{Sample, Scaler};
use super::run::TICK_S;
use super::zero::{Active, StepFacts, ZeroState};
use crate::model::ScalingSpec;

/// What replicas were there for a load, and what they were like for it. Sums over seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// How long the load lasted.
    pub seconds: u64,
    /// Replicas summed over seconds, starting ones included.
    pub replica_seconds: u64,
    /// The most replicas at once.
    pub most: u32,
    /// How often a first request found none.
    pub cold_starts: u32,
    /// The load summed over seconds, in the revision's metric.
    pub load_seconds: f64,
    /// What of it met more load than the ready replicas take at once, and waited or crowded.
    pub crowded_seconds: f64,
}

/// Replicas that were asked for.
#[derive(Debug, Default)]
struct Replicas {
    ready: u32,
    /// When some of those that start are ready, oldest first.
    starting: VecDeque<(u64, u32)>,
}

impl Replicas {
    fn alive(&self) -> u32 {
        self.ready + self.starting.iter().map(|(_, count)| count).sum::<u32>()
    }

    fn pass(&mut self, second: u64) {
        while let Some((_, count)) = self.starting.pop_front_if(|(at, _)| *at <= second) {
            self.ready += count;
        }
    }

    /// As many as are wanted: the youngest go first.
    fn follow(&mut self, wanted: u32, ready_at: u64) {
        let alive = self.alive();
        if wanted > alive {
            self.starting.push_back((ready_at, wanted - alive));
        }
        let mut excess = alive.saturating_sub(wanted);
        while excess > 0 {
            let Some((_, count)) = self.starting.back_mut() else { break };
            let gone = excess.min(*count);
            (*count, excess) = (*count - gone, excess - gone);
            if *count == 0 {
                self.starting.pop_back();
            }
        }
        self.ready -= excess;
    }
}

/// Runs a revision of these settings under a load: averages of its metric, one for each second. It
/// begins as one that was there before and rests; a replica is ready `start` after it was asked for.
pub fn estimate(
    spec: &ScalingSpec,
    load: impl IntoIterator<Item = f64>,
    start: Duration,
) -> Estimate {
    // Away from zero, which is no moment.
    let begin = TICK_S * 1_000_000;
    let start = start.as_secs_f64().ceil() as u64;
    let now = Duration::from_secs(begin);
    let mut zero = ZeroState::with(Active::NoTraffic, now, true);
    let mut wanted = zero.resting_count(spec);
    zero.observe(spec, Some(wanted), wanted, true, now);
    let mut replicas = Replicas { ready: wanted, ..Replicas::default() };
    let mut awake: Option<Scaler> = None;
    let mut sums = Estimate::default();
    for (second, load) in (begin..).zip(load) {
        let now = Duration::from_secs(second);
        replicas.pass(second);
        sums.cold_starts += u32::from(load > 0.0 && replicas.alive() == 0);
        if load > 0.0 || replicas.alive() > 0 {
            let woken = || Scaler::new(spec.clone(), Some(wanted), replicas.ready, now);
            let scaler = awake.get_or_insert_with(woken);
            let pokes = scaler.wants_poke(load);
            scaler.record(now, Sample { concurrency: load, rps: load });
            if pokes || second % TICK_S == 0 {
                scaler.tick(Some(replicas.ready), now);
            }
            let facts = StepFacts::always_proxied(scaler.status().desired, Some(wanted));
            let step = zero.scale(spec, facts, now);
            wanted = step.write.unwrap_or(wanted);
            zero.observe(spec, step.want, replicas.ready, true, now);
            replicas.follow(wanted, second + start);
            replicas.pass(second);
        } else {
            // At rest nothing is kept of what was.
            awake = None;
        }
        sums.add(spec, &replicas, load);
    }
    sums
}

impl Estimate {
    fn add(&mut self, spec: &ScalingSpec, replicas: &Replicas, load: f64) {
        self.seconds += 1;
        self.replica_seconds += u64::from(replicas.alive());
        self.most = self.most.max(replicas.alive());
        self.load_seconds += load;
        if load > f64::from(replicas.ready) * spec.total_value {
            self.crowded_seconds += load;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec() -> ScalingSpec {
        ScalingSpec { target_value: 10.0, total_value: 10.0, ..ScalingSpec::default() }
    }

    fn steps(load: &[(usize, f64)]) -> Vec<f64> {
        load.iter().flat_map(|(seconds, load)| vec![*load; *seconds]).collect()
    }

    #[test]
    fn nothing_costs_nothing() {
        let none = estimate(&spec(), steps(&[(3_600, 0.0)]), Duration::from_secs(2));
        assert_eq!(none, Estimate { seconds: 3_600, ..Estimate::default() });
        let kept = ScalingSpec { min_scale: 3, ..spec() };
        let kept = estimate(&kept, steps(&[(3_600, 0.0)]), Duration::from_secs(2));
        assert_eq!((kept.replica_seconds, kept.most, kept.cold_starts), (3 * 3_600, 3, 0));
    }

    #[test]
    fn one_burst_starts_once_and_goes_after_its_windows() {
        let load = steps(&[(100, 0.0), (300, 35.0), (600, 0.0)]);
        let seen = estimate(&spec(), load, Duration::from_secs(3));
        assert_eq!((seen.cold_starts, seen.most, seen.seconds), (1, 4, 1_000));
        // Nobody was ready for the first seconds.
        assert!((3.0 * 35.0..=8.0 * 35.0).contains(&seen.crowded_seconds), "{seen:?}");
        // From the burst's beginning to a stable window and the grace after its end.
        let (least, most) = (4 * 290, 4 * 300 + 4 * 70 + 70);
        assert!((least..=most).contains(&seen.replica_seconds), "{seen:?}");
    }

    #[test]
    fn a_replica_kept_costs_and_spares_the_cold_starts() {
        let load = steps(&[(100, 0.0), (10, 5.0), (600, 0.0), (10, 5.0), (600, 0.0)]);
        let at_zero = estimate(&spec(), load.clone(), Duration::from_secs(2));
        let kept = estimate(&ScalingSpec { min_scale: 1, ..spec() }, load, Duration::from_secs(2));
        assert_eq!((at_zero.cold_starts, kept.cold_starts), (2, 0));
        assert_eq!((kept.replica_seconds, kept.crowded_seconds), (1_320, 0.0));
        assert!(at_zero.replica_seconds < 200, "{at_zero:?}");
    }

    proptest! {
        #[test]
        fn bounds_hold_and_sums_add_up(
            load in prop::collection::vec((1_usize..90, 0.0_f64..60.0), 1..12),
            (min, max) in (0_u32..4, 4_u32..8),
            start in 0_u64..20,
        ) {
            let load = steps(&load);
            let start = Duration::from_secs(start);
            let spec = ScalingSpec { min_scale: min, max_scale: Some(max), ..spec() };
            let seen = estimate(&spec, load.iter().copied(), start);
            prop_assert!(seen.most <= max);
            prop_assert!(seen.replica_seconds >= u64::from(min) * seen.seconds);
            prop_assert!(seen.replica_seconds <= u64::from(max) * seen.seconds);
            prop_assert!(min == 0 || seen.cold_starts == 0);
            prop_assert!(seen.crowded_seconds <= seen.load_seconds);
            let total: f64 = load.iter().sum();
            prop_assert!((seen.load_seconds - total).abs() < 1e-6 * total.max(1.0));
        }
    }
}
