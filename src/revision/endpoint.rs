//! Endpoints as workers see them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::model::EndpointId;
use crate::stats::WorkerIndex;

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// A counter on a cache line of its own, so that workers do not slow each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU32);

/// One endpoint, shared by all workers for as long as anything refers to it.
#[derive(Debug)]
pub struct EndpointState {
    key: u64,
    id: EndpointId,
    address: SocketAddr,
    /// Requests without a slot (unlimited, warm), per worker; each worker writes its own.
    free: Box<[Padded]>,
    /// Connect failures in a row.
    failures: AtomicU32,
    leaving: AtomicBool,
    /// Where its entry was when a slot of it was last taken; a hint.
    place: AtomicUsize,
}

impl EndpointState {
    pub(super) fn new(id: EndpointId, address: SocketAddr, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            id,
            address,
            free: (0..workers).map(|_| Padded::default()).collect(),
            failures: AtomicU32::new(0),
            leaving: AtomicBool::new(false),
            place: AtomicUsize::new(0),
        })
    }

    /// A number that no other endpoint of this process ever has.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Which replica it is.
    pub fn id(&self) -> &EndpointId {
        &self.id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request without a slot begins, on the thread of `worker`.
    pub fn enter(&self, worker: WorkerIndex) {
        let count = &self.free[worker].0;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// A request without a slot ended, on the thread of `worker`. True when somebody waits for
    /// this endpoint to become empty.
    pub fn leave(&self, worker: WorkerIndex) -> bool {
        let count = &self.free[worker].0;
        count.store(count.load(Ordering::Relaxed).saturating_sub(1), Ordering::Release);
        self.leaving.load(Ordering::Acquire)
    }

    /// Requests without a slot that `worker` has here.
    pub fn load_of(&self, worker: WorkerIndex) -> u32 {
        self.free[worker].0.load(Ordering::Relaxed)
    }

    /// Requests without a slot that all workers have here.
    pub(super) fn free_load(&self) -> u32 {
        self.free.iter().map(|count| count.0.load(Ordering::Acquire)).sum()
    }

    /// Written with the queue's lock held, and only if it changed: others read this line.
    pub(super) fn set_place(&self, place: usize) {
        if self.place() != place {
            self.place.store(place, Ordering::Relaxed);
        }
    }

    pub(super) fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed)
    }

    pub(super) fn set_leaving(&self, leaving: bool) {
        self.leaving.store(leaving, Ordering::Release);
    }

    pub(super) fn add_failure(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A connection could be made.
    pub fn connected(&self) {
        // Read first: the line is shared, and almost always 0 already.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

/// The endpoints of an unlimited revision that take requests without asking the queue. Empty for a
/// revision with a limit, and while its endpoints are cold.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// The endpoints, in no particular order.
    pub open: Vec<Arc<EndpointState>>,
}
