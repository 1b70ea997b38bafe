//! Proxies with clocks of their own, connections that break and fall silent, processes that stop and
//! die, leaders that come and go: at no moment has an endpoint more requests than its limit, and
//! once everything is well, everybody is served.

mod faults;
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::model::{EndpointId, Nanos, ObjectName, RevisionId};

/// The world's time in microseconds.
type Micros = u64;
const SECOND: Micros = 1_000_000;
/// `timeoutSeconds` of all revisions; requests take less.
const TIMEOUT: Duration = Duration::from_secs(6);

/// How long a request waits where slots are few but all is well.
const LONGEST: Micros = 6 * SECOND;

/// A revision as the owner of slots would have it, the plainest way.
#[derive(Debug, Default)]
struct Local {
    waiting: VecDeque<Micros>,
    /// Known endpoints: own slots, in use, most in use since looked at, takes.
    places: BTreeMap<EndpointId, (u32, u32, u32, bool)>,
}

struct Process {
    seat: Seat,
    life: u64,
    alive: bool,
    stopped_until: Micros,
    start: u64,
    rate: f64,
    leads: bool,
    revisions: BTreeMap<RevisionId, Local>,
    turn_at: Micros,
}

impl Process {
    fn clock(&self, now: Micros) -> Nanos {
        Nanos(self.start + (now as f64 * 1_000.0 * self.rate) as u64)
    }
}

#[derive(Clone, Debug)]
enum What {
    Turn,
    /// From process, its life, connection.
    Arrives {
        from: usize,
        line: u64,
        message: Message,
    },
    Up {
        with: usize,
        line: u64,
    },
    Down {
        with: usize,
        life: u64,
        dead: bool,
    },
    Listed,
    /// Sees these endpoints of a revision.
    Endpoints(RevisionId, Vec<EndpointId>),
    Ends(RevisionId, EndpointId),
    /// The replica has answered, whether or not the process sees it.
    Answered(RevisionId, EndpointId),
    Asks,
}

struct World {
    rng: Rng,
    seed: u64,
    now: Micros,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    bodies: BTreeMap<u64, (usize, u64, What)>,
    count: u64,
    processes: Vec<Process>,
    /// Connections by pair: number while it stands.
    lines: BTreeMap<(usize, usize), u64>,
    /// Pairs that cannot talk.
    cut: BTreeSet<(usize, usize)>,
    /// In order: the last arrival by direction.
    last: BTreeMap<(usize, usize), Micros>,
    limits: BTreeMap<RevisionId, u32>,
    endpoints: BTreeMap<RevisionId, BTreeSet<EndpointId>>,
    /// Requests that replicas work on, by process and its life.
    in_replicas: BTreeMap<(RevisionId, EndpointId), BTreeMap<(usize, u64), u32>>,
    made: u64,
    load: Micros,
    messages: u64,
    served: u64,
    waits: Vec<Micros>,
    begun_after: Micros,
    /// Nobody asks for anything.
    is_quiet: bool,
    /// Nothing breaks, and no request takes long.
    is_well: bool,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut limits = BTreeMap::new();
        for (name, limit) in [("one", 1), ("two", 2), ("ten", 10)] {
            limits.insert(ObjectName::new("default", name), limit);
        }
        let mut world = Self {
            seed,
            now: 0,
            queue: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            count: 0,
            processes: Vec::new(),
            lines: BTreeMap::new(),
            cut: BTreeSet::new(),
            last: BTreeMap::new(),
            endpoints: limits.keys().map(|id| (id.clone(), BTreeSet::new())).collect(),
            limits,
            in_replicas: BTreeMap::new(),
            made: 0,
            load: rng.u64(20_000..100_000),
            messages: 0,
            served: 0,
            waits: Vec::new(),
            begun_after: 0,
            is_quiet: false,
            is_well: false,
            rng: rng.clone(),
        };
        for index in 0..count {
            let process = world.process(index, 1);
            world.processes.push(process);
        }
        let revisions: Vec<_> = world.limits.keys().cloned().collect();
        for id in revisions {
            for _ in 0..2 {
                world.add_endpoint(&id);
            }
        }
        for index in 0..count {
            world.begin(index);
        }
        world
    }

    fn process(&mut self, index: usize, life: u64) -> Process {
        let me = MemberId::new(format!("p{index}"), life);
        Process {
            seat: Seat::new(me, Timing::default()),
            life,
            alive: true,
            stopped_until: 0,
            start: self.rng.u64(..1_000_000_000_000),
            rate: 1.0 + (self.rng.f64() - 0.5) * 0.06,
            leads: false,
            revisions: self.limits.keys().map(|id| (id.clone(), Local::default())).collect(),
            turn_at: u64::MAX,
        }
    }

    /// A process begins: it sees the list and the endpoints, and connects.
    fn begin(&mut self, index: usize) {
        let after = self.rng.u64(..300_000);
        self.at(after, index, What::Listed);
        for id in self.limits.keys().cloned().collect::<Vec<_>>() {
            self.tell(index, &id);
        }
        for other in 0..self.processes.len() {
            if other != index {
                self.connect(index, other);
            }
        }
        let after = self.rng.u64(..self.load * 2);
        self.at(after, index, What::Asks);
    }

    fn at(&mut self, after: Micros, process: usize, what: What) {
        let life = self.processes.get(process).map_or(1, |process| process.life);
        self.count += 1;
        self.bodies.insert(self.count, (process, life, what));
        self.queue.push(Reverse((self.now + after, self.count)));
    }

    fn tell(&mut self, index: usize, id: &RevisionId) {
        let known = self.endpoints[id].iter().cloned().collect();
        let after = self.rng.u64(..50_000);
        self.in_order(index, index, after, What::Endpoints(id.clone(), known));
    }

    /// Events between two arrive in the order in which they were sent.
    fn in_order(&mut self, from: usize, to: usize, after: Micros, what: What) {
        let last = self.last.entry((from, to)).or_default();
        *last = (*last + 1).max(self.now + after);
        let after = *last - self.now;
        self.at(after, to, what);
    }

    fn connect(&mut self, a: usize, b: usize) {
        let can = !self.cut.contains(&pair(a, b)) && !self.lines.contains_key(&pair(a, b));
        if can && self.processes[a].alive && self.processes[b].alive {
            self.count += 1;
            let line = self.count;
            self.lines.insert(pair(a, b), line);
            for (from, to) in [(a, b), (b, a)] {
                let after = self.rng.u64(1_000..100_000);
                self.in_order(from, to, after, What::Up { with: from, line });
            }
        }
    }

    /// A connection breaks; what is under way may still arrive or not.
    fn part(&mut self, a: usize, b: usize, dead: Option<usize>) {
        if self.lines.remove(&pair(a, b)).is_none() {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            let is_dead = dead == Some(from);
            // Silence takes a while to be noticed.
            let after = if is_dead { self.rng.u64(..20_000) } else { self.rng.u64(..1_500_000) };
            let life = self.processes[from].life;
            self.in_order(from, to, after, What::Down { with: from, life, dead: is_dead });
        }
    }

    fn run(&mut self, until: Micros) {
        while let Some(Reverse((time, number))) = self.queue.pop() {
            if time > until {
                self.queue.push(Reverse((time, number)));
                break;
            }
            self.now = time;
            if let Some((process, life, what)) = self.bodies.remove(&number) {
                self.take(process, life, what);
            }
        }
        self.now = until;
    }

    fn take(&mut self, index: usize, life: u64, what: What) {
        if let What::Answered(id, endpoint) = what {
            let by = self.in_replicas.entry((id, endpoint)).or_default();
            if let Some(count) = by.get_mut(&(index, life)) {
                *count -= 1;
            }
            return;
        }
        let process = &self.processes[index];
        if process.life != life || !process.alive {
            return;
        }
        if process.stopped_until > self.now {
            // Happens when it goes on, in the same order.
            let number = self.count + 1;
            self.count = number;
            self.bodies.insert(number, (index, life, what));
            self.queue.push(Reverse((process.stopped_until, number)));
            return;
        }
        match what {
            What::Turn if process.turn_at > self.now => return,
            What::Turn | What::Listed => {}
            What::Arrives { from, line, ref message } => {
                let member = self.member(from);
                if self.is_line(index, from, line) {
                    self.event(index, Event::Message(member, message.clone()));
                }
            }
            What::Up { with, line } => {
                if self.is_line(index, with, line) {
                    let member = self.member(with);
                    self.event(index, Event::Up(member));
                }
            }
            What::Down { with, life, dead } => {
                let member = MemberId::new(format!("p{with}"), life);
                self.event(index, Event::Down { member, dead });
            }
            What::Endpoints(ref id, ref known) => self.see_endpoints(index, id, known),
            What::Ends(ref id, ref endpoint) => self.ends(index, id, endpoint),
            What::Asks => self.asks(index),
            What::Answered(..) => {}
        }
        if matches!(what, What::Listed) {
            let peers = (0..self.processes.len()).filter(|n| *n != index && self.is_listed(*n));
            let peers = peers.map(|n| Arc::from(format!("p{n}"))).collect();
            self.event(index, Event::Listed(peers));
        }
        self.turn(index);
        self.check();
    }

    fn is_listed(&self, index: usize) -> bool {
        self.processes[index].alive
    }

    fn is_line(&self, a: usize, b: usize, line: u64) -> bool {
        self.lines.get(&pair(a, b)) == Some(&line)
    }

    fn member(&self, index: usize) -> MemberId {
        MemberId::new(format!("p{index}"), self.processes[index].life)
    }

    fn event(&mut self, index: usize, event: Event) {
        let clock = self.processes[index].clock(self.now);
        self.processes[index].seat.take(event, clock);
    }

    fn turn(&mut self, index: usize) {
        let leads = self.processes[index].leads;
        let process = &mut self.processes[index];
        let clock = process.clock(self.now);
        process.seat.lead(leads);
        let limits = &self.limits;
        let has_lease = process.seat.until().is_none_or(|until| clock < until);
        let Process { seat, revisions, .. } = process;
        let mut begun = Vec::new();
        let rng = &mut self.rng;
        let mut change = |id: &RevisionId, change: Change<'_>| {
            let local = revisions.get_mut(id)?;
            let limit = limits[id];
            match change {
                Change::Look | Change::Lease => {}
                Change::Caps(caps) => {
                    for own in caps {
                        if let Some(place) = local.places.get_mut(&own.endpoint) {
                            place.0 = own.slots;
                        }
                    }
                }
                Change::Everything => {
                    local.places.values_mut().for_each(|place| place.0 = limit);
                }
            }
            if has_lease {
                begun.push((id.clone(), begin(local, rng)));
            }
            Some(seen(local, limit))
        };
        let sent = seat.turn(clock, &mut change, &mut || limits.keys().cloned().collect());
        let wake = seat.wake(clock);
        for (id, begun) in begun {
            self.begun(index, &id, begun);
        }
        for (to, message) in sent {
            let to: usize = to.peer[1..].parse().expect("a process");
            self.messages += 1;
            if let Some(line) = self.lines.get(&pair(index, to)).copied() {
                let after = self.rng.u64(100..3_000);
                // A cut connection takes what is sent, for a while.
                if !self.cut.contains(&pair(index, to)) {
                    let what = What::Arrives { from: index, line, message };
                    self.in_order(index, to, after, what);
                }
            }
        }
        for id in self.limits.keys().cloned().collect::<Vec<_>>() {
            self.dispatch(index, &id);
        }
        let after = (wake.since(clock).as_micros() as u64).max(1) + 1_000;
        let turn_at = self.now + after;
        self.processes[index].turn_at = turn_at;
        self.at(after, index, What::Turn);
    }

    /// Waiting requests begin where there are slots of its own.
    fn dispatch(&mut self, index: usize, id: &RevisionId) {
        let clock = self.processes[index].clock(self.now);
        let has_lease = self.processes[index].seat.until().is_none_or(|until| clock < until);
        if has_lease {
            let local = self.processes[index].revisions.get_mut(id).expect("a revision");
            let begun = begin(local, &mut self.rng);
            self.begun(index, id, begun);
        }
    }

    fn begun(&mut self, index: usize, id: &RevisionId, begun: Vec<(EndpointId, Micros)>) {
        for (endpoint, since) in begun {
            if since >= self.begun_after {
                self.waits.push(self.now - since);
            }
            self.served += 1;
            let long = !self.is_well && self.rng.u32(..50) == 0;
            let took = if long { self.rng.u64(..6 * SECOND) } else { self.rng.u64(..30_000) };
            let life = self.processes[index].life;
            let key = (id.clone(), endpoint.clone());
            *self.in_replicas.entry(key).or_default().entry((index, life)).or_default() += 1;
            self.at(took, index, What::Answered(id.clone(), endpoint.clone()));
            self.at(took, index, What::Ends(id.clone(), endpoint));
        }
    }

    fn asks(&mut self, index: usize) {
        let ids: Vec<_> = self.limits.keys().cloned().collect();
        let id = ids[self.rng.usize(..ids.len())].clone();
        let now = self.now;
        let local = self.processes[index].revisions.get_mut(&id).expect("a revision");
        // A bounded queue.
        if local.waiting.len() < 20 && !self.is_quiet {
            local.waiting.push_back(now);
        }
        self.dispatch(index, &id);
        if !self.processes[index].revisions[&id].waiting.is_empty() {
            self.event(index, Event::Changed(id));
        }
        let after = self.rng.u64(..self.load * 2) + 1;
        self.at(after, index, What::Asks);
    }

    fn ends(&mut self, index: usize, id: &RevisionId, endpoint: &EndpointId) {
        let local = self.processes[index].revisions.get_mut(id).expect("a revision");
        let Some(place) = local.places.get_mut(endpoint) else { return };
        place.1 -= 1;
        let tells = place.1 >= place.0 || !place.3 || local.waiting.is_empty();
        if !place.3 && place.1 == 0 {
            local.places.remove(endpoint);
        }
        if tells {
            self.event(index, Event::Changed(id.clone()));
        }
        self.dispatch(index, id);
    }

    fn see_endpoints(&mut self, index: usize, id: &RevisionId, known: &[EndpointId]) {
        let limit = self.limits[id];
        let process = &mut self.processes[index];
        let leased = process.seat.until().is_some();
        let local = process.revisions.get_mut(id).expect("a revision");
        for (endpoint, place) in &mut local.places {
            place.3 = known.contains(endpoint);
        }
        local.places.retain(|_, place| place.3 || place.1 > 0);
        for endpoint in known {
            local.places.entry(endpoint.clone()).or_insert(if leased {
                (0, 0, 0, true)
            } else {
                (limit, 0, 0, true)
            });
        }
        self.event(index, Event::Changed(id.clone()));
    }

    fn add_endpoint(&mut self, id: &RevisionId) {
        self.made += 1;
        let endpoint = EndpointId::new(format!("{}-{}", id.name, self.made));
        self.endpoints.get_mut(id).expect("a revision").insert(endpoint);
    }
}

fn begin(local: &mut Local, rng: &mut Rng) -> Vec<(EndpointId, Micros)> {
    let mut begun = Vec::new();
    while !local.waiting.is_empty() {
        let mut places: Vec<_> =
            local.places.iter_mut().filter(|(_, p)| p.3 && p.1 < p.0).collect();
        if places.is_empty() {
            break;
        }
        let chosen = rng.usize(..places.len());
        let (endpoint, place) = &mut places[chosen];
        place.1 += 1;
        place.2 = place.2.max(place.1);
        if let Some(since) = local.waiting.pop_front() {
            begun.push(((*endpoint).clone(), since));
        }
    }
    begun
}

fn seen(local: &mut Local, limit: u32) -> Seen {
    let endpoints = local
        .places
        .iter_mut()
        .map(|(id, place)| SeenEndpoint {
            id: id.clone(),
            used: place.1,
            peak: std::mem::replace(&mut place.2, place.1),
            takes: place.3,
        })
        .collect();
    let waiting = local.waiting.len() as u32;
    Seen { limit, timeout: TIMEOUT, waiting, endpoints }
}
