//! Whether an object is as it is wanted, so that it need not be written.

use std::borrow::Cow;

use serde_json::Value;

use crate::kubernetes::ROLLOUT_ANNOTATION;
use crate::kubernetes::kinds::Kind;

/// Maps that, once all their entries go, are to go with them: an apply of an empty one would have the
/// API server make null of it, which the schema does not allow.
const MAPS: [&str; 5] = [
    "/metadata/labels",
    "/metadata/annotations",
    "/spec/template/metadata/labels",
    "/spec/template/metadata/annotations",
    // After what is in it.
    "/spec/template/metadata",
];

/// What is to be applied, without these.
pub(super) fn without_empty_maps(wanted: &Value) -> Cow<'_, Value> {
    let mut wanted = Cow::Borrowed(wanted);
    for pointer in MAPS {
        let is_empty = |map: &Value| map.as_object().is_some_and(serde_json::Map::is_empty);
        // Nearly all have none: only then is it copied.
        if wanted.pointer(pointer).is_some_and(is_empty)
            && let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(parent) = wanted.to_mut().pointer_mut(parent).and_then(Value::as_object_mut)
        {
            parent.remove(key);
        }
    }
    wanted
}

/// Whether what is wanted is there: every field of it, and nothing that was wanted once. What the API
/// server and others add does not matter.
pub(super) fn holds(kind: Kind, wanted: &Value, live: &Value) -> bool {
    let maps = ["/metadata/labels", "/metadata/annotations"];
    let deep = ["/spec/template/metadata/labels", "/spec/template/metadata/annotations"];
    // Users' own are copied to these two.
    let is_copy = matches!(kind, Kind::Configuration | Kind::Route);
    let is_ours = |key: &str| {
        let is_copied = is_copy && !key.starts_with("kubectl.kubernetes.io/");
        // What a Route notes on itself its Service does not know.
        (key.contains("knative.dev/") || is_copied) && key != ROLLOUT_ANNOTATION
    };
    let mut has_more = maps.iter().chain(&deep).filter_map(|pointer| {
        let live = live.pointer(pointer)?.as_object()?;
        let wanted = wanted.pointer(pointer);
        Some(live.keys().any(|key| is_ours(key) && wanted.is_none_or(|map| map.get(key).is_none())))
    });
    // In lists objects do not say of which kind they are.
    let mut parts = ["metadata", "spec"].iter().filter_map(|part| Some((part, wanted.get(part)?)));
    !has_more.any(|more| more)
        && parts.all(|(part, wanted)| live.get(part).is_some_and(|live| contains(live, wanted)))
        && !wants_less(kind, wanted, live)
}

/// Whether something in the spec was wanted once and is not any more. To these kinds of Knative's the
/// API server adds nothing; of a Deployment only this part comes and goes, for a revision never
/// changes. (A difference that stays, because somebody else adds something, is applied once.)
fn wants_less(kind: Kind, wanted: &Value, live: &Value) -> bool {
    let more_in_live = |pointer: &str| match (live.pointer(pointer), wanted.pointer(pointer)) {
        (Some(live), Some(wanted)) => !contains(wanted, live),
        (Some(live), None) => !is_nothing(live),
        (None, _) => false,
    };
    match kind {
        Kind::Configuration => {
            // Labels and annotations are looked at by themselves.
            let pointers = ["/spec/template/spec", "/spec/template/metadata/name"];
            pointers.into_iter().any(more_in_live)
        }
        Kind::Route | Kind::PodAutoscaler => more_in_live("/spec"),
        Kind::Deployment => more_in_live("/spec/template/spec/affinity"),
        _ => false,
    }
}

/// Whether every field of `part` is in `whole` with the same value.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, part)| {
            whole.get(key).map_or(is_nothing(part), |whole| contains(whole, part))
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(w, p)| contains(w, p))
        }
        (whole, part) => whole == part,
    }
}

/// What the API server leaves out when it is asked to keep it.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
        Value::Bool(value) => !value,
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::controller::testing::deployment;

    #[test]
    fn what_the_api_server_adds_is_no_difference() {
        let wanted = deployment(|_| ());
        let holds = |change: fn(&mut Value)| holds(Kind::Deployment, &wanted, &deployment(change));
        assert!(holds(|_| ()));
        assert!(holds(|live| live["spec"]["replicas"] = json!(3)));
        assert!(holds(|live| live["metadata"]["labels"]["other"] = json!("x")));
        assert!(holds(|live| live["kind"] = Value::Null), "as in a list");
        assert!(holds(|live| {
            let container = &mut live["spec"]["template"]["spec"]["containers"][0];
            *container = json!({"image": "i", "imagePullPolicy": "Always"});
        }));
        assert!(!holds(|live| live["metadata"]["labels"]["serving.knative.dev/y"] = json!("x")));
        assert!(!holds(|live| live["metadata"]["labels"]["serving.knative.dev/x"] = json!("2")));
        assert!(!holds(|live| live["spec"]["template"]["spec"]["containers"][0] = json!({})));
        assert!(!holds(|live| live["spec"]["template"]["spec"]["containers"] = json!([])));
    }

    #[test]
    fn what_is_taken_out_is_a_difference() {
        let configuration =
            |spec: Value| json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": spec}}});
        let wanted = configuration(json!({"containers": [{"image": "i"}]}));
        for (live, expected) in [
            (json!({"containers": [{"image": "i"}]}), true),
            // What means nothing.
            (json!({"containers": [{"image": "i", "resources": {}, "env": []}]}), true),
            (json!({"containers": [{"image": "i", "env": [{"name": "A"}]}]}), false),
            (json!({"containers": [{"image": "i", "args": ["x"]}]}), false),
            (json!({"containers": [{"image": "i"}], "serviceAccountName": "x"}), false),
            (json!({"containers": [{"image": "i"}], "volumes": [{"name": "v"}]}), false),
        ] {
            let live = configuration(live);
            assert_eq!(holds(Kind::Configuration, &wanted, &live), expected, "{live}");
        }
        let route = |traffic: Value| json!({"metadata": {}, "spec": {"traffic": traffic}});
        let plain = route(json!([{"percent": 100, "latestRevision": true}]));
        let tagged = route(json!([{"percent": 100, "latestRevision": true, "tag": "cur"}]));
        assert!(holds(Kind::Route, &plain, &plain) && !holds(Kind::Route, &plain, &tagged));
        let alone = deployment(|_| ());
        let apart = deployment(|live| {
            live["spec"]["template"]["spec"]["affinity"] = json!({"podAntiAffinity": {"a": [1]}});
        });
        assert!(
            holds(Kind::Deployment, &apart, &apart) && !holds(Kind::Deployment, &alone, &apart)
        );
    }

    #[test]
    fn maps_without_entries_are_not_applied() {
        let of = |metadata: Value| {
            json!({"metadata": {"labels": {}, "name": "a"}, "spec": {
            "template": {"metadata": metadata, "spec": {"x": {}}}}})
        };
        let without = |metadata: Value| without_empty_maps(&of(metadata)).into_owned();
        let bare = json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"x": {}}}}});
        assert_eq!(without(json!({"annotations": {}, "labels": {}})), bare);
        assert_eq!(without(json!({})), bare);
        let mut named = bare;
        named["spec"]["template"]["metadata"] = json!({"name": "n"});
        assert_eq!(without(json!({"annotations": {}, "name": "n"})), named);
    }
}
