//! Collects what is wrong with one object. Messages are Knative's, because users search for them;
//! what to write instead is added here.

use serde_json::Value as Json;

use crate::config::problem::{ConfigProblem, Severity};
use crate::config::yaml::{Node, Value};

/// Path of a field within its object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(String);

impl Path {
    /// The object itself.
    pub(super) const fn root() -> Self {
        Self(String::new())
    }

    /// A field below.
    pub(super) fn field(&self, name: &str) -> Self {
        if self.0.is_empty() || name.is_empty() {
            return Self(format!("{}{name}", self.0));
        }
        Self(format!("{}.{name}", self.0))
    }

    /// An item of the list at this path.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Finding {
    pub(super) message: String,
    pub(super) paths: Vec<Path>,
    pub(super) details: String,
    pub(super) fix: String,
    pub(super) severity: Severity,
    /// 0: that of the path.
    pub(super) line: u32,
    /// The field that was probably meant; also a field that is more exact than Knative's path.
    pub(super) meant: Option<Path>,
}

/// All that is wrong.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one.
    pub(super) fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Adds one with a message of its own.
    pub(super) fn say(&mut self, path: Path, message: impl Into<String>, fix: impl Into<String>) {
        self.say_all(vec![path], message, fix);
    }

    /// The same for several fields, or for none.
    pub(super) fn say_all(
        &mut self,
        paths: Vec<Path>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (message, fix) = (message.into(), fix.into());
        self.push(Finding { message, paths, fix, ..Finding::default() });
    }

    /// A required field is absent.
    pub(super) fn missing(&mut self, path: Path, fix: impl Into<String>) {
        self.say(path, "missing field(s)", fix);
    }

    /// Fields that may not be set.
    pub(super) fn disallowed(&mut self, paths: Vec<Path>, fix: impl Into<String>) {
        self.say_all(paths, "must not set the field(s)", fix);
    }

    /// A value that cannot be read or is none of those allowed.
    pub(super) fn invalid(
        &mut self,
        path: Path,
        value: impl std::fmt::Display,
        fix: impl Into<String>,
    ) {
        self.say(path, format!("invalid value: {value}"), fix);
    }

    /// A number or duration outside of its bounds.
    pub(super) fn out_of_bounds(
        &mut self,
        path: Path,
        value: impl std::fmt::Display,
        low: impl std::fmt::Display,
        high: impl std::fmt::Display,
    ) {
        let fix = format!("write a value from {low} to {high}");
        self.say(path, format!("expected {low} <= {value} <= {high}"), fix);
    }

    /// None of fields of which there must be one.
    pub(super) fn missing_one_of(&mut self, paths: Vec<Path>) {
        let fix = format!("write one of {}", names(&paths));
        self.say_all(paths, "expected exactly one, got neither", fix);
    }

    /// Several of fields of which there must be one.
    pub(super) fn multiple_one_of(&mut self, paths: Vec<Path>) {
        let fix = format!("keep one of {} and remove the others", names(&paths));
        self.say_all(paths, "expected exactly one, got both", fix);
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops findings that only repeat, at or below the same path, one of those given.
    pub(super) fn without_echoes_of(mut self, paths: &[String]) -> Self {
        self.0.retain(|finding| {
            !finding.paths.iter().any(|path| {
                paths.iter().any(|broken| {
                    let text = path.as_str();
                    text == broken
                        || text
                            .strip_prefix(broken.as_str())
                            .is_some_and(|rest| rest.starts_with(['.', '[']))
                })
            })
        });
        self
    }

    /// The same findings with other paths.
    pub(super) fn renamed(mut self, rename: impl Fn(&Path) -> Path) -> Self {
        for finding in &mut self.0 {
            finding.paths = finding.paths.iter().map(&rename).collect();
        }
        self
    }

    /// Adds all of another collection.
    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Paths named or meant by any finding.
    pub(super) fn paths(&self) -> Vec<String> {
        let paths = self.0.iter().flat_map(|finding| finding.paths.iter().chain(&finding.meant));
        paths.map(|path| path.as_str().to_owned()).collect()
    }

    /// The findings as problems in the order of the file's lines.
    pub(super) fn into_problems(self, object: &Node) -> Vec<ConfigProblem> {
        let mut problems: Vec<ConfigProblem> =
            self.0.into_iter().map(|finding| problem(finding, object)).collect();
        problems.sort_by_key(|problem| problem.line);
        problems
    }
}

fn names(paths: &[Path]) -> String {
    let last = |path: &Path| path.0.rsplit('.').next().unwrap_or_default().to_owned();
    paths.iter().map(last).collect::<Vec<_>>().join(", ")
}

fn problem(finding: Finding, object: &Node) -> ConfigProblem {
    let line = if finding.line > 0 {
        finding.line
    } else {
        let path = finding.meant.as_ref().or(finding.paths.first());
        path.map_or(object.line, |path| line_of(object, path.as_str()))
    };
    ConfigProblem {
        line,
        path: finding.paths.iter().map(Path::as_str).collect::<Vec<_>>().join(", "),
        message: finding.message,
        details: (!finding.details.is_empty()).then_some(finding.details),
        fix: (!finding.fix.is_empty()).then_some(finding.fix),
        severity: finding.severity,
        ..ConfigProblem::default()
    }
}

/// Line of a path, or of the nearest field above it that is there. Keys may hold dots, and Knative
/// leaves some indexes out, so the longest key that fits is taken.
fn line_of(object: &Node, path: &str) -> u32 {
    let mut node = object;
    let mut line = object.line;
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.trim_start_matches('.');
        match &node.value {
            Value::Map(entries) => {
                let ends = |key: &str| {
                    rest.strip_prefix(key).is_some_and(|after| {
                        after.is_empty() || after.starts_with(['.', '[', ' ', '='])
                    })
                };
                let found = entries.iter().filter(|e| ends(&e.key)).max_by_key(|e| e.key.len());
                let Some(entry) = found else { return line };
                line = entry.line;
                node = &entry.node;
                rest = &rest[entry.key.len()..];
            }
            Value::List(items) => {
                let bracket = rest.strip_prefix('[').and_then(|inner| inner.split_once(']'));
                let (index, after) = match bracket {
                    Some((number, after)) => (number.parse().unwrap_or(0), after),
                    None => (0_usize, rest),
                };
                let Some(item) = items.get(index) else { return line };
                line = item.line;
                node = item;
                rest = after;
            }
            _ => return line,
        }
    }
    line
}

/// Texts of a map of texts.
pub(super) fn texts(json: Option<&Json>) -> std::collections::BTreeMap<String, String> {
    json.and_then(Json::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_in_the_file() {
        let text = "spec:\n  a.b/c: 1\n  list:\n    - x: 1\n    - q:\n        z: 2\n  ports:\n    - containerPort: 0\n";
        let node = crate::config::yaml::parse_file(text).documents.remove(0).node;
        let table = [
            ("spec.a.b/c", 2),
            ("spec.list[1].q.z", 6),
            ("spec.list[1].q.missing", 5),
            ("spec.list[7].q", 3),
            ("spec.ports.containerPort", 8),
            ("nothing", 1),
            ("", 1),
        ];
        for (path, line) in table {
            assert_eq!(line_of(&node, path), line, "{path}");
        }
    }

    #[test]
    fn paths_are_put_together() {
        let path = Path::root().field("spec").field("containers").index(0).field("").field("image");
        assert_eq!(path.as_str(), "spec.containers[0].image");
    }
}
