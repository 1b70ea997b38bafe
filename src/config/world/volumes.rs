//! Volumes a template brings, and where its container wants them.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::data::{Data, DataKind, Lookup};
use super::env::{Fields, field_value, is_optional, list, text};
use crate::model::{Mount, Volume, VolumeFile};

/// The volumes of a pod spec.
pub(super) fn volumes(spec: &Value, fields: Fields<'_>, lookup: &mut Lookup<'_>) -> Vec<Volume> {
    list(spec, "volumes")
        .iter()
        .filter_map(|volume| {
            let name = text(volume, "name")?;
            let mut files = Vec::new();
            take_source(volume, "secretName", fields, lookup, &mut files);
            if let Some(projected) = volume.get("projected") {
                for source in list(projected, "sources") {
                    take_source(source, "name", fields, lookup, &mut files);
                }
            }
            Some(Volume { name: Arc::from(name), files })
        })
        .collect()
}

/// Takes the files of one source. `secret_name` is the field that names the Secret: it differs
/// between a volume and a projected source.
fn take_source(
    source: &Value,
    secret_name: &str,
    fields: Fields<'_>,
    lookup: &mut Lookup<'_>,
    files: &mut Vec<VolumeFile>,
) {
    let kinds =
        [("configMap", DataKind::ConfigMap, "name"), ("secret", DataKind::Secret, secret_name)];
    for (field, kind, name_field) in kinds {
        let Some(reference) = source.get(field).filter(|value| value.is_object()) else { continue };
        let name = text(reference, name_field).unwrap_or_default();
        let optional = is_optional(reference);
        let items = list(reference, "items");
        if items.is_empty() {
            if let Some(data) = lookup.object(kind, name, optional) {
                take_all(data, kind, files);
            }
            continue;
        }
        for item in items {
            let (Some(key), Some(path)) = (text(item, "key"), text(item, "path")) else { continue };
            if let Some(content) = lookup.key(kind, name, key, optional) {
                put(files, path, Arc::clone(content), kind == DataKind::Secret);
            }
        }
    }
    if let Some(downward) = source.get("downwardAPI") {
        for item in list(downward, "items") {
            let field = item.get("fieldRef").and_then(|field| text(field, "fieldPath"));
            if let (Some(path), Some(field)) = (text(item, "path"), field)
                && let Some(value) = field_value(field, fields)
            {
                put(files, path, Arc::from(value.as_bytes()), false);
            }
        }
    }
}

fn take_all(data: &Data, kind: DataKind, files: &mut Vec<VolumeFile>) {
    for (key, content) in data.iter() {
        put(files, key, Arc::clone(content), kind == DataKind::Secret);
    }
}

/// Adds a file; a later one of the same path replaces it. A path that would leave the volume's
/// folder is left out.
fn put(files: &mut Vec<VolumeFile>, path: &str, content: Arc<[u8]>, secret: bool) {
    let path = PathBuf::from(path);
    if !is_inside(&path) {
        return;
    }
    files.retain(|file| file.path != path);
    files.push(VolumeFile { path, content, secret });
}

fn is_inside(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Where a container wants volumes.
pub(super) fn mounts(container: &Value) -> Vec<Mount> {
    list(container, "volumeMounts")
        .iter()
        .filter_map(|mount| {
            let sub_path = text(mount, "subPath").filter(|path| !path.is_empty());
            let sub_path = sub_path.map(PathBuf::from).filter(|path| is_inside(path));
            Some(Mount {
                volume: Arc::from(text(mount, "name")?),
                path: Path::new("/").join(text(mount, "mountPath")?),
                sub_path,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;
    use serde_json::json;

    use super::super::data::DataSet;
    use super::*;
    use crate::model::ObjectName;

    #[test]
    fn every_source() {
        let mut set = DataSet::default();
        let map = Data::of_object(&json!({"data": {"a.txt": "a", "b.txt": "b"}}), false);
        set.config_maps.insert(ObjectName::new("prod", "app"), Arc::new(map));
        let secret = json!({"kind": "Secret", "stringData": {"token": "t", "../up": "x"}});
        let secret = Data::of_object(&secret, true);
        set.secrets.insert(ObjectName::new("prod", "db"), Arc::new(secret));
        let spec = json!({"volumes": [
            {"name": "map", "configMap": {"name": "app", "defaultMode": 420}},
            {"name": "some", "configMap": {"name": "app",
                "items": [{"key": "b.txt", "path": "deep/b"}, {"key": "none", "path": "none"}]}},
            {"name": "secret", "secret": {"secretName": "db"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "absent", "secret": {"secretName": "none", "optional": true}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": "app"}},
                {"secret": {"name": "db", "items": [{"key": "token", "path": "a.txt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}},
        ]});
        let revision = ObjectName::new("prod", "hello-00001");
        let none = BTreeMap::new();
        let fields = Fields { revision: &revision, labels: &none, annotations: &none };
        let mut lookup = Lookup::new(&set, "prod");
        let mut shown = String::new();
        for volume in volumes(&spec, fields, &mut lookup) {
            shown.push_str(&format!("{}:", volume.name));
            for file in &volume.files {
                let content = String::from_utf8_lossy(&file.content);
                let mark = if file.secret { " (secret)" } else { "" };
                shown.push_str(&format!(" {}={content}{mark}", file.path.display()));
            }
            shown.push('\n');
        }
        shown.push_str(&format!("{:?}", lookup.missing));
        expect![[r#"
            map: a.txt=a b.txt=b
            some: deep/b=b
            secret: token=t (secret)
            scratch:
            absent:
            all: b.txt=b a.txt=t (secret) ns=prod
            [MissingData { kind: ConfigMap, name: "app", key: Some("none") }]"#]]
        .assert_eq(&shown);
    }

    #[test]
    fn where_they_are_wanted() {
        let container = json!({"volumeMounts": [
            {"name": "map", "mountPath": "/etc/app"},
            {"name": "map", "mountPath": "etc/app.txt", "subPath": "a.txt"},
            {"name": "map", "mountPath": "/x", "subPath": "../y"},
        ]});
        let shown: Vec<String> = mounts(&container)
            .iter()
            .map(|mount| format!("{} {} {:?}", mount.volume, mount.path.display(), mount.sub_path))
            .collect();
        assert_eq!(shown, ["map /etc/app None", "map /etc/app.txt Some(\"a.txt\")", "map /x None"]);
    }
}
