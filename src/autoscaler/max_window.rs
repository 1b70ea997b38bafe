//! The largest count of the last while: a lower one is taken only after `scale-down-delay`.

use std::collections::VecDeque;
use std::time::Duration;

/// Bucket length: one decision tick.
const BUCKET_S: u64 = 2;

/// The maximum over the newest buckets, as of the last record.
#[derive(Clone, Debug)]
pub struct MaxWindow {
    /// How many buckets count.
    buckets: u64,
    /// Bucket number and value; numbers rise, values fall, so the front is the maximum.
    entries: VecDeque<(u64, u32)>,
}

impl MaxWindow {
    /// An empty window over `length`, rounded up to whole buckets of two seconds.
    pub fn new(length: Duration) -> Self {
        let whole = length.as_secs() + u64::from(length.subsec_nanos() > 0);
        Self { buckets: whole.div_ceil(BUCKET_S).max(1), entries: VecDeque::new() }
    }

    /// Adds a value; of two in one bucket the larger counts. A clock that went back counts as
    /// having stood still.
    pub fn record(&mut self, now: Duration, value: u32) {
        let newest = self.entries.back().map_or(0, |(bucket, _)| *bucket);
        let bucket = (now.as_secs() / BUCKET_S).max(newest);
        while self.entries.back().is_some_and(|(_, last)| *last <= value) {
            self.entries.pop_back();
        }
        while self.entries.front().is_some_and(|(first, _)| bucket - first >= self.buckets) {
            self.entries.pop_front();
        }
        if self.entries.back().is_none_or(|(last, _)| *last != bucket) {
            self.entries.push_back((bucket, value));
        }
    }

    /// The largest value of the window; 0 before the first.
    pub fn max(&self) -> u32 {
        self.entries.front().map_or(0, |(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_its_definition(
            length in 1_u64..40,
            steps in prop::collection::vec((0_u64..12, 0_u32..20), 1..150),
        ) {
            let mut window = MaxWindow::new(Duration::from_secs(length));
            let mut all: Vec<(u64, u32)> = Vec::new();
            let mut now = 100;
            for (step, value) in steps {
                now += step;
                window.record(Duration::from_secs(now), value);
                all.push((now / 2, value));
                let size = length.div_ceil(2);
                let want = all.iter().filter(|(b, _)| now / 2 - b < size).map(|(_, v)| *v).max();
                prop_assert_eq!(Some(window.max()), want);
            }
        }
    }
}
