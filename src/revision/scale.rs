//! Scaling down names its victims.
//!
//! The autoscaler states a number; which replicas go is decided here, by what they have to do.
//! A victim gets nothing new, and the platform is told to stop it only when its last request has
//! ended or `timeoutSeconds` has passed. Until then the stated count includes it, and new load or
//! a higher count takes it back.

use std::time::Duration;

use crate::model::EndpointId;
use crate::stats::Nanos;

use super::Revision;
use super::renewal::{replaced, stay, surge};
use super::state::{Entry, Phase};

/// By then a platform has acted on an order, or will not.
const ACTS_WITHIN: Duration = Duration::from_secs(5);

/// What to state to the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Replicas, victims that still work included.
    pub replicas: u32,
    /// Endpoints in the order to spare them.
    pub spare: Vec<EndpointId>,
    /// Endpoints that others have taken the place of.
    pub replaced: Vec<EndpointId>,
    /// Whether victims still work: look again when one is empty or its time is over.
    pub waits: bool,
}

impl Revision {
    /// Turns a desired count into a statement for the platform, choosing, sparing and condemning
    /// victims. `starting` replicas go before any ready one.
    pub fn plan(&self, desired: u32, starting: u32, now: Nanos) -> Plan {
        let timeout = self.spec().timeouts.request;
        let mut state = self.state.lock();
        let entries = &mut state.entries;
        reprieve(entries, desired, now);
        // Condemned and draining ones are the platform's already.
        let mut alive: Vec<usize> = (0..entries.len())
            .filter(|i| matches!(entries[*i].phase, Phase::Ready | Phase::Victim { .. }))
            .collect();
        // Those with most to do are spared, of the fresh ones first; among equals the older victim goes first, and by name, so
        // that several proxies choose the same ones.
        let order = |i: &usize| {
            let entry = &entries[*i];
            let victim = matches!(entry.phase, Phase::Victim { .. });
            (
                entry.is_outdated(),
                std::cmp::Reverse(entry.load_of_all()),
                victim,
                entry.endpoint.id(),
            )
        };
        alive.sort_by(|a, b| order(a).cmp(&order(b)));
        let total = u32::try_from(alive.len()).unwrap_or(u32::MAX).saturating_add(starting);
        let excess = total.saturating_sub(desired).saturating_sub(starting);
        let keep = alive.len() - (excess as usize).min(alive.len());
        let keep = stay(keep, &alive, entries);
        let goal = desired.saturating_add(surge(&alive[..keep], desired, entries));
        let (mut changed, mut working) = (false, 0_u32);
        for index in &alive[..keep] {
            changed |= spare(&mut entries[*index]);
        }
        for index in &alive[keep..] {
            let entry = &mut entries[*index];
            let since = match entry.phase {
                Phase::Victim { since } => since,
                Phase::Ready | Phase::Condemned { .. } | Phase::Draining { .. } => {
                    entry.phase = Phase::Victim { since: now };
                    entry.endpoint.set_leaving(true);
                    changed = true;
                    now
                }
            };
            // Published at least once before it can be condemned: a worker that read the former
            // set may be about to use it, which shows in its counter by the next look.
            let over = now.since(since) >= timeout;
            #[cfg(planted)]
            let over = over || super::planted::is(super::planted::Bug::BusyStopped);
            if since < now && (entry.load_of_all() == 0 || over) {
                entry.phase = Phase::Condemned { since: now };
            } else {
                working += 1;
            }
        }
        let condemned = |i: &&usize| matches!(entries[**i].phase, Phase::Condemned { .. });
        let id = |i: &usize| entries[*i].endpoint.id().clone();
        let mut spare: Vec<EndpointId> = alive.iter().filter(|i| !condemned(i)).map(id).collect();
        let unready = unready(entries, starting, timeout, now);
        spare.extend(unready.iter().map(id));
        let outdated = |i: &&usize| entries[**i].is_outdated();
        spare.extend(alive.iter().filter(condemned).filter(|i| !outdated(i)).map(id));
        let replaced = replaced(entries);
        let kept = working + u32::try_from(unready.len()).unwrap_or(u32::MAX);
        // Never more than there are: nothing is started for the sake of what is to end.
        let replicas = goal.saturating_add(kept).min(total.max(goal));
        if changed {
            self.publish(entries);
            // One that was taken back may have slots that others wait for.
            self.dispatch(state, now);
        }
        Plan { replicas, spare, replaced, waits: replicas > desired || working > 0 }
    }
}

/// Endpoints that are not ready for now and still work, by the platform's count among those that
/// start: they are not to be stopped for that, nor before what really starts.
fn unready(entries: &[Entry], starting: u32, timeout: Duration, now: Nanos) -> Vec<usize> {
    let works = |e: &Entry| match e.phase {
        Phase::Draining { since } => e.load() > 0 && now.since(since) < timeout,
        Phase::Ready | Phase::Victim { .. } | Phase::Condemned { .. } => false,
    };
    (0..entries.len()).filter(|i| works(&entries[*i])).take(starting as usize).collect()
}

/// Takes a victim back; true if it was one.
fn spare(entry: &mut Entry) -> bool {
    let was_victim = matches!(entry.phase, Phase::Victim { .. });
    if was_victim {
        entry.phase = Phase::Ready;
        entry.endpoint.set_leaving(false);
    }
    was_victim
}

/// Condemned endpoints that the platform goes on reporting are taken back when too few are left
/// without them: the count was raised before it acted, and it would keep them, never used.
fn reprieve(entries: &mut [Entry], desired: u32, now: Nanos) {
    let alive =
        entries.iter().filter(|e| matches!(e.phase, Phase::Ready | Phase::Victim { .. })).count();
    let missing = (desired as usize).saturating_sub(alive);
    let kept = |e: &&mut Entry| match e.phase {
        Phase::Condemned { since } => now.since(since) >= ACTS_WITHIN,
        Phase::Ready | Phase::Victim { .. } | Phase::Draining { .. } => false,
    };
    let kept = entries.iter_mut().filter(kept).filter(|e| !e.is_outdated());
    for entry in kept.take(missing) {
        // The caller sees a victim taken back, and publishes.
        entry.phase = Phase::Victim { since: Nanos(0) };
    }
}
