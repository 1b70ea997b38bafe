//! What a Route is to become: its status, its Services (core), the shares while its traffic moves.
//! Pure: what is known of the cluster and the time are arguments
//! (`pkg/reconciler/route/route.go`, `route_lifecycle.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::canaries::noted;
use super::gate::waits;
use super::names::{Names, VISIBILITY};
use super::placeholders::placeholder;
use super::traffic::{ASSIGNED, Known, Traffic, ready, resolve};
use crate::config::rollout::{Rollout, Standing, Trial, UnixNanos};
use crate::config::text::parse_duration;
use crate::config::world::{DEPENDENCIES_NOT_READY, route_canary};
use crate::kubernetes::conditions::{ConditionSet, Conditions, Status};
use crate::kubernetes::controller::meta::ROLLOUT_DURATION;
use crate::kubernetes::controller::object::Parts as _;
use crate::kubernetes::controller::settings::Settings;
use crate::kubernetes::trials::Trials;
use crate::model::ObjectName;

/// Condition of a Route: requests reach it by its hosts.
const INGRESS: &str = "IngressReady";
const CERTIFICATE: &str = "CertificateProvisioned";
const SET: ConditionSet = ConditionSet::living(&[ASSIGNED, INGRESS, CERTIFICATE]);

/// How often canaries are looked at: proxies report once a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known around a Route.
pub(super) struct Around<'a> {
    pub(super) known: &'a dyn Known,
    /// The Services (core) that are the Route's by their label.
    pub(super) services: &'a [Value],
    pub(super) settings: &'a Settings,
    /// Where names in the cluster lead to.
    pub(super) internal: &'a str,
    /// What canaries are decided by.
    pub(super) trials: &'a Trials,
    pub(super) now: Timestamp,
}

/// What a Route is to become.
#[derive(Debug)]
pub(super) struct Plan {
    conditions: Conditions,
    /// All of the status but the conditions.
    status: Map<String, Value>,
    ingress: Ingress,
    /// Whether a new revision waits for what it depends on.
    pub(super) is_waiting: bool,
    /// Its Services (core) and the shares of the moment; none while its traffic leads nowhere:
    /// they stay as they are.
    pub(super) leads: Option<Leads>,
}

/// What a Route has whose traffic leads somewhere.
#[derive(Debug)]
pub(super) struct Leads {
    pub(super) services: Vec<Value>,
    /// Shares while traffic moves; none where it moves at once.
    pub(super) rollout: Option<Rollout>,
    /// When it moves on.
    pub(super) next: Option<Duration>,
}

/// Whether requests reach the Route by its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ingress {
    /// As they did.
    Former,
    /// Not known: the proxies are only being told.
    Told,
    /// Yes, while traffic moves.
    Moving,
    /// Yes.
    Ready,
}

impl Plan {
    /// Whether it is to be called ready, and was not before.
    pub(super) fn becomes_ready(&self) -> bool {
        self.ingress == Ingress::Ready && self.conditions.status(INGRESS) != Status::True
    }

    /// Some proxy does not know it yet.
    pub(super) const fn hold(&mut self) {
        self.ingress = Ingress::Told;
    }

    /// The whole status. `taken` is the name of one of its Services (core) that is somebody
    /// else's.
    pub(super) fn status(mut self, taken: Option<&str>) -> Value {
        let conditions = &mut self.conditions;
        match (taken, self.ingress) {
            (Some(taken), _) => {
                let message = format!(
                    "There is an existing placeholder Service {taken:?} that we do not own."
                );
                conditions.mark_false(INGRESS, "NotOwned", &message);
            }
            (None, Ingress::Former) => {}
            (None, Ingress::Told) => {
                let message = "Ingress has not yet been reconciled.";
                conditions.mark_unknown(INGRESS, "IngressNotConfigured", message);
            }
            (None, Ingress::Moving) => {
                let message = "A gradual rollout of the latest revision(s) is in progress.";
                conditions.mark_unknown(INGRESS, "RolloutInProgress", message);
            }
            (None, Ingress::Ready) => conditions.mark_true(INGRESS),
        }
        self.status.insert("conditions".to_owned(), self.conditions.to_value());
        Value::Object(self.status)
    }
}

/// URLs by tag; none = the Route's own.
type Urls = BTreeMap<Option<String>, String>;

/// Plans a Route.
pub(super) fn plan(route: &Value, around: &Around<'_>) -> Plan {
    let former = route.get("status").cloned().unwrap_or_default();
    let mut status = former.as_object().cloned().unwrap_or_default();
    let mut conditions = SET.read(&former, around.now);
    status.insert("observedGeneration".to_owned(), json!(route.generation()));
    // A new generation is not ready before it was seen to be.
    let mut ingress = if route.is_observed() { Ingress::Former } else { Ingress::Told };
    let names = Names::new(route, &around.settings.domain, &around.settings.network);
    let mut is_waiting = false;
    let mut assign = |conditions: &mut Conditions, traffic, urls: &Urls| {
        let Some(text) = waits(route, &traffic, around.known) else {
            conditions.mark_true(ASSIGNED);
            return Some(traffic);
        };
        conditions.mark_unknown(ASSIGNED, DEPENDENCIES_NOT_READY, &text);
        is_waiting = true;
        moving(route, urls, around.known)
    };
    let traffic = resolve(route, None, around.known);
    let leads = match (urls(route, &names, around.services), traffic) {
        (Err(problem), _) => {
            conditions.mark_false(ASSIGNED, "ErrorConfig", &problem);
            None
        }
        (Ok(urls), Err(bad)) => {
            status.insert("url".to_owned(), json!(urls.get(&None)));
            bad.mark(&mut conditions);
            None
        }
        (Ok(urls), Ok(traffic)) => {
            status.insert("url".to_owned(), json!(urls.get(&None)));
            let traffic = assign(&mut conditions, traffic, &urls);
            traffic.map(|traffic| {
                let (rollout, next) = rollout(route, &traffic, around);
                let shown = traffic.status(&rollout.clone().unwrap_or_default(), &urls);
                status.insert("address".to_owned(), json!({"url": names.address()}));
                status.insert("traffic".to_owned(), shown);
                mark_certificate(&mut conditions, around.settings.network.external_domain_tls);
                let is_known =
                    ["url", "traffic"].iter().all(|key| former.get(key) == status.get(*key));
                let is_moving = rollout.as_ref().is_some_and(|rollout| !rollout.is_done());
                ingress = match () {
                    () if is_moving => Ingress::Moving,
                    () if is_known && route.is_observed() => Ingress::Ready,
                    // Ready means that it works: the proxies get to know it first.
                    () => Ingress::Told,
                };
                let tags: BTreeSet<Option<&str>> = traffic.tags().collect();
                let of = |tag| placeholder(route, &names, tag, around.internal);
                let services = tags.into_iter().map(of).collect();
                Leads { services, rollout, next }
            })
        }
    };
    Plan { conditions, status, ingress, is_waiting, leads }
}

/// The traffic before, if it moves step by step: it goes on while what comes after it waits.
fn moving(route: &Value, urls: &Urls, known: &dyn Known) -> Option<Traffic> {
    let before = noted(route)?;
    let traffic = resolve(route, Some(&before), known).ok()?;
    // If only revisions came since; else nothing says what was asked for before.
    (traffic.status(&before, urls) == route["status"]["traffic"]).then_some(traffic)
}

/// No certificates are made for Routes: those of the listeners and of DomainMappings are given.
fn mark_certificate(conditions: &mut Conditions, is_asked: bool) {
    let message = if is_asked {
        "external-domain-tls is enabled, but tidegate makes no certificates: give it one with \
         --tls-cert, or a DomainMapping with spec.tls"
    } else {
        "external-domain-tls is not enabled"
    };
    conditions.mark_true_with_reason(CERTIFICATE, "TLSNotEnabled", message);
}

/// URLs of the Route and of the tags it asks for. Each name is seen from outside unless the Route
/// is not, or its own Service has a label.
fn urls(route: &Value, names: &Names<'_>, services: &[Value]) -> Result<Urls, String> {
    let asked = route.list("/spec/traffic").iter().map(|entry| entry.text("/tag"));
    let tags: BTreeSet<Option<&str>> =
        asked.map(|tag| Some(tag).filter(|tag| !tag.is_empty())).chain([None]).collect();
    let url = |tag: Option<&str>| {
        let name = names.service(tag);
        let service = services.iter().find(|service| service.text("/metadata/name") == name);
        let is_labelled = service.is_some_and(|service| !service.label(VISIBILITY).is_empty());
        let url = names.url(tag, is_labelled || names.is_private())?;
        Ok((tag.map(str::to_owned), url))
    };
    tags.into_iter().map(url).collect()
}

/// The shares of the moment, and when they change; none where traffic moves at once.
fn rollout(
    route: &Value,
    traffic: &Traffic,
    around: &Around<'_>,
) -> (Option<Rollout>, Option<Duration>) {
    let duration = duration(route, around.settings.network.rollout_duration);
    let (rules, _) = route_canary(route);
    if duration.is_zero() && rules.is_none() {
        return (None, None);
    }
    let revision = |name: &str| around.known.revision(name);
    let before = noted(route).map(|mut before| {
        before.retain(|name| revision(name).is_some());
        before
    });
    let stand = |name: &str| match revision(name).as_ref().map(ready) {
        Some("True") => Standing::Ready,
        Some("False") => Standing::Failing,
        _ => Standing::Pending,
    };
    let now = around.now.as_nanosecond();
    let now = UnixNanos(u64::try_from(now).unwrap_or(0));
    let Some(rules) = rules else {
        let rollout = traffic.rollout().advanced(before.as_ref(), duration, now, &stand);
        let next = rollout.next_step(&stand).map(|next| next.since(now));
        return (Some(rollout), next);
    };
    let id = |name: &str| ObjectName::new(route.text("/metadata/namespace"), name);
    let compare = |old: &str, new: &str, since| around.trials.counted(&id(old), &id(new), since);
    let trial = Trial { rules: &rules, now, stand: &stand, compare: &compare };
    let rollout = traffic.rollout().tried(before.as_ref(), &trial);
    let next = rollout.is_tried().then_some(LOOK_EVERY);
    (Some(rollout), next)
}

/// How long traffic takes to move, in whole seconds. An annotation of zero is as good as none, as
/// in Knative.
fn duration(route: &Value, default: Duration) -> Duration {
    let texts = ROLLOUT_DURATION.iter().map(|key| route.annotation(key));
    let nanos = texts.filter(|text| !text.is_empty()).find_map(|text| parse_duration(text).ok());
    let nanos = u64::try_from(nanos.unwrap_or(0)).unwrap_or(0);
    let seconds = Duration::from_nanos(nanos).as_secs();
    if seconds > 0 { Duration::from_secs(seconds) } else { default }
}
