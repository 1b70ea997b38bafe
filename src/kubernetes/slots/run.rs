//! A seat with the other proxies, the Lease, the API server and the clock.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::kinds::Kind;
use super::super::lease::{Hints, Leadership};
use super::super::mirror::value;
use super::super::peers::{Event, Loss, Peers, SERVICE};
use super::Local;
use super::message::Message;
use super::seat::Seat;
use crate::stats::Pokes;

/// Kind of the messages.
const SLOTS: &str = "slots";
/// How often turns change where there is not enough for all.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at revisions that poke: where requests wait all the time, many pokes are one
/// look.
const PAUSE: Duration = Duration::from_millis(5);
/// How soon pods are listed again while somebody has not reported.
const LIST_AGAIN: Duration = Duration::from_millis(500);
/// A list takes no longer.
const LIST_WITHIN: Duration = Duration::from_secs(2);

/// What this proxy's seat needs.
pub struct Slots {
    /// The revisions here.
    pub local: Box<dyn Local + Send>,
    /// Tells of revisions that are to be looked at.
    pub pokes: Arc<Pokes>,
    /// Whether it leads, and by which number of the Lease.
    pub leadership: Leadership,
    /// What the election is told.
    pub hints: Arc<Hints>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

impl Slots {
    /// Takes part in what the proxies say to each other. To be called before the peers start.
    pub fn sit_down(self, peers: &Peers) -> Seated {
        let (doubts, _) = watch::channel(None);
        let table = Arc::new(Table {
            seat: Mutex::new((Seat::new(peers.me().clone()), self.local)),
            hints: self.hints,
            doubts,
        });
        let seated = Arc::clone(&table);
        peers.listen(SLOTS, move |peers, event| seated.take(peers, event));
        Seated { table, pokes: self.pokes, leadership: self.leadership }
    }
}

struct Table {
    seat: Mutex<(Seat, Box<dyn Local + Send>)>,
    hints: Arc<Hints>,
    /// The number of the term in which pods are to be listed.
    doubts: watch::Sender<Option<u32>>,
}

impl Table {
    fn take(&self, peers: &Peers, event: Event<'_>) {
        self.act(peers, |seat, local| match event {
            Event::Joined(peer) => {
                seat.joined(peer);
                None
            }
            Event::Message(peer, body) => match serde_json::from_slice::<Message>(body) {
                Ok(message) => seat.received(peer, message, local),
                Err(error) => {
                    tracing::warn!(%peer, %error, "what it says about slots is not understood");
                    None
                }
            },
            Event::Lost(peer, loss) => {
                let is_gone = matches!(loss, Loss::Dead | Loss::Ended);
                if is_gone {
                    self.hints.ended(&peer.0);
                }
                seat.lost(peer, is_gone, local);
                None
            }
        });
    }

    /// Does something, and what follows of it. What is returned is the number that the Lease must
    /// exceed.
    fn act(&self, peers: &Peers, act: impl FnOnce(&mut Seat, &mut dyn Local) -> Option<u32>) {
        let mut seat = self.seat.lock();
        let (seat, local) = &mut *seat;
        if let Some(number) = act(seat, &mut **local) {
            self.hints.exceed(number);
        }
        for (who, message) in seat.take_outgoing() {
            peers.send(&who, SLOTS, &message);
        }
        let doubts = seat.doubts();
        self.doubts.send_if_modified(|former| std::mem::replace(former, doubts) != doubts);
    }

    fn is_busy(&self) -> bool {
        self.seat.lock().0.is_busy()
    }
}

/// A seat that is taken.
pub struct Seated {
    table: Arc<Table>,
    pokes: Arc<Pokes>,
    leadership: Leadership,
}

impl fmt::Debug for Seated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seated").finish_non_exhaustive()
    }
}

impl Seated {
    /// Takes part for good.
    pub(in super::super) async fn run(&self, peers: &Peers, client: &Client, namespace: &str) {
        tokio::join!(self.follow(peers), self.list(peers, client, namespace));
    }

    async fn follow(&self, peers: &Peers) {
        let mut number = self.leadership.number();
        number.mark_changed();
        let mut next = Instant::now() + TICK;
        loop {
            tokio::select! {
                Ok(()) = number.changed() => {
                    let number = *number.borrow_and_update();
                    if let Some(number) = number {
                        self.table.act(peers, |seat, local| seat.lead(number, local));
                    }
                }
                () = self.pokes.poked() => {
                    let poked = self.pokes.take();
                    self.table.act(peers, |seat, local| {
                        seat.poked(poked, local);
                        None
                    });
                    sleep(PAUSE).await;
                }
                () = sleep_until(next), if self.table.is_busy() => {
                    next = Instant::now() + TICK;
                    self.table.act(peers, |seat, local| {
                        seat.tick(local);
                        None
                    });
                }
            }
        }
    }

    /// Lists pods in which proxies run, as long as that matters.
    async fn list(&self, peers: &Peers, client: &Client, namespace: &str) {
        let mut doubts = self.table.doubts.subscribe();
        let mut is_told = false;
        loop {
            // The sender is ours.
            let term = doubts.wait_for(Option::is_some).await.ok().and_then(|term| *term);
            let Some(term) = term else { return };
            match timeout(LIST_WITHIN, running(client, namespace)).await {
                Ok(Ok(mut running)) => {
                    is_told = false;
                    // Where nobody listens any more, nobody runs.
                    let gone = peers.members().borrow().gone.clone();
                    running.retain(|pod| !gone.contains(pod));
                    self.table.act(peers, |seat, local| {
                        seat.looked(term, running, local);
                        None
                    });
                }
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => format!("no answer within {} s", LIST_WITHIN.as_secs()),
                    };
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            %error, %namespace,
                            "the proxies' pods cannot be listed: until they are, slots of revisions \
                             with containerConcurrency stay where they are. The role needs get of \
                             the Service and list of pods in this namespace"
                        );
                    }
                }
            }
            if doubts.borrow().is_some() {
                sleep(LIST_AGAIN).await;
            }
        }
    }
}

/// Names of the pods in which a proxy runs, by the API server.
async fn running(client: &Client, namespace: &str) -> kube::Result<BTreeSet<Arc<str>>> {
    let services: Api<DynamicObject> = Kind::CoreService.in_namespace(client, namespace);
    let service = value(&services.get(SERVICE).await?);
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let selector = selector.into_iter().flatten().filter_map(|(key, value)| {
        let value = value.as_str()?;
        Some(format!("{key}={value}"))
    });
    let selector: Vec<_> = selector.collect();
    let pods: Api<DynamicObject> = Kind::Pod.in_namespace(client, namespace);
    let pods = pods.list(&ListParams::default().labels(&selector.join(","))).await?;
    let running = pods.items.into_iter().filter_map(|pod| {
        let name = pod.metadata.name.as_deref()?.into();
        is_running(&value(&pod)).then_some(name)
    });
    Ok(running.collect())
}

/// Whether any container of a pod runs, as far as its node has told.
fn is_running(pod: &Value) -> bool {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    let mut statuses = statuses.into_iter().flatten();
    statuses.any(|status| status.pointer("/state/running").is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_runs_when_a_container_does() {
        let pod = |states: &[Value]| {
            let statuses: Vec<_> = states.iter().map(|state| json!({"state": state})).collect();
            json!({"status": {"phase": "Running", "containerStatuses": statuses}})
        };
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let ended = json!({"terminated": {"exitCode": 137}});
        assert!(is_running(&pod(&[ended.clone(), running])));
        assert!(!is_running(&pod(&[ended, json!({"waiting": {"reason": "CrashLoopBackOff"}})])));
        assert!(!is_running(&json!({"status": {"phase": "Pending"}})));
    }

    #[tokio::test]
    async fn the_service_says_which_pods_are_proxies() {
        let answer = |path: String| {
            let running = json!({"containerStatuses": [{"state": {"running": {}}}]});
            let pod = |name: &str, status: &Value| {
                let metadata = json!({"name": name});
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})
            };
            match path.as_str() {
                "/api/v1/namespaces/gate/services/tidegate-peers" => json!({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE},
                    "spec": {"selector": {"app": "gate", "part": "proxy"}}}),
                "/api/v1/namespaces/gate/pods?&labelSelector=app%3Dgate%2Cpart%3Dproxy" => json!({
                    "apiVersion": "v1", "kind": "PodList", "metadata": {},
                    "items": [pod("a", &running), pod("b", &json!({"phase": "Pending"}))]}),
                other => panic!("{other} was asked for"),
            }
        };
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
            let body = http_body_util::Full::from(answer(path).to_string());
            async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
        });
        let found = running(&Client::new(service, "gate"), "gate").await;
        assert_eq!(found.expect("a list"), BTreeSet::from(["a".into()]));
    }
}
