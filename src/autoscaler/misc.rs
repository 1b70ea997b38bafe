//! Small pure rules.

use crate::model::ScalingSpec;

/// How many activators the original would place in a revision's path; exported, since there is
/// one proxy here and it is always in the path.
pub fn num_activators(ready: u32, spec: &ScalingSpec) -> u32 {
    if spec.target_burst_capacity == 0.0 {
        return 2;
    }
    let load = f64::from(ready) * spec.total_value + spec.target_burst_capacity.max(0.0);
    // `as` saturates.
    ((load / spec.activator_capacity).ceil() as u32).max(2)
}

/// `count` within the bounds; no upper bound is none. The lower bound wins over the upper one.
pub fn bounds(count: i64, min: u32, max: Option<u32>) -> i64 {
    if count < i64::from(min) {
        return i64::from(min);
    }
    max.filter(|max| *max > 0).map_or(count, |max| count.min(i64::from(max)))
}
