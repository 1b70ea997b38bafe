//! Live state of one revision: its endpoints, their slots, and the queue of requests that wait.
//!
//! One owner of slots: a permit names its endpoint, and only this room counts what is taken.
//! Waiters are first come, first served, and get a freed slot handed to them directly; a newcomer
//! never overtakes a waiter. Endpoint state is keyed by identity and kept through flaps, so a
//! container's concurrency limit holds also for one that went and came back.
//!
//! A revision without a limit whose endpoints are warm does not come here per request: its workers
//! pick from the published [`EndpointSet`] and count in per-worker counters.

mod cold;
mod eject;
mod elsewhere;
mod endpoint;
mod meter;
mod permit;
mod picker;
mod queue;
mod renewal;
mod scale;
mod shares;
mod slots;
mod state;
#[cfg(test)]
mod tests;
mod view;

#[cfg(planted)]
use crate::model::planted;

pub use cold::ColdStart;
pub use eject::DueProbe;
pub use endpoint::{EndpointSet, EndpointState};
pub use permit::{Admission, Permit, Ticket};
pub use picker::pick;
pub use queue::{ProcessQueue, QueueLimits};
pub use scale::Plan;
pub use shares::{SlotsOfEndpoint, SlotsView};
pub use state::{Revision, Setting};
pub use view::EndpointView;
