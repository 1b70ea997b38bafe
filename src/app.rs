//! The composition root: what starts in which order, and what ends in which.

mod control;
mod threads;

pub use control::{Control, ControlParts, Live};
pub use threads::{Workers, start_workers};
