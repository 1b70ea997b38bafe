//! Where data plane and autoscaler meet: events of requests become averages, and a held request
//! becomes a poke.
//!
//! Each worker thread writes cells of its own with plain loads and stores, nothing shared: the
//! warm path costs a few nanoseconds and does not grow with the number of cores. The control
//! thread reads the cells; a sequence number per cell keeps what it reads consistent.

mod cell;
mod clock;
mod comparison;
mod elsewhere;
mod histogram;
mod poke;
mod trial;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::model::{Reason, RevisionId, Tally};

pub use crate::model::Nanos;
use cell::Cell;
pub use cell::CodeCount;
pub use clock::Clock;
pub use comparison::Comparisons;
use elsewhere::Elsewhere;
pub use elsewhere::Report;
pub use histogram::{Histogram, HistogramReading, LATENCY_BOUNDS_MS};
pub use poke::{Poked, Pokes};
pub use trial::Ended;
use trial::{TrialCell, TrialsElsewhere};

/// Index of a worker thread, counted from 0.
pub type WorkerIndex = usize;

/// Sums since the start of one revision, as of one moment. Averages are differences of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// When it was taken.
    pub at: Nanos,
    /// Requests in flight now, waiting ones included.
    pub in_flight: u64,
    /// Requests × nanoseconds in flight since the start.
    pub area: u128,
    /// Requests that arrived since the start.
    pub arrivals: u64,
}

impl Reading {
    /// Average number of requests in flight since `earlier`; the present number when no time
    /// has passed.
    pub fn concurrency_since(&self, earlier: &Self) -> f64 {
        let elapsed = self.at.0.saturating_sub(earlier.at.0);
        if elapsed == 0 {
            return self.in_flight as f64;
        }
        self.area.saturating_sub(earlier.area) as f64 / elapsed as f64
    }

    /// Requests that arrived since `earlier`.
    pub fn arrivals_since(&self, earlier: &Self) -> u64 {
        self.arrivals.saturating_sub(earlier.arrivals)
    }
}

/// Everything measured about one revision.
#[derive(Debug)]
pub struct RevisionStats {
    revision: RevisionId,
    clock: Clock,
    cells: Box<[OnceLock<Box<Cell>>]>,
    /// Whether it is compared with another one.
    compared: AtomicBool,
    trials: Box<[OnceLock<Box<TrialCell>>]>,
    trials_elsewhere: TrialsElsewhere,
    waiting: AtomicU32,
    ready: AtomicU32,
    starting: AtomicU32,
    poked: AtomicBool,
    pokes: Arc<Pokes>,
    refused: [std::sync::atomic::AtomicU64; Reason::ALL.len()],
    queue_wait: Histogram,
    cold_start: Histogram,
    elsewhere: Elsewhere,
}

impl RevisionStats {
    /// Stats of a revision for `workers` worker threads.
    pub fn new(revision: RevisionId, clock: Clock, workers: usize, pokes: Arc<Pokes>) -> Arc<Self> {
        Arc::new(Self {
            revision,
            clock,
            cells: (0..workers).map(|_| OnceLock::new()).collect(),
            compared: AtomicBool::new(false),
            trials: (0..workers).map(|_| OnceLock::new()).collect(),
            trials_elsewhere: TrialsElsewhere::default(),
            waiting: AtomicU32::new(0),
            ready: AtomicU32::new(0),
            starting: AtomicU32::new(0),
            poked: AtomicBool::new(false),
            pokes,
            refused: Default::default(),
            queue_wait: Histogram::default(),
            cold_start: Histogram::default(),
            elsewhere: Elsewhere::default(),
        })
    }

    /// Whose stats these are.
    pub fn revision(&self) -> &RevisionId {
        &self.revision
    }

    /// The clock that `Nanos` of this revision are read from.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    fn cell(&self, worker: WorkerIndex) -> &Cell {
        self.cells[worker].get_or_init(Box::default)
    }

    /// A request arrived. Must be called on the thread of `worker`.
    pub fn arrive(&self, worker: WorkerIndex, now: Nanos) {
        self.cell(worker).enter(now, true);
    }

    /// A request ended, on the thread of the worker it arrived on. `status` is none when no
    /// response was begun.
    pub fn leave(&self, worker: WorkerIndex, arrived: Nanos, now: Nanos, status: Option<u16>) {
        let cell = self.cell(worker);
        #[cfg(planted)]
        if arrived.0 % 7 == 0
            && crate::model::planted::is(crate::model::planted::Bug::StaysInFlight)
        {
            return cell.ended(status, now.0.saturating_sub(arrived.0));
        }
        cell.leave(now);
        cell.ended(status, now.0.saturating_sub(arrived.0));
    }

    /// An upgraded connection without bytes no longer counts as load.
    pub fn pause(&self, worker: WorkerIndex, now: Nanos) {
        self.cell(worker).leave(now);
    }

    /// A paused connection has bytes again.
    pub fn resume(&self, worker: WorkerIndex, now: Nanos) {
        self.cell(worker).enter(now, false);
    }

    /// A request that does not count as load ended (`no-wake`, warm).
    pub fn ended_uncounted(
        &self,
        worker: WorkerIndex,
        arrived: Nanos,
        now: Nanos,
        status: Option<u16>,
    ) {
        self.cell(worker).ended(status, now.0.saturating_sub(arrived.0));
    }

    /// A replica answered, or broke off; `took` is without the wait for a place. Only kept where
    /// both are shown apart.
    pub fn app_ended(&self, worker: WorkerIndex, status: Option<u16>, took: std::time::Duration) {
        self.cell(worker).app_ended(status, crate::model::nanos_of(took));
    }

    /// Has it counted how its requests end, or no longer.
    pub fn set_compared(&self, compared: bool) {
        self.compared.store(compared, Ordering::Relaxed);
        if !compared {
            self.trials_elsewhere.forget();
        }
    }

    /// Whether it is compared with another revision: only then [`Self::judge`] is called.
    pub fn is_compared(&self) -> bool {
        self.compared.load(Ordering::Relaxed)
    }

    /// A request ended, on the thread of the worker it arrived on.
    pub fn judge(&self, worker: WorkerIndex, ended: Ended) {
        self.trials[worker].get_or_init(Box::default).ended(ended);
    }

    /// What [`Self::judge`] was told, and what others report of the same.
    pub fn tally(&self) -> Tally {
        let mut sum = self.own_tally();
        self.trials_elsewhere.add_to(&mut sum);
        sum
    }

    /// Somebody else says how requests of this revision ended there, since counting began there.
    pub fn report_tally(&self, by: &Arc<str>, tally: Tally) {
        if self.is_compared() {
            self.trials_elsewhere.report(by, tally);
        }
    }

    /// What [`Self::judge`] was told.
    pub fn own_tally(&self) -> Tally {
        let mut sum = Tally::default();
        for cell in self.trials.iter().filter_map(OnceLock::get) {
            cell.add_to(&mut sum);
        }
        sum
    }

    /// tidegate answered a request of this revision itself.
    pub fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.pokes.count_refused();
    }

    /// How long a request waited for its permit.
    pub fn waited(&self, wait: std::time::Duration) {
        self.queue_wait.record(wait);
    }

    /// A cold start ended.
    pub fn cold_started(&self, took: std::time::Duration) {
        self.cold_start.record(took);
    }

    /// Sums over all workers.
    pub fn read(&self, now: Nanos) -> Reading {
        let mut sum = Reading { at: now, ..Reading::default() };
        for cell in self.cells.iter().filter_map(OnceLock::get) {
            cell.add_to(&mut sum);
        }
        sum
    }

    /// Ended requests by status code, and those that ended without one.
    pub fn codes(&self) -> CodeCount {
        let mut sum = CodeCount::default();
        for cell in self.cells.iter().filter_map(OnceLock::get) {
            cell.add_codes(&mut sum);
        }
        sum
    }

    /// Time from arrival to the end, of all ended requests.
    pub fn latency(&self) -> HistogramReading {
        let mut sum = HistogramReading::default();
        for cell in self.cells.iter().filter_map(OnceLock::get) {
            sum.add(&cell.latency());
        }
        sum
    }

    /// Status codes and times of what [`Self::app_ended`] was told.
    pub fn app(&self) -> (CodeCount, HistogramReading) {
        let (mut codes, mut latency) = (CodeCount::default(), HistogramReading::default());
        for cell in self.cells.iter().filter_map(OnceLock::get) {
            cell.add_app(&mut codes, &mut latency);
        }
        (codes, latency)
    }

    /// Time that requests waited for a permit; those that did not wait are not in it.
    pub fn queue_wait(&self) -> HistogramReading {
        self.queue_wait.read()
    }

    /// Cold starts, from the order to the first ready endpoint.
    pub fn cold_start(&self) -> HistogramReading {
        self.cold_start.read()
    }

    /// Requests that tidegate answered itself, by reason; only those above zero.
    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.refused[reason as usize].load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    /// Whether the revision had a request since the start: only then it has metric series.
    pub fn had_traffic(&self) -> bool {
        self.cells.iter().any(|cell| cell.get().is_some())
    }

    /// Requests that wait for a permit.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests that wait for a permit, here and elsewhere.
    pub fn waiting_everywhere(&self) -> u32 {
        self.waiting().saturating_add(self.elsewhere.waiting())
    }

    /// Requests in flight elsewhere.
    pub fn in_flight_elsewhere(&self) -> u64 {
        self.elsewhere.in_flight()
    }

    /// Somebody else says what it has of this revision. Load where there was none, or requests
    /// that wait, are looked at at once.
    pub fn report_elsewhere(&self, by: &Arc<str>, report: Report) {
        if self.elsewhere.report(by, report) || report.waiting > 0 {
            self.poke();
        }
    }

    /// Somebody else is gone, and its load with it.
    pub fn forget_elsewhere(&self, by: &str) {
        self.elsewhere.forget(by);
    }

    /// Concurrency and arrivals of one second elsewhere; to be taken once a second.
    pub fn take_elsewhere(&self) -> (f64, f64) {
        self.elsewhere.take()
    }

    /// The queue's owner states how many wait.
    pub fn set_waiting(&self, waiting: u32) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Ready replicas, victims included.
    pub fn ready(&self) -> u32 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Replicas that are starting.
    pub fn starting(&self) -> u32 {
        self.starting.load(Ordering::Relaxed)
    }

    /// The platform reported its replicas.
    pub fn set_replicas(&self, ready: u32, starting: u32) {
        self.ready.store(ready, Ordering::Relaxed);
        self.starting.store(starting, Ordering::Relaxed);
    }

    /// A request could not be served at once, or the revision has replicas it did not have: the
    /// autoscaler is to look now. Many pokes before it looks are one.
    pub fn poke(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            self.pokes.push(self.revision.clone());
        }
    }

    /// The autoscaler looks now; later pokes count again.
    pub fn take_poke(&self) -> bool {
        self.poked.swap(false, Ordering::AcqRel)
    }
}
