//! An election with the API server and the clock.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::client::own_namespace;
use super::super::kinds::Kind;
use super::LEASE;
use super::election::{Answer, Election, Record, Request, Timing};
use super::renewals::Renewals;

/// Where and as whom to be elected.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Namespace of the Lease: tidegate's own.
    pub namespace: String,
    /// Who this is: the name of the place, `_`, and what is new in each life.
    pub identity: String,
    /// The spans.
    pub timing: Timing,
    /// What others find out.
    pub hints: Arc<Hints>,
}

impl LeaseSettings {
    /// In tidegate's own namespace.
    pub fn from_environment(client: &Client, identity: &str) -> Self {
        Self {
            namespace: own_namespace(client),
            identity: identity.to_owned(),
            timing: Timing::default(),
            hints: Arc::default(),
        }
    }
}

/// What is known about the Lease by other ways than the API server; taken in by the next attempt.
#[derive(Debug, Default)]
pub struct Hints {
    ended: Mutex<Vec<String>>,
    beyond: Mutex<Option<u32>>,
}

impl Hints {
    /// The process of this identity is gone.
    pub fn ended(&self, identity: &str) {
        self.ended.lock().push(identity.to_owned());
    }

    /// The number of the Lease must exceed this.
    pub fn exceed(&self, number: u32) {
        let mut beyond = self.beyond.lock();
        *beyond = (*beyond).max(Some(number));
    }

    fn give(&self, election: &mut Election) {
        self.ended.lock().drain(..).for_each(|identity| election.ended(&identity));
        let beyond = self.beyond.lock().take();
        if let Some(number) = beyond {
            election.exceed(number);
        }
    }
}

/// Whether this replica leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
    leading: watch::Receiver<bool>,
    number: watch::Receiver<Option<u32>>,
    renewals: Arc<Renewals>,
}

impl Leadership {
    /// Whether it leads at this very moment. To be asked right before each write.
    pub fn is_leading(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Changes with it; false from the moment at which another one may begin to lead.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// The number of the Lease while it is this replica's, as far as is known: it grows whenever the
    /// Lease goes from one to another.
    pub fn number(&self) -> watch::Receiver<Option<u32>> {
        self.number.clone()
    }

    /// Its writes of the Lease.
    pub fn renewals(&self) -> Arc<Renewals> {
        Arc::clone(&self.renewals)
    }

    /// One that leads for good: where there is nobody else.
    pub fn alone() -> Self {
        let far = Instant::now() + Duration::from_secs(100 * 365 * 24 * 3600);
        // What a receiver holds stays when its sender is gone.
        Self {
            until: watch::channel(Some(far)).1,
            leading: watch::channel(true).1,
            number: watch::channel(Some(0)).1,
            renewals: Arc::default(),
        }
    }
}

/// The side that decides.
#[derive(Debug)]
pub struct Leading {
    until: watch::Sender<Option<Instant>>,
    leading: watch::Sender<bool>,
    number: watch::Sender<Option<u32>>,
    renewals: Arc<Renewals>,
}

/// A leadership that nobody has yet, and the part that [`Leading::run`] plays in it.
pub fn elect() -> (Leading, Leadership) {
    let (until, until_seen) = watch::channel(None);
    let (leading, leading_seen) = watch::channel(false);
    let (number, number_seen) = watch::channel(None);
    let renewals = Arc::<Renewals>::default();
    let leadership = Leadership {
        until: until_seen,
        leading: leading_seen,
        number: number_seen,
        renewals: Arc::clone(&renewals),
    };
    (Leading { until, leading, number, renewals }, leadership)
}

impl Leading {
    /// Takes part until `stopped` is done, then gives the Lease up. `stopped` should be done when
    /// everything that writes as the leader has ended.
    pub async fn run(
        &self,
        client: &Client,
        settings: &LeaseSettings,
        stopped: impl Future<Output = ()>,
    ) {
        let mut election = Election::new(settings.identity.clone(), settings.timing);
        let mut store = Store::new(client, settings);
        let taking_part = async {
            loop {
                let begun = Instant::now();
                settings.hints.give(&mut election);
                self.attempt(&mut election, &mut store).await;
                // Not all at the same moment.
                let jitter = settings.timing.retry.mul_f64(fastrand::f64() * 0.2);
                tokio::select! {
                    () = sleep_until(begun + settings.timing.retry + jitter) => {}
                    () = self.renewals.wanted() => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = taking_part => {}
            () = self.tell() => {}
            () = stopped => {}
        }
        self.until.send_replace(None);
        self.leading.send_replace(false);
        self.number.send_replace(None);
        // A renewal under way may have changed its version: then once more.
        for _ in 0..2 {
            let Some(request) = election.give_up() else { break };
            if store.ask(&request).await != Answer::Conflict {
                tracing::info!(lease = LEASE, "gave up the lease");
                break;
            }
            let now = Instant::now();
            let answer = store.ask(&Request::Read).await;
            election.answered(&Request::Read, answer, now, now);
        }
    }

    async fn attempt(&self, election: &mut Election, store: &mut Store) {
        election.begin();
        while let Some(request) = election.next(Instant::now()) {
            let sent = Instant::now();
            let write = match &request {
                Request::Write { is_taken, .. } => Some(self.renewals.begin(*is_taken)),
                Request::Read => None,
            };
            let answer = store.ask(&request).await;
            let is_written = matches!(answer, Answer::Lease(..));
            election.answered(&request, answer, sent, Instant::now());
            let until = election.until();
            self.until.send_if_modified(|former| std::mem::replace(former, until) != until);
            let number = until.and_then(|_| election.number());
            // Before the number is told: whoever hears of it looks at them.
            if let (Some(write), Some(number), true) = (write, number, is_written) {
                self.renewals.succeeded(write, number);
            }
            self.number.send_if_modified(|former| std::mem::replace(former, number) != number);
        }
    }

    /// Keeps `leading` true until the moment up to which this replica leads.
    async fn tell(&self) {
        let mut changed = self.until.subscribe();
        loop {
            let until = *changed.borrow_and_update();
            let leads = until.is_some_and(|until| Instant::now() < until);
            let is_news = self.leading.send_if_modified(|l| std::mem::replace(l, leads) != leads);
            match (is_news, leads) {
                (true, true) => tracing::info!(lease = LEASE, "leads from now on"),
                (true, false) => tracing::warn!(lease = LEASE, "leads no more"),
                _ => {}
            }
            let ended = sleep_until(until.unwrap_or_else(Instant::now));
            tokio::select! {
                biased;
                // The sender is ours.
                _ = changed.changed() => {}
                () = ended, if leads => {}
            }
        }
    }
}

/// The Lease at the API server.
#[derive(Debug)]
struct Store {
    api: Api<DynamicObject>,
    namespace: String,
    call: Duration,
    /// The object as it was last seen: what is not known of it stays.
    last: Option<DynamicObject>,
    /// Whether the last call failed; only the first failure in a row is told.
    is_failing: bool,
}

impl Store {
    fn new(client: &Client, settings: &LeaseSettings) -> Self {
        Self {
            api: Kind::Lease.in_namespace(client, &settings.namespace),
            namespace: settings.namespace.clone(),
            call: settings.timing.call,
            last: None,
            is_failing: false,
        }
    }

    async fn ask(&mut self, request: &Request) -> Answer {
        let calling = async {
            match request {
                Request::Read => self.api.get_opt(LEASE).await,
                Request::Write { version: None, record, .. } => {
                    let object = written(new_object(), record, true);
                    self.api.create(&PostParams::default(), &object).await.map(Some)
                }
                Request::Write { record, is_taken, .. } => {
                    // A version is known only of an object that was seen.
                    let base = self.last.clone().unwrap_or_else(new_object);
                    let object = written(base, record, *is_taken);
                    self.api.replace(LEASE, &PostParams::default(), &object).await.map(Some)
                }
            }
        };
        match timeout(self.call, calling).await {
            Ok(Ok(object)) => {
                self.is_failing = false;
                self.last.clone_from(&object);
                object.as_ref().map_or(Answer::Missing, read)
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Answer::Conflict,
            // It was deleted while it was written.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Answer::Missing,
            Ok(Err(error)) => self.failed(&error),
            Err(elapsed) => self.failed(&elapsed),
        }
    }

    fn failed(&mut self, error: &dyn std::error::Error) -> Answer {
        if !std::mem::replace(&mut self.is_failing, true) {
            let namespace = &self.namespace;
            tracing::warn!(
                %error, lease = LEASE, %namespace,
                "the lease cannot be read or written: without it nobody leads. The role needs get, \
                 create and update of leases.coordination.k8s.io in this namespace"
            );
        }
        Answer::Failed
    }
}

fn new_object() -> DynamicObject {
    let mut object = DynamicObject::new(LEASE, &Kind::Lease.resource());
    object.data = json!({});
    object
}

/// The object with what the record says, written now.
fn written(mut object: DynamicObject, record: &Record, is_taken: bool) -> DynamicObject {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let former = object.data["spec"]["acquireTime"].clone();
    let acquired = if is_taken || former.is_null() { Value::from(now.as_str()) } else { former };
    let spec = &mut object.data["spec"];
    spec["holderIdentity"] = record.holder.as_str().into();
    spec["leaseDurationSeconds"] = record.duration.as_secs().max(1).into();
    spec["acquireTime"] = acquired;
    spec["renewTime"] = now.into();
    spec["leaseTransitions"] = record.transitions.into();
    object
}

fn read(object: &DynamicObject) -> Answer {
    let spec = &object.data["spec"];
    let text = |field: &str| spec[field].as_str().unwrap_or_default();
    let record = Record {
        holder: text("holderIdentity").to_owned(),
        duration: Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or(0)),
        times: format!("{} {}", text("acquireTime"), text("renewTime")),
        transitions: spec["leaseTransitions"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0),
    };
    Answer::Lease(record, object.metadata.resource_version.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
