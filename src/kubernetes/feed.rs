//! Watches. Each kind is watched once in a process: whoever else follows it has a feed of what
//! that watch says, on whatever thread it works.
//!
//! ```text
//! API server ─ watch ─▶ mirror
//!                 └─ relays ─▶ feeds ─▶ mirrors of others
//! ```

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::kinds::Kind;

/// Objects a list call asks for at once.
const PAGE: u32 = 500;
/// A watch that says nothing for longer is made anew, in seconds: a peer that died silently is
/// noticed only so.
pub(super) const WATCH_TIMEOUT_S: u32 = 60;

/// Longest pause before a watch is made anew: pods that ended while the API server was away are
/// not to be asked for longer than that after it is back.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How many events a feed may be behind: more than any change makes, and little memory.
const BEHIND: usize = 1024;

/// What a watch says of the objects of a kind.
pub type Seen = Event<Arc<DynamicObject>>;

/// kube's pauses between attempts, none of them long; not all kinds at the same moment.
#[derive(Default)]
struct Backoff(watcher::DefaultBackoff);

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let most = PAUSE_MAX.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0.next().map(|pause| pause.min(most))
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        kube::runtime::utils::Backoff::reset(&mut self.0);
    }
}

/// Lists and watches for good.
pub fn watch(api: Api<DynamicObject>, config: watcher::Config) -> impl Stream<Item = Seen> {
    let config = config.page_size(PAGE).timeout(WATCH_TIMEOUT_S);
    let path = api.resource_url().to_owned();
    seen(path, watcher(api, config).backoff(Backoff::default()))
}

/// What is said apart from what failed.
fn seen(
    path: String,
    events: impl Stream<Item = watcher::Result<Event<DynamicObject>>>,
) -> impl Stream<Item = Seen> {
    events
        .scan(false, move |was_listed, event| {
            ready(Some(match event {
                Ok(event) => {
                    *was_listed |= matches!(event, Event::InitDone);
                    Some(shared(event))
                }
                // A kind that the cluster does not have has no objects. It is looked for again,
                // quietly: with Knative's definitions alone some are missing for good.
                Err(error) if is_unknown_kind(&error) => (!std::mem::replace(was_listed, true))
                    .then(|| {
                        tracing::info!(
                            path,
                            "the cluster has no such kind; it is looked for again"
                        );
                        Event::InitDone
                    }),
                Err(error) => {
                    if is_ordinary(&error) {
                        tracing::debug!(%error, "a watch is made anew");
                    } else {
                        tracing::warn!(%error, "a watch broke off; it is made anew");
                    }
                    None
                }
            }))
        })
        .filter_map(ready)
}

fn shared(event: Event<DynamicObject>) -> Seen {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(Arc::new(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(Arc::new(object)),
        Event::Delete(object) => Event::Delete(Arc::new(object)),
    }
}

/// Whether the API server has no such kind.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

/// Whether the API server only asks to come again: the version is too old for it, as it is whenever
/// definitions were applied, or it is busy.
fn is_ordinary(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::WatchError(status) => status,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
        _ => return false,
    };
    matches!(status.code, 410 | 429)
}

/// What another one's watch says. To be taken while it comes: the watch waits for whoever is far
/// behind.
#[derive(Debug)]
pub struct Feed(Receiver<Seen>);

impl Feed {
    /// All of it, for as long as the watch is followed.
    pub fn events(mut self) -> impl Stream<Item = Seen> {
        stream::poll_fn(move |context| self.0.poll_recv(context))
    }
}

/// The feeds of each kind.
#[derive(Debug, Default)]
pub struct Relays(HashMap<Kind, Vec<Relay>>);

#[derive(Debug)]
struct Relay {
    label: Option<&'static str>,
    to: Sender<Seen>,
}

impl Relays {
    /// A feed of a kind, or of its objects with a label. To be asked for before the kind is
    /// watched.
    pub fn feed(&mut self, kind: Kind, label: Option<&'static str>) -> Feed {
        let (to, feed) = channel(BEHIND);
        self.0.entry(kind).or_default().push(Relay { label, to });
        Feed(feed)
    }

    /// What a watch of a kind says, which its feeds are told, too.
    pub fn relayed<S>(&mut self, kind: Kind, events: S) -> impl Stream<Item = Seen> + use<S>
    where
        S: Stream<Item = Seen>,
    {
        let relays = self.0.remove(&kind).unwrap_or_default();
        let relays = Arc::new(relays);
        events.then(move |event| {
            let relays = Arc::clone(&relays);
            async move {
                for relay in relays.iter() {
                    relay.tell(&event).await;
                }
                event
            }
        })
    }
}

impl Relay {
    /// As a watch of the label would tell it: what has it no longer is gone.
    async fn tell(&self, event: &Seen) {
        let is_selected = |object: &DynamicObject| {
            let labels = object.metadata.labels.as_ref();
            self.label.is_none_or(|label| labels.is_some_and(|labels| labels.contains_key(label)))
        };
        let event = match event {
            Event::Init => Event::Init,
            Event::InitApply(object) if is_selected(object) => Event::InitApply(Arc::clone(object)),
            Event::InitApply(_) => return,
            Event::InitDone => Event::InitDone,
            Event::Apply(object) if is_selected(object) => Event::Apply(Arc::clone(object)),
            Event::Apply(object) | Event::Delete(object) => Event::Delete(Arc::clone(object)),
        };
        // Who has ended takes nothing any more.
        drop(self.to.send(event).await);
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn no_pause_is_long() {
        let pauses: Vec<Duration> = Backoff::default().take(12).collect();
        assert!(pauses[0] < Duration::from_secs(2), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX), "{pauses:?}");
        assert!(pauses[11] >= PAUSE_MAX / 2, "{pauses:?}");
    }

    fn object(name: &str, labels: &[&str]) -> DynamicObject {
        let labels: HashMap<_, _> = labels.iter().map(|label| (*label, "x")).collect();
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels},
        }))
        .unwrap()
    }

    fn words(event: &Seen) -> String {
        let (what, object) = match event {
            Event::Init => ("init", None),
            Event::InitApply(object) => ("listed", Some(object)),
            Event::InitDone => ("done", None),
            Event::Apply(object) => ("put", Some(object)),
            Event::Delete(object) => ("gone", Some(object)),
        };
        format!("{what} {}", object.and_then(|o| o.metadata.name.clone()).unwrap_or_default())
    }

    async fn all(events: impl Stream<Item = Seen>) -> Vec<String> {
        events.map(|event| words(&event).trim().to_owned()).collect().await
    }

    #[tokio::test]
    async fn a_feed_says_what_a_watch_of_its_label_would() {
        let mut relays = Relays::default();
        let of_routes = relays.feed(Kind::CoreService, Some("route"));
        let of_all = relays.feed(Kind::CoreService, None);
        let of_others = relays.feed(Kind::Pod, None);
        // One that nobody takes is in nobody's way.
        drop(relays.feed(Kind::CoreService, None));
        let events = stream::iter([
            Event::Init,
            Event::InitApply(object("a", &["route"])),
            Event::InitApply(object("b", &["other"])),
            Event::InitDone,
            Event::Apply(object("b", &["route", "other"])),
            Event::Apply(object("a", &[])),
            Event::Delete(object("b", &["route"])),
        ]);
        let own = all(relays.relayed(Kind::CoreService, events.map(shared))).await;
        drop(relays);
        let expected = ["init", "listed a", "listed b", "done", "put b", "put a", "gone b"];
        assert_eq!(own, expected);
        assert_eq!(all(of_all.events()).await, expected);
        let expected = ["init", "listed a", "done", "put b", "gone a", "gone b"];
        assert_eq!(all(of_routes.events()).await, expected);
        assert_eq!(all(of_others.events()).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_kind_that_there_is_not_has_no_objects() {
        let failed = |code| {
            let status = Status { code, ..Status::default() };
            Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
        };
        let events = || {
            [
                Ok(Event::Init),
                failed(503),
                Ok(Event::Init),
                failed(404),
                Ok(Event::Init),
                failed(404),
                Ok(Event::Init),
                Ok(Event::InitApply(object("a", &[]))),
                Ok(Event::InitDone),
                Ok(Event::Init),
                // Its definition was deleted: what was known stays.
                failed(404),
            ]
        };
        let found = all(seen("/kinds".to_owned(), stream::iter(events()))).await;
        let expected = ["init", "init", "done", "init", "init", "listed a", "done", "init"];
        assert_eq!(found, expected);
    }
}
