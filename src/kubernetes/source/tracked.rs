//! One revision as the source follows it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::changes::Tell;
use super::facts::{PodFacts, Slice};
use super::probing::Probing;
use super::replicas::{Memory, Replicas, counts, endpoints, problem};
use crate::kubernetes::observed::Observed;
use crate::model::{ObjectName, PodsSpec, Problem, RevisionId, RevisionSpec, Workload};
use crate::platform::{Endpoint, ReplicaCounts, Update};

/// A start that took longer was not one: its pods waited for something else.
const LONGEST_START: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Tracked {
    /// As it is in the world, or was last.
    pub(super) spec: Option<Arc<RevisionSpec>>,
    pub(super) is_listed: bool,
    /// Its pods are somebody else's, found by the selector of a Service.
    pub(super) is_adopted: bool,
    pub(super) slices: BTreeSet<ObjectName>,
    pub(super) pods: BTreeSet<ObjectName>,
    pub(super) deployment_problem: Option<Problem>,
    pub(super) memory: Memory,
    probing: Probing,
    /// What was told last.
    pub(super) reported: Option<(Vec<Endpoint>, ReplicaCounts)>,
    /// Why no replica can be started, while none is ready.
    pub(super) failing: Option<Problem>,
    pub(super) is_failure_due: bool,
    start: Start,
}

/// A start from zero that is being measured.
#[derive(Clone, Copy, Debug, Default)]
enum Start {
    #[default]
    None,
    /// Since when.
    Ordered(Instant),
    /// A pod has an address.
    Running { ordered: Instant, running: Instant },
}

impl Tracked {
    /// Looks at what there is now, and says what is new.
    pub(super) fn look(
        &mut self,
        id: &RevisionId,
        slices: &[Arc<Slice>],
        pods: &[Arc<PodFacts>],
        observed: &Observed,
        tell: &Tell,
    ) -> Vec<Update> {
        let Some(spec) = self.spec.as_ref().map(Arc::clone) else { return Vec::new() };
        let Workload::Pods(of) = &spec.workload else { return Vec::new() };
        let replicas = self.memory.look(slices, pods);
        self.probing.adjust(id, (of, spec.protocol), &replicas, tell);
        let asked = observed.count(id).replicas;
        let counts = counts(&replicas, asked.filter(|_| self.is_listed));
        let mut updates = Vec::new();
        updates.extend(self.measure(id, &replicas, counts, observed.take_woken(id)));
        self.report(id, &replicas, of, counts, &mut updates);
        self.note_failure(id, pods, counts, asked, &mut updates);
        updates
    }

    fn report(
        &mut self,
        id: &RevisionId,
        replicas: &Replicas,
        of: &PodsSpec,
        counts: ReplicaCounts,
        updates: &mut Vec<Update>,
    ) {
        let now = (endpoints(replicas, of.port), counts);
        let is_same = match &self.reported {
            Some(former) => *former == now,
            None => now.0.is_empty() && counts == ReplicaCounts::default(),
        };
        if !is_same {
            let (endpoints, counts) = now.clone();
            updates.push(Update::Replicas { revision: id.clone(), endpoints, counts });
            self.reported = Some(now);
        }
    }

    /// Those that wait are told as soon as no replica can be started, and again as long as that is
    /// so.
    fn note_failure(
        &mut self,
        id: &RevisionId,
        pods: &[Arc<PodFacts>],
        counts: ReplicaCounts,
        asked: Option<u32>,
        updates: &mut Vec<Update>,
    ) {
        let is_wanted = counts.ready == 0 && asked != Some(0);
        let of_deployment = self.deployment_problem.as_ref().filter(|_| pods.is_empty());
        let found = problem(pods).or(of_deployment).filter(|_| is_wanted);
        let is_due = std::mem::take(&mut self.is_failure_due);
        if let Some(problem) = found
            && (is_due || self.failing.as_ref() != Some(problem))
        {
            let (revision, problem) = (id.clone(), problem.clone());
            updates.push(Update::StartFailed { revision, problem });
        }
        self.failing = found.cloned();
    }

    /// Measures a start from zero: until a pod has an address, and from there until one is ready.
    fn measure(
        &mut self,
        id: &RevisionId,
        replicas: &Replicas,
        counts: ReplicaCounts,
        woken: Option<Instant>,
    ) -> Option<Update> {
        let now = Instant::now();
        if let Some(woken) = woken {
            self.start = Start::Ordered(woken);
        }
        if let Start::Ordered(ordered) = self.start
            && replicas.values().any(|replica| replica.address.is_some())
        {
            self.start = Start::Running { ordered, running: now };
        }
        let Start::Running { ordered, running } = self.start else { return None };
        if counts.ready == 0 {
            return None;
        }
        self.start = Start::None;
        let (spawn, ready) = (running - ordered, now - running);
        (spawn + ready < LONGEST_START).then(|| Update::ColdStart {
            revision: id.clone(),
            spawn,
            ready,
        })
    }

    /// Whether nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        !self.is_listed && self.slices.is_empty() && self.pods.is_empty()
    }
}
