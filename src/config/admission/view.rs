//! Looks into decoded objects: what is absent is its type's zero value, as in Go.

use serde_json::Value as Json;

/// Text of a field, empty if absent.
pub(super) fn text<'a>(object: &'a Json, field: &str) -> &'a str {
    object.get(field).and_then(Json::as_str).unwrap_or_default()
}

/// A whole number of a field, none if absent.
pub(super) fn int(object: &Json, field: &str) -> Option<i64> {
    object.get(field).and_then(Json::as_i64)
}

/// A whole number of a field, 0 if absent.
pub(super) fn number(object: &Json, field: &str) -> i64 {
    int(object, field).unwrap_or(0)
}

/// Items of a field, none if absent.
pub(super) fn list<'a>(object: &'a Json, field: &str) -> &'a [Json] {
    object.get(field).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// A field's object, `null` if absent.
pub(super) fn child<'a>(object: &'a Json, field: &str) -> &'a Json {
    object.get(field).unwrap_or(&Json::Null)
}

/// Whether a field is there.
pub(super) fn has(object: &Json, field: &str) -> bool {
    object.get(field).is_some_and(|value| !value.is_null())
}

/// A field's object to write to, made if absent.
pub(super) fn child_mut<'a>(object: &'a mut Json, field: &str) -> &'a mut Json {
    if !object.is_object() {
        *object = Json::Object(serde_json::Map::new());
    }
    let child = &mut object[field];
    if child.is_null() {
        *child = Json::Object(serde_json::Map::new());
    }
    child
}

/// Sets a field if it is absent.
pub(super) fn default(object: &mut Json, field: &str, value: impl Into<Json>) {
    if !has(object, field)
        && let Some(map) = object.as_object_mut()
    {
        map.insert(field.to_owned(), value.into());
    }
}
