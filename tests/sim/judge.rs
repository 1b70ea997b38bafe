//! Whether a request may end as it did.

use std::rc::Rc;
use std::time::Duration;

use tidegate::revision::QueueLimits;

use crate::ledger::{End, Ledger, Manner, Property, Request};
use crate::weather::Weather;

/// How late the end of a request may be: sweeps, and the rest of a refused body.
pub(crate) const LATE: Duration = Duration::from_millis(2_500);

/// How long a head may take to arrive.
const HEAD_TIME: Duration = Duration::from_secs(10);

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
    pub(crate) fn end(&self, ledger: &Rc<Ledger>, number: usize, end: &End) {
        let request = ledger.request(number);
        let now = ledger.now();
        let ran = ledger.history.awake(request.sent, now);
        if ran > request.bound {
            ledger.violated(
                Property::InTime,
                format_args!("request {number} took {ran:?}, its bound is {:?}", request.bound),
            );
        }
        if !self.allows(ledger, &request, end) {
            ledger.violated(
                Property::RightAnswer,
                format_args!(
                    "request {number} must not end like this after {:?}: {end}",
                    now - request.sent
                ),
            );
        }
    }

    fn allows(&self, ledger: &Ledger, request: &Request, end: &End) -> bool {
        let weather = &self.weather;
        let took = ledger.now() - request.sent;
        let timeout = weather.services[request.service].timeout;
        let patient = matches!(request.manner, Manner::Patient | Manner::Dripping);
        match end {
            End::Left => !patient,
            End::Answered { status: 200 | 101, reason: None } => !request.delivered.is_empty(),
            End::Answered { reason: Some(reason), .. } => {
                self.allows_reason(ledger, request, reason, took)
            }
            End::Answered { status: 500, .. } => {
                weather.canary.is_some() && !request.delivered.is_empty()
            }
            End::Answered { .. } => false,
            // Who ends its own direction looks like who has left.
            End::NoAnswer | End::Cut if request.manner == Manner::HalfClosed => true,
            // An answer that goes wrong right behind its head may not have left by then.
            End::NoAnswer if weather.chances.garbage > 0.0 && !request.delivered.is_empty() => true,
            // The time for its head may pass while nothing runs.
            End::NoAnswer if request.manner == Manner::Dripping && took >= HEAD_TIME => true,
            // The time for the rest of a refused upload may, too, and its answer be lost with it.
            End::NoAnswer if request.post && weather.jumps.is_some() => true,
            End::NoAnswer => (!patient && took >= timeout) || cut_off(ledger, request),
            End::Cut => {
                let gone = ledger.history.absent(request.service, request.sent, ledger.now());
                gone || weather.replicas_fail() || took >= timeout || cut_off(ledger, request)
            }
        }
    }

    fn allows_reason(
        &self,
        ledger: &Ledger,
        request: &Request,
        reason: &str,
        took: Duration,
    ) -> bool {
        let weather = &self.weather;
        let service = &weather.services[request.service];
        let now = ledger.now();
        match reason {
            "queue_full" => weather.queue.revision < QueueLimits::default().revision,
            "queue_timeout" => service.queue_timeout.is_some_and(|timeout| took >= timeout),
            "request_timeout" => took >= service.timeout,
            "start_failed" => weather.start_failures > 0.0,
            // A deleted service's replicas go at once where another program has its name by then.
            "upstream_connect" | "upstream_broke" => {
                let gone = ledger.history.absent(request.service, request.sent, now);
                gone || weather.replicas_fail()
            }
            "service_removed" | "no_route" => {
                ledger.history.absent(request.service, request.sent, now)
            }
            "shutting_down" => {
                let down = ledger.history.down_between(request.sent, now);
                down.is_some_and(|down| came(request) >= down.closing)
            }
            _ => false,
        }
    }
}

/// When a request may have come whole to the program.
fn came(request: &Request) -> Duration {
    match request.manner {
        Manner::Dripping => Duration::MAX,
        Manner::Patient | Manner::Careless | Manner::HalfClosed | Manner::Tunnel => request.sent,
    }
}

/// Whether the end of the program explains that a request got no whole answer: it was cut off by
/// it, or came when nothing new was taken.
fn cut_off(ledger: &Ledger, request: &Request) -> bool {
    let now = ledger.now();
    ledger
        .history
        .down_between(request.sent, now)
        .is_some_and(|down| now >= down.ended || came(request) >= down.closing)
}
