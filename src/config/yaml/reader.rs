//! From serde-saphyr's parser events to nodes.
//!
//! Events, and not typed decoding: only they tell where documents begin (empty ones included),
//! where keys stand, and how a scalar was spelled, which decides what Kubernetes reads.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{
    Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag,
};

use super::{Document, Entry, Node, Parsed, SyntaxError, Value, scalar};
use crate::config::text::base64;

/// Nodes of one file, replayed aliases counted: bounds what a few lines of aliases can unfold to.
pub(super) const MAX_NODES: usize = 1_000_000;
/// Depth of nesting: bounds recursion over trees.
const MAX_DEPTH: usize = 100;

/// Reads all documents.
pub(super) fn read(text: &str) -> Parsed {
    read_counted(text).0
}

/// The same, and how many documents there are, empty ones counted, and values in them.
pub(super) fn read_counted(text: &str) -> (Parsed, (usize, usize)) {
    // Comments are events too as soon as any other library asks the parser for them.
    let mut options = Options::default();
    options.emit_comments = false;
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        lines: text.lines().collect(),
        anchors: HashMap::new(),
        nodes: 0,
        document: 0,
    };
    let mut parsed = Parsed::default();
    loop {
        match reader.document() {
            Ok(Some(document)) => {
                if !document.node.is_null() {
                    parsed.documents.push(document);
                }
            }
            Ok(None) => return (parsed, (reader.document, reader.nodes)),
            Err(stop) => {
                parsed.error = Some(SyntaxError {
                    line: stop.line,
                    column: stop.column,
                    document: reader.document.max(1),
                    message: stop.message,
                });
                return (parsed, (reader.document, reader.nodes));
            }
        }
    }
}

/// Why reading stops.
struct Stop {
    line: u32,
    column: u32,
    message: String,
}

impl Stop {
    fn at((line, column): (u32, u32), message: impl Into<String>) -> Self {
        Self { line, column, message: message.into() }
    }
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        let mark = error.marker();
        let message = error.info();
        Self {
            line: narrow(mark.line()),
            column: narrow(mark.col() + 1),
            message: if message.is_empty() { "this is not YAML".to_owned() } else { message },
        }
    }
}

/// An anchored value, with what it costs to repeat it.
struct Anchor {
    node: Node,
    nodes: usize,
    height: usize,
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    lines: Vec<&'a str>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    document: usize,
}

/// A finished node and how deep the tree below it is.
type Built = (Node, usize);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.events.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err(error.into()),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The next document, none at the end of the file.
    fn document(&mut self) -> Result<Option<Document>, Stop> {
        loop {
            match self.next()?.0 {
                Event::DocumentStart(..) => break,
                Event::StreamEnd => return Ok(None),
                _ => {}
            }
        }
        self.document += 1;
        self.anchors.clear();
        let (event, span) = self.next()?;
        let (node, _) = self.node(event, place(&span), 0)?;
        Ok(Some(Document { index: self.document, line: node.line, node }))
    }

    fn node(&mut self, event: Event<'a>, at: (u32, u32), depth: usize) -> Result<Built, Stop> {
        self.count(1, depth, at)?;
        let before = self.nodes;
        let (value, height, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar_value(&text, style, tag.as_deref())
                    .map_err(|message| Stop::at(at, message))?;
                (value, 0, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let (items, height) = self.list(depth)?;
                (Value::List(items), height, anchor)
            }
            Event::MappingStart(style, anchor, _) => {
                let (entries, height) = self.map(style == StructureStyle::Block, depth)?;
                (Value::Map(entries), height, anchor)
            }
            Event::Alias(id) => return self.alias(id, at, depth),
            _ => return Err(Stop::at(at, "a value is missing here")),
        };
        let node = Node { value, line: at.0, column: at.1 };
        if anchor != 0 {
            let nodes = self.nodes - before + 1;
            self.anchors.insert(anchor, Anchor { node: node.clone(), nodes, height });
        }
        Ok((node, height))
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, usize), Stop> {
        let mut items = Vec::new();
        let mut height = 0;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok((items, height + 1));
            }
            let (item, below) = self.node(event, place(&span), depth + 1)?;
            height = height.max(below);
            items.push(item);
        }
    }

    fn map(&mut self, block: bool, depth: usize) -> Result<(Vec<Entry>, usize), Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, u32> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut height = 0;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                break;
            }
            let key_at = place(&span);
            if block && self.is_indented_by_tab(key_at.0) {
                let message = "a tab in the indentation; write spaces";
                return Err(Stop::at(key_at, message));
            }
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            let (key_node, _) = self.node(event, key_at, depth + 1)?;
            let (event, span) = self.next()?;
            // An absent value has no place of its own: it stands where its key stands.
            let absent =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text.is_empty());
            let at = if absent { key_at } else { place(&span) };
            let (node, below) = self.node(event, at, depth + 1)?;
            height = height.max(below);
            if is_merge {
                merge_into(&mut merged, node).map_err(|message| Stop::at(at, message))?;
                continue;
            }
            let key = key_text(key_node.value).map_err(|message| Stop::at(key_at, message))?;
            if let Some(first) = lines.insert(key.clone(), key_at.0) {
                let message = format!(
                    "the key {key:?} is already given in line {first}; keep one of lines {first} and {}",
                    key_at.0
                );
                return Err(Stop::at(key_at, message));
            }
            entries.push(Entry { key, line: key_at.0, node });
        }
        for entry in merged {
            if !lines.contains_key(&entry.key) {
                lines.insert(entry.key.clone(), entry.line);
                entries.push(entry);
            }
        }
        Ok((entries, height + 1))
    }

    /// The parser takes tabs, the API server does not.
    fn is_indented_by_tab(&self, line: u32) -> bool {
        let line = self.lines.get(line.saturating_sub(1) as usize).copied().unwrap_or_default();
        line.chars().take_while(|c| matches!(c, ' ' | '\t')).any(|c| c == '\t')
    }

    fn alias(&mut self, id: usize, at: (u32, u32), depth: usize) -> Result<Built, Stop> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(Stop::at(at, "an alias cannot stand inside the value it names"));
        };
        let (nodes, height) = (anchor.nodes, anchor.height);
        self.count(nodes, depth + height, at)?;
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(Stop::at(at, "an alias cannot stand inside the value it names"));
        };
        let node = Node { value: anchor.node.value.clone(), line: at.0, column: at.1 };
        Ok((node, height))
    }

    fn count(&mut self, nodes: usize, depth: usize, at: (u32, u32)) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if depth > MAX_DEPTH {
            return Err(Stop::at(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values in one file; split the file");
            return Err(Stop::at(at, message));
        }
        Ok(())
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn place(span: &Span) -> (u32, u32) {
    (narrow(span.start.line()), narrow(span.start.col() + 1))
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let wrong = |what: &str| format!("{text:?} is no {what}, as its tag says");
    let suffix = tag.and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"));
    match suffix.as_deref() {
        None if tag.is_some() || style != ScalarStyle::Plain => Ok(Value::String(text.to_owned())),
        None => scalar::plain(text),
        Some("null") if scalar::is_null(text) => Ok(Value::Null),
        Some("null") => Err(wrong("null")),
        Some("bool") => scalar::boolean(text).map(Value::Bool).ok_or_else(|| wrong("boolean")),
        Some("int") => match scalar::numeric(text) {
            Some(value @ Value::Int(_)) => Ok(value),
            _ => Err(wrong("whole number")),
        },
        Some("float") => scalar::numeric(text).ok_or_else(|| wrong("number")),
        Some("binary") => base64(text)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(Value::String)
            .ok_or_else(|| wrong("base64 of text")),
        Some(_) => Ok(Value::String(text.to_owned())),
    }
}

/// A key as JSON has it.
fn key_text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Err("a key is missing before this \":\"".to_owned()),
        Value::List(_) | Value::Map(_) => {
            Err("a key must be text, not a list or a mapping; quote it if text is meant".to_owned())
        }
    }
}

/// Collects the entries that `<<` brings in; the first bringer of a key wins.
fn merge_into(merged: &mut Vec<Entry>, node: Node) -> Result<(), String> {
    match node.value {
        Value::Map(entries) => {
            for entry in entries {
                if !merged.iter().any(|present| present.key == entry.key) {
                    merged.push(entry);
                }
            }
            Ok(())
        }
        Value::List(items) => items.into_iter().try_for_each(|item| match item.value {
            Value::Map(_) => merge_into(merged, item),
            _ => Err("\"<<\" takes a mapping or a list of mappings".to_owned()),
        }),
        _ => Err("\"<<\" takes a mapping or a list of mappings".to_owned()),
    }
}
