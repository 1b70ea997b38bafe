//! The replicas of one revision as a state machine: orders and events go in, who is to start and
//! who is to go comes out. No I/O and no clock of its own.

use std::net::SocketAddr;

use tokio::time::Instant;

use crate::model::EndpointId;
use crate::platform::{Endpoint, ReplicaCounts, ScaleOrder};

use super::backoff::Backoff;

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for its turn to start.
    Queued,
    /// Starts, or runs and was never ready.
    Starting,
    /// Takes requests.
    Ready,
    /// Was ready; its readiness probe fails.
    Unready,
    /// Told to end, or failed and being cleared away.
    Stopping,
}

/// One replica.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    /// Its number.
    pub(super) serial: u64,
    /// Its identity as an endpoint.
    pub(super) id: EndpointId,
    /// What it is doing.
    pub(super) phase: Phase,
    /// Its process group, once it runs.
    pub(super) group: Option<i32>,
    spawned: Option<Instant>,
    address: Option<SocketAddr>,
    ready_since: Option<Instant>,
}

/// How many replicas are to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// None.
    Nothing,
    /// So many, now.
    Now(u32),
    /// Some, not before this: the last ones failed.
    Later(Instant),
}

/// How long the parts of a cold start took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ColdStart {
    /// From the order to the running program.
    pub(super) spawn: std::time::Duration,
    /// From the running program to ready.
    pub(super) ready: std::time::Duration,
}

/// A program that listens on a port of its own.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    port: u16,
    /// The process group that has the port.
    holder: i32,
}

/// All replicas of one revision.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    replicas: Vec<Replica>,
    wanted: u32,
    spare: Vec<EndpointId>,
    replaced: Vec<EndpointId>,
    fixed: Option<Fixed>,
    backoff: Backoff,
    cold_since: Option<Instant>,
}

impl Fleet {
    /// A count was stated.
    pub(super) fn order(&mut self, now: Instant, order: ScaleOrder) {
        self.wanted = order.replicas;
        self.spare = order.spare;
        self.replaced = order.replaced;
        if self.wanted == 0 {
            self.cold_since = None;
        } else if self.alive().next().is_none() && self.cold_since.is_none() {
            self.cold_since = Some(now);
        }
    }

    /// Replicas that are not on their way out.
    fn alive(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.phase != Phase::Stopping)
    }

    /// The count that holds: a program with a port of its own can run only once.
    fn effective(&self) -> u32 {
        if self.fixed.is_some() { self.wanted.min(1) } else { self.wanted }
    }

    /// Replicas that are replaced, and those beyond the count, in the order they go: those not listed as to be spared first –
    /// what has come least far first – then the listed ones from the end of the list.
    pub(super) fn surplus(&self) -> Vec<u64> {
        let rank = |replica: &Replica| {
            let spared = self.spare.iter().position(|id| *id == replica.id);
            let holder = self.fixed.is_some_and(|fixed| replica.group == Some(fixed.holder));
            let progress = match replica.phase {
                Phase::Queued => 0,
                Phase::Starting => 1,
                Phase::Unready => 2,
                Phase::Ready | Phase::Stopping => 3,
            };
            // Youngest first among equals; who has a program's only port stays.
            (
                holder,
                spared.is_some(),
                std::cmp::Reverse(spared),
                progress,
                std::cmp::Reverse(replica.serial),
            )
        };
        let is_replaced = |replica: &&Replica| self.replaced.contains(&replica.id);
        let (replaced, mut alive): (Vec<&Replica>, Vec<&Replica>) =
            self.alive().partition(is_replaced);
        let replaced = replaced.into_iter().map(|replica| replica.serial);
        let surplus = alive.len().saturating_sub(self.effective() as usize);
        if surplus == 0 {
            return replaced.collect();
        }
        // Ranks are looked up in a list: once for each replica.
        alive.sort_by_cached_key(|replica| rank(replica));
        replaced.chain(alive.into_iter().take(surplus).map(|replica| replica.serial)).collect()
    }

    /// How many replicas are to be started.
    pub(super) fn missing(&self, now: Instant) -> Missing {
        let alive = u32::try_from(self.alive().count()).unwrap_or(u32::MAX);
        // A stopping replica of a program with a port of its own still holds that port.
        let blocked = self.fixed.is_some() && !self.replicas.is_empty();
        match self.effective().saturating_sub(alive) {
            0 => Missing::Nothing,
            _ if blocked => Missing::Nothing,
            missing => self.backoff.waiting(now).map_or(Missing::Now(missing), Missing::Later),
        }
    }

    /// A replica waits for its turn.
    pub(super) fn add(&mut self, serial: u64, id: EndpointId) {
        self.replicas.push(Replica {
            serial,
            id,
            phase: Phase::Queued,
            group: None,
            spawned: None,
            address: None,
            ready_since: None,
        });
    }

    /// The oldest replica that waits for its turn starts.
    pub(super) fn start_next(&mut self) -> Option<&Replica> {
        let next = self.replicas.iter_mut().find(|replica| replica.phase == Phase::Queued)?;
        next.phase = Phase::Starting;
        Some(next)
    }

    /// Whether a replica waits for its turn.
    pub(super) fn has_queued(&self) -> bool {
        self.replicas.iter().any(|replica| replica.phase == Phase::Queued)
    }

    /// A replica is told to go. False: it had not been started and is gone.
    pub(super) fn stop(&mut self, serial: u64) -> bool {
        match self.get_mut(serial).map(|replica| replica.phase) {
            Some(Phase::Queued) => {
                self.gone(serial);
                false
            }
            Some(_) => {
                self.set_stopping(serial);
                true
            }
            None => false,
        }
    }

    fn set_stopping(&mut self, serial: u64) {
        if let Some(replica) = self.get_mut(serial) {
            replica.phase = Phase::Stopping;
        }
    }

    fn get_mut(&mut self, serial: u64) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.serial == serial)
    }

    /// A replica's program runs.
    pub(super) fn spawned(&mut self, serial: u64, at: Instant, group: i32) {
        if let Some(replica) = self.get_mut(serial) {
            replica.spawned = Some(at);
            replica.group = Some(group);
        }
    }

    /// A replica takes requests at `address`; the first one ends a cold start.
    pub(super) fn ready(
        &mut self,
        serial: u64,
        at: Instant,
        address: SocketAddr,
    ) -> Option<ColdStart> {
        let replica = self.get_mut(serial)?;
        if replica.phase == Phase::Stopping {
            return None;
        }
        replica.phase = Phase::Ready;
        replica.address = Some(address);
        replica.ready_since = Some(at);
        let spawned = replica.spawned?;
        let ordered = self.cold_since.take()?;
        Some(ColdStart {
            spawn: spawned.saturating_duration_since(ordered),
            ready: at.saturating_duration_since(spawned),
        })
    }

    /// A replica's readiness probe fails.
    pub(super) fn unready(&mut self, serial: u64) {
        if let Some(replica) = self.get_mut(serial)
            && replica.phase == Phase::Ready
        {
            replica.phase = Phase::Unready;
            replica.ready_since = None;
        }
    }

    /// A replica failed by itself and is being cleared away. True: nobody had told it to go.
    pub(super) fn failed(&mut self, serial: u64, now: Instant, counts_as_crash: bool) -> bool {
        let Some(replica) = self.get_mut(serial) else { return false };
        if replica.phase == Phase::Stopping {
            return false;
        }
        let ready_since = replica.ready_since;
        replica.phase = Phase::Stopping;
        if counts_as_crash {
            self.backoff.failed(now, ready_since);
        }
        true
    }

    /// A replica and all its processes are gone.
    pub(super) fn gone(&mut self, serial: u64) {
        self.replicas.retain(|replica| replica.serial != serial);
    }

    /// The program listens on a port of its own, which the group `holder` has. True: that is news.
    pub(super) fn ignores_port(&mut self, port: u16, holder: i32) -> bool {
        let before = self.fixed.replace(Fixed { port, holder });
        before.map(|fixed| fixed.port) != Some(port)
    }

    /// Every replica is to be replaced: those that were never ready can be told to go at once, and
    /// are given back. The back-off is forgotten.
    pub(super) fn renew(&mut self) -> Vec<u64> {
        self.backoff = Backoff::default();
        let is_ready = |replica: &&Replica| matches!(replica.phase, Phase::Ready | Phase::Unready);
        let others = self.alive().filter(|replica| !is_ready(replica));
        others.map(|replica| replica.serial).collect()
    }

    /// The port that the program is known to listen on instead of its own.
    pub(super) fn fixed_port(&self) -> Option<u16> {
        self.fixed.map(|fixed| fixed.port)
    }

    /// Whether a process group is a replica other than this one.
    pub(super) fn has_other_group(&self, serial: u64, group: i32) -> bool {
        self.replicas.iter().any(|replica| replica.serial != serial && replica.group == Some(group))
    }

    /// The stated count.
    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Ready replicas, oldest first.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.replicas
            .iter()
            .filter(|replica| replica.phase == Phase::Ready)
            .filter_map(|replica| {
                Some(Endpoint { id: replica.id.clone(), address: replica.address? })
            })
            .collect()
    }

    /// How many replicas do what. One taken out by its readiness probe counts as starting: it is
    /// there and not ready.
    pub(super) fn counts(&self) -> ReplicaCounts {
        let mut counts = ReplicaCounts::default();
        for replica in &self.replicas {
            match replica.phase {
                Phase::Queued | Phase::Starting | Phase::Unready => counts.starting += 1,
                Phase::Ready => counts.ready += 1,
                Phase::Stopping => counts.stopping += 1,
            }
        }
        counts
    }

    /// Whether there is nothing worth remembering.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.replicas.is_empty()
            && self.wanted == 0
            && self.fixed.is_none()
            && self.backoff.is_clear(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn order(replicas: u32, spare: &[u64]) -> ScaleOrder {
        let spare = spare.iter().map(|serial| id(*serial)).collect();
        ScaleOrder { spare, ..ScaleOrder::of(replicas) }
    }

    fn id(serial: u64) -> EndpointId {
        EndpointId::new(serial.to_string())
    }

    fn address(serial: u64) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(serial).unwrap()))
    }

    /// Replicas numbered from 1 in these phases.
    fn fleet(phases: &[Phase]) -> Fleet {
        let mut fleet = Fleet::default();
        for (serial, phase) in (1..).zip(phases) {
            fleet.add(serial, id(serial));
            let replica = fleet.get_mut(serial).unwrap();
            replica.phase = *phase;
            replica.address = Some(address(serial));
        }
        fleet
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_first() {
        use Phase::{Queued, Ready, Starting, Stopping, Unready};
        for (phases, replicas, spare, expected) in [
            (&[Ready, Ready, Ready][..], 1, &[2, 3, 1][..], &[1, 3][..]),
            (&[Ready, Ready, Ready], 0, &[2, 3, 1], &[1, 3, 2]),
            (&[Ready, Starting, Ready, Queued], 2, &[1, 3], &[4, 2]),
            (&[Ready, Starting, Starting], 1, &[1], &[3, 2]),
            (&[Starting, Ready], 1, &[], &[1]),
            (&[Unready, Starting, Ready], 1, &[], &[2, 1]),
            (&[Stopping, Ready], 1, &[2], &[]),
            (&[Ready, Stopping, Ready], 1, &[3, 1], &[1]),
            (&[Ready], 5, &[], &[]),
        ] {
            let mut fleet = fleet(phases);
            fleet.order(Instant::now(), order(replicas, spare));
            assert_eq!(fleet.surplus(), expected, "{phases:?} to {replicas}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_replaced_goes_and_does_not_count() {
        use Phase::{Queued, Ready, Starting};
        let mut fleet = fleet(&[Ready, Ready, Starting, Queued]);
        let now = Instant::now();
        fleet.order(now, ScaleOrder { replaced: vec![id(1), id(9)], ..order(3, &[2]) });
        assert_eq!(fleet.surplus(), [1], "the other three are wanted");
        fleet.order(now, ScaleOrder { replaced: vec![id(1)], ..order(1, &[2]) });
        assert_eq!(fleet.surplus(), [1, 4, 3]);
        assert!(fleet.stop(1));
        fleet.order(now, ScaleOrder { replaced: vec![id(1)], ..order(4, &[2]) });
        assert_eq!(fleet.missing(now), Missing::Now(1), "for the one that goes");
        assert_eq!(fleet.renew(), [3, 4], "they have no request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_waits_and_repeated_orders_do_not_restart_it() {
        let mut fleet = fleet(&[Phase::Starting]);
        let now = Instant::now();
        fleet.order(now, order(1, &[]));
        assert!(fleet.failed(1, now, true));
        assert!(!fleet.failed(1, now, true), "once");
        let until = now + Duration::from_millis(100);
        for _ in 0..3 {
            fleet.order(now, order(1, &[]));
            assert_eq!(fleet.missing(now), Missing::Later(until));
        }
        assert_eq!(fleet.counts(), ReplicaCounts { starting: 0, ready: 0, stopping: 1 });
        fleet.gone(1);
        assert_eq!(fleet.missing(until), Missing::Now(1));
        fleet.order(now, order(0, &[]));
        assert_eq!(fleet.missing(until), Missing::Nothing);
        assert!(!fleet.is_idle(until), "the back-off is remembered");
        assert!(fleet.is_idle(until + Duration::from_secs(11)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_told_replica_is_no_crash() {
        let mut fleet = fleet(&[Phase::Ready]);
        let now = Instant::now();
        assert!(fleet.stop(1));
        assert!(!fleet.failed(1, now, true));
        fleet.order(now, order(1, &[]));
        assert_eq!(fleet.missing(now), Missing::Now(1), "beside the stopping one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_with_its_own_port_runs_once() {
        let mut fleet = fleet(&[Phase::Ready, Phase::Starting, Phase::Queued]);
        let now = Instant::now();
        fleet.order(now, order(3, &[1]));
        fleet.spawned(2, now, 200);
        assert!(fleet.ignores_port(3000, 100));
        assert!(!fleet.ignores_port(3000, 200), "said once");
        assert_eq!(fleet.surplus(), [3, 1], "who has the port stays");
        assert!(!fleet.stop(3), "was not started");
        assert!(fleet.stop(2));
        assert!(fleet.stop(1));
        assert_eq!(fleet.missing(now), Missing::Nothing, "the port is still held");
        fleet.gone(1);
        fleet.gone(2);
        assert_eq!(fleet.missing(now), Missing::Now(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cold_start_is_measured_once_from_the_order() {
        let mut fleet = Fleet::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        fleet.order(start, order(2, &[]));
        fleet.order(at(3), order(2, &[]));
        for serial in [1, 2] {
            fleet.add(serial, id(serial));
            assert_eq!(fleet.start_next().map(|replica| replica.serial), Some(serial));
            fleet.spawned(serial, at(5), 100);
        }
        let cold = fleet.ready(2, at(12), address(2));
        assert_eq!(
            cold,
            Some(ColdStart { spawn: Duration::from_millis(5), ready: Duration::from_millis(7) })
        );
        assert_eq!(fleet.ready(1, at(13), address(1)), None);
        let endpoints: Vec<_> = fleet.endpoints().into_iter().map(|found| found.address).collect();
        assert_eq!(endpoints, [address(1), address(2)]);
        fleet.unready(1);
        assert_eq!(fleet.endpoints().len(), 1);
        assert_eq!(fleet.counts(), ReplicaCounts { starting: 1, ready: 1, stopping: 0 });
    }
}
