//! Tables and plots of what was found.

use super::measure::Sample;
use super::{Found, Kind};
use crate::chart::{Bars, Content, Figure, Row, Tone};
use crate::peers::Peer;
use crate::results::{Outcome, Table};
use crate::stats::{Estimate, estimate, median};
use crate::text::{grouped, millis};

/// Below this the proxy was not the limit, and the rate says nothing about it.
const SATURATED: f64 = 0.95;
/// Fewer pairs make no interval worth telling (bootstrap of a median).
const ROUNDS_LEAST: u32 = 15;

/// Adds a kind.
pub(super) fn add(outcome: &mut Outcome, found: &Found, seed: u64) {
    let bad: u64 = found.samples.iter().flat_map(|(_, of)| of).map(|sample| sample.bad).sum();
    outcome.check(format!("{}: every request was answered well", found.kind.name()), bad == 0);
    outcome.tables.push(match found.kind {
        Kind::Idle => at_rest(found),
        _ => under_load(found, seed),
    });
    outcome.figures.push(figure(found, seed));
    outcome.notes.extend(found.notes.iter().cloned());
}

/// The one that the others are compared with: HAProxy, or who is there instead.
fn reference(found: &Found) -> Option<&(Peer, Vec<Sample>)> {
    let haproxy = found.samples.iter().find(|(peer, _)| *peer == Peer::Haproxy);
    haproxy.or_else(|| found.samples.last())
}

/// Median of the ratios within a round, of processor time.
fn ratio(samples: &[Sample], reference: &[Sample], seed: u64) -> Option<Estimate> {
    let pairs = samples.iter().zip(reference).filter(|(_, of)| of.processor > 0.0);
    let ratios: Vec<f64> = pairs.map(|(one, of)| one.processor / of.processor).collect();
    estimate(&ratios, seed)
}

fn middle(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let values: Vec<f64> = samples.iter().map(value).collect();
    median(&values).unwrap_or_default()
}

fn under_load(found: &Found, seed: u64) -> Table {
    let Some((than, basis)) = reference(found) else { return Table::default() };
    let title = format!("{}: {}", found.kind.name(), found.kind.describe());
    let times = format!("× {}", than.name());
    let mut table = Table::new(
        &title,
        &[
            "",
            "processor µs",
            &times,
            "95 % interval",
            "requests/s",
            "busy",
            "p50 ms",
            "p99 ms",
            "memory MiB",
            "calls",
            "instructions",
        ],
    );
    for (peer, samples) in &found.samples {
        let ratio = ratio(samples, basis, seed);
        let busy = middle(samples, |sample| sample.busy);
        let least = if busy < SATURATED { "≥ " } else { "" };
        let counted = found.counted.iter().find(|(of, _)| of == peer).map(|(_, counted)| *counted);
        let counted = counted.unwrap_or_default();
        let none = || "–".to_owned();
        table.row([
            peer.name().to_owned(),
            format!("{:.1}", middle(samples, |sample| sample.processor)),
            ratio.map_or_else(none, |ratio| format!("{:.2}", ratio.median)),
            ratio.map_or_else(none, |ratio| format!("{:.2}–{:.2}", ratio.low, ratio.high)),
            format!("{least}{}", grouped(middle(samples, |sample| sample.rate))),
            format!("{:.0} %", busy * 100.0),
            millis(middle(samples, |sample| sample.p50)),
            millis(middle(samples, |sample| sample.p99)),
            format!("{:.1}", middle(samples, |sample| sample.memory)),
            counted.calls.map_or_else(none, |calls| format!("{calls:.2}")),
            counted.instructions.map_or_else(none, grouped),
        ]);
    }
    table
}

fn at_rest(found: &Found) -> Table {
    let title = format!("{}: {}", found.kind.name(), found.kind.describe());
    let columns = ["", "KiB for each", "memory MiB", "processor ms per second"];
    let mut table = Table::new(&title, &columns);
    for (peer, samples) in &found.samples {
        table.row([
            peer.name().to_owned(),
            format!("{:.1}", middle(samples, |sample| sample.each)),
            format!("{:.1}", middle(samples, |sample| sample.memory)),
            format!("{:.2}", middle(samples, |sample| sample.processor)),
        ]);
    }
    table
}

fn figure(found: &Found, seed: u64) -> Figure {
    let (value, unit): (fn(&Sample) -> f64, &str) = match found.kind {
        Kind::Idle => (|sample| sample.each, "memory for each connection, KiB"),
        _ => (|sample| sample.processor, "processor time of a request, µs"),
    };
    let rows = found.samples.iter().filter_map(|(peer, samples)| {
        let values: Vec<f64> = samples.iter().map(value).collect();
        let Estimate { median, low, high } = estimate(&values, seed)?;
        let tone = match peer {
            Peer::Tidegate => Tone::Blue,
            Peer::Copier => Tone::Grey,
            _ => Tone::Violet,
        };
        Some(Row {
            label: peer.name().to_owned(),
            parts: vec![("median".to_owned(), median, tone)],
            interval: Some((low, high)),
            note: format!("{median:.1}"),
        })
    });
    Figure {
        name: found.kind.name().to_owned(),
        title: format!(
            "What {} costs",
            match found.kind {
                Kind::Idle => "a connection at rest",
                _ => "a request",
            }
        ),
        subtitle: format!(
            "{}. Median and its 95 % interval; shorter is better.",
            found.kind.describe()
        ),
        content: Content::Bars(Bars {
            unit: unit.to_owned(),
            rows: rows.collect(),
            reference: None,
        }),
    }
}

/// How to read it.
pub(super) fn notes(outcome: &mut Outcome, rounds: u32) {
    outcome.notes.push(
        "Processor time is that of the proxy's processes alone. Latencies are those of a saturated \
         proxy: waiting for it. A rate with ≥ was limited by the load or the origin, not by the \
         proxy: compare processor times."
            .into(),
    );
    if rounds < ROUNDS_LEAST {
        outcome.notes.push(format!(
            "{rounds} rounds are too few to tell ratios from noise: --rounds {ROUNDS_LEAST} or more"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: &[f64]) -> Vec<Sample> {
        let one = |&processor: &f64| Sample { processor, busy: 0.5, ..Sample::default() };
        times.iter().map(one).collect()
    }

    #[test]
    fn ratios_are_those_within_a_round() {
        // The machine was twice as slow in the second round, for both.
        let (one, other) = (samples(&[8.0, 16.0, 8.0]), samples(&[10.0, 20.0, 10.0]));
        let ratio = ratio(&one, &other, 1).unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (0.8, 0.8, 0.8));
    }

    #[test]
    fn haproxy_is_the_measure_and_what_is_missing_has_a_dash() {
        let found = Found {
            kind: Kind::Get,
            samples: vec![
                (Peer::Tidegate, samples(&[8.0])),
                (Peer::Haproxy, samples(&[10.0])),
                (Peer::Copier, samples(&[5.0])),
            ],
            counted: Vec::new(),
            notes: Vec::new(),
        };
        let table = under_load(&found, 1);
        assert_eq!(table.columns[2], "× HAProxy");
        assert_eq!(table.rows[0][..4], ["tidegate", "8.0", "0.80", "0.80–0.80"]);
        assert_eq!(table.rows[1][2], "1.00");
        assert!(table.rows[0][4].starts_with('≥'), "{:?}", table.rows[0]);
        assert_eq!(table.rows[0][9], "–");
        let svg = figure(&found, 1).svg();
        assert!(svg.contains("HAProxy") && svg.contains("byte copier"));
    }
}
