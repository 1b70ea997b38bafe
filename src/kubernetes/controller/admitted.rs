//! Objects with what the webhook would have filled in, if it was there.

use serde_json::Value;

use crate::config::admission::{AdmissionContext, admit};
use crate::config::yaml::Node;

/// The object with its defaults, or why it is not valid. What is not looked at stays.
pub fn admitted(object: &Value, ctx: &AdmissionContext) -> Result<Value, String> {
    let mut bare = object.clone();
    if let Some(map) = bare.as_object_mut() {
        map.remove("status");
    }
    let admission = admit(&Node::from_json(&bare), ctx, None);
    if let Some(problem) = admission.problems.first() {
        return Err(problem.to_string());
    }
    let mut filled = object.clone();
    fill_in(&mut filled, admission.object);
    Ok(filled)
}

/// Adds what `from` has and `into` has not; of values that both have, `from`'s count.
fn fill_in(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, from) in from {
                match into.get_mut(&key) {
                    Some(into) if !into.is_null() => fill_in(into, from),
                    _ => {
                        into.insert(key, from);
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(from)) if into.len() == from.len() => {
            into.iter_mut().zip(from).for_each(|(into, from)| fill_in(into, from));
        }
        (into @ Value::Array(_), from @ Value::Array(_)) if is_empty(into) => *into = from,
        (Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => {}
        // An empty name, or a mount that may be written to, is not what somebody wanted.
        (into, from) => *into = from,
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// The same without what says nothing: an absent field, null and an empty one are one to Go.
pub fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| (key.clone(), normal(value)));
            Value::Object(fields.filter(|(_, value)| !says_nothing(value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        other => other.clone(),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(value) => !value,
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Service as the API server sends it, and `kn` writes it: with an empty name.
    #[test]
    fn defaults_are_added_and_nothing_is_lost() {
        let service = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {
                "name": "hello", "namespace": "ns", "uid": "u", "generation": 1,
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
            "spec": {"template": {
                "metadata": {"creationTimestamp": null},
                "spec": {"containers": [{"image": "app", "name": "", "resources": {}}]},
            }},
            "status": {"url": "http://x"},
        });
        let filled = admitted(&service, &AdmissionContext::default()).unwrap();
        let spec = filled.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["timeoutSeconds"], 300);
        assert_eq!(spec["containers"][0]["name"], "user-container");
        let traffic = json!([{"latestRevision": true, "percent": 100}]);
        assert_eq!(filled["spec"]["traffic"], traffic);
        assert_eq!(filled["status"], service["status"]);
        assert_eq!(filled["metadata"]["uid"], "u");
    }

    #[test]
    fn what_is_not_valid_says_why() {
        let service = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"name": "hello", "namespace": "ns"},
            "spec": {"template": {"spec": {"containers": [{"image": "app"}], "timeoutSeconds": -1}}},
        });
        let problem = admitted(&service, &AdmissionContext::default()).unwrap_err();
        assert!(problem.contains("timeoutSeconds"), "{problem}");
    }

    #[test]
    fn what_says_nothing_is_as_if_it_was_not_there() {
        let one = json!({"a": {"b": null, "c": []}, "d": "", "e": [{"f": false, "g": 0}]});
        assert_eq!(normal(&one), json!({"e": [{"g": 0}]}));
    }
}
