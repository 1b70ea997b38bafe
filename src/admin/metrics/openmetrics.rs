//! OpenMetrics 1.0, written by `prometheus-client` from a collector of our own.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, MetricEncoder,
    NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use super::family::{Family, Kind, Labels, Unit, Value};

/// Writes families; those without series are left out.
pub(super) fn write(families: Vec<Family>) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Untyped => MetricType::Unknown,
            };
            // The library appends the unit itself.
            let unit = family.unit.map(|unit| match unit {
                Unit::Seconds => registry::Unit::Seconds,
                Unit::Bytes => registry::Unit::Bytes,
            });
            let suffix = family.unit.map_or("", Unit::suffix);
            let name = family.name.strip_suffix(suffix).unwrap_or(family.name);
            let name = name.strip_suffix('_').unwrap_or(name);
            let mut metric = encoder.encode_descriptor(name, family.help, unit.as_ref(), kind)?;
            for sample in &family.samples {
                if sample.labels.iter().next().is_none() {
                    write_value(&mut metric, family.kind, &sample.value)?;
                } else {
                    let mut labelled = metric.encode_family(&sample.labels)?;
                    write_value(&mut labelled, family.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn write_value(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), Error> {
    match (kind, value) {
        (Kind::Counter, Value::Whole(number)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        (Kind::Counter, Value::Real(number)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        (_, Value::Whole(number)) => encoder.encode_gauge(number),
        (_, Value::Real(number)) => encoder.encode_gauge(number),
        (_, Value::Histogram(value)) => {
            encoder.encode_histogram::<NoLabelSet>(value.sum, value.count(), &value.buckets, None)
        }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        for (name, value) in self.iter() {
            (*name, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
