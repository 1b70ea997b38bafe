//! What a rollout has to know of the revisions it moves traffic between.

use std::sync::Arc;

use crate::config::rollout::Standing;
use crate::local::source::Outcome;
use crate::model::{Evidence, RevisionId, UnixNanos};

use super::live::Live;

/// What becomes of a source's updates.
pub fn outcome(live: Arc<Live>) -> Outcome {
    let (effective, counting) = (Arc::clone(&live), Arc::clone(&live));
    let counts = Arc::clone(&live);
    Outcome {
        updated: live.updated(),
        in_effect: Box::new(move |world| Arc::ptr_eq(&effective.world(), world)),
        is_ready: Box::new(move |id| counts.counts(id).1.ready > 0),
        standing: Box::new(move |id| standing(&live, id)),
        counted: Box::new(move |old, new, since| counted(&counting, old, new, since)),
    }
}

/// What was counted of both revisions since a step began; none while one of them is not there, or
/// has no replica that is ready.
pub(super) fn counted(
    live: &Live,
    old: &RevisionId,
    new: &RevisionId,
    since: UnixNanos,
) -> Option<Evidence> {
    let (old, new) = (live.revision(old)?, live.revision(new)?);
    live.canaries.comparisons.since(old.stats(), new.stats(), since)
}

/// A revision without replicas is as well as one with them, as in Knative, where one with an
/// initial scale of 0 is ready without ever having run: a service that nobody calls gets its new
/// revision in the time set. Where replicas are wanted, by its settings or by a request, they have
/// to become ready; where they cannot be started, it is not doing well until one is ready.
fn standing(live: &Live, id: &RevisionId) -> Standing {
    let (desired, counts) = live.counts(id);
    if counts.ready > 0 {
        return Standing::Ready;
    }
    if live.failure(id).is_some() {
        return Standing::Failing;
    }
    let by_settings = live.revision(id).is_some_and(|revision| {
        let scaling = &revision.spec().scaling;
        scaling.initial_scale.max(scaling.min_scale) > 0
    });
    let wanted = desired > 0 || counts.starting > 0 || by_settings;
    if wanted { Standing::Pending } else { Standing::Ready }
}
