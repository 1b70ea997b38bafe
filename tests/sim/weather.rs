//! One draw of options per seed. Most faults are off in most runs, so that each is also met alone,
//! and runs without any can be held to more.

use std::fmt;
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

/// A service as its manifest has it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// 0 = unlimited.
    pub(crate) limit: u32,
    /// Load per replica aimed at, before utilisation; only without a limit.
    pub(crate) target: Option<f64>,
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
    pub(crate) initial: u32,
    pub(crate) timeout: Duration,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) eager: bool,
    /// Whether its replicas speak HTTP/2.
    pub(crate) h2c: bool,
}

/// How the program ends in the middle of a run, to be started again with what it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// In order: not ready, no new connections, the last requests, the end.
    Drained,
    /// At once.
    Killed,
}

/// New revisions are tried (`tidegate.dev/rollout: canary`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Canary {
    /// Whether editions are bad, by the bits of their numbers.
    pub(crate) bad: u32,
    /// Every so-many-th request of a bad one fails.
    pub(crate) fails_each: usize,
}

impl Canary {
    pub(crate) const fn is_bad(self, edition: u32) -> bool {
        self.bad & 1 << edition != 0
    }
}

/// Chances of single requests to be of a kind that is not the plainest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chances {
    /// The client leaves before its answer.
    pub(crate) leavers: f64,
    /// It stops reading its answer.
    pub(crate) stalls: f64,
    /// It has a body.
    pub(crate) uploads: f64,
    /// It ends its own direction behind the request.
    pub(crate) half_closes: f64,
    /// It sends in small pieces.
    pub(crate) drips: f64,
    /// It speaks HTTP/2.
    pub(crate) http2: f64,
    /// It asks for an upgrade.
    pub(crate) upgrades: f64,
    /// What it sends is not HTTP.
    pub(crate) nonsense: f64,
    /// The replica breaks off.
    pub(crate) breaks: f64,
    /// The replica never answers.
    pub(crate) never: f64,
    /// What the replica answers is not HTTP, or more than it was asked for.
    pub(crate) garbage: f64,
}

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) workers: usize,
    pub(crate) services: Vec<Service>,
    pub(crate) start_ms: (u64, u64),
    pub(crate) stop_ms: (u64, u64),
    /// How late reports of the platform are.
    pub(crate) lag_ms: (u64, u64),
    /// How late orders take effect.
    pub(crate) order_ms: (u64, u64),
    pub(crate) queue: QueueLimits,
    pub(crate) max_replicas: Option<u32>,
    /// Chance that a replica's start fails.
    pub(crate) start_failures: f64,
    /// Chance that an order is not taken.
    pub(crate) order_errors: f64,
    /// Seconds between: crashes of a replica, stretches of refused connections, of readiness lost,
    /// of a replica that does nothing at all, of replicas too many, of replicas too few.
    pub(crate) crashes: Option<u64>,
    pub(crate) refusals: Option<u64>,
    pub(crate) flaps: Option<u64>,
    pub(crate) hangs: Option<u64>,
    pub(crate) surpluses: Option<u64>,
    pub(crate) shortages: Option<u64>,
    /// Seconds between jumps of the clock: nothing runs meanwhile.
    pub(crate) jumps: Option<u64>,
    /// Seconds between changes of the files.
    pub(crate) edits: Option<u64>,
    /// Whether the last service's file is removed, and put back.
    pub(crate) removals: bool,
    pub(crate) restarts: Vec<Restart>,
    pub(crate) canary: Option<Canary>,
    /// Whether each service depends on the one before it.
    pub(crate) needs: bool,
    pub(crate) chances: Chances,
    pub(crate) phases: Vec<Phase>,
}

impl Weather {
    /// The weather of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x7765_6174_6865_7221);
        let rng = &mut rng;
        let calm = rng.u8(..100) < 35;
        let mut fault = |percent: u8| !calm && rng.u8(..100) < percent;
        let (start_failures, order_errors) = (fault(20), fault(20));
        let (crashes, refusals, flaps) = (fault(30), fault(30), fault(30));
        let (hangs, surpluses, shortages) = (fault(20), fault(20), fault(20));
        let (jumps, edits, restart) = (fault(15), fault(30), fault(30));
        let (late_orders, small_queue, few_replicas) = (fault(20), fault(20), fault(25));
        let kinds: [bool; 6] = std::array::from_fn(|_| fault(20));
        let chance = |on: bool, rng: &mut Rng| if on { 0.02 + 0.2 * rng.f64() } else { 0.0 };
        let every = |on: bool, rng: &mut Rng| on.then(|| rng.u64(3..30));
        let pick = |rng: &mut Rng, ranges: &[(u64, u64)]| ranges[rng.usize(..ranges.len())];
        let mut some = |percent: u8, most: f64| {
            if rng.u8(..100) < percent { most * rng.f64() } else { 0.0 }
        };
        let (leavers, uploads) = (some(50, 0.3), some(50, 0.5));
        let (http2, upgrades, half_closes, drips) =
            (some(45, 1.0), some(25, 0.3), some(20, 0.3), some(20, 0.3));
        let mut weather = Self {
            workers: rng.usize(1..=2),
            services: (0..[1, 1, 2, 2, 3, 4][rng.usize(..6)]).map(|_| Service::draw(rng)).collect(),
            start_ms: pick(rng, &[(2, 40), (300, 2_000), (3_000, 8_000)]),
            stop_ms: pick(rng, &[(1, 5), (100, 1_000)]),
            lag_ms: pick(rng, &[(0, 1), (0, 20), (50, 500)]),
            order_ms: if late_orders { pick(rng, &[(0, 50), (200, 3_000)]) } else { (0, 0) },
            queue: if small_queue {
                QueueLimits { revision: rng.u32(3..20), process: rng.u32(5..30) }
            } else {
                QueueLimits::default()
            },
            max_replicas: few_replicas.then(|| [1, 1, 2, 2, 3, 4, 7][rng.usize(..7)]),
            start_failures: chance(start_failures, rng),
            order_errors: chance(order_errors, rng),
            crashes: every(crashes, rng),
            refusals: every(refusals, rng),
            flaps: every(flaps, rng),
            hangs: every(hangs, rng),
            surpluses: every(surpluses, rng),
            shortages: every(shortages, rng),
            jumps: every(jumps, rng),
            edits: every(edits, rng),
            removals: edits && rng.bool(),
            restarts: if restart { Restart::draw(rng) } else { Vec::new() },
            canary: None,
            needs: false,
            chances: Chances {
                leavers,
                uploads,
                http2,
                upgrades,
                half_closes,
                drips,
                breaks: chance(kinds[0], rng),
                stalls: chance(kinds[1], rng),
                never: chance(kinds[2], rng) / 4.0,
                garbage: chance(kinds[3], rng),
                nonsense: chance(kinds[4], rng),
            },
            phases: phases(calm, few_replicas, rng),
        };
        // The first edition has nothing to be compared with.
        if edits && rng.bool() {
            weather.canary = Some(Canary { bad: rng.u32(..) & !0b11, fails_each: 1 });
        }
        weather.needs = weather.services.len() > 1 && rng.u8(..100) < 25;
        weather
    }

    #[cfg(not(planted))]
    /// Calm weather in which the second edition is bad and the third is good, under load all the
    /// time.
    pub(crate) fn of_canary(seed: u64) -> Self {
        let mut seeds = (0..).map(|n| Self { needs: false, ..Self::of(seed * 1_000 + n) });
        let mut weather = seeds.find(Self::is_calm).expect("one in three is calm");
        let mut rng = Rng::with_seed(seed ^ 0x6361_6e61_7279);
        weather.services.truncate(1);
        weather.canary = Some(Canary { bad: 0b100, fails_each: rng.usize(1..=4) });
        if rng.bool() {
            weather.restarts = Restart::draw(&mut rng);
        }
        // What keeps its client from asking again for long keeps canaries from their evidence.
        weather.chances.upgrades = 0.0;
        (weather.chances.drips, weather.chances.uploads) = (0.0, 0.0);
        let service = &mut weather.services[0];
        (service.max, service.limit) = (None, if service.limit == 1 { 5 } else { service.limit });
        let (clients, work_ms) = (rng.u64(6..12), rng.u64(100..200));
        weather.phases = vec![Phase::Steady { clients, work_ms, seconds: 360 }];
        weather
    }

    /// Whether nothing but clients can keep a request from its answer.
    pub(crate) fn is_calm(&self) -> bool {
        self.start_failures == 0.0
            && self.order_errors == 0.0
            && self.order_ms.1 == 0
            && !self.replicas_fail()
            && self.flaps.is_none()
            && self.hangs.is_none()
            && self.shortages.is_none()
            && self.jumps.is_none()
            && self.edits.is_none()
            && self.canary.is_none()
            && !self.needs
            && self.restarts.is_empty()
            && self.chances.stalls == 0.0
            && self.chances.never == 0.0
            && self.max_replicas.is_none()
    }

    /// Whether replicas end, refuse or talk nonsense for reasons of their own.
    pub(crate) fn replicas_fail(&self) -> bool {
        self.crashes.is_some()
            || self.refusals.is_some()
            || self.surpluses.is_some()
            || self.chances.breaks > 0.0
            || self.chances.garbage > 0.0
            // An order that is obeyed when the program no longer expects it.
            || self.order_ms.1 > 0
    }
}

impl Restart {
    fn draw(rng: &mut Rng) -> Vec<Self> {
        (0..rng.usize(1..=2))
            .map(|_| if rng.u8(..100) < 65 { Self::Drained } else { Self::Killed })
            .collect()
    }
}

impl Service {
    fn draw(rng: &mut Rng) -> Self {
        let limit = [0, 0, 1, 1, 2, 5, 10][rng.usize(..7)];
        let min = [0, 0, 0, 0, 1, 2][rng.usize(..6)];
        Self {
            limit,
            target: (limit == 0).then(|| [2.0, 7.0, 100.0][rng.usize(..3)]),
            min,
            max: [None, Some(min.max(1)), Some(3), Some(6)][rng.usize(..4)],
            initial: [0, 0, 0, 1][rng.usize(..4)],
            timeout: Duration::from_secs([12, 30, 60, 150][rng.usize(..4)]),
            queue_timeout: (rng.u8(..100) < 15).then(|| Duration::from_secs(rng.u64(1..10))),
            eager: rng.u8(..100) < 65,
            h2c: rng.u8(..100) < 25,
        }
    }
}

fn phases(calm: bool, few_replicas: bool, rng: &mut Rng) -> Vec<Phase> {
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
    if few_replicas {
        // All services have load for long enough to take turns.
        let (clients, work_ms) = (rng.u64(4..12), rng.u64(200..1_500));
        phases.push(Phase::Steady { clients, work_ms, seconds: rng.u64(60..100) });
    }
    if calm && rng.bool() {
        phases.push(Phase::Settle { clients: rng.u64(1..8), work_ms: rng.u64(3_000..6_000) });
    }
    phases
}

/// Only what is not as usual.
impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "weather: {} workers, {} services", self.workers, self.services.len())?;
        for (number, service) in self.services.iter().enumerate() {
            writeln!(f, "    s{number}: {service}")?;
        }
        write!(f, "    starts {} ms, stops {} ms", span(self.start_ms), span(self.stop_ms))?;
        write!(f, ", reports late by {} ms", span(self.lag_ms))?;
        if self.order_ms.1 > 0 {
            write!(f, ", orders by {} ms", span(self.order_ms))?;
        }
        if let Some(most) = self.max_replicas {
            write!(f, ", at most {most} replicas")?;
        }
        if self.queue.revision < QueueLimits::default().revision {
            write!(f, ", at most {} and {} wait", self.queue.revision, self.queue.process)?;
        }
        write!(f, "\n    faults:")?;
        let stretches = [
            ("crashes", self.crashes),
            ("refusals", self.refusals),
            ("flaps", self.flaps),
            ("hangs", self.hangs),
            ("surpluses", self.surpluses),
            ("shortages", self.shortages),
            ("clock jumps", self.jumps),
            ("edits", self.edits),
        ];
        for (name, every) in stretches {
            if let Some(every) = every {
                write!(f, " {name} every {every} s;")?;
            }
        }
        let c = &self.chances;
        let chances = [
            ("failing starts", self.start_failures),
            ("orders not taken", self.order_errors),
            ("broken answers", c.breaks),
            ("no answers", c.never),
            ("garbage answers", c.garbage),
            ("nonsense clients", c.nonsense),
            ("leavers", c.leavers),
            ("stalls", c.stalls),
            ("half-closes", c.half_closes),
            ("dripping clients", c.drips),
        ];
        for (name, chance) in chances {
            if chance > 0.0 {
                write!(f, " {name} {:.0} %;", chance * 100.0)?;
            }
        }
        if let Some(canary) = self.canary {
            write!(f, " bad editions {:#b} of canaries;", canary.bad)?;
        }
        if self.needs {
            write!(f, " each needs the one before;")?;
        }
        if !self.restarts.is_empty() {
            write!(f, " restarts {:?};", self.restarts)?;
        }
        if self.is_calm() {
            write!(f, " (calm)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit {}, timeout {} s", self.limit, self.timeout.as_secs())?;
        if let Some(target) = self.target {
            write!(f, ", target {target}")?;
        }
        write!(f, ", min {}, initial {}", self.min, self.initial)?;
        if let Some(max) = self.max {
            write!(f, ", max {max}")?;
        }
        if let Some(timeout) = self.queue_timeout {
            write!(f, ", queue timeout {} s", timeout.as_secs())?;
        }
        if !self.eager {
            write!(f, ", not eager")?;
        }
        if self.h2c {
            write!(f, ", h2c")?;
        }
        Ok(())
    }
}

fn span((low, high): (u64, u64)) -> String {
    format!("{low}-{high}")
}
