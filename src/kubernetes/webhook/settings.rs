//! The settings that objects are checked against, as the ConfigMaps say now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::time::timeout;

use super::super::feed::Feed;
use super::super::mirror::Mirror;
use crate::config::settings::{
    CONFIG_MAPS, Data, parse_config_autoscaler, parse_config_defaults, parse_config_features,
};
use crate::config::{AdmissionContext, ConfigProblem};
use crate::model::ObjectName;

/// How long a question waits for the settings after the start. Defaults hold then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Settings that follow their ConfigMaps. A bad ConfigMap keeps its former self.
#[derive(Debug, Default)]
pub struct LiveSettings {
    mirror: Mirror<Data>,
    context: ArcSwap<AdmissionContext>,
    /// Whether they follow nothing.
    is_fixed: bool,
}

impl LiveSettings {
    /// Settings that stay.
    pub fn fixed(context: AdmissionContext) -> Self {
        Self { context: ArcSwap::from_pointee(context), is_fixed: true, ..Self::default() }
    }

    /// The settings now; right after the start it waits for them a moment.
    pub async fn context(&self) -> Arc<AdmissionContext> {
        if !self.is_fixed {
            let _ = timeout(PATIENCE, self.mirror.complete()).await;
        }
        self.context.load_full()
    }

    /// Follows the ConfigMaps that are settings, for good.
    pub async fn follow(&self, config_maps: Feed) {
        let changed = |name: &ObjectName| {
            let data = self.mirror.get(name);
            self.take(&name.name, data.as_deref().unwrap_or(&Data::new()));
        };
        self.mirror.take_all(config_maps.events(), keep, changed).await;
    }

    /// Takes in what one of the ConfigMaps says; nothing in it = the defaults.
    pub fn take(&self, name: &str, data: &Data) {
        if let Err(problems) = self.try_take(name, data) {
            for problem in problems {
                tracing::warn!(config_map = name, %problem, "setting not taken up");
            }
        }
    }

    fn try_take(&self, name: &str, data: &Data) -> Result<(), Vec<ConfigProblem>> {
        let mut context = AdmissionContext::clone(&self.context.load());
        match name {
            "config-autoscaler" => context.autoscaler = parse_config_autoscaler(data)?,
            "config-defaults" => context.defaults = parse_config_defaults(data)?,
            "config-features" => context.features = parse_config_features(data)?,
            _ => return Ok(()),
        }
        self.context.store(Arc::new(context));
        Ok(())
    }
}

fn keep(object: &kube::api::DynamicObject) -> Option<Data> {
    let name = object.metadata.name.as_deref()?;
    if !CONFIG_MAPS.contains(&name) {
        return None;
    }
    let data = object.data.get("data").and_then(Value::as_object);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let data: BTreeMap<String, String> =
        data.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect();
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> Data {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[tokio::test]
    async fn a_bad_setting_keeps_its_former_self() {
        let settings = LiveSettings::fixed(AdmissionContext::default());
        let concurrency = async || settings.context().await.defaults.container_concurrency;
        settings.take("config-defaults", &data(&[("container-concurrency", "7")]));
        assert_eq!(concurrency().await, 7);
        settings.take("config-defaults", &data(&[("container-concurrency", "seven")]));
        settings.take("config-features", &data(&[("multi-container", "disabled")]));
        assert_eq!(concurrency().await, 7);
        assert!(!settings.context().await.features.is_enabled("multi-container"));
        settings.take("config-defaults", &data(&[]));
        assert_eq!(concurrency().await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_does_not_wait_for_settings_for_ever() {
        let settings = LiveSettings::default();
        let start = tokio::time::Instant::now();
        assert_eq!(settings.context().await.defaults.container_concurrency, 0);
        assert_eq!(start.elapsed(), PATIENCE);
    }
}
