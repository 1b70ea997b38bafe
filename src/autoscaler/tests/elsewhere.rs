//! Load that others report: proxies that decide each for itself, from the load of all.

use super::*;
use crate::stats::{Reading, Report};

/// Proxies, each with the same revision.
struct Proxies {
    homes: Vec<Home>,
    stats: Vec<Arc<RevisionStats>>,
    last: Vec<Reading>,
    /// Those that are not heard.
    silent: Vec<usize>,
}

impl Proxies {
    fn new(count: usize, spec: &Arc<RevisionSpec>) -> Self {
        let homes: Vec<Home> = (0..count).map(|_| Home::new(None)).collect();
        let stats = homes.iter().map(|home| home.add_instant(spec)).collect();
        Self { homes, stats, last: vec![Reading::default(); count], silent: Vec::new() }
    }

    /// Each tells all others what it has.
    fn report(&mut self, is_second: bool) {
        for (from, stats) in self.stats.iter().enumerate() {
            let reading = stats.read(self.homes[from].now());
            let since = std::mem::replace(&mut self.last[from], reading);
            if !is_second {
                self.last[from] = since;
            }
            let second = (reading.concurrency_since(&since), reading.arrivals_since(&since) as f64);
            let report = Report {
                second: is_second.then_some(second),
                in_flight: reading.in_flight,
                waiting: stats.waiting(),
            };
            let others = (0..self.stats.len()).filter(|to| *to != from);
            for to in others.filter(|_| !self.silent.contains(&from)) {
                self.stats[to].report_elsewhere(&name(from), report);
            }
        }
    }

    /// Until so many seconds after the start, with reports in the middle of each second.
    async fn until(&mut self, second: u64) {
        while self.homes[0].now().0 < second * 1_000_000_000 {
            let next = self.homes[0].now().0 / 500_000_000 + 1;
            self.homes[0].until(next * 500).await;
            if next % 2 == 1 {
                self.report(true);
                settle().await;
            }
        }
    }

    fn desired(&self) -> Vec<u32> {
        let of = |(home, stats): (&Home, &Arc<RevisionStats>)| {
            home.autoscaler.view(stats.revision()).map_or(0, |view| view.desired)
        };
        self.homes.iter().zip(&self.stats).map(of).collect()
    }
}

fn name(proxy: usize) -> Arc<str> {
    format!("proxy-{proxy}").into()
}

#[tokio::test(start_paused = true)]
async fn all_decide_the_same_and_nothing_is_lowered_while_one_is_not_heard() {
    let spec = plain("a");
    let mut proxies = Proxies::new(3, &spec);
    proxies.until(3).await;
    // All requests come to the first one, which tells that they wait.
    for _ in 0..210 {
        wait(&proxies.stats[0], proxies.homes[0].now());
    }
    proxies.report(false);
    settle().await;
    assert!(proxies.desired().iter().all(|desired| *desired > 0), "{:?}", proxies.desired());
    proxies.until(120).await;
    assert_eq!(proxies.desired(), [3, 3, 3], "210 at once, 70 each");

    // Cut off from the others: they keep the count, for ever if need be.
    proxies.silent.push(0);
    for home in &proxies.homes[1..] {
        home.autoscaler.set_incomplete(true);
    }
    proxies.until(300).await;
    assert_eq!(proxies.desired(), [3, 3, 3]);
    // More load is taken up all the same.
    for _ in 0..210 {
        let (stats, now) = (&proxies.stats[1], proxies.homes[1].now());
        stats.arrive(0, now);
    }
    proxies.until(400).await;
    assert_eq!(proxies.desired()[1..], [6, 6]);

    // It is dead after all: its load goes with it.
    for (home, stats) in proxies.homes.iter().zip(&proxies.stats).skip(1) {
        stats.forget_elsewhere(&name(0));
        home.autoscaler.set_incomplete(false);
    }
    proxies.until(500).await;
    assert_eq!(proxies.desired()[1..], [3, 3]);
    let now = proxies.homes[1].now();
    for _ in 0..210 {
        proxies.stats[1].leave(0, now, now, Some(200));
    }
    proxies.until(640).await;
    assert_eq!(proxies.desired()[1..], [0, 0]);
}

/// On the way to zero, and before the first decision of a new one, missing reports keep what is
/// there.
#[tokio::test(start_paused = true)]
async fn what_is_missing_is_not_taken_for_nothing() {
    let spec = plain("a");
    let home = Home::new(None);
    home.autoscaler.set_incomplete(true);
    let stats = home.add_instant(&spec);
    stats.set_replicas(2, 1);
    stats.poke();
    home.until(200_000).await;
    let counts = home.counts();
    assert!(!counts.is_empty() && counts.iter().all(|(_, desired)| *desired == 3), "{counts:?}");

    home.autoscaler.set_incomplete(false);
    home.until(202_500).await;
    home.autoscaler.set_incomplete(true);
    home.until(400_000).await;
    let last = home.counts().pop().expect("it is stated").1;
    assert!(last > 0, "{last}");
    home.autoscaler.set_incomplete(false);
    home.until(520_000).await;
    assert_eq!(home.counts().pop().expect("it is stated").1, 0);
}

/// A revision that only others have requests for is active here, and waiting requests of theirs
/// count as its own.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_elsewhere_are_decided_upon_at_once() {
    let spec = plain("a");
    let home = Home::new(None);
    let stats = home.add(&spec);
    home.until(1_250).await;
    let report = Report { second: None, in_flight: 500, waiting: 500 };
    stats.report_elsewhere(&name(1), report);
    settle().await;
    assert_eq!(home.counts(), [(1_250, 8)], "500 / 70");
}
