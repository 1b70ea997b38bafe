//! TODO.
mod clamp;
pub mod decider;
mod max_window;
mod misc;
mod multiscaler;
mod weighted;
mod window;
pub mod zero;

pub use clamp::{Clamp, Clamps};
pub use decider::Decider;
pub use max_window::MaxWindow;
pub use misc::{bounds, num_activators};
pub use multiscaler::{Sample, Scaler, Status, Ticked};
pub use window::Window;
