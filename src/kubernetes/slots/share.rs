//! Fair shares of what is not enough.

use std::collections::BTreeMap;

/// What one of those that share wants.
#[derive(Clone, Debug)]
pub(super) struct Demand<K> {
    pub(super) who: K,
    /// Uses now.
    pub(super) used: u32,
    /// Wants besides.
    pub(super) unmet: u32,
}

/// Max-min fair shares: nobody gets more than it uses and wants, and what is left over is the same
/// for all others; what cannot be divided goes round by `turn`.
pub(super) fn fair<K: Ord + Clone>(
    slots: u32,
    demands: &[Demand<K>],
    turn: u64,
) -> BTreeMap<K, u32> {
    let wants = |demand: &Demand<K>| demand.used.saturating_add(demand.unmet);
    let mut order: Vec<&Demand<K>> = demands.iter().filter(|demand| wants(demand) > 0).collect();
    order.sort_by_key(|demand| wants(demand));
    let mut shares = BTreeMap::new();
    let mut left = slots;
    while let Some((least, others)) = order.split_first() {
        let count = u32::try_from(order.len()).unwrap_or(u32::MAX);
        if wants(least) > left / count {
            break;
        }
        shares.insert(least.who.clone(), wants(least));
        left -= wants(least);
        order = others.to_vec();
    }
    let count = u32::try_from(order.len()).unwrap_or(u32::MAX).max(1);
    // By name, so that the turn goes round among the same ones.
    order.sort_by(|a, b| a.who.cmp(&b.who));
    for (index, demand) in order.iter().enumerate() {
        let place = (index as u64 + turn) % u64::from(count);
        let more = u32::from(place < u64::from(left % count));
        shares.insert(demand.who.clone(), left / count + more);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(slots: u32, wants: &[(u32, u32)], turn: u64) -> Vec<u32> {
        let demands: Vec<_> = wants
            .iter()
            .enumerate()
            .map(|(who, (used, unmet))| Demand { who, used: *used, unmet: *unmet })
            .collect();
        let shares = fair(slots, &demands, turn);
        (0..wants.len()).map(|who| shares.get(&who).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn who_wants_little_gets_it_and_the_others_share_the_rest() {
        assert_eq!(shares(10, &[(1, 0), (9, 5), (0, 20)], 1), [1, 4, 5]);
        assert_eq!(shares(10, &[(1, 0), (9, 5), (0, 20)], 0), [1, 5, 4]);
        assert_eq!(shares(10, &[(0, 2), (3, 0)], 0), [2, 3]);
        assert_eq!(shares(10, &[(0, 0), (30, 0)], 0), [0, 10]);
        assert_eq!(shares(0, &[(0, 3), (1, 0)], 0), [0, 0]);
        assert_eq!(shares(4, &[], 0), [0_u32; 0]);
    }

    #[test]
    fn what_cannot_be_divided_goes_round() {
        let turns: Vec<_> = (0..3).map(|turn| shares(1, &[(1, 4), (0, 9), (0, 1)], turn)).collect();
        assert_eq!(turns, [[1, 0, 0], [0, 0, 1], [0, 1, 0]]);
    }
}
