use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{EndpointId, Metric, Reason, RevisionId, ServiceId};
use crate::stats::{Clock, Pokes, RevisionStats};

/// A revision with traffic of every sort.
fn revision(name: &str) -> RevisionMetrics {
    let id = RevisionId::new("default", format!("{name}-00001"));
    let stats = RevisionStats::new(id.clone(), Clock::start(), 2, Arc::new(Pokes::default()));
    for (worker, millis, status) in
        [(0, 3, Some(200)), (1, 30, Some(200)), (0, 700, Some(503)), (1, 20_000, None)]
    {
        let arrived = stats.clock().now();
        stats.arrive(worker, arrived);
        stats.leave(worker, arrived, arrived.plus(Duration::from_millis(millis)), status);
    }
    stats.arrive(0, stats.clock().now());
    stats.waited(Duration::from_millis(40));
    stats.cold_started(Duration::from_millis(90));
    stats.refused(Reason::QueueFull);
    stats.set_waiting(1);
    RevisionMetrics {
        revision: id,
        service: Some(ServiceId::new("default", name)),
        configuration: name.into(),
        stats,
        desired: Some(5),
        requested: Some(3),
        ready: 2,
        starting: 1,
        stopping: 0,
        autoscaler: Some(AutoscalerMetrics {
            metric: Metric::Concurrency,
            stable: 1.5,
            panic: 2.25,
            target: 70.0,
            panic_mode: true,
            excess_burst_capacity: -12.5,
        }),
        endpoints: vec![EndpointMetrics {
            id: EndpointId::new(format!("{name}-00001-1")),
            in_flight: 1,
        }],
        cold_start_phases: vec![
            ("spawn", Duration::from_millis(15)),
            ("ready", Duration::from_millis(75)),
        ],
    }
}

fn input(revisions: Vec<RevisionMetrics>) -> MetricsInput {
    MetricsInput {
        instance: "host-1".into(),
        revisions,
        refused: vec![(Reason::NoRoute, 4)],
        connections: vec![ConnectionMetrics { listener: "http".into(), open: 2, accepted: 9 }],
        services: 1,
        ..MetricsInput::default()
    }
}

/// A family as read back: type and series by name with labels.
#[derive(Debug, Default)]
struct Read {
    kind: String,
    help: bool,
    series: BTreeMap<String, f64>,
}

/// Reads either format strictly enough to find a broken one.
fn read(text: &str, format: Format) -> BTreeMap<String, Read> {
    let mut families: BTreeMap<String, Read> = BTreeMap::new();
    let mut current = String::new();
    let mut lines: Vec<_> = text.split('\n').collect();
    assert_eq!(lines.pop(), Some(""), "ends with a line feed");
    if format == Format::OpenMetrics {
        assert_eq!(lines.pop(), Some("# EOF"));
    }
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) = (words.next(), words.next().unwrap(), words.next().unwrap());
            let family = families.entry(name.to_owned()).or_default();
            match what {
                Some("HELP") => family.help = true,
                Some("TYPE") => {
                    assert!(family.kind.is_empty(), "two types: {line}");
                    rest.clone_into(&mut family.kind);
                    name.clone_into(&mut current);
                }
                Some("UNIT") => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("unknown comment: {line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let name = series.split('{').next().unwrap();
        let suffix = name.strip_prefix(&*current).unwrap_or_else(|| panic!("{line} in {current}"));
        let family = families.get_mut(&current).unwrap();
        let allowed: &[&str] = match (&*family.kind, format) {
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            ("counter", Format::OpenMetrics) => &["_total"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line} in a {}", family.kind);
        let series = sorted(series);
        let value = value.replace("Inf", "inf").parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(family.series.insert(series, value).is_none(), "twice: {line}");
    }
    for (name, family) in &families {
        assert!(family.help && !family.kind.is_empty() && !family.series.is_empty(), "{name}");
    }
    families
}

/// A series with its labels in the order of their names.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|series| series.split_once('{'))
    else {
        return series.to_owned();
    };
    let mut labels: Vec<_> = labels.split("\",").map(|label| label.trim_end_matches('"')).collect();
    labels.sort_unstable();
    format!("{name}{{{}\"}}", labels.join("\","))
}

fn value(families: &BTreeMap<String, Read>, family: &str, series: &str) -> f64 {
    let family = &families.get(family).unwrap_or_else(|| panic!("no family {family}")).series;
    *family.get(&sorted(series)).unwrap_or_else(|| panic!("no {series} among {:?}", family.keys()))
}

const LABELS: &str = r#"namespace="default",revision="hello-00001""#;
const REQUEST: &str = r#"namespace="default",revision="hello-00001",service="hello""#;

#[test]
fn own_metrics_say_what_was_measured_in_both_formats() {
    for format in [Format::Text, Format::OpenMetrics] {
        let text = format.write(own_families(&input(vec![revision("hello")]))).unwrap();
        let families = read(&text, format);
        let counter = |name: &str| match format {
            Format::Text => format!("{name}_total"),
            Format::OpenMetrics => name.to_owned(),
        };
        let total = |name: &str, labels: &str| {
            value(&families, &counter(name), &format!("{name}_total{{{LABELS},{labels}}}"))
        };
        assert_eq!(total("tidegate_requests", r#"service="hello",code="200""#), 2.0);
        assert_eq!(total("tidegate_requests", r#"service="hello",code="none""#), 1.0);
        assert_eq!(total("tidegate_refused", r#"reason="queue_full""#), 1.0);
        assert_eq!(
            value(
                &families,
                &counter("tidegate_refused"),
                r#"tidegate_refused_total{reason="no_route"}"#
            ),
            4.0
        );
        assert!(
            (total("tidegate_cold_start_phase_seconds", r#"phase="spawn""#) - 0.015).abs() < 1e-9
        );
        let gauge = |name: &str, labels: &str| {
            value(&families, name, &format!("{name}{{{LABELS}{labels}}}"))
        };
        assert_eq!(gauge("tidegate_request_concurrency", r#",service="hello""#), 1.0);
        assert_eq!(gauge("tidegate_queue_depth", r#",service="hello""#), 1.0);
        assert_eq!(gauge("tidegate_revision_replicas", r#",state="desired""#), 3.0);
        assert_eq!(gauge("tidegate_autoscaler_excess_burst_capacity", ""), -12.5);
        assert_eq!(gauge("tidegate_autoscaler_panic_mode", ""), 1.0);
        let endpoint = r#",endpoint="hello-00001-1""#;
        assert_eq!(gauge("tidegate_endpoint_in_flight", endpoint), 1.0);
        let duration = |suffix: &str, labels: &str| {
            let name = "tidegate_request_duration_seconds";
            value(&families, name, &format!("{name}_{suffix}{{{REQUEST}{labels}}}"))
        };
        for (bound, count) in
            [("0.005", 1.0), ("0.1", 2.0), ("1.0", 3.0), ("10.0", 3.0), ("+Inf", 4.0)]
        {
            assert_eq!(duration("bucket", &format!(r#",le="{bound}""#)), count, "{bound}");
        }
        assert_eq!(duration("count", ""), 4.0);
        assert!((duration("sum", "") - 20.733).abs() < 1e-6);
        assert!(families.contains_key("process_resident_memory_bytes"));
        let version =
            concat!(r#"tidegate_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#);
        assert_eq!(value(&families, "tidegate_build_info", version), 1.0);
    }
}

#[test]
fn both_formats_have_the_same_series() {
    let families = own_families(&input(vec![revision("a"), revision("b")]));
    let series = |format: Format| -> BTreeSet<String> {
        let text = format.write(families.clone()).unwrap();
        read(&text, format).into_values().flat_map(|family| family.series.into_keys()).collect()
    };
    let (text, open) = (series(Format::Text), series(Format::OpenMetrics));
    assert!(text.len() > 50);
    let different: Vec<_> = text.symmetric_difference(&open).take(5).collect();
    assert!(different.is_empty(), "{different:?}");
}

#[test]
fn classic_names_are_spelled_as_dashboards_spell_them() {
    for format in [Format::Text, Format::OpenMetrics] {
        let text = format.write(classic_families(&input(vec![revision("hello")]))).unwrap();
        let families = read(&text, format);
        let labels = r#"namespace_name="default",service_name="hello",configuration_name="hello",revision_name="hello-00001""#;
        let activator = format!(r#"{labels},pod_name="host-1",container_name="activator""#);
        let count = format!(
            r#"activator_request_count{{{activator},response_code="503",response_code_class="5xx"}}"#
        );
        assert_eq!(value(&families, "activator_request_count", &count), 1.0);
        for (bound, count) in [("5.0", 1.0), ("700.0", 3.0), ("20000.0", 4.0), ("100000.0", 4.0)] {
            let name = "activator_request_latencies";
            let bucket = format!(r#"{name}_bucket{{{activator},le="{bound}"}}"#);
            assert_eq!(value(&families, name, &bucket), count, "{bound}");
        }
        for (name, expected) in [
            ("autoscaler_desired_pods", 5.0),
            ("autoscaler_requested_pods", 3.0),
            ("autoscaler_actual_pods", 2.0),
            ("autoscaler_not_ready_pods", 1.0),
            ("autoscaler_target_concurrency_per_pod", 70.0),
            ("autoscaler_panic_mode", 1.0),
        ] {
            assert_eq!(value(&families, name, &format!("{name}{{{labels}}}")), expected, "{name}");
        }
        assert!(!families.contains_key("autoscaler_stable_requests_per_second"));
    }
}

#[test]
fn a_sidecar_has_queue_proxys_names() {
    let revision = revision("hello");
    revision.stats.app_ended(0, Some(200), Duration::from_millis(3));
    revision.stats.app_ended(1, Some(200), Duration::from_millis(30));
    let input = MetricsInput { sidecar: true, ..input(vec![revision]) };
    for format in [Format::Text, Format::OpenMetrics] {
        let families = read(&format.write(classic_families(&input)).unwrap(), format);
        let names: Vec<_> = families.keys().map(String::as_str).collect();
        let expected = [
            "revision_app_request_count",
            "revision_app_request_latencies",
            "revision_queue_depth",
            "revision_request_count",
            "revision_request_latencies",
        ];
        assert_eq!(names, expected);
        let labels = r#"namespace_name="default",service_name="hello",configuration_name="hello",revision_name="hello-00001",pod_name="host-1",container_name="queue-proxy""#;
        for (family, code, class, expected) in [
            ("revision_request_count", "503", "5xx", 1.0),
            ("revision_request_count", "200", "2xx", 2.0),
            ("revision_app_request_count", "200", "2xx", 2.0),
        ] {
            let series = format!(
                r#"{family}{{{labels},response_code="{code}",response_code_class="{class}",route_tag="kn:disabled"}}"#
            );
            assert_eq!(value(&families, family, &series), expected, "{series}");
        }
        let depth = format!("revision_queue_depth{{{labels}}}");
        assert_eq!(value(&families, "revision_queue_depth", &depth), 1.0);
        for (family, expected) in
            [("revision_request_latencies", 4.0), ("revision_app_request_latencies", 2.0)]
        {
            let count = format!("{family}_count{{{labels}}}");
            assert_eq!(value(&families, family, &count), expected, "{family}");
        }
    }
}

#[test]
fn revisions_without_traffic_have_no_series() {
    let mut idle = revision("idle");
    let id = idle.revision.clone();
    idle.stats = RevisionStats::new(id, Clock::start(), 1, Arc::new(Pokes::default()));
    let input = input(vec![idle]);
    for families in [own_families(&input), classic_families(&input)] {
        let text = Format::Text.write(families).unwrap();
        assert!(!text.contains("idle"), "{text}");
    }
}

#[test]
fn label_values_are_escaped() {
    let mut odd = Family::new("tidegate_odd", Kind::Gauge, "Odd.");
    odd.push(&Arc::default(), vec![("label", "a\\b\"c\nd".into())], Value::Whole(1));
    for format in [Format::Text, Format::OpenMetrics] {
        let text = format.write(vec![odd.clone()]).unwrap();
        assert!(text.contains("\ntidegate_odd{label=\"a\\\\b\\\"c\\nd\"} 1\n"), "{text}");
    }
}

proptest::proptest! {
    /// Whatever a label's value is, both writers spell it alike and it can be read back.
    #[test]
    fn any_label_value_survives(value in ".*") {
        let mut odd = Family::new("tidegate_odd", Kind::Gauge, "Odd.");
        odd.push(&Arc::default(), vec![("label", value.as_str().into())], Value::Whole(1));
        let text = Format::Text.write(vec![odd.clone()]).unwrap();
        let open = Format::OpenMetrics.write(vec![odd]).unwrap();
        proptest::prop_assert_eq!(text.clone() + "# EOF\n", open);
        let line = text.split('\n').nth(2).unwrap();
        let escaped = line.strip_prefix("tidegate_odd{label=\"").unwrap().strip_suffix("\"} 1").unwrap();
        let mut read = String::new();
        let mut letters = escaped.chars();
        while let Some(letter) = letters.next() {
            read.push(match (letter, letter == '\\') {
                (_, true) => match letters.next().unwrap() { 'n' => '\n', other => other },
                (letter, false) => letter,
            });
        }
        proptest::prop_assert_eq!(read, value);
    }
}

#[test]
fn numbers_are_spelled_as_the_format_wants() {
    let mut odd = Family::new("tidegate_odd", Kind::Gauge, "Odd.");
    for (label, number) in
        [("a", f64::INFINITY), ("b", f64::NEG_INFINITY), ("c", f64::NAN), ("d", 1e-9), ("e", 1e21)]
    {
        odd.push(&Arc::default(), vec![("is", label.into())], Value::Real(number));
    }
    let text = Format::Text.write(vec![odd]).unwrap();
    for (label, number) in [
        ("a", "+Inf"),
        ("b", "-Inf"),
        ("c", "NaN"),
        ("d", "0.000000001"),
        ("e", "1000000000000000000000"),
    ] {
        assert!(text.contains(&format!("{{is=\"{label}\"}} {number}\n")), "{text}");
    }
}

#[test]
fn the_format_is_negotiated() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for (accept, format) in [
        (None, Format::Text),
        (Some("*/*"), Format::Text),
        (Some("text/html"), Format::Text),
        (Some("application/openmetrics-text"), Format::OpenMetrics),
        (Some(prometheus), Format::OpenMetrics),
        (Some("text/plain, application/openmetrics-text;q=0.1"), Format::Text),
        (Some("application/openmetrics-text;q=0, text/plain;q=0.1"), Format::Text),
    ] {
        assert_eq!(Format::negotiate(accept), format, "{accept:?}");
    }
}

/// The budget: 1,000 active revisions are under 5 MB and 50 ms a scrape.
#[test]
fn a_thousand_revisions_stay_within_the_budget() {
    let names = (0..1000).map(|number| format!("service-{number:04}"));
    let input = input(names.map(|name| revision(&name)).collect());
    for format in [Format::Text, Format::OpenMetrics] {
        let start = tokio::time::Instant::now();
        let text = format.write(own_families(&input)).unwrap();
        let (bytes, took) = (text.len(), start.elapsed());
        println!("1,000 revisions, {format:?}: {bytes} bytes in {took:?}");
        assert!(bytes < 5_000_000, "{format:?}: {bytes} bytes");
        let per_revision =
            text.lines().filter(|line| line.contains("\"service-0500-00001\"")).count();
        let histograms = text
            .lines()
            .filter(|line| line.contains("\"service-0500-00001\"") && line.contains("_count{"))
            .count();
        assert_eq!(histograms, 3, "{per_revision} lines");
    }
}
