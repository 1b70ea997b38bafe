//! Which writes of the Lease succeeded, and what was known when they were sent.

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// Of a proxy's writes of the Lease: how many were begun, and the last one that succeeded.
///
/// A clock says that nobody else leads only as long as all clocks run. A write says it for good: it
/// succeeds only if nobody took the Lease before, so what was known when it was sent was known
/// before the next one took it. Writes are told apart by their order alone, and time has no part in
/// it: a process that was stopped, with its clock or without, finds itself where it was.
#[derive(Debug)]
pub struct Renewals {
    state: Mutex<State>,
    wanted: Notify,
    succeeded: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    /// The write by which it was tried last to take the Lease: nobody else had it between what
    /// succeeds from then on. Whether that one succeeded itself need not be known.
    taken: u64,
    last: Option<Renewal>,
}

/// A write that succeeded.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    tenure: Tenure,
    write: u64,
}

/// The time from a take of the Lease until the next one, by whomever. A number alone may come again
/// where the Lease was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    taken: u64,
    number: u32,
}

impl Default for Renewals {
    fn default() -> Self {
        let (succeeded, _) = watch::channel(0);
        Self { state: Mutex::default(), wanted: Notify::new(), succeeded }
    }
}

impl Renewals {
    /// How many writes were begun so far. What is known before this is asked was known before
    /// every write of a higher number was sent.
    pub fn begun(&self) -> u64 {
        self.state.lock().begun
    }

    /// A write begins, to be called before it is sent; its number. `is_take`: the Lease is not this
    /// proxy's yet, as far as it knows.
    pub fn begin(&self, is_take: bool) -> u64 {
        let mut state = self.state.lock();
        state.begun += 1;
        if is_take {
            state.taken = state.begun;
        }
        state.begun
    }

    /// A write succeeded: by it the Lease is this proxy's, with this number.
    pub fn succeeded(&self, write: u64, number: u32) {
        let mut state = self.state.lock();
        let tenure = Tenure { taken: state.taken, number };
        state.last = Some(Renewal { tenure, write });
        drop(state);
        self.succeeded.send_replace(write);
    }

    /// The tenure under this number, if the last write that succeeded had it.
    pub fn tenure(&self, number: u32) -> Option<Tenure> {
        let last = self.state.lock().last?;
        Some(last.tenure).filter(|tenure| tenure.number == number)
    }

    /// The last write that succeeded in this tenure; none if the last one was in another.
    pub fn last(&self, tenure: Tenure) -> Option<u64> {
        let last = self.state.lock().last?;
        (last.tenure == tenure).then_some(last.write)
    }

    /// Changes with each write that succeeds.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.succeeded.subscribe()
    }

    /// Asks for a write at once.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Returns once one was asked for since it returned last.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_comes_again_is_another_tenure() {
        let renewals = Renewals::default();
        assert_eq!((renewals.begun(), renewals.tenure(3)), (0, None));
        let take = renewals.begin(true);
        assert_eq!(renewals.tenure(3), None, "it may fail");
        renewals.succeeded(take, 3);
        let first = renewals.tenure(3).expect("a tenure");
        assert_eq!((renewals.last(first), renewals.tenure(4)), (Some(1), None));
        let renewal = renewals.begin(false);
        assert_eq!(renewals.last(first), Some(1), "it is under way");
        renewals.succeeded(renewal, 3);
        assert_eq!(renewals.last(first), Some(2));
        // No answer came, but it counted: what follows is no renewal of the first.
        renewals.begin(true);
        let renewal = renewals.begin(false);
        renewals.succeeded(renewal, 3);
        assert_eq!(renewals.last(first), None);
        let second = renewals.tenure(3).expect("a tenure");
        assert_eq!((renewals.last(second), renewals.begun()), (Some(4), 4));
        // Raised, as somebody has heard of a later one.
        let renewal = renewals.begin(false);
        renewals.succeeded(renewal, 9);
        assert_eq!((renewals.last(second), renewals.tenure(3)), (None, None));
    }
}
