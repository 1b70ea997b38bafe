//! The process' bound on replicas (`--max-replicas`): who gets how many when all want more.
//!
//! Whoever has replicas keeps them. A revision without any comes first for what is free, the least
//! recently granted one before others; when nothing is free, it gets one from whoever has most.
//! When nobody has two, it gets the only one of a revision without load, else of the one that held
//! it longest, but not before [`HOLD`]: more revisions with load than replicas take turns.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::stats::Nanos;

/// How long a revision under load keeps its only replica at least.
const HOLD: Duration = Duration::from_secs(10);

/// What one revision wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Replicas it wants.
    pub(super) want: u32,
    /// Replicas it was granted before.
    pub(super) held: u32,
    /// Whether a request is in flight or waits.
    pub(super) busy: bool,
    /// When it was last granted more than before.
    pub(super) granted_at: Option<Nanos>,
}

/// Grants for demands that together exceed `limit`, in their order. Their sum is at most `limit`,
/// and none exceeds its demand.
pub(super) fn share(limit: u32, demands: &[Demand], now: Nanos) -> Vec<u32> {
    let mut grants: Vec<u32> = demands.iter().map(|d| d.want.min(d.held)).collect();
    let sum: u64 = grants.iter().copied().map(u64::from).sum();
    let mut excess = sum.saturating_sub(u64::from(limit));
    while excess > 0 {
        let Some(index) = largest(&grants, 1) else { break };
        grants[index] -= 1;
        excess -= 1;
    }
    let sum: u32 = grants.iter().sum();
    let mut room = limit.saturating_sub(sum);
    feed_those_without(demands, &mut grants, &mut room, now);
    // The rest goes to the smallest first.
    let key = |grants: &[u32], i: usize| (grants[i], demands[i].granted_at, i);
    let mut hungry: BTreeSet<_> = (0..grants.len())
        .filter(|i| grants[*i] < demands[*i].want)
        .map(|i| key(&grants, i))
        .collect();
    while room > 0
        && let Some((_, _, index)) = hungry.pop_first()
    {
        grants[index] += 1;
        room -= 1;
        if grants[index] < demands[index].want {
            hungry.insert(key(&grants, index));
        }
    }
    grants
}

fn feed_those_without(demands: &[Demand], grants: &mut [u32], room: &mut u32, now: Nanos) {
    let mut without: Vec<usize> =
        (0..grants.len()).filter(|i| grants[*i] == 0 && demands[*i].want > 0).collect();
    // Under load before idle (`min-scale`), then the least recently granted.
    without.sort_by_key(|i| (Reverse(demands[*i].busy), demands[*i].granted_at));
    for index in without {
        if *room > 0 {
            *room -= 1;
        } else if let Some(giver) = giver(demands, grants, demands[index].busy, now) {
            grants[giver] -= 1;
        } else {
            return;
        }
        grants[index] = 1;
    }
}

/// Who gives a replica to a revision that has none.
fn giver(demands: &[Demand], grants: &[u32], for_busy: bool, now: Nanos) -> Option<usize> {
    if let Some(index) = largest(grants, 2) {
        return Some(index);
    }
    if !for_busy {
        return None;
    }
    #[cfg(planted)]
    if crate::model::planted::is(crate::model::planted::Bug::NoTurns) {
        return None;
    }
    let single = |busy: bool| {
        // Only what was held before: nothing is taken back in the round it was given in.
        let mut held = (0..grants.len()).filter(move |i| grants[*i] == 1 && demands[*i].held > 0);
        held.by_ref().filter(|i| demands[*i].busy == busy).min_by_key(|i| demands[*i].granted_at)
    };
    single(false).or_else(|| {
        single(true).filter(|i| demands[*i].granted_at.is_none_or(|at| now.since(at) >= HOLD))
    })
}

fn largest(grants: &[u32], at_least: u32) -> Option<usize> {
    (0..grants.len()).filter(|i| grants[*i] >= at_least).max_by_key(|i| (grants[*i], Reverse(*i)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand(want: u32, held: u32, granted_s: Option<u64>) -> Demand {
        let granted_at = granted_s.map(|s| Nanos(s * 1_000_000_000));
        Demand { want, held, busy: true, granted_at }
    }

    const NOW: Nanos = Nanos(100_000_000_000);

    #[test]
    fn one_at_zero_takes_from_the_largest() {
        let demands = [demand(9, 6, Some(1)), demand(3, 2, Some(2)), demand(2, 0, None)];
        assert_eq!(share(8, &demands, NOW), [5, 2, 1]);
    }

    #[test]
    fn least_recently_granted_first() {
        let demands = [demand(4, 3, Some(1)), demand(1, 0, Some(50)), demand(1, 0, Some(9))];
        assert_eq!(share(4, &demands, NOW), [2, 1, 1], "room for one, one more is taken");
        let demands = [demand(1, 1, Some(99)), demand(1, 0, Some(50)), demand(1, 0, Some(9))];
        assert_eq!(share(2, &demands, NOW), [1, 0, 1], "room for one only");
    }

    #[test]
    fn singles_take_turns() {
        let mut demands = [demand(1, 1, Some(95)), demand(1, 1, Some(92)), demand(1, 0, None)];
        assert_eq!(share(2, &demands, NOW), [1, 1, 0], "not before they held it for a while");
        demands[1].granted_at = Some(Nanos(80_000_000_000));
        assert_eq!(share(2, &demands, NOW), [1, 0, 1]);
        demands[1].granted_at = Some(Nanos(99_000_000_000));
        demands[0].busy = false;
        assert_eq!(share(2, &demands, NOW), [0, 1, 1], "one without load gives at once");
        demands[2].busy = false;
        assert_eq!(share(2, &demands, NOW), [1, 1, 0], "but not to another without load");
    }

    #[test]
    fn the_rest_is_levelled() {
        let demands = [demand(9, 1, None), demand(9, 3, None), demand(2, 0, None)];
        assert_eq!(share(10, &demands, NOW), [4, 4, 2]);
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_nobody_with_load_starves(
            limit in 1_u32..30,
            demands in prop::collection::vec(
                (0_u32..12, 0_u32..12, any::<bool>(), prop::option::of(0_u64..100)), 1..20),
        ) {
            let demands: Vec<Demand> = demands.into_iter()
                .map(|(want, held, busy, at)| Demand { busy, ..demand(want, held, at) })
                .collect();
            let grants = share(limit, &demands, NOW);
            let sum: u32 = grants.iter().sum();
            let wanted: u32 = demands.iter().map(|d| d.want).sum();
            prop_assert!(sum <= limit);
            prop_assert_eq!(sum, limit.min(wanted), "nothing stays unused");
            for (grant, demand) in grants.iter().zip(&demands) {
                prop_assert!(*grant <= demand.want);
            }
            // Nobody holds two while another with load has none.
            let starving = grants.iter().zip(&demands).any(|(g, d)| *g == 0 && d.want > 0 && d.busy);
            prop_assert!(!starving || grants.iter().all(|g| *g <= 1));
        }
    }
}
