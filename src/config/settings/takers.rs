//! Settings of the program itself, on their way to it.

use std::fmt;

use super::{LoggingSettings, ObservabilityConfig};

/// Takes what the configuration says about logging; none if it says nothing.
pub type TakeLogging = Box<dyn Fn(Option<&LoggingSettings>)>;

/// Takes `config-observability`.
pub type TakeObservability = Box<dyn Fn(&ObservabilityConfig)>;

/// Who takes the settings of logs and traces, whenever they may have changed.
pub struct Takers {
    /// Those of logs.
    pub logging: TakeLogging,
    /// Those of traces.
    pub observability: TakeObservability,
}

impl Default for Takers {
    /// Nobody.
    fn default() -> Self {
        Self { logging: Box::new(|_| {}), observability: Box::new(|_| {}) }
    }
}

impl fmt::Debug for Takers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takers")
    }
}
