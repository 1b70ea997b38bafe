//! The fake API server as kube's client sees it: calls in, answers, watches and faults out.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::asked::{Asked, Verb};
use super::clock;
use super::store::{By, Refusal, Store};
use super::watching::events;
use super::weather::{Fault, Weather};
use crate::kubernetes::client::READ_TIMEOUT;
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::lease::Leadership;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) part: &'static str,
    pub(super) verb: Verb,
    pub(super) kind: Kind,
    pub(super) line: String,
}

/// The API server, and all that is noted of it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) store: Mutex<Store>,
    pub(super) weather: Mutex<Weather>,
    pub(super) rng: Mutex<Rng>,
    pub(super) trace: Mutex<Vec<String>>,
    pub(super) calls: Mutex<Vec<Call>>,
    pub(super) violations: Mutex<Vec<String>>,
    /// Counts that were stated of a Deployment, and when last.
    pub(super) stated: Mutex<BTreeMap<String, BTreeMap<u64, Instant>>>,
    /// Replicas that the load on a revision takes.
    pub(super) wanted: Mutex<BTreeMap<String, u32>>,
}

/// A replica as the API server's network sees it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) replica: usize,
    is_cut: AtomicBool,
    changed: Notify,
    /// Calls on a cut link are refused at once; else nothing comes back.
    pub(super) refuses: AtomicBool,
    /// When it last went on after it had been stopped.
    pub(super) thawed: Mutex<Option<Instant>>,
}

impl Link {
    pub(super) fn new(replica: usize) -> Self {
        Self {
            replica,
            is_cut: AtomicBool::new(false),
            changed: Notify::new(),
            refuses: AtomicBool::new(false),
            thawed: Mutex::default(),
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    pub(super) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Changes with the link.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns once calls get through; whether they did before.
    pub(super) async fn passable(&self) -> bool {
        let was_cut = self.is_cut();
        while self.is_cut() {
            self.changed().await;
        }
        !was_cut
    }
}

/// One client's way to the API server.
#[derive(Debug)]
struct Line {
    server: Arc<Server>,
    link: Arc<Link>,
    /// What of tidegate it is.
    part: &'static str,
    leadership: Leadership,
}

impl Server {
    pub(super) fn new(seed: u64, rng: &mut Rng) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::new(Store::new()),
            weather: Mutex::new(Weather::new(rng)),
            rng: Mutex::new(Rng::with_seed(seed)),
            trace: Mutex::default(),
            calls: Mutex::default(),
            violations: Mutex::default(),
            stated: Mutex::default(),
            wanted: Mutex::default(),
        })
    }

    /// A client of a replica's part.
    pub(super) fn client(
        self: &Arc<Self>,
        link: &Arc<Link>,
        part: &'static str,
        leadership: &Leadership,
    ) -> Client {
        let line = Arc::new(Line {
            server: Arc::clone(self),
            link: Arc::clone(link),
            part,
            leadership: leadership.clone(),
        });
        let service = tower::service_fn(move |request: Request<Body>| {
            let line = Arc::clone(&line);
            async move { line.answer(request).await }
        });
        Client::new(service, "default")
    }

    pub(super) fn note(&self, text: impl std::fmt::Display) {
        self.trace.lock().push(format!("{:9.3} {text}", clock::elapsed().as_secs_f64()));
    }

    pub(super) fn violate(&self, text: impl std::fmt::Display) {
        self.note(format_args!("VIOLATION {text}"));
        self.violations.lock().push(text.to_string());
    }

    /// A replica states a count.
    pub(super) fn state(&self, deployment: &str, count: u32) {
        let mut stated = self.stated.lock();
        stated.entry(deployment.to_owned()).or_default().insert(count.into(), Instant::now());
    }

    fn execute(&self, asked: &Asked) -> Result<Value, Refusal> {
        let mut store = self.store.lock();
        let manager = asked.query("fieldManager");
        let by = By { manager, part: &asked.part };
        let (kind, name) = (asked.kind, &asked.name);
        match asked.verb {
            Verb::Get => {
                let found = store.get(kind, name).map(|object| (*object).clone());
                found.ok_or_else(|| Refusal::new(404, "NotFound", format!("{name} not found")))
            }
            Verb::Create => {
                let mut object = asked.body.clone();
                object["metadata"]["namespace"] = json!(&*name.namespace);
                store.create(kind, object, manager)
            }
            Verb::Update => store.update(kind, name, by, |_| Ok(asked.body.clone())),
            Verb::Patch if asked.form.contains("apply-patch") => {
                store.apply(kind, name, by, &asked.body, asked.query("force") == "true")
            }
            Verb::Patch if asked.form.contains("merge-patch") => {
                store.update(kind, name, by, |before| {
                    let mut after = before.clone();
                    json_patch::merge(&mut after, &asked.body);
                    Ok(after)
                })
            }
            Verb::Patch => store.update(kind, name, by, |before| {
                let invalid = |why: String| Refusal::new(422, "Invalid", why);
                let patch: json_patch::Patch = serde_json::from_value(asked.body.clone())
                    .map_err(|error| invalid(error.to_string()))?;
                let mut after = before.clone();
                json_patch::patch(&mut after, &patch)
                    .map_err(|error| invalid(error.to_string()))?;
                Ok(after)
            }),
            Verb::Delete => {
                let uid = asked.body.pointer("/preconditions/uid").and_then(Value::as_str);
                store.delete(kind, name, uid)?;
                Ok(
                    json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "metadata": {}}),
                )
            }
            Verb::List => self.list(&store, asked),
            Verb::Watch | Verb::Other => Ok(asked.body.clone()),
        }
    }

    fn list(&self, store: &Store, asked: &Asked) -> Result<Value, Refusal> {
        let token = asked.query("continue");
        let (revision, from) = match token.split_once(' ') {
            Some((revision, from)) => (revision.parse().unwrap_or(0), from.to_owned()),
            None => {
                let mut rng = self.rng.lock();
                let now = store.revision();
                let is_stale = self.weather.lock().is_stale(&mut rng);
                let least = store.oldest.max(100).max(now.saturating_sub(200));
                (if is_stale { rng.u64(least..=now) } else { now }, String::new())
            }
        };
        if revision < store.oldest {
            return Err(Refusal::new(410, "Expired", "The provided continue parameter is too old"));
        }
        let all = store.all_at(asked.kind, revision);
        let selected = all.into_iter().filter(|(name, object)| asked.selects(name, object));
        let mut selected = selected.filter(|(name, _)| name.to_string() > from).peekable();
        let limit: usize = asked.query("limit").parse().unwrap_or(usize::MAX);
        if limit > 500 {
            self.violate(format_args!("a list without pages: {}", asked.line));
        }
        // Small pages, so that there are several.
        let mut items = Vec::new();
        let mut last = String::new();
        while let Some((name, object)) = selected.next_if(|_| items.len() < limit.min(3)) {
            last = name.to_string();
            items.push(in_a_list(asked.kind, &object));
        }
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if selected.peek().is_some() {
            metadata["continue"] = json!(format!("{revision} {last}"));
        }
        Ok(json!({
            "apiVersion": asked.kind.api_version(), "kind": format!("{}List", asked.kind.kind()),
            "metadata": metadata, "items": items,
        }))
    }
}

impl Line {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> io::Result<Answer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = Asked::read(&head, &body);
        self.note(&asked);
        self.pass().await?;
        let (there, back, fault) = {
            let (weather, mut rng) = (self.server.weather.lock(), self.server.rng.lock());
            let (there, back) = (weather.way(&mut rng), weather.way(&mut rng));
            (there, back, weather.fault(&mut rng, asked.is_write()))
        };
        sleep(there).await;
        let refused = match fault {
            Fault::None | Fault::LostAnswer => None,
            Fault::Conflict => Some(Refusal::new(409, "Conflict", "the object has been modified")),
            Fault::Busy(seconds) => {
                let refusal = Refusal::new(429, "TooManyRequests", "too many requests");
                Some(Refusal { retry_after: seconds, ..refusal })
            }
            Fault::Broken(code) => Some(Refusal::new(code, "InternalError", "broken")),
            Fault::LostCall => return self.lost(&asked, "call").await,
        };
        self.pass().await?;
        let answer = match refused {
            Some(refusal) => Err(refusal),
            None if asked.verb == Verb::Watch => Ok(Value::Null),
            None => {
                self.check_effect(&asked);
                self.server.execute(&asked)
            }
        };
        self.trace(&asked, &answer);
        if fault == Fault::LostAnswer {
            return self.lost(&asked, "answer").await;
        }
        sleep(back).await;
        self.pass().await?;
        Ok(match answer {
            Ok(_) if asked.verb == Verb::Watch => {
                let stream = events(Arc::clone(&self.server), Arc::clone(&self.link), asked);
                Response::new(StreamBody::new(stream).boxed_unsync())
            }
            Ok(object) => response(if asked.verb == Verb::Create { 201 } else { 200 }, &object),
            Err(refusal) => response(refusal.code, &refusal.status()),
        })
    }

    /// A cut link breaks at once, or once it is whole again.
    async fn pass(&self) -> io::Result<()> {
        if self.link.is_cut() && self.link.refuses.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(20)).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        match self.link.passable().await {
            true => Ok(()),
            false => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    async fn lost(&self, asked: &Asked, what: &str) -> io::Result<Answer> {
        self.server.note(format_args!("{}: {what} lost: {}", self.link.replica, asked.line));
        let is_silent = self.server.rng.lock().bool();
        if is_silent {
            sleep(READ_TIMEOUT).await;
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Notes a call at the moment at which it is made, and checks who may make it.
    fn note(&self, asked: &Asked) {
        let Asked { verb, kind, line, .. } = asked;
        let call = Call { part: self.part, verb: *verb, kind: *kind, line: line.clone() };
        self.server.calls.lock().push(call);
        if !asked.is_write() || self.part == "lease" || self.leadership.is_leading() {
            return;
        }
        let thawed = *self.link.thawed.lock();
        // Nothing fences one that was stopped between asking and writing.
        if thawed.is_some_and(|thawed| thawed.elapsed() < Duration::from_millis(10)) {
            return;
        }
        let is_wake = asked.part == "scale" && asked.body.is_array();
        if !is_wake {
            self.server.violate(format_args!(
                "{} does not lead and writes: {line} {}",
                self.link.replica, asked.body
            ));
        }
    }

    /// What must not happen to an object.
    fn check_effect(&self, asked: &Asked) {
        let server = &self.server;
        if !asked.is_write() {
            return;
        }
        if asked.kind == Kind::Service && asked.part != "status" {
            server.violate(format_args!("what a person wrote is written: {}", asked.line));
        }
        let is_scaled = asked.kind == Kind::Deployment && asked.part == "scale";
        if !is_scaled {
            return;
        }
        let to = match &asked.body {
            Value::Array(operations) => operations[1]["value"].as_u64(),
            body => body["spec"]["replicas"].as_u64(),
        };
        let stated = server.stated.lock();
        let of = stated.get(&*asked.name.name);
        let last = to.and_then(|to| of.and_then(|of| of.get(&to)));
        // The longest way of a call, and of one that was stopped meanwhile.
        if last.is_none_or(|last| last.elapsed() > Duration::from_secs(90)) {
            drop(stated);
            server.violate(format_args!("{to:?} was not stated: {}", asked.line));
        }
    }

    fn trace(&self, asked: &Asked, answer: &Result<Value, Refusal>) {
        // Times of the real clock stand in these two.
        if self.part == "lease" || asked.verb == Verb::Other {
            return;
        }
        let said = match answer {
            Ok(object) => {
                let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                format!("→ {version}")
            }
            Err(refusal) => format!("→ {} {}", refusal.code, refusal.message),
        };
        let part = if asked.is_write() { asked.body.to_string() } else { String::new() };
        let Self { link, part: of, .. } = self;
        let shown = &part[..part.floor_char_boundary(300)];
        self.server.note(format_args!("{}/{of}: {} {shown} {said}", link.replica, asked.line));
    }
}

/// An object as lists have it: only custom ones say of which kind they are.
fn in_a_list(kind: Kind, object: &Value) -> Value {
    let mut item = object.clone();
    if !kind.names().0.ends_with(".dev")
        && let Some(fields) = item.as_object_mut()
    {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    item
}

fn response(status: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    Response::builder().status(status).body(body.boxed_unsync()).unwrap()
}
