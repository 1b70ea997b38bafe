//! Least loaded of two random.

/// Picks an index below `count`: two different ones are drawn and the less loaded wins. With two
/// it compares both, with one there is no choice, with none there is none.
pub fn pick(count: usize, rng: &mut fastrand::Rng, load: impl Fn(usize) -> u32) -> Option<usize> {
    match count {
        0 => None,
        1 => Some(0),
        _ => {
            let first = rng.usize(..count);
            // A second one that differs, each of the others with the same chance.
            let mut second = rng.usize(..count - 1);
            if second >= first {
                second += 1;
            }
            Some(if load(second) < load(first) { second } else { first })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_loaded_is_never_picked_and_the_rest_share() {
        let mut rng = fastrand::Rng::with_seed(7);
        let loads = [5, 0, 0, 0];
        let mut picked = [0_u32; 4];
        for _ in 0..3_000 {
            picked[pick(4, &mut rng, |i| loads[i]).expect("four to pick from")] += 1;
        }
        assert_eq!(picked[0], 0, "the loaded one loses every comparison");
        assert!(picked[1..].iter().all(|n| (800..1_200).contains(n)), "{picked:?}");
    }

    #[test]
    fn equal_loads_are_picked_equally_often() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut picked = [0_u32; 2];
        for _ in 0..2_000 {
            picked[pick(2, &mut rng, |_| 1).expect("two to pick from")] += 1;
        }
        assert!(picked.iter().all(|n| (900..1_100).contains(n)), "{picked:?}");
        assert_eq!(pick(0, &mut rng, |_| 0), None);
        assert_eq!(pick(1, &mut rng, |_| 9), Some(0));
    }
}
