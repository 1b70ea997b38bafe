//! How names are worked on: a bounded number at a time, only while this process leads.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::kubernetes::work::Work;
use crate::model::ObjectName;

/// Names of one kind that are worked on at once: some that wait for an answer do not hold up others.
const WORKERS: usize = 16;
/// One name takes no longer: what it waits for will not come.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(60);

/// When to look at a name again, without it being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something changes.
    WhenTold,
    /// After a while too.
    After(Duration),
}

impl Next {
    /// Whichever is sooner.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(one), Self::After(other)) => Self::After(one.min(other)),
            (Self::WhenTold, next) | (next, Self::WhenTold) => next,
        }
    }
}

/// Why a name could not be brought in order. It is tried again, each time later.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The API server refused, or was not reached.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done, such as `apply Route ns/name`.
        doing: String,
        /// What kube says.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{0}: no answer in time")]
    Timeout(String),
    /// What is known of an object is older than what was written to it.
    #[error("{0} is only known as it was before it was written")]
    Behind(String),
    /// Something that somebody has to put right.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// HTTP status of the API server's refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout(_) | Self::Behind(_) | Self::Other(_) => None,
        }
    }

    /// Whether it is ordinary, and goes away by itself: something was changed at the same time, or
    /// the API server has much to do.
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Behind(_)) || matches!(self.code(), Some(409 | 429))
    }

    /// The API server's own words, as Knative shows them.
    pub fn words(&self) -> String {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
            Self::Timeout(_) | Self::Behind(_) | Self::Other(_) => self.to_string(),
        }
    }
}

/// Works on the names of a queue for as long as it is asked to: what is in hand when it no longer is
/// comes again.
///
/// `kind` names them in the log; `reconcile` brings one in order.
pub async fn keep_working<F, R>(
    kind: impl fmt::Display + Copy,
    work: &Work<ObjectName>,
    reconcile: F,
) where
    F: Fn(ObjectName) -> R,
    R: Future<Output = Result<Next, Failure>>,
{
    let worker = async || {
        loop {
            let mut hand = Hand { work, name: work.next().await, is_done: false };
            let name = &hand.name;
            let done = tokio::time::timeout(RECONCILE_TIMEOUT, reconcile(name.clone())).await;
            hand.is_done = matches!(done, Ok(Ok(_)));
            match done {
                Ok(Ok(Next::WhenTold)) => {}
                Ok(Ok(Next::After(after))) => work.add_after(name.clone(), after),
                Ok(Err(reason)) if reason.is_ordinary() => {
                    tracing::debug!(%kind, %name, %reason, "changed meanwhile, or busy; looked at again");
                }
                Ok(Err(reason)) => {
                    tracing::warn!(%kind, %name, %reason, "not in order; tried again later");
                }
                Err(_) => {
                    tracing::warn!(%kind, %name, "took too long; tried again later");
                }
            }
            drop(hand);
            // Where nothing has to be written nothing is waited for: watches have their turn.
            tokio::task::yield_now().await;
        }
    };
    join_all((0..WORKERS).map(|_| worker())).await;
}

/// Does something for as long as `leading` says so, and again when it does again. Whoever is told
/// first that it does not is this, so that nothing is written any more.
pub async fn while_leading<W: Future<Output = ()>>(
    leading: &watch::Receiver<bool>,
    work: impl Fn() -> W,
) {
    let mut leads = leading.clone();
    let mut leads_no_more = leading.clone();
    // The sender's end is the process's.
    while leads.wait_for(|leads| *leads).await.is_ok() {
        tokio::select! {
            biased;
            _ = leads_no_more.wait_for(|leads| !*leads) => {}
            () = work() => {}
        }
    }
}

/// A name in hand: given back when it is dropped.
struct Hand<'a> {
    work: &'a Work<ObjectName>,
    name: ObjectName,
    is_done: bool,
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.work.done(&self.name, self.is_done);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use futures_util::FutureExt as _;

    use super::*;

    fn name(name: &str) -> ObjectName {
        ObjectName::new("ns", name)
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_again_and_later_looks_are_kept() {
        let work = Work::default();
        let seen = RefCell::new(Vec::new());
        let start = tokio::time::Instant::now();
        let reconcile = |name: ObjectName| {
            let millis = start.elapsed().as_millis();
            seen.borrow_mut().push((name.name.to_string(), millis));
            let result = match &*name.name {
                "bad" if millis == 0 => Err(Failure::Other("no".to_owned())),
                "later" if millis == 0 => Ok(Next::After(Duration::from_secs(3))),
                _ => Ok(Next::WhenTold),
            };
            async move { result }
        };
        for told in ["good", "bad", "later"] {
            work.add(name(told));
        }
        let working = keep_working("thing", &work, reconcile);
        let _ = tokio::time::timeout(Duration::from_secs(10), working).await;
        let seen = seen.borrow();
        let seen: Vec<(&str, u128)> = seen.iter().map(|(name, at)| (&**name, *at)).collect();
        assert_eq!(seen, [("good", 0), ("bad", 0), ("later", 0), ("bad", 50), ("later", 3000)]);
        assert!(work.is_empty() && work.busy().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_leader_works() {
        let work = Work::default();
        let (lead, leading) = watch::channel(false);
        let seen = RefCell::new(0);
        let reconcile = |_: ObjectName| {
            *seen.borrow_mut() += 1;
            pending()
        };
        work.add(name("a"));
        let working = || keep_working("thing", &work, reconcile);
        let mut working = std::pin::pin!(while_leading(&leading, working));
        assert!(working.as_mut().now_or_never().is_none());
        assert_eq!((*seen.borrow(), work.len()), (0, 1));
        lead.send_replace(true);
        assert!(working.as_mut().now_or_never().is_none());
        assert_eq!((*seen.borrow(), work.len(), work.busy().len()), (1, 0, 1));
        // Dropped, and kept for the next time.
        lead.send_replace(false);
        assert!(working.as_mut().now_or_never().is_none());
        assert_eq!((*seen.borrow(), work.len(), work.busy().len()), (1, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up() {
        let work = Work::default();
        let seen = RefCell::new(Vec::new());
        let start = tokio::time::Instant::now();
        let reconcile = |_: ObjectName| {
            seen.borrow_mut().push(start.elapsed().as_secs());
            pending()
        };
        work.add(name("a"));
        let working = keep_working("thing", &work, reconcile);
        let _ = tokio::time::timeout(Duration::from_secs(70), working).await;
        assert_eq!(*seen.borrow(), [0, 60]);
    }
}
