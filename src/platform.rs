//! The two seams between tidegate and where it runs. Both homes, and the simulation, exercise the
//! same loop through them: a number goes out by [`ScaleTarget`], endpoints come back by
//! [`ConfigSource`] as [`Update`]s.

pub mod probe;
pub mod tick;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::model::{EndpointId, Problem, RevisionId, RevisionSpec, World};

/// A ready replica and where it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Which replica.
    pub id: EndpointId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Replicas of a revision by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaCounts {
    /// Started or about to be, not ready yet.
    pub starting: u32,
    /// Ready.
    pub ready: u32,
    /// Told to end, not gone yet.
    pub stopping: u32,
}

/// What a source reports.
#[derive(Clone, Debug)]
pub enum Update {
    /// The configuration, as a whole.
    World(Arc<World>),
    /// All ready endpoints of a revision, and its replica counts.
    Replicas {
        /// Whose.
        revision: RevisionId,
        /// Every ready endpoint; those not listed are gone or not ready.
        endpoints: Vec<Endpoint>,
        /// How many replicas are in which state.
        counts: ReplicaCounts,
    },
    /// Starting cannot succeed for now: requests that wait get this answer at once.
    StartFailed {
        /// Whose.
        revision: RevisionId,
        /// What to tell them.
        problem: Problem,
    },
    /// Replicas of a revision that were there before tidegate was, or before it knew of the
    /// revision. Reported before the first world that has it.
    Found {
        /// Whose.
        revision: RevisionId,
        /// How many there are to be.
        replicas: u32,
        /// Whether as many as the initial scale asks for were ready once.
        initialized: bool,
    },
    /// A cold start was measured, from the order to the first ready endpoint, by phase.
    ColdStart {
        /// Whose.
        revision: RevisionId,
        /// From the order to the running program.
        spawn: std::time::Duration,
        /// From the running program to ready.
        ready: std::time::Duration,
    },
}

/// Sends updates to the application. Bounded: a source that reports faster than updates are taken
/// waits.
pub type Updates = mpsc::Sender<Update>;

/// Where configuration and endpoints come from.
pub trait ConfigSource {
    /// Reports updates until the application drops the receiver. Returns an error only when it
    /// can never report again.
    fn run(self, updates: Updates) -> impl Future<Output = Result<(), SourceError>>;
}

/// A source ended for good.
#[derive(Debug, thiserror::Error)]
#[error("configuration can no longer be read: {0}")]
pub struct SourceError(pub String);

/// A stated replica count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleOrder {
    /// How many replicas there are to be, starting ones included.
    pub replicas: u32,
    /// Endpoints in the order to spare them: the last ones go first. Those not listed (not ready
    /// yet) go before all listed ones.
    pub spare: Vec<EndpointId>,
    /// Whether requests wait for a replica, in this very process. Of several proxies each may start
    /// the first replica for its own requests; all else is for the one that leads.
    pub is_waited_for: bool,
    /// Endpoints that are to be stopped in any case, and are not in the count: others take their
    /// place. Only replicas on one machine are replaced so; a cluster replaces its pods itself.
    pub replaced: Vec<EndpointId>,
}

impl ScaleOrder {
    /// So many replicas, and nobody waits for one.
    pub const fn of(replicas: u32) -> Self {
        Self { replicas, spare: Vec::new(), is_waited_for: false, replaced: Vec::new() }
    }
}

/// Makes replicas. Stated again on every tick; writes only when what it observes differs.
pub trait ScaleTarget {
    /// States the count. Returns once the order is taken, not when replicas are ready.
    fn scale(
        &self,
        revision: &Arc<RevisionSpec>,
        order: ScaleOrder,
    ) -> impl Future<Output = Result<(), ScaleError>>;
}

/// A count could not be stated; the next tick states it again.
#[derive(Debug, thiserror::Error)]
#[error("cannot scale {revision}: {message}")]
pub struct ScaleError {
    /// Whose count.
    pub revision: RevisionId,
    /// What happened and what to do.
    pub message: String,
}
