//! What is wrong with a configuration, where, and what to write instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::yaml::SyntaxError;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object is not admitted.
    #[default]
    Error,
    /// The object is admitted; somebody should know.
    Warning,
}

/// One problem of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigProblem {
    /// File it stands in; none where the object came from no file.
    pub file: Option<PathBuf>,
    /// Line, from 1; 0 where unknown.
    pub line: u32,
    /// Number of the document within the file, from 1; 0 where unknown.
    pub document: usize,
    /// Path of the field, such as `spec.template.spec.containers[0].image`; several that share
    /// the problem are separated by `, `; empty where the whole object is meant.
    pub path: String,
    /// What is wrong, in Knative's words where Knative has any.
    pub message: String,
    /// Further explanation, as Knative gives it beside the message.
    pub details: Option<String>,
    /// What to do about it, as an order: `write …`, `remove it`.
    pub fix: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

impl ConfigProblem {
    /// An error at a path.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), ..Self::default() }
    }

    /// A warning at a path.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    /// The same with what to write instead.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The same at a line.
    #[must_use]
    pub const fn at_line(mut self, line: u32) -> Self {
        self.line = line;
        self
    }

    /// The same within a file's document.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>, document: usize) -> Self {
        self.file = Some(file.into());
        self.document = document;
        self
    }
}

/// All problems as Knative's webhook writes them (`knative.dev/pkg/apis/field_error.go`): those
/// with the same message and details share a line, lines and paths are in order.
pub fn knative_text(problems: &[ConfigProblem]) -> String {
    let mut lines: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for problem in problems {
        let details = problem.details.as_deref().unwrap_or_default();
        let paths = lines.entry((&problem.message, details)).or_default();
        // No field name holds ", ".
        paths.extend(problem.path.split(", ").filter(|path| !path.is_empty()));
    }
    let line = |((message, details), paths): ((&str, &str), BTreeSet<&str>)| {
        let paths: Vec<&str> = paths.into_iter().collect();
        let details = if details.is_empty() { String::new() } else { format!("\n{details}") };
        format!("{message}: {}{details}", paths.join(", "))
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

impl From<SyntaxError> for ConfigProblem {
    /// A file that cannot be read further; the file's name is still to be added.
    fn from(error: SyntaxError) -> Self {
        let message = format!("column {}: {}", error.column, error.message);
        Self { line: error.line, document: error.document, ..Self::error("", message) }
    }
}

impl fmt::Display for ConfigProblem {
    /// `file:line: document N: path: message; write …`, parts that are not known left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if self.line > 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        } else if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if self.document > 0 {
            write!(f, "document {}: ", self.document)?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(details) = &self.details {
            write!(f, " ({details})")?;
        }
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse_file;

    #[test]
    fn a_problem_is_one_line_with_what_is_known() {
        let problem = ConfigProblem::error("spec.traffic", "sum is 50").fix("write 100").at_line(3);
        assert_eq!(problem.to_string(), "line 3: spec.traffic: sum is 50; write 100");
        let placed = problem.in_file("a.yaml", 2);
        let expected = "a.yaml:3: document 2: spec.traffic: sum is 50; write 100";
        assert_eq!(placed.to_string(), expected);
        let warning = ConfigProblem::warning("", "something");
        assert_eq!(warning.to_string(), "warning: something");
    }

    #[test]
    fn a_syntax_error_is_a_problem() {
        let error = parse_file("a: 1\n---\nb: 1\nb: 2\n").error.expect("an error");
        let problem = ConfigProblem::from(error).in_file("a.yaml", 2);
        assert_eq!(
            problem.to_string(),
            "a.yaml:4: document 2: column 1: the key \"b\" is already given in line 3; keep one of lines 3 and 4"
        );
    }
}
