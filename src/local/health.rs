//! A replica's health after it was ready for the first time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::model::{Probe, Probes};

use super::probe::Prober;

/// Pause between two probes where the manifest gives none (kubelet's default).
const USUAL_PERIOD: Duration = Duration::from_secs(10);

/// Watches a replica: sends whether it is ready on each change; resolves when its liveness probe
/// failed for good, with the reason.
pub(super) async fn watch(
    prober: &Prober,
    probes: &Probes,
    address: SocketAddr,
    changes: &mpsc::Sender<bool>,
) -> String {
    let readiness = async {
        let mut state = Threshold::new(&probes.readiness, true);
        loop {
            sleep(period(&probes.readiness)).await;
            let answer = prober.ask(&probes.readiness, address).await;
            if let Some(ready) = state.observe(answer.is_ok()) {
                if let Err(reason) = answer {
                    tracing::warn!(%address, reason, "a replica's readiness probe fails");
                }
                let _ = changes.send(ready).await;
            }
        }
    };
    let liveness = async {
        let Some(probe) = &probes.liveness else { return std::future::pending().await };
        let mut state = Threshold::new(probe, true);
        sleep(probe.initial_delay).await;
        loop {
            sleep(period(probe)).await;
            if let Err(reason) = prober.ask(probe, address).await {
                if state.observe(false) == Some(false) {
                    return format!("its livenessProbe failed: {reason}");
                }
            } else {
                state.observe(true);
            }
        }
    };
    tokio::select! {
        never = readiness => match never {},
        reason = liveness => reason,
    }
}

/// Resolves when a replica that was ready no longer is, with the reason.
pub(super) async fn lost(prober: &Prober, probe: &Probe, address: SocketAddr) -> String {
    let mut state = Threshold::new(probe, true);
    loop {
        sleep(period(probe)).await;
        match prober.ask(probe, address).await {
            Ok(()) => drop(state.observe(true)),
            Err(reason) if state.observe(false) == Some(false) => return reason,
            Err(_) => {}
        }
    }
}

fn period(probe: &Probe) -> Duration {
    if probe.period.is_zero() { USUAL_PERIOD } else { probe.period }
}

/// Answers in a row that change a verdict.
#[derive(Debug)]
struct Threshold {
    good: bool,
    against: u32,
    success: u32,
    failure: u32,
}

impl Threshold {
    fn new(probe: &Probe, good: bool) -> Self {
        let success = probe.success_threshold.max(1);
        let failure = probe.failure_threshold.max(1);
        Self { good, against: 0, success, failure }
    }

    /// One answer; the new verdict when it changes.
    fn observe(&mut self, good: bool) -> Option<bool> {
        if good == self.good {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if good { self.success } else { self.failure };
        if self.against < needed {
            return None;
        }
        self.good = good;
        self.against = 0;
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::tests::tcp_probe;

    #[test]
    fn verdicts_change_after_so_many_answers_in_a_row() {
        let probe = Probe { success_threshold: 2, failure_threshold: 3, ..tcp_probe() };
        let mut state = Threshold::new(&probe, true);
        let answers = "bbgbbbgbggg";
        let verdicts: String = answers
            .chars()
            .map(|answer| match state.observe(answer == 'g') {
                None => '.',
                Some(true) => 'U',
                Some(false) => 'D',
            })
            .collect();
        assert_eq!(verdicts, ".....D...U.", "{answers}");
    }
}
