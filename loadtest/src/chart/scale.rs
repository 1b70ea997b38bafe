//! Values to places, and where the ticks are.

use super::{Axis, ScaleKind};

/// A straight or logarithmic way from values to places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    kind: ScaleKind,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

/// Ticks: values and what is written beside them.
pub type Ticks = Vec<(f64, String)>;

impl Scale {
    /// From 0 to a round number at or above `highest`; places from `start` to `end`.
    pub fn from_zero(highest: f64, wanted: usize, start: f64, end: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = step(highest, wanted);
        let high = (highest / step - 1e-9).ceil() * step;
        Self { kind: ScaleKind::Linear, low: 0.0, high, start, end }
    }

    /// From exactly one value to another.
    pub fn between(low: f64, high: f64, start: f64, end: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { kind: ScaleKind::Linear, low, high, start, end }
    }

    /// By tenfolds; the ends are the nearest of 1, 2, 5, 10 … beyond the values.
    pub fn log(lowest: f64, highest: f64, start: f64, end: f64) -> Self {
        let lowest = if lowest > 0.0 { lowest } else { 0.1 };
        let low = round_down(lowest);
        let high = round_up(highest.max(lowest * 1.01)).max(low * 2.0);
        Self { kind: ScaleKind::Log, low, high, start, end }
    }

    /// The place of a value.
    pub fn place(&self, value: f64) -> f64 {
        let part = match self.kind {
            ScaleKind::Linear => (value - self.low) / (self.high - self.low),
            ScaleKind::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        part.mul_add(self.end - self.start, self.start)
    }

    /// Ticks at round values, about as many as wanted.
    pub fn ticks(&self, wanted: usize) -> Ticks {
        match self.kind {
            ScaleKind::Linear => {
                let step = step(self.high - self.low, wanted);
                let first = (self.low / step).ceil() as i64;
                let last = (self.high / step + 1e-9).floor() as i64;
                (first..=last)
                    .map(|number| number as f64 * step)
                    .map(|value| (value, number(value, step)))
                    .collect()
            }
            ScaleKind::Log => self.log_ticks(wanted),
        }
    }

    fn log_ticks(&self, wanted: usize) -> Ticks {
        let all: Vec<f64> = std::iter::successors(Some(self.low), |value| Some(next(*value)))
            .take_while(|value| *value <= self.high * 1.001)
            .collect();
        // All of 1, 2, 5; else the tenfolds; else every so many of these.
        let tens: Vec<f64> = all.iter().copied().filter(|value| is_power_of_ten(*value)).collect();
        let chosen = if all.len() <= wanted.max(2) || tens.len() < 2 {
            all
        } else {
            let every = tens.len().div_ceil(wanted.max(1));
            tens.into_iter().step_by(every).collect()
        };
        chosen.into_iter().map(|value| (value, number(value, value))).collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that a range has about `wanted` of it.
fn step(range: f64, wanted: usize) -> f64 {
    let rough = range / wanted.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999_999);
    factor.unwrap_or(10.0) * power
}

fn power_of_ten(value: f64) -> f64 {
    10_f64.powf((value.log10() + 1e-9).floor())
}

fn is_power_of_ten(value: f64) -> bool {
    (value / power_of_ten(value) - 1.0).abs() < 1e-6
}

fn round_down(value: f64) -> f64 {
    let power = power_of_ten(value);
    let factor = [5.0, 2.0, 1.0].into_iter().find(|factor| factor * power <= value * 1.000_001);
    factor.unwrap_or(1.0) * power
}

fn round_up(value: f64) -> f64 {
    let power = power_of_ten(value);
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= value * 0.999_999);
    factor.unwrap_or(10.0) * power
}

/// The one after it of 1, 2, 5, 10, 20 …
fn next(value: f64) -> f64 {
    round_up(value * 1.5)
}

/// A value with as many decimals as its step has.
fn number(value: f64, step: f64) -> String {
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    if decimals == 0 { crate::text::grouped(value) } else { format!("{value:.decimals$}") }
}

/// Steps of a time axis, in seconds, at which clocks are read.
const TIME_STEPS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
];

impl Axis {
    /// Its scale over places.
    pub(super) fn scale(&self, start: f64, end: f64) -> Scale {
        match self {
            Self::Time { end: last } => Scale::between(0.0, *last, start, end),
            Self::Number { from, to, .. } => Scale::between(*from, *to, start, end),
            Self::Percentile { nines } => Scale::between(0.0, f64::from(*nines), start, end),
        }
    }

    /// Its ticks, about as many as wanted.
    pub(super) fn ticks(&self, wanted: usize) -> Ticks {
        match self {
            Self::Time { end } => time_ticks(*end, wanted),
            Self::Number { from, to, .. } => {
                // Numbers of things: there are no halves.
                let mut ticks = Scale::between(*from, *to, 0.0, 1.0).ticks(wanted);
                ticks.retain(|(at, _)| at.fract() == 0.0);
                ticks.iter_mut().for_each(|(at, text)| *text = crate::text::grouped(*at));
                ticks
            }
            Self::Percentile { nines } => {
                let mut ticks =
                    vec![(0.0, "0 %".to_owned()), (percentile_place(0.5), "50 %".into())];
                for nine in 1..=*nines {
                    let decimals = (nine as usize).saturating_sub(2);
                    let percent = 100.0 - 100.0 / 10_f64.powf(f64::from(nine));
                    ticks.push((f64::from(nine), format!("{percent:.decimals$} %")));
                }
                ticks
            }
        }
    }

    /// What it is.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Time { end } if *end < 2.0 => "time in milliseconds".into(),
            Self::Time { end } if *end <= 120.0 => "time in seconds".into(),
            Self::Time { .. } => "time in minutes".into(),
            Self::Number { label, .. } => label.clone(),
            Self::Percentile { .. } => "percentile".into(),
        }
    }
}

/// Where a part (0 to 1) lies on the axis of [`Axis::Percentile`]: 0.9 at 1, 0.99 at 2.
pub fn percentile_place(part: f64) -> f64 {
    -(1.0 - part).max(1e-9).log10()
}

fn time_ticks(end: f64, wanted: usize) -> Ticks {
    let fits = |step: &&f64| end / **step <= wanted as f64;
    let step = TIME_STEPS.iter().find(fits).copied().unwrap_or(7200.0);
    let last = (end / step + 1e-9).floor() as u32;
    (0..=last).map(|number| f64::from(number) * step).map(|at| (at, clock(at, end))).collect()
}

fn clock(at: f64, end: f64) -> String {
    if end < 2.0 {
        return crate::text::grouped(at * 1e3);
    }
    if end <= 120.0 {
        return if at.fract().abs() < 1e-9 { format!("{at:.0}") } else { format!("{at:.1}") };
    }
    let seconds = at.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ticks: &Ticks) -> Vec<&str> {
        ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let scale = Scale::from_zero(13.0, 4, 100.0, 0.0);
        assert!((scale.place(0.0) - 100.0).abs() < 1e-9);
        assert!((scale.place(15.0)).abs() < 1e-9);
        assert_eq!(texts(&scale.ticks(4)), ["0", "5", "10", "15"]);
        assert_eq!(texts(&Scale::from_zero(0.0, 4, 1.0, 0.0).ticks(4)), ["0.0", "0.5", "1.0"]);
        let thousands = Scale::from_zero(2900.0, 4, 1.0, 0.0);
        assert_eq!(texts(&thousands.ticks(4)), ["0", "1,000", "2,000", "3,000"]);
    }

    #[test]
    fn tenfolds_are_equally_high() {
        let scale = Scale::log(1.2, 930.0, 90.0, 0.0);
        assert!((scale.place(1.0) - 90.0).abs() < 1e-9);
        assert!((scale.place(10.0) - 60.0).abs() < 1e-9);
        assert!((scale.place(1000.0)).abs() < 1e-9);
        assert_eq!(texts(&scale.ticks(4)), ["1", "10", "100", "1,000"]);
        // What is below the lowest tick stays inside.
        assert!((scale.place(0.0) - 90.0).abs() < 1e-9);
    }

    #[test]
    fn narrow_and_wide_ranges_of_tenfolds() {
        assert_eq!(texts(&Scale::log(100.0, 180.0, 1.0, 0.0).ticks(4)), ["100", "200"]);
        assert_eq!(texts(&Scale::log(0.3, 4.0, 1.0, 0.0).ticks(6)), ["0.2", "0.5", "1", "2", "5"]);
        assert_eq!(
            texts(&Scale::log(1.0, 1e6, 1.0, 0.0).ticks(4)),
            ["1", "100", "10,000", "1,000,000"]
        );
        assert_eq!(texts(&Scale::log(0.0, 0.0, 1.0, 0.0).ticks(4)), ["0.1", "0.2"]);
    }

    #[test]
    fn times_are_read_as_on_a_clock() {
        assert_eq!(
            texts(&Axis::Time { end: 240.0 }.ticks(8)),
            ["0:00", "0:30", "1:00", "1:30", "2:00", "2:30", "3:00", "3:30", "4:00"][..9]
        );
        assert_eq!(texts(&Axis::Time { end: 10.0 }.ticks(5)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            texts(&Axis::Time { end: 1.0 }.ticks(5)),
            ["0", "200", "400", "600", "800", "1,000"]
        );
    }

    #[test]
    fn each_nine_is_a_step() {
        let ticks = Axis::Percentile { nines: 3 }.ticks(5);
        assert_eq!(texts(&ticks), ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
        assert!((percentile_place(0.99) - 2.0).abs() < 1e-9);
    }
}
