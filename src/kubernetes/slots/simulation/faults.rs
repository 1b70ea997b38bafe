//! What goes wrong in the simulated world, and how it becomes well again.

use super::*;

impl World {
    /// Requests of a dead process are gone; everything else counts, where it is served.
    pub(super) fn check(&self) {
        for ((id, endpoint), by) in &self.in_replicas {
            let (used, limit): (u32, _) = (by.values().sum(), self.limits[id]);
            assert!(used <= limit, "{used} on {endpoint}, limit {limit}: {}", self.show());
        }
    }

    /// A new leader, never before the old one's time by the Lease is over, as `lease` shows. But a
    /// stopped process may believe it still.
    pub(super) fn elect(&mut self) {
        let living: Vec<_> =
            (0..self.processes.len()).filter(|n| self.processes[*n].alive).collect();
        if living.is_empty() {
            return;
        }
        for process in &mut self.processes {
            process.leads = false;
        }
        let leader = living[self.rng.usize(..living.len())];
        self.processes[leader].leads = true;
    }

    /// Something breaks.
    pub(super) fn fault(&mut self, mode: u32) {
        let count = self.processes.len();
        let a = self.rng.usize(..count);
        let b = (a + self.rng.usize(1..count)) % count;
        match mode {
            0 => {
                self.cut.insert(pair(a, b));
                self.part(a, b, None);
            }
            // The connection alone.
            1 => {
                self.part(a, b, None);
                self.connect(a, b);
            }
            2 => {
                let until = self.now + self.rng.u64(..8 * SECOND);
                self.processes[a].stopped_until = self.processes[a].stopped_until.max(until);
            }
            3 => self.kill(a),
            4 => self.processes.iter_mut().for_each(|process| process.leads = false),
            5 | 6 => {
                self.processes.iter_mut().for_each(|process| process.leads = false);
                let until = self.now + self.rng.u64(..9 * SECOND);
                self.run(until);
                self.elect();
            }
            7 | 8 => self.change_endpoints(),
            // Cut off from everybody.
            9 => {
                for other in (0..count).filter(|other| *other != a) {
                    self.cut.insert(pair(a, other));
                    self.part(a, other, None);
                }
            }
            _ => self.load = self.rng.u64(8_000..100_000),
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        if self.processes.iter().filter(|process| process.alive).count() < 2 {
            return;
        }
        self.processes[index].alive = false;
        self.processes[index].leads = false;
        for by in self.in_replicas.values_mut() {
            by.retain(|(process, _), _| *process != index);
        }
        for other in 0..self.processes.len() {
            self.part(index, other, Some(index));
            // One that had no connection is told by its successor, or by the list.
        }
    }

    pub(super) fn revive(&mut self, index: usize) {
        let life = self.processes[index].life + 1;
        self.processes[index] = self.process(index, life);
        self.begin(index);
    }

    pub(super) fn change_endpoints(&mut self) {
        let ids: Vec<_> = self.limits.keys().cloned().collect();
        let id = ids[self.rng.usize(..ids.len())].clone();
        let set = self.endpoints.get_mut(&id).expect("a revision");
        let gone = set.iter().next().cloned();
        if let Some(gone) = gone
            && (set.len() > 1 || self.rng.bool())
        {
            set.remove(&gone);
        }
        if self.endpoints[&id].is_empty() || self.rng.bool() {
            self.add_endpoint(&id);
        }
        for index in 0..self.processes.len() {
            self.tell(index, &id);
        }
    }

    pub(super) fn mend(&mut self) {
        self.cut.clear();
        for index in 0..self.processes.len() {
            if !self.processes[index].alive {
                self.revive(index);
            }
        }
        for a in 0..self.processes.len() {
            for b in 0..a {
                self.connect(a, b);
            }
            let after = self.rng.u64(..100_000);
            self.at(after, a, What::Listed);
        }
        if !self.processes.iter().any(|process| process.leads) {
            self.elect();
        }
    }

    /// What to look at when something is not as it must be.
    pub(super) fn show(&self) -> String {
        let mut text = format!("seed {}, {} µs, lines {:?}\n", self.seed, self.now, self.lines);
        for (index, process) in self.processes.iter().enumerate() {
            let clock = process.clock(self.now);
            let left = process.seat.until().map(|until| until.0 as i64 - clock.0 as i64);
            text += &format!(
                "p{index}#{} alive {} leads {} lease left {left:?} keeper {:?}\n",
                process.life,
                process.alive,
                process.leads,
                process.seat.keeper()
            );
            for (id, local) in &process.revisions {
                text += &format!("  {id}: {} wait, {:?}\n", local.waiting.len(), local.places);
            }
        }
        text
    }

    /// Everything is well: who waits is served soon, and all slots are to be had.
    pub(super) fn settle(&mut self) {
        self.mend();
        self.load = 150_000;
        self.is_well = true;
        // Requests of before end, and who was stopped goes on.
        self.run(self.now + 12 * SECOND);
        self.waits.clear();
        self.begun_after = self.now;
        self.run(self.now + 5 * SECOND);
        let longest = self.waits.iter().copied().max().unwrap_or(0);
        assert!(!self.waits.is_empty(), "nobody was served: {}", self.show());
        assert!(longest < LONGEST, "one waited {longest} µs: {}", self.show());
        for process in &self.processes {
            for (id, local) in &process.revisions {
                for since in &local.waiting {
                    let waited = self.now - since;
                    assert!(waited < LONGEST, "{id} waits {waited} µs: {}", self.show());
                }
            }
        }
        self.take_all();
    }

    /// One process can have every slot there is.
    pub(super) fn take_all(&mut self) {
        self.is_quiet = true;
        for process in &mut self.processes {
            process.revisions.values_mut().for_each(|local| local.waiting.clear());
        }
        self.run(self.now + 3 * SECOND);
        let index = self.rng.usize(..self.processes.len());
        for id in self.limits.keys().cloned().collect::<Vec<_>>() {
            let slots = self.limits[&id] as usize * self.endpoints[&id].len();
            let waiting = vec![self.now; slots];
            let local = self.processes[index].revisions.get_mut(&id).expect("a revision");
            local.waiting.extend(waiting);
            self.event(index, Event::Changed(id));
        }
        self.turn(index);
        self.run(self.now + 2 * SECOND);
        for (id, local) in &self.processes[index].revisions {
            assert!(local.waiting.is_empty(), "slots of {id} are lost: {}", self.show());
        }
        self.is_quiet = false;
        self.is_well = false;
    }
}
