//! ConfigMap, Secret, LoggingConfig.

use serde_json::Value as Json;

use super::decode::decode_at;
use super::findings::{Finding, Findings, Path, texts};
use super::view::{child, has, text};
use super::{AdmissionContext, metadata};
use crate::config::problem::Severity;
use crate::config::settings::{
    AutoscalerConfig, Data, LogLevel, LoggingSettings, unknown_setting, validate_settings,
};
use crate::config::text::{base64, quote};
use crate::config::yaml::Node;

/// Largest sum of a ConfigMap's or Secret's values, Kubernetes' own limit.
const MAX_BYTES: usize = 1024 * 1024;

/// Checks a ConfigMap, and its settings if it is one of Knative's.
pub(super) fn config_map(object: &Json, ctx: &AdmissionContext, out: &mut Findings) {
    check_common(object, &["data", "binaryData"], out);
    let name = text(child(object, "metadata"), "name");
    let data = config_map_data(object);
    let problems = if name == "config-autoscaler" && ctx.one_machine {
        AutoscalerConfig::one_machine().overlaid(&data).err().unwrap_or_default()
    } else {
        validate_settings(name, &data)
    };
    for problem in problems {
        let path = problem.path.strip_prefix("data.").unwrap_or(&problem.path);
        out.push(Finding {
            message: problem.message,
            paths: vec![Path::root().field("data").field(path)],
            fix: problem.fix.unwrap_or_default(),
            ..Finding::default()
        });
    }
    for key in data.keys() {
        if let Some(known) = unknown_setting(name, key) {
            out.push(Finding {
                message: format!("unknown key {}, which is ignored", quote(key)),
                paths: vec![Path::root().field("data").field(key)],
                fix: format!("write {known}"),
                severity: Severity::Warning,
                ..Finding::default()
            });
        }
    }
}

/// Checks a Secret. No message holds a value.
pub(super) fn secret(object: &Json, out: &mut Findings) {
    check_common(object, &["data", "stringData"], out);
}

/// The texts of an admitted ConfigMap's `data`.
pub fn config_map_data(object: &Json) -> Data {
    texts(object.get("data"))
}

/// The bytes of an admitted Secret's or ConfigMap's value, whichever field holds it.
pub fn value_bytes(object: &Json, key: &str) -> Option<Vec<u8>> {
    let of = |field: &str| object.get(field).and_then(|map| map.get(key)).and_then(Json::as_str);
    if text(object, "kind") == "Secret" {
        return match of("stringData") {
            Some(text) => Some(text.as_bytes().to_vec()),
            None => base64(of("data")?),
        };
    }
    match of("data") {
        Some(text) => Some(text.as_bytes().to_vec()),
        None => base64(of("binaryData")?),
    }
}

fn check_common(object: &Json, fields: &[&str], out: &mut Findings) {
    let root = Path::root();
    metadata::check_plain_name(child(object, "metadata"), &root.field("metadata"), out);
    let mut size = 0;
    for field in fields {
        for (key, value) in child(object, field).as_object().into_iter().flatten() {
            size += value.as_str().map_or(0, str::len);
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            let fits = (1..=253).contains(&key.len())
                && key.bytes().all(allowed)
                && key != "."
                && !key.starts_with("..");
            if !fits {
                let fix = "write a key of letters, digits, '-', '_' or '.'";
                out.invalid(root.field(field).field(key), key, fix);
            }
        }
    }
    if let [first, "binaryData"] = fields {
        for key in child(object, "binaryData").as_object().into_iter().flatten().map(|e| e.0) {
            if has(child(object, first), key) {
                let path = root.field("binaryData").field(key);
                let message = format!("duplicate of key present in {first}");
                out.say(path, message, format!("keep it in {first} or in binaryData"));
            }
        }
    }
    if size > MAX_BYTES {
        let message = format!("{size} bytes of values, which is more than {MAX_BYTES}");
        out.say(root.field(fields[0]), message, "write several smaller objects");
    }
}

/// Checks a LoggingConfig.
pub(super) fn logging_config(object: &Json, node: &Node, out: &mut Findings) {
    let root = Path::root();
    metadata::check_plain_name(child(object, "metadata"), &root.field("metadata"), out);
    let at = root.field("spec");
    let spec = child(object, "spec");
    check_level(text(spec, "level"), at.field("level"), out);
    for (name, logger) in child(spec, "loggers").as_object().into_iter().flatten() {
        check_level(text(logger, "level"), at.field("loggers").field(name).field("level"), out);
    }
    let Some(forwarders) = node.at(&["spec", "forwarders"]).filter(|f| !f.is_null()) else {
        return;
    };
    let at = at.field("forwarders");
    // One, or a list of such.
    match forwarders.as_list() {
        Some(items) => {
            for (index, item) in items.iter().enumerate() {
                check_forwarder(item, &at.index(index), out);
            }
        }
        None => check_forwarder(forwarders, &at, out),
    }
}

fn check_level(level: &str, path: Path, out: &mut Findings) {
    if LogLevel::parse(level).is_none() {
        out.invalid(path, level, "write DEBUG, INFO, WARN, ERROR or FATAL");
    }
}

fn check_forwarder(node: &Node, at: &Path, out: &mut Findings) {
    let mut decoding = Findings::default();
    let forwarder = decode_at(node, "LogForwarder", at, &mut decoding);
    if decoding.is_empty() && text(&forwarder, "type").is_empty() {
        out.missing(at.field("type"), "write type: and the forwarder's kind, such as fluentd");
    }
    out.append(decoding);
}

/// What an admitted LoggingConfig says.
pub fn logging_settings(object: &Json) -> LoggingSettings {
    let spec = child(object, "spec");
    let level = |json: &Json| match text(json, "level") {
        "" => None,
        level => LogLevel::parse(level),
    };
    let forwarders = match child(spec, "forwarders") {
        Json::Array(items) => items.iter().collect(),
        one @ Json::Object(_) => vec![one],
        _ => Vec::new(),
    };
    LoggingSettings {
        level: level(spec),
        loggers: child(spec, "loggers")
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, logger)| Some((name.clone(), level(logger)?)))
            .collect(),
        forwarders: forwarders.into_iter().map(forwarder).collect(),
    }
}

fn forwarder(json: &Json) -> String {
    let config = child(json, "config");
    let port = config.get("port").and_then(Json::as_i64);
    let address = match port {
        Some(port) => format!("{}:{port}", text(config, "host")),
        None => text(config, "host").to_owned(),
    };
    format!("{} {address}", text(json, "type")).trim().to_owned()
}
