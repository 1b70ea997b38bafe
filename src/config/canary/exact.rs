//! The hypergeometric distribution: of `all`, `marked` are of a kind; how many of that kind are
//! among `drawn` that were taken without looking.

/// Parts of a sum below which the rest does not matter.
const NEGLIGIBLE: f64 = 1e-14;
/// Factorials below this are added up.
const SMALL: u64 = 32;

/// Probability of `found` or more of the kind among those drawn.
pub(super) fn upper_tail(all: u64, marked: u64, drawn: u64, found: u64) -> f64 {
    let most = marked.min(drawn);
    let least = (marked + drawn).saturating_sub(all);
    if found <= least {
        return 1.0;
    }
    if found > most {
        return 0.0;
    }
    let ln =
        ln_choose(marked, found) + ln_choose(all - marked, drawn - found) - ln_choose(all, drawn);
    let mut term = ln.exp();
    let mut sum = term;
    for found in found..most {
        let up = (marked - found) as f64 * (drawn - found) as f64;
        // In this order it is not below zero.
        let down = (found + 1) as f64 * ((all + found + 1) - marked - drawn) as f64;
        let ratio = up / down;
        term *= ratio;
        sum += term;
        if ratio < 1.0 && term < sum * NEGLIGIBLE {
            break;
        }
    }
    sum.min(1.0)
}

/// Logarithm of the number of ways to choose `some` of `all`.
fn ln_choose(all: u64, some: u64) -> f64 {
    ln_factorial(all) - ln_factorial(some) - ln_factorial(all - some)
}

/// Logarithm of a factorial: Stirling's series where that is good to 16 digits.
fn ln_factorial(n: u64) -> f64 {
    if n < SMALL {
        return (2..=n).map(|factor| (factor as f64).ln()).sum();
    }
    let x = n as f64;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same in whole numbers.
    fn slowly(all: u64, marked: u64, drawn: u64, found: u64) -> f64 {
        let choose = |n: u64, k: u64| -> u128 {
            (0..k).fold(1_u128, |ways, i| ways * u128::from(n - i) / u128::from(i + 1))
        };
        let ways = |found: u64| match (marked.checked_sub(found), drawn.checked_sub(found)) {
            (Some(_), Some(rest)) if rest <= all - marked => {
                choose(marked, found) * choose(all - marked, rest)
            }
            _ => 0,
        };
        let sum: u128 = (found..=drawn).map(ways).sum();
        sum as f64 / choose(all, drawn) as f64
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_whole_numbers(all in 1_u64..90, a in 0_u64..90, b in 0_u64..90, c in 0_u64..90) {
            let (marked, drawn) = (a % (all + 1), b % (all + 1));
            let found = c % (drawn + 1);
            let (fast, slow) = (upper_tail(all, marked, drawn, found), slowly(all, marked, drawn, found));
            proptest::prop_assert!((fast - slow).abs() <= slow * 1e-9 + 1e-300, "{fast} {slow}");
        }
    }

    #[test]
    fn known_values() {
        // Fisher's lady, who was right with all of her four cups.
        assert!((upper_tail(8, 4, 4, 4) - 1.0 / 70.0).abs() < 1e-12);
        assert!((upper_tail(8, 4, 4, 3) - 17.0 / 70.0).abs() < 1e-12);
        assert_eq!(upper_tail(100, 0, 10, 0), 1.0);
        assert_eq!(upper_tail(100, 0, 10, 1), 0.0);
        // Many: the half of all that are of the kind.
        let half = upper_tail(2_000_000_000, 1_000_000, 1_000_000_000, 500_000);
        assert!((half - 0.5).abs() < 1e-3, "{half}");
    }
}
