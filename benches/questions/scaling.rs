//! Windows and decisions.

use std::hint::black_box;
use std::time::Duration;

use tidegate::autoscaler::{Averages, Decider, Facts, Window};
use tidegate::model::{Aggregation, ScalingSpec};

use crate::{Named, Step};

pub(crate) const QUESTIONS: &[Named] = &[
    ("what is recorded of a second, window of 60", recorded),
    ("what is the average, linear over 60 seconds", || average(Aggregation::Linear)),
    ("what is the average, weighted over 60 seconds", || average(Aggregation::WeightedExponential)),
    ("how many replicas are wanted", wanted),
];

const SECOND: Duration = Duration::from_secs(1);

fn recorded() -> Step {
    let mut window = Window::new(Aggregation::Linear, 60 * SECOND, SECOND);
    let mut now = SECOND;
    Box::new(move || {
        now += SECOND;
        window.record(now, black_box(3.0));
    })
}

fn average(aggregation: Aggregation) -> Step {
    let mut window = Window::new(aggregation, 60 * SECOND, SECOND);
    for second in 1..=60 {
        window.record(second * SECOND, f64::from(second));
    }
    Box::new(move || {
        black_box(window.average(black_box(60 * SECOND)));
    })
}

fn wanted() -> Step {
    let spec = ScalingSpec::default();
    let mut decider = Decider::new(&spec, 1, Duration::ZERO);
    let mut now = SECOND;
    Box::new(move || {
        now += SECOND;
        let averages = Averages { stable: black_box(120.0), panic: black_box(130.0) };
        black_box(decider.decide(&spec, Facts { ready: Some(2), averages: Some(averages) }, now));
    })
}
