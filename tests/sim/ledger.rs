//! What happened in a run, in order, and the first thing that must not have happened.

use std::cell::{Cell, RefCell};
use std::fmt::{Arguments, Write as _};
use std::time::Duration;

use tokio::time::Instant;

use crate::history::History;

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
    /// The stated count is what the oracle-tested decider says of the load there was.
    Decider,
    /// What is counted as in flight is in flight.
    Counted,
    /// The count that a steady load needs is reached.
    Reached,
    /// The count is zero (or `min-scale`) again soon after the last request.
    Zero,
    /// A waiting request makes a replica start.
    Woken,
    /// With fewer replicas than services each has its turn.
    Starved,
    /// A replica is told to stop only when it has nothing to do or its time is over.
    StoppedIdle,
    /// What counts as waiting does wait.
    Waiting,
    /// On the way down what was begun is ended, and then nothing is left open.
    Drain,
    /// A restart forgets nothing and starts nothing.
    Restart,
    /// What cannot be read or taken keeps its former self.
    FormerSelf,
    /// A bad new revision is taken back, and a good one gets through.
    Canary,
    /// What a new revision depends on is ready before it gets traffic, and that does not take for ever.
    Needed,
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

/// What its client does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Sends it, and reads what comes.
    Patient,
    /// The same, its bytes coming slowly.
    Dripping,
    /// Leaves, or stops reading.
    Careless,
    /// Ends its own direction behind the request.
    HalfClosed,
    /// Asks for an upgrade, and uses it.
    Tunnel,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) service: usize,
    pub(crate) sent: Duration,
    pub(crate) post: bool,
    pub(crate) manner: Manner,
    /// How long it may take at most.
    pub(crate) bound: Duration,
    /// When replicas got it.
    pub(crate) delivered: Vec<Duration>,
    /// The revision of the last of them.
    pub(crate) revision: Option<String>,
    pub(crate) ended: Option<(Duration, End)>,
}

/// Looks at the program whenever something happens.
type Look = Box<dyn Fn(&Ledger)>;

/// The record of one run.
pub(crate) struct Ledger {
    pub(crate) history: History,
    start: Instant,
    text: RefCell<String>,
    requests: RefCell<Vec<Request>>,
    open: Cell<usize>,
    violation: RefCell<Option<Violation>>,
    violated: tokio::sync::Notify,
    last_end: Cell<Duration>,
    look: RefCell<Option<Look>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            history: History::default(),
            start: Instant::now(),
            text: RefCell::default(),
            requests: RefCell::default(),
            open: Cell::new(0),
            violation: RefCell::default(),
            violated: tokio::sync::Notify::new(),
            last_end: Cell::new(Duration::ZERO),
            look: RefCell::new(None),
        }
    }

    /// `look` looks at the program whenever something happens to a request.
    pub(crate) fn on_event(&self, look: impl Fn(&Self) + 'static) {
        *self.look.borrow_mut() = Some(Box::new(look));
    }

    fn look(&self) {
        if let Some(look) = &*self.look.borrow() {
            look(self);
        }
    }

    /// Virtual time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: Arguments<'_>) {
        let at = self.now();
        unmeasured(|| {
            writeln!(
                self.text.borrow_mut(),
                "{:>5}.{:03} {what}",
                at.as_secs(),
                at.subsec_millis()
            )
            .expect("a String takes all");
        });
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
    pub(crate) fn sent(
        &self,
        service: usize,
        post: bool,
        manner: Manner,
        bound: Duration,
    ) -> usize {
        let number = self.requests.borrow().len();
        let request = Request {
            service,
            sent: self.now(),
            post,
            manner,
            bound,
            delivered: Vec::new(),
            revision: None,
            ended: None,
        };
        unmeasured(|| self.requests.borrow_mut().push(request));
        self.open.set(self.open.get() + 1);
        self.look();
        number
    }

    /// Nothing of a request had left its client; now it is sent.
    pub(crate) fn sent_again(&self, request: usize) {
        self.note(format_args!("request {request} is sent on another connection"));
        self.requests.borrow_mut()[request].sent = self.now();
    }

    /// A replica got a request.
    pub(crate) fn delivered(&self, request: usize, replica: u64, revision: &str) {
        self.note(format_args!("request {request} is at replica {replica} of {revision}"));
        unmeasured(|| {
            let entry = &mut self.requests.borrow_mut()[request];
            entry.delivered.push(self.start.elapsed());
            entry.revision = Some(revision.to_owned());
        });
        let again = {
            let entry = &self.requests.borrow()[request];
            (entry.post && entry.delivered.len() > 1) || entry.delivered.len() > 3
        };
        self.look();
        if again {
            self.violated(Property::OneEnd, format_args!("request {request} was delivered again"));
        }
    }

    /// A request ended for its client.
    pub(crate) fn ended(&self, request: usize, end: End) {
        self.note(format_args!("request {request} ended: {end}"));
        let now = self.now();
        self.last_end.set(now);
        self.open.set(self.open.get() - 1);
        self.look();
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

    /// Requests that were sent and did not end.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    pub(crate) fn request(&self, request: usize) -> Request {
        self.requests.borrow()[request].clone()
    }

    pub(crate) fn with_requests<T>(&self, f: impl FnOnce(&[Request]) -> T) -> T {
        f(&self.requests.borrow())
    }

    /// The whole text and what was violated.
    pub(crate) fn close(&self) -> (String, Option<Violation>) {
        *self.look.borrow_mut() = None;
        (self.text.take(), self.violation.take())
    }
}

/// The record grows all the time, and is not the program's memory.
fn unmeasured(f: impl FnOnce()) {
    allocation_counter::opt_out(f);
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { status, reason: None } => write!(f, "{status}"),
            Self::Answered { status, reason: Some(reason) } => write!(f, "{status} {reason}"),
            Self::Cut => f.write_str("its answer was cut off"),
            Self::NoAnswer => f.write_str("no answer"),
            Self::Left => f.write_str("its client left"),
        }
    }
}
