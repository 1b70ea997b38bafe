//! What `config-observability` says of traces, as the tracer takes it.

use std::cell::RefCell;

use crate::config::settings::{ObservabilityConfig, TakeObservability};
use crate::traces::{Endpoint, Malformed, Protocol, Settings, Target, Tracer};

use super::carry::instance;

/// Has the tracer follow the configuration.
pub(super) fn take_observability(tracer: Tracer) -> TakeObservability {
    let former = RefCell::new(ObservabilityConfig::default());
    Box::new(move |config: &ObservabilityConfig| {
        if former.replace(config.clone()) == *config {
            return;
        }
        let settings = settings(config).unwrap_or_else(|error| {
            tracing::error!(endpoint = config.tracing_endpoint, %error,
                "config-observability: tracing-endpoint: there are no traces");
            None
        });
        if let Err(error) = tracer.set(settings.as_ref()) {
            tracing::error!(%error, "no thread for traces: there are none");
        }
    })
}

/// None if nothing is to be traced.
fn settings(config: &ObservabilityConfig) -> Result<Option<Settings>, Malformed> {
    let collector = |protocol| {
        let endpoint = Endpoint::parse(&config.tracing_endpoint, protocol)?;
        Ok((Target::Collector(endpoint), config.tracing_sampling_rate))
    };
    let (target, rate) = match config.tracing_protocol.as_str() {
        "grpc" => collector(Protocol::Grpc)?,
        "http/protobuf" => collector(Protocol::Http)?,
        // Who looks at a terminal wants to see something: all of them, as Knative has it.
        "stdout" => (Target::Lines, 1.0),
        _ => return Ok(None),
    };
    Ok(Some(Settings { target, rate, instance: instance() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_target_and_rate() {
        for (protocol, endpoint, expected) in [
            ("none", "", "off"),
            ("stdout", "", "lines 1"),
            ("grpc", "http://collector:4317", "Grpc collector:4317 0.25"),
            ("http/protobuf", "http://collector:4318", "Http collector:4318 0.25"),
            ("grpc", "collector one", "malformed"),
        ] {
            let config = ObservabilityConfig {
                tracing_protocol: protocol.to_owned(),
                tracing_endpoint: endpoint.to_owned(),
                tracing_sampling_rate: 0.25,
                ..ObservabilityConfig::default()
            };
            let shown = match settings(&config) {
                Err(Malformed) => "malformed".to_owned(),
                Ok(None) => "off".to_owned(),
                Ok(Some(Settings { target: Target::Lines, rate, .. })) => format!("lines {rate}"),
                Ok(Some(Settings { target: Target::Collector(endpoint), rate, .. })) => {
                    format!("{:?} {} {rate}", endpoint.protocol, endpoint.authority())
                }
            };
            assert_eq!(shown, expected, "{protocol} {endpoint}");
        }
    }
}
