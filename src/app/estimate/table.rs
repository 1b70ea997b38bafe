//! Estimates as people and programs read them.

use serde_json::{Value, json};

use super::Row;
use crate::model::Metric;

const HEAD: [&str; 9] = [
    "SERVICE",
    "SETTINGS",
    "REPLICA-HOURS",
    "COST",
    "MEAN",
    "MOST",
    "COLD STARTS",
    "CROWDED",
    "LOAD",
];
/// The column that is there only with a price.
const COST: usize = 3;

impl Row {
    fn hours(&self) -> f64 {
        self.estimate.replica_seconds as f64 / 3_600.0
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / (self.estimate.seconds.max(1) as f64)
    }

    /// Which part of the load met more than its replicas take at once, 0 to 1.
    fn crowded(&self) -> f64 {
        let estimate = &self.estimate;
        if estimate.load_seconds > 0.0 {
            estimate.crowded_seconds / estimate.load_seconds
        } else {
            0.0
        }
    }

    fn metric(&self) -> &'static str {
        match self.metric {
            Metric::Concurrency => "concurrency",
            Metric::Rps => "rps",
        }
    }

    fn cells(&self, price: Option<f64>) -> [String; 9] {
        let estimate = &self.estimate;
        let load = self.mean(estimate.load_seconds);
        [
            self.service.to_string(),
            self.settings.clone().unwrap_or_else(|| "as they are".to_owned()),
            format!("{:.2}", self.hours()),
            price.map_or_else(String::new, |price| format!("{:.2}", price * self.hours())),
            format!("{:.2}", self.mean(estimate.replica_seconds as f64)),
            estimate.most.to_string(),
            estimate.cold_starts.to_string(),
            format!("{:.1} %", 100.0 * self.crowded()),
            format!("{load:.2} {}", self.metric()),
        ]
    }
}

/// A line for each.
pub(super) fn table(rows: &[Row], price: Option<f64>) -> String {
    let mut cells = vec![HEAD.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| row.cells(price)));
    let shown = |column: &usize| price.is_some() || *column != COST;
    let columns: Vec<usize> = (0..HEAD.len()).filter(shown).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in &cells {
        let line: Vec<String> = columns
            .iter()
            .map(|column| {
                let (cell, width) = (&row[*column], width(*column));
                // Names to the left, numbers to the right.
                if *column < 2 || *column == HEAD.len() - 1 {
                    format!("{cell:width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The same as an object.
pub(super) fn json(rows: &[Row], price: Option<f64>) -> Value {
    let rows = rows.iter().map(|row| {
        let estimate = &row.estimate;
        json!({
            "service": row.service.to_string(),
            "settings": row.settings,
            "metric": row.metric(),
            "seconds": estimate.seconds,
            "replicaHours": row.hours(),
            "cost": price.map(|price| price * row.hours()),
            "meanReplicas": row.mean(estimate.replica_seconds as f64),
            "mostReplicas": estimate.most,
            "coldStarts": estimate.cold_starts,
            "crowded": row.crowded(),
            "meanLoad": row.mean(estimate.load_seconds),
        })
    });
    json!({"estimates": rows.collect::<Vec<_>>()})
}
