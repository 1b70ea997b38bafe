//! Panels below each other over one axis.

use std::fmt::Write as _;

use super::scale::{Scale, Ticks};
use super::svg::{Anchor, Svg, WIDTH, class, width};
use super::{Figure, Form, Panel, Panels, ScaleKind, Series};

const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 28.0;
/// Height of a panel's plot.
const HEIGHT: f64 = 104.0;
/// Height of a panel's title with its legend.
const HEAD: f64 = 36.0;
const MARK_ROW: f64 = 16.0;
const Y_TICKS: usize = 4;
const Y_TICKS_LOG: usize = 6;
const X_TICKS: usize = 10;

pub(super) fn draw(figure: &Figure, content: &Panels) -> String {
    let mut svg = Svg::new(&figure.title);
    let top = svg.heading(&figure.subtitle);
    let x = content.axis.scale(LEFT, RIGHT);
    let rows = mark_rows(content, &x);
    let first = rows.iter().map(|row| row + 1).max().unwrap_or(0) as f64 * MARK_ROW + top;
    let bottom = (content.panels.len() as f64).mul_add(HEAD + HEIGHT, first);
    let ticks = content.axis.ticks(X_TICKS);
    for (index, panel) in content.panels.iter().enumerate() {
        let upper = (index as f64).mul_add(HEAD + HEIGHT, first) + HEAD;
        draw_panel(&mut svg, panel, &x, &ticks, upper);
    }
    draw_marks(&mut svg, content, &x, &rows, (top, first, bottom));
    for (at, text) in &ticks {
        svg.text(x.place(*at), bottom + 18.0, Anchor::Middle, "soft", text);
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    svg.text(middle, bottom + 36.0, Anchor::Middle, "soft", &content.axis.label());
    svg.finish(bottom + 50.0)
}

/// In which row above the panels each mark's name has room.
fn mark_rows(content: &Panels, x: &Scale) -> Vec<usize> {
    let mut ends: Vec<f64> = Vec::new();
    content
        .marks
        .iter()
        .map(|mark| {
            let (start, end) = mark_extent(x.place(mark.at), &mark.label);
            let row = ends.iter().position(|end| *end + 10.0 <= start).unwrap_or(ends.len());
            if row == ends.len() {
                ends.push(end);
            } else {
                ends[row] = end;
            }
            row
        })
        .collect()
}

/// Where a mark's name starts and ends: centred, but within the plot.
fn mark_extent(at: f64, label: &str) -> (f64, f64) {
    let length = width(label);
    let start = (at - length / 2.0).clamp(LEFT, (RIGHT - length).max(LEFT));
    (start, start + length)
}

fn draw_marks(
    svg: &mut Svg,
    content: &Panels,
    x: &Scale,
    rows: &[usize],
    (top, first, bottom): (f64, f64, f64),
) {
    for (mark, row) in content.marks.iter().zip(rows) {
        let at = x.place(mark.at);
        let base = (*row as f64).mul_add(MARK_ROW, top) + 12.0;
        let (start, end) = mark_extent(at, &mark.label);
        svg.text(f64::midpoint(start, end), base, Anchor::Middle, "soft", &mark.label);
        // Not through names in the rows below.
        let covered = content.marks.iter().zip(rows).any(|(other, lower)| {
            let (start, end) = mark_extent(x.place(other.at), &other.label);
            lower > row && at > start - 4.0 && at < end + 4.0
        });
        if !covered {
            svg.line((at, base + 4.0), (at, first.max(base + 4.0)), "mark");
        }
        for index in 0..content.panels.len() {
            // Not through the titles.
            let upper = (index as f64).mul_add(HEAD + HEIGHT, first) + HEAD;
            svg.line((at, upper), (at, (upper + HEIGHT).min(bottom)), "mark");
        }
    }
}

fn draw_panel(svg: &mut Svg, panel: &Panel, x: &Scale, ticks: &Ticks, upper: f64) {
    let lower = upper + HEIGHT;
    svg.text(LEFT, upper - 11.0, Anchor::Start, "head", &panel.title);
    legend(svg, panel, LEFT + width(&panel.title) * 1.15 + 26.0, upper - 15.0);
    let y = vertical(panel, lower, upper);
    for (at, _) in ticks {
        svg.line((x.place(*at), upper), (x.place(*at), lower), "grid");
    }
    let whole = panel.scale == ScaleKind::Linear && is_whole(panel);
    let wanted = if panel.scale == ScaleKind::Log { Y_TICKS_LOG } else { Y_TICKS };
    for (value, text) in y.ticks(wanted) {
        if whole && value.fract() != 0.0 {
            continue;
        }
        let text = if whole { crate::text::grouped(value) } else { text };
        let place = y.place(value);
        svg.line((LEFT, place), (RIGHT, place), "grid");
        svg.text(LEFT - 9.0, place + 4.0, Anchor::End, "soft", &text);
    }
    svg.line((LEFT, lower), (RIGHT, lower), "base");
    for series in &panel.series {
        draw_series(svg, series, x, &y, lower);
    }
}

/// A panel with one series needs no legend: its title says it.
fn legend(svg: &mut Svg, panel: &Panel, from: f64, middle: f64) {
    if panel.series.len() < 2 {
        return;
    }
    let mut at = from;
    for series in &panel.series {
        let tone = class(series.tone);
        match series.form {
            Form::Dots => svg.dot((at + 8.0, middle), 3.5, tone),
            _ => svg.raw(format_args!(
                r#"<path d="M{at:.1} {middle:.1}h16" class="line {tone}" style="stroke-width:3"/>"#
            )),
        }
        svg.text(at + 21.0, middle + 4.0, Anchor::Start, "soft", &series.name);
        at += width(&series.name) + 42.0;
    }
}

/// Of what is counted there are no halves.
fn is_whole(panel: &Panel) -> bool {
    let mut values = panel.series.iter().flat_map(|s| s.points.iter().filter_map(|point| point.1));
    values.all(|value| value.fract() == 0.0)
}

fn vertical(panel: &Panel, lower: f64, upper: f64) -> Scale {
    let values = || panel.series.iter().flat_map(|s| s.points.iter().filter_map(|point| point.1));
    let highest = values().fold(0.0, f64::max);
    match panel.scale {
        ScaleKind::Linear => {
            let few = is_whole(panel) && highest < 4.0;
            let (highest, wanted) = if few { (highest.max(2.0), 2) } else { (highest, Y_TICKS) };
            Scale::from_zero(highest, wanted, lower, upper)
        }
        ScaleKind::Log => {
            let lowest = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
            let lowest = if lowest.is_finite() { lowest } else { 0.0 };
            Scale::log(lowest, highest, lower, upper)
        }
    }
}

fn draw_series(svg: &mut Svg, series: &Series, x: &Scale, y: &Scale, lower: f64) {
    let tone = class(series.tone);
    if series.form == Form::Dots {
        for (at, value) in &series.points {
            if let Some(value) = value {
                svg.dot((x.place(*at), y.place(*value)), 2.6, tone);
            }
        }
        return;
    }
    let is_step = series.form == Form::Step;
    let mut path = String::new();
    let mut area = String::new();
    for run in series.points.split(|point| point.1.is_none()) {
        let places: Vec<(f64, f64)> =
            run.iter().filter_map(|(at, value)| Some((x.place(*at), y.place((*value)?)))).collect();
        let [first, .., last] = places[..] else {
            // A value without neighbours would not be seen as a line.
            places.iter().for_each(|place| svg.dot(*place, 1.6, tone));
            continue;
        };
        let line = outline(&places, is_step);
        path.push_str(&line);
        let (from, to) = (first.0, last.0);
        let _ = write!(area, "{line}L{to:.1} {lower:.1}L{from:.1} {lower:.1}Z");
    }
    if series.form == Form::Area {
        svg.path(&area, &format!("area {tone}"));
    }
    svg.path(&path, &format!("line {tone}"));
}

fn outline(places: &[(f64, f64)], is_step: bool) -> String {
    let mut path = String::new();
    for (index, (x, y)) in places.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = match (index, is_step) {
            (0, _) => write!(path, "M{x:.1} {y:.1}"),
            (_, true) => write!(path, "H{x:.1}V{y:.1}"),
            (_, false) => write!(path, "L{x:.1} {y:.1}"),
        };
    }
    path
}
