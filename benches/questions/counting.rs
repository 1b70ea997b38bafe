//! What is counted of each request.

use std::hint::black_box;

use tidegate::stats::{Clock, Nanos, RevisionStats};

use crate::live::{WORKERS, name};
use crate::{Named, Step};

pub(crate) const QUESTIONS: &[Named] = &[
    ("how many are in flight, one more and one less", in_flight),
    ("what was the load, 2 workers", load),
];

fn in_flight() -> Step {
    let stats =
        RevisionStats::new(name("counted"), Clock::start(), WORKERS, std::sync::Arc::default());
    Box::new(move || {
        let now = Nanos(black_box(1));
        stats.arrive(0, now);
        stats.leave(0, now, Nanos(black_box(2_000_000)), Some(200));
    })
}

fn load() -> Step {
    let stats =
        RevisionStats::new(name("counted"), Clock::start(), WORKERS, std::sync::Arc::default());
    for worker in 0..WORKERS {
        stats.arrive(worker, Nanos(1));
    }
    Box::new(move || {
        black_box(stats.read(Nanos(black_box(3))));
    })
}
