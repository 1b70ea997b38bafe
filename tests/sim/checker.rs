//! What must always hold, and what must hold in the end.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate::app::Live;
use tidegate::revision::{ProcessQueue, QueueLimits, Revision};

use crate::ledger::{End, Ledger, Property, Request};
use crate::platform::Platform;
use crate::weather::Weather;
use crate::world::revision_id;

/// How often it looks.
pub(crate) const EVERY: Duration = Duration::from_millis(100);
/// How late the end of a request may be: sweeps, and the rest of a refused body.
const LATE: Duration = Duration::from_millis(2_500);

/// Judges answers.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    weather: Weather,
}

impl Judge {
    pub(crate) fn new(weather: &Weather) -> Self {
        Self { weather: weather.clone() }
    }

    /// A request ended.
    pub(crate) fn end(&self, ledger: &Ledger, number: usize, end: &End) {
        let request = ledger.request(number);
        let revision = &self.weather.revisions[request.service];
        let took = ledger.now() - request.sent;
        if request.patient && took > revision.timeout + LATE {
            ledger.violated(Property::InTime, format_args!("request {number} took {took:?}"));
        }
        let allowed = match end {
            End::Left => true,
            End::NoAnswer => !request.patient && took >= revision.timeout,
            End::Cut => self.weather.replicas_fail() || took >= revision.timeout,
            End::Answered { status: 200, reason: None } => !request.delivered.is_empty(),
            End::Answered { reason: Some(reason), .. } => self.allows(reason, &request, took),
            End::Answered { .. } => false,
        };
        if !allowed {
            ledger.violated(
                Property::RightAnswer,
                format_args!("request {number} must not end like this after {took:?}: {end:?}"),
            );
        }
    }

    fn allows(&self, reason: &str, request: &Request, took: Duration) -> bool {
        let weather = &self.weather;
        let revision = &weather.revisions[request.service];
        match reason {
            "queue_full" => weather.queue.revision < QueueLimits::default().revision,
            "queue_timeout" => revision.queue_timeout.is_some_and(|timeout| took >= timeout),
            "request_timeout" => took >= revision.timeout,
            "start_failed" => weather.start_failures > 0.0,
            "upstream_connect" | "upstream_broke" => weather.replicas_fail(),
            "service_removed" | "no_route" => {
                weather.removal && request.service + 1 == weather.revisions.len()
            }
            _ => false,
        }
    }
}

/// Looks at everything ten times a second.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) weather: Weather,
    pub(crate) live: Arc<Live>,
    pub(crate) platform: Rc<Platform>,
    pub(crate) process: Arc<ProcessQueue>,
}

impl Checker {
    /// Looks for as long as the run goes on.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut asleep_since = vec![None; self.weather.revisions.len()];
        loop {
            tokio::time::sleep(EVERY).await;
            if crate::panicked() {
                self.ledger.violated(Property::Panic, format_args!("see above"));
            }
            for (service, since) in asleep_since.iter_mut().enumerate() {
                let Some(revision) = self.live.revision(&revision_id(service)) else { continue };
                self.revision(service, &revision);
                self.woken(service, &revision, since);
            }
            self.bounds();
            self.in_time();
        }
    }

    fn revision(&self, service: usize, revision: &Revision) {
        if let Err(text) = revision.check() {
            self.ledger.violated(Property::Slots, format_args!("{}: {text}", revision.id()));
        }
        let waiting = revision.stats().waiting();
        if waiting == 0 {
            return;
        }
        let soon = self.ledger.now().saturating_sub(Duration::from_millis(300));
        let may_wait = self.ledger.with_requests(|requests| {
            let of_service = requests.iter().filter(|request| request.service == service);
            of_service.filter(|request| may_wait(request, soon)).count()
        });
        if waiting as usize > may_wait {
            self.ledger.violated(
                Property::Waiting,
                format_args!("{waiting} wait for {}, {may_wait} could", revision.id()),
            );
        }
    }

    /// A request that waits is not left without a replica.
    fn woken(&self, service: usize, revision: &Revision, since: &mut Option<Duration>) {
        let weather = &self.weather;
        let excused = weather.start_failures > 0.0
            || weather.order_errors > 0.0
            || weather.crashes.is_some()
            || weather.max_replicas.is_some();
        let asleep = revision.stats().waiting() > 0 && self.platform.alive(revision.id()) == 0;
        if excused || !asleep {
            *since = None;
            return;
        }
        let now = self.ledger.now();
        let since = *since.get_or_insert(now);
        let bound = Duration::from_millis(500 + 2 * weather.lag_ms.1);
        if now - since > bound {
            self.ledger.violated(
                Property::Woken,
                format_args!("service {service} has waiting requests and no replica"),
            );
        }
    }

    /// All counts together stay below the process' bound.
    fn bounds(&self) {
        let Some(limit) = self.weather.max_replicas else { return };
        let ids = (0..self.weather.revisions.len()).map(revision_id);
        let sum: u32 = ids.map(|id| self.live.counts(&id).0).sum();
        if sum > limit {
            self.ledger.violated(Property::Bounds, format_args!("{sum} replicas of {limit}"));
        }
    }

    /// Nobody waits for ever, and no replica works for nobody.
    fn in_time(&self) {
        let now = self.ledger.now();
        let timeout = |request: &Request| self.weather.revisions[request.service].timeout;
        for (number, serial) in self.platform.running() {
            let request = self.ledger.request(number);
            if now > request.sent + timeout(&request) + LATE {
                self.ledger.violated(
                    Property::InTime,
                    format_args!("replica {serial} still works for request {number}"),
                );
            }
        }
        let lost = self.ledger.with_requests(|requests| {
            requests.iter().position(|request| {
                request.patient
                    && request.ended.is_none()
                    && now > request.sent + timeout(request) + LATE
            })
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
        for service in 0..self.weather.revisions.len() {
            let requests: Vec<(usize, Request)> = self.ledger.with_requests(|requests| {
                let of_service = requests.iter().enumerate().filter(|(_, r)| r.service == service);
                of_service.map(|(number, request)| (number, request.clone())).collect()
            });
            for (index, (later, request)) in requests.iter().enumerate() {
                let Some(served) = request.delivered.first() else { continue };
                for (earlier, other) in &requests[..index] {
                    if overtaken(other, request.sent, *served) {
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
        let revision = &self.weather.revisions[0];
        let id = revision_id(0);
        #[expect(clippy::cast_possible_truncation, reason = "a small number")]
        #[expect(clippy::cast_sign_loss, reason = "a positive number")]
        let needed = (clients as f64 / revision.target).ceil() as u32;
        let expected = needed.max(revision.min).min(revision.max.unwrap_or(u32::MAX));
        let (desired, counts) = self.live.counts(&id);
        if desired != expected || counts.ready != expected {
            self.ledger.violated(
                Property::Reached,
                format_args!(
                    "{clients} clients at {} a replica need {expected}; desired {desired}, {counts:?}",
                    revision.target
                ),
            );
        }
    }

    /// Some time after the last request only `min-scale` is left.
    pub(crate) fn zero(&self) {
        for (service, revision) in self.weather.revisions.iter().enumerate() {
            let id = revision_id(service);
            if self.live.revision(&id).is_none() {
                continue;
            }
            let (desired, _) = self.live.counts(&id);
            let ready = self.platform.ready(&id);
            if desired != revision.min || ready != revision.min as usize {
                self.ledger.violated(
                    Property::Zero,
                    format_args!(
                        "{id} is to be at {}; desired {desired}, {ready} ready",
                        revision.min
                    ),
                );
            }
        }
    }

    /// Nothing is left of all requests.
    pub(crate) fn nothing_left(&self, connections: u32, tunnels: u32) {
        let left = |what: &str, n: usize| {
            if n > 0 {
                self.ledger.violated(Property::LeftBehind, format_args!("{n} {what}"));
            }
        };
        left("connections", connections as usize);
        left("tunnels", tunnels as usize);
        left("waiting in the process", self.process.waiting() as usize);
        left("requests at replicas", self.platform.running().len());
        for revision in self.live.revisions() {
            let stats = revision.stats();
            left("waiting", stats.waiting() as usize);
            let reading = stats.read(stats.clock().now());
            left("in flight", usize::try_from(reading.in_flight).unwrap_or(usize::MAX));
            let views = revision.endpoints();
            left("held", views.iter().map(|view| view.in_flight as usize).sum());
            left("set aside", views.iter().filter(|view| view.state == "ejected").count());
            let members = self.platform.members(revision.id());
            let endpoints = revision.endpoints().len();
            if endpoints != members {
                self.ledger.violated(
                    Property::LeftBehind,
                    format_args!("{endpoints} endpoints of {members} replicas: {}", revision.id()),
                );
            }
            self.counted(&revision);
        }
    }

    /// Every request that arrived has ended once.
    fn counted(&self, revision: &Revision) {
        let stats = revision.stats();
        let arrived = stats.read(stats.clock().now()).arrivals;
        let codes = stats.codes();
        let ended: u64 = codes.by_code.values().sum::<u64>() + codes.without_response;
        let answered = self.ledger.with_requests(|requests| {
            let whole = |r: &&Request| {
                revision_id(r.service) == *revision.id()
                    && matches!(r.ended, Some((_, End::Answered { .. })))
            };
            requests.iter().filter(whole).count() as u64
        });
        if arrived != ended || arrived < answered {
            self.ledger.violated(
                Property::OneEnd,
                format_args!("{arrived} arrived, {ended} ended, {answered} were answered"),
            );
        }
    }

    /// What was removed is gone from memory and from the platform.
    pub(crate) fn gone(&self, revisions: &[Weak<Revision>]) {
        for revision in revisions.iter().filter_map(Weak::upgrade) {
            self.ledger.violated(
                Property::LeftBehind,
                format_args!("{} is held by {}", revision.id(), Arc::strong_count(&revision) - 1),
            );
        }
        for service in 0..self.weather.revisions.len() {
            let members = self.platform.members(&revision_id(service));
            if members > 0 {
                self.ledger.violated(
                    Property::LeftBehind,
                    format_args!("{members} replicas of a removed service"),
                );
            }
        }
    }
}

/// Whether a request may be among those that wait: it did not end, or only just. In memory it does
/// not show that a client left whose body nobody has read.
fn may_wait(request: &Request, soon: Duration) -> bool {
    match &request.ended {
        None => true,
        Some((at, end)) => *at >= soon || (request.post && *end == End::Left),
    }
}

/// Whether a request was passed over by one that was sent later and served at `served`.
fn overtaken(request: &Request, sent: Duration, served: Duration) -> bool {
    let waited = request.delivered.first().is_none_or(|at| *at > served);
    let gone = request.ended.as_ref().is_some_and(|(at, end)| {
        // Its refusal may have waited for the rest of its body.
        let refused = matches!(end, End::Answered { reason: Some(_), .. }) && request.post;
        *at <= served || refused
    });
    request.sent < sent && waited && !gone
}
