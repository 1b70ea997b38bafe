//! Replays recorded decisions of Knative Serving's own code: every file below `tests/oracle` and,
//! if set, below `$TIDEGATE_ORACLE` (same layout).
#![expect(clippy::unwrap_used, reason = "a malformed data file is to stop the test")]

mod kpa;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidegate::autoscaler::{MaxWindow, Sample, Scaler, Window, bounds, num_activators};
use tidegate::model::{Aggregation, Metric, ScalingSpec};

const FOLDERS: [&str; 5] = ["autoscaler", "window", "misc", "multiscaler", "kpa"];

/// Kinds that are replayed.
const REPLAYED: [&str; 7] =
    ["autoscaler", "window", "multiscaler", "num-activators", "bounds", "kpa-scale", "kpa-trace"];

/// Kinds that are not replayed here, and why.
const SKIPPED: [(&str, &str); 2] = [
    ("resolve", "resolution of settings: replayed by the test of `config`"),
    ("sample-size", "nothing is scraped: the proxy is always in the path and sees every request"),
];

/// t = 0 of the data: an even Unix second.
const EPOCH_S: f64 = 946_684_800.0;

fn time(t: f64) -> Duration {
    let micros = ((EPOCH_S + t) * 1e6).round();
    Duration::from_micros(micros as u64)
}

fn f(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is not a number in {value}"))
}

fn seconds(value: &Value, key: &str) -> Duration {
    Duration::from_secs_f64(f(value, key))
}

fn u(value: &Value, key: &str) -> u32 {
    u32::try_from(value[key].as_i64().unwrap_or_else(|| panic!("{key} in {value}"))).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn aggregation(name: &Value) -> Aggregation {
    match name.as_str().unwrap() {
        "linear" => Aggregation::Linear,
        "weighted-exponential" => Aggregation::WeightedExponential,
        other => panic!("unknown aggregation {other}"),
    }
}

fn spec(config: &Value) -> ScalingSpec {
    assert_eq!(config["scraped"] == false, f(config, "target_burst_capacity") == -1.0);
    ScalingSpec {
        metric: match config["metric"].as_str().unwrap() {
            "concurrency" => Metric::Concurrency,
            "rps" => Metric::Rps,
            other => panic!("unknown metric {other}"),
        },
        aggregation: aggregation(&config["aggregation"]),
        target_value: f(config, "target_value"),
        total_value: f(config, "total_value"),
        target_burst_capacity: f(config, "target_burst_capacity"),
        activator_capacity: f(config, "activator_capacity"),
        max_scale_up_rate: f(config, "max_scale_up_rate"),
        max_scale_down_rate: f(config, "max_scale_down_rate"),
        panic_threshold: f(config, "panic_threshold"),
        stable_window: seconds(config, "stable_window_s"),
        panic_window: seconds(config, "panic_window_s"),
        scale_down_delay: seconds(config, "scale_down_delay_s"),
        activation_scale: Some(u(config, "activation_scale")).filter(|scale| *scale > 0),
        initial_scale: u(config, "initial_scale"),
        min_scale: u(config, "min_scale"),
        max_scale: Some(u(config, "max_scale")).filter(|scale| *scale > 0),
        reachable: config["reachable"].as_bool().unwrap(),
        ..ScalingSpec::default()
    }
}

/// The differences of one case; empty when it agrees.
struct Report {
    case: String,
    cases: usize,
    /// Rows about objects that do not exist here, by what of them.
    objects: BTreeMap<&'static str, usize>,
    differences: String,
}

impl Report {
    fn check<T: PartialEq + std::fmt::Debug>(
        &mut self,
        at: impl std::fmt::Display,
        got: T,
        want: T,
    ) {
        if got != want {
            writeln!(self.differences, "{}: {at}: got {got:?}, want {want:?}", self.case).unwrap();
        }
    }

    /// Part of a row is about an object that does not exist here.
    fn object(&mut self, what: &'static str) {
        *self.objects.entry(what).or_default() += 1;
    }

    fn close(&mut self, at: impl std::fmt::Display, got: f64, want: f64, tolerance: f64) {
        if (got - want).abs() > tolerance {
            writeln!(self.differences, "{}: {at}: got {got}, want {want}", self.case).unwrap();
        }
    }
}

fn tolerance(aggregation: Aggregation, want: f64) -> f64 {
    match aggregation {
        // Rounded to six decimals; half of the last one for sums made in another order.
        Aggregation::Linear => 1e-6 + 1e-9,
        Aggregation::WeightedExponential => 1e-9 * want.abs() + f64::MIN_POSITIVE,
    }
}

fn window(doc: &Value, report: &mut Report) {
    let length = seconds(doc, "window_s");
    report.cases += 1;
    if doc["algorithm"] == "max" {
        let mut window = MaxWindow::new(length);
        for op in list(doc, "ops") {
            match op["op"].as_str().unwrap() {
                "record" => window.record(time(f(op, "t")), u(op, "v")),
                "read" => report.check(&op["t"], window.max(), u(op, "result")),
                other => panic!("unknown op {other}"),
            }
        }
        return;
    }
    let aggregation = aggregation(&doc["algorithm"]);
    let mut window = Window::new(aggregation, length, seconds(doc, "granularity_s"));
    for op in list(doc, "ops") {
        let now = time(f(op, "t"));
        match op["op"].as_str().unwrap() {
            "record" => window.record(now, f(op, "v")),
            "resize" => window.resize(seconds(op, "window_s"), now),
            "read" => {
                let want = f(op, "result");
                report.close(&op["t"], window.average(now), want, tolerance(aggregation, want));
                report.check(&op["t"], Value::from(window.is_empty(now)), op["empty"].clone());
            }
            other => panic!("unknown op {other}"),
        }
    }
}

fn sample(stat: &Value) -> Sample {
    let part = |key: &str| stat.get(key).map_or(0.0, |value| value.as_f64().unwrap());
    Sample {
        concurrency: part("concurrency") - part("proxied_concurrency"),
        rps: part("rps") - part("proxied_rps"),
    }
}

/// What happens up to `t`, in the data's order: updates, ready counts, stats.
fn upto<'a>(
    events: &mut std::iter::Peekable<std::slice::Iter<'a, Value>>,
    t: f64,
) -> Vec<&'a Value> {
    std::iter::from_fn(|| events.next_if(|event| f(event, "t") <= t)).collect()
}

/// Feeds one scaler by hand, so that the averages and the decider's state can be compared too.
fn autoscaler(doc: &Value, report: &mut Report) {
    report.cases += 1;
    let mut config = spec(&doc["config"]);
    let mut updates = list(doc, "updates").iter().peekable();
    let mut readies = list(doc, "ready").iter().peekable();
    let mut stats = list(doc, "stats").iter().peekable();
    let ready0 = u(readies.peek().unwrap(), "pods");
    let mut scaler = Scaler::new(config.clone(), None, ready0, time(0.0));
    let mut ready = Some(ready0);
    for want in list(doc, "decisions") {
        let t = f(want, "t");
        let now = time(t);
        // Each source is in order; a resize and a record at different times do not commute.
        for update in upto(&mut updates, t) {
            for stat in upto(&mut stats, f(update, "t").next_down()) {
                scaler.record(time(f(stat, "t")), sample(stat));
            }
            config = spec(&update["config"]);
            scaler.update(config.clone(), time(f(update, "t")));
        }
        for count in upto(&mut readies, t) {
            ready = u32::try_from(count["pods"].as_i64().unwrap()).ok();
        }
        for stat in upto(&mut stats, t) {
            scaler.record(time(f(stat, "t")), sample(stat));
        }
        let outcome = scaler.tick(ready, now).outcome;
        report.check(t, Value::from(outcome.is_some()), want["scale_valid"].clone());
        report.check(t, Value::from(scaler.decider().panicking()), want["panicking"].clone());
        report.check(t, scaler.decider().panic_floor(), u(want, "max_panic_pods"));
        if let Some(ready) = ready {
            report.check(t, ready, u(want, "ready"));
            report.check(t, num_activators(ready, &config), u(want, "activators"));
        }
        if let Some(averages) = scaler.averages(now)
            && want.get("stable").is_some()
        {
            for (got, key) in [(averages.stable, "stable"), (averages.panic, "panic")] {
                let want = f(want, key);
                report.close(t, got, want, tolerance(config.aggregation, want));
            }
        }
        if let Some(outcome) = outcome {
            report.check(t, outcome.desired, u(want, "desired"));
            let bounded = bounds(outcome.desired.into(), config.min_scale, config.max_scale);
            report.check(t, Value::from(bounded), want["bounded"].clone());
            report.check(t, Value::from(outcome.excess_burst), want["ebc"].clone());
            let explained = outcome.raw == outcome.desired || outcome.clamps.iter().count() > 0;
            report.check(t, explained, true);
        }
    }
    assert!(updates.next().is_none(), "{}: an update after the last decision", report.case);
}

fn multiscaler(doc: &Value, report: &mut Report) {
    report.cases += 1;
    let mut ready = u(doc, "ready0");
    let mut scaler = Scaler::new(spec(&doc["config"]), None, ready, time(0.0));
    let (mut statuses, mut informs) = (Vec::new(), Vec::new());
    let mut ops = list(doc, "ops").iter().peekable();
    let entry = |scaler: &Scaler, t: f64| {
        let status = scaler.status();
        (t, status.desired.map_or(-1, i64::from), status.excess_burst)
    };
    let mut tick = |scaler: &mut Scaler, ready: u32, t: f64, tick: bool| {
        if tick && scaler.tick(Some(ready), time(t)).inform {
            informs.push(entry(scaler, t));
        }
        let now = entry(scaler, t);
        if statuses.last().is_none_or(|(_, d, e)| (*d, *e) != (now.1, now.2)) {
            statuses.push(now);
        }
    };
    tick(&mut scaler, ready, 0.0, false);
    let last = list(doc, "ops").last().map_or(0.0, |op| f(op, "t"));
    let mut next_tick = 2.0;
    while next_tick <= last + 4.0 {
        for op in upto(&mut ops, next_tick) {
            let t = f(op, "t");
            match op["op"].as_str().unwrap() {
                "ready" => ready = u(op, "pods"),
                "update" => scaler.update(spec(&op["config"]), time(t)),
                "stat" => {
                    scaler.record(time(t), sample(op));
                    if scaler.wants_poke(sample(op).concurrency) {
                        tick(&mut scaler, ready, t, true);
                    }
                }
                other => panic!("unknown op {other}"),
            }
        }
        tick(&mut scaler, ready, next_tick, true);
        next_tick += 2.0;
    }
    let wanted = |key: &str| -> Vec<(f64, i64, i64)> {
        let part = |v: &Value, key: &str| v[key].as_i64().unwrap();
        list(doc, key).iter().map(|v| (f(v, "t"), part(v, "desired"), part(v, "ebc"))).collect()
    };
    report.check("status", statuses, wanted("status"));
    report.check("informs", informs, wanted("informs"));
}

fn num_activators_rows(doc: &Value, report: &mut Report) {
    for row in list(doc, "rows") {
        report.cases += 1;
        let spec = ScalingSpec {
            total_value: f(row, "total_value"),
            target_burst_capacity: f(row, "target_burst_capacity"),
            activator_capacity: f(row, "activator_capacity"),
            ..ScalingSpec::default()
        };
        report.check(row, num_activators(u(row, "ready"), &spec), u(row, "activators"));
    }
}

fn bounds_rows(doc: &Value, report: &mut Report) {
    for row in list(doc, "rows") {
        report.cases += 1;
        let got = bounds(row["x"].as_i64().unwrap(), u(row, "min"), Some(u(row, "max")));
        report.check(row, Value::from(got), row["result"].clone());
    }
}

/// Data files in a folder and those below it, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every file of one root; number of cases by kind, and of rows about objects by what of them.
fn replay(root: &Path) -> (BTreeMap<String, usize>, BTreeMap<&'static str, usize>) {
    let (mut counts, mut all_objects) = (BTreeMap::new(), BTreeMap::new());
    let mut differences = String::new();
    let folders = FOLDERS.iter().map(|folder| root.join(folder));
    let files = folders.filter(|folder| folder.is_dir()).flat_map(|folder| {
        let files = files(&folder);
        assert!(!files.is_empty(), "no data file below {}", folder.display());
        files
    });
    for path in files {
        let doc: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let kind = doc["kind"].as_str().unwrap().to_owned();
        let case = format!("{kind}/{}", doc["name"].as_str().unwrap());
        let objects = std::mem::take(&mut all_objects);
        let mut report = Report { case, cases: 0, objects, differences: String::new() };
        match kind.as_str() {
            "window" => window(&doc, &mut report),
            "autoscaler" => autoscaler(&doc, &mut report),
            "multiscaler" => multiscaler(&doc, &mut report),
            "num-activators" => num_activators_rows(&doc, &mut report),
            "bounds" => bounds_rows(&doc, &mut report),
            "kpa-scale" => kpa::scale_rows(&doc, &mut report),
            "kpa-trace" => kpa::trace(&doc, &mut report),
            other => {
                let known = SKIPPED.iter().any(|(kind, _)| *kind == other);
                assert!(known, "{}: unknown kind {other}", path.display());
                continue;
            }
        }
        assert!(report.cases > 0, "{}: no case in it", path.display());
        *counts.entry(kind).or_default() += report.cases;
        all_objects = report.objects;
        differences.push_str(&report.differences);
    }
    let first: Vec<&str> = differences.lines().take(40).collect();
    assert!(first.is_empty(), "{} differences:\n{}", differences.lines().count(), first.join("\n"));
    (counts, all_objects)
}

#[test]
fn recorded_decisions_are_reproduced() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let given = std::env::var_os("TIDEGATE_ORACLE").map(PathBuf::from);
    for (root, whole) in std::iter::once((own, true)).chain(given.map(|root| (root, false))) {
        println!("{}", root.display());
        let (counts, objects) = replay(&root);
        for kind in REPLAYED {
            let count = counts.get(kind).copied().unwrap_or_default();
            println!("  {kind}: {count} cases");
            assert!(!whole || count > 0, "no case of kind {kind} below {}", root.display());
        }
        assert!(counts.values().sum::<usize>() > 0, "no case at all below {}", root.display());
        for (what, reason) in kpa::OBJECTS {
            let count = objects.get(what).copied().unwrap_or_default();
            println!("  {count} rows about {what}: {reason}");
            assert!(!whole || count > 0, "no row about {what} below {}", root.display());
        }
    }
    for (kind, reason) in SKIPPED {
        println!("  skipped {kind}: {reason}");
    }
}
