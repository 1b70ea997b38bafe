//! Log levels as `config-logging` and `LoggingConfig` name them.

use std::collections::BTreeMap;

use tracing_subscriber::filter::LevelFilter;

use crate::config::settings::{LogLevel, LoggingSettings};

/// Parts of tidegate by the Knative component that does their work.
const COMPONENTS: [(&str, &[&str]); 5] = [
    ("activator", &["tidegate::proxy", "tidegate::revision", "tidegate::upstream"]),
    ("queueproxy", &["tidegate::proxy", "tidegate::upstream"]),
    ("autoscaler", &["tidegate::autoscaler"]),
    ("controller", &["tidegate::app", "tidegate::local"]),
    ("webhook", &["tidegate::config"]),
];

/// Levels by part. A logger that is no component of Knative's (`serving.knative.dev`) means all.
pub(super) fn levels(settings: &LoggingSettings) -> BTreeMap<String, LevelFilter> {
    let mut levels = BTreeMap::new();
    if let Some(level) = settings.level {
        levels.insert(String::new(), filter(level));
    }
    for (logger, level) in &settings.loggers {
        match COMPONENTS.iter().find(|(name, _)| name == logger) {
            Some((_, targets)) => {
                for target in *targets {
                    levels.insert((*target).to_owned(), filter(*level));
                }
            }
            None if logger.starts_with("tidegate") => {
                levels.insert(logger.clone(), filter(*level));
            }
            None => {
                levels.insert(String::new(), filter(*level));
            }
        }
    }
    levels
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Fatal => LevelFilter::ERROR,
    }
}
