//! Between nodes and JSON.

use serde_json::Number;

use super::{Entry, Node, Value};

impl Node {
    /// The value as JSON, keys in the file's order.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(number) => integer(*number),
            Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => Json::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
            ),
        }
    }

    /// A tree without places from JSON, numbers read as YAML's are.
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        Self::unplaced(match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => from_number(number),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(object) => Value::Map(
                object
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        line: 0,
                        node: Self::from_json(value),
                    })
                    .collect(),
            ),
        })
    }
}

fn integer(number: i128) -> serde_json::Value {
    i64::try_from(number)
        .map(Number::from)
        .or_else(|_| u64::try_from(number).map(Number::from))
        .ok()
        .or_else(|| Number::from_f64(number as f64))
        .map_or(serde_json::Value::Null, serde_json::Value::Number)
}

fn from_number(number: &Number) -> Value {
    if let Some(value) = number.as_i64() {
        Value::Int(value.into())
    } else if let Some(value) = number.as_u64() {
        Value::Int(value.into())
    } else {
        // JSON that says 5.0 says so to the API server, too, which refuses it for an integer.
        Value::Float(number.as_f64().unwrap_or_default())
    }
}
