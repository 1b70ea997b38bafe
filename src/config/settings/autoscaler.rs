//! `config-autoscaler`.

use std::time::Duration;

use super::Data;
use super::reader::{Reader, positive};
use crate::config::problem::ConfigProblem;
use crate::config::text::{format_duration, format_fixed, format_float, is_whole_seconds};

/// Smallest target of a replica.
const TARGET_MIN: f64 = 0.01;
const SECOND: i64 = 1_000_000_000;
const WINDOW_MIN: i64 = 6 * SECOND;
const WINDOW_MAX: i64 = 3600 * SECOND;

/// The cluster's autoscaling settings, effective values.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoscalerConfig {
    /// `pod-autoscaler-class`.
    pub pod_autoscaler_class: String,
    /// `enable-scale-to-zero`.
    pub enable_scale_to_zero: bool,
    /// `allow-zero-initial-scale`.
    pub allow_zero_initial_scale: bool,
    /// `max-scale-up-rate`, over 1.
    pub max_scale_up_rate: f64,
    /// `max-scale-down-rate`, over 1.
    pub max_scale_down_rate: f64,
    /// `container-concurrency-target-percentage` as a fraction, in (0, 1].
    pub container_concurrency_target_fraction: f64,
    /// `container-concurrency-target-default`.
    pub container_concurrency_target_default: f64,
    /// `requests-per-second-target-default`.
    pub rps_target_default: f64,
    /// `target-burst-capacity`, not negative or −1.
    pub target_burst_capacity: f64,
    /// `panic-window-percentage`, 1–100.
    pub panic_window_percentage: f64,
    /// `panic-threshold-percentage`.
    pub panic_threshold_percentage: f64,
    /// `activator-capacity`, at least 1.
    pub activator_capacity: f64,
    /// `stable-window`, whole seconds from 6 s to 1 h.
    pub stable_window: Duration,
    /// `scale-down-delay`, whole seconds.
    pub scale_down_delay: Duration,
    /// `scale-to-zero-grace-period`, not zero.
    pub scale_to_zero_grace_period: Duration,
    /// `scale-to-zero-pod-retention-period`.
    pub scale_to_zero_pod_retention_period: Duration,
    /// `initial-scale`.
    pub initial_scale: i32,
    /// `min-scale`.
    pub min_scale: i32,
    /// `max-scale`; 0 = unlimited.
    pub max_scale: i32,
    /// `max-scale-limit`; 0 = no limit.
    pub max_scale_limit: i32,
}

impl Default for AutoscalerConfig {
    /// Knative's defaults.
    fn default() -> Self {
        Self {
            pod_autoscaler_class: "kpa.autoscaling.knative.dev".to_owned(),
            enable_scale_to_zero: true,
            allow_zero_initial_scale: false,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            container_concurrency_target_fraction: 0.7,
            container_concurrency_target_default: 100.0,
            rps_target_default: 200.0,
            target_burst_capacity: 211.0,
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            activator_capacity: 100.0,
            stable_window: Duration::from_secs(60),
            scale_down_delay: Duration::ZERO,
            scale_to_zero_grace_period: Duration::from_secs(30),
            scale_to_zero_pod_retention_period: Duration::ZERO,
            initial_scale: 1,
            min_scale: 0,
            max_scale: 0,
            max_scale_limit: 0,
        }
    }
}

impl AutoscalerConfig {
    /// The defaults of one machine: nothing runs before it is asked for.
    pub fn one_machine() -> Self {
        Self { initial_scale: 0, allow_zero_initial_scale: true, ..Self::default() }
    }

    /// Reads a ConfigMap's data over these settings, which stand for the keys that are absent.
    pub fn overlaid(self, data: &Data) -> Result<Self, Vec<ConfigProblem>> {
        parse(data, self)
    }
}

/// Reads `config-autoscaler`; Knative's defaults stand for the keys that are absent.
pub fn parse_config_autoscaler(data: &Data) -> Result<AutoscalerConfig, Vec<ConfigProblem>> {
    parse(data, AutoscalerConfig::default())
}

/// Durations before they are known not to be negative, in nanoseconds.
struct Durations {
    stable_window: i64,
    scale_down_delay: i64,
    grace: i64,
    retention: i64,
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn parse(data: &Data, mut c: AutoscalerConfig) -> Result<AutoscalerConfig, Vec<ConfigProblem>> {
    let mut r = Reader::new(data, "failed to parse data: ");
    let mut d = Durations {
        stable_window: nanos(c.stable_window),
        scale_down_delay: nanos(c.scale_down_delay),
        grace: nanos(c.scale_to_zero_grace_period),
        retention: nanos(c.scale_to_zero_pod_retention_period),
    };
    r.text("pod-autoscaler-class", &mut c.pod_autoscaler_class);
    r.bool("enable-scale-to-zero", &mut c.enable_scale_to_zero);
    r.bool("allow-zero-initial-scale", &mut c.allow_zero_initial_scale);
    r.float("max-scale-up-rate", &mut c.max_scale_up_rate);
    r.float("max-scale-down-rate", &mut c.max_scale_down_rate);
    let fraction = &mut c.container_concurrency_target_fraction;
    r.float("container-concurrency-target-percentage", fraction);
    let target = &mut c.container_concurrency_target_default;
    r.float("container-concurrency-target-default", target);
    r.float("requests-per-second-target-default", &mut c.rps_target_default);
    r.float("target-burst-capacity", &mut c.target_burst_capacity);
    r.float("panic-window-percentage", &mut c.panic_window_percentage);
    r.float("activator-capacity", &mut c.activator_capacity);
    r.float("panic-threshold-percentage", &mut c.panic_threshold_percentage);
    r.int32("initial-scale", &mut c.initial_scale);
    r.int32("min-scale", &mut c.min_scale);
    r.int32("max-scale", &mut c.max_scale);
    r.int32("max-scale-limit", &mut c.max_scale_limit);
    r.duration("stable-window", &mut d.stable_window);
    r.duration("scale-down-delay", &mut d.scale_down_delay);
    r.duration("scale-to-zero-grace-period", &mut d.grace);
    r.duration("scale-to-zero-pod-retention-period", &mut d.retention);
    if !r.is_clean() {
        return r.finish(c);
    }
    // A percentage over 1; up to 1 it is a fraction already.
    if c.container_concurrency_target_fraction > 1.0 {
        c.container_concurrency_target_fraction /= 100.0;
    }
    check_delays(&d, &mut r);
    check_targets(&c, &mut r);
    check_windows(&c, &d, &mut r);
    check_scales(&c, &mut r);
    c.stable_window = positive(d.stable_window);
    c.scale_down_delay = positive(d.scale_down_delay);
    c.scale_to_zero_grace_period = positive(d.grace);
    c.scale_to_zero_pod_retention_period = positive(d.retention);
    r.finish(c)
}

fn seconds_only(key: &str, nanos: i64, r: &mut Reader<'_>) {
    if !is_whole_seconds(nanos) {
        let (text, whole) = (format_duration(nanos), format_duration(nanos / SECOND * SECOND));
        let message = format!("{key} = {text}, must be specified with at most second precision");
        r.refuse(key, message, format!("write {whole}"));
    }
}

fn check_delays(d: &Durations, r: &mut Reader<'_>) {
    if d.grace <= 0 {
        let key = "scale-to-zero-grace-period";
        let message = format!("{key} must be positive, was: {}", format_duration(d.grace));
        r.refuse(key, message, "write a duration such as 30s");
    }
    if d.scale_down_delay < 0 {
        let key = "scale-down-delay";
        let text = format_duration(d.scale_down_delay);
        r.refuse(key, format!("{key} cannot be negative, was: {text}"), "write 0s or more");
    }
    seconds_only("scale-down-delay", d.scale_down_delay, r);
    if d.retention < 0 {
        let key = "scale-to-zero-pod-retention-period";
        let text = format_duration(d.retention);
        r.refuse(key, format!("{key} cannot be negative, was: {text}"), "write 0s or more");
    }
}

fn check_targets(c: &AutoscalerConfig, r: &mut Reader<'_>) {
    if c.target_burst_capacity < 0.0 && c.target_burst_capacity != -1.0 {
        let message = format!(
            "target-burst-capacity must be either non-negative or -1 (for unlimited), was: {}",
            format_fixed(c.target_burst_capacity)
        );
        r.refuse("target-burst-capacity", message, "write a number of 0 or more, or -1");
    }
    let fraction = c.container_concurrency_target_fraction;
    let key = "container-concurrency-target-percentage";
    if fraction <= 0.0 || fraction > 1.0 {
        let shown = format_fixed(fraction);
        let message = format!("{key} = {shown} is outside of valid range of (0, 100]");
        r.refuse(key, message, "write a number above 0 and up to 100");
    }
    let target = fraction * c.container_concurrency_target_default;
    if target < TARGET_MIN {
        let message = format!(
            "{key} and container-concurrency-target-default yield target concurrency of {}, can't be less than {TARGET_MIN}",
            format_float(target)
        );
        r.refuse("container-concurrency-target-default", message, "write a larger number");
    }
    if c.rps_target_default < TARGET_MIN {
        let key = "requests-per-second-target-default";
        let was = format_float(c.rps_target_default);
        let message = format!("{key} must be at least {TARGET_MIN}, was: {was}");
        r.refuse(key, message, "write 0.01 or more");
    }
    let at_least = |key: &str, value: f64, r: &mut Reader<'_>| {
        let message = format!("{key} = {}, must be at least 1", format_float(value));
        r.refuse(key, message, "write 1 or more");
    };
    if c.activator_capacity < 1.0 {
        at_least("activator-capacity", c.activator_capacity, r);
    }
    for (key, rate) in
        [("max-scale-up-rate", c.max_scale_up_rate), ("max-scale-down-rate", c.max_scale_down_rate)]
    {
        if rate <= 1.0 {
            let message = format!("{key} = {}, must be greater than 1.0", format_float(rate));
            r.refuse(key, message, "write a number above 1, such as \"2.0\"");
        }
    }
}

fn check_windows(c: &AutoscalerConfig, d: &Durations, r: &mut Reader<'_>) {
    let key = "stable-window";
    if d.stable_window < WINDOW_MIN || d.stable_window > WINDOW_MAX {
        let message = format!(
            "{key} = {}, must be in [{}; {}] range",
            format_duration(d.stable_window),
            format_duration(WINDOW_MIN),
            format_duration(WINDOW_MAX)
        );
        r.refuse(key, message, "write a duration from 6s to 1h");
    }
    seconds_only(key, d.stable_window, r);
    let percentage = c.panic_window_percentage;
    if !(1.0..=100.0).contains(&percentage) && !percentage.is_nan() {
        let key = "panic-window-percentage";
        let message = format!("{key} = {}, must be in [1, 100] interval", format_float(percentage));
        r.refuse(key, message, "write a number from 1 to 100");
    }
}

fn check_scales(c: &AutoscalerConfig, r: &mut Reader<'_>) {
    if c.initial_scale < 0 || (c.initial_scale == 0 && !c.allow_zero_initial_scale) {
        let message = format!(
            "initial-scale = {}, must be at least 0 (or at least 1 when allow-zero-initial-scale is false)",
            c.initial_scale
        );
        r.refuse(
            "initial-scale",
            message,
            "write 1 or more, or allow-zero-initial-scale: \"true\"",
        );
    }
    if c.min_scale < 0 {
        let message = format!("min-scale = {}, must be at least 0", c.min_scale);
        r.refuse("min-scale", message, "write 0 or more");
    }
    let least = i32::from(c.max_scale_limit > 0);
    if c.max_scale < least || (c.max_scale_limit > 0 && c.max_scale > c.max_scale_limit) {
        let limit = c.max_scale_limit;
        let message = format!(
            "max-scale = {}, must be in [{least}, max-scale-limit({limit})] range",
            c.max_scale
        );
        let fix = if limit > 0 {
            format!("write a value from 1 to {limit}")
        } else {
            "write 0 (unlimited) or more".to_owned()
        };
        r.refuse("max-scale", message, fix);
    }
    if c.max_scale_limit < 0 {
        let message = format!("max-scale-limit = {}, must be at least 0", c.max_scale_limit);
        r.refuse("max-scale-limit", message, "write 0 (no limit) or more");
    }
    if c.min_scale > c.max_scale && c.max_scale > 0 {
        let message =
            format!("min-scale ({}) must be less than max-scale ({})", c.min_scale, c.max_scale);
        r.refuse("min-scale", message, format!("write a value from 0 to {}", c.max_scale));
    }
}
