//! Objects as they are kept: their text, which takes a tenth of a parsed tree, and the few things
//! that are asked for often.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::service::is_ready;
use crate::kubernetes::mirror::name_of;
use crate::model::ObjectName;

/// Where an object's version stands in its metadata.
pub(super) const VERSION: &str = "resourceVersion";

/// An object of the cluster, without who manages which field.
#[derive(Clone, Debug)]
pub struct Object {
    /// Namespace and name.
    pub name: ObjectName,
    /// Its identity.
    pub uid: Arc<str>,
    /// Whether it is being deleted.
    pub is_leaving: bool,
    /// Whether its own conditions say that it is ready.
    pub is_ready: bool,
    /// Managers that applied or wrote `spec.replicas`; empty for what has none.
    pub scalers: Box<[Box<str>]>,
    /// Its version: what is written on the strength of it is refused if there is a newer one.
    version: Box<str>,
    text: Box<str>,
}

/// Another version of the same is no change.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        // Namespace, name and uid stand in the text, too.
        self.text == other.text
            && self.is_leaving == other.is_leaving
            && self.scalers == other.scalers
    }
}

impl Object {
    /// Keeps an object. `part` takes what matters of it.
    pub fn keep(object: &DynamicObject, part: impl Fn(&mut Value)) -> Option<Self> {
        let name = name_of(object);
        let is_leaving = object.metadata.deletion_timestamp.is_some();
        let uid = object.metadata.uid.clone().unwrap_or_default().into();
        let version = object.metadata.resource_version.clone().unwrap_or_default().into();
        let mut value = serde_json::to_value(object).ok()?;
        let mut scalers = Vec::new();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            if let Some(managed) = metadata.remove("managedFields") {
                scalers = owners_of_replicas(&managed);
            }
            metadata.remove(VERSION);
        }
        let is_ready = is_ready(&value);
        part(&mut value);
        let text = serde_json::to_string(&value).ok()?.into_boxed_str();
        let scalers = scalers.into();
        Some(Self { name, uid, is_leaving, is_ready, scalers, version, text })
    }

    /// The object as JSON.
    pub fn value(&self) -> Value {
        // It was JSON when it was kept.
        let mut value: Value = serde_json::from_str(&self.text).unwrap_or_default();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
            && !self.version.is_empty()
        {
            metadata.insert(VERSION.to_owned(), json!(self.version));
        }
        value
    }
}

/// Managers that own `spec.replicas`.
fn owners_of_replicas(managed: &Value) -> Vec<Box<str>> {
    let owns = |entry: &&Value| entry.pointer("/fieldsV1/f:spec/f:replicas").is_some();
    let entries = managed.as_array().map(Vec::as_slice).unwrap_or_default();
    let names = entries.iter().filter(owns).filter_map(|entry| entry.get("manager"));
    names.filter_map(Value::as_str).map(Box::from).collect()
}

/// Parts of an object that are asked for in many places. Absent text is empty.
pub trait Parts {
    /// The JSON of the object.
    fn json(&self) -> &Value;

    /// Text at a pointer (RFC 6901).
    fn text(&self, pointer: &str) -> &str {
        self.json().pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whole number at a pointer.
    fn int(&self, pointer: &str) -> Option<i64> {
        self.json().pointer(pointer).and_then(Value::as_i64)
    }

    /// List at a pointer.
    fn list(&self, pointer: &str) -> &[Value] {
        let list = self.json().pointer(pointer).and_then(Value::as_array);
        list.map(Vec::as_slice).unwrap_or_default()
    }

    /// Namespace and name.
    fn name(&self) -> ObjectName {
        ObjectName::new(self.text("/metadata/namespace"), self.text("/metadata/name"))
    }

    /// A label.
    fn label(&self, key: &str) -> &str {
        in_map(self.json().pointer("/metadata/labels"), key)
    }

    /// An annotation.
    fn annotation(&self, key: &str) -> &str {
        in_map(self.json().pointer("/metadata/annotations"), key)
    }

    /// Counts changes of `spec`.
    fn generation(&self) -> i64 {
        self.int("/metadata/generation").unwrap_or_default()
    }

    /// The owner that controls it.
    fn controller(&self) -> Option<&Value> {
        let is_controller =
            |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
        self.list("/metadata/ownerReferences").iter().find(is_controller)
    }

    /// Whether the other object controls it.
    fn is_controlled_by(&self, owner: &Value) -> bool {
        let uid = owner.text("/metadata/uid");
        self.controller().is_some_and(|found| found.text("/uid") == uid)
    }

    /// Whether what is in the status was found for this very generation.
    fn is_observed(&self) -> bool {
        self.int("/status/observedGeneration").unwrap_or_default() == self.generation()
    }

    /// The reference by which this object owns others.
    fn owner_reference(&self) -> Value {
        json!({
            "apiVersion": self.text("/apiVersion"),
            "kind": self.text("/kind"),
            "name": self.text("/metadata/name"),
            "uid": self.text("/metadata/uid"),
            "controller": true,
            "blockOwnerDeletion": true,
        })
    }
}

impl Parts for Value {
    fn json(&self) -> &Value {
        self
    }
}

fn in_map<'a>(map: Option<&'a Value>, key: &str) -> &'a str {
    map.and_then(|map| map.get(key)).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dynamic(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_kept_of_an_object() {
        let managed = json!([
            {"manager": "a", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "b", "fieldsV1": {"f:spec": {"f:template": {}}}},
            {"manager": "c", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        ]);
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": "ns", "name": "d", "uid": "u", "resourceVersion": "9", "generation": 4,
                "labels": {"l": "1"}, "annotations": {"a.b/c": "2"}, "managedFields": managed,
                "ownerReferences": [
                    {"uid": "x"}, {"uid": "o", "kind": "Revision", "controller": true},
                ],
            },
            "spec": {"replicas": 3}, "status": {"observedGeneration": 4},
        });
        let object = Object::keep(&dynamic(value), |_| ()).unwrap();
        assert_eq!(object.name, ObjectName::new("ns", "d"));
        assert_eq!((&*object.uid, object.is_leaving), ("u", false));
        assert_eq!(*object.scalers, [Box::from("a"), Box::from("c")]);
        let json = object.value();
        assert_eq!(json.text("/metadata/resourceVersion"), "9");
        assert_eq!(json.pointer("/metadata/managedFields"), None);
        assert_eq!((json.label("l"), json.annotation("a.b/c"), json.label("no")), ("1", "2", ""));
        assert_eq!((json.int("/spec/replicas"), json.generation()), (Some(3), 4));
        assert!(json.is_observed());
        assert!(json.is_controlled_by(&json!({"metadata": {"uid": "o"}})));
        assert!(!json.is_controlled_by(&json!({"metadata": {"uid": "x"}})));
    }

    /// What wakes nobody: another version of the same.
    #[test]
    fn another_version_of_the_same_is_no_change() {
        let of = |version: &str, manager: &str| {
            let value = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "name": "s", "resourceVersion": version, "managedFields": [{"manager": manager}],
                },
                "status": {"seen": 1, "other": version},
            });
            Object::keep(&dynamic(value), |value| value["status"]["other"] = Value::Null)
        };
        assert_eq!(of("1", "a"), of("2", "b"));
    }
}
