//! What must always hold, and what must hold in the end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate::model::RevisionId;
use tidegate::revision::Revision;

use crate::judge::LATE;
use crate::ledger::{End, Ledger, Manner, Property, Request};
use crate::life::{Door, Life};
use crate::weather::Weather;
use crate::world::service_of;

/// How often it looks.
pub(crate) const EVERY: Duration = Duration::from_millis(100);
/// How long a revision under load keeps its only replica while others have none.
const TURN: Duration = Duration::from_secs(10);

/// Looks at everything ten times a second.
pub(crate) struct Checker {
    ledger: Rc<Ledger>,
    weather: Weather,
    door: Rc<Door>,
    /// Since when requests of a revision wait without a replica.
    asleep: RefCell<BTreeMap<RevisionId, Duration>>,
}

impl Checker {
    pub(crate) fn new(ledger: &Rc<Ledger>, weather: &Weather, door: &Rc<Door>) -> Self {
        Self {
            ledger: Rc::clone(ledger),
            weather: weather.clone(),
            door: Rc::clone(door),
            asleep: RefCell::default(),
        }
    }

    /// Looks for as long as the run goes on.
    pub(crate) async fn run(self: Rc<Self>) {
        // The program itself looks ten times a second too, and must not always be the first.
        tokio::time::sleep(EVERY / 2).await;
        loop {
            tokio::time::sleep(EVERY).await;
            if crate::panicked() {
                self.ledger.violated(Property::Panic, format_args!("see above"));
            }
            match self.door.life() {
                Some(life) => {
                    for revision in life.live.revisions() {
                        let Some(service) = service_of(revision.id()) else { continue };
                        self.revision(service, &revision);
                        self.woken(&life, &revision);
                    }
                    self.counted_now(&life).await;
                    self.bounds(&life);
                    self.in_time(&life);
                }
                None => self.asleep.borrow_mut().clear(),
            }
        }
    }

    fn revision(&self, service: usize, revision: &Revision) {
        check_slots(&self.ledger, revision);
        let waiting = revision.stats().waiting();
        if waiting == 0 {
            return;
        }
        let soon = self.ledger.now().saturating_sub(Duration::from_millis(300));
        let may_wait = self.ledger.with_requests(|requests| {
            let of_service = requests.iter().filter(|request| request.service == service);
            of_service.filter(|request| may_wait(request, soon)).count()
        });
        // Somebody who needs the service waits as one more request.
        let may_wait = may_wait + usize::from(self.weather.needs);
        if waiting as usize > may_wait {
            self.ledger.violated(
                Property::Waiting,
                format_args!("{waiting} wait for {}, {may_wait} could", revision.id().name),
            );
        }
    }

    /// A request that waits is not left without a replica; where there are too few for all, each
    /// revision has its turn.
    fn woken(&self, life: &Life, revision: &Revision) {
        let weather = &self.weather;
        let excused = weather.start_failures > 0.0
            || weather.order_errors > 0.0
            || weather.crashes.is_some()
            || weather.surpluses.is_some()
            || weather.shortages.is_some();
        let asleep = revision.stats().waiting() > 0 && life.platform.alive(revision.id()) == 0;
        let mut since = self.asleep.borrow_mut();
        if excused || !asleep {
            since.remove(revision.id());
            return;
        }
        let now = self.ledger.now();
        let since = *since.entry(revision.id().clone()).or_insert(now);
        let lag = Duration::from_millis(500 + 2 * (weather.lag_ms.1 + weather.order_ms.1));
        let (property, bound) = if weather.max_replicas.is_none() {
            (Property::Woken, lag)
        } else {
            let others = u32::try_from(life.live.revisions().len()).expect("few revisions");
            (Property::Starved, lag + (TURN + Duration::from_secs(3)) * others)
        };
        if self.ledger.history.awake(since, now) > bound {
            self.ledger.violated(
                property,
                format_args!("{} has waiting requests and no replica", revision.id().name),
            );
        }
    }

    /// What is in flight is counted, once each.
    async fn counted_now(&self, life: &Life) {
        let chances = &self.weather.chances;
        // Who leaves, and what arrives bit by bit, is known later to the program than here.
        let strict = self.weather.is_calm()
            && chances.leavers == 0.0
            && chances.half_closes == 0.0
            && chances.drips == 0.0
            && chances.upgrades == 0.0;
        if !strict {
            return;
        }
        for service in 0..self.weather.services.len() {
            if self.counts_right(life, service).is_ok() {
                continue;
            }
            // What happens at this moment is to have happened.
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            if let Err((counted, all)) = self.counts_right(life, service) {
                self.ledger.violated(
                    Property::Counted,
                    format_args!("{counted} of s{service} count as in flight, {all} are"),
                );
            }
        }
    }

    /// Whether the count of requests in flight is right; if not, the count and how many are.
    fn counts_right(&self, life: &Life, service: usize) -> Result<(), (u64, u64)> {
        let of_service = |r: &&Arc<Revision>| service_of(r.id()) == Some(service);
        let revisions = life.live.revisions();
        let counted: u64 = revisions
            .iter()
            .filter(of_service)
            .map(|revision| revision.stats().read(life.clock.now()).in_flight)
            .sum();
        let (gets, all) = self.ledger.with_requests(|requests| {
            let open = requests.iter().filter(|r| r.service == service && r.ended.is_none());
            open.fold((0, 0), |(gets, all), r| (gets + u64::from(!r.post), all + 1))
        });
        if counted > all || counted < gets { Err((counted, all)) } else { Ok(()) }
    }

    /// All counts together stay below the process' bound.
    fn bounds(&self, life: &Life) {
        let Some(limit) = self.weather.max_replicas else { return };
        let revisions = life.live.revisions();
        let sum: u32 = revisions.iter().map(|revision| life.live.counts(revision.id()).0).sum();
        if sum > limit {
            self.ledger.violated(Property::Bounds, format_args!("{sum} replicas of {limit}"));
        }
    }

    /// Nobody waits for ever, and no replica works for nobody.
    fn in_time(&self, life: &Life) {
        let now = self.ledger.now();
        let ran = |request: &Request| self.ledger.history.awake(request.sent, now);
        for (number, serial) in life.platform.running() {
            let request = self.ledger.request(number);
            let timeout = self.weather.services[request.service].timeout;
            if ran(&request) > request.bound.max(timeout + LATE) {
                self.ledger.violated(
                    Property::InTime,
                    format_args!("replica {serial} still works for request {number}"),
                );
            }
        }
        let lost = self.ledger.with_requests(|requests| {
            let lost = |r: &Request| r.ended.is_none() && ran(r) > r.bound;
            requests.iter().position(lost)
        });
        if let Some(number) = lost {
            self.ledger.violated(Property::InTime, format_args!("request {number} never ended"));
        }
    }

    /// In calm weather who came first is served first.
    pub(crate) fn order(&self) {
        if !self.weather.is_calm() {
            return;
        }
        for service in 0..self.weather.services.len() {
            let requests: Vec<(usize, Request)> = self.ledger.with_requests(|requests| {
                let of_service = requests.iter().enumerate().filter(|(_, r)| r.service == service);
                of_service.map(|(number, request)| (number, request.clone())).collect()
            });
            for (index, (later, request)) in requests.iter().enumerate() {
                let Some(served) = request.delivered.first() else { continue };
                for (earlier, other) in &requests[..index] {
                    if overtaken(other, (request.sent, &request.revision), *served) {
                        self.ledger.violated(
                            Property::Order,
                            format_args!("request {later} overtook {earlier}"),
                        );
                    }
                }
            }
        }
    }

    /// After a steady load for long enough the count is what it needs.
    pub(crate) fn reached(&self, clients: u64) {
        let Some(life) = self.door.life() else { return };
        let id = RevisionId::new("default", "s0-00001");
        let Some(revision) = life.live.revision(&id) else { return };
        let scaling = &revision.spec().scaling;
        #[expect(clippy::cast_possible_truncation, reason = "a small number")]
        #[expect(clippy::cast_sign_loss, reason = "a positive number")]
        let needed = (clients as f64 / scaling.target_value).ceil() as u32;
        let expected = needed.max(scaling.min_scale).min(scaling.max_scale.unwrap_or(u32::MAX));
        let (desired, counts) = life.live.counts(&id);
        if desired != expected || counts.ready != expected {
            self.ledger.violated(
                Property::Reached,
                format_args!(
                    "{clients} clients at {} a replica need {expected}; desired {desired}, {counts:?}",
                    scaling.target_value
                ),
            );
        }
    }

    /// Some time after the last request only `min-scale` is left.
    pub(crate) fn zero(&self) {
        let Some(life) = self.door.life() else { return };
        let revisions = life.live.revisions();
        let wanted: u32 = revisions.iter().map(|r| r.spec().scaling.min_scale).sum();
        let scarce = self.weather.max_replicas.is_some_and(|most| most < wanted);
        for revision in &revisions {
            let min = revision.spec().scaling.min_scale;
            let (desired, _) = life.live.counts(revision.id());
            let ready = life.platform.ready(revision.id());
            let fine = desired == min || scarce && desired < min;
            if !fine || ready != desired as usize {
                self.ledger.violated(
                    Property::Zero,
                    format_args!(
                        "{} is to be at {min}; desired {desired}, {ready} ready",
                        revision.id().name
                    ),
                );
            }
        }
    }

    /// Nothing is left of all requests; `quiet` is how many held the program's parts before.
    pub(crate) fn nothing_left(&self, quiet: (usize, usize)) {
        let Some(life) = self.door.life() else { return };
        let left = |what: &str, n: usize| {
            if n > 0 {
                self.ledger.violated(Property::LeftBehind, format_args!("{n} {what}"));
            }
        };
        left("connections", life.shared.connections() as usize);
        left("tunnels", life.shared.tunnels() as usize);
        left("waiting in the process", life.process.waiting() as usize);
        left("requests at replicas", life.platform.running().len());
        left("connections at replicas", life.platform.connections());
        for revision in life.live.revisions() {
            let stats = revision.stats();
            left("waiting", stats.waiting() as usize);
            let reading = stats.read(stats.clock().now());
            left("in flight", usize::try_from(reading.in_flight).unwrap_or(usize::MAX));
            let views = revision.endpoints();
            left("held", views.iter().map(|view| view.in_flight as usize).sum());
            left("set aside", views.iter().filter(|view| view.state == "ejected").count());
            let members = life.platform.members(revision.id());
            let endpoints = revision.endpoints().len();
            if endpoints != members {
                self.ledger.violated(
                    Property::LeftBehind,
                    format_args!("{endpoints} endpoints of {members} replicas: {}", revision.id()),
                );
            }
            self.counted(&revision);
        }
        if life.holders() != quiet {
            self.ledger.violated(
                Property::LeftBehind,
                format_args!("workers and shared are held by {:?}, not {quiet:?}", life.holders()),
            );
        }
    }

    /// Every request that arrived has ended once.
    fn counted(&self, revision: &Revision) {
        let stats = revision.stats();
        let arrived = stats.read(stats.clock().now()).arrivals;
        let codes = stats.codes();
        let ended: u64 = codes.by_code.values().sum::<u64>() + codes.without_response;
        if arrived != ended {
            self.ledger.violated(
                Property::OneEnd,
                format_args!("{arrived} arrived at {}, {ended} ended", revision.id().name),
            );
        }
    }

    /// What was removed is gone from memory, from every list and from the platform.
    pub(crate) fn gone(&self, revisions: &[Weak<Revision>]) {
        for revision in revisions.iter().filter_map(Weak::upgrade) {
            self.ledger.violated(
                Property::LeftBehind,
                format_args!("{} is held by {}", revision.id(), Arc::strong_count(&revision) - 1),
            );
        }
        let Some(life) = self.door.life() else { return };
        for id in life.platform.revisions() {
            let members = life.platform.members(&id);
            let listed = life.live.revision(&id).is_some()
                || life.live.failure(&id).is_some()
                || life.live.counts(&id) != Default::default()
                || life.autoscaler.view(&id).is_some();
            if members > 0 || listed {
                self.ledger.violated(
                    Property::LeftBehind,
                    format_args!("{} is removed: {members} replicas, listed: {listed}", id.name),
                );
            }
        }
    }
}

/// Checks what must hold at every moment.
pub(crate) fn check_slots(ledger: &Ledger, revision: &Revision) {
    if let Err(text) = revision.check() {
        ledger.violated(Property::Slots, format_args!("{}: {text}", revision.id()));
    }
}

/// Whether a request may be among those that wait: it did not end, or only just. In memory it does
/// not show that a client left whose body nobody has read.
fn may_wait(request: &Request, soon: Duration) -> bool {
    match &request.ended {
        None => true,
        Some((at, end)) => {
            let unread = request.post || request.manner == Manner::HalfClosed;
            *at >= soon || (unread && *end == End::Left)
        }
    }
}

/// Whether a request was passed over by one that was sent later and served at `served`.
fn overtaken(
    request: &Request,
    (sent, revision): (Duration, &Option<String>),
    served: Duration,
) -> bool {
    let waited = request.delivered.first().is_none_or(|at| *at > served);
    let other = request.revision.is_some() && request.revision != *revision;
    let gone = request.ended.as_ref().is_some_and(|(at, end)| {
        // Its refusal may have waited for the rest of its body.
        let refused = matches!(end, End::Answered { reason: Some(_), .. }) && request.post;
        *at <= served || refused
    });
    let whole = request.manner != Manner::Dripping;
    whole && request.sent < sent && waited && !gone && !other
}
