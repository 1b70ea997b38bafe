//! A watch: what changes from a revision on, until its fate.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::asked::Asked;
use super::server::{Link, Server};
use super::store::Refusal;
use super::weather::Fate;
use crate::kubernetes::client::READ_TIMEOUT;
use crate::model::ObjectName;

/// How often a watch tells its revision where nothing changes.
const BOOKMARK_EVERY: Duration = Duration::from_secs(20);

struct Watching {
    server: Arc<Server>,
    link: Arc<Link>,
    asked: Asked,
    told: Arc<Notify>,
    /// The next change in the log.
    index: usize,
    /// Objects that it told of.
    known: BTreeSet<ObjectName>,
    /// What begins with an error ends with it.
    is_over: bool,
    until: Instant,
    fate: Option<(Instant, Fate)>,
    bookmark: Instant,
}

/// What comes next.
enum Next {
    Event(Value),
    Last(Value),
    Broken,
    Over,
}

/// The events of a watch.
pub(super) fn events(
    server: Arc<Server>,
    link: Arc<Link>,
    asked: Asked,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
    let now = Instant::now();
    let fate = server.weather.lock().fate(&mut server.rng.lock());
    let revision: u64 = asked.query("resourceVersion").parse().unwrap_or(0);
    let seconds: u64 = asked.query("timeoutSeconds").parse().unwrap_or(300);
    let (told, index, known, is_old) = {
        let mut store = server.store.lock();
        let known = store.all_at(asked.kind, revision);
        let known = known.into_iter().filter(|(name, object)| asked.selects(name, object));
        let known = known.map(|(name, _)| name).collect();
        (store.told(asked.kind), store.after(revision), known, revision < store.oldest)
    };
    let fate = if is_old { Some((now, Fate::Expires)) } else { fate };
    let watching = Watching {
        told,
        index,
        known,
        is_over: false,
        until: now + Duration::from_secs(seconds),
        fate,
        bookmark: now + BOOKMARK_EVERY,
        server,
        link,
        asked,
    };
    stream::unfold(watching, |mut watching| async move {
        if watching.is_over {
            return None;
        }
        let event = match watching.next().await {
            Next::Event(event) => Ok(event),
            Next::Last(event) => {
                watching.is_over = true;
                Ok(event)
            }
            Next::Broken => {
                watching.is_over = true;
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            }
            Next::Over => return None,
        };
        let frame = event.map(|event| Frame::data(Bytes::from(format!("{event}\n"))));
        Some((frame, watching))
    })
}

impl Watching {
    async fn next(&mut self) -> Next {
        loop {
            if !self.link.passable().await {
                return Next::Broken;
            }
            let now = Instant::now();
            if let Some((at, fate)) = self.fate
                && now >= at
            {
                return self.end(fate).await;
            }
            if now >= self.until {
                return Next::Over;
            }
            if let Some(event) = self.change() {
                let late = self.server.weather.lock().late(&mut self.server.rng.lock());
                tokio::time::sleep(late).await;
                if !self.link.passable().await {
                    return Next::Broken;
                }
                return Next::Event(event);
            }
            if now >= self.bookmark {
                self.bookmark = now + BOOKMARK_EVERY;
                return Next::Event(self.bookmark());
            }
            let due = self.fate.map_or(self.until, |(at, _)| at.min(self.until)).min(self.bookmark);
            tokio::select! {
                biased;
                () = self.told.notified() => {}
                () = self.link.changed() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    async fn end(&mut self, fate: Fate) -> Next {
        let error = |refusal: Refusal| json!({"type": "ERROR", "object": refusal.status()});
        match fate {
            Fate::Breaks => Next::Broken,
            Fate::Ends => Next::Over,
            Fate::Expires => {
                Next::Last(error(Refusal::new(410, "Expired", "too old resource version")))
            }
            Fate::Fails => {
                Next::Last(error(Refusal::new(500, "InternalError", "etcd event received")))
            }
            Fate::Stalls => {
                tokio::time::sleep(READ_TIMEOUT).await;
                Next::Broken
            }
        }
    }

    /// The next change that it is about.
    fn change(&mut self) -> Option<Value> {
        let store = self.server.store.lock();
        while let Some(change) = store.change(self.index) {
            self.index += 1;
            if change.kind != self.asked.kind {
                continue;
            }
            let after = change.after.as_ref();
            let after = after.filter(|object| self.asked.selects(&change.name, object));
            let was_known = match after {
                Some(_) => !self.known.insert(change.name.clone()),
                None => self.known.remove(&change.name),
            };
            let (kind, object) = match (after, was_known) {
                (Some(after), true) => ("MODIFIED", (**after).clone()),
                (Some(after), false) => ("ADDED", (**after).clone()),
                (None, true) => {
                    let mut object = change.before.as_deref().cloned().unwrap_or_default();
                    object["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                    ("DELETED", object)
                }
                (None, false) => continue,
            };
            return Some(json!({"type": kind, "object": object}));
        }
        None
    }

    fn bookmark(&self) -> Value {
        let revision = self.server.store.lock().revision();
        json!({"type": "BOOKMARK", "object": {
            "apiVersion": self.asked.kind.api_version(), "kind": self.asked.kind.kind(),
            "metadata": {"resourceVersion": revision.to_string()},
        }})
    }
}
