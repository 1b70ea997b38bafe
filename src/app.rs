//! The composition root: what starts in which order, and what ends in which.

mod canaries;
mod carry;
pub mod cluster;
mod control;
mod doors;
mod estimate;
mod https;
mod inherited;
mod kubernetes;
mod levels;
mod listeners;
mod live;
mod notify;
mod orders;
mod plan;
mod refusals;
mod rollouts;
mod serve;
mod sidecar;
mod state;
mod threads;
mod traced;
mod validate;
mod views;
mod wakes;

pub use control::{Control, ControlParts};
pub use estimate::estimate_settings;
pub use https::ShownAt;
pub use kubernetes::peer_families;
pub use live::Live;
pub use plan::plan;
pub use rollouts::outcome;
pub use serve::serve;
pub use sidecar::sidecar;
pub use threads::{Workers, start_workers};
pub use validate::validate;
