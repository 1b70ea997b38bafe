//! What the state keeps of running revisions, and how it shows that it cannot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::admin::metrics::{Family, Kind, Value};
use crate::autoscaler::{Autoscaler, Restored};
use crate::cli::args::StateDir;
use crate::local::state::{Health, Memory, Place, Replicas};
use crate::model::{ObjectName, RevisionId, Workload};

use super::live::Live;

/// Counts are written at most this often.
const BREATH: Duration = Duration::from_secs(1);

/// Where `--state-dir` wants the state; none: nowhere.
pub(super) fn place(given: Option<&StateDir>) -> Option<Place> {
    match given {
        None => Some(Place::Default),
        Some(StateDir::Path(path)) => Some(Place::Folder(path.clone())),
        Some(StateDir::None) => None,
    }
}

/// Counts as the state has them, by revision.
pub(super) fn restored(replicas: Replicas) -> BTreeMap<RevisionId, Restored> {
    let id =
        |name: &str| name.split_once('/').map(|(namespace, name)| ObjectName::new(namespace, name));
    let mut restored: BTreeMap<RevisionId, Restored> = BTreeMap::new();
    for (name, count) in &replicas.counts {
        restored.extend(id(name).map(|id| (id, Restored { replicas: *count, initialized: false })));
    }
    for id in replicas.initialized.iter().filter_map(|name| id(name)) {
        restored.entry(id).or_default().initialized = true;
    }
    restored
}

/// Keeps the counts of what runs.
pub(super) struct Keeping {
    memory: Memory,
    live: Arc<Live>,
    autoscaler: Arc<Autoscaler>,
    task: JoinHandle<()>,
}

impl Keeping {
    /// Has counts written whenever they changed; none where nothing is kept. Must be called within
    /// a `LocalSet` or a local runtime.
    pub(super) fn start(
        memory: Option<Memory>,
        live: &Arc<Live>,
        autoscaler: &Arc<Autoscaler>,
    ) -> Option<Self> {
        let memory = memory?;
        let (live, autoscaler) = (Arc::clone(live), Arc::clone(autoscaler));
        let task = tokio::task::spawn_local({
            let (memory, live, autoscaler) =
                (memory.clone(), Arc::clone(&live), Arc::clone(&autoscaler));
            async move {
                loop {
                    live.counts_changed().await;
                    save_replicas(&live, &autoscaler, &memory);
                    tokio::time::sleep(BREATH).await;
                }
            }
        });
        Some(Self { memory, live, autoscaler, task })
    }

    /// What counts is what there is now, not how it ebbs away while tidegate drains.
    pub(super) fn freeze(&self) {
        self.task.abort();
        save_replicas(&self.live, &self.autoscaler, &self.memory);
    }

    /// Writes what is left.
    pub(super) async fn close(self) {
        self.memory.close().await;
    }
}

/// Has the present counts written.
fn save_replicas(live: &Live, autoscaler: &Autoscaler, memory: &Memory) {
    let mut replicas = Replicas::default();
    for revision in live.revisions() {
        let spec = revision.spec();
        if !matches!(spec.workload, Workload::Process(_)) {
            continue;
        }
        let (desired, _) = live.counts(revision.id());
        if desired > 0 {
            replicas.counts.insert(spec.id.to_string(), desired);
        }
        // Without an initial scale nothing depends on it.
        if spec.scaling.initial_scale > 0
            && autoscaler.view(&spec.id).is_some_and(|view| view.initialized)
        {
            replicas.initialized.insert(spec.id.to_string());
        }
    }
    memory.save_replicas(&replicas);
}

/// What needs attention, one line each.
pub(super) fn conditions(health: &Health) -> Vec<String> {
    let failing = health.failing.iter();
    failing
        .map(|why| {
            format!(
                "StateNotSaved: the state cannot be written: {why}; if tidegate ended now, \
                 revisions made since then would be forgotten"
            )
        })
        .collect()
}

pub(super) fn families(health: &Health) -> Vec<Family> {
    let unsaved = Family::new(
        "tidegate_state_unsaved",
        Kind::Gauge,
        "1 while the newest state (revisions, replica counts) cannot be written to the disk.",
    );
    let failures = Family::new(
        "tidegate_state_write_failures",
        Kind::Counter,
        "Writes of the state that failed since the start.",
    );
    let writes = Family::new(
        "tidegate_state_writes",
        Kind::Counter,
        "Writes of the state that succeeded since the start.",
    );
    vec![
        unsaved.single(Value::Whole(health.failing.is_some().into())),
        failures.single(Value::Whole(health.failures)),
        writes.single(Value::Whole(health.writes)),
    ]
}
