//! What a cluster serves, as objects that make the same elsewhere: without what each cluster makes
//! itself, and with revisions by their names.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kube::Client;
use kube::api::ListParams;
use serde_json::{Map, Value};

use super::{GENERATION, SERVICE, call, client, name, named, revisions};
use crate::cli::args::ExportArgs;
use crate::cli::say;
use crate::config::yaml::to_text;
use crate::kubernetes::SETTINGS_NAMESPACE;
use crate::kubernetes::kinds::Kind;

/// Labels of a revision that say what it is; the others Knative makes itself. That of its configuration
/// is only for who is owned by it (`pkg/apis/serving/v1/revision_validation.go`).
const KEPT_LABELS: [&str; 2] = [SERVICE, GENERATION];
/// What the API server and controllers note on objects.
const NOTED: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
];

/// Prints all of it.
pub(super) async fn export(args: &ExportArgs) -> Result<(), String> {
    let client = client().await?;
    let (mut items, mut omitted) = (Vec::new(), Vec::new());
    let services = all(&client, Kind::Service, None).await?;
    items.extend(settings(&client).await?);
    let needed: BTreeSet<(String, String, bool)> = services.iter().flat_map(needed).collect();
    for (namespace, name, is_secret) in needed {
        if is_secret && !args.include_secrets {
            omitted.push(format!("Secret {namespace}/{name}"));
            continue;
        }
        match data(&client, &namespace, &name, is_secret).await? {
            Some(object) => items.push(plain(object)),
            None => omitted.push(format!("{namespace}/{name}, which is not there")),
        }
    }
    for service in services {
        let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let latest = service.pointer("/status/latestCreatedRevisionName").cloned();
        let known = revisions(&client, &namespace, name(&service)).await?;
        let former =
            known.into_iter().filter(|one| Some(&one["metadata"]["name"]) != latest.as_ref());
        items.extend(former.map(|revision| of_revision(plain(revision))));
        let mut service = plain(service);
        if let Some(latest) = latest {
            service["spec"]["template"]["metadata"]["name"] = latest;
        }
        items.push(service);
    }
    for kind in [Kind::PublicPodAutoscaler, Kind::DomainMapping] {
        items.extend(all(&client, kind, None).await?.into_iter().map(plain));
    }
    let mut text = to_text(&items);
    for omitted in omitted {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# not included: {omitted} (--include-secrets)");
    }
    say(text.trim_end());
    Ok(())
}

async fn all(client: &Client, kind: Kind, namespace: Option<&str>) -> Result<Vec<Value>, String> {
    let list = call(kind.objects(client, namespace).list(&ListParams::default())).await?;
    Ok(list.items.into_iter().map(|object| named(kind, object)).collect())
}

/// The settings that somebody changed.
async fn settings(client: &Client) -> Result<Vec<Value>, String> {
    let maps = all(client, Kind::ConfigMap, Some(SETTINGS_NAMESPACE)).await?;
    let is_setting = |map: &Value| {
        let has_data = map["data"].as_object().is_some_and(|data| {
            // Knative's own explain themselves in a key that is no setting.
            data.keys().any(|key| key != "_example")
        });
        name(map).starts_with("config-") && has_data
    };
    Ok(maps.into_iter().filter(is_setting).map(plain).collect())
}

/// ConfigMaps and Secrets (true) that a Service's template names: namespace, name.
fn needed(service: &Value) -> Vec<(String, String, bool)> {
    let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    let mut look = |value: &Value, key: &str, is_secret: bool| {
        if let Some(name) = value.get(key).and_then(Value::as_str) {
            found.push((namespace.to_owned(), name.to_owned(), is_secret));
        }
    };
    visit(&service["spec"]["template"]["spec"], &mut |key, value| match key {
        "configMapKeyRef" | "configMapRef" | "configMap" => look(value, "name", false),
        "secretKeyRef" | "secretRef" => look(value, "name", true),
        "secret" => {
            look(value, "secretName", true);
            look(value, "name", true);
        }
        _ => {}
    });
    found
}

fn visit(value: &Value, seen: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                seen(key, value);
                visit(value, seen);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, seen)),
        _ => {}
    }
}

async fn data(
    client: &Client,
    namespace: &str,
    name: &str,
    is_secret: bool,
) -> Result<Option<Value>, String> {
    let kind = if is_secret { Kind::Secret } else { Kind::ConfigMap };
    let found = call(kind.in_namespace(client, namespace).get_opt(name)).await?;
    Ok(found.map(|object| named(kind, object)))
}

/// An object without its status and what is noted on it.
fn plain(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        NOTED.iter().for_each(|key| drop(metadata.remove(*key)));
        keep(metadata, "annotations", |key| {
            let is_knatives = key == "serving.knative.dev/creator"
                || key == "serving.knative.dev/lastModifier"
                || key.starts_with("serving.knative.dev/routes")
                || key.starts_with("serving.knative.dev/routingState");
            !is_knatives && key != "kubectl.kubernetes.io/last-applied-configuration"
        });
    }
    object
}

/// A revision that its own cluster no longer keeps in order.
fn of_revision(mut revision: Value) -> Value {
    if let Some(metadata) = revision["metadata"].as_object_mut() {
        keep(metadata, "labels", |key| !key.contains("knative.dev/") || KEPT_LABELS.contains(&key));
    }
    revision
}

/// Keeps entries of a map; one without any goes.
fn keep(metadata: &mut Map<String, Value>, map: &str, is_kept: impl Fn(&str) -> bool) {
    if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
        entries.retain(|key, _| is_kept(key));
        if entries.is_empty() {
            metadata.remove(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_cluster_notes_is_left_out() {
        let revision = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
            "metadata": {
                "name": "a-00001", "namespace": "ns", "uid": "u", "resourceVersion": "5",
                "labels": {
                    "team": "x", "serving.knative.dev/service": "a",
                    "serving.knative.dev/configurationGeneration": "1",
                    "serving.knative.dev/routingState": "active",
                },
                "annotations": {"serving.knative.dev/creator": "me"},
                "ownerReferences": [{}],
            },
            "spec": {"containers": []}, "status": {"x": 1},
        });
        assert_eq!(
            of_revision(plain(revision)),
            json!({
                "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
                "metadata": {"name": "a-00001", "namespace": "ns", "labels": {
                    "team": "x", "serving.knative.dev/service": "a",
                    "serving.knative.dev/configurationGeneration": "1",
                }},
                "spec": {"containers": []},
            })
        );
    }

    #[test]
    fn what_a_service_needs() {
        let service = json!({"metadata": {"namespace": "ns"}, "spec": {"template": {"spec": {
            "containers": [{
                "env": [{"valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "c1"}}],
            }],
            "volumes": [
                {"secret": {"secretName": "s2"}},
                {"projected": {"sources": [{"secret": {"name": "s3"}}, {"configMap": {"name": "c2"}}]}},
            ],
        }}}});
        let mut found = needed(&service);
        found.sort_by(|a, b| a.1.cmp(&b.1));
        let shown: Vec<String> = found.iter().map(|(_, name, is)| format!("{name} {is}")).collect();
        assert_eq!(shown, ["c1 false", "c2 false", "s1 true", "s2 true", "s3 true"]);
    }
}
