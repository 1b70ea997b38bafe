//! This machine as the platform: replicas are child processes.
//!
//! * [`guard_main`] is a process of its own that starts all children, so that none outlives
//!   tidegate, however that ends.
//! * [`state`] is what a restart finds again.
//! * [`Supervisor`] owns the replicas: it takes counts through
//!   [`ScaleTarget`](crate::platform::ScaleTarget) and reports endpoints as
//!   [`Update`](crate::platform::Update)s.
//! * [`BackendSource`] and [`BackendTarget`] are the same seams before one backend that somebody
//!   else runs (`tidegate sidecar`).
//!
//! ```text
//! order → room (fleets, turns to start) → replica task → guard → program
//!           ↑ events (spawned, ready, failed, gone) ┘ probes, output, volumes
//! ```

mod backend;
mod backoff;
mod cgroup;
mod environment;
mod expand;
mod failure;
pub mod files;
mod fleet;
mod group;
mod guard;
mod health;
mod keeper;
mod limits;
mod listening;
mod outbox;
mod output;
mod ports;
mod printed;
mod probe;
mod replica;
mod room;
mod serials;
pub mod source;
mod starting;
pub mod state;
mod supervisor;
#[cfg(test)]
mod tests;
mod turns;
mod volumes;
mod wire;

pub use backend::{Backend, BackendSource, BackendTarget};
pub use guard::guard_main;
pub use limits::raise_descriptor_limit;
pub use listening::port_holder;
pub use printed::{Printed, PrintedLine};
pub use supervisor::{Supervisor, SupervisorHandle, SupervisorSettings};
