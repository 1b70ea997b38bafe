//! Plots, as SVG that stands alone: no script, no font, no file beside it; light or dark as the
//! reader's system is.
//!
//! A [`Figure`] is kept in the results, so that a report draws it again.

mod bars;
mod panels;
mod scale;
mod svg;

use serde::{Deserialize, Serialize};

pub use scale::{Scale, Ticks, percentile_place};
pub(crate) use svg::escape;

/// A plot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Part of its file name; empty = the scenario's name alone.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// How it was made, in smaller letters.
    pub subtitle: String,
    /// Its content.
    pub content: Content,
}

/// What a plot consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Panels below each other, over one axis.
    Panels(Panels),
    /// Bars beside names.
    Bars(Bars),
}

/// Panels below each other, over one axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Panels {
    /// What goes from left to right.
    pub axis: Axis,
    /// From top to bottom.
    pub panels: Vec<Panel>,
    /// Vertical lines through all panels, with their name on top.
    pub marks: Vec<Mark>,
}

/// What goes from left to right.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Seconds from 0.
    Time {
        /// The last one.
        end: f64,
    },
    /// A number.
    Number {
        /// What it is.
        label: String,
        /// The first one.
        from: f64,
        /// The last one.
        to: f64,
    },
    /// Percentiles, each further nine as far from the last as that from the one before.
    Percentile {
        /// How many nines at the right end: 3 = 99.9 %.
        nines: u32,
    },
}

/// A moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// Where, on the axis.
    pub at: f64,
    /// What happened, in a word or three.
    pub label: String,
}

/// Lines over the axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Panel {
    /// What it shows, with the unit.
    pub title: String,
    /// How its values become heights.
    pub scale: ScaleKind,
    /// The lines, later ones on top.
    pub series: Vec<Series>,
}

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleKind {
    /// From 0 on, evenly.
    Linear,
    /// Each tenfold as high as the other.
    Log,
}

/// Values over the axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub tone: Tone,
    /// How it is drawn.
    pub form: Form,
    /// Places and values; a place without a value is a gap.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A colour with a meaning that is the same in all plots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// What came in; the subject.
    Blue,
    /// What went well, what is ready.
    Green,
    /// What is wanted; attention.
    Orange,
    /// What was refused or failed.
    Red,
    /// A second subject.
    Violet,
    /// What others are compared with.
    Grey,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// From point to point.
    Line,
    /// As it was until the next point.
    Step,
    /// A line with its area down to the axis.
    Area,
    /// A dot each.
    Dots,
}

/// Bars beside names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bars {
    /// Unit of the values.
    pub unit: String,
    /// From top to bottom.
    pub rows: Vec<Row>,
    /// A line to compare with, and its name.
    pub reference: Option<(f64, String)>,
}

/// A bar.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it is; a row without parts is a heading.
    pub label: String,
    /// One part, or several that make a whole: name, value, colour.
    pub parts: Vec<(String, f64, Tone)>,
    /// Where the true value lies.
    pub interval: Option<(f64, f64)>,
    /// The value, as text behind the bar.
    pub note: String,
}

impl Series {
    /// A series without gaps.
    pub fn new(name: &str, tone: Tone, form: Form, points: Vec<(f64, f64)>) -> Self {
        let points = points.into_iter().map(|(at, value)| (at, Some(value))).collect();
        Self { name: name.to_owned(), tone, form, points }
    }

    /// One whose values may be missing.
    pub fn with_gaps(name: &str, tone: Tone, form: Form, points: Vec<(f64, Option<f64>)>) -> Self {
        Self { name: name.to_owned(), tone, form, points }
    }
}

impl Panel {
    /// A panel from 0 on.
    pub fn linear(title: &str, series: Vec<Series>) -> Self {
        Self { title: title.to_owned(), scale: ScaleKind::Linear, series }
    }

    /// A panel by tenfolds.
    pub fn log(title: &str, series: Vec<Series>) -> Self {
        Self { title: title.to_owned(), scale: ScaleKind::Log, series }
    }
}

impl Figure {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        match &self.content {
            Content::Panels(panels) => panels::draw(self, panels),
            Content::Bars(bars) => bars::draw(self, bars),
        }
    }
}

#[cfg(test)]
#[path = "chart/tests.rs"]
mod tests;
