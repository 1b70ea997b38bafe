//! Who leads: at most one of the replicas writes what belongs to all, elected by a
//! `coordination.k8s.io` Lease in tidegate's own namespace.
//!
//! The rule is client-go's (`tools/leaderelection/leaderelection.go`): times in the Lease are for
//! people; each replica acts only on its own monotonic clock. A leader leads for
//! [`Timing::deadline`] from the moment it *sent* its last successful renewal; another one takes
//! over [`Timing::duration`] after it *saw* the Lease change last. As `deadline` is shorter, the
//! first has ended before the second begins, whatever was slow or lost in between, as long as their
//! clocks run equally fast within `duration / deadline`. Every write carries the `resourceVersion`
//! that it is based on, so of two replicas that take over at once one fails, and a renewal that
//! arrives late changes nothing. Nothing fences a process that is stopped between asking whether it
//! leads and writing: such writes carry a version or a condition of their own.
//!
//! `election` is the rule, without clock or network; `run` gives it both.

mod election;
mod renewals;
mod run;
#[cfg(test)]
mod simulation;

pub use election::{Answer, Election, Record, Request, Timing};
pub use renewals::{Renewals, Tenure};
pub use run::{Hints, Leadership, Leading, LeaseSettings, elect};

/// Name of the Lease.
pub const LEASE: &str = "tidegate";
