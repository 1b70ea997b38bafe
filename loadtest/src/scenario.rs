//! Scenarios: each answers one question, starts what it needs on loopback, and stops it.

pub mod burst;
pub mod canary;
pub mod drain;
pub mod fairness;
pub mod from_zero;
pub mod idle;
pub mod manifest;
pub mod overhead;
pub mod overload;
pub mod peers;
pub mod rollout;
pub mod scale;

use std::time::Duration;

use tokio::time::Instant;

use crate::chart::{Axis, Content, Figure, Form, Mark, Panel, Panels, Series, Tone};
use crate::cli::Failure;
use crate::generator::{self, Bucket, Latencies, Plan, Recording};
use crate::results::Table;
use crate::text::{count, millis, percent};
use crate::tidegate::{RevisionView, Tidegate};
use crate::watch::{Sample, Watcher, curve};

/// A load and what was seen meanwhile.
#[derive(Debug)]
pub struct Measured {
    /// The generator's side.
    pub recording: Recording,
    /// Tidegate's side.
    pub samples: Vec<Sample>,
    /// From when times count.
    pub start: Instant,
}

/// Runs a plan and looks at the tidegate meanwhile.
///
/// # Errors
/// When the load cannot be set up, or tidegate ends by itself.
pub async fn measure(
    tidegate: &mut Tidegate,
    plan: Plan,
    every: Duration,
) -> Result<Measured, Failure> {
    let watcher = Watcher::start(tidegate.admin(), every);
    let mut start = Instant::now();
    let recording = generator::run_from(plan, |at| start = at).await?;
    let samples = watcher.stop().await;
    tidegate.check()?;
    Ok(Measured { recording, samples, start })
}

/// How often one looks, so that a plot of this length is smooth.
pub fn sampling(duration: Duration) -> Duration {
    (duration / 400).clamp(Duration::from_millis(20), Duration::from_millis(500))
}

/// Length of the generator's intervals for a plot of this length.
pub fn interval(duration: Duration) -> Duration {
    (duration / 80).clamp(Duration::from_millis(20), Duration::from_secs(2))
}

/// A value for each interval of a recording, in the interval's middle.
pub fn by_interval(
    recording: &Recording,
    value: impl Fn(&Bucket) -> Option<f64>,
) -> Vec<(f64, Option<f64>)> {
    let length = recording.interval.as_secs_f64();
    recording
        .buckets
        .iter()
        .enumerate()
        .map(|(index, bucket)| ((index as f64 + 0.5) * length, value(bucket)))
        .collect()
}

/// A count for each interval, as a rate.
pub fn rates(recording: &Recording, value: impl Fn(&Bucket) -> u64) -> Vec<(f64, Option<f64>)> {
    let length = recording.interval.as_secs_f64();
    by_interval(recording, |bucket| Some(value(bucket) as f64 / length))
}

/// Panel: requests due a second.
pub fn arrivals(recording: &Recording) -> Panel {
    let points = rates(recording, |bucket| bucket.due);
    Panel::linear(
        "Arrivals, requests a second",
        vec![Series::with_gaps("due", Tone::Blue, Form::Area, points)],
    )
}

/// Panel: requests in flight and those of them that wait.
pub fn concurrency(measured: &Measured, which: impl Fn(&RevisionView) -> bool) -> Panel {
    let Measured { samples, start, .. } = measured;
    let in_flight = curve(samples, *start, &which, |revision| revision.in_flight);
    let waiting = curve(samples, *start, &which, |revision| revision.waiting.into());
    Panel::linear(
        "Concurrency, requests",
        vec![
            Series::new("in flight", Tone::Blue, Form::Area, in_flight),
            Series::new("of these waiting", Tone::Orange, Form::Line, waiting),
        ],
    )
}

/// Panel: desired and ready replicas.
pub fn replicas(measured: &Measured, which: impl Fn(&RevisionView) -> bool) -> Panel {
    let Measured { samples, start, .. } = measured;
    let desired = curve(samples, *start, &which, |revision| revision.desired.into());
    let ready = curve(samples, *start, &which, |revision| revision.ready.into());
    Panel::linear(
        "Replicas",
        vec![
            Series::new("desired", Tone::Orange, Form::Step, desired),
            Series::new("ready", Tone::Green, Form::Step, ready),
        ],
    )
}

/// Panel: percentiles of latency by when a request was due.
pub fn latencies(recording: &Recording) -> Panel {
    let quantile = |part: f64| {
        by_interval(recording, |bucket| bucket.latency.quantile(part).map(|found| found * 1e3))
    };
    Panel::log(
        "Latency by when a request was due, ms",
        vec![
            Series::with_gaps("max", Tone::Grey, Form::Line, quantile(1.0)),
            Series::with_gaps("p99", Tone::Violet, Form::Line, quantile(0.99)),
            Series::with_gaps("p50", Tone::Green, Form::Line, quantile(0.5)),
        ],
    )
}

/// Panel: requests that were refused or failed.
pub fn refusals(recording: &Recording) -> Panel {
    let points = rates(recording, Bucket::bad_total);
    Panel::linear(
        "Refusals and failures, requests a second",
        vec![Series::with_gaps("refused", Tone::Red, Form::Area, points)],
    )
}

/// The figure that most scenarios have: everything over one time axis.
pub fn timeline(
    title: &str,
    subtitle: &str,
    end: Duration,
    panels: Vec<Panel>,
    marks: Vec<Mark>,
) -> Figure {
    let end = end.as_secs_f64();
    let content = Content::Panels(Panels {
        axis: Axis::Time { end },
        panels: panels.into_iter().map(|panel| cut(panel, end)).collect(),
        marks: marks.into_iter().filter(|mark| mark.at <= end).collect(),
    });
    Figure { name: String::new(), title: title.into(), subtitle: subtitle.into(), content }
}

/// Without what lies past the end of the axis.
fn cut(mut panel: Panel, end: f64) -> Panel {
    for series in &mut panel.series {
        series.points.retain(|(at, _)| *at <= end);
    }
    panel
}

/// Heads of the columns of [`latency_cells`].
pub const LATENCY_COLUMNS: [&str; 4] = ["p50 ms", "p90 ms", "p99 ms", "max ms"];

/// Percentiles in milliseconds.
pub fn latency_cells(latency: &Latencies) -> Vec<String> {
    [0.5, 0.9, 0.99, 1.0]
        .into_iter()
        .map(|part| latency.quantile(part).map_or_else(|| "–".into(), millis))
        .collect()
}

/// A table of whole runs: requests, how many went well, percentiles.
pub fn summary(title: &str, rows: &[(&str, &Recording)]) -> Table {
    let mut table =
        Table::new(title, &["", "requests", "good", "share", "refused or failed", "retried"]);
    table.columns.extend(LATENCY_COLUMNS.map(str::to_owned));
    for (name, recording) in rows {
        let mut cells = vec![
            (*name).to_owned(),
            count(recording.due),
            count(recording.good),
            percent(recording.good, recording.due),
            count(recording.bad_total()),
            count(recording.retries),
        ];
        cells.extend(latency_cells(&recording.latency));
        table.row(cells);
    }
    table
}

/// What went wrong, by kind; none when nothing did.
pub fn failures(title: &str, recording: &Recording) -> Option<Table> {
    let mut table = Table::new(title, &["refusals and failures", "requests"]);
    for (what, number) in &recording.bad {
        table.row([what.clone(), count(*number)]);
    }
    (!table.rows.is_empty()).then_some(table)
}
