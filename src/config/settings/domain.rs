//! `config-domain`.

use std::collections::BTreeMap;

use super::Data;
use super::reader::path;
use crate::config::problem::ConfigProblem;
use crate::config::yaml::parse_file;

/// A domain and the services that get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRule {
    /// The domain.
    pub domain: String,
    /// Labels that a service must have; empty = the default.
    pub selector: BTreeMap<String, String>,
}

/// Domains, most general rules included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainConfig {
    /// Rules by domain.
    pub rules: Vec<DomainRule>,
}

impl DomainConfig {
    /// The domain of a service with these labels: the most specific selector that matches, the
    /// first by name among equals. None if nothing matches and there is no default.
    pub fn domain(&self, labels: &BTreeMap<String, String>) -> Option<&str> {
        let matches = |rule: &&DomainRule| {
            rule.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        self.rules
            .iter()
            .filter(matches)
            .min_by_key(|rule| (std::cmp::Reverse(rule.selector.len()), rule.domain.as_str()))
            .map(|rule| rule.domain.as_str())
    }
}

/// Reads `config-domain`: a key is a domain, its value empty or YAML with a `selector`.
pub fn parse_config_domain(data: &Data) -> Result<DomainConfig, Vec<ConfigProblem>> {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    for (domain, text) in data.iter().filter(|(key, _)| *key != "_example") {
        match selector(text) {
            Ok(selector) => rules.push(DomainRule { domain: domain.clone(), selector }),
            Err(message) => problems.push(
                ConfigProblem::error(path(domain), message)
                    .fix("write nothing, or \"selector:\" with labels below it"),
            ),
        }
    }
    if problems.is_empty() { Ok(DomainConfig { rules }) } else { Err(problems) }
}

fn selector(text: &str) -> Result<BTreeMap<String, String>, String> {
    let parsed = parse_file(text);
    if let Some(error) = parsed.error {
        return Err(format!("line {} of the value: {}", error.line, error.message));
    }
    let Some(document) = parsed.documents.first() else { return Ok(BTreeMap::new()) };
    if document.node.as_map().is_none() {
        return Err("the value is no mapping".to_owned());
    }
    let Some(selector) = document.node.get("selector").filter(|s| !s.is_null()) else {
        return Ok(BTreeMap::new());
    };
    let entries = selector.as_map().ok_or("selector is no mapping of labels")?;
    entries
        .iter()
        .map(|entry| {
            // Labels are text; the original turns numbers and booleans into it.
            let value = match entry.node.to_json() {
                serde_json::Value::String(text) => text,
                serde_json::Value::Null => String::new(),
                other if other.is_number() || other.is_boolean() => other.to_string(),
                _ => return Err(format!("the label {} of selector is no text", entry.key)),
            };
            Ok((entry.key.clone(), value))
        })
        .collect()
}
