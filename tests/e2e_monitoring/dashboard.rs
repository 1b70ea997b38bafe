//! The panels as Grafana reads them.

use serde_json::{Value, json};

use super::panels::{Panel, ROWS, Target};

/// Panels in a row of the screen, whose width is 24.
const ACROSS: usize = 3;
const HEIGHT: usize = 8;

/// An expression with the variables of the dashboard in it.
pub(crate) fn with_variables(expression: &str) -> String {
    let revisions = "namespace=~\"$namespace\",revision=~\"$revision\"";
    let mut text = expression.to_owned();
    for (short, long) in [
        ("{S", format!("{{service=~\"$service\",{revisions}")),
        ("{R", format!("{{{revisions}")),
        ("{J", "{job=~\"$job\"".to_owned()),
    ] {
        // Followed by further labels or by the end.
        for end in [",", "}"] {
            text = text.replace(&format!("{short}{end}"), &format!("{long}{end}"));
        }
    }
    text
}

/// All targets with their panel's title.
pub(crate) fn targets() -> impl Iterator<Item = (&'static str, &'static Target)> {
    let panels = ROWS.iter().flat_map(|row| row.panels);
    panels.flat_map(|panel| panel.targets.iter().map(|target| (panel.title, target)))
}

/// The whole dashboard.
pub(crate) fn dashboard() -> String {
    let mut panels = Vec::new();
    let mut ids = 1_usize..;
    let mut next = || ids.next().unwrap_or_default();
    let mut top = 0;
    for row in ROWS {
        panels.push(json!({
            "id": next(),
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "gridPos": {"h": 1, "w": 24, "x": 0, "y": top},
            "panels": [],
        }));
        top += 1;
        for (index, panel) in row.panels.iter().enumerate() {
            let (across, down) = (index % ACROSS, index / ACROSS);
            let width = 24 / ACROSS;
            let place = json!({
                "h": HEIGHT, "w": width, "x": across * width, "y": top + down * HEIGHT,
            });
            panels.push(drawn(panel, next(), &place));
        }
        top += row.panels.len().div_ceil(ACROSS) * HEIGHT;
    }
    let whole = json!({
        "title": "tidegate",
        "uid": "tidegate",
        "description": "Requests, queues, replicas and cold starts of Knative Services that \
                        tidegate serves. Made from tests/e2e_monitoring/panels.rs.",
        "tags": ["tidegate", "knative"],
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    });
    serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn drawn(panel: &Panel, id: usize, place: &Value) -> Value {
    let targets: Vec<Value> = panel
        .targets
        .iter()
        .zip('A'..)
        .map(|(target, letter)| {
            json!({
                "refId": letter.to_string(),
                "datasource": source(),
                "editorMode": "code",
                "expr": with_variables(target.expression),
                "legendFormat": target.legend,
                "range": true,
            })
        })
        .collect();
    json!({
        "id": id,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": source(),
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "color": {"mode": "palette-classic"},
                "custom": {
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": 8,
                    "showPoints": "never",
                    "spanNulls": false,
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    })
}

/// What can be chosen; each from what those before it leave.
fn variables() -> Vec<Value> {
    let series = "tidegate_request_concurrency";
    let chosen = "namespace=~\"$namespace\"";
    let mut list = vec![json!({
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    })];
    for (name, label, values) in [
        ("job", "Job", "label_values(tidegate_build_info, job)".to_owned()),
        ("namespace", "Namespace", format!("label_values({series}, namespace)")),
        ("service", "Service", format!("label_values({series}{{{chosen}}}, service)")),
        (
            "revision",
            "Revision",
            format!("label_values({series}{{{chosen},service=~\"$service\"}}, revision)"),
        ),
    ] {
        list.push(json!({
            "name": name,
            "label": label,
            "type": "query",
            "datasource": source(),
            "definition": values,
            "query": {"query": values, "refId": name},
            "refresh": 2,
            "sort": 1,
            "includeAll": true,
            "multi": true,
            "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
        }));
    }
    list
}
