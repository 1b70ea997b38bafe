//! The part of Go's templates that Knative's ConfigMaps use: text, `{{.Name}}`,
//! `{{index .Annotations "key"}}`, and `{{-`/`-}}`.

use std::collections::BTreeMap;
use std::fmt;

/// A template, checked against the fields it may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
    Index { field: String, key: String },
}

/// Why a template was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// A template of fixed text.
    pub fn text(text: &str) -> Self {
        Self { parts: vec![Part::Text(text.to_owned())] }
    }

    /// Reads a template. `fields` are the texts it may name, `maps` the maps it may look into.
    pub fn parse(text: &str, fields: &[&str], maps: &[&str]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trim_next = false;
        while let Some(start) = rest.find("{{") {
            let (before, after) = (&rest[..start], &rest[start + 2..]);
            let Some(end) = after.find("}}") else {
                return Err(TemplateError("a \"{{\" has no \"}}\"".to_owned()));
            };
            let (mut action, next) = (&after[..end], &after[end + 2..]);
            let before = if trim_next { before.trim_start() } else { before };
            let trim_before = action.strip_prefix("- ");
            action = trim_before.unwrap_or(action);
            let before = if trim_before.is_some() { before.trim_end() } else { before };
            let trimmed_after = action.strip_suffix(" -");
            trim_next = trimmed_after.is_some();
            action = trimmed_after.unwrap_or(action);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(self::action(action.trim(), fields, maps)?);
            rest = next;
        }
        let rest = if trim_next { rest.trim_start() } else { rest };
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Fills it in; what is not given is empty.
    pub fn render(
        &self,
        fields: &BTreeMap<&str, &str>,
        maps: &BTreeMap<&str, &BTreeMap<String, String>>,
    ) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(name) => out.push_str(fields.get(name.as_str()).unwrap_or(&"")),
                Part::Index { field, key } => out.push_str(
                    maps.get(field.as_str())
                        .and_then(|map| map.get(key))
                        .map_or("", String::as_str),
                ),
            }
        }
        out
    }
}

fn action(action: &str, fields: &[&str], maps: &[&str]) -> Result<Part, TemplateError> {
    if let Some(name) = action.strip_prefix('.') {
        if fields.contains(&name) {
            return Ok(Part::Field(name.to_owned()));
        }
        let known = fields.iter().map(|f| format!("{{{{.{f}}}}}")).collect::<Vec<_>>().join(", ");
        return Err(TemplateError(format!("{{{{.{name}}}}} is unknown here; known are {known}")));
    }
    if let Some((field, key)) = action
        .strip_prefix("index ")
        .and_then(|rest| rest.trim().strip_prefix('.'))
        .and_then(|rest| rest.split_once(char::is_whitespace))
        && let Some(key) = key.trim().strip_prefix('"').and_then(|key| key.strip_suffix('"'))
        && maps.contains(&field)
    {
        return Ok(Part::Index { field: field.to_owned(), key: key.to_owned() });
    }
    Err(TemplateError(format!(
        "{{{{{action}}}}} is not supported; a template may hold text, {{{{.Field}}}} and {{{{index .Annotations \"key\"}}}}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let fields = BTreeMap::from([("Name", "hello"), ("Namespace", "default")]);
        let annotations = BTreeMap::from([("sub".to_owned(), "x".to_owned())]);
        let maps = BTreeMap::from([("Annotations", &annotations)]);
        let table = [
            ("{{.Name}}.{{.Namespace}}", "hello.default"),
            ("{{ .Name }}-{{index .Annotations \"sub\"}}", "hello-x"),
            ("a {{- .Name -}} b", "ahellob"),
            ("plain", "plain"),
        ];
        for (text, expected) in table {
            let template =
                Template::parse(text, &["Name", "Namespace"], &["Annotations"]).expect(text);
            assert_eq!(template.render(&fields, &maps), expected, "{text}");
        }
        for text in ["{{.Nam}}", "{{if .Name}}x{{end}}", "{{.Name", "{{index .Labels \"a\"}}"] {
            assert!(Template::parse(text, &["Name"], &["Annotations"]).is_err(), "{text}");
        }
    }
}
