//! Whose turn it is to start: so many replicas at once, the service that had its turn least
//! recently first.

use std::collections::{HashMap, HashSet};

use crate::model::ServiceId;

/// The turns to start.
#[derive(Debug)]
pub(super) struct Turns {
    bound: usize,
    held: HashSet<u64>,
    /// The number of a service's last turn; forgotten when nobody waits.
    last: HashMap<ServiceId, u64>,
    count: u64,
}

impl Turns {
    /// Turns for `bound` replicas at once, at least one.
    pub(super) fn new(bound: usize) -> Self {
        Self { bound: bound.max(1), held: HashSet::new(), last: HashMap::new(), count: 0 }
    }

    /// Whether another replica may start.
    pub(super) fn is_free(&self) -> bool {
        self.held.len() < self.bound
    }

    /// Who of those that wait is next: pairs of a waiting one and its service.
    pub(super) fn choose<'a, T: Ord>(
        &self,
        waiting: impl Iterator<Item = (&'a T, &'a ServiceId)>,
    ) -> Option<&'a T> {
        waiting
            .min_by_key(|(who, service)| (self.last.get(*service).copied().unwrap_or(0), *who))
            .map(|(who, _)| who)
    }

    /// A replica of a service starts.
    pub(super) fn take(&mut self, serial: u64, service: &ServiceId) {
        self.held.insert(serial);
        self.count += 1;
        self.last.insert(service.clone(), self.count);
    }

    /// A replica has started, or need not any more.
    pub(super) fn give_back(&mut self, serial: u64) {
        self.held.remove(&serial);
    }

    /// Nobody waits: who had the last turn no longer matters.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_take_turns_however_many_replicas_each_wants() {
        let greedy = ServiceId::new("n", "greedy");
        let modest = ServiceId::new("n", "modest");
        let mut turns = Turns::new(2);
        let mut waiting =
            vec![(1, &greedy), (2, &greedy), (3, &greedy), (4, &modest), (5, &modest)];
        let mut order = Vec::new();
        while !waiting.is_empty() {
            if !turns.is_free() {
                turns.give_back(order[order.len() - 2]);
            }
            let pairs = waiting.iter().map(|(serial, service)| (serial, *service));
            let next = *turns.choose(pairs).unwrap();
            let index = waiting.iter().position(|(serial, _)| *serial == next).unwrap();
            let (serial, service) = waiting.remove(index);
            turns.take(serial, service);
            order.push(serial);
        }
        assert_eq!(order, [1, 4, 2, 5, 3]);
        turns.forget();
        assert!(turns.last.is_empty(), "services that are gone are not kept");
    }

    #[test]
    fn at_least_one_and_never_more_than_the_bound() {
        let service = ServiceId::new("n", "a");
        let mut turns = Turns::new(0);
        assert!(turns.is_free());
        turns.take(1, &service);
        assert!(!turns.is_free());
        turns.give_back(1);
        assert!(turns.is_free());
    }
}
