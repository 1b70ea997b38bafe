//! The small part of Go's template language that Knative's `domain-template` and `tag-template`
//! use: `{{.Name}}`, `{{.Namespace}}`, `{{.Domain}}`, `{{.Tag}}`, and
//! `{{index .Annotations "key"}}`, `{{index .Labels "key"}}`, `{{.Labels.key}}`.

use std::collections::BTreeMap;

/// A template, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name,
    Namespace,
    Domain,
    Tag,
    Annotation(String),
    Label(String),
}

/// What a template is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) domain: &'a str,
    pub(super) tag: &'a str,
    pub(super) annotations: &'a BTreeMap<String, String>,
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl Template {
    /// Parses a template. The error says what is not understood.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, action)) = rest.split_once("{{") {
            let (action, after) = action
                .split_once("}}")
                .ok_or_else(|| format!("`{{{{` without `}}}}` in {text:?}"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(parse_action(action.trim_matches('-').trim())?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text with everything filled in, lower case: hosts are compared without case.
    pub(super) fn fill(&self, values: Values<'_>) -> String {
        let from = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned();
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Name => text.push_str(values.name),
                Part::Namespace => text.push_str(values.namespace),
                Part::Domain => text.push_str(values.domain),
                Part::Tag => text.push_str(values.tag),
                Part::Annotation(key) => {
                    text.push_str(&from(values.annotations, key).unwrap_or_default());
                }
                Part::Label(key) => text.push_str(&from(values.labels, key).unwrap_or_default()),
            }
        }
        text.make_ascii_lowercase();
        text
    }
}

fn parse_action(action: &str) -> Result<Part, String> {
    match action {
        ".Name" => return Ok(Part::Name),
        ".Namespace" => return Ok(Part::Namespace),
        ".Domain" => return Ok(Part::Domain),
        ".Tag" => return Ok(Part::Tag),
        _ => {}
    }
    if let Some(key) = action.strip_prefix(".Labels.") {
        return Ok(Part::Label(key.to_owned()));
    }
    if let Some(key) = action.strip_prefix(".Annotations.") {
        return Ok(Part::Annotation(key.to_owned()));
    }
    let words: Vec<&str> = action.split_whitespace().collect();
    let quoted = |word: &str| {
        word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
    };
    match words.as_slice() {
        ["index", ".Annotations", key] => quoted(key).map(Part::Annotation),
        ["index", ".Labels", key] => quoted(key).map(Part::Label),
        _ => None,
    }
    .ok_or_else(|| {
        format!(
            "`{{{{{action}}}}}` is not understood; write .Name, .Namespace, .Domain, .Tag, \
             or index .Annotations \"KEY\", index .Labels \"KEY\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> String {
        let annotations = BTreeMap::from([("sub".to_owned(), "Eu".to_owned())]);
        let labels = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
        match Template::parse(template) {
            Err(error) => error,
            Ok(template) => template.fill(Values {
                name: "hello",
                namespace: "default",
                domain: "example.com",
                tag: "blue",
                annotations: &annotations,
                labels: &labels,
            }),
        }
    }

    #[test]
    fn fills_what_knative_documents() {
        for (template, text) in [
            ("{{.Name}}.{{.Namespace}}.{{.Domain}}", "hello.default.example.com"),
            ("{{ .Name }}-{{- .Namespace -}}.{{.Domain}}", "hello-default.example.com"),
            ("{{.Tag}}-{{.Name}}", "blue-hello"),
            ("{{.Name}}.{{index .Annotations \"sub\"}}.{{.Domain}}", "hello.eu.example.com"),
            ("{{.Name}}.{{index .Labels \"team\"}}.{{.Labels.team}}", "hello.red.red"),
            ("{{.Name}}{{index .Annotations \"none\"}}", "hello"),
            ("plain", "plain"),
        ] {
            assert_eq!(fill(template), text, "{template}");
        }
        assert_eq!(fill("{{.Name"), "`{{` without `}}` in \"{{.Name\"");
        assert!(fill("{{if .Name}}x{{end}}").starts_with("`{{if .Name}}` is not understood"));
    }
}
