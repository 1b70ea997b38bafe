//! What was done to the program in a run, against which its answers are judged.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::model::World;

/// An end of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Down {
    /// From when on it takes nothing new.
    pub(crate) closing: Duration,
    /// When it ends.
    pub(crate) ended: Duration,
}

/// Revisions that a service's traffic goes to; none: there is no such service.
type Traffic = Option<BTreeSet<String>>;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Jumps of the clock: when each ended, and how long nothing had run by then.
    jumps: RefCell<Vec<(Duration, Duration)>>,
    downs: RefCell<Vec<Down>>,
    /// Worlds in the order in which they were reported: when, and where each service's traffic
    /// goes.
    worlds: RefCell<Vec<(Duration, Vec<Traffic>)>>,
}

/// How long after it was reported a world may still not be in effect, beside reports before it.
const WORLD_LATE: Duration = Duration::from_millis(1_500);

impl History {
    /// The clock has jumped.
    pub(crate) fn jumped(&self, now: Duration, by: Duration) {
        self.jumps.borrow_mut().push((now, by));
    }

    /// How long things ran between two moments.
    pub(crate) fn awake(&self, from: Duration, to: Duration) -> Duration {
        let jumps = self.jumps.borrow();
        let inside = jumps.iter().filter(|(at, _)| *at > from && *at - Duration::ZERO <= to);
        let asleep: Duration = inside.map(|(at, by)| (*by).min(*at - from)).sum();
        to.saturating_sub(from).saturating_sub(asleep)
    }

    /// The program takes nothing new from now on; when it ends is told later.
    pub(crate) fn closing(&self, now: Duration) {
        self.downs.borrow_mut().push(Down { closing: now, ended: Duration::MAX });
    }

    /// The program ends now.
    pub(crate) fn ended(&self, now: Duration) {
        let mut downs = self.downs.borrow_mut();
        match downs.last_mut().filter(|down| down.ended == Duration::MAX) {
            Some(down) => down.ended = now,
            None => downs.push(Down { closing: now, ended: now }),
        }
    }

    /// An end of the program that a request met which was sent and ended then.
    pub(crate) fn down_between(&self, sent: Duration, ended: Duration) -> Option<Down> {
        let downs = self.downs.borrow();
        downs.iter().copied().find(|down| down.closing <= ended && down.ended >= sent)
    }

    /// A world is reported.
    pub(crate) fn world(&self, now: Duration, services: usize, world: &World) {
        let traffic = (0..services).map(|n| {
            let service = world.services.iter().find(|service| *service.id.name == format!("s{n}"));
            service.map(|service| {
                service.traffic.iter().map(|target| target.revision.name.to_string()).collect()
            })
        });
        self.worlds.borrow_mut().push((now, traffic.collect()));
    }

    /// Whether anything holds of a service's traffic in a world that may be in effect in a time.
    fn any(
        &self,
        service: usize,
        from: Duration,
        to: Duration,
        f: impl Fn(Option<&BTreeSet<String>>) -> bool,
    ) -> bool {
        let worlds = self.worlds.borrow();
        worlds.iter().enumerate().any(|(index, (at, traffic))| {
            let until = worlds.get(index + 1).map_or(Duration::MAX, |(next, _)| *next + WORLD_LATE);
            *at <= to && until >= from && f(traffic[service].as_ref())
        })
    }

    /// Whether a service may have been absent at some moment of a time.
    pub(crate) fn absent(&self, service: usize, from: Duration, to: Duration) -> bool {
        self.any(service, from, to, |traffic| traffic.is_none())
    }

    /// Whether a revision may have had traffic of its service at some moment of a time.
    pub(crate) fn led_to(
        &self,
        service: usize,
        revision: &str,
        from: Duration,
        to: Duration,
    ) -> bool {
        self.any(service, from, to, |traffic| traffic.is_some_and(|t| t.contains(revision)))
    }
}
