//! A mirror of one kind whose objects are found by whom they belong to, too, and by whom they
//! mention.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::Stream;
use kube::api::DynamicObject;
use parking_lot::Mutex;
use serde_json::Value;

use super::object::Object;
use crate::kubernetes::feed::Seen;
use crate::kubernetes::mirror::{Mirror, name_of};
use crate::model::ObjectName;

/// Objects of one kind, by name, by owner and by whom they mention.
#[derive(Debug, Default)]
pub struct Objects {
    mirror: Mirror<Object>,
    owners: Mutex<Owners>,
    mentions: Mutex<Mentions>,
}

#[derive(Debug, Default)]
struct Owners {
    owner: HashMap<ObjectName, ObjectName>,
    owned: HashMap<ObjectName, BTreeSet<ObjectName>>,
}

/// Who mentions whom.
#[derive(Debug, Default)]
struct Mentions {
    mentioned: HashMap<ObjectName, BTreeSet<ObjectName>>,
    mentioning: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
}

/// How the objects of one kind are taken.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    /// Removes what does not matter.
    pub part: fn(&mut Value),
    /// Name of whom an object belongs to, in its namespace; none = nobody that matters.
    pub owner: fn(&DynamicObject) -> Option<String>,
    /// Names of others that an object mentions.
    pub mentions: fn(&DynamicObject) -> BTreeSet<ObjectName>,
}

impl Objects {
    /// One object.
    pub fn get(&self, name: &ObjectName) -> Option<Arc<Object>> {
        self.mirror.get(name)
    }

    /// What belongs to one, by name.
    pub fn of(&self, owner: &ObjectName) -> Vec<Arc<Object>> {
        let owners = self.owners.lock();
        let names = owners.owned.get(owner).into_iter().flatten();
        names.filter_map(|name| self.mirror.get(name)).collect()
    }

    /// Names of what mentions another one.
    pub fn mentioning(&self, other: &ObjectName) -> BTreeSet<ObjectName> {
        self.mentions.lock().mentioning.get(other).cloned().unwrap_or_default()
    }

    /// Names that an object mentions.
    pub fn mentioned_by(&self, name: &ObjectName) -> BTreeSet<ObjectName> {
        self.mentions.lock().mentioned.get(name).cloned().unwrap_or_default()
    }

    /// Names of all that are mentioned.
    pub fn mentioned(&self) -> Vec<ObjectName> {
        self.mentions.lock().mentioning.keys().cloned().collect()
    }

    /// Names of all objects.
    pub fn names(&self) -> Vec<ObjectName> {
        self.mirror.all().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns once everything was listed.
    pub async fn complete(&self) {
        self.mirror.complete().await;
    }

    /// Takes what a watch says until it says no more. `changed` is told the name of what changed,
    /// and whose it is.
    pub async fn take_all(
        &self,
        events: impl Stream<Item = Seen>,
        taking: Taking,
        changed: impl Fn(&ObjectName, Option<&ObjectName>),
    ) {
        let keep = |object: &DynamicObject| {
            let name = name_of(object);
            self.mentions.lock().note(&name, (taking.mentions)(object));
            let owner = (taking.owner)(object);
            if let Some(owner) = owner {
                let owner = ObjectName::new(Arc::clone(&name.namespace), owner);
                self.owners.lock().note(name, owner);
            }
            Object::keep(object, taking.part)
        };
        let told = |name: &ObjectName| {
            let is_there = self.mirror.get(name).is_some();
            if !is_there {
                self.mentions.lock().note(name, BTreeSet::new());
            }
            let owner = self.owners.lock().owner_of(name, is_there);
            changed(name, owner.as_ref());
        };
        self.mirror.take_all(events, keep, told).await;
    }
}

impl Mentions {
    /// Takes what an object mentions now; nothing once it is gone.
    fn note(&mut self, name: &ObjectName, mentioned: BTreeSet<ObjectName>) {
        let before = self.mentioned.get(name);
        if before.map_or(mentioned.is_empty(), |before| *before == mentioned) {
            return;
        }
        for gone in before.into_iter().flatten().filter(|other| !mentioned.contains(*other)) {
            if let Some(mentioning) = self.mentioning.get_mut(gone) {
                mentioning.remove(name);
                if mentioning.is_empty() {
                    self.mentioning.remove(gone);
                }
            }
        }
        for new in &mentioned {
            self.mentioning.entry(new.clone()).or_default().insert(name.clone());
        }
        if mentioned.is_empty() {
            self.mentioned.remove(name);
        } else {
            self.mentioned.insert(name.clone(), mentioned);
        }
    }
}

impl Owners {
    fn note(&mut self, name: ObjectName, owner: ObjectName) {
        if self.owner.get(&name) == Some(&owner) {
            return;
        }
        self.forget(&name);
        self.owned.entry(owner.clone()).or_default().insert(name.clone());
        self.owner.insert(name, owner);
    }

    /// Whose it is, or was.
    fn owner_of(&mut self, name: &ObjectName, is_there: bool) -> Option<ObjectName> {
        if is_there { self.owner.get(name).cloned() } else { self.forget(name) }
    }

    fn forget(&mut self, name: &ObjectName) -> Option<ObjectName> {
        let owner = self.owner.remove(name)?;
        if let Some(owned) = self.owned.get_mut(&owner) {
            owned.remove(name);
            if owned.is_empty() {
                self.owned.remove(&owner);
            }
        }
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_mentions_whom_follows_the_objects() {
        let name = |name: &str| ObjectName::new("ns", name);
        let names = |names: &[&str]| names.iter().map(|other| name(other)).collect();
        let mut mentions = Mentions::default();
        mentions.note(&name("a"), names(&["x", "y"]));
        mentions.note(&name("b"), names(&["y"]));
        assert_eq!(mentions.mentioning[&name("y")], BTreeSet::from([name("a"), name("b")]));
        mentions.note(&name("a"), names(&["x", "z"]));
        assert_eq!(mentions.mentioning[&name("y")], BTreeSet::from([name("b")]));
        assert_eq!(mentions.mentioning[&name("z")], BTreeSet::from([name("a")]));
        mentions.note(&name("a"), names(&[]));
        mentions.note(&name("b"), names(&[]));
        assert!(mentions.mentioned.is_empty() && mentions.mentioning.is_empty());
    }

    #[test]
    fn what_belongs_to_whom_follows_the_objects() {
        let name = |name: &str| ObjectName::new("ns", name);
        let mut owners = Owners::default();
        owners.note(name("a"), name("one"));
        owners.note(name("b"), name("one"));
        owners.note(name("b"), name("two"));
        assert_eq!(owners.owned[&name("one")], BTreeSet::from([name("a")]));
        assert_eq!(owners.owner_of(&name("b"), true), Some(name("two")));
        assert_eq!(owners.owner_of(&name("b"), false), Some(name("two")), "it was, until now");
        assert_eq!(owners.owner_of(&name("b"), false), None);
        owners.forget(&name("a"));
        assert!(owners.owned.is_empty() && owners.owner.is_empty());
    }
}
