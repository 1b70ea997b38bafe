//! The API server: the Lease, and lists of pods.

use std::sync::Arc;

use super::{Millis, Process, Step, World};
use crate::kubernetes::peers::PeerId;

/// A Lease that was not renewed for so long is taken.
const LEASE: Millis = 8_000;
/// A call takes no longer.
const CALL: Millis = 2_000;

#[derive(Debug, Default)]
pub(super) struct Lease {
    pub(super) holder: Option<PeerId>,
    pub(super) number: u32,
    renewed: Millis,
    /// New with every write.
    version: u64,
}

impl Lease {
    /// Somebody deletes it.
    pub(super) fn delete(&mut self) {
        *self = Self { version: self.version + 1, ..Self::default() };
    }

    /// Somebody writes that it is nobody's.
    pub(super) fn empty(&mut self) {
        self.holder = None;
        self.version += 1;
    }
}

impl World {
    /// Begins to write the Lease, where that is due. Any time may pass before it is written, and
    /// again before the answer comes.
    pub(super) fn elect(&mut self, at: usize, process: &mut Process) {
        process.is_wanting |= process.seat.take_wanting();
        if process.is_writing || !process.is_wanting || !process.reaches_api {
            return;
        }
        process.is_wanting = false;
        let is_mine = self.lease.holder.as_ref() == Some(&process.id);
        let is_free = self.lease.holder.as_ref().is_none_or(|holder| {
            // Its pod runs another life by now.
            holder.pod() == process.id.pod() && *holder != process.id
        }) || self.now >= self.lease.renewed + LEASE;
        if !is_mine && !is_free {
            return;
        }
        let least = process.raise.take().map_or(0, |raise| raise + 1);
        let number = (self.lease.number + u32::from(!is_mine)).max(least);
        process.is_writing = true;
        let write = process.renewals.begin(!is_mine);
        let pause = if self.rng.u8(..) < 16 { CALL } else { 60 };
        let pause = self.rng.u64(0..pause);
        let (holder, version) = (process.id.clone(), self.lease.version);
        self.after(pause, Step::Writes { by: at, holder, write, number, version });
    }

    /// It is written, if nobody wrote it meanwhile. The answer comes if the proxy can be reached.
    pub(super) fn write(
        &mut self,
        by: usize,
        holder: PeerId,
        write: u64,
        number: u32,
        version: u64,
    ) {
        let is_written = self.lease.version == version;
        if is_written {
            let version = version + 1;
            self.lease = Lease { holder: Some(holder), number, renewed: self.now, version };
        }
        let Some(process) = &self.processes[by] else { return };
        let is_told = process.reaches_api && self.rng.u8(..) > 8;
        let pause = if is_told { self.rng.u64(0..60) } else { CALL };
        let number = (is_told && is_written).then_some(number);
        self.after(pause, Step::Written { at: by, write, number });
    }

    pub(super) fn written(&mut self, process: &mut Process, write: u64, number: Option<u32>) {
        process.is_writing = false;
        let Some(number) = number else { return };
        process.renewals.succeeded(write, number);
        let later = process.seat.lead(number, &mut process.revisions);
        process.raise = later.or(process.raise);
        process.seat.renewed(&mut process.revisions);
    }

    /// Asks for lists of pods, where they are needed.
    pub(super) fn look_up(&mut self, at: usize, process: &mut Process) {
        if !process.reaches_api {
            return;
        }
        if !process.is_looking
            && let Some(number) = process.seat.doubts()
        {
            process.is_looking = true;
            let there = self.pods.iter().filter(|(_, life)| life.is_some());
            let running = there.map(|(pod, _)| Arc::clone(pod)).collect();
            let pause = self.rng.u64(1..300);
            self.after(pause, Step::Looked { at, number, running });
        }
        if !process.is_listing
            && let Some(ask) = process.seat.asks()
        {
            process.is_listing = true;
            let pods = self.endpoints.values().flatten().cloned().collect();
            let pause = self.rng.u64(1..300);
            self.after(pause, Step::Listed { at, ask, pods });
        }
    }
}
