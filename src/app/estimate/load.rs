//! A load that was measured: Prometheus' answer to a range query.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use crate::model::ServiceId;

/// `GET /api/v1/query_range` (Prometheus, HTTP API).
#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    /// Seconds since 1970, and a number as text.
    values: Vec<(f64, String)>,
}

/// The load of services, each in its metric.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Values by when the step ends that they are the average of.
    of: BTreeMap<ServiceId, BTreeMap<u64, f64>>,
    /// What has no name.
    unnamed: BTreeMap<u64, f64>,
    begin: u64,
    end: u64,
    step: u64,
}

impl Load {
    /// Reads a file, or what comes in where that is `-`.
    ///
    /// # Errors
    /// It cannot be read, or is not such an answer; the text says what to do.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let mut text = String::new();
        let read = if file == Path::new("-") {
            std::io::stdin().lock().read_to_string(&mut text).map(drop)
        } else {
            std::fs::read_to_string(file).map(|read| text = read)
        };
        read.map_err(|error| format!("{}: {error}", file.display()))?;
        Self::parse(&text).map_err(|problem| format!("{}: {problem}", file.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let answer: Answer = serde_json::from_str(text).map_err(|error| {
            format!(
                "this is no answer of Prometheus' ({error}); save that of \
                 /api/v1/query_range (tidegate estimate --help)"
            )
        })?;
        if answer.status != "success" {
            return Err(format!("Prometheus says {}: {}", answer.status, answer.error));
        }
        if answer.data.result_type != "matrix" {
            return Err(format!(
                "a {} is no load over time: ask /api/v1/query_range, with start, end and step",
                answer.data.result_type
            ));
        }
        let series: Vec<Series> = serde_json::from_value(answer.data.result)
            .map_err(|error| format!("its result cannot be read: {error}"))?;
        let mut load = Self::default();
        for Series { metric, values } in series {
            let label = |names: [&str; 2]| names.iter().find_map(|name| metric.get(*name));
            // Knative's own metrics have the longer ones.
            let service = label(["service", "service_name"]).map(|name| {
                let namespace = label(["namespace", "namespace_name"]);
                ServiceId::new(namespace.map_or("default", String::as_str), name.as_str())
            });
            let of = match service {
                Some(service) => load.of.entry(service).or_default(),
                None => &mut load.unnamed,
            };
            for (at, value) in values {
                let value: f64 = value.parse().map_err(|error| format!("{value:?}: {error}"))?;
                // A rate over a restart may be no number: nothing was seen.
                if value.is_finite() && value > 0.0 {
                    *of.entry(at as u64).or_default() += value;
                } else {
                    of.entry(at as u64).or_default();
                }
            }
        }
        load.settle()?;
        Ok(load)
    }

    /// Finds out which time it is of, and how long a step is.
    fn settle(&mut self) -> Result<(), String> {
        let all = self.of.values().chain([&self.unnamed]);
        let gaps = all.clone().flat_map(|values| {
            values.keys().zip(values.keys().skip(1)).map(|(one, next)| next - one)
        });
        let (Some(step), Some(first), Some(last)) = (
            gaps.min().filter(|step| *step > 0),
            all.clone().flat_map(|values| values.keys().next()).min(),
            all.clone().flat_map(|values| values.keys().next_back()).max(),
        ) else {
            return Err(
                "it has no two points of one series: nothing was measured, or the time is \
                        too short for its step"
                    .to_owned(),
            );
        };
        (self.begin, self.end, self.step) = (first.saturating_sub(step), *last, step);
        Ok(())
    }

    fn values(&self, service: &ServiceId) -> Option<&BTreeMap<u64, f64>> {
        let own = self.of.get(service);
        own.or_else(|| Some(&self.unnamed).filter(|values| !values.is_empty()))
    }

    /// Whether it has a series of a service.
    pub(super) fn has(&self, service: &ServiceId) -> bool {
        self.values(service).is_some()
    }

    /// Whether it does not say of which service it is.
    pub(super) fn is_unnamed(&self) -> bool {
        self.of.is_empty()
    }

    /// Of which services it has a series, in words.
    pub(super) fn named(&self) -> String {
        if self.of.is_empty() {
            return "its series have no label `service`".to_owned();
        }
        let names: Vec<String> = self.of.keys().map(ToString::to_string).collect();
        format!("it has those of {}", names.join(", "))
    }

    /// A service's load second by second; where nothing was measured there was none.
    pub(super) fn of(&self, service: &ServiceId) -> impl Iterator<Item = f64> {
        let values = self.values(service);
        (self.begin..self.end).map(move |second| {
            // A point is of the step that ends with it. They need not be on a grid.
            let within = second + 1..=second + self.step;
            let point = values.and_then(|values| values.range(within).next());
            point.map_or(0.0, |(_, value)| *value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(series: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#)
    }

    fn load(text: &str, name: &str) -> String {
        let load = Load::parse(text).unwrap();
        let values: Vec<String> =
            load.of(&ServiceId::new("default", name)).map(|value| value.to_string()).collect();
        values.join(" ")
    }

    #[test]
    fn a_value_is_of_the_step_that_ends_with_it() {
        let shop = r#"{"metric":{"service":"shop"},"values":[[100,"1"],[102,"2.5"],[108,"NaN"],[110,"4"]]}"#;
        let cart =
            r#"{"metric":{"service_name":"cart","namespace_name":"default"},"values":[[102,"7"]]}"#;
        let text = answer(&format!("{shop},{cart}"));
        assert_eq!(load(&text, "shop"), "1 1 2.5 2.5 0 0 0 0 0 0 4 4");
        assert_eq!(load(&text, "cart"), "0 0 7 7 0 0 0 0 0 0 0 0");
        let shop = r#"{"metric":{"service":"shop","revision":"b"},"values":[[100,"1"]]}"#;
        let both = answer(&format!(
            r#"{shop},{{"metric":{{"service":"shop","revision":"a"}},"values":[[100,"2"],[101,"3"]]}}"#
        ));
        assert_eq!(load(&both, "shop"), "3 3", "revisions add up");
    }

    #[test]
    fn what_is_no_load_says_what_to_do() {
        for (text, expected) in [
            ("", "this is no answer of Prometheus'"),
            (r#"{"status":"error","error":"bad query"}"#, "Prometheus says error: bad query"),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
                "a vector is no load over time: ask /api/v1/query_range",
            ),
            (&answer(""), "it has no two points of one series"),
            (&answer(r#"{"metric":{},"values":[[1,"one"],[2,"2"]]}"#), "\"one\": invalid float"),
        ] {
            let problem = Load::parse(text).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }
}
