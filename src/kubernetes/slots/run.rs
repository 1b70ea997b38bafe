//! A seat with the other proxies, the Lease, the API server and the clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::lease::{Hints, Leadership, Renewals};
use super::super::observed::Observed;
use super::super::peers::{Event, Loss, Peers};
use super::Local;
use super::lists::{revision_pods, running};
use super::message::Message;
use super::seat::Seat;
use crate::stats::Pokes;

/// Kind of the messages.
const SLOTS: &str = "slots";
/// How often turns change where there is not enough for all.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at revisions that poke: where requests wait all the time, many pokes are one
/// look.
const PAUSE: Duration = Duration::from_millis(5);
/// How soon pods are listed again while somebody has not reported.
const LIST_AGAIN: Duration = Duration::from_millis(500);
/// A list of the proxies' pods takes no longer.
const LIST_WITHIN: Duration = Duration::from_secs(2);
/// One of the revisions' pods, of which there may be thousands.
const LIST_ALL_WITHIN: Duration = Duration::from_secs(20);

/// What this proxy's seat needs.
pub struct Slots {
    /// The revisions here.
    pub local: Box<dyn Local + Send>,
    /// Tells of revisions that are to be looked at.
    pub pokes: Arc<Pokes>,
    /// Whether it leads, and by which number of the Lease.
    pub leadership: Leadership,
    /// What the election is told.
    pub hints: Arc<Hints>,
    /// Tells of pods that are new.
    pub observed: Arc<Observed>,
    /// The only namespace whose revisions there are, if it is only one.
    pub namespace: Option<String>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

impl Slots {
    /// Takes part in what the proxies say to each other. To be called before the peers start.
    pub fn sit_down(self, peers: &Peers) -> Seated {
        let (doubts, _) = watch::channel(None);
        let renewals = self.leadership.renewals();
        let seat = Seat::new(peers.me().clone(), Arc::clone(&renewals));
        let table = Arc::new(Table {
            seat: Mutex::new((seat, self.local)),
            hints: self.hints,
            renewals,
            doubts,
        });
        let seated = Arc::clone(&table);
        peers.listen(SLOTS, move |peers, event| seated.take(peers, event));
        let Self { pokes, leadership, observed, namespace, .. } = self;
        Seated { table, pokes, leadership, observed, namespace }
    }
}

struct Table {
    seat: Mutex<(Seat, Box<dyn Local + Send>)>,
    hints: Arc<Hints>,
    renewals: Arc<Renewals>,
    /// The number of the term in which pods are to be listed.
    doubts: watch::Sender<Option<u32>>,
}

impl Table {
    fn take(&self, peers: &Peers, event: Event<'_>) {
        self.act(peers, |seat, local| match event {
            Event::Joined(peer) => {
                seat.joined(peer);
                None
            }
            Event::Message(peer, body) => match serde_json::from_slice::<Message>(body) {
                Ok(message) => seat.received(peer, message, local),
                Err(error) => {
                    tracing::warn!(%peer, %error, "what it says about slots is not understood");
                    None
                }
            },
            Event::Lost(peer, loss) => {
                let is_gone = matches!(loss, Loss::Dead | Loss::Ended);
                if is_gone {
                    self.hints.ended(&peer.0);
                }
                seat.lost(peer, is_gone, local);
                None
            }
        });
    }

    /// Does something, and what follows of it. What is returned is the number that the Lease must
    /// exceed.
    fn act(&self, peers: &Peers, act: impl FnOnce(&mut Seat, &mut dyn Local) -> Option<u32>) {
        let mut seat = self.seat.lock();
        let (seat, local) = &mut *seat;
        if let Some(number) = act(seat, &mut **local) {
            self.hints.exceed(number);
        }
        for (who, message) in seat.take_outgoing() {
            peers.send(&who, SLOTS, &message);
        }
        if seat.take_wanting() {
            self.renewals.want();
        }
        let doubts = seat.doubts();
        self.doubts.send_if_modified(|former| std::mem::replace(former, doubts) != doubts);
    }

    fn is_busy(&self) -> bool {
        self.seat.lock().0.is_busy()
    }
}

/// A seat that is taken.
pub struct Seated {
    table: Arc<Table>,
    pokes: Arc<Pokes>,
    leadership: Leadership,
    observed: Arc<Observed>,
    namespace: Option<String>,
}

impl fmt::Debug for Seated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seated").finish_non_exhaustive()
    }
}

impl Seated {
    /// Takes part for good.
    pub(in super::super) async fn run(&self, peers: &Peers, client: &Client, namespace: &str) {
        tokio::join!(
            self.follow(peers),
            self.list(peers, client, namespace),
            self.list_all(peers, client)
        );
    }

    async fn follow(&self, peers: &Peers) {
        let mut number = self.leadership.number();
        number.mark_changed();
        let mut renewed = self.table.renewals.watch();
        let mut next = Instant::now() + TICK;
        loop {
            tokio::select! {
                Ok(()) = number.changed() => {
                    let number = *number.borrow_and_update();
                    if let Some(number) = number {
                        self.table.act(peers, |seat, local| seat.lead(number, local));
                    }
                }
                Ok(()) = renewed.changed() => self.table.act(peers, |seat, local| {
                    seat.renewed(local);
                    None
                }),
                pods = self.observed.new_pods() => self.table.act(peers, |seat, _| {
                    seat.heard(pods);
                    None
                }),
                () = self.pokes.poked() => {
                    let poked = self.pokes.take();
                    self.table.act(peers, |seat, local| {
                        seat.poked(poked, local);
                        None
                    });
                    sleep(PAUSE).await;
                }
                () = sleep_until(next), if self.table.is_busy() => {
                    next = Instant::now() + TICK;
                    self.table.act(peers, |seat, local| {
                        seat.tick(local);
                        None
                    });
                }
            }
        }
    }

    /// Lists pods in which proxies run, as long as that matters.
    async fn list(&self, peers: &Peers, client: &Client, namespace: &str) {
        let mut doubts = self.table.doubts.subscribe();
        let mut is_told = false;
        loop {
            // The sender is ours.
            let term = doubts.wait_for(Option::is_some).await.ok().and_then(|term| *term);
            let Some(term) = term else { return };
            match timeout(LIST_WITHIN, running(client, namespace)).await {
                Ok(Ok(mut running)) => {
                    is_told = false;
                    // Where nobody listens any more, nobody runs.
                    let gone = peers.members().borrow().gone.clone();
                    running.retain(|pod| !gone.contains(pod));
                    self.table.act(peers, |seat, local| {
                        seat.looked(term, running, local);
                        None
                    });
                }
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => format!("no answer within {} s", LIST_WITHIN.as_secs()),
                    };
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            %error, %namespace,
                            "the proxies' pods cannot be listed: until they are, slots of revisions \
                             with containerConcurrency stay where they are. The role needs get of \
                             the Service and list of pods in this namespace"
                        );
                    }
                }
            }
            if doubts.borrow().is_some() {
                sleep(LIST_AGAIN).await;
            }
        }
    }

    /// Lists the revisions' pods, as long as it matters which of them are younger than the term.
    async fn list_all(&self, peers: &Peers, client: &Client) {
        let mut doubts = self.table.doubts.subscribe();
        loop {
            if doubts.wait_for(Option::is_some).await.is_err() {
                return;
            }
            let ask = self.table.seat.lock().0.asks();
            if let Some(ask) = ask {
                let pods = revision_pods(client, self.namespace.as_deref());
                match timeout(LIST_ALL_WITHIN, pods).await {
                    Ok(Ok(pods)) => self.table.act(peers, |seat, local| {
                        seat.listed(ask, pods, local);
                        None
                    }),
                    // The list of the proxies' own says so, too.
                    Ok(Err(error)) => tracing::debug!(%error, "the pods cannot be listed"),
                    Err(error) => tracing::debug!(%error, "the pods cannot be listed"),
                }
            }
            sleep(LIST_AGAIN).await;
        }
    }
}
