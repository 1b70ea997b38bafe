//! Knative's ConfigMaps: their keys, defaults and checks. A ConfigMap with one bad key is refused
//! as a whole, as Knative does; unlike Knative, all its problems are named at once.

mod autoscaler;
mod defaults;
mod deployment;
mod domain;
mod features;
mod gc;
mod keys;
mod logging;
mod network;
mod observability;
mod takers;
mod reader;

pub use autoscaler::{AutoscalerConfig, parse_config_autoscaler};
pub use defaults::{DefaultsConfig, parse_config_defaults};
pub use deployment::{DeploymentConfig, parse_config_deployment};
pub use domain::{DomainConfig, DomainRule, parse_config_domain};
pub use features::{Features, Flag, parse_config_features};
pub use gc::{RetentionConfig, parse_config_gc};
pub use logging::{Forwarder, LogLevel, LoggingSettings, parse_config_logging};
pub use network::{HttpProtocol, NetworkConfig, parse_config_network};
pub use observability::{ObservabilityConfig, parse_config_observability};
pub use takers::{TakeLogging, TakeObservability, Takers};

use std::collections::BTreeMap;

use super::problem::ConfigProblem;

/// A ConfigMap's data.
pub type Data = BTreeMap<String, String>;

/// Names of the ConfigMaps that are settings.
pub const CONFIG_MAPS: [&str; 8] = [
    "config-autoscaler",
    "config-defaults",
    "config-domain",
    "config-features",
    "config-gc",
    "config-logging",
    "config-network",
    "config-observability",
];

/// What is wrong with a settings ConfigMap's data; nothing for a name that is not one of
/// [`CONFIG_MAPS`].
pub fn validate_settings(name: &str, data: &Data) -> Vec<ConfigProblem> {
    let result = match name {
        "config-autoscaler" => parse_config_autoscaler(data).map(drop),
        "config-defaults" => parse_config_defaults(data).map(drop),
        "config-domain" => parse_config_domain(data).map(drop),
        "config-features" => parse_config_features(data).map(drop),
        "config-gc" => parse_config_gc(data).map(drop),
        "config-logging" => parse_config_logging(data).map(drop),
        "config-network" => parse_config_network(data).map(drop),
        "config-observability" => parse_config_observability(data).map(drop),
        _ => Ok(()),
    };
    result.err().unwrap_or_default()
}

/// The known key that an unknown one of a settings ConfigMap was probably meant to be.
pub fn unknown_setting(name: &str, key: &str) -> Option<&'static str> {
    let known = keys::known(name);
    if known.contains(&key) || key == "_example" {
        return None;
    }
    super::text::nearest(key, known.iter().copied())
}

/// The keys that are read of a ConfigMap of settings, those of `config-deployment` included. A word
/// in capitals stands for a name of the user's.
pub fn setting_keys(name: &str) -> Vec<&'static str> {
    match name {
        "config-deployment" => deployment::KEYS.to_vec(),
        "config-domain" => vec!["DOMAIN"],
        "config-features" => Features::keys().collect(),
        "config-logging" => vec!["loglevel.NAME", "zap-logger-config"],
        _ => keys::known(name).to_vec(),
    }
}

#[cfg(test)]
mod tests;
