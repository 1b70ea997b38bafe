//! Slots, and the line before them.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidegate::revision::{Admission, Permit, Revision, pick};
use tidegate::stats::{Clock, Nanos};

use crate::live::revision;
use crate::{Named, Step};

pub(crate) const QUESTIONS: &[Named] = &[
    ("is a slot free, of 1 replica", || slot_is_free(1)),
    ("is a slot free, of 100 replicas", || slot_is_free(100)),
    ("which endpoint is picked, of 10 without a limit", endpoint_is_picked),
    ("who is next in line, of 1", || next_in_line(1)),
    ("who is next in line, of 1000", || next_in_line(1_000)),
    ("what does a waiter leave behind, of 1000", waiter_leaves),
];

/// A permit taken and given back.
fn slot_is_free(replicas: u16) -> Step {
    let limited = revision("limited", Some(10), replicas, Clock::start());
    Box::new(move || drop(granted(&limited)))
}

fn granted(revision: &Arc<Revision>) -> Permit {
    match revision.admit(Nanos(2), None) {
        Admission::Granted(permit) => permit,
        other => panic!("a slot is free: {other:?}"),
    }
}

fn waiting(revision: &Arc<Revision>) -> tidegate::revision::Ticket {
    match revision.admit(Nanos(2), None) {
        Admission::Waiting(ticket) => ticket,
        other => panic!("no slot is free: {other:?}"),
    }
}

fn endpoint_is_picked() -> Step {
    let open = revision("open", None, 10, Clock::start());
    let set = open.open();
    let mut rng = fastrand::Rng::with_seed(7);
    Box::new(move || {
        let picked = pick(set.open.len(), &mut rng, |i| set.open[i].load_of(0));
        let endpoint = &set.open[picked.unwrap_or(0)];
        endpoint.enter(0);
        black_box(endpoint.leave(0));
    })
}

/// A request joins the line, the one that works ends, and the slot goes to the first.
fn next_in_line(length: usize) -> Step {
    let limited = revision("limited", Some(1), 1, Clock::start());
    let mut working = Some(granted(&limited));
    let mut line: std::collections::VecDeque<_> = (1..length).map(|_| waiting(&limited)).collect();
    Box::new(move || {
        line.push_back(waiting(&limited));
        drop(working.take());
        if let Some(mut first) = line.pop_front() {
            let mut context = Context::from_waker(Waker::noop());
            match first.poll_outcome(&mut context) {
                Poll::Ready(Ok(permit)) => working = Some(permit),
                other => panic!("the slot was handed on: {other:?}"),
            }
        }
    })
}

/// A client that leaves while it waits.
fn waiter_leaves() -> Step {
    let limited = revision("limited", Some(1), 1, Clock::start());
    let working = granted(&limited);
    let line: Vec<_> = (0..999).map(|_| waiting(&limited)).collect();
    Box::new(move || {
        let _held = (&working, &line);
        drop(waiting(&limited));
    })
}
