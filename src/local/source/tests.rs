//! Rollouts on paused time, with real files.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::*;
use crate::config::rollout::Standing;

/// A source at work, and what is told it of its updates.
struct Stage {
    folder: tempfile::TempDir,
    received: mpsc::Receiver<Update>,
    updated: watch::Sender<()>,
    standing: Rc<Cell<Standing>>,
    in_effect: Rc<Cell<bool>>,
}

impl Stage {
    /// Must be called within a `LocalSet`.
    async fn start(manifests: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in manifests {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let paths = vec![folder.path().to_owned()];
        let source = FileSource::open(paths, LoaderOptions::default(), Takers::default(), None);
        let (updated, receiver) = watch::channel(());
        let (standing, in_effect) = (Rc::new(Cell::new(Standing::Ready)), Rc::new(Cell::new(true)));
        let (stands, effective) = (Rc::clone(&standing), Rc::clone(&in_effect));
        let outcome = Outcome {
            updated: receiver,
            in_effect: Box::new(move |_| effective.get()),
            is_ready: Box::new(|_| false),
            standing: Box::new(move |_| stands.get()),
            counted: Box::new(|_, _, _| None),
        };
        let source = source.await.unwrap().with_outcome(outcome);
        let (updates, received) = mpsc::channel(16);
        tokio::task::spawn_local(source.run(updates));
        Self { folder, received, updated, standing, in_effect }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    async fn world(&mut self) -> Arc<World> {
        match self.received.recv().await.expect("the source runs") {
            Update::World(world) => {
                self.updated.send_replace(());
                world
            }
            other => panic!("a source of files sent {other:?}"),
        }
    }

    /// Nothing is sent for so long.
    async fn silent(&mut self, seconds: u64) {
        let more = tokio::time::timeout(Duration::from_secs(seconds), self.received.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }

    /// Something happened to replicas.
    fn tell(&self, standing: Standing) {
        self.standing.set(standing);
        self.updated.send_replace(());
    }
}

fn manifest(name: &str, command: &str, rollout: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: {name}\n  \
         annotations: {{serving.knative.dev/rollout-duration: {rollout}}}\nspec:\n  template:\n    \
         spec:\n      containers: [{{image: example/a, command: [{command}]}}]\n"
    )
}

fn shares(world: &World, service: usize) -> BTreeMap<&str, u8> {
    let traffic = &world.services[service].traffic;
    traffic.iter().map(|target| (&*target.revision.name, target.percent)).collect()
}

/// The newest revision's share, second by second, until it has all.
async fn run_to_the_end(stage: &mut Stage, newest: &str) -> Vec<(u64, u8)> {
    let start = Instant::now();
    let mut seen: Vec<(u64, u8)> = Vec::new();
    loop {
        let world = stage.world().await;
        let shares = shares(&world, 0);
        assert_eq!(shares.values().sum::<u8>(), 100);
        let share = shares[newest];
        if seen.last().is_none_or(|(_, last)| *last != share) {
            seen.push((start.elapsed().as_secs(), share));
        }
        if share == 100 {
            return seen;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_moves_step_by_step() {
    let local = LocalSet::new();
    let run = local.run_until(async {
        let files = [
            ("a.yaml", manifest("hello", "v1", "10s")),
            ("b.yaml", manifest("other", "v1", "10s")),
        ];
        let mut stage = Stage::start(&files).await;
        let first = stage.world().await;
        assert_eq!(shares(&first, 0), BTreeMap::from([("hello-00001", 100)]));
        stage.write("a.yaml", &manifest("hello", "v2", "10s"));
        let begun = stage.world().await;
        assert_eq!(shares(&begun, 0), BTreeMap::from([("hello-00001", 99), ("hello-00002", 1)]));
        let seen = run_to_the_end(&mut stage, "hello-00002").await;
        assert_eq!(
            seen,
            [
                (0, 1),
                (1, 12),
                (2, 23),
                (3, 34),
                (4, 45),
                (5, 56),
                (6, 67),
                (7, 78),
                (8, 89),
                (9, 100)
            ]
        );
        // Nothing is left to do.
        stage.silent(3_600).await;
    });
    run.await;
}

#[tokio::test(start_paused = true)]
async fn only_the_service_that_moves_changes() {
    let local = LocalSet::new();
    let run = local.run_until(async {
        let files =
            [("a.yaml", manifest("hello", "v1", "4s")), ("b.yaml", manifest("other", "v1", "4s"))];
        let mut stage = Stage::start(&files).await;
        let first = stage.world().await;
        stage.write("a.yaml", &manifest("hello", "v2", "4s"));
        let mut seen = Vec::new();
        loop {
            let world = stage.world().await;
            assert!(Arc::ptr_eq(&world.services[1], &first.services[1]));
            let ended = shares(&world, 0).len() == 1;
            let reachable = |name: &str| {
                let mut revisions = world.revisions.iter();
                revisions.any(|revision| &*revision.id.name == name && revision.scaling.reachable)
            };
            assert!(reachable("hello-00002"));
            assert_eq!(reachable("hello-00001"), !ended, "as long as it has a share");
            let warnings = world.services[0].warnings.iter();
            seen.extend(warnings.map(ToString::to_string));
            if ended {
                break;
            }
        }
        assert_eq!(
            seen,
            [
                "RolloutInProgress: hello-00002 has 1 of 100 %, more once that is in effect",
                "RolloutInProgress: hello-00002 has 1 of 100 %, 33 % more every 1 s",
                "RolloutInProgress: hello-00002 has 34 of 100 %, 33 % more every 1 s",
                "RolloutInProgress: hello-00002 has 67 of 100 %, 33 % more every 1 s",
            ]
        );
    });
    run.await;
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_new_revision_and_stays_while_that_fails() {
    let local = LocalSet::new();
    let run = local.run_until(async {
        let mut stage = Stage::start(&[("a.yaml", manifest("hello", "v1", "10s"))]).await;
        stage.world().await;
        // Not in effect yet: the first per cent takes as long as that lasts.
        stage.in_effect.set(false);
        stage.write("a.yaml", &manifest("hello", "v2", "10s"));
        stage.world().await;
        stage.silent(1).await;
        stage.in_effect.set(true);
        // Replicas are wanted, and none is ready.
        stage.tell(Standing::Pending);
        stage.silent(2).await;
        stage.tell(Standing::Ready);
        let timed = stage.world().await;
        // Three seconds and a bit count as four: one and a half steps fit into the six left.
        assert_eq!(
            &*timed.services[0].warnings[0],
            "RolloutInProgress: hello-00002 has 1 of 100 %, 66 % more every 4 s"
        );
        let start = Instant::now();
        let moved = stage.world().await;
        assert_eq!((start.elapsed().as_secs(), shares(&moved, 0)["hello-00002"]), (4, 67));
        stage.tell(Standing::Failing);
        let failing = stage.world().await;
        assert_eq!(failing.services[0].traffic, moved.services[0].traffic);
        assert_eq!(
            &*failing.services[0].warnings[0],
            "RolloutInProgress: hello-00002 has 67 of 100 %, no more while its replicas cannot be \
             started"
        );
        stage.silent(600).await;
        stage.tell(Standing::Ready);
        let recovered = stage.world().await;
        assert_eq!(shares(&recovered, 0)["hello-00002"], 100);
    });
    run.await;
}

#[tokio::test(start_paused = true)]
async fn without_a_duration_it_moves_at_once() {
    let local = LocalSet::new();
    let run = local.run_until(async {
        let mut stage = Stage::start(&[("a.yaml", manifest("hello", "v1", "0s"))]).await;
        stage.world().await;
        stage.write("a.yaml", &manifest("hello", "v2", "0s"));
        let moved = stage.world().await;
        assert_eq!(shares(&moved, 0), BTreeMap::from([("hello-00002", 100)]));
        // The cluster's default holds for services that say nothing.
        let network = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-network\n  \
                       namespace: knative-serving\ndata: {rollout-duration: \"20\"}\n";
        stage.write("network.yaml", network);
        stage.world().await;
        stage.write("a.yaml", &manifest("hello", "v3", "0s"));
        let begun = stage.world().await;
        assert_eq!(shares(&begun, 0), BTreeMap::from([("hello-00002", 99), ("hello-00003", 1)]));
    });
    run.await;
}
