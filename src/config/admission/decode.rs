//! Strict decoding: every field must be known and of its type. What does not fit is reported and
//! left out, so that the rest of the object can still be checked.

use serde_json::{Map, Value as Json};

use super::findings::{Finding, Findings, Path};
use super::schema::{self, Object, Type};
use crate::config::text::{Quantity, base64, nearest};
use crate::config::yaml::{Node, Value};

/// The object with only what fits its schema; nulls are left out, as they mean "not given".
pub(super) fn decode(node: &Node, kind: &str, out: &mut Findings) -> Json {
    Json::Object(object(node, schema::object(kind), &Path::root(), out))
}

/// One field that the schema does not tell enough about, decoded as a kind.
pub(super) fn decode_at(node: &Node, kind: &str, path: &Path, out: &mut Findings) -> Json {
    value(node, &Type::Object(kind.to_owned()), path, out).unwrap_or(Json::Null)
}

fn object(node: &Node, schema: &Object, path: &Path, out: &mut Findings) -> Map<String, Json> {
    let mut map = Map::new();
    for entry in node.as_map().unwrap_or_default() {
        let at = path.field(&entry.key);
        let Some(field) = schema.field(&entry.key) else {
            out.push(unknown(&entry.key, entry.line, at, path, schema));
            continue;
        };
        if entry.node.is_null() {
            if path.as_str().is_empty() && entry.line > 0 && is_section(&entry.key) {
                out.push(lost_indentation(&entry.key, entry.line, at));
            }
            continue;
        }
        if let Some(json) = value(&entry.node, &field.ty, &at, out) {
            map.insert(entry.key.clone(), json);
        }
    }
    map
}

fn is_section(key: &str) -> bool {
    matches!(key, "metadata" | "spec" | "data" | "stringData")
}

fn unknown(key: &str, line: u32, at: Path, parent: &Path, schema: &Object) -> Finding {
    let near = nearest(key, schema.fields.iter().map(|field| field.name.as_str()));
    let fix = match (near, section_of(key, parent, schema)) {
        (Some(known), _) => format!("write {known}"),
        (None, Some(section)) => {
            format!("write it below {section}, two spaces further to the right")
        }
        (None, None) => "remove it".to_owned(),
    };
    let message = format!("unknown field {}", crate::config::text::quote(key));
    // The field that was probably meant is named with it, so that it is not called missing, too.
    let meant = near.map(|known| parent.field(known));
    Finding { message, paths: vec![at], fix, line, meant, ..Finding::default() }
}

/// The section of an object that has a field which stands beside the section.
fn section_of(key: &str, parent: &Path, schema: &Object) -> Option<&'static str> {
    if !parent.as_str().is_empty() {
        return None;
    }
    ["spec", "metadata"].into_iter().find(|section| {
        schema.field(section).is_some_and(|field| match &field.ty {
            Type::Object(name) => schema::object(name).field(key).is_some(),
            _ => false,
        })
    })
}

fn lost_indentation(key: &str, line: u32, path: Path) -> Finding {
    Finding {
        message: "it is empty: the indentation of what belongs below it was lost".to_owned(),
        paths: vec![path],
        fix: format!("write the lines that belong to {key} two spaces further to the right"),
        line,
        ..Finding::default()
    }
}

/// The value as JSON, none if it does not fit.
fn value(node: &Node, ty: &Type, path: &Path, out: &mut Findings) -> Option<Json> {
    match (ty, &node.value) {
        (Type::Optional(inner), _) => value(node, inner, path, out),
        (Type::Any, _) => Some(node.to_json()),
        (Type::Object(name), Value::Map(_)) => {
            Some(Json::Object(object(node, schema::object(name), path, out)))
        }
        (Type::List(inner), Value::List(items)) => {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let at = path.index(index);
                let json = if item.is_null() { None } else { value(item, inner, &at, out) };
                list.push(json.unwrap_or_else(|| zero(inner)));
            }
            Some(Json::Array(list))
        }
        (Type::Map(inner), Value::Map(entries)) => {
            let mut map = Map::new();
            for entry in entries {
                let at = path.field(&entry.key);
                let json =
                    if entry.node.is_null() { None } else { value(&entry.node, inner, &at, out) };
                map.insert(entry.key.clone(), json.unwrap_or_else(|| zero(inner)));
            }
            Some(Json::Object(map))
        }
        (Type::Quantity, _) if scalar_fits(node, ty) => Some(quantity(node)),
        _ if scalar_fits(node, ty) => Some(node.to_json()),
        _ => {
            out.push(wrong_type(node, ty, path));
            None
        }
    }
}

/// A quantity in its canonical form.
fn quantity(node: &Node) -> Json {
    let text = match &node.value {
        Value::String(text) => text.clone(),
        _ => scalar_text(node),
    };
    Quantity::parse(&text).map_or(Json::String(text), |quantity| quantity.to_string().into())
}

/// What stands for a null item of a list or map.
fn zero(ty: &Type) -> Json {
    match ty {
        Type::Text | Type::Url | Type::Bytes | Type::Time => Json::from(""),
        Type::Bool => Json::from(false),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => Json::from(0),
        Type::Quantity => Json::from("0"),
        Type::Object(_) | Type::Map(_) => Json::Object(Map::new()),
        Type::List(_) => Json::Array(Vec::new()),
        Type::Optional(_) | Type::Any => Json::Null,
    }
}

fn scalar_fits(node: &Node, ty: &Type) -> bool {
    let within = |low: i64, high: i64| {
        node.as_int().is_some_and(|n| (i128::from(low)..=i128::from(high)).contains(&n))
    };
    let int32 = || within(i32::MIN.into(), i32::MAX.into());
    match ty {
        Type::Text => node.as_str().is_some(),
        Type::Bool => node.as_bool().is_some(),
        Type::Int32 => int32(),
        Type::Int64 => within(i64::MIN, i64::MAX),
        Type::Number => node.as_f64().is_some(),
        Type::Quantity => match &node.value {
            Value::String(text) => Quantity::parse(text).is_some(),
            Value::Int(_) | Value::Float(_) => true,
            _ => false,
        },
        Type::IntOrString => node.as_str().is_some() || int32(),
        Type::Time => node.as_str().is_some_and(is_time),
        Type::Url => node.as_str().is_some_and(is_url),
        Type::Bytes => node.as_str().is_some_and(|text| base64(text).is_some()),
        _ => false,
    }
}

/// RFC 3339, as much of it as an object's timestamps use.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let mark = |at: usize, c: u8| bytes.get(at) == Some(&c);
    digits(0..4)
        && mark(4, b'-')
        && digits(5..7)
        && mark(7, b'-')
        && digits(8..10)
        && mark(10, b'T')
        && digits(11..13)
        && mark(13, b':')
        && digits(14..16)
        && mark(16, b':')
        && digits(17..19)
        && (text.ends_with('Z') || text[19..].contains(['+', '-']))
}

/// What Go's URL parser refuses: control characters, a broken escape, a space in the host.
fn is_url(text: &str) -> bool {
    let bytes = text.as_bytes();
    let escapes_fit = bytes.iter().enumerate().all(|(at, byte)| {
        *byte != b'%'
            || bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    });
    let host = text
        .split_once("://")
        .map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    !bytes.iter().any(|b| *b < 0x20 || *b == 0x7f)
        && escapes_fit
        && !host.contains(' ')
        && !text.starts_with(':')
}

fn wrong_type(node: &Node, ty: &Type, path: &Path) -> Finding {
    // A Secret's values get into no message.
    let secret = matches!(ty, Type::Bytes) || path.as_str().starts_with("stringData");
    let given = match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
        _ if secret => "this value".to_owned(),
        Value::String(text) => crate::config::text::quote(&shortened(text)),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null => "null".to_owned(),
    };
    let message = format!("cannot read {given} as {}", in_words(ty));
    Finding {
        message,
        paths: vec![path.clone()],
        fix: instead(node, ty, path),
        line: node.line,
        ..Finding::default()
    }
}

/// A long text would hide the message.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 40 {
        return text.to_owned();
    }
    text.chars().take(20).chain("…".chars()).collect()
}

fn in_words(ty: &Type) -> String {
    match ty {
        Type::Text => "text".to_owned(),
        Type::Bool => "a boolean".to_owned(),
        Type::Int32 => "a whole number (32 bits)".to_owned(),
        Type::Int64 => "a whole number (64 bits)".to_owned(),
        Type::Number => "a number".to_owned(),
        Type::Quantity => "a quantity".to_owned(),
        Type::IntOrString => "a port's number or name".to_owned(),
        Type::Time => "a time".to_owned(),
        Type::Url => "a URL".to_owned(),
        Type::Bytes => "base64".to_owned(),
        Type::Any => "a value".to_owned(),
        Type::Object(_) | Type::Map(_) => "a mapping".to_owned(),
        Type::List(_) => "a list".to_owned(),
        Type::Optional(inner) => in_words(inner),
    }
}

fn instead(node: &Node, ty: &Type, path: &Path) -> String {
    let name = path.as_str().rsplit(['.', '/']).next().unwrap_or_default();
    match (ty, &node.value) {
        (Type::Optional(inner), _) => instead(node, inner, path),
        (Type::Text, _) if path.as_str().starts_with("stringData") => {
            format!("write the value of {name} in quotes")
        }
        (Type::Text, Value::Bool(_)) => {
            format!(
                "put {name} in quotes: without them yes, no, on, off, true and false are booleans"
            )
        }
        (Type::Text, Value::Int(_) | Value::Float(_)) => {
            format!("write {} in quotes: \"{}\"", name, scalar_text(node))
        }
        (Type::Text, _) => "write text".to_owned(),
        (Type::Int32 | Type::Int64 | Type::Number, Value::String(text))
            if text.trim().parse::<f64>().is_ok() =>
        {
            format!("write {} without quotes", text.trim())
        }
        (Type::Int32 | Type::Int64, _) => "write a whole number".to_owned(),
        (Type::Number, _) => "write a number".to_owned(),
        (Type::Bool, _) => "write true or false, without quotes".to_owned(),
        (Type::Quantity, _) => "write an amount such as 500m, 1 or 256Mi".to_owned(),
        (Type::IntOrString, _) => "write a port number such as 8080".to_owned(),
        (Type::Time, _) => "write a time such as 2026-01-31T12:00:00Z".to_owned(),
        (Type::Url, _) => "write a URL such as http://example.com".to_owned(),
        (Type::Bytes, _) => "write base64, or put the text under stringData".to_owned(),
        (Type::List(_), Value::Map(_)) => format!("put \"- \" before the items of {name}"),
        (Type::List(_), _) => format!("write a list: each item of {name} in a line with \"- \""),
        (Type::Object(_) | Type::Map(_), Value::List(_)) => {
            format!("write the fields of {name} without \"- \"")
        }
        (Type::Object(_) | Type::Map(_), _) => {
            format!("write the fields of {name} below it, further to the right")
        }
        (Type::Any, _) => "write a value".to_owned(),
    }
}

fn scalar_text(node: &Node) -> String {
    match &node.value {
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_and_reported() {
        let text =
            "metadata: {name: x, labels: {a: 1}}\nspec:\n  traffic: {percent: 1}\nstat: {}\n";
        let node = crate::config::yaml::parse_file(text).documents.remove(0).node;
        let mut out = Findings::default();
        let json = decode(&node, "Route", &mut out);
        assert_eq!(
            json,
            serde_json::json!({"metadata": {"name": "x", "labels": {"a": ""}}, "spec": {}})
        );
        let seen: Vec<String> = out.into_problems(&node).iter().map(ToString::to_string).collect();
        assert_eq!(
            seen,
            [
                "line 1: metadata.labels.a: cannot read 1 as text; write a in quotes: \"1\"",
                "line 3: spec.traffic: cannot read a mapping as a list; put \"- \" before the items of traffic",
                "line 4: stat: unknown field \"stat\"; write status",
            ]
        );
    }
}
