//! Traffic by percentage: every block of 100 draws is exact, in an order shuffled anew per block,
//! so that a client with a period does not line up with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::revision::Revision;

/// Shares of a service's traffic.
#[derive(Debug)]
pub struct Split {
    /// Revisions with the end of their share, ascending to 100.
    targets: Vec<(u64, Arc<Revision>)>,
    draws: AtomicU64,
    seed: u64,
}

impl Split {
    /// A split of revisions with percents that add up to 100.
    pub fn new(shares: Vec<(u8, Arc<Revision>)>, seed: u64) -> Self {
        let mut end = 0_u64;
        let targets = shares
            .into_iter()
            .map(|(percent, revision)| {
                end += u64::from(percent);
                (end, revision)
            })
            .collect();
        Self { targets, draws: AtomicU64::new(0), seed }
    }

    /// The same, with the draws of a former one counted as its own.
    #[must_use]
    pub fn going_on(mut self, former: Option<&Self>) -> Self {
        if let Some(former) = former {
            self.draws = AtomicU64::new(former.draws.load(Ordering::Relaxed));
        }
        self
    }

    /// The revision for the next request. One with a single target touches nothing shared.
    pub fn draw(&self) -> Option<&Arc<Revision>> {
        match self.targets.as_slice() {
            [] => None,
            [(_, only)] => Some(only),
            targets => {
                let draw = self.draws.fetch_add(1, Ordering::Relaxed);
                let point = shuffled(self.seed, draw);
                targets.iter().find(|(end, _)| point < *end).map(|(_, revision)| revision)
            }
        }
    }

    /// The share of a revision, in per cent; none if it has none.
    pub fn percent_of(&self, revision: &Arc<Revision>) -> Option<u8> {
        let at = self.targets.iter().position(|(_, target)| Arc::ptr_eq(target, revision))?;
        let before = at.checked_sub(1).map_or(0, |before| self.targets[before].0);
        u8::try_from(self.targets[at].0 - before).ok()
    }

    /// All revisions that get a share.
    pub fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        self.targets.iter().map(|(_, revision)| revision)
    }
}

/// The place of a draw within its block of 100, after shuffling: a permutation of 0..100 that is
/// another one for each block. A small keyed Feistel network permutes 0..256; results of 100 or
/// more are put through it again, which keeps it a permutation of 0..100.
fn shuffled(seed: u64, draw: u64) -> u64 {
    let key = mix(seed ^ (draw / 100).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut point = draw % 100;
    loop {
        let (mut left, mut right) = (point >> 4, point & 15);
        for round in 0..4 {
            let f = mix(key ^ (right << 8) ^ round) & 15;
            (left, right) = (right, left ^ f);
        }
        point = (left << 4) | right;
        if point < 100 {
            return point;
        }
    }
}

/// splitmix64's finaliser: every input bit changes about half of the output's.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_block_is_exact(seed: u64, block in 0_u64..1_000_000) {
            let mut seen = [0_u32; 100];
            for i in 0..100 {
                seen[shuffled(seed, block * 100 + i) as usize] += 1;
            }
            prop_assert!(seen.iter().all(|n| *n == 1));
        }
    }

    /// Clients that come every n-th draw see the shares too: at 90/10 none of them is off by more
    /// than chance allows.
    #[test]
    fn periodic_clients_do_not_line_up() {
        for period in [2, 3, 5, 7, 10, 20, 25, 50, 100] {
            let draws = 20_000_u64;
            let small = (0..draws).filter(|n| shuffled(42, n * period) >= 90).count();
            let share = small as f64 / draws as f64;
            assert!((0.085..0.115).contains(&share), "every {period}th: {share}");
        }
    }
}
