//! From the running program to the first time it is ready.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::model::{Probe, ProbeAction, Probes};
use crate::platform::tick::Ticker;

use super::listening::listening_addresses;
use super::probe::{Prober, connect_pace, first_open, loopbacks, pace};

/// From when it is looked where else a program listens.
const FIRST_LOOK: Duration = Duration::from_millis(300);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Pause between two looks at a program that is known to have its own port.
const LOOK_KNOWN: Duration = Duration::from_millis(25);

/// A program that is not ready yet.
#[derive(Debug)]
pub(super) struct Starting<'a> {
    /// Asks it.
    pub(super) prober: &'a Prober,
    /// What it is asked.
    pub(super) probes: &'a Probes,
    /// When it was started.
    pub(super) since: Instant,
    /// The port it was given.
    pub(super) port: u16,
    /// The port it is known to listen on instead.
    pub(super) fixed_port: Option<u16>,
    /// Its process group.
    pub(super) group: i32,
    /// What was wrong last, for people.
    pub(super) last: Mutex<String>,
}

impl Starting<'_> {
    /// Resolves when the program is ready, with its address.
    ///
    /// # Errors
    ///
    /// Its startup probe failed for good.
    pub(super) async fn ready(&self) -> Result<SocketAddr, String> {
        let ticker = Ticker::new();
        let address = self.listening(&ticker).await;
        if let Some(startup) = &self.probes.startup {
            let bound = startup.period * startup.failure_threshold;
            let passing = self.pass(startup, address, &ticker);
            if bound.is_zero() {
                passing.await;
            } else {
                let until = self.since + startup.initial_delay + bound;
                if tokio::time::timeout_at(until, passing).await.is_err() {
                    return Err(format!("its startupProbe failed: {}", self.last.lock()));
                }
            }
        }
        self.pass(&self.probes.readiness, address, &ticker).await;
        Ok(address)
    }

    /// Resolves when the program takes connections.
    async fn listening(&self, ticker: &Ticker) -> SocketAddr {
        let elsewhere = Mutex::new(None);
        tokio::select! {
            biased;
            address = self.connecting(ticker, &elsewhere) => address,
            never = self.looking(&elsewhere) => match never {},
        }
    }

    async fn connecting(
        &self,
        ticker: &Ticker,
        elsewhere: &Mutex<Option<SocketAddr>>,
    ) -> SocketAddr {
        let own = loopbacks(self.port);
        loop {
            if let Some(address) = first_open(&own).await {
                return address;
            }
            let other = *elsewhere.lock();
            if let Some(other) = other
                && let Some(address) = first_open(&[other]).await
            {
                return address;
            }
            ticker.pause(connect_pace(self.since.elapsed())).await;
        }
    }

    /// Finds the one port of its own that the program listens on.
    async fn looking(&self, elsewhere: &Mutex<Option<SocketAddr>>) -> std::convert::Infallible {
        let known = self.fixed_port.is_some();
        sleep_until(self.since + if known { LOOK_KNOWN } else { FIRST_LOOK }).await;
        let mut before = Vec::new();
        loop {
            let group = self.group;
            let found = tokio::task::spawn_blocking(move || listening_addresses(group))
                .await
                .unwrap_or_default();
            // Twice the same, so that a debug port opened first is not taken for it.
            if known || found == before {
                *elsewhere.lock() = choose(&found, self.port);
            }
            if found.len() > 1 {
                *self.last.lock() = several(&found, self.port);
            }
            before = found;
            sleep(if known { LOOK_KNOWN } else { LOOK_AGAIN }).await;
        }
    }

    /// Asks until the answer was good `successThreshold` times in a row.
    async fn pass(&self, probe: &Probe, address: SocketAddr, ticker: &Ticker) {
        // The connection just made is the first good answer of a plain TCP probe.
        let made = matches!(probe.action, ProbeAction::Tcp { port: None });
        let mut good = u32::from(made && probe.initial_delay.is_zero());
        if !probe.initial_delay.is_zero() {
            sleep_until(self.since + probe.initial_delay).await;
        }
        let begun = Instant::now();
        while good < probe.success_threshold.max(1) {
            match self.prober.ask(probe, address).await {
                Ok(()) => good += 1,
                Err(wrong) => {
                    good = 0;
                    *self.last.lock() = wrong;
                }
            }
            if good < probe.success_threshold.max(1) {
                ticker.pause(pace(&probe.action, begun.elapsed())).await;
            }
        }
    }
}

/// Where to connect, given all addresses a program listens at: its own port wherever it is bound,
/// else its only port.
fn choose(found: &[SocketAddr], port: u16) -> Option<SocketAddr> {
    match found {
        [only] => Some(*only),
        _ => found.iter().find(|address| address.port() == port).copied(),
    }
}

fn several(found: &[SocketAddr], port: u16) -> String {
    let ports: Vec<String> = found.iter().map(|address| address.port().to_string()).collect();
    format!("it listens on ports {} but not on its PORT {port}", ports.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_only_port_is_taken_for_the_programs() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let lan = SocketAddr::from(([192, 168, 0, 9], 4711));
        assert_eq!(choose(&[], 4711), None);
        assert_eq!(choose(&[at(3000)], 4711), Some(at(3000)));
        assert_eq!(choose(&[at(3000), at(9229)], 4711), None);
        assert_eq!(choose(&[at(3000), lan], 4711), Some(lan), "bound to one interface");
    }
}
