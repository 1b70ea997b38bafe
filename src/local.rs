//! TODO.
pub mod files;
