//! The exponentially weighted average over a [`Window`]'s buckets: the newest weighs most.

use super::window::{Granule, Window};

/// Weight of the newest of `buckets` buckets: what makes the whole ring hold 99.99 % of the sum
/// of weights, but at least a fifth.
pub(super) fn coefficient(buckets: usize) -> f64 {
    (1.0 - 0.0001_f64.powf(1.0 / buckets as f64)).max(0.2)
}

/// Σ bucket · c · (1 − c)^age. Not normalised and not rounded, as in the original: it reads low
/// while the window fills.
pub(super) fn average(window: &Window, now: Granule) -> f64 {
    let Some(last) = window.last else { return 0.0 };
    let silent = (now - last).max(0);
    let decay = 1.0 - window.coefficient;
    let mut weight = window.coefficient * decay.powi(i32::try_from(silent).unwrap_or(i32::MAX));
    let mut sum = 0.0;
    for age in 0..window.len() - silent {
        sum += window.buckets[window.index(last - age)] * weight;
        weight *= decay;
    }
    sum
}
