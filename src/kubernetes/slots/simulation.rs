//! Proxies that share slots, with everything that can go wrong between them, by seed.
//!
//! What is real here are the seats; the network, the Lease, the API server's list of pods, the
//! replicas and the requests are played. After each event the requests in each replica are counted,
//! those of stopped and cut-off proxies included.

mod api;
mod faults;
mod network;
mod replicas;
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use api::Lease;
use replicas::hear;

use super::births::Ask;
use super::message::Message;
use super::seat::Seat;
use super::{Line, Local, Need};
use crate::kubernetes::lease::Renewals;
use crate::kubernetes::peers::PeerId;
use crate::model::{EndpointId, ObjectName, RevisionId};

/// Milliseconds since the beginning.
type Millis = u64;

/// How often a proxy looks whether it leads.
const ELECTION: Millis = 1_000;
/// How often turns change, and load that nobody poked for is looked at.
const TICK: Millis = 100;

/// One revision as one proxy sees it.
#[derive(Debug, Default)]
pub(super) struct Here {
    pub(super) limit: u32,
    pub(super) waiting: u32,
    pub(super) lines: BTreeMap<EndpointId, Line>,
    pub(super) told: bool,
}

impl Here {
    /// An endpoint with a free slot.
    fn free(&mut self, rng: &mut Rng) -> Option<&mut Line> {
        let mut free: Vec<_> =
            self.lines.values_mut().filter(|line| line.takes && line.used < line.own).collect();
        if free.is_empty() { None } else { Some(free.swap_remove(rng.usize(..free.len()))) }
    }
}

/// All revisions of one proxy.
#[derive(Debug, Default)]
pub(super) struct Revisions(pub(super) BTreeMap<RevisionId, Here>);

impl Local for Revisions {
    fn revisions(&mut self) -> Vec<RevisionId> {
        self.0.keys().cloned().collect()
    }

    fn view(&mut self, id: &RevisionId) -> Option<Need> {
        let here = self.0.get_mut(id)?;
        here.told = false;
        let (limit, waiting) = (here.limit, here.waiting);
        let endpoints = here.lines.values().cloned().collect();
        Some(Need { revision: id.clone(), limit, waiting, endpoints })
    }

    fn set(&mut self, id: &RevisionId, own: &[(EndpointId, u32)]) {
        let Some(here) = self.0.get_mut(id) else { return };
        for (endpoint, own) in own {
            if let Some(line) = here.lines.get_mut(endpoint) {
                line.own = (*own).min(here.limit);
            }
        }
    }
}

/// One life of one proxy.
#[derive(Debug)]
struct Process {
    id: PeerId,
    seat: Seat,
    revisions: Revisions,
    /// Does nothing until then; what runs in replicas for it runs on.
    stopped_until: Millis,
    /// What comes meanwhile.
    backlog: Vec<Step>,
    reaches_api: bool,
    /// Whether it waits for a list of the proxies' pods, and of the revisions'.
    is_looking: bool,
    is_listing: bool,
    renewals: Arc<Renewals>,
    /// Whether it waits for an answer about the Lease, and whether it wants another one after it.
    is_writing: bool,
    is_wanting: bool,
    /// The Lease must exceed that.
    raise: Option<u32>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A message comes, on the connection of that number.
    Arrives {
        from: usize,
        to: usize,
        connection: u64,
        message: Message,
    },
    /// One side of a connection sees that it is there, or over.
    Joined {
        at: usize,
        other: usize,
        connection: u64,
    },
    Lost {
        at: usize,
        other: usize,
        connection: u64,
    },
    /// It is known there that a process is gone.
    Gone {
        at: usize,
        who: PeerId,
    },
    Poked {
        at: usize,
    },
    Elects {
        at: usize,
    },
    Ticks {
        at: usize,
    },
    /// It was stopped, and goes on.
    Resumes {
        at: usize,
    },
    Looked {
        at: usize,
        number: u32,
        running: BTreeSet<Arc<str>>,
    },
    Listed {
        at: usize,
        ask: Ask,
        pods: BTreeSet<EndpointId>,
    },
    /// A write of the Lease comes to the API server, and what came of it to the proxy: the number
    /// that the Lease has by it.
    Writes {
        by: usize,
        holder: PeerId,
        write: u64,
        number: u32,
        version: u64,
    },
    Written {
        at: usize,
        write: u64,
        number: Option<u32>,
    },
    /// A request comes, and ends.
    Request {
        at: usize,
        revision: RevisionId,
    },
    Ends {
        at: usize,
        revision: RevisionId,
        endpoint: EndpointId,
    },
    /// A proxy hears of a pod that is only starting.
    Heard {
        at: usize,
        endpoint: EndpointId,
    },
    /// A proxy hears that an endpoint is there, or not any more.
    Endpoint {
        at: usize,
        revision: RevisionId,
        endpoint: EndpointId,
        is_there: bool,
    },
    /// Something goes wrong, or comes right.
    Fault,
}

/// All of it.
#[derive(Debug)]
struct World {
    rng: Rng,
    now: Millis,
    /// What happens, in order.
    steps: BTreeMap<(Millis, u64), Step>,
    counter: u64,
    /// Every life that there was; those that are over are None.
    processes: Vec<Option<Process>>,
    /// Which process runs in which pod.
    pods: BTreeMap<Arc<str>, Option<usize>>,
    /// Numbers of connections by both ends, the smaller one first.
    connections: BTreeMap<(usize, usize), u64>,
    /// When the last message from one to the other comes.
    arrivals: BTreeMap<(usize, usize), Millis>,
    /// Pairs of pods that don't reach each other.
    cut: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Pods whose nodes are lost for good: they reach nobody, whether their processes live on or not,
    /// and the API server goes on listing their containers as running.
    lost: BTreeSet<Arc<str>>,
    lease: Lease,
    limits: BTreeMap<RevisionId, u32>,
    endpoints: BTreeMap<RevisionId, BTreeSet<EndpointId>>,
    /// No faults any more.
    is_calm: bool,
    served: u64,
}

fn revision(number: u32) -> RevisionId {
    ObjectName::new("default", format!("r{number}"))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(2..=4);
        let limits: BTreeMap<_, _> = (0..rng.u32(1..=2))
            .map(|number| (revision(number), if rng.bool() { 1 } else { rng.u32(2..=6) }))
            .collect();
        let mut world = Self {
            rng,
            now: 0,
            steps: BTreeMap::new(),
            counter: 0,
            processes: Vec::new(),
            pods: (0..count).map(|n| (format!("p{n}").into(), None)).collect(),
            connections: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            cut: BTreeSet::new(),
            lost: BTreeSet::new(),
            lease: Lease::default(),
            endpoints: limits.keys().map(|id| (id.clone(), BTreeSet::new())).collect(),
            limits,
            is_calm: false,
            served: 0,
        };
        let pods: Vec<_> = world.pods.keys().cloned().collect();
        pods.iter().for_each(|pod| world.start(pod));
        let ids: Vec<_> = world.limits.keys().cloned().collect();
        for id in ids {
            (0..world.rng.u32(1..=3)).for_each(|_| world.add_endpoint(&id));
        }
        world
    }

    fn after(&mut self, pause: Millis, step: Step) {
        self.counter += 1;
        self.steps.insert((self.now + pause, self.counter), step);
    }

    /// A new life in a pod.
    fn start(&mut self, pod: &Arc<str>) {
        let at = self.processes.len();
        let id = PeerId(format!("{pod}_{at}").into());
        let mut revisions = Revisions::default();
        for (id, limit) in &self.limits {
            let line = |endpoint: &EndpointId| {
                let line = Line { endpoint: endpoint.clone(), own: 0, used: 0, takes: true };
                (endpoint.clone(), line)
            };
            let lines = self.endpoints[id].iter().map(line).collect();
            revisions.0.insert(id.clone(), Here { limit: *limit, lines, ..Here::default() });
        }
        let renewals = Arc::<Renewals>::default();
        self.processes.push(Some(Process {
            seat: Seat::new(id.clone(), Arc::clone(&renewals)),
            renewals,
            is_listing: false,
            is_writing: false,
            is_wanting: false,
            id,
            revisions,
            stopped_until: 0,
            backlog: Vec::new(),
            reaches_api: true,
            is_looking: false,
            raise: None,
        }));
        self.pods.insert(Arc::clone(pod), Some(at));
        let pause = self.rng.u64(0..ELECTION);
        self.after(pause, Step::Elects { at });
        self.after(TICK, Step::Ticks { at });
        let ids: Vec<_> = self.limits.keys().cloned().collect();
        for revision in ids {
            self.after(1, Step::Request { at, revision });
        }
        self.poke(at);
        let others: Vec<_> = self.pods.values().flatten().copied().filter(|o| *o != at).collect();
        others.iter().for_each(|other| self.connect(at, *other));
    }

    /// Has a proxy look at its revisions soon.
    fn poke(&mut self, at: usize) {
        let pause = self.rng.u64(0..4);
        self.after(pause, Step::Poked { at });
    }

    /// Does the next step; false once there is none.
    fn step(&mut self) -> bool {
        let Some(((at, _), step)) = self.steps.pop_first() else { return false };
        self.now = at;
        let actor = match &step {
            Step::Arrives { to: at, .. }
            | Step::Joined { at, .. }
            | Step::Lost { at, .. }
            | Step::Gone { at, .. }
            | Step::Poked { at }
            | Step::Elects { at }
            | Step::Ticks { at }
            | Step::Looked { at, .. }
            | Step::Listed { at, .. }
            | Step::Written { at, .. }
            | Step::Request { at, .. }
            | Step::Ends { at, .. }
            | Step::Resumes { at }
            | Step::Heard { at, .. }
            | Step::Endpoint { at, .. } => *at,
            Step::Writes { by, holder, write, number, version } => {
                self.write(*by, holder.clone(), *write, *number, *version);
                return true;
            }
            Step::Fault => {
                self.fault();
                return true;
            }
        };
        let Some(mut process) = self.processes[actor].take() else { return true };
        // Who is stopped does it later, in the same order.
        let is_stopped = process.stopped_until > self.now;
        let is_resuming = matches!(step, Step::Resumes { .. });
        if is_stopped || (!is_resuming && !process.backlog.is_empty()) {
            if is_resuming || process.backlog.is_empty() {
                let pause = process.stopped_until.saturating_sub(self.now);
                self.after(pause, Step::Resumes { at: actor });
            }
            if !is_resuming {
                process.backlog.push(step);
            }
        } else {
            for step in std::mem::take(&mut process.backlog).into_iter().chain([step]) {
                self.act(actor, &mut process, step);
                self.send(actor, &mut process);
            }
        }
        self.processes[actor] = Some(process);
        true
    }

    fn act(&mut self, at: usize, process: &mut Process, step: Step) {
        let Process { seat, revisions, .. } = process;
        match step {
            Step::Arrives { from, to, connection, message } => {
                // What is under way on a connection that is over may still come, or not.
                let is_up =
                    self.connections.get(&(from.min(to), from.max(to))) == Some(&connection);
                if (is_up || self.rng.bool())
                    && let Some(from) = &self.processes[from]
                {
                    process.raise = seat.received(&from.id, message, revisions).or(process.raise);
                }
            }
            Step::Joined { other, connection, .. } => {
                let is_up = self.connections.get(&(at.min(other), at.max(other)));
                if is_up == Some(&connection)
                    && let Some(other) = &self.processes[other]
                {
                    // In its pod runs no other one any more.
                    for former in (0..self.processes.len()).filter(|n| self.processes[*n].is_none())
                    {
                        let former = PeerId(format!("{}_{former}", other.id.pod()).into());
                        seat.lost(&former, true, revisions);
                    }
                    seat.joined(&other.id);
                }
            }
            Step::Lost { other, connection, .. } => {
                let up = self.connections.get(&(at.min(other), at.max(other)));
                if up.is_none_or(|up| *up < connection)
                    && let Some(other) = &self.processes[other]
                {
                    seat.lost(&other.id, false, revisions);
                }
            }
            Step::Gone { who, .. } => seat.lost(&who, true, revisions),
            Step::Poked { .. } => {
                let told: Vec<_> = revisions.revisions();
                seat.poked(told, revisions);
            }
            Step::Elects { .. } => {
                process.is_wanting = true;
                self.after(ELECTION, Step::Elects { at });
            }
            Step::Ticks { .. } => {
                seat.tick(revisions);
                self.after(TICK, Step::Ticks { at });
            }
            Step::Looked { number, running, .. } => {
                process.is_looking = false;
                seat.looked(number, running, revisions);
            }
            Step::Listed { ask, pods, .. } => {
                process.is_listing = false;
                seat.listed(ask, pods, revisions);
            }
            Step::Written { write, number, .. } => self.written(process, write, number),
            Step::Request { revision, .. } => {
                if let Some(here) = revisions.0.get_mut(&revision) {
                    here.waiting += 1;
                    if !std::mem::replace(&mut here.told, true) {
                        self.poke(at);
                    }
                }
                if !self.is_calm {
                    let pause = self.rng.u64(1..400);
                    self.after(pause, Step::Request { at, revision });
                }
            }
            Step::Ends { revision, endpoint, .. } => self.end(at, revisions, &revision, &endpoint),
            Step::Heard { endpoint, .. } => seat.heard(vec![endpoint]),
            Step::Endpoint { revision, endpoint, is_there, .. } => {
                // What is gone already is heard last.
                let is_there = is_there && self.endpoints[&revision].contains(&endpoint);
                hear(revisions, &revision, endpoint, is_there);
                self.poke(at);
            }
            Step::Resumes { .. } | Step::Fault | Step::Writes { .. } => {}
        }
        self.look_up(at, process);
        self.elect(at, process);
        self.begin(at, &mut process.revisions);
    }
}
