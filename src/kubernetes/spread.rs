//! Whether every proxy leads requests to where an object is about to say that they go. `Ready`
//! means that it works through each of them, as Knative's means that each gateway was probed
//! (`networking/pkg/status/status.go`).
//!
//! The leader asks those that are connected, and asks again until all say yes. Whoever is lost
//! meanwhile is not waited for; nor is anybody for good: one that the API server does not reach any
//! more is not to keep everybody's Services from being ready.

mod leads;
mod rounds;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::peers::{Event, PeerId, Peers};
use crate::model::{ServiceId, World};
pub use leads::Leads;
use rounds::Rounds;

/// Kind of the messages.
const SPREAD: &str = "spread";
/// An answer takes no longer: a proxy that is silent for a second is cut off anyway.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How soon it is asked again.
pub const AGAIN: Duration = Duration::from_millis(25);
/// Nobody is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Message {
    Ask { number: u64, leads: Leads },
    Answer { number: u64, yes: bool },
}

/// The configuration in effect here.
pub type Here = Box<dyn Fn() -> Arc<World> + Send + Sync>;

/// What the proxies lead to.
#[derive(Default)]
pub struct Spread {
    known: OnceLock<Known>,
    rounds: Mutex<Rounds>,
    /// What was asked for, and not everywhere yet; since when.
    late: Mutex<HashMap<Leads, Instant>>,
}

struct Known {
    here: Here,
    peers: Option<Peers>,
}

impl std::fmt::Debug for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spread").finish_non_exhaustive()
    }
}

impl Spread {
    /// Has it know what is in effect here and, through the others if there are any, there. To be
    /// called before the peers start.
    pub fn begin(self: &Arc<Self>, here: Here, peers: Option<Peers>) {
        if let Some(peers) = &peers {
            let spread = Arc::clone(self);
            peers.listen(SPREAD, move |peers, event| spread.take(peers, event));
        }
        if self.known.set(Known { here, peers }).is_err() {
            tracing::error!("what the proxies lead to is asked for by two");
        }
    }

    /// Whether requests lead there through every proxy.
    pub async fn is_everywhere(&self, leads: &Leads) -> bool {
        let Some(known) = self.known.get() else { return true };
        if leads.is_in(&(known.here)()) && self.ask(known, leads).await {
            self.late.lock().remove(leads);
            return true;
        }
        let now = Instant::now();
        let mut late = self.late.lock();
        let since = *late.entry(leads.clone()).or_insert(now);
        if now - since < PATIENCE {
            return false;
        }
        // Others that nobody asks for any more go along.
        late.retain(|_, since| now - *since < PATIENCE);
        tracing::warn!(%leads, "not every proxy leads there yet, it is called ready all the same");
        true
    }

    /// The configuration in effect here; none before it began.
    pub fn here(&self) -> Option<Arc<World>> {
        self.known.get().map(|known| (known.here)())
    }

    /// Whether requests lead to a service here.
    pub fn has(&self, service: &ServiceId) -> bool {
        self.here()
            .is_some_and(|world| world.service(service).is_some_and(|s| !s.traffic.is_empty()))
    }

    async fn ask(&self, known: &Known, leads: &Leads) -> bool {
        let Some(peers) = &known.peers else { return true };
        let connected = peers.members().borrow().connected.clone();
        let Some((number, answer)) = self.rounds.lock().begin(connected.clone()) else {
            return true;
        };
        let ask = Message::Ask { number, leads: leads.clone() };
        for peer in &connected {
            peers.send(peer, SPREAD, &ask);
        }
        let answer = timeout(ANSWER_WITHIN, answer).await;
        self.rounds.lock().end(number);
        matches!(answer, Ok(Ok(true)))
    }

    fn take(&self, peers: &Peers, event: Event<'_>) {
        match event {
            Event::Joined(_) => {}
            Event::Lost(peer, _) => self.rounds.lock().lost(peer),
            Event::Message(peer, body) => match serde_json::from_slice(body) {
                Ok(message) => self.received(peers, peer, message),
                Err(error) => {
                    tracing::debug!(%peer, %error, "what it says about routes is not understood");
                }
            },
        }
    }

    fn received(&self, peers: &Peers, from: &PeerId, message: Message) {
        match message {
            Message::Ask { number, leads } => {
                let yes = self.known.get().is_some_and(|known| leads.is_in(&(known.here)()));
                peers.send(from, SPREAD, &Message::Answer { number, yes });
            }
            Message::Answer { number, yes } => self.rounds.lock().answered(from, number, yes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(world: &Arc<Mutex<Arc<World>>>) -> Arc<Spread> {
        let spread = Arc::new(Spread::default());
        let world = Arc::clone(world);
        spread.begin(Box::new(move || Arc::clone(&world.lock())), None);
        spread
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_for_good() {
        let world = Arc::new(Mutex::new(Arc::default()));
        let spread = spread(&world);
        let (one, other) = (leads::sample("one"), leads::sample("other"));
        let begun = Instant::now();
        assert!(!spread.is_everywhere(&other).await);
        tokio::time::advance(AGAIN).await;
        while !spread.is_everywhere(&one).await {
            tokio::time::advance(AGAIN).await;
        }
        assert_eq!(begun.elapsed(), PATIENCE + AGAIN);
        assert!(spread.late.lock().is_empty(), "nothing is kept of what nobody asks for");
        // The next time it is waited for again.
        assert!(!spread.is_everywhere(&one).await);
        *world.lock() = Arc::new(leads::sample_world("one"));
        assert!(spread.is_everywhere(&one).await);
        assert!(spread.late.lock().is_empty());
        assert!(!spread.is_everywhere(&other).await);
    }

    #[tokio::test]
    async fn where_nothing_is_known_nothing_is_waited_for() {
        assert!(Spread::default().is_everywhere(&leads::sample("one")).await);
    }
}
