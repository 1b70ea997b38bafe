//! A mirror of one kind whose objects are found by whom they belong to, too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde_json::Value;

use super::object::Object;
use crate::kubernetes::mirror::{Mirror, name_of};
use crate::model::ObjectName;

/// Objects of one kind, by name and by owner.
#[derive(Debug, Default)]
pub struct Objects {
    mirror: Mirror<Object>,
    owners: Mutex<Owners>,
}

#[derive(Debug, Default)]
struct Owners {
    owner: HashMap<ObjectName, ObjectName>,
    owned: HashMap<ObjectName, BTreeSet<ObjectName>>,
}

/// How the objects of one kind are taken.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    /// Removes what does not matter.
    pub part: fn(&mut Value),
    /// Name of whom an object belongs to, in its namespace; none = nobody that matters.
    pub owner: fn(&DynamicObject) -> Option<String>,
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

    /// Names of all objects.
    pub fn names(&self) -> Vec<ObjectName> {
        self.mirror.all().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns once everything was listed.
    pub async fn complete(&self) {
        self.mirror.complete().await;
    }

    /// Lists and watches for good. `changed` is told the name of what changed, and whose it is.
    pub async fn follow(
        &self,
        api: Api<DynamicObject>,
        config: watcher::Config,
        taking: Taking,
        changed: impl Fn(&ObjectName, Option<&ObjectName>),
    ) {
        let keep = |object: DynamicObject| {
            let name = name_of(&object);
            let owner = (taking.owner)(&object);
            if let Some(owner) = owner {
                let owner = ObjectName::new(Arc::clone(&name.namespace), owner);
                self.owners.lock().note(name, owner);
            }
            Object::keep(object, taking.part)
        };
        let told = |name: &ObjectName| {
            let is_there = self.mirror.get(name).is_some();
            let owner = self.owners.lock().owner_of(name, is_there);
            changed(name, owner.as_ref());
        };
        self.mirror.follow(api, config, keep, told).await;
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
