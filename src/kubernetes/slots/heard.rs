//! Endpoints that the keeper heard of before any proxy named them: their pods are only starting.

use std::collections::HashMap;

use crate::model::EndpointId;

/// As many at most; of more than that the first are forgotten, which costs them a write of the
/// Lease when they are there.
const MOST: usize = 4096;

/// How many writes of the Lease were begun when each was first heard of.
#[derive(Debug, Default)]
pub(super) struct Heard(HashMap<EndpointId, u64>);

impl Heard {
    /// Takes one in; whether it is new.
    pub(super) fn hear(&mut self, endpoint: EndpointId, begun: u64) -> bool {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let len = self.0.len();
        self.0.entry(endpoint).or_insert(begun);
        self.0.len() > len
    }

    /// Since when one is known that a proxy names now.
    pub(super) fn take(&mut self, endpoint: &EndpointId, begun: u64) -> u64 {
        self.0.remove(endpoint).unwrap_or(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_counts_and_there_is_a_bound() {
        let endpoint = |number: usize| EndpointId::new(format!("e{number}"));
        let mut heard = Heard::default();
        assert!(heard.hear(endpoint(1), 3));
        assert!(!heard.hear(endpoint(1), 5));
        assert_eq!(heard.take(&endpoint(1), 7), 3);
        assert_eq!(heard.take(&endpoint(1), 7), 7);
        let new = (0..MOST * 3).filter(|number| heard.hear(endpoint(*number), 1));
        assert_eq!(new.count(), MOST * 3);
        assert!(heard.0.len() <= MOST);
    }
}
