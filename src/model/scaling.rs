//! Effective autoscaling settings of a revision: ConfigMap, annotations and `PodAutoscaler`
//! resolved (`reference`: Knative's `config-autoscaler` and `autoscaling.knative.dev/*`).

use std::time::Duration;

/// What the autoscaler measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests in flight, averaged.
    Concurrency,
    /// Requests a second.
    Rps,
}

/// How a window is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Arithmetic mean over the part of the window that has data.
    Linear,
    /// Exponentially weighted, newest first.
    WeightedExponential,
}

/// Settings of one revision's autoscaler, after every default and clamp.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingSpec {
    /// What is measured.
    pub metric: Metric,
    /// How it is averaged.
    pub aggregation: Aggregation,
    /// Load per replica aimed at, after utilisation; at least 0.01.
    pub target_value: f64,
    /// Load per replica before utilisation: its capacity, for excess burst capacity.
    pub total_value: f64,
    /// Burst capacity to keep; 0 = proxy only at zero, −1 = always (Knative's encoding).
    pub target_burst_capacity: f64,
    /// Capacity of one activator, for the number of activators.
    pub activator_capacity: f64,
    /// Largest growth in one decision, as a ratio over 1.
    pub max_scale_up_rate: f64,
    /// Largest shrinkage in one decision, as a ratio over 1.
    pub max_scale_down_rate: f64,
    /// Desired by the panic window over ready from which panic begins, as a ratio.
    pub panic_threshold: f64,
    /// The long window.
    pub stable_window: Duration,
    /// The short window.
    pub panic_window: Duration,
    /// A lower count is taken only after it was the largest for this long.
    pub scale_down_delay: Duration,
    /// Count to start with when there is any load; none = unset.
    pub activation_scale: Option<u32>,
    /// Replicas of a new revision.
    pub initial_scale: u32,
    /// Whether so many were ready once, where the platform keeps that for all who look (the
    /// PodAutoscaler's condition `ScaleTargetInitialized`); none where the autoscaler sees for itself.
    pub initialized: Option<bool>,
    /// Lower bound; 0 when unreachable.
    pub min_scale: u32,
    /// Upper bound; none = unlimited. The lower bound wins over it.
    pub max_scale: Option<u32>,
    /// Whether a route leads here (unknown counts as reachable).
    pub reachable: bool,
    /// `enable-scale-to-zero`.
    pub scale_to_zero: bool,
    /// `scale-to-zero-grace-period`.
    pub scale_to_zero_grace: Duration,
    /// `scale-to-zero-pod-retention-period`.
    pub scale_to_zero_retention: Duration,
    /// `serving.knative.dev/progress-deadline`, else the platform's default.
    pub progress_deadline: Duration,
}

impl Default for ScalingSpec {
    /// Knative's defaults for an unlimited revision, with one machine's `initial-scale` of 0 and
    /// progress deadline of 60 s.
    fn default() -> Self {
        Self {
            metric: Metric::Concurrency,
            aggregation: Aggregation::Linear,
            target_value: 70.0,
            total_value: 100.0,
            target_burst_capacity: 211.0,
            activator_capacity: 100.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            panic_threshold: 2.0,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            scale_down_delay: Duration::ZERO,
            activation_scale: None,
            initial_scale: 0,
            initialized: None,
            min_scale: 0,
            max_scale: None,
            reachable: true,
            scale_to_zero: true,
            scale_to_zero_grace: Duration::from_secs(30),
            scale_to_zero_retention: Duration::ZERO,
            progress_deadline: Duration::from_secs(60),
        }
    }
}
