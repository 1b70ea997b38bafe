//! `config-logging`, and what a `LoggingConfig` says in its place.

use std::collections::BTreeMap;

use super::Data;
use super::reader::path;
use crate::config::problem::ConfigProblem;

/// A log level, zap's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Changes of state.
    Info,
    /// What needs a look.
    Warn,
    /// What failed.
    Error,
    /// zap's levels above error.
    Fatal,
}

impl LogLevel {
    /// A level by its name, in any case; empty is `info`, as in zap.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "debug" => Self::Debug,
            "info" | "" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" => Self::Error,
            "dpanic" | "panic" | "fatal" => Self::Fatal,
            _ => return None,
        })
    }
}

/// Log levels, by logger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Level of loggers that are not named; none = unchanged.
    pub level: Option<LogLevel>,
    /// Levels of loggers.
    pub loggers: BTreeMap<String, LogLevel>,
    /// Forwarders as `TYPE HOST:PORT`; accepted and shown, not acted on.
    pub forwarders: Vec<String>,
}

/// Reads `config-logging`: `loglevel.NAME` keys, and the level of `zap-logger-config`.
pub fn parse_config_logging(data: &Data) -> Result<LoggingSettings, Vec<ConfigProblem>> {
    let mut settings = LoggingSettings::default();
    let mut problems = Vec::new();
    for (key, text) in data {
        let name = key.strip_prefix("loglevel.").filter(|name| !name.is_empty());
        let Some(name) = name.filter(|_| !text.is_empty()) else { continue };
        match LogLevel::parse(text) {
            Some(level) => {
                settings.loggers.insert(name.to_owned(), level);
            }
            None => problems.push(
                ConfigProblem::error(path(key), format!("invalid logging level: {text}"))
                    .fix("write debug, info, warn, error or fatal"),
            ),
        }
    }
    if let Some(text) = data.get("zap-logger-config").filter(|text| !text.trim().is_empty()) {
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(json) => {
                let level = json.get("level").and_then(serde_json::Value::as_str);
                settings.level = level.and_then(LogLevel::parse);
            }
            Err(e) => problems.push(
                ConfigProblem::error(path("zap-logger-config"), format!("this is not JSON: {e}"))
                    .fix("write JSON such as {\"level\": \"info\"}"),
            ),
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}
