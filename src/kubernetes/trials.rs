//! What the leader decides canaries by: the counts of this proxy and of those that report to it.

use std::fmt;
use std::sync::OnceLock;

use crate::model::{Evidence, RevisionId, UnixNanos};

/// What was counted of an old and a new revision since a step began, told by that moment.
pub type Counted =
    Box<dyn Fn(&RevisionId, &RevisionId, UnixNanos) -> Option<Evidence> + Send + Sync>;

/// Where the counts are, once there are any.
#[derive(Default)]
pub struct Trials(OnceLock<Counted>);

impl fmt::Debug for Trials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trials").finish_non_exhaustive()
    }
}

impl Trials {
    /// Has it know where they are.
    pub fn begin(&self, counted: Counted) {
        if self.0.set(counted).is_err() {
            tracing::error!("counts of canaries are kept by two");
        }
    }

    /// What was counted; none while nothing is.
    pub fn counted(
        &self,
        old: &RevisionId,
        new: &RevisionId,
        since: UnixNanos,
    ) -> Option<Evidence> {
        self.0.get().and_then(|counted| counted(old, new, since))
    }
}
