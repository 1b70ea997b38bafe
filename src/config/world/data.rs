//! Contents of ConfigMaps and Secrets among the files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

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

/// What is wrong with one entry: field, key, and what to write. Never the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataError {
    pub(super) field: &'static str,
    pub(super) key: String,
    pub(super) message: &'static str,
    pub(super) fix: &'static str,
}

impl Data {
    /// A ConfigMap's contents.
    pub(super) fn of_config_map(object: &Value) -> Result<Self, Vec<DataError>> {
        Self::read(object, false, &[("data", false), ("binaryData", true)])
    }

    /// A Secret's contents; `stringData` wins over `data`, as in Kubernetes.
    pub(super) fn of_secret(object: &Value) -> Result<Self, Vec<DataError>> {
        Self::read(object, true, &[("data", true), ("stringData", false)])
    }

    fn read(
        object: &Value,
        is_secret: bool,
        fields: &[(&'static str, bool)],
    ) -> Result<Self, Vec<DataError>> {
        let mut data = Self { is_secret, ..Self::default() };
        let mut errors = Vec::new();
        for (field, is_base64) in fields {
            let entries = match object.get(field) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(entries)) => entries,
                Some(_) => {
                    errors.push(DataError {
                        field,
                        key: String::new(),
                        message: "this is not a mapping",
                        fix: "write KEY: \"VALUE\" lines below it",
                    });
                    continue;
                }
            };
            for (key, value) in entries {
                match content(value, *is_base64) {
                    Ok(content) => {
                        data.entries.insert(key.clone(), content);
                    }
                    Err((message, fix)) => {
                        errors.push(DataError { field, key: key.clone(), message, fix });
                    }
                }
            }
        }
        if errors.is_empty() { Ok(data) } else { Err(errors) }
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

fn content(value: &Value, is_base64: bool) -> Result<Arc<[u8]>, (&'static str, &'static str)> {
    match value {
        Value::Null => Ok(Arc::from([])),
        Value::String(text) if is_base64 => decode_base64(text).map(Arc::from).ok_or((
            "this is not base64",
            "write the text in base64, or move it as it is to data (ConfigMap) or stringData (Secret)",
        )),
        Value::String(text) => Ok(Arc::from(text.as_bytes())),
        _ => Err(("this is not text", "write it in quotes, for example \"8080\"")),
    }
}

/// Decodes standard base64 with padding; white space is ignored, as in Kubernetes' JSON.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0_u32, 0_u32);
    for character in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let six = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(six);
        count += 1;
        if count == 4 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 2) => bytes.push((bits >> 4) as u8),
        (3, 1) => bytes.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return None,
    }
    Some(bytes)
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
            "{revision} needs what is not among the files: {}. Add it, for example\n\
             apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             {field}:\n  {key}: \"VALUE\"\n\
             or write optional: true where the manifest names it",
            list.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The slow definition: six bits a character, looked up in the alphabet.
    fn encode_base64(bytes: &[u8]) -> String {
        let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
        let digit = |six: u8| match six {
            62 => '+',
            63 => '/',
            other => alphabet[usize::from(other)],
        };
        let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let mut text: String = bits
            .as_bytes()
            .chunks(6)
            .map(|chunk| {
                let six = format!("{:0<6}", std::str::from_utf8(chunk).unwrap());
                digit(u8::from_str_radix(&six, 2).unwrap())
            })
            .collect();
        while !text.len().is_multiple_of(4) {
            text.push('=');
        }
        text
    }

    proptest! {
        #[test]
        fn base64_there_and_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode_base64(&encode_base64(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn base64_that_is_none() {
        for text in ["a", "ab", "abc", "ab=c", "a===", "====", "ab-_", "abcd="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
        assert_eq!(decode_base64("aGVs\nbG8=\n").as_deref(), Some(b"hello".as_slice()));
    }

    #[test]
    fn reads_both_kinds_and_shows_no_content() {
        let map = Data::of_config_map(&json!({
            "data": {"LEVEL": "debug", "EMPTY": null}, "binaryData": {"logo": "AAH/"},
        }))
        .unwrap();
        assert_eq!(map.get("LEVEL").map(|content| &content[..]), Some(b"debug".as_slice()));
        assert_eq!(map.get("logo").map(|content| &content[..]), Some([0, 1, 255].as_slice()));
        let secret = Data::of_secret(&json!({
            "data": {"a": "aGVsbG8=", "b": "aGVsbG8="}, "stringData": {"b": "swordfish"},
        }))
        .unwrap();
        assert_eq!(secret.get("a").map(|content| &content[..]), Some(b"hello".as_slice()));
        assert_eq!(secret.get("b").map(|content| &content[..]), Some(b"swordfish".as_slice()));
        assert!(!format!("{secret:?}").contains("swordfish"));

        let errors = Data::of_secret(&json!({"data": {"a": "swordfish!"}})).unwrap_err();
        assert_eq!((errors[0].field, errors[0].key.as_str()), ("data", "a"));
        assert!(!format!("{errors:?}").contains("swordfish!"));
        let errors = Data::of_config_map(&json!({"data": {"PORT": 8080}})).unwrap_err();
        assert_eq!(errors[0].fix, "write it in quotes, for example \"8080\"");
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
            prod/hello-00001 needs what is not among the files: key password of Secret db, ConfigMap app. Add it, for example
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
