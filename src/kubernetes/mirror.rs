//! A copy of the objects of one kind, kept current by list and watch.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

use super::feed::{self, Seen};
use crate::model::ObjectName;

/// What of each object is kept, by name. What is not kept is not a change.
#[derive(Debug)]
pub struct Mirror<T> {
    objects: RwLock<BTreeMap<ObjectName, Arc<T>>>,
    is_complete: watch::Sender<bool>,
}

impl<T> Default for Mirror<T> {
    fn default() -> Self {
        Self { objects: RwLock::default(), is_complete: watch::Sender::new(false) }
    }
}

impl<T: PartialEq> Mirror<T> {
    /// One object.
    pub fn get(&self, name: &ObjectName) -> Option<Arc<T>> {
        self.objects.read().get(name).map(Arc::clone)
    }

    /// All objects, by name.
    pub fn all(&self) -> Vec<(ObjectName, Arc<T>)> {
        let objects = self.objects.read();
        objects.iter().map(|(name, object)| (name.clone(), Arc::clone(object))).collect()
    }

    /// Whether one of them is so.
    pub fn any(&self, is_so: impl Fn(&T) -> bool) -> bool {
        self.objects.read().values().any(|object| is_so(object))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.read().is_empty()
    }

    /// Whether everything was listed.
    pub fn is_complete(&self) -> bool {
        *self.is_complete.borrow()
    }

    /// Returns once everything was listed for the first time.
    pub async fn complete(&self) {
        // The sender is ours: it does not end before.
        let _ = self.is_complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Lists and watches for good. `keep` takes what matters of an object, none = nothing of it;
    /// `changed` is told each name whose kept part changed, after it did.
    pub async fn follow(
        &self,
        api: Api<DynamicObject>,
        config: watcher::Config,
        keep: impl Fn(&DynamicObject) -> Option<T>,
        changed: impl Fn(&ObjectName),
    ) {
        self.take_all(feed::watch(api, config), keep, changed).await;
    }

    /// Takes what a watch says until it says no more.
    pub async fn take_all(
        &self,
        events: impl Stream<Item = Seen>,
        keep: impl Fn(&DynamicObject) -> Option<T>,
        changed: impl Fn(&ObjectName),
    ) {
        let mut events = pin!(events);
        // What a list has found so far; the old objects stay until it is complete.
        let mut listed: BTreeMap<ObjectName, Arc<T>> = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(object) => {
                    if let Some(kept) = keep(&object) {
                        listed.insert(name_of(&object), Arc::new(kept));
                    }
                }
                Event::InitDone => self.replace(std::mem::take(&mut listed), &changed),
                Event::Apply(object) => self.put(name_of(&object), keep(&object), &changed),
                Event::Delete(object) => self.put(name_of(&object), None, &changed),
            }
        }
    }

    fn put(&self, name: ObjectName, kept: Option<T>, changed: &impl Fn(&ObjectName)) {
        let mut objects = self.objects.write();
        let is_same = match (objects.get(&name), &kept) {
            (Some(former), Some(kept)) => **former == *kept,
            (former, kept) => former.is_none() && kept.is_none(),
        };
        // The same in another version is kept as well, for whoever writes on the strength of it.
        match kept {
            Some(kept) => objects.insert(name.clone(), Arc::new(kept)),
            None => objects.remove(&name),
        };
        drop(objects);
        if !is_same {
            changed(&name);
        }
    }

    /// A complete list: what is not in it was deleted while nobody watched.
    fn replace(&self, listed: BTreeMap<ObjectName, Arc<T>>, changed: &impl Fn(&ObjectName)) {
        let mut objects = self.objects.write();
        let mut names: BTreeSet<ObjectName> =
            objects.keys().filter(|name| !listed.contains_key(*name)).cloned().collect();
        let is_same = |name: &ObjectName, kept: &T| objects.get(name).is_some_and(|o| **o == *kept);
        names.extend(
            listed.iter().filter(|(name, kept)| !is_same(name, kept)).map(|(n, _)| n.clone()),
        );
        *objects = listed;
        drop(objects);
        self.is_complete.send_replace(true);
        names.iter().for_each(changed);
    }
}

/// An object as it is written.
pub(super) fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// Namespace and name; objects without a namespace have an empty one.
pub fn name_of(object: &DynamicObject) -> ObjectName {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
    ObjectName::new(text(&object.metadata.namespace), text(&object.metadata.name))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::stream;
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str, value: u32) -> Arc<DynamicObject> {
        let object = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "ns", "name": name, "resourceVersion": "7"},
            "data": {"value": value},
        }));
        Arc::new(object.unwrap())
    }

    fn value(object: &DynamicObject) -> Option<u64> {
        object.data.pointer("/data/value").and_then(Value::as_u64).filter(|value| *value > 0)
    }

    /// A list after a lost watch replaces everything: what went meanwhile is told, what stayed the
    /// same is not, and nothing is missing while it is listed.
    #[tokio::test]
    async fn a_list_replaces_everything_and_tells_the_difference() {
        let mirror = Mirror::default();
        let told = RefCell::new(Vec::new());
        let steps: Vec<(Seen, &str, &str)> = vec![
            (Event::Init, "", ""),
            (Event::InitApply(object("a", 1)), "", ""),
            (Event::InitApply(object("b", 1)), "", ""),
            (Event::InitApply(object("not kept", 0)), "", ""),
            (Event::InitDone, "a b", "a=1 b=1"),
            (Event::Apply(object("a", 1)), "", "a=1 b=1"),
            (Event::Apply(object("a", 2)), "a", "a=2 b=1"),
            (Event::Apply(object("b", 0)), "b", "a=2"),
            (Event::Delete(object("b", 1)), "", "a=2"),
            (Event::Apply(object("c", 1)), "c", "a=2 c=1"),
            (Event::Init, "", "a=2 c=1"),
            (Event::InitApply(object("a", 2)), "", "a=2 c=1"),
            (Event::InitApply(object("d", 1)), "", "a=2 c=1"),
            (Event::InitDone, "c d", "a=2 d=1"),
        ];
        // One stream, because what is listed so far belongs to it.
        let (events, taken) = tokio::sync::mpsc::channel(1);
        let stream = stream::unfold(taken, async |mut taken: tokio::sync::mpsc::Receiver<_>| {
            taken.recv().await.map(|event| (event, taken))
        });
        let note = |name: &ObjectName| told.borrow_mut().push(name.name.to_string());
        let mut following = pin!(mirror.take_all(stream, value, note));
        for (index, (event, names, left)) in steps.into_iter().enumerate() {
            events.try_send(event).unwrap();
            assert!(futures_util::poll!(following.as_mut()).is_pending());
            let mut told = std::mem::take(&mut *told.borrow_mut());
            told.sort();
            assert_eq!(told.join(" "), names, "step {index}");
            let mut all: Vec<String> = mirror
                .all()
                .into_iter()
                .map(|(name, value)| format!("{}={value}", name.name))
                .collect();
            all.sort();
            assert_eq!(all.join(" "), left, "step {index}");
        }
        mirror.complete().await;
    }
}
