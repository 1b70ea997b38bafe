//! The environment a manifest gives its container: `envFrom`, then `env` with `valueFrom`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::data::{DataKind, Lookup};
use crate::config::text::Quantity;
use crate::model::{EnvVar, RevisionId};

/// What `fieldRef` can ask about a replica of a revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) revision: &'a RevisionId,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) annotations: &'a BTreeMap<String, String>,
}

/// The environment of `container`, in the manifest's order, `envFrom` first. A variable that
/// cannot be known (a resource without limit, an optional key that is missing) is left out.
pub(super) fn environment(
    container: &Value,
    fields: Fields<'_>,
    lookup: &mut Lookup<'_>,
) -> Vec<EnvVar> {
    let mut env = Vec::new();
    for source in list(container, "envFrom") {
        env_from(source, lookup, &mut env);
    }
    for variable in list(container, "env") {
        let Some(name) = text(variable, "name") else { continue };
        if let Some(value_from) = variable.get("valueFrom").filter(|value| !value.is_null()) {
            env.extend(value_from_source(name, value_from, container, fields, lookup));
        } else {
            let value = Arc::from(text(variable, "value").unwrap_or_default());
            env.push(EnvVar { name: Arc::from(name), value, secret: false });
        }
    }
    env
}

fn env_from(source: &Value, lookup: &mut Lookup<'_>, env: &mut Vec<EnvVar>) {
    let prefix = text(source, "prefix").unwrap_or_default();
    for (field, kind) in [("configMapRef", DataKind::ConfigMap), ("secretRef", DataKind::Secret)] {
        let Some(reference) = source.get(field).filter(|value| !value.is_null()) else { continue };
        let name = text(reference, "name").unwrap_or_default();
        let Some(data) = lookup.object(kind, name, is_optional(reference)) else { continue };
        for (key, content) in data.iter() {
            let name = format!("{prefix}{key}");
            // Kubernetes skips such keys as well: the system has no way to say them.
            if name.contains('=') || name.is_empty() {
                continue;
            }
            env.extend(variable(&name, content, kind == DataKind::Secret));
        }
    }
}

fn value_from_source(
    name: &str,
    source: &Value,
    container: &Value,
    fields: Fields<'_>,
    lookup: &mut Lookup<'_>,
) -> Option<EnvVar> {
    for (field, kind) in
        [("configMapKeyRef", DataKind::ConfigMap), ("secretKeyRef", DataKind::Secret)]
    {
        if let Some(reference) = source.get(field).filter(|value| !value.is_null()) {
            let object = text(reference, "name").unwrap_or_default();
            let key = text(reference, "key").unwrap_or_default();
            let content = lookup.key(kind, object, key, is_optional(reference))?;
            return variable(name, content, kind == DataKind::Secret);
        }
    }
    if let Some(path) = source.get("fieldRef").and_then(|field| text(field, "fieldPath")) {
        return variable(name, field_value(path, fields)?.as_bytes(), false);
    }
    let resource = source.get("resourceFieldRef")?;
    variable(name, resource_value(resource, container)?.as_bytes(), false)
}

/// A variable with a literal value. Kubernetes expands `$(NAME)` only in what a manifest writes as
/// `value`, so in all else a `$` is doubled, which expansion takes back; a Secret's value is never
/// expanded and stays as it is. A value with a NUL byte cannot be given to a program.
fn variable(name: &str, content: &[u8], secret: bool) -> Option<EnvVar> {
    let value = String::from_utf8_lossy(content);
    if value.contains('\0') {
        return None;
    }
    let value = if secret { value.into_owned() } else { value.replace('$', "$$") };
    Some(EnvVar { name: Arc::from(name), value: Arc::from(value), secret })
}

/// What a pod's field is on one machine; none for a field no pod has. Replicas of a revision share
/// its name: a process has no other.
pub(super) fn field_value(path: &str, fields: Fields<'_>) -> Option<String> {
    if let Some(key) = subscript(path, "metadata.labels") {
        return Some(fields.labels.get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Some(fields.annotations.get(key).cloned().unwrap_or_default());
    }
    let value = match path {
        "metadata.name" | "metadata.uid" => &fields.revision.name,
        "metadata.namespace" => &fields.revision.namespace,
        "spec.serviceAccountName" => "default",
        "spec.nodeName" => "localhost",
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => "127.0.0.1",
        _ => return None,
    };
    Some(value.to_owned())
}

/// The key in `metadata.labels['key']`.
fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    let key = path.strip_prefix(field)?.strip_prefix('[')?.strip_suffix(']')?;
    Some(key.trim_matches(['\'', '"']))
}

/// A limit or request in units of the divisor, rounded up as Kubernetes does; a limit that is not
/// set falls back to nothing, for a process may use the whole machine.
fn resource_value(resource: &Value, container: &Value) -> Option<String> {
    let (list, name) = text(resource, "resource")?.split_once('.')?;
    let quantity = scalar(container.get("resources")?.get(list)?.get(name)?)?;
    let divisor = resource.get("divisor").and_then(scalar).unwrap_or_else(|| "1".to_owned());
    let (quantity, divisor) = (Quantity::parse(&quantity)?, Quantity::parse(&divisor)?);
    quantity.divided_by(divisor).map(|units| units.to_string())
}

/// Text or number as text: a quantity may be written either way.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

pub(super) fn is_optional(reference: &Value) -> bool {
    reference.get("optional").and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::data::{Data, DataSet};
    use super::*;
    use crate::model::ObjectName;

    fn set() -> DataSet {
        let mut set = DataSet::default();
        let map = json!({"data": {"A": "from $(map)", "B": "b", "bad=": "x"}});
        let map = Data::of_object(&map, false);
        set.config_maps.insert(ObjectName::new("prod", "app"), Arc::new(map));
        let secret = json!({"kind": "Secret", "stringData": {"password": "p$(x)"}});
        let secret = Data::of_object(&secret, true);
        set.secrets.insert(ObjectName::new("prod", "db"), Arc::new(secret));
        set
    }

    /// The environment as `NAME=value` lines, Secrets marked, and what is missing.
    fn check(container: &Value) -> String {
        let set = set();
        let revision = ObjectName::new("prod", "hello-00001");
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let fields = Fields { revision: &revision, labels: &labels, annotations: &BTreeMap::new() };
        let mut lookup = Lookup::new(&set, "prod");
        let mut text: String = environment(container, fields, &mut lookup)
            .iter()
            .map(|v| format!("{}={}{}\n", v.name, v.value, if v.secret { " (secret)" } else { "" }))
            .collect();
        for missing in &lookup.missing {
            text.push_str(&format!("missing {missing:?}\n"));
        }
        text
    }

    #[test]
    fn every_source() {
        let container = json!({
            "resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}},
            "envFrom": [
                {"prefix": "APP_", "configMapRef": {"name": "app"}},
                {"secretRef": {"name": "db"}},
                {"configMapRef": {"name": "none", "optional": true}},
            ],
            "env": [
                {"name": "PLAIN", "value": "$(APP_A) $$"},
                {"name": "EMPTY"},
                {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "B"}}},
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                {"name": "OPT", "valueFrom": {"secretKeyRef":
                    {"name": "db", "key": "none", "optional": true}}},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "APP", "valueFrom": {"fieldRef":
                    {"fieldPath": "metadata.labels['app']"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef":
                    {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "REQ", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
            ],
        });
        expect![[r#"
            APP_A=from $$(map)
            APP_B=b
            password=p$(x) (secret)
            PLAIN=$(APP_A) $$
            EMPTY=
            KEY=b
            PW=p$(x) (secret)
            POD=hello-00001
            NS=prod
            APP=web
            MEM=64
            CPU=2
        "#]]
        .assert_eq(&check(&container));
    }

    #[test]
    fn what_is_missing_is_noted() {
        let container = json!({
            "envFrom": [{"configMapRef": {"name": "none"}}],
            "env": [{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "db", "key": "user"}}}],
        });
        expect![[r#"
            missing MissingData { kind: ConfigMap, name: "none", key: None }
            missing MissingData { kind: Secret, name: "db", key: Some("user") }
        "#]]
        .assert_eq(&check(&container));
    }
}
