//! Numbers of things started, never used twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives each replica and each command its number.
#[derive(Clone, Debug, Default)]
pub(super) struct Serials(Arc<AtomicU64>);

impl Serials {
    /// The next number, from 1.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}
