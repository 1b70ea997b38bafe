//! What watches tidegate – scrape jobs, alerts, the dashboard – held against a Prometheus that
//! scrapes a running one. `UPDATE_EXPECT=1 cargo test --test e2e_monitoring` writes the dashboard anew.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/https.rs"]
mod https;
#[path = "../support/prometheus.rs"]
mod prometheus;
#[path = "../support/serving.rs"]
mod serving;

mod alerts;
mod dashboard;
mod panels;
mod watched;

use std::collections::BTreeSet;
use std::time::Duration;

use expect_test::expect_file;
use panels::Home;
use serving::repository;
use tokio::time::Instant;

use watched::Watched;

fn read(file: &str) -> String {
    std::fs::read_to_string(repository(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Series of proxies that know of each other are those of a cluster only.
const OF_CLUSTERS: &str = "src/app/kubernetes/peers.rs";

#[test]
fn the_dashboard_is_made_from_the_table() {
    expect_file![repository("deploy/grafana/tidegate.json")].assert_eq(&dashboard::dashboard());
}

#[test]
fn every_panel_says_what_it_shows() {
    let mut titles = BTreeSet::new();
    for row in panels::ROWS {
        for panel in row.panels {
            assert!(titles.insert(panel.title), "two panels are called {}", panel.title);
            assert!(panel.help.ends_with('.'), "{}: {}", panel.title, panel.help);
            assert!(!panel.targets.is_empty(), "{}", panel.title);
        }
    }
    for (panel, target) in dashboard::targets() {
        let expression = dashboard::with_variables(target.expression);
        // Nothing is left of the table's own short forms.
        for short in ["{S", "{R", "{J"] {
            assert!(!expression.contains(short), "{panel}: {expression}");
        }
    }
}

/// All that is drawn or alerted on, asked of a Prometheus that scrapes a tidegate with load, errors
/// and cold starts.
#[tokio::test]
async fn every_expression_has_data() {
    let watched = Watched::start();
    let mut missing: BTreeSet<(String, String)> = BTreeSet::new();
    let mut elsewhere = BTreeSet::new();
    for (panel, target) in dashboard::targets() {
        if target.home == Home::Kubernetes {
            elsewhere.extend(alerts::metrics(target.expression));
            continue;
        }
        // As Grafana does it: every value of each variable, and a range of some scrapes.
        let mut expression = dashboard::with_variables(target.expression);
        for (variable, value) in [
            ("$job", "tidegate"),
            ("$namespace", "default"),
            ("$service", "hello|one|none|broken"),
            ("$revision", "hello-00001|one-00001|none-00001|broken-00001"),
            ("$__rate_interval", "1m"),
        ] {
            expression = expression.replace(variable, value);
        }
        missing.insert((panel.to_owned(), expression));
    }
    for alert in alerts::all() {
        for metric in alerts::metrics(&alert.expr) {
            if !elsewhere.contains(&metric) {
                missing.insert((alert.alert.clone(), metric));
            }
        }
    }
    assert!(missing.len() > 50, "{missing:#?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        watched.load().await;
        missing.retain(|(_, expression)| {
            // A number: what was divided by nothing is none.
            let series = watched.prometheus.query(expression).unwrap_or_default();
            !series.iter().any(|one| one["value"][1] != "NaN")
        });
        if missing.is_empty() {
            break;
        }
        let log = watched.prometheus.log();
        assert!(Instant::now() < deadline, "no data for {missing:#?}\n{log}");
    }
    // The variables find what there is to choose.
    let values = |label: &str| watched.prometheus.api(&format!("label/{label}/values")).unwrap();
    for (label, value) in [("job", "tidegate"), ("namespace", "default"), ("service", "hello")] {
        let found = values(label);
        assert!(found["data"].as_array().unwrap().iter().any(|v| v == value), "{found}");
    }
    watched.rules_are_well();
    let source = read(OF_CLUSTERS);
    for metric in elsewhere {
        let family = metric.strip_suffix("_total").unwrap_or(&metric);
        assert!(source.contains(&format!("\"{family}\"")), "{OF_CLUSTERS} has no {family}");
    }
}
