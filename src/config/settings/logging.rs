//! `config-logging`, and what a `LoggingConfig` says in its place.

use std::collections::BTreeMap;
use std::fmt;

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
    /// Where the log goes as well.
    pub forwarders: Vec<Forwarder>,
}

/// A collector that speaks Fluentd's forward protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forwarder {
    /// Its name or IP address, the latter without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The tag of what is sent to it.
    pub tag: String,
    /// Whether a record counts as sent only once the collector has confirmed it.
    pub confirmed: bool,
}

impl Forwarder {
    /// The only type that is served.
    pub const TYPE: &str = "fluentd";
    /// Fluentd's own port.
    pub const PORT: u16 = 24224;
    /// Tag of what is sent where none is given.
    pub const TAG: &str = "tidegate";
}

impl fmt::Display for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        let brackets = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{} {}{host}{}:{port}", Self::TYPE, brackets.0, brackets.1)
    }
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
