//! Who there is: what the cluster lists, and what became of each connection. Neither clock nor
//! network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::session::Queue;
use super::{Event, Loss, Members, PeerId};

/// A pod as the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Where it is called.
    pub(super) address: SocketAddr,
    /// Whether it serves, or did and ends.
    pub(super) is_serving: bool,
}

/// Pods by UID.
pub(super) type Listing = BTreeMap<String, Listed>;

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Joined(PeerId),
    Lost(PeerId, Loss),
}

impl Told {
    pub(super) const fn event(&self) -> Event<'_> {
        match self {
            Self::Joined(peer) => Event::Joined(peer),
            Self::Lost(peer, loss) => Event::Lost(peer, *loss),
        }
    }
}

#[derive(Debug)]
enum State {
    /// Never connected.
    Unheard,
    Connected(PeerId, Queue),
    CutOff(PeerId),
    /// Nothing runs there, as far as is known.
    Gone,
}

#[derive(Debug)]
struct Pod {
    listed: Option<Listed>,
    state: State,
}

/// All other proxies.
#[derive(Debug)]
pub(super) struct Roster {
    /// Pod of this one.
    uid: String,
    is_listed: bool,
    pods: BTreeMap<String, Pod>,
}

impl Roster {
    pub(super) fn new(uid: &str) -> Self {
        Self { uid: uid.to_owned(), is_listed: false, pods: BTreeMap::new() }
    }

    /// The cluster's list. One without this proxy is not complete yet.
    pub(super) fn list(&mut self, listing: &Listing) -> Vec<Told> {
        self.is_listed |= listing.contains_key(&self.uid);
        for (uid, listed) in listing.iter().filter(|(uid, _)| **uid != self.uid) {
            let unheard = || Pod { listed: None, state: State::Unheard };
            self.pods.entry(uid.clone()).or_insert_with(unheard).listed = Some(listed.clone());
        }
        let mut told = Vec::new();
        self.pods.retain(|uid, pod| {
            if listing.contains_key(uid) {
                return true;
            }
            pod.listed = None;
            match &pod.state {
                // It is still there: its connection will end.
                State::Connected(..) => true,
                State::CutOff(peer) => {
                    told.push(Told::Lost(peer.clone(), Loss::Dead));
                    false
                }
                State::Unheard | State::Gone => false,
            }
        });
        told
    }

    /// A connection was made; what it takes the place of is cut.
    pub(super) fn joined(&mut self, uid: &str, peer: &PeerId, queue: &Queue) -> Vec<Told> {
        let unheard = || Pod { listed: None, state: State::Unheard };
        let pod = self.pods.entry(uid.to_owned()).or_insert_with(unheard);
        let former =
            std::mem::replace(&mut pod.state, State::Connected(peer.clone(), queue.clone()));
        let lost = match former {
            State::Connected(former, session) => {
                session.cut();
                let loss = if former == *peer { Loss::CutOff } else { Loss::Dead };
                Some(Told::Lost(former, loss))
            }
            State::CutOff(former) if former != *peer => Some(Told::Lost(former, Loss::Dead)),
            State::CutOff(_) | State::Unheard | State::Gone => None,
        };
        lost.into_iter().chain([Told::Joined(peer.clone())]).collect()
    }

    /// A connection ended. One that was replaced says nothing more.
    pub(super) fn over(&mut self, uid: &str, queue: &Queue, loss: Loss) -> Vec<Told> {
        let Some(pod) = self.pods.get_mut(uid) else { return Vec::new() };
        let peer = match &pod.state {
            State::Connected(peer, session) if session.is(queue) => peer.clone(),
            _ => return Vec::new(),
        };
        let loss = match (loss, pod.listed.is_some()) {
            (Loss::Ended, is_there) => {
                if is_there {
                    pod.state = State::Gone;
                } else {
                    self.pods.remove(uid);
                }
                Loss::Ended
            }
            // Closed without a word or not: whether it lives, the next call tells.
            (Loss::Dead | Loss::CutOff, true) => {
                pod.state = State::CutOff(peer.clone());
                Loss::CutOff
            }
            (Loss::Dead | Loss::CutOff, false) => {
                self.pods.remove(uid);
                Loss::Dead
            }
        };
        vec![Told::Lost(peer, loss)]
    }

    /// Nobody listens there: its process is not running.
    pub(super) fn refused(&mut self, uid: &str) -> Vec<Told> {
        let Some(pod) = self.pods.get_mut(uid) else { return Vec::new() };
        match &pod.state {
            State::Connected(..) | State::Gone => Vec::new(),
            State::Unheard => {
                pod.state = State::Gone;
                Vec::new()
            }
            State::CutOff(peer) => {
                let told = vec![Told::Lost(peer.clone(), Loss::Dead)];
                pod.state = State::Gone;
                told
            }
        }
    }

    /// It was called and does not answer: something may run there.
    pub(super) fn unanswered(&mut self, uid: &str) {
        if let Some(pod) = self.pods.get_mut(uid)
            && matches!(pod.state, State::Gone)
        {
            pod.state = State::Unheard;
        }
    }

    /// Whether there is a connection to the pod.
    pub(super) fn is_connected(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|pod| matches!(pod.state, State::Connected(..)))
    }

    /// Whether this proxy knows of itself by the cluster.
    pub(super) const fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// What is sent to all.
    pub(super) fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.connections().map(|(_, queue)| queue)
    }

    /// What is sent to a peer.
    pub(super) fn queue(&self, peer: &PeerId) -> Option<&Queue> {
        self.connections().find(|(known, _)| *known == peer).map(|(_, queue)| queue)
    }

    fn connections(&self) -> impl Iterator<Item = (&PeerId, &Queue)> {
        self.pods.values().filter_map(|pod| match &pod.state {
            State::Connected(peer, queue) => Some((peer, queue)),
            State::Unheard | State::CutOff(_) | State::Gone => None,
        })
    }

    /// Who is there and who is not.
    pub(super) fn members(&self) -> Members {
        let cut_off = self.pods.values().filter_map(|pod| match &pod.state {
            State::CutOff(peer) => Some(peer.clone()),
            _ => None,
        });
        let unheard = self.pods.values().filter_map(|pod| {
            let serving = pod.listed.as_ref().filter(|listed| listed.is_serving)?;
            matches!(pod.state, State::Unheard).then(|| Arc::clone(&serving.name))
        });
        let gone = self.pods.values().filter_map(|pod| {
            let listed = pod.listed.as_ref()?;
            matches!(pod.state, State::Gone).then(|| Arc::clone(&listed.name))
        });
        Members {
            gone: gone.collect(),
            listed: self.is_listed,
            connected: self.connections().map(|(peer, _)| peer.clone()).collect(),
            cut_off: cut_off.collect(),
            unheard: unheard.collect(),
        }
    }
}
