//! Replicas that somebody else runs, with the real supervisor.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use tidegate::local::{Supervisor, SupervisorSettings};
use tidegate::model::{
    ContainerConcurrency, ObjectName, Protocol, QueueSettings, RevisionSpec, ScalingSpec, Timeouts,
    Workload,
};
use tidegate::platform::{ScaleOrder, ScaleTarget as _, Update};
use tokio::sync::mpsc;

fn spec() -> Arc<RevisionSpec> {
    Arc::new(RevisionSpec {
        id: ObjectName::new("default", "legacy-00001"),
        service: None,
        configuration: "legacy".into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Static(vec!["127.0.0.1:9".parse().unwrap()]),
    })
}

/// Endpoints of the next report, if one comes.
async fn endpoints(updates: &mut mpsc::Receiver<Update>) -> Option<usize> {
    let next = tokio::time::timeout(Duration::from_millis(200), updates.recv()).await;
    let Update::Replicas { endpoints, .. } = next.ok()?? else { return None };
    Some(endpoints.len())
}

/// A service that is removed and added again is new to the application, which knows none of its
/// endpoints: the platform reports them again although nothing changed.
#[tokio::test]
async fn static_endpoints_are_reported_to_a_revision_that_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SupervisorSettings {
        program: env!("CARGO_BIN_EXE_tidegate").into(),
        folder: folder.path().join("replicas"),
        ..SupervisorSettings::detect().unwrap()
    };
    let (updates, mut received) = mpsc::channel(16);
    let supervisor = Supervisor::start(settings, updates).unwrap();
    let order = ScaleOrder::of(0);
    let first = spec();
    let state = async |revision: &Arc<RevisionSpec>| {
        supervisor.handle().scale(revision, order.clone()).await.unwrap();
    };
    state(&first).await;
    assert_eq!(endpoints(&mut received).await, Some(1));
    state(&first).await;
    assert_eq!(endpoints(&mut received).await, None, "nothing is new");
    state(&spec()).await;
    assert_eq!(endpoints(&mut received).await, Some(1), "it came again");
    supervisor.shutdown().await;
}
