//! Who manages which field: server-side apply as far as it matters here. Lists are one value.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::store::{By, Refusal};
use crate::kubernetes::kinds::Kind;

/// Whether fields of others are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Ask,
    Force,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Manager {
    name: String,
    is_apply: bool,
    part: String,
    /// Pointers (RFC 6901) of what it set.
    fields: BTreeSet<String>,
}

/// The managers of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(Vec<Manager>);

const REPLICAS: &str = "/spec/replicas";

impl Managers {
    fn entry(&mut self, by: By<'_>, is_apply: bool) -> &mut Manager {
        let is_it =
            |m: &Manager| m.name == by.manager && m.is_apply == is_apply && m.part == by.part;
        let index = self.0.iter().position(is_it).unwrap_or_else(|| {
            let (name, part) = (by.manager.to_owned(), by.part.to_owned());
            self.0.push(Manager { name, is_apply, part, fields: BTreeSet::new() });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// Somebody wrote without apply: what changed is theirs.
    pub(super) fn updated(&mut self, before: &Value, after: &Value, by: By<'_>) {
        if by.part == "status" {
            return;
        }
        let (old, new) = (leaves(before), leaves(after));
        let is_changed = |field: &&String| before.pointer(field) != after.pointer(field);
        let changed: BTreeSet<String> = new.iter().filter(is_changed).cloned().collect();
        let gone: BTreeSet<String> = old.difference(&new).cloned().collect();
        for manager in &mut self.0 {
            manager.fields.retain(|field| !changed.contains(field) && !gone.contains(field));
        }
        // Zero is left out of a Scale: nobody has it then.
        let is_owned = |field: &String| {
            by.part != "scale" || field != REPLICAS || after["spec"]["replicas"] != 0
        };
        self.entry(by, false).fields.extend(changed.into_iter().filter(is_owned));
        self.0.retain(|manager| !manager.fields.is_empty());
    }

    /// The object with what somebody applies.
    pub(super) fn applied(
        &mut self,
        before: &Value,
        wanted: &Value,
        by: By<'_>,
        mode: Mode,
    ) -> Result<Value, Refusal> {
        let fields = leaves(wanted);
        let mut others = BTreeSet::new();
        for field in &fields {
            let (is, to_be) = (before.pointer(field), wanted.pointer(field));
            // Zero is left out of a Scale: it differs from itself.
            let is_absent = by.part == "scale" && is == Some(&json!(0));
            if is == to_be && !is_absent {
                continue;
            }
            let is_other =
                |m: &&mut Manager| !(m.name == by.manager && m.is_apply && m.part == by.part);
            for manager in self.0.iter_mut().filter(is_other) {
                if manager.fields.contains(field) {
                    others.insert(manager.name.clone());
                    if mode == Mode::Force {
                        manager.fields.remove(field);
                    }
                }
            }
        }
        if mode == Mode::Ask && !others.is_empty() {
            let mut refusal = Refusal::new(409, "Conflict", "Apply failed with conflicts");
            refusal.managers = others.into_iter().collect();
            return Err(refusal);
        }
        let former = std::mem::replace(&mut self.entry(by, true).fields, fields.clone());
        let mut object = before.clone();
        for gone in former.difference(&fields) {
            if !self.0.iter().any(|manager| manager.fields.contains(gone)) {
                remove_at(&mut object, gone);
            }
        }
        for field in &fields {
            set_at(&mut object, field, wanted.pointer(field).cloned().unwrap_or_default());
        }
        for (key, given) in wanted["metadata"].as_object().into_iter().flatten() {
            if matches!(key.as_str(), "name" | "namespace" | "uid" | "resourceVersion") {
                object["metadata"][key] = given.clone();
            }
        }
        self.0.retain(|manager| !manager.fields.is_empty());
        Ok(object)
    }

    /// As `managedFields`: all managers, and of the fields the count.
    pub(super) fn shown(&self) -> Value {
        let show = |manager: &Manager| {
            let fields = match manager.fields.contains(REPLICAS) {
                true => json!({"f:spec": {"f:replicas": {}}}),
                false => json!({}),
            };
            json!({
                "manager": manager.name, "subresource": manager.part, "fieldsV1": fields,
                "operation": if manager.is_apply { "Apply" } else { "Update" },
            })
        };
        self.0.iter().map(show).collect()
    }
}

/// Pointers to all values of an object that somebody may manage.
fn leaves(object: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => {
                for key in ["labels", "annotations", "ownerReferences"] {
                    if let Some(value) = value.get(key) {
                        collect(value, format!("/metadata/{key}"), &mut found);
                    }
                }
            }
            key => collect(value, format!("/{key}"), &mut found),
        }
    }
    found
}

fn collect(value: &Value, at: String, into: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{at}/{key}"), into);
            }
        }
        None => {
            into.insert(at);
        }
    }
}

fn parts(field: &str) -> Vec<String> {
    field[1..].split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

fn set_at(object: &mut Value, field: &str, value: Value) {
    let mut at = object;
    for part in parts(field) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[part.as_str()];
    }
    *at = value;
}

fn remove_at(object: &mut Value, field: &str) {
    let mut parts = parts(field);
    while let Some(last) = parts.pop() {
        let mut at = Some(&mut *object);
        for part in &parts {
            at = at.and_then(|at| at.get_mut(part));
        }
        let Some(map) = at.and_then(Value::as_object_mut) else { return };
        map.remove(&last);
        // What is empty now goes, too; never what all objects have.
        if !map.is_empty() || parts.len() < 2 {
            return;
        }
    }
}

/// What the API server adds by itself.
pub(super) fn fill_in(kind: Kind, object: &mut Value) {
    if kind == Kind::Deployment {
        let spec = &mut object["spec"];
        if spec["replicas"].is_null() {
            spec["replicas"] = json!(1);
        }
        let containers = spec["template"]["spec"]["containers"].as_array_mut();
        for container in containers.into_iter().flatten() {
            for (key, value) in
                [("terminationMessagePolicy", "File"), ("imagePullPolicy", "IfNotPresent")]
            {
                if container[key].is_null() {
                    container[key] = json!(value);
                }
            }
        }
    }
}
