//! Files of many documents, of which a few change: the text is cut where documents begin, and only
//! parts with a new text are parsed.
//!
//! A line that begins with `---` begins a document wherever it stands: within a quoted text or in
//! brackets it is an error. So parts can be read by themselves; if any of them has an error, or the
//! file has directives, the file is read as a whole, and means what it means there. (Only places of
//! block texts without a line differ: the parser takes what follows for their place.)

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{Document, Node, SyntaxError, Value, reader};

/// A file as it was read, for the next time it is.
#[derive(Default)]
pub struct ParsedFile {
    text: Arc<str>,
    parts: Vec<Part>,
    /// Its documents up to the error, empty ones left out.
    pub documents: Vec<Arc<Document>>,
    /// Why the rest of the file could not be read.
    pub error: Option<SyntaxError>,
}

/// What stands between two lines that begin documents.
#[derive(Clone)]
struct Part {
    range: Range<usize>,
    /// Lines of the file before it.
    lines: u32,
    /// Documents of the file before it, empty ones counted.
    index: usize,
    /// Documents in it, empty ones counted, and values in them.
    size: (usize, usize),
    document: Option<Arc<Document>>,
}

impl fmt::Debug for ParsedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text and what it says are left out: they may hold Secrets.
        f.debug_struct("ParsedFile")
            .field("documents", &self.documents.len())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl ParsedFile {
    /// Reads a file. Documents that `former` has with the same text are not parsed again; those that
    /// stand where they stood are the same `Arc`.
    pub fn parse(text: Arc<str>, former: Option<&Self>) -> Self {
        match in_parts(&text, former) {
            Some(parts) => {
                let documents = parts.iter().filter_map(|part| part.document.clone()).collect();
                Self { text, parts, documents, error: None }
            }
            None => {
                let parsed = reader::read(&text);
                let documents = parsed.documents.into_iter().map(Arc::new).collect();
                Self { text, parts: Vec::new(), documents, error: parsed.error }
            }
        }
    }

    /// Whether it was read from this text.
    pub fn is_of(&self, text: &Arc<str>) -> bool {
        self.text == *text
    }
}

/// The file's parts, read; none if it has to be read as a whole.
fn in_parts(text: &str, former: Option<&ParsedFile>) -> Option<Vec<Part>> {
    let cuts = cuts(text)?;
    let known: HashMap<&str, &Part, foldhash::fast::FixedState> = former
        .into_iter()
        .flat_map(|file| file.parts.iter().map(|part| (&file.text[part.range.clone()], part)))
        .collect();
    let mut parts: Vec<Part> = Vec::with_capacity(cuts.len());
    let (mut index, mut values) = (0, 0);
    for (range, lines) in cuts {
        let part = match known.get(&text[range.clone()]) {
            Some(part) => part.moved(range, lines, index),
            None => Part::read(text, range, lines, index)?,
        };
        index += part.size.0;
        values += part.size.1;
        parts.push(part);
    }
    (values <= reader::MAX_NODES).then_some(parts)
}

/// The parts of a text and how many lines are before each; none if there is only one, or what
/// stands in one may depend on another.
fn cuts(text: &str) -> Option<Vec<(Range<usize>, u32)>> {
    let mut cuts: Vec<(Range<usize>, u32)> = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in (0_u32..).zip(text.split_inclusive('\n')) {
        if line.starts_with('%') || line.starts_with("...") {
            return None;
        }
        let is_start = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_start && at > 0 {
            cuts.push((start..at, start_line));
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    // A carriage return alone ends a line, too.
    let bytes = text.as_bytes();
    let is_alone = |(at, byte): (usize, &u8)| *byte == b'\r' && bytes.get(at + 1) != Some(&b'\n');
    (!cuts.is_empty() && !bytes.iter().enumerate().any(is_alone)).then(|| {
        cuts.push((start..at, start_line));
        cuts
    })
}

impl Part {
    fn read(text: &str, range: Range<usize>, lines: u32, index: usize) -> Option<Self> {
        let (mut parsed, size) = reader::read_counted(&text[range.clone()]);
        if parsed.error.is_some() || size.0 > 1 {
            return None;
        }
        let document = parsed.documents.pop().map(|mut document| {
            shift(&mut document, lines, index);
            Arc::new(document)
        });
        Some(Self { range, lines, index, size, document })
    }

    /// The same part at another place.
    fn moved(&self, range: Range<usize>, lines: u32, index: usize) -> Self {
        if (self.lines, self.index) == (lines, index) {
            return Self { range, ..self.clone() };
        }
        let document = self.document.as_ref().map(|document| {
            let mut document = Document::clone(document);
            shift(&mut document, lines.wrapping_sub(self.lines), index.wrapping_sub(self.index));
            Arc::new(document)
        });
        Self { range, lines, index, size: self.size, document }
    }
}

/// Adds to a document's places, modulo the numbers' range: so that it can be moved up as well.
fn shift(document: &mut Document, lines: u32, index: usize) {
    document.index = document.index.wrapping_add(index);
    document.line = document.line.wrapping_add(lines);
    shift_node(&mut document.node, lines);
}

fn shift_node(node: &mut Node, lines: u32) {
    node.line = node.line.wrapping_add(lines);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift_node(item, lines)),
        Value::Map(entries) => {
            for entry in entries {
                entry.line = entry.line.wrapping_add(lines);
                shift_node(&mut entry.node, lines);
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::{Parsed, parse_file};

    fn parsed(text: &str, former: Option<&ParsedFile>) -> ParsedFile {
        ParsedFile::parse(text.into(), former)
    }

    #[track_caller]
    fn assert_same(file: &ParsedFile, text: &str) {
        let Parsed { documents, error } = parse_file(text);
        let in_parts: Vec<Document> = file.documents.iter().map(|d| Document::clone(d)).collect();
        assert_eq!((in_parts, &file.error), (documents, &error), "{text:?}");
    }

    #[test]
    fn only_what_changed_is_read() {
        let texts = ["# first\na: 1\n---\nb: [1, 2]\n---\nc: |\n  x\n--- # d\nd: 1\n", "---\n"];
        for text in texts {
            assert_same(&parsed(text, None), text);
        }
        let before = parsed(texts[0], None);
        let edited = texts[0].replace("[1, 2]", "[1, 3]");
        let after = parsed(&edited, Some(&before));
        assert_same(&after, &edited);
        let same = |index: usize| Arc::ptr_eq(&before.documents[index], &after.documents[index]);
        assert_eq!([0, 1, 2, 3].map(same), [true, false, true, true]);
        // Moved: the same content with other lines, or another number.
        for edited in [
            texts[0].replace("# first\n", "# first\n# second\n"),
            texts[0].replace("# first\na: 1\n", ""),
            texts[0].replace("---\nb:", "---\n---\nb:"),
        ] {
            assert_same(&parsed(&edited, Some(&before)), &edited);
        }
    }

    #[test]
    fn errors_are_those_of_the_whole_file() {
        for text in [
            "a: 'x\n---\ny'\n",
            "a: [\n---\n]\n",
            "a: &x 1\n---\nb: *x\n",
            "a: 1\n---\n\tb: 1\n",
            "%YAML 1.2\n---\na: 1\n---\nb: 1\n",
            "a: 1\n...\n---\nb: 1\n",
            "a: |\n  ---\n---\nb: 1\n",
            "a: 1\r\n---\r\nb: 1\r\n",
            "a: 1\n---x\n---\nb: 1\n",
            "a: 1\r---\rb: 1\n---\nc: 1\n",
            "a: 1\nb: 2\n--- |\ntext\n---\nc: >\n\n x\n\n---\n",
        ] {
            assert_same(&parsed(text, None), text);
        }
    }

    proptest::proptest! {
        /// Edits of files made of such lines never come out differently than reading the whole.
        #[test]
        fn agrees_with_reading_the_whole(
            edits in proptest::collection::vec(
                proptest::collection::vec(0_usize..12, 0..12), 1..4),
        ) {
            const LINES: [&str; 12] = [
                "---", "a: 1", "b: [1,", "  2]", "c: |\n  x", "  text", "# x", "", "--- 5", "d: 'q",
                "- 1", "...",
            ];
            let mut former: Option<ParsedFile> = None;
            for edit in edits {
                let text: String = edit.iter().map(|line| format!("{}\n", LINES[*line])).collect();
                let file = parsed(&text, former.as_ref());
                assert_same(&file, &text);
                former = Some(file);
            }
        }
    }
}
