//! What happened in a run, in order, and the first thing that must not have happened.

use std::cell::{Cell, RefCell};
use std::fmt::{Arguments, Write as _};
use std::time::Duration;

use tokio::time::Instant;

/// What must hold. Planted bugs name the one that catches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// `Revision::check`: no slot too many, no free slot beside a waiter.
    Slots,
    /// A replica never has more requests than its limit.
    Concurrency,
    /// Who came first is served first.
    Order,
    /// Every request ends in exactly one way.
    OneEnd,
    /// Every request ends within its time, and its replica stops working for it.
    InTime,
    /// Every answer is one that the weather allows, and the right one.
    RightAnswer,
    /// The stated count stays within its bounds.
    Bounds,
    /// The count that a steady load needs is reached.
    Reached,
    /// The count is zero (or `min-scale`) again soon after the last request.
    Zero,
    /// A waiting request makes a replica start.
    Woken,
    /// A replica is told to stop only when it has nothing to do or its time is over.
    StoppedIdle,
    /// What counts as waiting does wait.
    Waiting,
    /// Nothing is left when all is over.
    LeftBehind,
    /// Nothing panics.
    Panic,
}

/// A property that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) property: Property,
    pub(crate) text: String,
}

/// How a request ended, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A whole response.
    Answered { status: u16, reason: Option<String> },
    /// A response that began and broke off.
    Cut,
    /// The connection ended without a response.
    NoAnswer,
    /// The client left.
    Left,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) service: usize,
    pub(crate) sent: Duration,
    pub(crate) post: bool,
    /// Whether its client does what it can to end it: does not leave, reads what comes.
    pub(crate) patient: bool,
    /// When replicas got it.
    pub(crate) delivered: Vec<Duration>,
    pub(crate) ended: Option<(Duration, End)>,
}

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Ledger {
    start: Instant,
    text: RefCell<String>,
    requests: RefCell<Vec<Request>>,
    violation: RefCell<Option<Violation>>,
    violated: tokio::sync::Notify,
    last_end: Cell<Duration>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            text: RefCell::default(),
            requests: RefCell::default(),
            violation: RefCell::default(),
            violated: tokio::sync::Notify::new(),
            last_end: Cell::new(Duration::ZERO),
        }
    }

    /// Virtual time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: Arguments<'_>) {
        let mut text = self.text.borrow_mut();
        let at = self.now();
        writeln!(text, "{:>5}.{:03} {what}", at.as_secs(), at.subsec_millis())
            .expect("a String takes all");
    }

    /// Something must not have happened. Only the first one counts.
    pub(crate) fn violated(&self, property: Property, what: Arguments<'_>) {
        if self.violation.borrow().is_some() {
            return;
        }
        self.note(format_args!("VIOLATED {property:?}: {what}"));
        *self.violation.borrow_mut() = Some(Violation { property, text: what.to_string() });
        self.violated.notify_one();
    }

    /// Waits for the first violation.
    pub(crate) async fn until_violated(&self) {
        self.violated.notified().await;
    }

    /// A client sends; the number names the request from now on.
    pub(crate) fn sent(&self, service: usize, post: bool, patient: bool) -> usize {
        let mut requests = self.requests.borrow_mut();
        requests.push(Request {
            service,
            sent: self.now(),
            post,
            patient,
            delivered: Vec::new(),
            ended: None,
        });
        requests.len() - 1
    }

    /// A replica got a request.
    pub(crate) fn delivered(&self, request: usize, replica: u64) {
        self.note(format_args!("request {request} is at replica {replica}"));
        let again = {
            let mut requests = self.requests.borrow_mut();
            let entry = &mut requests[request];
            entry.delivered.push(self.start.elapsed());
            (entry.post && entry.delivered.len() > 1) || entry.delivered.len() > 3
        };
        if again {
            self.violated(Property::OneEnd, format_args!("request {request} was delivered again"));
        }
    }

    /// A request ended for its client.
    pub(crate) fn ended(&self, request: usize, end: End) {
        self.note(format_args!("request {request} ended: {end:?}"));
        let now = self.now();
        self.last_end.set(now);
        let former = self.requests.borrow_mut()[request].ended.replace((now, end));
        if let Some(former) = former {
            self.violated(
                Property::OneEnd,
                format_args!("request {request} ended twice, first {former:?}"),
            );
        }
    }

    /// When the last request ended.
    pub(crate) fn last_end(&self) -> Duration {
        self.last_end.get()
    }

    pub(crate) fn request(&self, request: usize) -> Request {
        self.requests.borrow()[request].clone()
    }

    pub(crate) fn with_requests<T>(&self, f: impl FnOnce(&[Request]) -> T) -> T {
        f(&self.requests.borrow())
    }

    /// The whole text and what was violated.
    pub(crate) fn close(&self) -> (String, Option<Violation>) {
        (self.text.take(), self.violation.take())
    }
}
