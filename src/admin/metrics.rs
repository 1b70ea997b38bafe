//! Metrics: what was measured becomes neutral families, and those one of two text formats.
//!
//! Two writers stand behind `/metrics` because neither format serves everybody: OpenMetrics is
//! what Prometheus asks for, but `promtool check metrics` and older scrapers read only the
//! Prometheus text format 0.0.4, in which counters are described under their full name.

mod family;
mod gather;
mod input;
mod knative;
mod openmetrics;
mod process;
mod queue_proxy;
mod text;

pub(super) use process::started;

pub use family::{Family, HistogramValue, Kind, Label, Labels, Sample, Unit, Value};
pub use gather::own_families;
pub use input::{
    AutoscalerMetrics, ConnectionMetrics, EndpointMetrics, MetricsInput, RevisionMetrics,
};
pub use knative::classic_families;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The better of the formats that an `Accept` header admits; text when it says nothing.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/openmetrics-text") => Self::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Self::Text,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse().ok());
            let weight = weight.unwrap_or(1.0);
            if weight > best.1 {
                best = (format, weight);
            }
        }
        best.0
    }

    /// The `Content-Type` that goes with it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes families.
    ///
    /// # Errors
    /// Never in practice: writing to memory does not fail.
    pub fn write(self, families: Vec<Family>) -> Result<String, std::fmt::Error> {
        match self {
            Self::Text => text::write(&families),
            Self::OpenMetrics => openmetrics::write(families),
        }
    }
}

#[cfg(test)]
mod tests;
