//! When requests are due: a rate over time, and arrivals drawn from it.
//!
//! The rate is piecewise linear. Arrivals are the times at which the rate's integral reaches
//! 1, 2, 3 … (evenly spaced) or the running sums of exponential draws (a Poisson process), so both
//! follow any shape exactly and neither depends on how fast answers come.

use std::str::FromStr;
use std::time::Duration;

/// How requests are spread within the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Independent of each other, as those of many users are.
    #[default]
    Poisson,
    /// Evenly spaced.
    Uniform,
}

/// Requests per second over time: straight lines between points.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Seconds and requests per second; times ascend, two points at one time are a jump.
    points: Vec<(f64, f64)>,
}

/// A rate, or points of a curve, that cannot be understood; the text says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadShape(String);

impl Shape {
    /// The same rate, in requests per second, all the time.
    pub fn constant(rate: f64, duration: Duration) -> Self {
        Self { points: vec![(0.0, rate), (duration.as_secs_f64(), rate)] }
    }

    /// Straight lines between points of time and requests per second.
    ///
    /// # Errors
    /// When there are fewer than two points, times do not ascend from 0, or a rate is negative or
    /// not finite.
    pub fn curve(points: &[(Duration, f64)]) -> Result<Self, BadShape> {
        let starts = points.first().is_some_and(|(at, _)| at.is_zero());
        let ascends = points.windows(2).all(|pair| pair[0].0 <= pair[1].0);
        if points.len() < 2 || !starts || !ascends {
            return Err(BadShape(
                "a curve needs two points or more, from 0s on, in the order of time, as in \
                 10@0s,500@30s,10@60s"
                    .into(),
            ));
        }
        if let Some((_, rate)) = points.iter().find(|(_, rate)| !rate.is_finite() || *rate < 0.0) {
            return Err(BadShape(format!("a rate of {rate} requests per second: write 0 or more")));
        }
        Ok(Self { points: points.iter().map(|(at, rate)| (at.as_secs_f64(), *rate)).collect() })
    }

    /// How long it goes.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.points.last().map_or(0.0, |(at, _)| *at))
    }

    /// Requests per second at a time; 0 past the end.
    pub fn rate_at(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        self.segments()
            .find(|(from, to)| at >= from.0 && at < to.0)
            .map_or(0.0, |(from, to)| from.1 + (to.1 - from.1) * (at - from.0) / (to.0 - from.0))
    }

    /// The greatest rate.
    pub fn peak(&self) -> f64 {
        self.points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }

    /// How many requests it means, on average.
    pub fn total(&self) -> f64 {
        self.segments().map(|(from, to)| area(from, to)).sum()
    }

    fn segments(&self) -> impl Iterator<Item = ((f64, f64), (f64, f64))> {
        self.points.windows(2).map(|pair| (pair[0], pair[1]))
    }
}

fn area(from: (f64, f64), to: (f64, f64)) -> f64 {
    (to.0 - from.0) * f64::midpoint(from.1, to.1)
}

/// A rate as people write it: `200`, or points `10@0s,500@30s,10@60s`.
#[derive(Clone, Debug, PartialEq)]
pub enum RateText {
    /// The same all the time.
    Constant(f64),
    /// A curve with its own duration.
    Curve(Shape),
}

impl FromStr for RateText {
    type Err = BadShape;

    fn from_str(text: &str) -> Result<Self, BadShape> {
        let number = |text: &str| -> Result<f64, BadShape> {
            text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0).ok_or_else(
                || {
                    BadShape(format!(
                        "{text:?} is not a rate: write requests per second, as in 200"
                    ))
                },
            )
        };
        if !text.contains('@') {
            return number(text).map(RateText::Constant);
        }
        let points: Vec<(Duration, f64)> = text
            .split(',')
            .map(|point| {
                let (rate, at) = point.split_once('@').ok_or_else(|| {
                    BadShape(format!("{point:?}: write each point as RATE@TIME, as in 500@30s"))
                })?;
                let at = crate::text::duration(at).map_err(BadShape)?;
                Ok((at, number(rate)?))
            })
            .collect::<Result<_, BadShape>>()?;
        Shape::curve(&points).map(RateText::Curve)
    }
}

/// What is asked for, and when.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The rate over time.
    pub shape: Shape,
    /// How requests are spread within it.
    pub arrivals: Arrivals,
    /// The same seed draws the same arrivals.
    pub seed: u64,
}

impl Schedule {
    /// Times since the start at which requests are due, ascending.
    pub fn times(&self) -> Times {
        Times {
            points: self.shape.points.clone(),
            segment: 0,
            before: 0.0,
            reached: 0.0,
            arrivals: self.arrivals,
            random: fastrand::Rng::with_seed(self.seed),
        }
    }
}

/// See [`Schedule::times`].
#[derive(Debug)]
pub struct Times {
    points: Vec<(f64, f64)>,
    segment: usize,
    /// The rate's integral up to the segment's start.
    before: f64,
    /// The integral at the last arrival.
    reached: f64,
    arrivals: Arrivals,
    random: fastrand::Rng,
}

impl Iterator for Times {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.reached += match self.arrivals {
            // The first one half a gap after the start, so that a whole number fits in.
            Arrivals::Uniform if self.reached == 0.0 => 0.5,
            Arrivals::Uniform => 1.0,
            // 1 − [0, 1) is never 0, so the logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.random.f64()).ln(),
        };
        loop {
            let (from, to) = (*self.points.get(self.segment)?, *self.points.get(self.segment + 1)?);
            let area = area(from, to);
            let wanted = self.reached - self.before;
            if wanted < area {
                return Some(Duration::from_secs_f64(from.0 + time_of(wanted, from, to)));
            }
            self.before += area;
            self.segment += 1;
        }
    }
}

/// Seconds into a segment at which its integral reaches `wanted`.
fn time_of(wanted: f64, from: (f64, f64), to: (f64, f64)) -> f64 {
    let slope = (to.1 - from.1) / (to.0 - from.0);
    // Stable for slopes near zero: 2w / (r + √(r² + 2·s·w)).
    let root = (2.0 * slope).mul_add(wanted, from.1 * from.1).max(0.0).sqrt();
    (2.0 * wanted / (from.1 + root)).clamp(0.0, to.0 - from.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn schedule(shape: Shape, arrivals: Arrivals) -> Schedule {
        Schedule { shape, arrivals, seed: 7 }
    }

    #[test]
    fn an_even_rate_is_evenly_spaced() {
        let times: Vec<_> =
            schedule(Shape::constant(10.0, seconds(1)), Arrivals::Uniform).times().collect();
        assert_eq!(times.len(), 10);
        let millis: Vec<_> = times.iter().map(|t| (t.as_secs_f64() * 1e3).round()).collect();
        assert_eq!(millis, [50., 150., 250., 350., 450., 550., 650., 750., 850., 950.]);
    }

    #[test]
    fn a_ramp_has_its_area_and_its_density() {
        let shape = Shape::curve(&[(seconds(0), 0.0), (seconds(10), 200.0)]).unwrap();
        assert!((shape.total() - 1000.0).abs() < 1e-9);
        let times: Vec<_> = schedule(shape, Arrivals::Uniform).times().collect();
        assert_eq!(times.len(), 1000);
        // The integral of 20 t up to half of the time is a quarter.
        let first_half = times.iter().filter(|time| **time < seconds(5)).count();
        assert_eq!(first_half, 250);
        assert!(times.is_sorted());
    }

    #[test]
    fn silence_is_skipped_and_a_jump_is_sharp() {
        let points = [(0, 0.0), (5, 0.0), (5, 100.0), (6, 100.0), (6, 0.0), (9, 0.0)];
        let points: Vec<_> = points.iter().map(|(at, rate)| (seconds(*at), *rate)).collect();
        let shape = Shape::curve(&points).unwrap();
        assert_eq!(shape.duration(), seconds(9));
        let times: Vec<_> = schedule(shape, Arrivals::Uniform).times().collect();
        assert_eq!(times.len(), 100);
        assert!(times.iter().all(|time| (seconds(5)..seconds(6)).contains(time)));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_its_spread() {
        let shape = Shape::constant(1000.0, seconds(100));
        let times: Vec<_> = schedule(shape, Arrivals::Poisson).times().collect();
        // Standard deviation of the count is its square root: 316; of the gap: the gap.
        assert!((98_500..101_500).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> =
            times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn a_seed_is_a_run() {
        let draw = |seed| {
            let shape = Shape::constant(50.0, seconds(10));
            Schedule { shape, arrivals: Arrivals::Poisson, seed }.times().collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn the_rate_between_points() {
        let shape = Shape::curve(&[(seconds(0), 10.0), (seconds(10), 110.0)]).unwrap();
        assert!((shape.rate_at(seconds(5)) - 60.0).abs() < 1e-9);
        assert!(shape.rate_at(seconds(11)).abs() < 1e-9);
        assert!((shape.peak() - 110.0).abs() < 1e-9);
    }

    #[test]
    fn rates_are_read_and_mistakes_told() {
        assert_eq!("200".parse(), Ok(RateText::Constant(200.0)));
        let Ok(RateText::Curve(shape)) = "10@0s,500@30s,10@1m".parse() else { panic!() };
        assert_eq!(shape.duration(), seconds(60));
        for (text, told) in [
            ("fast", "requests per second"),
            ("-1", "requests per second"),
            ("1@0s", "two points"),
            ("1@0s,2@9s,3@5s", "order of time"),
            ("1@5s,2@9s", "from 0s"),
            ("1@0s,2", "RATE@TIME"),
            ("1@0s,2@x", "30s"),
        ] {
            let error = text.parse::<RateText>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
