//! From a Host to a revision.

use std::hint::black_box;
use std::sync::Arc;

use tidegate::snapshot::{Snapshot, Split, normalize};
use tidegate::stats::Clock;

use crate::live::{revision, route};
use crate::{Named, Step};

pub(crate) const QUESTIONS: &[Named] = &[
    ("which host is meant", || host_is_meant("hello.default.localhost:8080")),
    ("which host is meant, in upper case", || host_is_meant("Hello.Default.localhost:8080")),
    ("which service has this host, of 10", || service_of(10)),
    ("which service has this host, of 1000", || service_of(1_000)),
    ("which service has this host, of 100000", || service_of(100_000)),
    ("which revision is drawn, of one", || revision_drawn(&[100])),
    ("which revision is drawn, 90 to 10", || revision_drawn(&[90, 10])),
];

fn host_is_meant(authority: &'static str) -> Step {
    Box::new(move || {
        black_box(normalize(black_box(authority)));
    })
}

fn service_of(count: usize) -> Step {
    let shared = revision("shared", None, 0, Clock::start());
    let hosts: Vec<String> =
        (0..count).map(|number| format!("service-{number}.default.localhost")).collect();
    let services = hosts.iter().map(|host| route(host, host, &shared)).collect();
    let snapshot = Snapshot::new(services, None);
    let mut next = 0;
    Box::new(move || {
        // A prime step: neighbours in the list are not asked for one after the other.
        next = (next + 7_919) % count;
        black_box(snapshot.route(black_box(&hosts[next])));
    })
}

fn revision_drawn(percents: &[u8]) -> Step {
    let clock = Clock::start();
    let shares = percents
        .iter()
        .map(|percent| (*percent, revision(&format!("r-{percent}"), None, 0, clock)))
        .collect();
    let split = Split::new(shares, 1);
    Box::new(move || {
        black_box(split.draw().map(Arc::as_ptr));
    })
}
