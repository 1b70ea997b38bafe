//! Contents of ConfigMaps and Secrets among the files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::config::admission::value_bytes;
use crate::model::ObjectName;

/// Keys and contents of one ConfigMap or Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Data {
    entries: BTreeMap<String, Arc<[u8]>>,
    is_secret: bool,
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Contents are left out: they may be a Secret's.
        f.debug_struct("Data")
            .field("keys", &self.entries.keys().collect::<Vec<_>>())
            .field("is_secret", &self.is_secret)
            .finish_non_exhaustive()
    }
}

impl Data {
    /// Contents of an admitted ConfigMap or Secret.
    pub(super) fn of_object(object: &Value, is_secret: bool) -> Self {
        let maps = ["data", "binaryData", "stringData"].into_iter().filter_map(|f| object.get(f));
        let keys = maps.filter_map(Value::as_object).flat_map(serde_json::Map::keys);
        let entries = keys
            .filter_map(|key| Some((key.clone(), Arc::from(value_bytes(object, key)?))))
            .collect();
        Self { entries, is_secret }
    }

    /// Content of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Arc<[u8]>> {
        self.entries.get(key)
    }

    /// Keys and contents in the order of keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        self.entries.iter().map(|(key, content)| (key.as_str(), content))
    }
}

/// Which of the two kinds a reference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataKind {
    ConfigMap,
    Secret,
}

impl DataKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// All ConfigMaps and Secrets among the files.
#[derive(Debug, Default)]
pub(super) struct DataSet {
    pub(super) config_maps: HashMap<ObjectName, Arc<Data>>,
    pub(super) secrets: HashMap<ObjectName, Arc<Data>>,
}

/// Something a revision needs and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingData {
    pub(super) kind: DataKind,
    pub(super) name: String,
    pub(super) key: Option<String>,
}

/// Looks things up for one revision and notes what is missing.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    set: &'a DataSet,
    namespace: &'a str,
    pub(super) missing: Vec<MissingData>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(set: &'a DataSet, namespace: &'a str) -> Self {
        Self { set, namespace, missing: Vec::new() }
    }

    /// A whole ConfigMap or Secret. One that is missing and not optional is noted.
    pub(super) fn object(
        &mut self,
        kind: DataKind,
        name: &str,
        optional: bool,
    ) -> Option<&'a Arc<Data>> {
        let id = ObjectName::new(self.namespace, name);
        let found = match kind {
            DataKind::ConfigMap => self.set.config_maps.get(&id),
            DataKind::Secret => self.set.secrets.get(&id),
        };
        if found.is_none() && !optional {
            self.note(kind, name, None);
        }
        found
    }

    /// Content of one key. What is missing and not optional is noted.
    pub(super) fn key(
        &mut self,
        kind: DataKind,
        name: &str,
        key: &str,
        optional: bool,
    ) -> Option<&'a Arc<[u8]>> {
        let content = self.object(kind, name, true).and_then(|data| data.get(key));
        if content.is_none() && !optional {
            self.note(kind, name, Some(key));
        }
        content
    }

    fn note(&mut self, kind: DataKind, name: &str, key: Option<&str>) {
        let missing = MissingData { kind, name: name.to_owned(), key: key.map(str::to_owned) };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    /// What to tell those who ask a revision that needs what is missing; none if nothing is.
    pub(super) fn explain(&self, revision: &ObjectName) -> Option<String> {
        let first = self.missing.first()?;
        let list: Vec<String> = self
            .missing
            .iter()
            .map(|missing| match &missing.key {
                Some(key) => format!("key {key} of {} {}", missing.kind.name(), missing.name),
                None => format!("{} {}", missing.kind.name(), missing.name),
            })
            .collect();
        let (kind, name) = (first.kind.name(), &first.name);
        let namespace = &revision.namespace;
        let field = if first.kind == DataKind::Secret { "stringData" } else { "data" };
        let key = first.key.as_deref().unwrap_or("KEY");
        Some(format!(
            "{revision} needs what is not among the files: {}.\nAdd it, for example\n\
             apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             {field}:\n  {key}: \"VALUE\"\n\
             or write optional: true where the manifest names it",
            list.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_both_kinds_and_shows_no_content() {
        let map = json!({
            "kind": "ConfigMap", "data": {"LEVEL": "debug"}, "binaryData": {"logo": "AAH/"},
        });
        let map = Data::of_object(&map, false);
        assert_eq!(map.get("LEVEL").map(|content| &content[..]), Some(b"debug".as_slice()));
        assert_eq!(map.get("logo").map(|content| &content[..]), Some([0, 1, 255].as_slice()));
        let secret = json!({
            "kind": "Secret", "data": {"a": "aGVsbG8=", "b": "aGVsbG8="},
            "stringData": {"b": "swordfish"},
        });
        let secret = Data::of_object(&secret, true);
        assert_eq!(secret.get("a").map(|content| &content[..]), Some(b"hello".as_slice()));
        assert_eq!(secret.get("b").map(|content| &content[..]), Some(b"swordfish".as_slice()));
        assert!(!format!("{secret:?}").contains("swordfish"));
    }

    #[test]
    fn explains_what_is_missing() {
        let set = DataSet::default();
        let mut lookup = Lookup::new(&set, "prod");
        assert!(lookup.key(DataKind::Secret, "db", "password", false).is_none());
        assert!(lookup.key(DataKind::Secret, "db", "password", false).is_none());
        assert!(lookup.object(DataKind::ConfigMap, "app", false).is_none());
        assert!(lookup.object(DataKind::ConfigMap, "other", true).is_none());
        let text = lookup.explain(&ObjectName::new("prod", "hello-00001")).unwrap();
        expect_test::expect![[r#"
            prod/hello-00001 needs what is not among the files: key password of Secret db, ConfigMap app.
            Add it, for example
            apiVersion: v1
            kind: Secret
            metadata:
              name: db
              namespace: prod
            stringData:
              password: "VALUE"
            or write optional: true where the manifest names it"#]]
        .assert_eq(&text);
    }
}
