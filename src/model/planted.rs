//! Bugs on purpose: the simulation must catch each of them. Compiled only with `--cfg planted`,
//! which no release build has (`tests/sim/planted.sh`).

use std::sync::atomic::{AtomicU8, Ordering};

/// One bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A permit that ends wakes nobody.
    LostWakeup = 1,
    /// A waiter that leaves keeps its place in line.
    KeptPlace,
    /// A waiter that leaves after having been served keeps the slot.
    KeptSlot,
    /// An endpoint takes one more than its slots.
    OneTooMany,
    /// New load never takes a victim back.
    VictimForgotten,
    /// An endpoint that is not reported is forgotten with its requests.
    FlapForgets,
    /// Who came last is served first.
    LastFirst,
    /// A victim is stopped with its requests.
    BusyStopped,
    /// A waiter that leaves still counts for the process.
    ProcessLeak,
    /// A held request does not call the autoscaler.
    NoPoke,
    /// An endpoint that was set aside stays so.
    AsideForEver,
    /// Who has the last replica keeps it, however many have none.
    NoTurns,
    /// Every tenth second of load is not recorded.
    LostSecond,
    /// Some requests that end stay in flight.
    StaysInFlight,
    /// A removed revision is never forgotten.
    ListedForEver,
    /// A restart does not use the stamps that it read.
    StampsLost,
    /// An object that is not admitted loses its former self.
    BrokenIsGone,
    /// New configuration drops what waits.
    ReloadDropsQueue,
    /// Connections stay open on the way down.
    NeverCloses,
    /// A request is sent again and again until it is answered.
    SentAgain,
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// From now on this bug is in, and no other.
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as u8), Ordering::Relaxed);
}

/// Whether this bug is in.
pub fn is(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as u8
}
