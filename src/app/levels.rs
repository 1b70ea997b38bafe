//! Log levels as `config-logging` and `LoggingConfig` name them.

use std::collections::BTreeMap;

use tracing_subscriber::filter::LevelFilter;

use crate::config::settings::{LogLevel, LoggingSettings};

/// Parts of tidegate by the Knative component that does their work.
const COMPONENTS: [(&str, &[&str]); 6] = [
    ("activator", &["tidegate::proxy", "tidegate::revision", "tidegate::upstream"]),
    ("queueproxy", &["tidegate::proxy", "tidegate::upstream"]),
    ("autoscaler", &["tidegate::autoscaler"]),
    ("hpaautoscaler", &["tidegate::autoscaler"]),
    ("controller", &["tidegate::app", "tidegate::local"]),
    ("webhook", &["tidegate::config"]),
];

/// Levels by part, and loggers that there is nothing of here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// Levels by target; the empty one is everything else.
    pub(super) by_target: BTreeMap<String, LevelFilter>,
    /// Loggers of Knative's without a counterpart.
    pub(super) unknown: Vec<String>,
}

/// Levels by part. A logger that is named like a domain (`serving.knative.dev`) means all.
pub(super) fn levels(settings: &LoggingSettings) -> Levels {
    let mut levels = Levels::default();
    if let Some(level) = settings.level {
        levels.by_target.insert(String::new(), filter(level));
    }
    for (logger, level) in &settings.loggers {
        let targets = match COMPONENTS.iter().find(|(name, _)| name == logger) {
            Some((_, targets)) => *targets,
            None if logger == "tidegate" || logger.starts_with("tidegate::") => &[logger.as_str()],
            // What the replicas print.
            None if logger == "replica" => &["replica"],
            None if logger.contains('.') => &[""],
            None => {
                levels.unknown.push(logger.clone());
                continue;
            }
        };
        for target in targets {
            levels.by_target.insert((*target).to_owned(), filter(*level));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loggers_are_parts_of_the_program() {
        let settings = |loggers: &[(&str, LogLevel)]| LoggingSettings {
            loggers: loggers.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect(),
            ..LoggingSettings::default()
        };
        for (loggers, expected, unknown) in [
            (&[("autoscaler", LogLevel::Debug)][..], "tidegate::autoscaler=debug ", ""),
            (
                &[("queueproxy", LogLevel::Fatal)],
                "tidegate::proxy=error tidegate::upstream=error ",
                "",
            ),
            (&[("serving.knative.dev", LogLevel::Warn)], "=warn ", ""),
            (&[("tidegate::app", LogLevel::Info)], "tidegate::app=info ", ""),
            (&[("replica", LogLevel::Warn)], "replica=warn ", ""),
            (&[("net-istio-controller", LogLevel::Debug)], "", "net-istio-controller"),
        ] {
            let levels = levels(&settings(loggers));
            let shown: String = levels
                .by_target
                .iter()
                .map(|(target, level)| format!("{target}={level} "))
                .collect();
            assert_eq!((shown.as_str(), levels.unknown.join(" ").as_str()), (expected, unknown));
        }
        let all = LoggingSettings { level: Some(LogLevel::Warn), ..LoggingSettings::default() };
        assert_eq!(levels(&all).by_target[""], LevelFilter::WARN);
    }
}
