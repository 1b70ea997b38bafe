//! Which endpoint the next slot is taken of.

use std::sync::Arc;

use crate::stats::Nanos;

use super::Revision;
use super::meter::Limit;
use super::permit::Grant;
use super::picker::pick;
use super::state::{Entry, Phase, State, all_aside};

/// From so many endpoints on two are drawn blindly first, and all are looked at only if those have
/// no slot free.
const MANY: usize = 4;
/// Blind draws for each of the two.
const DRAWS: usize = 4;

impl Revision {
    /// Takes a free slot of the least loaded of two random endpoints that have one; a victim is
    /// taken back if nobody else has. With most endpoints free the cost does not grow with their
    /// number.
    pub(super) fn take_slot(
        &self,
        state: &mut State,
        now: Nanos,
        avoid: Option<u64>,
    ) -> Option<Grant> {
        let State { entries, rng, .. } = state;
        let rng = rng.get_or_insert_with(fastrand::Rng::new);
        let index = match draw_two(entries, rng, now, avoid) {
            Some([first, second]) if entries[second].load() < entries[first].load() => second,
            Some([first, _]) => first,
            None => match pick_of_all(entries, rng, now, avoid) {
                Some(index) => index,
                None => self.take_back(entries)?,
            },
        };
        let entry = &mut entries[index];
        entry.held += 1;
        entry.endpoint.set_place(index);
        Some(Grant { endpoint: Arc::clone(&entry.endpoint) })
    }

    /// New load takes a victim back, the busiest first: it would have gone last.
    fn take_back(&self, entries: &mut [Entry]) -> Option<usize> {
        #[cfg(planted)]
        if super::planted::is(super::planted::Bug::VictimForgotten) {
            return None;
        }
        let all_aside = all_aside(entries);
        let victim = entries
            .iter()
            .enumerate()
            .filter(|(_, e)| e.is_taken_back() && e.limit.admits(e.held))
            .filter(|(_, e)| e.ejected.is_none() || all_aside)
            .max_by_key(|(_, e)| e.load())
            .map(|(index, _)| index)?;
        entries[victim].phase = Phase::Ready;
        entries[victim].endpoint.set_leaving(false);
        self.publish(entries);
        // The autoscaler is to see this load before its next tick.
        self.stats().poke();
        Some(victim)
    }
}

/// Whether a slot can be taken of an endpoint; `aside`: of one that is set aside.
fn is_usable(entry: &Entry, aside: bool) -> bool {
    entry.phase == Phase::Ready
        && entry.ejected.is_some() == aside
        && entry.limit.admits(entry.held)
}

fn advance(entry: &mut Entry, now: Nanos) {
    if let Limit::Metered(meter) = &mut entry.limit {
        meter.advance(now);
    }
}

/// Two different endpoints with a free slot, each of those with the same chance; none if a few
/// draws do not find them, or there are few anyway.
fn draw_two(
    entries: &mut [Entry],
    rng: &mut fastrand::Rng,
    now: Nanos,
    avoid: Option<u64>,
) -> Option<[usize; 2]> {
    let count = entries.len();
    if count < MANY {
        return None;
    }
    let mut draw = |other: Option<usize>| {
        (0..DRAWS).map(|_| rng.usize(..count)).find(|index| {
            let entry = &mut entries[*index];
            advance(entry, now);
            Some(*index) != other
                && is_usable(entry, false)
                && avoid.is_none_or(|avoid| entry.endpoint.key() != avoid)
        })
    };
    let first = draw(None)?;
    Some([first, draw(Some(first))?])
}

/// The least loaded of two random of all that have a free slot; one to avoid only if there is no
/// other.
fn pick_of_all(
    entries: &mut [Entry],
    rng: &mut fastrand::Rng,
    now: Nanos,
    avoid: Option<u64>,
) -> Option<usize> {
    for entry in entries.iter_mut() {
        advance(entry, now);
    }
    let free_of = |aside: bool| -> Vec<usize> {
        (0..entries.len()).filter(|index| is_usable(&entries[*index], aside)).collect()
    };
    let mut free = free_of(false);
    if free.is_empty() && all_aside(entries) {
        free = free_of(true);
    }
    if let Some(avoid) = avoid
        && free.len() > 1
    {
        free.retain(|index| entries[*index].endpoint.key() != avoid);
    }
    pick(free.len(), rng, |index| entries[free[index]].load()).map(|picked| free[picked])
}
