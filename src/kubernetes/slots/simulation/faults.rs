//! What goes wrong, and that it comes right in the end.

use std::sync::Arc;

use super::{Process, Step, World};

impl World {
    /// Those whose nodes are not lost.
    pub(super) fn alive(&self) -> Vec<usize> {
        let pods = self.pods.iter().filter(|(pod, _)| !self.lost.contains(*pod));
        pods.filter_map(|(_, life)| *life).collect()
    }

    fn any_alive(&mut self) -> Option<usize> {
        let alive = self.alive();
        if alive.is_empty() { None } else { Some(alive[self.rng.usize(..alive.len())]) }
    }

    /// One thing goes wrong, or one that was wrong comes right.
    pub(super) fn fault(&mut self) {
        if self.is_calm {
            return;
        }
        match self.rng.u32(..13) {
            0 => self.kill(),
            1 | 2 => self.cut_two(),
            3 => self.cut.clear(),
            4 => {
                if let Some(at) = self.any_alive() {
                    let pause = self.rng.u64(100..20_000);
                    if let Some(process) = &mut self.processes[at] {
                        process.stopped_until = process.stopped_until.max(self.now + pause);
                    }
                }
            }
            5 | 6 => {
                if let Some(at) = self.any_alive()
                    && let Some(process) = &mut self.processes[at]
                {
                    process.reaches_api = !process.reaches_api;
                }
            }
            // The Lease is deleted, and somebody else may take it at once.
            7 if self.rng.u8(..) < 64 => self.lease.delete(),
            // It is given up, or lost for whatever reason.
            7 => self.lease.empty(),
            8 | 9 => self.change_endpoints(),
            10 if self.rng.u8(..) < 64 => self.lose_node(),
            _ => self.reset_two(),
        }
        self.reconnect();
        let pause = self.rng.u64(1..4_000);
        self.after(pause, Step::Fault);
    }

    /// A process is gone; another life of its pod begins later. Who is told of it, and when, varies.
    fn kill(&mut self) {
        let Some(at) = self.any_alive() else { return };
        let Some(process) = self.processes[at].take() else { return };
        let pod: Arc<str> = process.id.pod().into();
        self.pods.insert(Arc::clone(&pod), None);
        let others: Vec<_> = self.pods.values().flatten().copied().collect();
        for other in others {
            self.connections.remove(&(at.min(other), at.max(other)));
            let pause = self.rng.u64(1..3_000);
            // Its end is seen in two ways; where it is cut off, only its next life shows it.
            if self.rng.bool() {
                self.after(pause, Step::Gone { at: other, who: process.id.clone() });
            } else if let Some(Process { seat, revisions, .. }) = &mut self.processes[other] {
                seat.lost(&process.id, false, revisions);
            }
        }
        if self.rng.u8(..) < 200 {
            self.start(&pod);
        }
    }

    /// A node is lost for good, that of the leader more often than others. Somebody is left.
    fn lose_node(&mut self) {
        let leader = self.alive().into_iter().find(|at| {
            let id = self.processes[*at].as_ref().map(|process| &process.id);
            id.is_some() && id == self.lease.holder.as_ref()
        });
        let any = self.any_alive();
        let Some(at) = leader.filter(|_| self.rng.bool()).or(any) else { return };
        let Some(pod) = self.pod(at).filter(|_| self.lost.len() + 1 < self.pods.len()) else {
            return;
        };
        self.lost.insert(pod);
        if let Some(process) = &mut self.processes[at] {
            process.reaches_api = false;
        }
        if self.rng.bool() {
            return;
        }
        let Some(process) = self.processes[at].take() else { return };
        for other in self.alive() {
            self.connections.remove(&(at.min(other), at.max(other)));
            if let Some(Process { seat, revisions, .. }) = &mut self.processes[other] {
                seat.lost(&process.id, false, revisions);
            }
        }
    }

    fn cut_two(&mut self) {
        let pods: Vec<_> = self.pods.keys().cloned().collect();
        let (one, other) = (self.rng.usize(..pods.len()), self.rng.usize(..pods.len()));
        if one < other {
            self.cut.insert((Arc::clone(&pods[one]), Arc::clone(&pods[other])));
        }
    }

    /// A connection ends, and is made anew.
    fn reset_two(&mut self) {
        let pairs: Vec<_> = self.connections.keys().copied().collect();
        if !pairs.is_empty() {
            let (one, other) = pairs[self.rng.usize(..pairs.len())];
            self.disconnect(one, other);
        }
    }

    fn change_endpoints(&mut self) {
        let ids: Vec<_> = self.endpoints.keys().cloned().collect();
        let id = ids[self.rng.usize(..ids.len())].clone();
        let there: Vec<_> = self.endpoints[&id].iter().cloned().collect();
        if there.len() > 3 || (there.len() > 1 && self.rng.bool()) {
            let gone = there[self.rng.usize(..there.len())].clone();
            if let Some(all) = self.endpoints.get_mut(&id) {
                all.remove(&gone);
            }
            self.tell_endpoint(&id, &gone, false);
        } else {
            self.add_endpoint(&id);
        }
    }

    /// Makes connections what the cuts allow.
    pub(super) fn reconnect(&mut self) {
        let alive: Vec<_> = self.pods.values().flatten().copied().collect();
        for (index, one) in alive.iter().enumerate() {
            for other in &alive[index + 1..] {
                let is_there = self.connections.contains_key(&(*one.min(other), *one.max(other)));
                if self.is_cut(*one, *other) {
                    self.disconnect(*one, *other);
                } else if !is_there {
                    self.connect(*one, *other);
                }
            }
        }
    }

    /// Nothing is wrong any more.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.cut.clear();
        let pods: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, life)| life.is_none())
            .map(|(p, _)| Arc::clone(p))
            .collect();
        pods.iter().for_each(|pod| self.start(pod));
        for at in self.alive() {
            if let Some(process) = &mut self.processes[at] {
                process.reaches_api = true;
            }
        }
        self.reconnect();
    }
}
