//! Bars beside names: for what has no time.

use super::scale::Scale;
use super::svg::{Anchor, Svg, WIDTH, class, width};
use super::{Bars, Figure, Row, Tone};

const ROW: f64 = 30.0;
const BAR: f64 = 16.0;
const TICKS: usize = 6;

pub(super) fn draw(figure: &Figure, content: &Bars) -> String {
    let mut svg = Svg::new(&figure.title);
    let mut top = svg.heading(&figure.subtitle);
    let longest = |text: fn(&Row) -> &str| {
        content.rows.iter().map(|row| width(text(row))).fold(0.0, f64::max)
    };
    let left = (24.0 + longest(|row| &row.label) + 14.0).min(WIDTH * 0.45);
    let right = WIDTH - 28.0 - longest(|row| &row.note) - 12.0;
    let names = names(content);
    if names.len() > 1 {
        top = legend(&mut svg, &names, left, top + 12.0);
    }
    let x =
        Scale::from_zero(content.rows.iter().map(extent).fold(0.0, f64::max), TICKS, left, right);
    let upper = top + if content.reference.is_some() { 24.0 } else { 8.0 };
    let lower = (content.rows.len() as f64).mul_add(ROW, upper);
    for (value, text) in x.ticks(TICKS) {
        svg.line((x.place(value), upper), (x.place(value), lower), "grid");
        svg.text(x.place(value), lower + 18.0, Anchor::Middle, "soft", &text);
    }
    svg.line((left, upper), (left, lower), "base");
    for (index, row) in content.rows.iter().enumerate() {
        draw_row(&mut svg, row, &x, (left, right), (index as f64).mul_add(ROW, upper));
    }
    if let Some((at, name)) = &content.reference {
        svg.text(x.place(*at), upper - 8.0, Anchor::Middle, "soft", name);
        svg.line((x.place(*at), upper - 4.0), (x.place(*at), lower), "mark");
    }
    svg.text(f64::midpoint(left, right), lower + 36.0, Anchor::Middle, "soft", &content.unit);
    svg.finish(lower + 50.0)
}

fn extent(row: &Row) -> f64 {
    let whole: f64 = row.parts.iter().map(|(_, value, _)| value).sum();
    row.interval.map_or(whole, |(_, high)| whole.max(high))
}

fn draw_row(svg: &mut Svg, row: &Row, x: &Scale, (left, right): (f64, f64), upper: f64) {
    let middle = upper + ROW / 2.0;
    if row.parts.is_empty() {
        svg.text(24.0, middle + 6.0, Anchor::Start, "head", &row.label);
        return;
    }
    svg.text(left - 10.0, middle + 4.0, Anchor::End, "", &row.label);
    let mut sum = 0.0;
    for (_, value, tone) in &row.parts {
        let (from, to) = (x.place(sum), x.place(sum + value));
        let bar = format!("bar {}", class(*tone));
        svg.rect((from, middle - BAR / 2.0), ((to - from).max(0.0), BAR), &bar);
        sum += value;
    }
    if let Some((low, high)) = row.interval {
        let (from, to) = (x.place(low), x.place(high));
        let (above, below) = (middle - 5.0, middle + 5.0);
        let data = format!(
            "M{from:.1} {above:.1}V{below:.1}M{from:.1} {middle:.1}H{to:.1}M{to:.1} {above:.1}\
             V{below:.1}"
        );
        svg.path(&data, "whisker");
    }
    svg.text(right + 12.0, middle + 4.0, Anchor::Start, "soft", &row.note);
}

/// Names of parts, each once, in their order.
fn names(content: &Bars) -> Vec<(&str, Tone)> {
    let mut names: Vec<(&str, Tone)> = Vec::new();
    for (name, _, tone) in content.rows.iter().flat_map(|row| &row.parts) {
        if !names.iter().any(|(known, _)| known == name) {
            names.push((name, *tone));
        }
    }
    names
}

/// Wraps where the line is full; returns where it ends.
fn legend(svg: &mut Svg, names: &[(&str, Tone)], left: f64, top: f64) -> f64 {
    let (mut at, mut base) = (left, top);
    for (name, tone) in names {
        let length = width(name) + 40.0;
        if at + length > WIDTH - 24.0 && at > left {
            at = left;
            base += 20.0;
        }
        svg.rect((at, base - 9.0), (12.0, 12.0), &format!("bar {}", class(*tone)));
        svg.text(at + 18.0, base + 1.5, Anchor::Start, "soft", name);
        at += length;
    }
    base + 12.0
}
