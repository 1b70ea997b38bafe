//! The objects of a fake API server: versions, generations, preconditions, every change that there
//! was. What each verb does is the API server's; what an apply does is in [`super::fields`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::clock;
use super::fields::{self, Managers, Mode};
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

/// Why the API server does not do it.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Managers that a conflict is with.
    pub(super) managers: Vec<String>,
    pub(super) retry_after: u32,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), managers: Vec::new(), retry_after: 0 }
    }

    pub(super) fn status(&self) -> Value {
        let cause = |manager: &String| {
            json!({
                "reason": "FieldManagerConflict", "field": ".spec.replicas",
                "message": format!("conflict with {manager:?} using apps/v1"),
            })
        };
        let causes: Vec<Value> = self.managers.iter().map(cause).collect();
        json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {},
            "code": self.code, "reason": self.reason, "message": self.message,
            "details": {"causes": causes, "retryAfterSeconds": self.retry_after},
        })
    }
}

/// An object became another one.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) kind: Kind,
    pub(super) name: ObjectName,
    pub(super) before: Option<Arc<Value>>,
    /// Gone, if none.
    pub(super) after: Option<Arc<Value>>,
}

#[derive(Clone, Debug)]
struct Entry {
    object: Arc<Value>,
    managers: Managers,
}

/// Who writes, and in which way.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a> {
    pub(super) manager: &'a str,
    /// `status`, `scale` or nothing.
    pub(super) part: &'a str,
}

/// All objects.
#[derive(Debug)]
pub(super) struct Store {
    revision: u64,
    objects: BTreeMap<(Kind, ObjectName), Entry>,
    log: Vec<Change>,
    /// Changes before this revision can no longer be watched.
    pub(super) oldest: u64,
    identities: u64,
    /// Those that wait for a change of a kind; the order in which they go on is always the same.
    told: BTreeMap<Kind, Arc<Notify>>,
}

/// Kinds whose status is written apart from the rest.
fn has_status(kind: Kind) -> bool {
    !matches!(kind, Kind::ConfigMap | Kind::Secret | Kind::Lease | Kind::EndpointSlice)
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            revision: 100,
            objects: BTreeMap::new(),
            log: Vec::new(),
            oldest: 0,
            identities: 0,
            told: BTreeMap::new(),
        }
    }

    /// Told of every change of a kind.
    pub(super) fn told(&mut self, kind: Kind) -> Arc<Notify> {
        Arc::clone(self.told.entry(kind).or_default())
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The change at an index of the log.
    pub(super) fn change(&self, index: usize) -> Option<&Change> {
        self.log.get(index)
    }

    /// Index of the first change after a revision.
    pub(super) fn after(&self, revision: u64) -> usize {
        self.log.partition_point(|change| change.revision <= revision)
    }

    pub(super) fn get(&self, kind: Kind, name: &ObjectName) -> Option<Arc<Value>> {
        self.objects.get(&(kind, name.clone())).map(|entry| Arc::clone(&entry.object))
    }

    /// All objects of a kind, by name.
    pub(super) fn all(&self, kind: Kind) -> Vec<(ObjectName, Arc<Value>)> {
        let of_kind = self.objects.range((kind, ObjectName::new("", ""))..);
        let of_kind = of_kind.take_while(|((other, _), _)| *other == kind);
        of_kind.map(|((_, name), entry)| (name.clone(), Arc::clone(&entry.object))).collect()
    }

    /// All objects of a kind as they were at a revision.
    pub(super) fn all_at(&self, kind: Kind, revision: u64) -> Vec<(ObjectName, Arc<Value>)> {
        let mut objects: BTreeMap<ObjectName, Arc<Value>> = self.all(kind).into_iter().collect();
        for change in self.log[self.after(revision)..].iter().rev() {
            if change.kind != kind {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.name.clone(), Arc::clone(before)),
                None => objects.remove(&change.name),
            };
        }
        objects.into_iter().collect()
    }

    pub(super) fn create(
        &mut self,
        kind: Kind,
        mut object: Value,
        manager: &str,
    ) -> Result<Value, Refusal> {
        let name = name_of(&object);
        if self.get(kind, &name).is_some() {
            let message = format!("{} {:?} already exists", kind.kind(), name.name);
            return Err(Refusal::new(409, "AlreadyExists", message));
        }
        if has_status(kind) && kind != Kind::Pod {
            remove(&mut object, "status");
        }
        let mut managers = Managers::default();
        managers.updated(&json!({}), &object, By { manager, part: "" });
        Ok(self.insert(kind, &name, object, managers))
    }

    fn insert(
        &mut self,
        kind: Kind,
        name: &ObjectName,
        mut object: Value,
        managers: Managers,
    ) -> Value {
        self.identities += 1;
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind());
        object["metadata"]["uid"] = json!(format!("uid-{}", self.identities));
        object["metadata"]["creationTimestamp"] =
            json!(clock::now().strftime("%FT%TZ").to_string());
        object["metadata"]["generation"] = json!(1);
        fields::fill_in(kind, &mut object);
        self.commit(kind, name, Some((object, managers)))
    }

    /// Replaces an object, or a part of it.
    pub(super) fn update(
        &mut self,
        kind: Kind,
        name: &ObjectName,
        by: By<'_>,
        change: impl FnOnce(&Value) -> Result<Value, Refusal>,
    ) -> Result<Value, Refusal> {
        let entry = self.entry(kind, name)?;
        let before = entry.object;
        let mut managers = entry.managers;
        let after = match by.part {
            "scale" => with_scale(&before, &change(&scale_of(&before))?),
            _ => change(&before)?,
        };
        let after = self.checked(kind, &before, after, by.part)?;
        managers.updated(&before, &after, by);
        Ok(self.settle(kind, name, &before, after, managers, by.part))
    }

    /// Server-side apply.
    pub(super) fn apply(
        &mut self,
        kind: Kind,
        name: &ObjectName,
        by: By<'_>,
        wanted: &Value,
        is_forced: bool,
    ) -> Result<Value, Refusal> {
        let mode = if is_forced { Mode::Force } else { Mode::Ask };
        let found = self.objects.get(&(kind, name.clone())).cloned();
        let Some(entry) = found else {
            if !by.part.is_empty() {
                return Err(not_found(kind, name));
            }
            // A part of one that was deleted meanwhile is none.
            if kind == Kind::Deployment && wanted["spec"]["selector"].is_null() {
                return Err(Refusal::new(422, "Invalid", "spec.selector: Required value"));
            }
            let mut managers = Managers::default();
            let object = managers.applied(&json!({}), wanted, by, mode)?;
            return Ok(self.insert(kind, name, object, managers));
        };
        let (before, mut managers) = (entry.object, entry.managers);
        // A Scale has the paths of its Deployment.
        let after = managers.applied(&before, wanted, by, mode)?;
        let after = self.checked(kind, &before, after, by.part)?;
        Ok(self.settle(kind, name, &before, after, managers, by.part))
    }

    /// Deletes an object. A pod ends by itself, later.
    pub(super) fn delete(
        &mut self,
        kind: Kind,
        name: &ObjectName,
        uid: Option<&str>,
    ) -> Result<(), Refusal> {
        let entry = self.entry(kind, name)?;
        let is_other = |uid: &str| entry.object["metadata"]["uid"].as_str() != Some(uid);
        if uid.is_some_and(is_other) {
            return Err(Refusal::new(409, "Conflict", "Precondition failed: UID in precondition"));
        }
        if kind != Kind::Pod {
            self.commit(kind, name, None);
            return Ok(());
        }
        if entry.object.pointer("/metadata/deletionTimestamp").is_none() {
            let mut pod = (*entry.object).clone();
            let now = clock::now().strftime("%FT%TZ").to_string();
            pod["metadata"]["deletionTimestamp"] = json!(now);
            self.commit(kind, name, Some((pod, entry.managers)));
        }
        Ok(())
    }

    /// Something inside the cluster writes: without conflicts, whatever part it is.
    pub(super) fn put(&mut self, kind: Kind, object: Value) {
        let name = name_of(&object);
        match self.objects.get(&(kind, name.clone())).cloned() {
            Some(entry) => {
                self.commit(kind, &name, Some((object, entry.managers)));
            }
            None => {
                self.insert(kind, &name, object, Managers::default());
            }
        }
    }

    /// It is gone.
    pub(super) fn remove(&mut self, kind: Kind, name: &ObjectName) {
        self.commit(kind, name, None);
    }

    fn entry(&self, kind: Kind, name: &ObjectName) -> Result<Entry, Refusal> {
        let found = self.objects.get(&(kind, name.clone()));
        found.cloned().ok_or_else(|| not_found(kind, name))
    }

    /// Only what the part allows to be written, if it is about this very object.
    fn checked(
        &self,
        kind: Kind,
        before: &Value,
        mut after: Value,
        part: &str,
    ) -> Result<Value, Refusal> {
        for (field, message) in [
            ("resourceVersion", "the object has been modified"),
            ("uid", "Precondition failed: UID in precondition"),
        ] {
            if let Some(given) = after["metadata"].get(field)
                && Some(given) != before["metadata"].get(field)
            {
                return Err(Refusal::new(409, "Conflict", message));
            }
        }
        let metadata = before["metadata"].clone();
        for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
            after["metadata"][field] = metadata[field].clone();
        }
        if part == "status" {
            let mut object = before.clone();
            object["status"] = after["status"].clone();
            return Ok(object);
        }
        if has_status(kind) {
            match before.get("status") {
                Some(status) => after["status"] = status.clone(),
                None => remove(&mut after, "status"),
            }
        }
        fields::fill_in(kind, &mut after);
        Ok(after)
    }

    fn settle(
        &mut self,
        kind: Kind,
        name: &ObjectName,
        before: &Value,
        mut after: Value,
        managers: Managers,
        part: &str,
    ) -> Value {
        if part != "status" && before.get("spec") != after.get("spec") {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
            after["metadata"]["generation"] = json!(generation + 1);
        }
        self.commit(kind, name, Some((after, managers)))
    }

    /// A new revision, unless nothing is different.
    fn commit(&mut self, kind: Kind, name: &ObjectName, now: Option<(Value, Managers)>) -> Value {
        let key = (kind, name.clone());
        let before = self.objects.get(&key).map(|entry| Arc::clone(&entry.object));
        let now = now.map(|(mut object, managers)| {
            if kind == Kind::Deployment {
                object["metadata"]["managedFields"] = managers.shown();
            }
            (object, managers)
        });
        if let (Some(before), Some((object, _))) = (&before, &now)
            && **before == *object
        {
            return object.clone();
        }
        self.revision += 1;
        let version = json!(self.revision.to_string());
        let after = now.map(|(mut object, managers)| {
            object["metadata"]["resourceVersion"] = version.clone();
            let object = Arc::new(object);
            let entry = Entry { object: Arc::clone(&object), managers };
            self.objects.insert(key.clone(), entry);
            object
        });
        if after.is_none() {
            self.objects.remove(&key);
        }
        let object = after.as_deref().cloned().unwrap_or_default();
        let (revision, name) = (self.revision, key.1);
        self.log.push(Change { revision, kind, name, before, after });
        if let Some(told) = self.told.get(&kind) {
            told.notify_waiters();
        }
        object
    }
}

fn not_found(kind: Kind, name: &ObjectName) -> Refusal {
    Refusal::new(404, "NotFound", format!("{} {name} not found", kind.kind()))
}

pub(super) fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}

/// Namespace and name.
pub(super) fn name_of(object: &Value) -> ObjectName {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    ObjectName::new(text("namespace"), text("name"))
}

/// A Deployment's Scale. Zero is left out.
pub(super) fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "spec": {}, "status": {"replicas": 0},
    });
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|count| *count != 0) {
        scale["spec"]["replicas"] = json!(replicas);
    }
    scale
}

fn with_scale(object: &Value, scale: &Value) -> Value {
    let mut object = object.clone();
    object["spec"]["replicas"] = json!(scale["spec"]["replicas"].as_i64().unwrap_or(0));
    object
}
