//! What Knative's own ConfigMaps say, each with its former self kept while it is bad.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::LoaderOptions;
use super::hosts::{DEFAULT_DOMAIN, HostRules};
use super::objects::{Collected, Kind, Source, knative_config_map};
use crate::config::problem::ConfigProblem;
use crate::config::settings::{
    AutoscalerConfig, CONFIG_MAPS, DefaultsConfig, DomainConfig, Features, LoggingSettings,
    NetworkConfig, parse_config_autoscaler, parse_config_defaults, parse_config_domain,
    parse_config_features, parse_config_logging, parse_config_network, validate_settings,
};

/// Time a revision may take to become ready, on one machine.
const ONE_MACHINE_PROGRESS_DEADLINE: Duration = Duration::from_secs(60);
/// The same in Knative.
const KNATIVE_PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// A ConfigMap's data.
type Data = BTreeMap<String, String>;

/// Settings in effect.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) autoscaler: AutoscalerConfig,
    pub(super) defaults: DefaultsConfig,
    pub(super) features: Features,
    pub(super) hosts: HostRules,
    pub(super) progress_deadline: Duration,
    /// What `config-logging` says; none without it.
    pub(super) logging: Option<LoggingSettings>,
}

/// The ConfigMaps in effect, by name.
#[derive(Debug, Default)]
pub(super) struct KnativeConfigMaps {
    in_effect: HashMap<&'static str, (Source, Data)>,
}

impl KnativeConfigMaps {
    /// Takes in what the files say now; whether anything changed.
    pub(super) fn update(
        &mut self,
        collected: &Collected,
        options: &LoaderOptions,
        problems: &mut Vec<ConfigProblem>,
    ) -> bool {
        let mut changed = false;
        for name in CONFIG_MAPS {
            let key = knative_config_map(name);
            let former = self.in_effect.get(name);
            let Some(source) = collected.objects.get(&key) else {
                let is_kept = former
                    .is_some_and(|(source, _)| collected.broken_files.contains(&source.file));
                if !is_kept && self.in_effect.remove(name).is_some() {
                    changed = true;
                }
                continue;
            };
            if collected.contested.contains(&key) || former.is_some_and(|f| f.0.is_same(source)) {
                continue;
            }
            match read(name, source, options) {
                Ok(data) => {
                    changed |= former.is_none_or(|(_, known)| *known != data);
                    self.in_effect.insert(name, (source.clone(), data));
                }
                Err(found) => problems.extend(found),
            }
        }
        changed
    }

    /// The settings they come to, on top of the home's defaults.
    pub(super) fn settings(&self, options: &LoaderOptions) -> Settings {
        let empty = Data::new();
        let data = |name: &str| self.in_effect.get(name).map_or(&empty, |(_, data)| data);
        // What is in effect was read once before, so nothing fails here.
        let mut hosts = HostRules::new(options.domain.as_deref().unwrap_or(DEFAULT_DOMAIN));
        hosts.network = parse_config_network(data("config-network"))
            .unwrap_or_else(|_| NetworkConfig::default());
        if options.domain.is_none() && self.in_effect.contains_key("config-domain") {
            hosts.domains = parse_config_domain(data("config-domain"))
                .unwrap_or_else(|_| DomainConfig::default());
        }
        let logging = self.in_effect.get("config-logging");
        Settings {
            autoscaler: autoscaler(data("config-autoscaler"), options)
                .unwrap_or_else(|_| AutoscalerConfig::one_machine()),
            defaults: parse_config_defaults(data("config-defaults")).unwrap_or_default(),
            features: parse_config_features(data("config-features")).unwrap_or_default(),
            hosts,
            progress_deadline: if options.one_machine {
                ONE_MACHINE_PROGRESS_DEADLINE
            } else {
                KNATIVE_PROGRESS_DEADLINE
            },
            logging: logging.and_then(|(_, data)| parse_config_logging(data).ok()),
        }
    }
}

/// The autoscaler's settings on top of the home's defaults.
fn autoscaler(data: &Data, options: &LoaderOptions) -> Result<AutoscalerConfig, Vec<ConfigProblem>> {
    if options.one_machine {
        AutoscalerConfig::one_machine().overlaid(data)
    } else {
        parse_config_autoscaler(data)
    }
}

/// Data of one of the ConfigMaps, checked.
fn read(
    name: &str,
    source: &Source,
    options: &LoaderOptions,
) -> Result<Data, Vec<ConfigProblem>> {
    let node = source.node();
    let place = |problem: ConfigProblem, key: &str| {
        let entry = node.get("data").and_then(|data| data.entry(key));
        let line = entry.map_or(0, |entry| entry.line);
        source.place(if problem.line == 0 { problem.at_line(line) } else { problem })
    };
    let mut data = Data::new();
    let mut problems = Vec::new();
    for entry in node.get("data").and_then(|data| data.as_map()).unwrap_or_default() {
        match entry.node.to_json() {
            Value::String(text) => {
                data.insert(entry.key.clone(), text);
            }
            Value::Null => {
                data.insert(entry.key.clone(), String::new());
            }
            other => {
                let problem = ConfigProblem::error(format!("data.{}", entry.key), "not text")
                    .fix(format!("write \"{other}\" in quotes"));
                problems.push(place(problem, &entry.key));
            }
        }
    }
    // An example is what Knative ships its ConfigMaps with; it says nothing.
    data.remove("_example");
    let found = match name {
        "config-autoscaler" => autoscaler(&data, options).err().unwrap_or_default(),
        _ => validate_settings(name, &data),
    };
    for problem in found {
        let key = problem.path.strip_prefix("data.").unwrap_or(&problem.path).to_owned();
        problems.push(place(problem, &key));
    }
    if problems.is_empty() { Ok(data) } else { Err(problems) }
}

/// Whether a ConfigMap is one of Knative's own.
pub(super) fn is_knatives(key: &super::objects::ObjectKey) -> bool {
    key.kind == Kind::ConfigMap && CONFIG_MAPS.iter().any(|name| knative_config_map(name) == *key)
}
