//! What a `LoggingConfig` says.

use serde_json::Value;

use super::env::{scalar, text};
use crate::config::settings::{LogLevel, LoggingSettings};

/// The settings of an admitted `LoggingConfig`: levels by logger, and forwarders, of which there
/// may be one or a list.
pub(super) fn logging(object: &Value) -> LoggingSettings {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let level = |of: &Value| text(of, "level").and_then(LogLevel::parse);
    let loggers = spec.get("loggers").and_then(Value::as_object);
    let loggers = loggers.into_iter().flatten();
    let forwarders = match spec.get("forwarders") {
        Some(Value::Array(forwarders)) => forwarders.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => &[],
    };
    LoggingSettings {
        level: level(spec),
        loggers: loggers.filter_map(|(name, of)| Some((name.clone(), level(of)?))).collect(),
        forwarders: forwarders.iter().map(forwarder).collect(),
    }
}

fn forwarder(forwarder: &Value) -> String {
    let config = forwarder.get("config").unwrap_or(&Value::Null);
    let host = text(config, "host").unwrap_or_default();
    let port = config.get("port").and_then(scalar);
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    format!("{} {host}{port}", text(forwarder, "type").unwrap_or_default()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_forwarder_or_a_list() {
        let one = json!({"type": "fluentd", "config": {"host": "logs.example", "port": 24224}});
        let two = json!([one, {"type": "stdout"}]);
        let spec = |forwarders| json!({"spec": {
            "level": "WARN", "loggers": {"serving.knative.dev": {"level": "DEBUG"}, "x": {}},
            "forwarders": forwarders,
        }});
        let settings = logging(&spec(one));
        assert_eq!(settings.level, Some(LogLevel::Warn));
        let loggers: Vec<_> = settings.loggers.iter().collect();
        assert_eq!(loggers, [(&"serving.knative.dev".to_owned(), &LogLevel::Debug)]);
        assert_eq!(settings.forwarders, ["fluentd logs.example:24224"]);
        assert_eq!(logging(&spec(two)).forwarders, ["fluentd logs.example:24224", "stdout"]);
        assert_eq!(logging(&json!({})), LoggingSettings::default());
    }
}
