//! One JSON object a line. What a replica printed as a JSON object stays one: it is the member
//! `raw`, not a text with escapes.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer};

use super::Lines;

/// The member with what a replica printed.
const RAW: &str = "raw";

/// Writes events as JSON.
#[derive(Debug)]
pub(super) struct JsonLayer(Lines);

impl JsonLayer {
    pub(super) const fn new(lines: Lines) -> Self {
        Self(lines)
    }
}

impl<S: Subscriber> Layer<S> for JsonLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut time = String::new();
        // Writing to a String cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let first = Map::from_iter([("timestamp".to_owned(), time.into())]);
        let mut line = object(event, first).to_string().into_bytes();
        line.push(b'\n');
        self.0.write_line(line);
    }
}

/// An event as an object: `first`, its level, its fields, its target.
pub(super) fn object(event: &Event<'_>, first: Map<String, Value>) -> Value {
    let mut fields = Fields(first);
    fields.0.insert("level".to_owned(), event.metadata().level().as_str().into());
    event.record(&mut fields);
    fields.0.insert("target".to_owned(), event.metadata().target().into());
    Value::Object(fields.0)
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let value = match field.name() {
            RAW => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            _ => Value::String(text),
        };
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}
