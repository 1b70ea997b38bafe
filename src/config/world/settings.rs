//! What Knative's own ConfigMaps say, each with its former self kept while it is bad.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::LoaderOptions;
use super::export::in_namespace;
use super::hosts::{DEFAULT_DOMAIN, HostRules};
use super::identity::{Kind, ObjectKey, knative_config_map};
use super::objects::{Collected, Source};
use crate::config::admission::{AdmissionContext, admit};
use crate::config::problem::ConfigProblem;
use crate::config::settings::{
    AutoscalerConfig, CONFIG_MAPS, DefaultsConfig, DomainConfig, Features, LoggingSettings,
    NetworkConfig, ObservabilityConfig, RetentionConfig, parse_config_autoscaler,
    parse_config_defaults, parse_config_domain, parse_config_features, parse_config_gc,
    parse_config_logging, parse_config_network, parse_config_observability,
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
    /// Which revisions are kept that no traffic names.
    pub(super) retention: RetentionConfig,
    /// Whether one machine's defaults hold.
    pub(super) one_machine: bool,
    /// What `config-logging` says; none without it.
    pub(super) logging: Option<LoggingSettings>,
    pub(super) observability: ObservabilityConfig,
}

/// One of the ConfigMaps.
#[derive(Debug)]
struct Read {
    source: Source,
    data: Data,
    warnings: Vec<String>,
}

/// The ConfigMaps in effect, by name.
#[derive(Debug, Default)]
pub(super) struct KnativeConfigMaps {
    in_effect: BTreeMap<&'static str, Read>,
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
                    .is_some_and(|former| collected.broken_files.contains(&former.source.file));
                if !is_kept && self.in_effect.remove(name).is_some() {
                    changed = true;
                }
                continue;
            };
            if collected.contested.contains(&key)
                || former.is_some_and(|f| f.source.is_same(source))
            {
                continue;
            }
            match read(source, options) {
                Ok(read) => {
                    changed |= former.is_none_or(|former| former.data != read.data);
                    self.in_effect.insert(name, read);
                }
                Err(found) => problems.extend(found),
            }
        }
        changed
    }

    /// Those in effect, as they were written.
    pub(super) fn objects(&self) -> impl Iterator<Item = Value> {
        self.in_effect.iter().map(|(name, read)| {
            in_namespace(read.source.node().to_json(), &knative_config_map(name).name.namespace)
        })
    }

    /// Keys that mean nothing, one text each.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &String> {
        self.in_effect.values().flat_map(|read| &read.warnings)
    }

    /// The settings they come to, on top of the home's defaults.
    pub(super) fn settings(&self, options: &LoaderOptions) -> Settings {
        let domain = options.domain.as_deref().unwrap_or(DEFAULT_DOMAIN);
        let data = |name: &str| self.in_effect.get(name).map(|read| &read.data);
        let mut settings = Settings::of(data, domain, options.one_machine);
        if options.domain.is_some() {
            settings.hosts.domains = HostRules::new(domain).domains;
        }
        settings
    }
}

impl Settings {
    /// What ConfigMaps by name come to, on top of the home's defaults. All were checked before;
    /// one that cannot be read counts as not there. `domain` is that without a `config-domain`.
    pub(super) fn of<'a>(
        data: impl Fn(&str) -> Option<&'a Data>,
        domain: &str,
        one_machine: bool,
    ) -> Self {
        let empty = Data::new();
        let or_none = |name: &str| data(name).unwrap_or(&empty);
        let mut hosts = HostRules::new(domain);
        hosts.network = parse_config_network(or_none("config-network"))
            .unwrap_or_else(|_| NetworkConfig::default());
        if let Some(data) = data("config-domain") {
            hosts.domains = parse_config_domain(data).unwrap_or_else(|_| DomainConfig::default());
        }
        let logging = data("config-logging");
        let data = or_none;
        Self {
            autoscaler: autoscaler(data("config-autoscaler"), one_machine).unwrap_or_else(|_| {
                if one_machine {
                    AutoscalerConfig::one_machine()
                } else {
                    AutoscalerConfig::default()
                }
            }),
            defaults: parse_config_defaults(data("config-defaults")).unwrap_or_default(),
            features: parse_config_features(data("config-features")).unwrap_or_default(),
            hosts,
            progress_deadline: if one_machine {
                ONE_MACHINE_PROGRESS_DEADLINE
            } else {
                KNATIVE_PROGRESS_DEADLINE
            },
            retention: parse_config_gc(data("config-gc")).unwrap_or_default(),
            one_machine,
            logging: logging.and_then(|data| parse_config_logging(data).ok()),
            observability: parse_config_observability(data("config-observability"))
                .unwrap_or_default(),
        }
    }
}

/// The autoscaler's settings on top of the home's defaults.
fn autoscaler(data: &Data, one_machine: bool) -> Result<AutoscalerConfig, Vec<ConfigProblem>> {
    if one_machine {
        AutoscalerConfig::one_machine().overlaid(data)
    } else {
        parse_config_autoscaler(data)
    }
}

/// Data of one of the ConfigMaps, checked.
fn read(source: &Source, options: &LoaderOptions) -> Result<Read, Vec<ConfigProblem>> {
    let context = AdmissionContext { one_machine: options.one_machine, ..Default::default() };
    let admission = admit(source.node(), &context, None);
    if !admission.is_admitted() {
        return Err(admission.problems.into_iter().map(|problem| source.place(problem)).collect());
    }
    let data = admission.object.get("data").and_then(Value::as_object);
    let data = data.into_iter().flatten().filter(|(key, _)| *key != "_example");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let warnings = admission.warnings.into_iter();
    Ok(Read {
        source: source.clone(),
        data: data.map(|(key, value)| (key.clone(), text(value))).collect(),
        warnings: warnings.map(|warning| source.place(warning).to_string()).collect(),
    })
}

/// Whether a ConfigMap is one of Knative's own.
pub(super) fn is_knatives(key: &ObjectKey) -> bool {
    key.kind == Kind::ConfigMap && CONFIG_MAPS.iter().any(|name| knative_config_map(name) == *key)
}
