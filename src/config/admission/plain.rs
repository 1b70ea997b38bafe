//! ConfigMap, Secret, LoggingConfig.

use serde_json::Value as Json;

use super::decode::decode_at;
use super::findings::{Finding, Findings, Path, texts};
use super::view::{child, has, int, text};
use super::{AdmissionContext, metadata};
use crate::config::problem::Severity;
use crate::config::settings::{
    AutoscalerConfig, Data, Forwarder, LogLevel, LoggingSettings, unknown_setting,
    validate_settings,
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
    let mut idle = Vec::new();
    // One, or a list of such.
    match forwarders.as_list() {
        Some(items) => {
            for (index, item) in items.iter().enumerate() {
                check_forwarder(item, &at.index(index), &mut idle, out);
            }
        }
        None => check_forwarder(forwarders, &at, &mut idle, out),
    }
    if !idle.is_empty() {
        out.push(Finding {
            message: format!("accepted but without effect here: {}", idle.join(", ")),
            paths: vec![at],
            fix: "write type: fluentd with config.host, port, tag and requireAckResponse; nothing \
                  else is served"
                .to_owned(),
            severity: Severity::Warning,
            ..Finding::default()
        });
    }
}

fn check_level(level: &str, path: Path, out: &mut Findings) {
    if LogLevel::parse(level).is_none() {
        out.invalid(path, level, "write DEBUG, INFO, WARN, ERROR or FATAL");
    }
}

/// What means nothing here is added to `idle`.
fn check_forwarder(node: &Node, at: &Path, idle: &mut Vec<String>, out: &mut Findings) {
    let mut decoding = Findings::default();
    let forwarder = decode_at(node, "LogForwarder", at, &mut decoding);
    let is_readable = decoding.is_empty();
    out.append(decoding);
    if !is_readable {
        return;
    }
    let kind = text(&forwarder, "type");
    if kind.is_empty() {
        out.missing(at.field("type"), "write type: and the forwarder's kind, such as fluentd");
    } else if !kind.eq_ignore_ascii_case(Forwarder::TYPE) {
        idle.push(format!("{} (type {kind})", at.as_str()));
    } else {
        let config = child(&forwarder, "config");
        let at = at.field("config");
        if text(config, "host").is_empty() {
            out.missing(at.field("host"), "write host: and the collector's name or address");
        }
        if let Some(port) = int(config, "port")
            && u16::try_from(port).map_or(true, |port| port == 0)
        {
            out.out_of_bounds(at.field("port"), port, 1, u16::MAX);
        }
        let unused = ["path", "url"].into_iter().filter(|field| has(config, field));
        idle.extend(unused.map(|field| at.field(field).as_str().to_owned()));
    }
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
        forwarders: forwarders.into_iter().filter_map(forwarder).collect(),
    }
}

/// None for a type that is not served.
fn forwarder(json: &Json) -> Option<Forwarder> {
    if !text(json, "type").eq_ignore_ascii_case(Forwarder::TYPE) {
        return None;
    }
    let config = child(json, "config");
    let host = text(config, "host");
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let tag = Some(text(config, "tag")).filter(|tag| !tag.is_empty());
    Some(Forwarder {
        host: bare.unwrap_or(host).to_owned(),
        port: int(config, "port").and_then(|port| port.try_into().ok()).unwrap_or(Forwarder::PORT),
        tag: tag.unwrap_or(Forwarder::TAG).to_owned(),
        confirmed: child(config, "requireAckResponse").as_bool().unwrap_or(false),
    })
}
