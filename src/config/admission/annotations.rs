//! Annotations with a meaning: autoscaling, networking, the queue proxy's, durations.

use std::collections::BTreeMap;

use super::findings::{Finding, Findings, Path};
use crate::config::problem::{ConfigProblem, Severity};
use crate::config::settings::AutoscalerConfig;
use crate::config::text::{
    Quantity, format_duration, format_float, is_whole_seconds, nearest, parse_duration,
    parse_float, parse_int,
};
use crate::config::yaml::{Node, Value};

/// Annotations by key.
pub type Annotations = BTreeMap<String, String>;

/// Prefix of the autoscaling annotations.
pub const AUTOSCALING: &str = "autoscaling.knative.dev";
/// Class of Knative's own autoscaler.
pub const KPA: &str = "kpa.autoscaling.knative.dev";
/// Class of the horizontal pod autoscaler.
pub const HPA: &str = "hpa.autoscaling.knative.dev";

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const PRECISION: &str = "must be specified with at most second precision";

/// The names below [`AUTOSCALING`]: the spelling to use, and the older one that still works.
pub(super) const AUTOSCALING_KEYS: [(&str, &str); 15] = [
    ("class", ""),
    ("metric", ""),
    ("target", ""),
    ("window", ""),
    ("activation-scale", ""),
    ("min-scale", "minScale"),
    ("max-scale", "maxScale"),
    ("initial-scale", "initialScale"),
    ("scale-down-delay", "scaleDownDelay"),
    ("target-burst-capacity", "targetBurstCapacity"),
    ("target-utilization-percentage", "targetUtilizationPercentage"),
    ("panic-window-percentage", "panicWindowPercentage"),
    ("panic-threshold-percentage", "panicThresholdPercentage"),
    ("metric-aggregation-algorithm", "metricAggregationAlgorithm"),
    ("scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod"),
];

/// An autoscaling annotation by its name (`min-scale`): the key as given and its value. The newer
/// spelling wins where both are given.
pub fn autoscaling<'a>(annotations: &'a Annotations, name: &str) -> Option<(&'a str, &'a str)> {
    let older = AUTOSCALING_KEYS.iter().find(|key| key.0 == name).map_or("", |key| key.1);
    let group = |name: &str| format!("{AUTOSCALING}/{name}");
    first_of(annotations, &[&group(name), &group(older)])
}

/// Names of the autoscaling annotations that are known, in the spelling to use.
pub fn autoscaling_names() -> impl Iterator<Item = &'static str> {
    AUTOSCALING_KEYS.iter().map(|(name, _)| *name)
}

/// The first of several keys that is given, with its value.
pub fn first_of<'a>(annotations: &'a Annotations, keys: &[&str]) -> Option<(&'a str, &'a str)> {
    let entry = keys.iter().find_map(|key| annotations.get_key_value(*key))?;
    Some((entry.0.as_str(), entry.1.as_str()))
}

/// Checks the autoscaling annotations of a revision's template against the cluster's settings.
/// Paths are the annotations' keys.
pub fn validate_annotations(
    annotations: &Annotations,
    config: &AutoscalerConfig,
) -> Vec<ConfigProblem> {
    let mut out = Findings::default();
    check_autoscaling(annotations, config, &Path::root(), &mut out);
    out.into_problems(&Node::unplaced(Value::Null))
}

pub(super) fn check_autoscaling(
    annotations: &Annotations,
    config: &AutoscalerConfig,
    at: &Path,
    out: &mut Findings,
) {
    let check = Check { annotations, config, at, out };
    check.run();
}

struct Check<'a> {
    annotations: &'a Annotations,
    config: &'a AutoscalerConfig,
    at: &'a Path,
    out: &'a mut Findings,
}

impl Check<'_> {
    fn run(mut self) {
        self.class();
        self.scales();
        self.percentages();
        self.targets();
        self.durations();
        self.metric();
        self.initial_scale();
    }

    fn get(&self, name: &str) -> Option<(String, String)> {
        let (key, value) = autoscaling(self.annotations, name)?;
        Some((key.to_owned(), value.to_owned()))
    }

    fn class(&mut self) {
        let Some((key, value)) = self.get("class") else { return };
        if value.ends_with(AUTOSCALING) && value != KPA && value != HPA {
            self.out.invalid(self.at.field(&key), &value, format!("write {KPA}"));
        }
        if value == KPA
            && let Some((key, value)) = self.get("metric-aggregation-algorithm")
        {
            let known = ["", "linear", "weighted-exponential", "weightedExponential"];
            if !known.contains(&value.as_str()) {
                let fix = "write linear or weighted-exponential";
                self.out.invalid(self.at.field(&key), &value, fix);
            }
        }
    }

    fn metric(&mut self) {
        let Some((key, value)) = self.get("metric") else { return };
        let class = match self.get("class") {
            Some((_, class)) => class,
            None => self.config.pod_autoscaler_class.clone(),
        };
        let (fits, fix) = match class.as_str() {
            KPA => (matches!(value.as_str(), "concurrency" | "rps"), "write concurrency or rps"),
            HPA => (!value.is_empty(), "write cpu, memory or the name of a metric"),
            _ => return,
        };
        if !fits {
            self.out.invalid(self.at.field(&key), &value, fix);
        }
    }

    /// A scale that is not below zero; anything else is reported and counts as 0.
    fn scale(&mut self, name: &str) -> i64 {
        let Some((key, value)) = self.get(name) else { return 0 };
        match parse_int(&value, 32) {
            Ok(scale) if scale >= 0 => return scale,
            Err(crate::config::text::NumberError::Syntax) => {
                let fix = "write a whole number of replicas, such as \"3\"";
                self.out.invalid(self.at.field(&key), &value, fix);
            }
            _ => self.out.out_of_bounds(self.at.field(&key), &value, 0, i32::MAX),
        }
        0
    }

    fn scales(&mut self) {
        let min = self.scale("min-scale");
        let max = self.scale("max-scale");
        if max != 0 && max < min {
            let paths = ["max-scale", "min-scale"]
                .map(|name| self.at.field(&format!("{AUTOSCALING}/{name}")));
            let message = format!("max-scale={max} is less than min-scale={min}");
            self.out.say_all(paths.into(), message, format!("write max-scale: \"{min}\" or more"));
        }
        let limit = i64::from(self.config.max_scale_limit);
        if let Some((key, _)) = self.get("max-scale")
            && limit != 0
        {
            let path = self.at.field(&key);
            if max > limit {
                self.out.out_of_bounds(path, max, 1, limit);
            } else if max == 0 {
                let message = format!("max-scale=0 (unlimited), must be less than {limit}");
                self.out.say(path, message, format!("write a value from 1 to {limit}"));
            }
        }
        self.activation_scale(min, max);
    }

    fn activation_scale(&mut self, min: i64, max: i64) {
        let Some((key, value)) = self.get("activation-scale") else { return };
        let path = self.at.field(&key);
        let Ok(scale) = parse_int(&value, 32) else {
            self.out.invalid(path, &value, "write a whole number of 2 or more");
            return;
        };
        let low = min.max(2);
        let fix = if max == 0 {
            format!("write {low} or more")
        } else {
            format!("write a value from {low} to {max}")
        };
        if min > scale {
            let message = format!("min-scale={min} is greater than activation-scale={scale}");
            self.out.say(path, message, fix);
        } else if max < scale && max != 0 {
            let message = format!("max-scale={max} is less than activation-scale={scale}");
            self.out.say(path, message, fix);
        } else if scale < 2 {
            self.out.say(path, format!("activation-scale={scale} must be greater than 1"), fix);
        }
    }

    fn initial_scale(&mut self) {
        let Some((key, value)) = self.get("initial-scale") else { return };
        let low = i32::from(!self.config.allow_zero_initial_scale);
        let fix = format!("write a whole number of {low} or more");
        match parse_int(&value, 64) {
            Err(_) => self.out.invalid(self.at.field(&key), &value, fix),
            Ok(scale) if scale < 0 => {
                let path = self.at.field(&format!("{key} must be greater than 0"));
                self.out.invalid(path, &value, fix);
            }
            Ok(0) if low > 0 => {
                let path = self.at.field(&format!("{key}=0 not allowed by cluster"));
                let fix = format!(
                    "{fix}, or allow-zero-initial-scale: \"true\" in the ConfigMap config-autoscaler"
                );
                self.out.invalid(path, &value, fix);
            }
            Ok(_) => {}
        }
    }

    fn percentage(&mut self, name: &str, low: f64, high: f64) {
        let Some((key, value)) = self.get(name) else { return };
        let path = self.at.field(&key);
        let (low_text, high_text) = (format_float(low), format_float(high));
        match parse_float(&value) {
            Err(_) => {
                let fix = format!("write a number from {low_text} to {high_text}, without %");
                self.out.invalid(path, &value, fix);
            }
            // Not "outside of the range": NaN passes in Knative.
            Ok(number) if number < low || number > high => {
                self.out.out_of_bounds(path, &value, low_text, high_text);
            }
            Ok(_) => {}
        }
    }

    fn percentages(&mut self) {
        self.percentage("panic-window-percentage", 1.0, 100.0);
        self.percentage("panic-threshold-percentage", 110.0, 1000.0);
        self.percentage("target-utilization-percentage", 1.0, 100.0);
    }

    fn targets(&mut self) {
        if let Some((key, value)) = self.get("target") {
            let path = self.at.field(&key);
            match parse_float(&value) {
                Err(_) => self.out.invalid(path, &value, "write a number such as \"100\""),
                Ok(number) if number < 0.01 => {
                    let message = format!("target {value} should be at least 0.01");
                    self.out.say(path, message, "write 0.01 or more");
                }
                Ok(_) => {}
            }
        }
        if let Some((key, value)) = self.get("target-burst-capacity") {
            let bad = parse_float(&value).map_or(true, |n| n < 0.0 && n != -1.0);
            if bad {
                let fix = "write a number of 0 or more, or -1 to keep the proxy in the path";
                self.out.invalid(self.at.field(&key), &value, fix);
            }
        }
    }

    fn duration(&mut self, name: &str, low: i64, whole_seconds: bool) {
        let Some((key, value)) = self.get(name) else { return };
        let path = self.at.field(&key);
        match parse_duration(&value) {
            Err(_) => self.out.invalid(path, &value, format!("write {}", like(&value))),
            Ok(nanos) if nanos < low || nanos > HOUR => {
                self.out.out_of_bounds(path, &value, format_duration(low), format_duration(HOUR));
            }
            Ok(nanos) if whole_seconds && !is_whole_seconds(nanos) => {
                let fix = format!("write {}", format_duration(nanos / SECOND * SECOND));
                self.out.say(path, PRECISION, fix);
            }
            Ok(_) => {}
        }
    }

    fn durations(&mut self) {
        self.duration("window", 6 * SECOND, true);
        self.duration("scale-to-zero-pod-retention-period", 0, false);
        self.duration("scale-down-delay", 0, true);
    }
}

/// A duration that may have been meant: a bare number gets its unit.
fn like(value: &str) -> String {
    let trimmed = value.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return format!("{trimmed}s");
    }
    "a duration such as 60s, 5m or 1h".to_owned()
}

/// A duration that is not below zero and in whole seconds; `name` is how messages call it.
fn check_whole_seconds(found: Option<(&str, &str)>, name: &str, at: &Path, out: &mut Findings) {
    let Some((key, value)) = found.filter(|(_, value)| !value.is_empty()) else { return };
    let path = at.field(key);
    match parse_duration(value) {
        Err(_) => out.invalid(path, value, format!("write {}", like(value))),
        Ok(nanos) if !is_whole_seconds(nanos) => {
            let fix = format!("write {}", format_duration(nanos / SECOND * SECOND));
            out.say(path, format!("{name}={value} is not at second precision"), fix);
        }
        Ok(nanos) if nanos < 0 => {
            let fix = format!("write {}", format_duration(nanos.saturating_neg()));
            out.say(path, format!("{name}={value} must be positive"), fix);
        }
        Ok(_) => {}
    }
}

/// `serving.knative.dev/rollout-duration` of a Service or Route.
pub(super) fn check_rollout_duration(annotations: &Annotations, at: &Path, out: &mut Findings) {
    let keys = ["serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration"];
    check_whole_seconds(first_of(annotations, &keys), "rollout-duration", at, out);
}

/// `serving.knative.dev/progress-deadline` of a revision's template.
pub(super) fn check_progress_deadline(annotations: &Annotations, at: &Path, out: &mut Findings) {
    let keys = ["serving.knative.dev/progress-deadline"];
    check_whole_seconds(first_of(annotations, &keys), "progress-deadline", at, out);
}

/// Autoscaling annotations on something that is not a revision's template do nothing.
pub(super) fn check_no_autoscaling(annotations: &Annotations, at: &Path, out: &mut Findings) {
    for key in annotations.keys().filter(|key| key.starts_with(AUTOSCALING)) {
        out.push(Finding {
            message: format!("invalid key name {}", crate::config::text::quote(key)),
            paths: vec![at.clone()],
            details: "autoscaling annotations must be put under \"spec.template.metadata.annotations\" to work".to_owned(),
            fix: format!("write {key} below spec.template.metadata.annotations"),
            meant: Some(at.field(key)),
            ..Finding::default()
        });
    }
}

/// Annotations of `networking.knative.dev` that exist.
const NETWORKING: [&str; 9] = [
    "networking.knative.dev/ingress-class",
    "networking.knative.dev/ingress.class",
    "networking.knative.dev/certificate-class",
    "networking.knative.dev/certificate.class",
    "networking.knative.dev/disable-auto-tls",
    "networking.knative.dev/disableAutoTLS",
    "networking.knative.dev/disable-external-domain-tls",
    "networking.knative.dev/http-protocol",
    "networking.knative.dev/httpOption",
];

/// `networking.knative.dev/*` of a revision's template.
pub(super) fn check_networking(annotations: &Annotations, at: &Path, out: &mut Findings) {
    for key in annotations.keys().filter(|key| key.starts_with("networking.knative.dev")) {
        if !NETWORKING.contains(&key.as_str()) {
            let fix = nearest(key, NETWORKING)
                .map_or_else(|| "remove it".to_owned(), |known| format!("write {known}"));
            let message = format!("invalid key name {}", crate::config::text::quote(key));
            out.say(at.clone(), message, fix);
        }
    }
}

/// `queue.sidecar.serving.knative.dev/*` of a revision's template.
pub(super) fn check_queue_sidecar(annotations: &Annotations, at: &Path, out: &mut Findings) {
    const GROUP: &str = "queue.sidecar.serving.knative.dev";
    let key = |name: &str| format!("{GROUP}/{name}");
    let percentage = [key("resource-percentage"), key("resourcePercentage")];
    let percentage: Vec<&str> = percentage.iter().map(String::as_str).collect();
    if let Some((key, value)) = first_of(annotations, &percentage) {
        out.push(Finding {
            message: "Queue proxy resource percentage annotation is deprecated. Please use the available annotations to explicitly set resource values per service".to_owned(),
            severity: Severity::Warning,
            fix: format!("write {GROUP}/cpu-resource-request and its like"),
            ..Finding::default()
        });
        let path = at.field(&format!("[{key}]"));
        match parse_float(value) {
            Err(_) => out.invalid(path, value, "write a number from 0.1 to 100"),
            Ok(number) if !(0.1..=100.0).contains(&number) && !number.is_nan() => {
                out.out_of_bounds(path, format_float(number), "0.1", "100");
            }
            Ok(_) => {}
        }
    }
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        for bound in ["request", "limit"] {
            let key = key(&format!("{resource}-resource-{bound}"));
            let Some(value) = annotations.get(&key) else { continue };
            if Quantity::parse(value).is_none() {
                let fix = "write an amount such as 500m, 1 or 256Mi";
                out.invalid(at.field(&format!("[{key}]")), value, fix);
            }
        }
    }
}
