//! What a revision's replicas are in a cluster.

use std::sync::Arc;

use super::Probes;

/// An object by kind and name, in the namespace of whoever refers to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectReference {
    /// Group and version, such as `apps/v1`.
    pub api_version: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Pods that serve a revision, and what says how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodsSpec {
    /// The object whose `/scale` is written.
    pub scaled: ObjectReference,
    /// Port of a pod that requests go to.
    pub port: u16,
    /// How a pod is asked whether it is ready.
    pub probes: Probes,
}
