//! A second autoscaler beside the real one: it takes samples of its own, gives them to the scaler
//! that reproduces the recorded decisions of the original, and must come to the same counts.
//!
//! It follows every revision that has no extra decisions (`tidegate.dev/eager: "false"`): those are
//! made from a moment that nobody else can see.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate::app::Live;
use tidegate::autoscaler::{
    Autoscaler, Cause, Clamp, Decision, Restored, Sample, Scaler, Statement, bounds,
};
use tidegate::model::RevisionId;
use tidegate::revision::Revision;
use tidegate::stats::{Clock, Nanos, Reading};

use crate::ledger::{Ledger, Property};

const SECOND: u64 = 1_000_000_000;

/// What is known of one revision.
#[derive(Debug)]
struct Followed {
    /// None: it woke without being seen, and is not followed until it rested again.
    scaler: Option<Scaler>,
    last: Reading,
    second: u64,
    /// Seconds that are complete, with what was measured of each and whether it is the last one
    /// that this was measured of, until a decision is made on them.
    seconds: VecDeque<(u64, Sample, bool)>,
    /// What was assumed when a request woke it, until it is measured.
    assumed: f64,
    /// When the newest decision was made that was looked at, and how many were at that moment.
    seen: (Duration, usize),
}

/// The second autoscaler.
pub(crate) struct Shadow {
    ledger: Rc<Ledger>,
    live: Arc<Live>,
    autoscaler: Arc<Autoscaler>,
    clock: Clock,
    followed: RefCell<BTreeMap<RevisionId, Followed>>,
    /// Revisions that an earlier life had: they may wake before they are seen here.
    known_before: Vec<RevisionId>,
    compared: Cell<u64>,
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shadow").field("compared", &self.compared).finish_non_exhaustive()
    }
}

impl Shadow {
    pub(crate) fn new(
        ledger: &Rc<Ledger>,
        live: &Arc<Live>,
        autoscaler: &Arc<Autoscaler>,
        clock: Clock,
        known_before: &BTreeMap<RevisionId, Restored>,
    ) -> Rc<Self> {
        Rc::new(Self {
            ledger: Rc::clone(ledger),
            live: Arc::clone(live),
            autoscaler: Arc::clone(autoscaler),
            clock,
            followed: RefCell::default(),
            known_before: known_before.keys().cloned().collect(),
            compared: Cell::new(0),
        })
    }

    /// Decisions that were compared.
    pub(crate) fn compared(&self) -> u64 {
        self.compared.get()
    }

    /// Takes a sample of every followed revision at each full second.
    pub(crate) async fn sample(self: Rc<Self>) {
        loop {
            let next = Nanos((self.clock.now().0 / SECOND + 1) * SECOND);
            tokio::time::sleep_until(self.clock.instant(next)).await;
            let ids: Vec<RevisionId> = self.followed.borrow().keys().cloned().collect();
            for id in ids {
                match self.live.revision(&id) {
                    Some(revision) => {
                        let mut followed = self.followed.borrow_mut();
                        if let Some(followed) = followed.get_mut(&id) {
                            followed.sample(&revision, self.clock.now());
                        }
                    }
                    None => drop(self.followed.borrow_mut().remove(&id)),
                }
            }
        }
    }

    /// The autoscaler has just made this statement.
    pub(crate) fn stated(&self, statement: &Statement, revision: &Revision) {
        let spec = revision.spec();
        let id = &statement.revision;
        let Some(view) = self.autoscaler.view(id).filter(|_| !spec.queue.eager) else { return };
        let now = self.clock.now();
        let decisions = self.autoscaler.recent(id);
        let mut all = self.followed.borrow_mut();
        let followed = all.entry(id.clone()).or_insert_with(|| {
            // Those before the one that woke it belong to an earlier time of being awake.
            let earlier = decisions.iter().rev().skip(1).take_while(|d| d.at == duration(now));
            let woken = match decisions.last() {
                // A request came this moment.
                Some(newest) => newest.at == duration(now) && newest.cause == Cause::Poke,
                // It has just been added, and wants replicas.
                None => !self.known_before.contains(id),
            };
            let fresh = || Scaler::new(spec.scaling.clone(), Some(0), 0, duration(now));
            Followed {
                scaler: (woken && revision.stats().ready() == 0).then(fresh),
                last: revision.stats().read(now),
                second: now.0 / SECOND,
                seconds: VecDeque::new(),
                assumed: 0.0,
                seen: (duration(now), earlier.count()),
            }
        });
        followed.sample(revision, now);
        if let Some(scaler) = &mut followed.scaler {
            scaler.update(spec.scaling.clone(), duration(now));
        }
        let (since, known) = followed.seen;
        for decision in decisions.iter().filter(|d| d.at >= since).skip(known) {
            let same = if followed.seen.0 == decision.at { followed.seen.1 } else { 0 };
            followed.seen = (decision.at, same + 1);
            self.compare(followed, decision, revision);
        }
        if !view.active {
            all.remove(id);
        }
    }

    fn compare(&self, followed: &mut Followed, decision: &Decision, revision: &Revision) {
        followed.record(decision.at);
        let Some(scaler) = &mut followed.scaler else { return };
        if decision.cause == Cause::Poke {
            // A first request counts as one in flight before it is measured.
            scaler.record(decision.at, Sample { concurrency: 1.0, rps: 1.0 });
            followed.assumed += 1.0;
        }
        let outcome = scaler.tick(Some(decision.ready), decision.at).outcome;
        let decided = outcome.map(|outcome| outcome.desired);
        self.compared.set(self.compared.get() + 1);
        let scaling = &revision.spec().scaling;
        let within = bounds(i64::from(decision.decided), scaling.min_scale, scaling.max_scale);
        // What may hold a count or raise it on its way to the statement, each named.
        let held = HOLD.iter().any(|clamp| decision.clamps.contains(*clamp));
        let right = held || i64::from(decision.desired) == within;
        if decided != Some(decision.decided) || !right {
            self.ledger.violated(
                Property::Decider,
                format_args!(
                    "{}: by a {} {} and then {} were decided ({:?}) of a load of {:.3} and {:.3}, \
                     where {outcome:?} was to be",
                    revision.id().name,
                    decision.cause.token(),
                    decision.decided,
                    decision.desired,
                    decision.clamps,
                    decision.stable,
                    decision.panic,
                ),
            );
        }
    }
}

/// What makes a stated count differ from the decided one beside its bounds.
const HOLD: [Clamp; 7] = [
    Clamp::InitialScale,
    Clamp::ScaleToZeroDisabled,
    Clamp::ProgressDeadline,
    Clamp::StableWindow,
    Clamp::ScaleToZeroGrace,
    Clamp::ScaleToZeroRetention,
    Clamp::MaxReplicas,
];

impl Followed {
    /// Takes a sample of the seconds that are complete.
    fn sample(&mut self, revision: &Revision, now: Nanos) {
        let newest = now.0 / SECOND;
        if newest <= self.second {
            return;
        }
        let reading = revision.stats().read(now);
        let sample = Sample {
            concurrency: reading.concurrency_since(&self.last),
            rps: reading.arrivals_since(&self.last) as f64,
        };
        let window = revision.spec().scaling.stable_window.as_secs().max(1);
        let oldest = (self.second + 1).max(newest.saturating_sub(window));
        // After a pause of everything each second gets the average over all of them.
        self.seconds.extend((oldest..=newest).map(|second| (second, sample, second == newest)));
        (self.last, self.second) = (reading, newest);
    }

    /// Records what was measured up to a moment, less what was assumed before.
    fn record(&mut self, at: Duration) {
        let Some(scaler) = &mut self.scaler else { return };
        while let Some((second, sample, last)) = self.seconds.front().copied()
            && Duration::from_secs(second) <= at
        {
            self.seconds.pop_front();
            let less = |value: f64| (value - self.assumed).max(0.0);
            let (concurrency, rps) = (less(sample.concurrency), less(sample.rps));
            scaler.record(Duration::from_secs(second), Sample { concurrency, rps });
            if last {
                self.assumed = 0.0;
            }
        }
    }
}

fn duration(nanos: Nanos) -> Duration {
    Duration::from_nanos(nanos.0)
}
