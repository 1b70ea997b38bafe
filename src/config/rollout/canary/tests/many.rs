//! What becomes of many canaries: how often one that is as good is taken back, how soon one that is
//! worse. `ROLLOUTS=20000 cargo test --release --lib many -- --nocapture` for more of them.

use fastrand::Rng;

use super::*;

/// From one look at the counters to the next.
const TICK: Duration = Duration::from_millis(250);
/// Requests of both in a tick.
const REQUESTS: u64 = 10;

/// A service with a new revision.
#[derive(Clone, Copy)]
struct Service {
    /// Part of requests that fail, of the old and the new one.
    errors: (f64, f64),
    /// How many times as long the new one takes.
    slower: f64,
    /// Part of the new one's requests that take ten times as long.
    tail: f64,
    /// Part of all time in which every second request of both fails.
    outage: f64,
}

/// As good as the old one.
const EQUAL: Service = Service { errors: (0.01, 0.01), slower: 1.0, tail: 0.0, outage: 0.0 };

/// How a canary ended.
struct Ended {
    harm: Option<Harm>,
    /// Requests of the new one, and those that failed.
    requests: u64,
    failed: u64,
    share: u8,
    after: Duration,
}

impl Service {
    fn serve(&self, rng: &mut Rng, is_new: bool, is_out: bool, tally: &mut Tally) {
        let errors = if is_new { self.errors.1 } else { self.errors.0 };
        tally.requests += 1;
        if rng.f64() < if is_out { 0.5 } else { errors } {
            tally.errors += 1;
            return;
        }
        // About normal, so that times are about log-normal: 20 ms, two thirds within 12–33 ms.
        let normal = (0..4).map(|_| rng.f64() - 0.5).sum::<f64>() * 3.0_f64.sqrt();
        let mut ms = 20.0 * (normal * 0.5).exp();
        if is_new {
            ms *= self.slower;
            if rng.f64() < self.tail {
                ms *= 10.0;
            }
        }
        tally.latencies.record(Duration::from_secs_f64(ms / 1000.0));
    }

    /// Runs a canary to its end, or for an hour.
    fn run(&self, seed: u64) -> Ended {
        let mut rng = Rng::with_seed(seed);
        let rules = CanaryRules::default();
        let (target, mut state) = (r2(), goal(&[("a", "r1", 100)]));
        let (mut old, mut new, mut since) = (Tally::default(), Tally::default(), at(0));
        let (mut before, mut begun) = ((old.clone(), new.clone()), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut share = 0;
        while now < Duration::from_secs(3_600) {
            now += TICK;
            let is_out = rng.f64() < self.outage;
            for _ in 0..REQUESTS {
                let is_new = rng.u8(0..100) < share;
                self.serve(&mut rng, is_new, is_out, if is_new { &mut new } else { &mut old });
            }
            let moment = at(0).plus(now);
            let trial = Trial {
                rules: &rules,
                now: moment,
                stand: &|_| Standing::Ready,
                compare: &|_, _, begin| {
                    (begin == since).then(|| Evidence {
                        over: now - begun,
                        old: old.since(&before.0).unwrap(),
                        new: new.since(&before.1).unwrap(),
                    })
                },
            };
            state = target.clone().tried(Some(&state), &trial);
            let canary = state.configurations[0].canary.clone();
            let taken_back = canary.as_ref().and_then(|canary| canary.taken_back);
            if canary.is_none() || taken_back.is_some() {
                let harm = taken_back.map(|back| back.harm);
                let (requests, failed) = (new.requests, new.errors);
                return Ended { harm, requests, failed, share, after: now };
            }
            share = state.configurations[0].revisions[1].percent;
            if let Some(begin) = canary.map(|canary| canary.since).filter(|begin| *begin != since) {
                (since, begun, before) = (begin, now, (old.clone(), new.clone()));
            }
        }
        Ended { harm: None, requests: new.requests, failed: new.errors, share, after: now }
    }
}

/// Number of rollouts; more where somebody asks.
fn rollouts(usual: u64) -> u64 {
    std::env::var("ROLLOUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Part of the rollouts that are taken back.
fn taken_back(name: &str, service: Service, usual: u64) -> f64 {
    let count = rollouts(usual);
    let ends: Vec<Ended> = (0..count).map(|seed| service.run(seed)).collect();
    let back: Vec<&Ended> = ends.iter().filter(|end| end.harm.is_some()).collect();
    let median = |of: &dyn Fn(&Ended) -> u64| {
        let mut all: Vec<u64> = back.iter().map(|end| of(end)).collect();
        all.sort_unstable();
        let at = |part: usize| all.get(all.len() * part / 100).or(all.last()).copied();
        (at(50).unwrap_or(0), at(99).unwrap_or(0))
    };
    let through = ends.iter().filter(|end| end.harm.is_none()).map(|end| end.after.as_secs());
    let mut through: Vec<u64> = through.collect();
    through.sort_unstable();
    let at = |part: usize| through.get(through.len() * part / 100).copied().unwrap_or(0);
    let first = back.iter().filter(|end| end.share <= 5).count();
    let (requests, failed) = (median(&|end| end.requests), median(&|end| end.failed));
    let after = median(&|end| end.after.as_secs());
    println!(
        "{name}: {} of {count} taken back, {first} at the first step; requests of the new one: \
         median {}, 99 % {}; failed: {}, {}; seconds: {}, {}; \
         those that got through: median {} s, 99 % {} s",
        back.len(),
        requests.0,
        requests.1,
        failed.0,
        failed.1,
        after.0,
        after.1,
        at(50),
        at(99)
    );
    back.len() as f64 / count as f64
}

#[test]
fn one_that_is_as_good_gets_through() {
    let no_errors = Service { errors: (0.0, 0.0), ..EQUAL };
    let many_errors = Service { errors: (0.2, 0.2), ..EQUAL };
    let outages = Service { outage: 0.1, ..EQUAL };
    for (name, service) in [
        ("equal, 1 % errors", EQUAL),
        ("equal, no errors", no_errors),
        ("equal, 20 % errors", many_errors),
        ("equal, every second request fails a tenth of the time", outages),
    ] {
        let part = taken_back(name, service, 150);
        assert!(part <= 0.01, "{name}: {part}");
    }
}

#[test]
fn one_that_is_worse_is_taken_back() {
    let failing = |errors| Service { errors: (0.001, errors), ..EQUAL };
    let slower = |slower| Service { slower, ..EQUAL };
    for (name, service) in [
        ("5 % errors", failing(0.05)),
        ("20 % errors", failing(0.2)),
        ("all fail", failing(1.0)),
        ("2 times as slow", slower(2.0)),
        ("10 times as slow", slower(10.0)),
        ("a tenth 10 times as slow", Service { tail: 0.1, ..EQUAL }),
    ] {
        let part = taken_back(name, service, 150);
        assert!(part > 0.99, "{name}: {part}");
    }
}
