//! The ConfigMaps that are settings, as the controller reads them. One that is not valid keeps its
//! former self.

use std::collections::HashMap;
use std::sync::Arc;

use kube::api::DynamicObject;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::config::admission::{AdmissionContext, config_map_data};
use crate::config::problem::ConfigProblem;
use crate::config::settings::{
    Data, DeploymentConfig, DomainConfig, NetworkConfig, RetentionConfig, parse_config_autoscaler,
    parse_config_defaults, parse_config_deployment, parse_config_domain, parse_config_features,
    parse_config_gc, parse_config_network,
};

/// What settings say.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `config-autoscaler`, `config-defaults`, `config-features`.
    pub admission: AdmissionContext,
    /// `config-deployment`.
    pub deployment: DeploymentConfig,
    /// `config-gc`.
    pub retention: RetentionConfig,
    /// `config-domain`.
    pub domain: DomainConfig,
    /// `config-network`.
    pub network: NetworkConfig,
}

/// ConfigMaps that settings are read from.
const READ: [&str; 7] = [
    "config-autoscaler",
    "config-defaults",
    "config-features",
    "config-deployment",
    "config-gc",
    "config-domain",
    "config-network",
];

/// The settings of the moment.
#[derive(Debug, Default)]
pub struct SettingsCell {
    current: RwLock<Arc<Settings>>,
    /// What they were read from.
    taken: Mutex<[Data; READ.len()]>,
}

impl SettingsCell {
    /// The settings.
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.current.read())
    }

    /// Takes all ConfigMaps as they are; tells whether it made new settings.
    pub fn take(&self, maps: &HashMap<String, Data>) -> bool {
        let read = READ.map(|name| maps.get(name).cloned().unwrap_or_default());
        let former = std::mem::replace(&mut *self.taken.lock(), read.clone());
        if former == read {
            return false;
        }
        let mut settings = (**self.current.read()).clone();
        let empty = Data::new();
        let of = |name: &str| maps.get(name).unwrap_or(&empty);
        let admission = &mut settings.admission;
        take("config-autoscaler", of, parse_config_autoscaler, &mut admission.autoscaler);
        take("config-defaults", of, parse_config_defaults, &mut admission.defaults);
        take("config-features", of, parse_config_features, &mut admission.features);
        take("config-deployment", of, parse_config_deployment, &mut settings.deployment);
        take("config-gc", of, parse_config_gc, &mut settings.retention);
        take("config-domain", of, parse_config_domain, &mut settings.domain);
        take("config-network", of, parse_config_network, &mut settings.network);
        *self.current.write() = Arc::new(settings);
        true
    }
}

fn take<'a, T>(
    name: &str,
    of: impl Fn(&str) -> &'a Data,
    parse: impl Fn(&Data) -> Result<T, Vec<ConfigProblem>>,
    setting: &mut T,
) {
    match parse(of(name)) {
        Ok(parsed) => *setting = parsed,
        Err(problems) => {
            for problem in problems {
                tracing::error!(config_map = name, %problem, "not valid; its former self stays");
            }
        }
    }
}

/// A ConfigMap's data.
pub fn data_of(object: &DynamicObject) -> Option<Data> {
    let value: Value = serde_json::to_value(object).ok()?;
    Some(config_map_data(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_one_keeps_its_former_self() {
        let cell = SettingsCell::default();
        let maps = |value: &str| {
            let data = Data::from([("min-non-active-revisions".to_owned(), value.to_owned())]);
            HashMap::from([("config-gc".to_owned(), data)])
        };
        for (value, kept) in [("3", 3), ("many", 3), ("4", 4)] {
            assert!(cell.take(&maps(value)));
            assert_eq!(cell.get().retention.min_non_active, kept, "{value}");
        }
        let other = HashMap::from([("config-logging".to_owned(), Data::new())]);
        let both = maps("4").into_iter().chain(other).collect();
        assert!(!cell.take(&both), "nobody asked for the other one");
        assert!(cell.take(&HashMap::new()));
        assert_eq!(cell.get().retention, RetentionConfig::default(), "without one: the defaults");
    }
}
