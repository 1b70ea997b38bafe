//! The one that sends what was recorded: batch by batch, each tried again as OTLP has it, and given
//! up in the end, because others wait behind it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::queue::Queue;
use super::span::Recorded;
use super::tracer::Counters;

/// How long the first of a batch waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pause after the first attempt that failed; doubled after each further one. A random half of it
/// is left out, so that those whom a collector failed together do not come back together.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a batch is tried.
const TRIED: Duration = Duration::from_secs(60);

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The collector has the batch, but for so many spans, and why.
    Taken(Option<(usize, String)>),
    /// It is to be tried again, not before so long if the collector said when.
    Again(Option<Duration>, String),
    /// It will never be taken.
    Refused(String),
}

/// When the exporter is to end.
#[derive(Clone, Debug)]
pub(super) struct Parting(watch::Receiver<Option<Instant>>);

impl Parting {
    pub(super) fn new(told: watch::Receiver<Option<Instant>>) -> Self {
        Self(told)
    }

    fn is_told(&self) -> bool {
        self.0.borrow().is_some() || self.0.has_changed().is_err()
    }

    /// Returns when it is told to end.
    async fn told(&mut self) {
        // Without anybody who could say so, at once.
        drop(self.0.wait_for(Option::is_some).await);
    }

    /// Returns when its time is over.
    async fn over(&mut self) {
        let deadline = self.0.wait_for(Option::is_some).await.map(|deadline| *deadline);
        if let Ok(Some(deadline)) = deadline {
            sleep_until(deadline).await;
        }
    }
}

/// Sends what is queued until it is told to end and the queue is empty, or its time is over.
pub(super) async fn run(
    queue: &Queue,
    counters: &Counters,
    mut parting: Parting,
    mut attempt: impl AsyncFnMut(&[Recorded]) -> Outcome,
) {
    let mut said = Said::default();
    loop {
        if queue.is_empty() {
            if parting.is_told() {
                return;
            }
            tokio::select! {
                () = queue.began() => {}
                () = parting.told() => continue,
            }
        }
        if !parting.is_told() {
            tokio::select! {
                () = sleep(DELAY) => {}
                () = queue.filled() => {}
                () = parting.told() => {}
            }
        }
        let batch = queue.take();
        let spans = batch.iter().map(|recorded| recorded.spans.len()).sum();
        let mut over = parting.clone();
        let dropped = tokio::select! {
            biased;
            dropped = deliver(&batch, spans, &mut parting, &mut said, &mut attempt) => dropped,
            () = over.over() => spans,
        };
        counters.exported(spans - dropped);
        counters.dropped(dropped);
        if dropped == spans && parting.is_told() {
            // Nobody takes them: the others would wait in vain.
            let left: usize = std::iter::repeat_with(|| queue.take())
                .take_while(|batch| !batch.is_empty())
                .flatten()
                .map(|recorded| recorded.spans.len())
                .sum();
            counters.dropped(left);
            return;
        }
    }
}

/// Tries until the collector has a batch of so many spans or it is given up; how many of them it
/// does not have.
async fn deliver(
    batch: &[Recorded],
    spans: usize,
    parting: &mut Parting,
    said: &mut Said,
    attempt: &mut impl AsyncFnMut(&[Recorded]) -> Outcome,
) -> usize {
    let began = Instant::now();
    let mut pause = PAUSE;
    loop {
        let outcome = timeout(ATTEMPT, attempt(batch)).await;
        let outcome =
            outcome.unwrap_or_else(|_| Outcome::Again(None, "it does not answer".to_owned()));
        let (wait, why) = match outcome {
            Outcome::Taken(None) => {
                said.taken();
                return 0;
            }
            Outcome::Taken(Some((rejected, why))) => {
                said.failed(&why);
                return rejected.min(spans);
            }
            Outcome::Refused(why) => {
                said.failed(&why);
                return spans;
            }
            Outcome::Again(after, why) => {
                let jittered = pause.mul_f64(1.0 - fastrand::f64() / 2.0);
                (after.unwrap_or(jittered), why)
            }
        };
        said.failed(&why);
        if parting.is_told() || began.elapsed() + wait >= TRIED {
            return spans;
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = parting.told() => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What the log was told: that spans do not go through is said once, until they do.
#[derive(Debug, Default)]
struct Said {
    is_failing: bool,
}

impl Said {
    fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%why, "traces do not reach the collector; they wait, within bounds");
        }
    }

    fn taken(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("traces reach the collector again");
        }
    }
}

#[cfg(test)]
mod tests;
