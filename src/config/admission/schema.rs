//! The fields of the objects that admission knows, read from `schema.txt`.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bool,
    Int32,
    Int64,
    Number,
    Quantity,
    IntOrString,
    Time,
    Url,
    Bytes,
    Any,
    Object(String),
    Optional(Box<Self>),
    List(Box<Self>),
    Map(Box<Self>),
}

/// A field of an object, inlined ones among them.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: Type,
}

/// The fields of one kind of object.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) fields: Vec<Field>,
}

impl Object {
    /// A field by its name.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

static OBJECTS: LazyLock<HashMap<String, Object>> =
    LazyLock::new(|| read(include_str!("schema.txt")));
static NOTHING: Object = Object { fields: Vec::new() };

/// The fields of an object; none for a name that the schema does not have (a test sees to it that
/// there is no such name).
pub(super) fn object(name: &str) -> &'static Object {
    OBJECTS.get(name).unwrap_or(&NOTHING)
}

fn read(text: &str) -> HashMap<String, Object> {
    let lines: HashMap<&str, &str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .collect();
    lines.keys().map(|name| ((*name).to_owned(), flatten(name, &lines))).collect()
}

fn flatten(name: &str, lines: &HashMap<&str, &str>) -> Object {
    let mut fields = Vec::new();
    for item in lines.get(name).copied().unwrap_or_default().split(", ") {
        if let Some(inlined) = item.strip_prefix('+') {
            fields.extend(flatten(inlined, lines).fields);
        } else if let Some((name, ty)) = item.split_once(' ') {
            fields.push(Field { name: name.to_owned(), ty: read_type(ty) });
        }
    }
    Object { fields }
}

fn read_type(text: &str) -> Type {
    if let Some(inner) = text.strip_prefix('*') {
        return Type::Optional(Box::new(read_type(inner)));
    }
    if let Some(inner) = text.strip_prefix("[]") {
        return Type::List(Box::new(read_type(inner)));
    }
    if let Some(inner) = text.strip_prefix("{}") {
        return Type::Map(Box::new(read_type(inner)));
    }
    match text {
        "string" => Type::Text,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "number" => Type::Number,
        "quantity" => Type::Quantity,
        "intOrString" => Type::IntOrString,
        "time" => Type::Time,
        "url" => Type::Url,
        "bytes" => Type::Bytes,
        "any" => Type::Any,
        name => Type::Object(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(ty: &Type) -> Option<&str> {
        match ty {
            Type::Object(name) => Some(name),
            Type::Optional(inner) | Type::List(inner) | Type::Map(inner) => named(inner),
            _ => None,
        }
    }

    #[test]
    fn every_type_is_there_and_no_field_is_given_twice() {
        assert!(OBJECTS.len() > 130, "{}", OBJECTS.len());
        for (name, object) in OBJECTS.iter() {
            assert!(!object.fields.is_empty(), "{name}");
            let mut seen = std::collections::HashSet::new();
            for field in &object.fields {
                assert!(seen.insert(&field.name), "{name}.{}", field.name);
                if let Some(inner) = named(&field.ty) {
                    assert!(OBJECTS.contains_key(inner), "{name}.{}: {inner}", field.name);
                }
            }
        }
        let fields = include_str!("schema.txt").lines().filter(|line| !line.starts_with('#'));
        for inlined in
            fields.flat_map(|line| line.split(", ")).filter_map(|item| item.strip_prefix('+'))
        {
            assert!(OBJECTS.contains_key(inlined.trim()), "{inlined}");
        }
    }
}
