//! What became of stamps between two moments: an edit writes down what it changed, not all there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::stamp::{ConfigurationStamps, Stamps, TrafficStamp};

/// Stamps that changed, as they are now; none for what is gone. Applied again they change nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StampChanges {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    configurations: Changes<ConfigurationStamps>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    traffic: Changes<TrafficStamp>,
}

type Changes<T> = BTreeMap<Arc<str>, Option<Arc<T>>>;

impl StampChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.configurations.is_empty() && self.traffic.is_empty()
    }
}

impl Stamps {
    /// What changed since `before`. Costs little for what is the same object.
    pub fn changes_since(&self, before: &Self) -> StampChanges {
        StampChanges {
            configurations: changes(&self.configurations, &before.configurations),
            traffic: changes(&self.traffic, &before.traffic),
        }
    }

    /// Takes over what changed.
    pub fn apply(&mut self, changes: StampChanges) {
        apply(&mut self.configurations, changes.configurations);
        apply(&mut self.traffic, changes.traffic);
    }
}

fn changes<T: PartialEq>(
    now: &BTreeMap<Arc<str>, Arc<T>>,
    before: &BTreeMap<Arc<str>, Arc<T>>,
) -> Changes<T> {
    let mut changes = Changes::new();
    // Both are sorted, so they are walked side by side.
    let mut former = before.iter().peekable();
    for (name, stamp) in now {
        while let Some((gone, _)) = former.next_if(|(known, _)| *known < name) {
            changes.insert(Arc::clone(gone), None);
        }
        let known = former.next_if(|(known, _)| *known == name);
        let is_same = known.is_some_and(|(_, known)| Arc::ptr_eq(known, stamp) || known == stamp);
        if !is_same {
            changes.insert(Arc::clone(name), Some(Arc::clone(stamp)));
        }
    }
    changes.extend(former.map(|(gone, _)| (Arc::clone(gone), None)));
    changes
}

fn apply<T>(stamps: &mut BTreeMap<Arc<str>, Arc<T>>, changes: Changes<T>) {
    for (name, change) in changes {
        match change {
            Some(stamp) => stamps.insert(name, stamp),
            None => stamps.remove(&name),
        };
    }
}
