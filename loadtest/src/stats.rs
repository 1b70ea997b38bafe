//! Numbers out of repeated measurements: quantiles, and how sure a median is.

/// Redraws of a bootstrap.
const REDRAWS: usize = 2000;

/// The value that a part (0 to 1) of the values does not exceed, between neighbours by straight
/// line; none when there are no values.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, part)
}

fn quantile_of_sorted(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = part.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some((sorted[above] - sorted[below]).mul_add(place - below as f64, sorted[below]))
}

/// The middle value; none when there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// A median and the interval that holds the true one with 95 % (percentile bootstrap).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median of what was measured.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The median with its interval; none when there are no values. The same seed gives the same
/// interval.
pub fn estimate(values: &[f64], seed: u64) -> Option<Estimate> {
    let median = median(values)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut draw = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(REDRAWS);
    for _ in 0..REDRAWS {
        for place in &mut draw {
            *place = values[random.usize(..values.len())];
        }
        draw.sort_by(f64::total_cmp);
        medians.extend(quantile_of_sorted(&draw, 0.5));
    }
    medians.sort_by(f64::total_cmp);
    let low = quantile_of_sorted(&medians, 0.025)?;
    let high = quantile_of_sorted(&medians, 0.975)?;
    Some(Estimate { median, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&values), Some(2.5));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&[7.0], 0.9), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn an_interval_narrows_with_more_values() {
        let mut random = fastrand::Rng::with_seed(3);
        let values: Vec<f64> = (0..400).map(|_| random.f64()).collect();
        let few = estimate(&values[..20], 1).unwrap();
        let many = estimate(&values, 1).unwrap();
        assert!(few.low <= few.median && few.median <= few.high);
        assert!(many.high - many.low < few.high - few.low);
        assert!((many.low..many.high).contains(&0.5), "{many:?}");
        assert_eq!(estimate(&values, 1), Some(many), "the same seed");
        assert_eq!(estimate(&[], 1), None);
    }
}
