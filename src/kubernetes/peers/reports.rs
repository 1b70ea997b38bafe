//! Each proxy says once a second what load it has, and at once that requests wait, so that every
//! one decides from the load of all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Event, Loss, PeerId, Peers};
use crate::model::{EndpointId, Nanos, ObjectName, RevisionId, Tally};
use crate::stats::{Poked, Reading, Report, RevisionStats};

/// Kind of the report of a second.
const STATS: &str = "stats";
/// Kind of a report between two seconds.
const POKE: &str = "poke";
/// From one report to the next while requests wait.
const CROWDED: Duration = Duration::from_millis(100);

/// Sums of each revision at the last report.
type Readings = BTreeMap<RevisionId, Reading>;

/// The load of one second; revisions without any are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Second {
    /// Counts the seconds: a gap is a report that was lost.
    number: u64,
    #[serde(default)]
    revisions: Vec<Line>,
}

/// One revision's load.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    namespace: String,
    name: String,
    #[serde(default)]
    concurrency: f64,
    #[serde(default)]
    arrivals: f64,
    #[serde(default)]
    in_flight: u64,
    #[serde(default)]
    waiting: u32,
    /// Endpoints with requests, and how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    on: Vec<(String, u32)>,
    /// How its requests ended, where it is compared with another revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tally: Option<TallyLine>,
}

/// A tally since counting began at that proxy; buckets without any are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
struct TallyLine {
    requests: u64,
    errors: u64,
    latencies: Vec<(usize, u64)>,
}

impl TallyLine {
    fn new(tally: &Tally) -> Self {
        let buckets = tally.latencies.buckets().iter().copied().enumerate();
        let latencies = buckets.filter(|(_, count)| *count > 0).collect();
        Self { requests: tally.requests, errors: tally.errors, latencies }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally { requests: self.requests, errors: self.errors, ..Tally::default() };
        for (bucket, count) in &self.latencies {
            tally.latencies.add(*bucket, *count);
        }
        tally
    }
}

impl Line {
    fn id(&self) -> RevisionId {
        ObjectName::new(self.namespace.as_str(), self.name.as_str())
    }

    fn new(id: &RevisionId) -> Self {
        Self { namespace: id.namespace.to_string(), name: id.name.to_string(), ..Self::default() }
    }
}

/// All revisions that are known here.
pub type AllStats = Box<dyn Fn() -> Vec<Arc<RevisionStats>> + Send + Sync>;
/// One of them.
pub type OneStats = Box<dyn Fn(&RevisionId) -> Option<Arc<RevisionStats>> + Send + Sync>;

/// Endpoints of a revision that have requests of this proxy.
pub type Loads = Box<dyn Fn(&RevisionId) -> Vec<(EndpointId, u32)> + Send + Sync>;
/// Takes in which endpoints of a revision have requests of another proxy.
pub type LoadsElsewhere = Box<dyn Fn(&RevisionId, &Arc<str>, Vec<(EndpointId, u32)>) + Send + Sync>;

/// Where load is read and told.
pub struct Sources {
    /// All revisions.
    pub all: AllStats,
    /// One of them.
    pub one: OneStats,
    /// What it has on each endpoint.
    pub loads: Loads,
    /// What others have there.
    pub elsewhere: LoadsElsewhere,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What this proxy hears and says of load.
pub struct Reports {
    sources: Sources,
    heard: Mutex<BTreeMap<PeerId, Heard>>,
    lost: AtomicU64,
}

/// What was heard from one peer.
#[derive(Debug, Default)]
struct Heard {
    number: u64,
    /// Revisions that it has load of.
    revisions: BTreeSet<RevisionId>,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl Reports {
    /// Reports on these revisions.
    pub fn new(sources: Sources) -> Arc<Self> {
        Arc::new(Self { sources, heard: Mutex::default(), lost: AtomicU64::new(0) })
    }

    /// Reports that others sent, or had to send, and that did not come.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Has what peers report added to the load of this proxy.
    pub fn listen(self: &Arc<Self>, peers: &Peers) {
        let reports = Arc::clone(self);
        peers.listen(STATS, move |_, event| match event {
            Event::Joined(_) => {}
            Event::Message(peer, body) => match serde_json::from_slice(body) {
                Ok(second) => reports.second(peer, &second),
                Err(error) => tracing::warn!(%peer, %error, "a report is not understood"),
            },
            // Its last second stands for as long as it may live on.
            Event::Lost(_, Loss::CutOff) => {}
            Event::Lost(peer, Loss::Dead | Loss::Ended) => reports.gone(peer),
        });
        let reports = Arc::clone(self);
        peers.listen(POKE, move |_, event| {
            if let Event::Message(peer, body) = event
                && let Ok(line) = serde_json::from_slice::<Line>(body)
            {
                reports.poked(peer, &line);
            }
        });
    }

    fn second(&self, peer: &PeerId, second: &Second) {
        let mut all = self.heard.lock();
        let heard = all.entry(peer.clone()).or_default();
        if heard.number > 0 {
            let lost = second.number.saturating_sub(heard.number + 1);
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        heard.number = second.number;
        let mut now = BTreeSet::new();
        for line in &second.revisions {
            let id = line.id();
            // One that this proxy does not know yet it will know in a moment.
            let Some(stats) = (self.sources.one)(&id) else { continue };
            let load = (line.concurrency, line.arrivals);
            let (in_flight, waiting) = (line.in_flight, line.waiting);
            stats.report_elsewhere(&peer.0, Report { second: Some(load), in_flight, waiting });
            if let Some(tally) = &line.tally {
                stats.report_tally(&peer.0, tally.tally());
            }
            let on = line.on.iter().map(|(id, load)| (EndpointId::new(id.as_str()), *load));
            (self.sources.elsewhere)(&id, &peer.0, on.collect());
            now.insert(id);
        }
        for id in heard.revisions.difference(&now) {
            if let Some(stats) = (self.sources.one)(id) {
                let none = Report { second: Some((0.0, 0.0)), ..Report::default() };
                stats.report_elsewhere(&peer.0, none);
                (self.sources.elsewhere)(id, &peer.0, Vec::new());
            }
        }
        heard.revisions = now;
    }

    fn poked(&self, peer: &PeerId, line: &Line) {
        let id = line.id();
        let Some(stats) = (self.sources.one)(&id) else { return };
        let (in_flight, waiting) = (line.in_flight, line.waiting);
        stats.report_elsewhere(&peer.0, Report { second: None, in_flight, waiting });
        self.heard.lock().entry(peer.clone()).or_default().revisions.insert(id);
    }

    fn gone(&self, peer: &PeerId) {
        let Some(heard) = self.heard.lock().remove(peer) else { return };
        for id in &heard.revisions {
            if let Some(stats) = (self.sources.one)(id) {
                stats.forget_elsewhere(&peer.0);
                (self.sources.elsewhere)(id, &peer.0, Vec::new());
            }
        }
    }

    /// Reports for good: each second, and what is poked at once.
    pub(super) async fn run(&self, peers: &Peers, poked: &Poked) {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        let mut number = 0;
        // Revisions with requests that wait.
        let mut crowded = BTreeSet::new();
        loop {
            tokio::select! {
                _ = seconds.tick() => {
                    number += 1;
                    // Nobody listens: nothing is looked at either.
                    if peers.is_alone() {
                        last = None;
                        continue;
                    }
                    let (revisions, readings) = self.lines(last.as_ref());
                    last = Some(readings);
                    let behind = peers.broadcast(STATS, &Second { number, revisions });
                    if behind > 0 {
                        tracing::debug!(behind, "peers are too slow for a report");
                    }
                }
                () = poked.poked() => {
                    for id in poked.take() {
                        if !crowded.contains(&id) && self.say_waiting(peers, &id) {
                            crowded.insert(id);
                        }
                    }
                }
                () = sleep(CROWDED), if !crowded.is_empty() => {
                    crowded.retain(|id| self.say_waiting(peers, id));
                }
            }
        }
    }

    /// Says how many wait of a revision; whether any does.
    fn say_waiting(&self, peers: &Peers, id: &RevisionId) -> bool {
        let Some(stats) = (self.sources.one)(id) else { return false };
        let waiting = stats.waiting();
        let in_flight = stats.read(stats.clock().now()).in_flight;
        if in_flight > 0 || waiting > 0 {
            peers.broadcast(POKE, &Line { in_flight, waiting, ..Line::new(id) });
        }
        waiting > 0
    }

    /// What each revision had since the last time, and what that is counted from the next time.
    /// Without a last time it is what it has now.
    fn lines(&self, last: Option<&Readings>) -> (Vec<Line>, Readings) {
        let mut next = Readings::new();
        let mut lines = Vec::new();
        for stats in
            (self.sources.all)().iter().filter(|stats| stats.had_traffic() || stats.waiting() > 0)
        {
            let (id, now) = (stats.revision(), stats.clock().now());
            let reading = stats.read(now);
            let before = match last {
                None => reading,
                // It is younger than a second.
                Some(last) => last.get(id).copied().unwrap_or_else(|| {
                    let second = Nanos(now.0.saturating_sub(1_000_000_000));
                    Reading { at: second, ..Reading::default() }
                }),
            };
            // Only these are on an endpoint.
            let on = if reading.in_flight > 0 { (self.sources.loads)(id) } else { Vec::new() };
            let line = Line {
                concurrency: reading.concurrency_since(&before),
                arrivals: reading.arrivals_since(&before) as f64,
                in_flight: reading.in_flight,
                waiting: stats.waiting(),
                on: on.into_iter().map(|(on, n)| (on.to_string(), n)).collect(),
                tally: stats.is_compared().then(|| TallyLine::new(&stats.own_tally())),
                ..Line::new(id)
            };
            let has_load = line.concurrency > 0.0 || line.arrivals > 0.0 || line.in_flight > 0;
            if has_load || line.waiting > 0 {
                lines.push(line);
            }
            next.insert(id.clone(), reading);
        }
        (lines, next)
    }
}
