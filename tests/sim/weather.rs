//! One draw of options per seed. Most faults are off in most runs, so that each is also met alone,
//! and runs without any can be held to more.

use std::time::Duration;

use fastrand::Rng;
use tidegate::revision::QueueLimits;

/// A stretch of a run.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// So many clients, each with always one request in flight.
    Steady { clients: u64, work_ms: u64, seconds: u64 },
    /// The same for long enough that the count must be what the load needs.
    Settle { clients: u64, work_ms: u64 },
    /// Requests all at once.
    Burst { requests: u64, work_ms: u64 },
    /// Requests all at once, every so-many-th of which takes long.
    Spread { requests: u64, work_ms: u64, long_ms: u64 },
    /// Requests one by one.
    Trickle { requests: u64, over_s: u64, work_ms: u64 },
    /// None.
    Silence { seconds: u64 },
}

/// A service and its revision.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// 0 = unlimited.
    pub(crate) limit: u32,
    /// Load per replica aimed at.
    pub(crate) target: f64,
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
    pub(crate) initial: u32,
    pub(crate) timeout: Duration,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) eager: bool,
}

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) workers: usize,
    pub(crate) revisions: Vec<Revision>,
    pub(crate) start_ms: (u64, u64),
    pub(crate) stop_ms: (u64, u64),
    /// How late reports of the platform are.
    pub(crate) lag_ms: (u64, u64),
    pub(crate) queue: QueueLimits,
    pub(crate) max_replicas: Option<u32>,
    /// Chance that a replica's start fails.
    pub(crate) start_failures: f64,
    /// Chance that an order is not taken.
    pub(crate) order_errors: f64,
    /// Seconds between crashes of a replica, between stretches of refused connections, between
    /// flaps of readiness.
    pub(crate) crashes: Option<u64>,
    pub(crate) refusals: Option<u64>,
    pub(crate) flaps: Option<u64>,
    /// Chance that a replica breaks off a request.
    pub(crate) breaks: f64,
    /// Chance that a client leaves before its answer, or stops reading it.
    pub(crate) leavers: f64,
    pub(crate) stalls: f64,
    /// Chance that a request has a body.
    pub(crate) uploads: f64,
    /// Whether the configuration is read again now and then.
    pub(crate) reloads: bool,
    /// Whether the last service is removed in the middle of it all.
    pub(crate) removal: bool,
    pub(crate) phases: Vec<Phase>,
}

impl Weather {
    /// The weather of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x7765_6174_6865_7221);
        let rng = &mut rng;
        let calm = rng.u8(..100) < 40;
        let mut fault = |percent: u8| !calm && rng.u8(..100) < percent;
        let (start_failures, order_errors) = (fault(20), fault(20));
        let (crashes, refusals, flaps) = (fault(35), fault(35), fault(35));
        let (breaks, stalls) = (fault(30), fault(30));
        let small_queue = fault(25);
        let removal = fault(15);
        let chance = |on: bool, rng: &mut Rng| if on { 0.02 + 0.2 * rng.f64() } else { 0.0 };
        let every = |on: bool, rng: &mut Rng| on.then(|| rng.u64(3..30));
        let pick = |rng: &mut Rng, ranges: &[(u64, u64)]| ranges[rng.usize(..ranges.len())];
        Self {
            workers: rng.usize(1..=2),
            revisions: (0..rng.usize(1..=2)).map(|_| Revision::draw(rng)).collect(),
            start_ms: pick(rng, &[(2, 40), (300, 2_000), (3_000, 8_000)]),
            stop_ms: pick(rng, &[(1, 5), (100, 1_000)]),
            lag_ms: pick(rng, &[(0, 1), (0, 20), (50, 500)]),
            queue: if small_queue {
                QueueLimits { revision: rng.u32(3..20), process: rng.u32(5..30) }
            } else {
                QueueLimits::default()
            },
            max_replicas: (!calm && rng.u8(..100) < 20).then(|| rng.u32(4..10)),
            start_failures: chance(start_failures, rng),
            order_errors: chance(order_errors, rng),
            crashes: every(crashes, rng),
            refusals: every(refusals, rng),
            flaps: every(flaps, rng),
            breaks: chance(breaks, rng),
            leavers: if rng.bool() { 0.3 * rng.f64() } else { 0.0 },
            stalls: chance(stalls, rng),
            uploads: if rng.bool() { 0.5 * rng.f64() } else { 0.0 },
            reloads: rng.u8(..100) < 30,
            removal,
            phases: phases(calm, rng),
        }
    }

    /// Whether nothing but clients that leave can keep a request from its answer.
    pub(crate) fn is_calm(&self) -> bool {
        self.start_failures == 0.0
            && self.order_errors == 0.0
            && self.crashes.is_none()
            && self.refusals.is_none()
            && self.flaps.is_none()
            && self.breaks == 0.0
            && self.stalls == 0.0
            && self.max_replicas.is_none()
            && !self.removal
    }

    /// Whether replicas end or refuse for reasons of their own.
    pub(crate) fn replicas_fail(&self) -> bool {
        self.crashes.is_some() || self.refusals.is_some() || self.breaks > 0.0
    }
}

impl Revision {
    fn draw(rng: &mut Rng) -> Self {
        let limit = [0, 0, 1, 1, 2, 5, 10][rng.usize(..7)];
        let target = match limit {
            0 => [1.3, 4.7, 70.0][rng.usize(..3)],
            limit => f64::from(limit) * 0.7,
        };
        let min = [0, 0, 0, 0, 1, 2][rng.usize(..6)];
        Self {
            limit,
            target,
            min,
            max: [None, Some(min.max(1)), Some(3), Some(6)][rng.usize(..4)],
            initial: [0, 0, 0, 1][rng.usize(..4)],
            timeout: Duration::from_secs([12, 30, 60, 150][rng.usize(..4)]),
            queue_timeout: (rng.u8(..100) < 15).then(|| Duration::from_secs(rng.u64(1..10))),
            eager: rng.u8(..100) < 80,
        }
    }
}

fn phases(calm: bool, rng: &mut Rng) -> Vec<Phase> {
    let mut phases: Vec<Phase> = (0..rng.usize(1..=4))
        .map(|_| match rng.u8(..5) {
            0 => Phase::Steady {
                clients: rng.u64(1..12),
                work_ms: rng.u64(300..3_000),
                seconds: rng.u64(5..30),
            },
            1 => Phase::Burst { requests: rng.u64(5..60), work_ms: rng.u64(5..2_000) },
            2 => Phase::Spread {
                requests: rng.u64(10..60),
                work_ms: rng.u64(500..2_000),
                long_ms: rng.u64(40_000..120_000),
            },
            3 => Phase::Trickle {
                requests: rng.u64(3..20),
                over_s: rng.u64(1..60),
                work_ms: rng.u64(1..500),
            },
            _ => Phase::Silence { seconds: [1, 7, 30, 61, 75, 100][rng.usize(..6)] },
        })
        .collect();
    if rng.u8(..100) < 30 {
        // A burst meets replicas that are to go and still work.
        let work_ms = rng.u64(500..3_000);
        phases.push(Phase::Spread { requests: 50, work_ms, long_ms: rng.u64(90_000..120_000) });
        phases.push(Phase::Silence { seconds: rng.u64(62..80) });
        phases.push(Phase::Burst { requests: rng.u64(20..60), work_ms: 20_000 });
    }
    if calm && rng.bool() {
        phases.push(Phase::Settle { clients: rng.u64(1..8), work_ms: rng.u64(3_000..6_000) });
    }
    phases
}
