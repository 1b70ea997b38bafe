//! YAML as the Kubernetes API reads it, into a tree of nodes that know their place.
//!
//! A manifest is first a tree, then checked: a problem can then name file, line, document and
//! field, and all problems of a file are found at once. Scalars are read as `sigs.k8s.io/yaml`
//! reads them (YAML 1.1 booleans and octals, `1e3` is the integer 1000, timestamps stay text), so
//! that a file means here what it means to `kubectl apply`.

mod json;
mod parts;
mod reader;
mod scalar;

#[cfg(test)]
mod tests;

pub use parts::ParsedFile;

/// Objects as the documents of one file.
pub fn to_text(objects: &[serde_json::Value]) -> String {
    // What is made of JSON can be written.
    let text = |object| serde_saphyr::to_string(object).unwrap_or_default();
    let documents = objects.iter().map(|object| format!("---\n{}\n", text(object).trim_end()));
    documents.collect()
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Line, from 1; 0 where the value came from no file.
    pub line: u32,
    /// Column, from 1; 0 where the value came from no file.
    pub column: u32,
}

/// A YAML value in JSON's terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true`, `yes`, `on`, …
    Bool(bool),
    /// A whole number, also one written `1e3` or `1.0`, as JSON has them.
    Int(i128),
    /// Any other number; always finite.
    Float(f64),
    /// Text.
    String(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order; keys are distinct.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as text.
    pub key: String,
    /// The key's line, from 1.
    pub line: u32,
    /// Its value.
    pub node: Node,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Its documents up to the error, empty ones left out.
    pub documents: Vec<Document>,
    /// Why the rest of the file could not be read.
    pub error: Option<SyntaxError>,
}

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its number, from 1, empty documents counted.
    pub index: usize,
    /// Line of its first content.
    pub line: u32,
    /// Its content.
    pub node: Node,
}

/// Where and why reading stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Number of the document, from 1.
    pub document: usize,
    /// What is wrong, and what to write instead where that is known.
    pub message: String,
}

/// Reads all documents of a file. Documents before an error are returned with it.
pub fn parse_file(text: &str) -> Parsed {
    reader::read(text)
}

impl Node {
    /// A node that came from no file.
    pub const fn unplaced(value: Value) -> Self {
        Self { value, line: 0, column: 0 }
    }

    /// Whether this says the same as `other`, wherever the two stand.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b))
            }
            (Value::Map(a), Value::Map(b)) => {
                let is_same = |(a, b): (&Entry, &Entry)| a.key == b.key && a.node.is_same(&b.node);
                a.len() == b.len() && a.iter().zip(b).all(is_same)
            }
            (a, b) => a == b,
        }
    }

    /// Value of a mapping's key; none where there is no such key or this is no mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// A mapping's entry by key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|entry| entry.key == key)
    }

    /// The node found by following keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number, if this is one.
    pub const fn as_int(&self) -> Option<i128> {
        match self.value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    /// A number, if this is one.
    pub const fn as_f64(&self) -> Option<f64> {
        match self.value {
            Value::Int(number) => Some(number as f64),
            Value::Float(number) => Some(number),
            _ => None,
        }
    }

    /// A boolean, if this is one.
    pub const fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Entries, if this is a mapping.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Items, if this is a sequence.
    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether this is null.
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What kind of value this is, in JSON's words.
    pub const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Float(_) => "number",
            Value::String(_) => "string",
            Value::List(_) => "array",
            Value::Map(_) => "object",
        }
    }
}
