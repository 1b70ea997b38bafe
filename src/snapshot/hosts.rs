//! Routes by host, in parts: a table made from another one shares the parts in which nothing
//! changed, so that a change of one service does not copy the hosts of all.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::Route;

/// Hosts a part has on average when a table is made.
const IN_A_PART: usize = 32;
/// Parts of the largest tables. A new table copies so many pointers.
const PARTS_MAX: usize = 4096;

type Part = HashTable<(Arc<str>, Route)>;

/// A table of hosts.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    /// As many as a power of two.
    parts: Vec<Arc<Part>>,
    hasher: RandomState,
}

impl Default for Hosts {
    fn default() -> Self {
        Self::for_about(0)
    }
}

impl Hosts {
    /// A table that is to have about so many hosts.
    pub(super) fn for_about(hosts: usize) -> Self {
        let parts = (hosts / IN_A_PART).next_power_of_two().min(PARTS_MAX);
        Self { parts: vec![Arc::default(); parts], hasher: RandomState::default() }
    }

    /// Where a host leads.
    pub(super) fn get(&self, host: &str) -> Option<&Route> {
        let hash = self.hasher.hash_one(host);
        let part = &self.parts[self.part_of(hash)];
        part.find(hash, |(known, _)| **known == *host).map(|(_, route)| route)
    }

    /// Adds a host; one that is there stays.
    pub(super) fn add(&mut self, host: &Arc<str>, route: impl FnOnce() -> Route) {
        let hash = self.hasher.hash_one(&**host);
        let index = self.part_of(hash);
        let part = Arc::make_mut(&mut self.parts[index]);
        if part.find(hash, |(known, _)| known == host).is_none() {
            let hasher = &self.hasher;
            part.insert_unique(hash, (Arc::clone(host), route()), |(known, _)| {
                hasher.hash_one(&**known)
            });
        }
    }

    /// Removes a host.
    pub(super) fn remove(&mut self, host: &str) {
        let hash = self.hasher.hash_one(host);
        let index = self.part_of(hash);
        let part = Arc::make_mut(&mut self.parts[index]);
        if let Ok(entry) = part.find_entry(hash, |(known, _)| **known == *host) {
            entry.remove();
        }
    }

    /// Bits that a part's own table looks at last.
    fn part_of(&self, hash: u64) -> usize {
        usize::try_from((hash >> 32) & 0xffff_ffff).unwrap_or(0) & (self.parts.len() - 1)
    }
}
