//! `config-observability`.

use std::time::Duration;

use super::Data;
use super::reader::{Reader, positive};
use crate::config::problem::ConfigProblem;
use crate::config::text::{format_fixed, quote};

/// What is to be seen from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservabilityConfig {
    /// `logging.enable-request-log`.
    pub enable_request_log: bool,
    /// `logging.enable-probe-request-log`.
    pub enable_probe_request_log: bool,
    /// `logging.request-log-template`; none = Knative's JSON fields.
    pub request_log_template: Option<String>,
    /// `metrics-protocol`: `none`, `prometheus`, `grpc` or `http/protobuf`.
    pub metrics_protocol: String,
    /// `metrics-endpoint`.
    pub metrics_endpoint: String,
    /// `metrics-export-interval`; zero = the exporter's own.
    pub metrics_export_interval: Duration,
    /// `request-metrics-protocol`.
    pub request_metrics_protocol: String,
    /// `tracing-protocol`: `none`, `grpc`, `http/protobuf` or `stdout`.
    pub tracing_protocol: String,
    /// `tracing-endpoint`.
    pub tracing_endpoint: String,
    /// `tracing-sampling-rate`, 0–1.
    pub tracing_sampling_rate: f64,
    /// `runtime-profiling`.
    pub runtime_profiling: bool,
}

impl Default for ObservabilityConfig {
    /// Knative's defaults.
    fn default() -> Self {
        Self {
            enable_request_log: false,
            enable_probe_request_log: false,
            request_log_template: None,
            metrics_protocol: "none".to_owned(),
            metrics_endpoint: String::new(),
            metrics_export_interval: Duration::ZERO,
            request_metrics_protocol: "none".to_owned(),
            tracing_protocol: "none".to_owned(),
            tracing_endpoint: String::new(),
            tracing_sampling_rate: 0.0,
            runtime_profiling: false,
        }
    }
}

/// Reads `config-observability`; Knative's defaults stand for the keys that are absent.
pub fn parse_config_observability(data: &Data) -> Result<ObservabilityConfig, Vec<ConfigProblem>> {
    let mut c = ObservabilityConfig::default();
    let mut r = Reader::new(data, "");
    c.metrics_export_interval =
        metrics("", &mut c.metrics_protocol, &mut c.metrics_endpoint, &mut r);
    let mut endpoint = String::new();
    metrics("request-", &mut c.request_metrics_protocol, &mut endpoint, &mut r);
    tracing(&mut c, &mut r);
    let mut profiling = "disabled".to_owned();
    r.text("runtime-profiling", &mut profiling);
    c.runtime_profiling = profiling == "enabled";
    if !matches!(profiling.as_str(), "enabled" | "disabled") {
        let message = format!("unsupported profile setting {}", quote(&profiling));
        r.refuse("runtime-profiling", message, "write enabled or disabled");
    }
    r.bool("logging.enable-request-log", &mut c.enable_request_log);
    r.bool("logging.enable-probe-request-log", &mut c.enable_probe_request_log);
    let key = "logging.request-log-template";
    c.request_log_template = r.raw(key).map(|raw| raw.trim().to_owned());
    if c.enable_request_log && c.request_log_template.as_deref() == Some("") {
        let message =
            format!("\"logging.enable-request-log\" was set to true, but no {key:?} was specified");
        r.refuse(key, message, "write a template, or remove the key for the usual JSON fields");
    }
    r.finish(c)
}

/// One pair of protocol and endpoint; gives the export interval.
fn metrics(
    prefix: &str,
    protocol: &mut String,
    endpoint: &mut String,
    r: &mut Reader<'_>,
) -> Duration {
    let key = |name: &str| format!("{prefix}metrics-{name}");
    r.text(&key("protocol"), protocol);
    r.text(&key("endpoint"), endpoint);
    let mut interval = 0;
    r.duration(&key("export-interval"), &mut interval);
    let quoted = quote(protocol);
    match protocol.as_str() {
        "grpc" | "http/protobuf" if endpoint.is_empty() => {
            let message = format!("endpoint should be set when protocol is {quoted}");
            r.refuse(&key("endpoint"), message, "write the address of the collector");
        }
        "none" if !endpoint.is_empty() => {
            let message = format!("endpoint should not be set when protocol is {quoted}");
            r.refuse(
                &key("endpoint"),
                message,
                format!("write {}: grpc, or remove it", key("protocol")),
            );
        }
        "grpc" | "http/protobuf" | "none" | "prometheus" => {}
        _ => {
            let fix = "write none, prometheus, grpc or http/protobuf";
            r.refuse(&key("protocol"), format!("unsupported protocol {quoted}"), fix);
        }
    }
    if interval < 0 {
        let text = quote(&crate::config::text::format_duration(interval));
        let message = format!("export interval {text} should be greater than zero");
        r.refuse(&key("export-interval"), message, "write a duration such as 30s");
    }
    positive(interval)
}

fn tracing(c: &mut ObservabilityConfig, r: &mut Reader<'_>) {
    r.text("tracing-protocol", &mut c.tracing_protocol);
    r.text("tracing-endpoint", &mut c.tracing_endpoint);
    r.float("tracing-sampling-rate", &mut c.tracing_sampling_rate);
    let quoted = quote(&c.tracing_protocol);
    match c.tracing_protocol.as_str() {
        "grpc" | "http/protobuf" if c.tracing_endpoint.is_empty() => {
            let message = format!("endpoint should be set for protocol {quoted}");
            r.refuse("tracing-endpoint", message, "write the address of the collector");
        }
        "none" | "stdout" if !c.tracing_endpoint.is_empty() => {
            let message = "endpoint should not be set when protocol is 'none'".to_owned();
            r.refuse("tracing-endpoint", message, "write tracing-protocol: grpc, or remove it");
        }
        "grpc" | "http/protobuf" | "none" | "stdout" => {}
        _ => {
            let message = format!("unsupported protocol {quoted}");
            r.refuse("tracing-protocol", message, "write none, grpc, http/protobuf or stdout");
        }
    }
    let rate = c.tracing_sampling_rate;
    let rule = if rate < 0.0 { "greater or equal to zero" } else { "less than or equal to one" };
    if !(0.0..=1.0).contains(&rate) && !rate.is_nan() {
        let message = format!("sampling rate {} should be {rule}", format_fixed(rate));
        r.refuse("tracing-sampling-rate", message, "write a number from 0 to 1, such as \"0.1\"");
    }
}
