//! Prometheus text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use std::fmt::{Error, Write as _};

use super::family::{Family, HistogramValue, Kind, Labels, Value};

/// Writes families; those without series are left out.
pub(super) fn write(families: &[Family]) -> Result<String, Error> {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        // A counter is described under the name of its series, unlike in OpenMetrics.
        let suffix = if family.kind == Kind::Counter { "_total" } else { "" };
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Untyped => "untyped",
        };
        let (name, help) = (family.name, family.help);
        writeln!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}")?;
        for sample in &family.samples {
            match &sample.value {
                Value::Whole(number) => {
                    series(&mut out, &[name, suffix], &sample.labels)?;
                    writeln!(out, " {number}")?;
                }
                Value::Real(number) => {
                    series(&mut out, &[name, suffix], &sample.labels)?;
                    writeln!(out, " {}", Real(*number))?;
                }
                Value::Histogram(value) => histogram(&mut out, name, &sample.labels, value)?,
            }
        }
    }
    Ok(out)
}

fn histogram(
    out: &mut String,
    name: &str,
    labels: &Labels,
    value: &HistogramValue,
) -> Result<(), Error> {
    // The labels are the same on every line: written once, copied after that.
    let mut text = String::new();
    label_list(&mut text, labels)?;
    let comma = if text.is_empty() { "" } else { "," };
    let mut at_most = 0;
    for (bound, count) in &value.buckets {
        at_most += count;
        // With a decimal point, as OpenMetrics wants it: a bucket is the same series in both.
        let bound = Bound(*bound);
        writeln!(out, "{name}_bucket{{{text}{comma}le=\"{bound}\"}} {at_most}")?;
    }
    let (open, close) = if text.is_empty() { ("", "") } else { ("{", "}") };
    writeln!(out, "{name}_sum{open}{text}{close} {}", Real(value.sum))?;
    writeln!(out, "{name}_count{open}{text}{close} {at_most}")
}

fn series(out: &mut String, name: &[&str], labels: &Labels) -> Result<(), Error> {
    out.extend(name.iter().copied());
    if labels.iter().next().is_none() {
        return Ok(());
    }
    out.push('{');
    label_list(out, labels)?;
    out.push('}');
    Ok(())
}

fn label_list(out: &mut String, labels: &Labels) -> Result<(), Error> {
    for (index, (name, value)) in labels.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{name}=\"")?;
        escape(out, value);
        out.push('"');
    }
    Ok(())
}

/// Backslash, quote and line feed are the three that must be escaped.
fn escape(out: &mut String, value: &str) {
    for part in value.split_inclusive(['\\', '"', '\n']) {
        match part.as_bytes().last() {
            Some(b'\\') => out.extend([&part[..part.len() - 1], "\\\\"]),
            Some(b'"') => out.extend([&part[..part.len() - 1], "\\\""]),
            Some(b'\n') => out.extend([&part[..part.len() - 1], "\\n"]),
            _ => out.push_str(part),
        }
    }
}

struct Real(f64);

impl std::fmt::Display for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY {
            f.write_str("+Inf")
        } else if self.0 == f64::NEG_INFINITY {
            f.write_str("-Inf")
        } else {
            // Shortest text that reads back as the same number; NaN is spelled alike.
            write!(f, "{}", self.0)
        }
    }
}

struct Bound(f64);

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY { f.write_str("+Inf") } else { write!(f, "{:?}", self.0) }
    }
}
