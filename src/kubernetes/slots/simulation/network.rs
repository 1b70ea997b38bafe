//! Connections between proxies, and what goes over them.

use std::sync::Arc;

use super::{Process, Step, World};

impl World {
    pub(super) fn pod(&self, at: usize) -> Option<Arc<str>> {
        self.processes[at].as_ref().map(|process| process.id.pod().into())
    }

    pub(super) fn is_cut(&self, one: usize, other: usize) -> bool {
        let (Some(one), Some(other)) = (self.pod(one), self.pod(other)) else { return true };
        let pair = if one < other { (one, other) } else { (other, one) };
        self.lost.contains(&pair.0) || self.lost.contains(&pair.1) || self.cut.contains(&pair)
    }

    /// Both see it a little later, if nothing is between them.
    pub(super) fn connect(&mut self, one: usize, other: usize) {
        if self.is_cut(one, other) {
            return;
        }
        self.counter += 1;
        let connection = self.counter;
        self.connections.insert((one.min(other), one.max(other)), connection);
        for (at, other) in [(one, other), (other, one)] {
            let pause = self.rng.u64(1..50);
            self.after(pause, Step::Joined { at, other, connection });
        }
    }

    /// A connection ends; each side sees it when it does.
    pub(super) fn disconnect(&mut self, one: usize, other: usize) {
        let Some(connection) = self.connections.remove(&(one.min(other), one.max(other))) else {
            return;
        };
        for (at, other) in [(one, other), (other, one)] {
            let pause = self.rng.u64(1..1_200);
            self.after(pause, Step::Lost { at, other, connection });
        }
    }

    pub(super) fn send(&mut self, from: usize, process: &mut Process) {
        for (who, message) in process.seat.take_outgoing() {
            let to = self.processes.iter().position(|p| p.as_ref().is_some_and(|p| p.id == who));
            let Some(to) = to else { continue };
            let Some(connection) = self.connections.get(&(from.min(to), from.max(to))) else {
                continue;
            };
            let connection = *connection;
            // In order: not before the one before.
            let before = self.arrivals.get(&(from, to)).copied().unwrap_or(0);
            let pause = self.rng.u64(0..30).max(before.saturating_sub(self.now));
            self.arrivals.insert((from, to), self.now + pause);
            self.after(pause, Step::Arrives { from, to, connection, message });
        }
    }
}
