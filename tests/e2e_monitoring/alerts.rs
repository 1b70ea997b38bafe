//! The alerts: whole, tried by `promtool`, and explained.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::prometheus::promtool;
use super::read;
use super::serving::repository;

const FOLDER: &str = "deploy/prometheus";
const DOCS: &str = "docs/monitoring.md";

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Alert>,
}

/// One rule.
#[derive(Deserialize)]
pub(crate) struct Alert {
    pub(crate) alert: String,
    pub(crate) expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// Every alert.
pub(crate) fn all() -> Vec<Alert> {
    let rules: Rules = serde_saphyr::from_str(&read(&format!("{FOLDER}/alerts.yaml"))).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// Names of the metrics in an expression.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_metric = |word: &&str| {
        *word == "up" || word.starts_with("tidegate_") || word.starts_with("process_")
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

#[test]
fn metrics_are_found_in_an_expression() {
    let found = metrics("sum by (job) (rate(tidegate_a_total{code=~\"5..\"}[5m])) / up > 0");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["tidegate_a_total", "up"]);
}

#[test]
fn promtool_is_content_with_rules_jobs_and_their_tests() {
    let folder = repository(FOLDER);
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["check", "config", "scrape.yaml"],
        ["test", "rules", "alerts.test.yaml"],
    ] {
        let (content, said) = promtool(&folder, &arguments, "");
        assert!(content && said.contains("SUCCESS"), "promtool {arguments:?}: {said}");
    }
}

/// Debian's Prometheus is built without Kubernetes' service discovery; the rest of the job it can
/// read, and the names are those of the Service.
#[test]
fn the_job_of_a_cluster_fits_the_service() {
    let text = read(&format!("{FOLDER}/scrape-kubernetes.yaml"));
    let discovery = "    kubernetes_sd_configs:\n      - role: endpointslice\n        \
                     namespaces:\n          names: [tidegate-system]\n";
    let plain = "    static_configs:\n      - targets: [127.0.0.1:9095]\n";
    assert!(text.contains(discovery), "{text}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("scrape.yaml"), text.replace(discovery, plain)).unwrap();
    let alerts = read(&format!("{FOLDER}/alerts.yaml"));
    std::fs::write(folder.path().join("alerts.yaml"), alerts).unwrap();
    let (content, said) = promtool(folder.path(), &["check", "config", "scrape.yaml"], "");
    assert!(content, "{said}");
    let services = read("deploy/kubernetes/services.yaml");
    let service = services.split("---\n").find(|one| one.contains("name: tidegate-metrics\n"));
    let service = service.expect("a Service tidegate-metrics");
    assert!(service.contains("namespace: tidegate-system\n"), "{service}");
    assert!(service.contains("- name: metrics\n"), "{service}");
    assert!(text.contains("regex: tidegate-metrics;metrics\n"), "{text}");
    // What a target is labelled with must not take the place of whose requests they are.
    assert!(text.contains("honor_labels: true\n"));
    let monitor = read("deploy/kubernetes/monitoring/service-monitor.yaml");
    assert!(monitor.contains("honorLabels: true\n"), "{monitor}");
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let docs = read(DOCS);
    let alerts = all();
    assert!(alerts.len() > 15);
    for alert in &alerts {
        let name = &alert.alert;
        let text = |key: &str| {
            let text = alert.annotations.get(key);
            text.unwrap_or_else(|| panic!("{name} has no {key}")).as_str()
        };
        assert!(!text("summary").is_empty() && !text("summary").ends_with('.'), "{name}");
        assert!(text("description").ends_with('.'), "{name}");
        assert_eq!(text("runbook_url"), format!("{DOCS}#{}", name.to_lowercase()));
        assert!(docs.contains(&format!("\n### {name}\n")), "{DOCS} has no heading {name}");
        let severity = alert.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("page" | "warning")), "{name}: {severity:?}");
    }
    let known: BTreeSet<&str> = alerts.iter().map(|alert| alert.alert.as_str()).collect();
    for name in docs.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(known.contains(name), "{DOCS}: no alert is called {name}");
    }
}

#[derive(Deserialize)]
struct Tests {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    promql_expr_test: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    expr: String,
    exp_samples: Vec<serde_json::Value>,
}

#[test]
fn every_alert_is_tried_firing_and_silent() {
    let text = read(&format!("{FOLDER}/alerts.test.yaml"));
    let tests: Tests = serde_saphyr::from_str(&text).unwrap();
    let mut tried: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for question in tests.tests.into_iter().flat_map(|case| case.promql_expr_test) {
        let fires = usize::from(!question.exp_samples.is_empty());
        tried.entry(question.expr).or_default()[fires] += 1;
    }
    for Alert { alert, .. } in all() {
        let asked = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        let [silent, firing] = tried.remove(&asked).unwrap_or_default();
        assert!(silent > 0 && firing > 0, "{alert}: {silent} silent, {firing} firing cases");
    }
    assert!(tried.is_empty(), "these are no alerts: {:?}", tried.keys());
}
