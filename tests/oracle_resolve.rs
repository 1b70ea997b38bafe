//! Effective autoscaling settings against those that Knative's own code resolved (`kind: resolve`).
//! `TIDEGATE_ORACLE` names a folder with more such cases below `misc/`.

#![expect(clippy::unwrap_used, reason = "a case that cannot be read is a failure")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate::config::scaling::resolve;
use tidegate::config::settings::parse_config_autoscaler;
use tidegate::model::{Aggregation, ContainerConcurrency, Metric, ScalingSpec};

/// Every `resolve*.json` in the repository and below `TIDEGATE_ORACLE`.
fn files() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/misc");
    let more = std::env::var_os("TIDEGATE_ORACLE").map(|folder| Path::new(&folder).join("misc"));
    let mut files = Vec::new();
    for folder in std::iter::once(own).chain(more) {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("resolve") && name.ends_with(".json") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn texts(map: &Value) -> BTreeMap<String, String> {
    let map = map.as_object().into_iter().flatten();
    map.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// What this program resolves, as the oracle writes it.
fn actual(source: &Value) -> BTreeMap<&'static str, Value> {
    let config = parse_config_autoscaler(&texts(&source["configmap"])).unwrap();
    let limit = u32::try_from(source["container_concurrency"].as_u64().unwrap()).unwrap();
    let concurrency = NonZeroU32::new(limit)
        .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost);
    let reachable = source["reachable"].as_bool().unwrap();
    let spec = resolve(&config, &texts(&source["annotations"]), concurrency, reachable, None);
    shown(&spec)
}

fn shown(spec: &ScalingSpec) -> BTreeMap<&'static str, Value> {
    let metric = match spec.metric {
        Metric::Concurrency => "concurrency",
        Metric::Rps => "rps",
    };
    let aggregation = match spec.aggregation {
        Aggregation::Linear => "linear",
        Aggregation::WeightedExponential => "weighted-exponential",
    };
    BTreeMap::from([
        ("metric", metric.into()),
        ("aggregation", aggregation.into()),
        ("target_value", spec.target_value.into()),
        ("total_value", spec.total_value.into()),
        ("target_burst_capacity", spec.target_burst_capacity.into()),
        ("activator_capacity", spec.activator_capacity.into()),
        ("max_scale_up_rate", spec.max_scale_up_rate.into()),
        ("max_scale_down_rate", spec.max_scale_down_rate.into()),
        ("panic_threshold", spec.panic_threshold.into()),
        ("stable_window_s", spec.stable_window.as_secs_f64().into()),
        ("panic_window_s", spec.panic_window.as_secs_f64().into()),
        ("scale_down_delay_s", spec.scale_down_delay.as_secs_f64().into()),
        ("activation_scale", spec.activation_scale.unwrap_or(0).into()),
        ("initial_scale", spec.initial_scale.into()),
        ("min_scale", spec.min_scale.into()),
        ("max_scale", spec.max_scale.unwrap_or(0).into()),
        ("reachable", spec.reachable.into()),
        // Without data there is a decision only with a burst capacity of −1.
        ("scraped", (spec.target_burst_capacity >= 0.0).into()),
    ])
}

/// Numbers are equal whatever their JSON type.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

#[test]
fn resolves_as_knative_does() {
    let mut cases = 0;
    let mut differences = Vec::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let table: Value = serde_json::from_str(&text).unwrap();
        if table["kind"] != "resolve" {
            continue;
        }
        for row in table["rows"].as_array().unwrap() {
            cases += 1;
            let expected = &row["resolved"];
            for (name, value) in actual(&expected["source"]) {
                if !is_equal(&value, &expected[name]) {
                    let (id, expected) = (&row["id"], &expected[name]);
                    differences.push(format!("{id} {name}: {value}, Knative has {expected}"));
                }
            }
        }
    }
    println!("{cases} resolve cases");
    assert!(cases > 0, "no case was found");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
