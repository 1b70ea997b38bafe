//! Effective autoscaling settings of a revision: ConfigMap, annotations and `PodAutoscaler`
//! resolved as Knative's getters do (`autoscaling/v1alpha1/pa_lifecycle.go`,
//! `reconciler/autoscaling/resources`): the kebab-case spelling wins over the camelCase one, and a
//! value that cannot be read counts as not given.

use std::time::Duration;

use serde_json::Value;

use super::admission::{Annotations, autoscaling, pod_autoscaler_annotations};
use super::settings::AutoscalerConfig;
use super::text::{parse_duration, parse_float, parse_int};
use crate::model::{Aggregation, ContainerConcurrency, Metric, ScalingSpec};

/// Smallest target there is.
const MIN_TARGET: f64 = 0.01;
/// Utilisation for requests a second; unlike concurrency's it is in no ConfigMap.
const RPS_UTILISATION: f64 = 0.7;
/// Annotation with the time a revision may take to become ready.
const PROGRESS_DEADLINE: &str = "serving.knative.dev/progress-deadline";
/// Knative's `progress-deadline` in `config-deployment`.
const KNATIVE_PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// What a `PodAutoscaler` sets, as the annotations that its fields stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAutoscalerSettings {
    annotations: Annotations,
}

impl PodAutoscalerSettings {
    /// The settings of an admitted `PodAutoscaler`: its spec's, and its annotations' where the
    /// spec says nothing.
    pub fn of_object(object: &Value) -> Self {
        Self { annotations: pod_autoscaler_annotations(object) }
    }

    /// The same, and annotations that win over them.
    #[must_use]
    pub fn with(mut self, annotations: &Annotations) -> Self {
        self.annotations
            .extend(annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
        self
    }

    /// All of them, as annotations.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A setting by the annotation's name, such as `min-scale`.
    pub fn get(&self, name: &str) -> Option<&str> {
        autoscaling(&self.annotations, name).map(|(_, value)| value)
    }
}

/// Where settings are looked up.
#[derive(Clone, Copy)]
struct Given<'a> {
    annotations: &'a Annotations,
    pod_autoscaler: Option<&'a PodAutoscalerSettings>,
}

impl Given<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        let from_object = self.pod_autoscaler.and_then(|settings| settings.get(name));
        from_object.or_else(|| autoscaling(self.annotations, name).map(|(_, value)| value))
    }

    fn float(&self, name: &str) -> Option<f64> {
        parse_float(self.text(name)?).ok()
    }

    fn int(&self, name: &str) -> Option<i32> {
        parse_int(self.text(name)?, 32).ok().and_then(|number| i32::try_from(number).ok())
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        duration(self.text(name)?)
    }
}

fn duration(text: &str) -> Option<Duration> {
    let nanos = u64::try_from(parse_duration(text).ok()?).ok()?;
    Some(Duration::from_nanos(nanos))
}

/// Effective settings of a revision. Annotations and the `PodAutoscaler`, which wins over them,
/// are taken as admission left them. The progress deadline is Knative's 600 s without annotation.
pub fn resolve(
    config: &AutoscalerConfig,
    annotations: &Annotations,
    container_concurrency: ContainerConcurrency,
    reachable: bool,
    pod_autoscaler: Option<&PodAutoscalerSettings>,
) -> ScalingSpec {
    let given = Given { annotations, pod_autoscaler };
    let metric = match given.text("metric") {
        Some("rps") => Metric::Rps,
        _ => Metric::Concurrency,
    };
    let (target_value, total_value) = targets(config, given, metric, container_concurrency);
    let stable_window = given.duration("window").unwrap_or(config.stable_window);
    let percentage = given.float("panic-window-percentage");
    let percentage = percentage.unwrap_or(config.panic_window_percentage);
    let panic_threshold = given.float("panic-threshold-percentage");
    let (min_scale, max_scale) = bounds(config, given, reachable);
    ScalingSpec {
        metric,
        aggregation: aggregation(given),
        target_value,
        total_value,
        target_burst_capacity: given
            .float("target-burst-capacity")
            .unwrap_or(config.target_burst_capacity),
        activator_capacity: config.activator_capacity,
        max_scale_up_rate: config.max_scale_up_rate,
        max_scale_down_rate: config.max_scale_down_rate,
        panic_threshold: panic_threshold.unwrap_or(config.panic_threshold_percentage) / 100.0,
        stable_window,
        panic_window: panic_window(stable_window, percentage),
        scale_down_delay: given.duration("scale-down-delay").unwrap_or(config.scale_down_delay),
        activation_scale: given
            .int("activation-scale")
            .and_then(|scale| u32::try_from(scale).ok())
            .filter(|scale| *scale > 0),
        initial_scale: initial_scale(config, given),
        initialized: None,
        min_scale,
        max_scale,
        reachable,
        scale_to_zero: config.enable_scale_to_zero,
        scale_to_zero_grace: config.scale_to_zero_grace_period,
        scale_to_zero_retention: given
            .duration("scale-to-zero-pod-retention-period")
            .unwrap_or(config.scale_to_zero_pod_retention_period),
        progress_deadline: progress_deadline(annotations).unwrap_or(KNATIVE_PROGRESS_DEADLINE),
    }
}

/// The progress deadline that the annotation sets.
pub fn progress_deadline(annotations: &Annotations) -> Option<Duration> {
    duration(annotations.get(PROGRESS_DEADLINE)?)
}

/// Target after utilisation, and before it.
fn targets(
    config: &AutoscalerConfig,
    given: Given<'_>,
    metric: Metric,
    container_concurrency: ContainerConcurrency,
) -> (f64, f64) {
    let annotated = given.float("target");
    let (total, utilisation) = match metric {
        Metric::Rps => (annotated.unwrap_or(config.rps_target_default), RPS_UTILISATION),
        Metric::Concurrency => {
            let total = match container_concurrency {
                ContainerConcurrency::AtMost(limit) => {
                    let limit = f64::from(limit.get());
                    annotated.map_or(limit, |target| target.min(limit))
                }
                ContainerConcurrency::Unlimited => {
                    annotated.unwrap_or(config.container_concurrency_target_default)
                }
            };
            (total, config.container_concurrency_target_fraction)
        }
    };
    let annotated = given.float("target-utilization-percentage");
    let utilisation = annotated.map_or(utilisation, |percentage| percentage / 100.0);
    ((total * utilisation).max(MIN_TARGET), total)
}

fn aggregation(given: Given<'_>) -> Aggregation {
    match given.text("metric-aggregation-algorithm") {
        Some("weighted-exponential" | "weightedExponential") => Aggregation::WeightedExponential,
        _ => Aggregation::Linear,
    }
}

/// The panic window: so many per cent of the stable window, to the second, at least one.
fn panic_window(stable: Duration, percentage: f64) -> Duration {
    let nanos = stable.as_nanos() as f64 * percentage / 100.0;
    // Half a second is rounded up. `as` saturates, and a window is an hour at most.
    let seconds = (nanos as u64 + 500_000_000) / 1_000_000_000;
    Duration::from_secs(seconds.max(1))
}

/// Lower and upper bound. Nothing keeps an unreachable revision up.
fn bounds(config: &AutoscalerConfig, given: Given<'_>, reachable: bool) -> (u32, Option<u32>) {
    let min = if reachable { given.int("min-scale").unwrap_or(config.min_scale) } else { 0 };
    let max = given.int("max-scale").unwrap_or(config.max_scale);
    let positive = |scale: i32| u32::try_from(scale).ok().filter(|scale| *scale > 0);
    (positive(min).unwrap_or(0), positive(max))
}

/// Replicas of a new revision; an annotated 0 counts only where the ConfigMap allows it.
fn initial_scale(config: &AutoscalerConfig, given: Given<'_>) -> u32 {
    let annotated = given.int("initial-scale");
    let annotated = annotated.filter(|scale| *scale != 0 || config.allow_zero_initial_scale);
    u32::try_from(annotated.unwrap_or(config.initial_scale)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        let key = |name: &str| format!("autoscaling.knative.dev/{name}");
        pairs.iter().map(|(name, value)| (key(name), (*value).to_owned())).collect()
    }

    fn resolved(pairs: &[(&str, &str)], scaler: Option<&PodAutoscalerSettings>) -> ScalingSpec {
        let config = AutoscalerConfig::one_machine();
        resolve(&config, &annotations(pairs), ContainerConcurrency::Unlimited, true, scaler)
    }

    /// The spec without any annotation.
    fn plain() -> ScalingSpec {
        ScalingSpec { progress_deadline: KNATIVE_PROGRESS_DEADLINE, ..ScalingSpec::default() }
    }

    #[test]
    fn a_value_that_cannot_be_read_counts_as_not_given() {
        assert_eq!(resolved(&[], None), plain());
        for (name, value) in [
            ("target", "many"),
            ("target-utilization-percentage", ""),
            ("target-burst-capacity", "1,5"),
            ("metric", "cpu"),
            ("metric-aggregation-algorithm", "median"),
            ("window", "60"),
            ("window", "-60s"),
            ("panic-window-percentage", "ten"),
            ("panic-threshold-percentage", "%"),
            ("scale-down-delay", "1 minute"),
            ("scale-to-zero-pod-retention-period", "5"),
            ("min-scale", "0x10"),
            ("min-scale", "-3"),
            ("max-scale", "2147483648"),
            ("initial-scale", "1.0"),
            ("activation-scale", "two"),
            ("activation-scale", "-2"),
        ] {
            assert_eq!(resolved(&[(name, value)], None), plain(), "{name}: {value}");
        }
        // The kebab-case spelling wins even if it cannot be read.
        let pairs = [("min-scale", "none"), ("minScale", "3")];
        assert_eq!(resolved(&pairs, None), plain());
    }

    #[test]
    fn what_the_oracle_leaves_out() {
        let spec = resolved(
            &[
                ("metricAggregationAlgorithm", "weightedExponential"),
                ("scaleToZeroPodRetentionPeriod", "90s"),
                ("target", "0.001"),
            ],
            None,
        );
        assert_eq!(spec.aggregation, Aggregation::WeightedExponential);
        assert_eq!(spec.scale_to_zero_retention, Duration::from_secs(90));
        assert_eq!((spec.target_value, spec.total_value), (0.01, 0.001));

        let config = AutoscalerConfig { allow_zero_initial_scale: false, ..Default::default() };
        let unlimited = ContainerConcurrency::Unlimited;
        let zero = annotations(&[("initial-scale", "0")]);
        assert_eq!(resolve(&config, &zero, unlimited, true, None).initial_scale, 1);

        let mut deadline = Annotations::new();
        deadline.insert(PROGRESS_DEADLINE.to_owned(), "2m".to_owned());
        let spec = resolve(&config, &deadline, unlimited, true, None);
        assert_eq!(spec.progress_deadline, Duration::from_secs(120));
    }

    #[test]
    fn a_pod_autoscaler_wins_over_annotations() {
        let object = json!({
            "metadata": {"annotations": {"autoscaling.knative.dev/maxScale": "4"}},
            "spec": {"minScale": 2, "target": 10.0, "stableWindow": "90s"},
        });
        let scaler = PodAutoscalerSettings::of_object(&object);
        assert_eq!(scaler.get("target"), Some("10.0"));
        let pairs =
            [("min-scale", "1"), ("max-scale", "9"), ("target", "5"), ("initial-scale", "3")];
        let spec = resolved(&pairs, Some(&scaler));
        assert_eq!((spec.min_scale, spec.max_scale, spec.initial_scale), (2, Some(4), 3));
        assert_eq!((spec.target_value, spec.total_value), (7.0, 10.0), "before utilisation");
        assert_eq!(spec.stable_window, Duration::from_secs(90));
        // A hard limit bounds it as it bounds the annotation.
        let limit = ContainerConcurrency::AtMost(NonZeroU32::new(3).unwrap());
        let config = AutoscalerConfig::default();
        let spec = resolve(&config, &Annotations::new(), limit, true, Some(&scaler));
        assert_eq!(spec.total_value, 3.0);
    }
}
