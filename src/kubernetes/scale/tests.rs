//! The scaler against an API server that is slow, busy, contradicted or dead; time is the tests'.

use std::collections::VecDeque;
use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::*;
use crate::kubernetes::lease::elect;
use crate::kubernetes::observed::Count;
use crate::model::{
    ContainerConcurrency, ObjectReference, Probe, ProbeAction, Probes, Protocol, QueueSettings,
    ScalingSpec, Timeouts,
};

/// What the API server does with a write of `/scale`.
#[derive(Clone, Copy, Debug)]
enum Does {
    Takes,
    /// Takes it after so long, in milliseconds.
    TakesAfter(u64),
    Conflicts(&'static str),
    IsBusy,
    IsNotZero,
    Breaks,
    Never,
}

#[derive(Debug, Default)]
struct Server {
    /// What comes next; then everything is taken.
    next: Mutex<VecDeque<Does>>,
    /// Each write of `/scale`, and of pods: when, and what.
    seen: Mutex<Vec<(Instant, String)>>,
    events: Mutex<Vec<String>>,
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = head.uri.path().to_owned();
        if path.ends_with("/events") {
            let text = |field: &str| body[field].as_str().unwrap().to_owned();
            self.events.lock().push(format!("{}: {}", text("reason"), text("note")));
            return Ok(respond(201, &body));
        }
        if path.contains("/pods/") {
            let cost =
                &body["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
            let name = path.rsplit('/').next().unwrap();
            self.seen.lock().push((Instant::now(), format!("{name} {cost}")));
            return Ok(respond(200, &json!({"metadata": {"name": name}})));
        }
        let query = head.uri.query().unwrap_or_default();
        let form = match &body {
            Value::Array(_) => "if zero ",
            _ if query.contains("force=true") => "forced ",
            _ => "",
        };
        let to = if body.is_array() { &body[1]["value"] } else { &body["spec"]["replicas"] };
        self.seen.lock().push((Instant::now(), format!("{form}{to}")));
        let does = self.next.lock().pop_front().unwrap_or(Does::Takes);
        Ok(match does {
            Does::Takes => respond(200, &json!({})),
            Does::TakesAfter(ms) => {
                sleep(Duration::from_millis(ms)).await;
                respond(200, &json!({}))
            }
            Does::Conflicts(who) => {
                let message = format!("conflict with {who:?} using apps/v1");
                let causes = json!([{"reason": "FieldManagerConflict", "message": message}]);
                respond(409, &json!({"code": 409, "details": {"causes": causes}}))
            }
            Does::IsBusy => {
                respond(429, &json!({"code": 429, "details": {"retryAfterSeconds": 2}}))
            }
            Does::IsNotZero => respond(422, &json!({"code": 422})),
            Does::Breaks => respond(500, &json!({"code": 500, "message": "broken"})),
            Does::Never => std::future::pending().await,
        })
    }
}

fn respond(status: u16, body: &Value) -> Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    Response::builder().status(status).body(body).unwrap()
}

fn spec() -> Arc<RevisionSpec> {
    let readiness = Probe {
        action: ProbeAction::Tcp { port: None },
        initial_delay: Duration::ZERO,
        period: Duration::ZERO,
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    };
    let pods = PodsSpec {
        scaled: ObjectReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "a-deployment".into(),
        },
        port: 8080,
        probes: Probes { startup: None, readiness, liveness: None },
    };
    Arc::new(RevisionSpec {
        id: RevisionId::new("n", "a"),
        service: None,
        configuration: "a".into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Pods(Arc::new(pods)),
    })
}

struct Stage {
    server: Arc<Server>,
    observed: Arc<Observed>,
    target: KubernetesTarget,
    told: Tell,
    start: Instant,
}

impl Stage {
    fn new(leadership: Leadership, count: u32, is_ours: bool, next: &[Does]) -> Self {
        let server = Arc::new(Server::default());
        server.next.lock().extend(next);
        let answering = Arc::clone(&server);
        let service = tower::service_fn(move |request| Arc::clone(&answering).answer(request));
        let observed = Arc::new(Observed::default());
        let told = Tell::default();
        let target = KubernetesTarget::telling(
            Client::new(service, "n"),
            Arc::clone(&observed),
            leadership,
            Arc::clone(&told),
        );
        let stage = Self { server, observed, target, told, start: Instant::now() };
        stage.observe(count, is_ours);
        stage
    }

    fn observe(&self, replicas: u32, is_ours: bool) {
        let count = Count { replicas: Some(replicas), uid: "d".into(), is_ours };
        self.observed.reported(&spec().id, count);
    }

    async fn order(&self, replicas: u32, spare: &[&str]) {
        let spare = spare.iter().map(|id| EndpointId::new(*id)).collect();
        let order = ScaleOrder { spare, is_waited_for: true, ..ScaleOrder::of(replicas) };
        self.target.scale(&spec(), order).await.unwrap();
    }

    /// Lets everything happen until so many milliseconds after the start.
    async fn at(&self, ms: u64) {
        tokio::time::sleep_until(self.start + Duration::from_millis(ms)).await;
    }

    /// Writes so far: milliseconds after the start, and what.
    fn seen(&self) -> String {
        let seen = self.server.seen.lock();
        let line =
            |(at, what): &(Instant, String)| format!("{} {what}", (*at - self.start).as_millis());
        seen.iter().map(line).collect::<Vec<_>>().join(", ")
    }
}

/// Runs a test where tasks may be spawned on the thread.
async fn staged(
    leadership: Leadership,
    (count, is_ours): (u32, bool),
    next: &[Does],
    test: impl AsyncFnOnce(&mut Stage),
) {
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut stage = Stage::new(leadership, count, is_ours, next);
            test(&mut stage).await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn only_what_differs_is_written_and_the_first_write_takes_over() {
    staged(Leadership::alone(), (0, false), &[], async |stage| {
        stage.order(0, &[]).await;
        stage.at(1000).await;
        assert_eq!(stage.seen(), "");
        stage.order(1, &[]).await;
        stage.at(1900).await;
        assert_eq!(*stage.server.events.lock(), [""; 0], "not while it starts");
        stage.at(2100).await;
        stage.order(1, &[]).await;
        stage.at(3000).await;
        stage.order(3, &[]).await;
        stage.at(4100).await;
        assert_eq!(stage.seen(), "1000 forced 1, 3000 3");
        assert_eq!(stage.told.take(), Some(Change::Scaled(spec().id.clone())));
        let events = stage.server.events.lock().join("\n");
        assert_eq!(events, "ScaledUp: replicas 0 → 1\nScaledUp: replicas 1 → 3");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_newest_order_is_the_next_one_written() {
    let slow = [Does::TakesAfter(300)];
    staged(Leadership::alone(), (0, true), &slow, async |stage| {
        for count in [1, 2, 5, 4] {
            stage.order(count, &[]).await;
            stage.at(u64::from(count) * 20).await;
        }
        stage.at(2000).await;
        assert_eq!(stage.seen(), "0 1, 300 4", "one at a time");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_given_up_for_a_newer_one() {
    staged(Leadership::alone(), (0, true), &[Does::Never], async |stage| {
        stage.order(1, &[]).await;
        stage.at(700).await;
        assert_eq!(stage.seen(), "0 1");
        stage.order(2, &[]).await;
        stage.at(800).await;
        assert_eq!(stage.seen(), "0 1, 700 2");
    })
    .await;
    // Without a newer one it is given up in time, and tried again.
    staged(Leadership::alone(), (0, true), &[Does::Never], async |stage| {
        stage.order(1, &[]).await;
        stage.at(6000).await;
        assert_eq!(stage.seen(), "0 1, 5000 1".replace("5000", "5050"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_or_broken_server_is_asked_again_later() {
    let next = [Does::IsBusy, Does::Breaks, Does::Breaks, Does::Breaks];
    staged(Leadership::alone(), (0, true), &next, async |stage| {
        stage.order(1, &[]).await;
        stage.at(9000).await;
        assert_eq!(stage.seen(), "0 1, 2000 1, 2050 1, 2150 1, 2350 1");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_writing_the_count_gets_it() {
    let hpa = Does::Conflicts("hpa");
    staged(Leadership::alone(), (2, true), &[hpa, hpa, hpa, hpa], async |stage| {
        for second in 0..150 {
            stage.order(5, &[]).await;
            stage.at(second * 2000).await;
        }
        assert_eq!(stage.seen(), "0 5, 2000 5, 4000 5", "not fought");
        let events = stage.server.events.lock().join("\n");
        assert!(events.starts_with("ScaleConflict: hpa writes the replicas of"), "{events}");
        assert_eq!(events.lines().count(), 1);
        // From zero it is written, whoever wrote the zero and left no trace of who did before.
        stage.observe(0, false);
        stage.order(1, &[]).await;
        stage.at(299_000).await;
        assert_eq!(stage.seen(), "0 5, 2000 5, 4000 5, 298000 1, 298000 forced 1");
        stage.at(304_001).await;
        stage.order(4, &[]).await;
        stage.at(305_000).await;
        assert!(stage.seen().ends_with("304001 4"), "{}", stage.seen());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_another_replica_woke_is_taken_over() {
    let own = Does::Conflicts("tidegate-scaler");
    staged(Leadership::alone(), (1, true), &[own], async |stage| {
        stage.order(3, &[]).await;
        stage.at(1000).await;
        stage.order(4, &[]).await;
        stage.at(2000).await;
        assert_eq!(stage.seen(), "0 3, 0 forced 3, 1000 4");
    })
    .await;
}

/// Its own decision may come a moment after the leader's.
#[tokio::test(start_paused = true)]
async fn who_does_not_lead_leaves_a_zero_that_no_request_here_waits_at() {
    let (_leading, leadership) = elect();
    staged(leadership, (1, true), &[], async |stage| {
        stage.target.scale(&spec(), ScaleOrder::of(1)).await.unwrap();
        // The leader's zero.
        stage.observe(0, true);
        for second in 1..4 {
            stage.at(second * 1000).await;
            stage.target.scale(&spec(), ScaleOrder::of(1)).await.unwrap();
        }
        stage.at(5000).await;
        assert_eq!(stage.seen(), "");
        stage.order(1, &[]).await;
        stage.at(6000).await;
        assert_eq!(stage.seen(), "5000 if zero 1");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_only_from_zero_and_if_it_is() {
    let (_leading, leadership) = elect();
    staged(leadership, (0, true), &[Does::IsNotZero], async |stage| {
        stage.order(1, &[]).await;
        // The leader was sooner.
        stage.at(10).await;
        stage.observe(2, true);
        stage.at(1000).await;
        stage.order(5, &[]).await;
        stage.at(2000).await;
        stage.order(0, &[]).await;
        stage.at(3000).await;
        assert_eq!(stage.seen(), "0 if zero 1");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn victims_are_marked_before_the_count_is_lowered() {
    staged(Leadership::alone(), (3, true), &[], async |stage| {
        let names = ["x", "y", "z"].map(|id| (EndpointId::new(id), Arc::from(format!("pod-{id}"))));
        stage.observed.set_pods(&spec().id, names.into_iter().collect(), false);
        stage.order(1, &["y", "x", "z"]).await;
        stage.at(1000).await;
        assert_eq!(stage.seen(), "0 pod-z \"-1000\", 0 pod-x \"-1000\", 0 1");
        // To zero all go: nobody is chosen.
        stage.order(0, &["y"]).await;
        stage.at(2000).await;
        assert_eq!(stage.seen(), "0 pod-z \"-1000\", 0 pod-x \"-1000\", 0 1, 1000 0");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_scaled() {
    staged(Leadership::alone(), (0, true), &[], async |stage| {
        stage.observed.forget(&spec().id);
        stage.order(1, &[]).await;
        stage.at(1000).await;
        assert_eq!(stage.seen(), "");
        stage.observe(1, false);
        stage.order(2, &[]).await;
        stage.at(2000).await;
        assert_eq!(stage.seen(), "1000 forced 2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_not_lowered_or_not_written() {
    staged(Leadership::alone(), (2, true), &[], async |stage| {
        let id = spec().id.clone();
        stage.observed.set_hold(&id, Hold::NotLower);
        for count in [1, 0] {
            stage.order(count, &[]).await;
        }
        stage.at(1000).await;
        assert_eq!(stage.seen(), "");
        stage.order(3, &[]).await;
        stage.at(2000).await;
        stage.observed.set_hold(&id, Hold::Off);
        for count in [5, 0] {
            stage.order(count, &[]).await;
        }
        stage.observe(0, true);
        stage.order(1, &[]).await;
        stage.at(3000).await;
        assert_eq!(stage.seen(), "1000 3");
        stage.observed.set_hold(&id, Hold::Free);
        stage.order(1, &[]).await;
        stage.at(4000).await;
        assert_eq!(stage.seen(), "1000 3, 3000 1");
    })
    .await;
}
