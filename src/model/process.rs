//! What stands behind a revision, and what a replica is on one machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{PodsSpec, Problem};

/// What stands behind a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Workload {
    /// Child processes started from this.
    Process(Arc<ProcessSpec>),
    /// Replicas somebody else runs (`tidegate.dev/static-endpoints`).
    Static(Vec<SocketAddr>),
    /// Pods of a cluster.
    Pods(Arc<PodsSpec>),
    /// Nothing can be started: requests get this answer (`no_local_command`, `missing_config`).
    Unavailable(Problem),
}

/// An environment variable, before `$(NAME)` of variables known only at start is expanded.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: Arc<str>,
    /// Its value as written; `$(NAME)` refers to earlier variables and to `PORT`, `K_*`, and `$$`
    /// is a `$`.
    pub value: Arc<str>,
    /// Whether it came from a Secret: never shown, its `$(…)` never expanded.
    pub secret: bool,
}

impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.secret { "(secret)" } else { &*self.value };
        f.debug_struct("EnvVar")
            .field("name", &self.name)
            .field("value", &value)
            .field("secret", &self.secret)
            .finish()
    }
}

/// A file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeFile {
    /// Path within the volume.
    pub path: PathBuf,
    /// Its content.
    pub content: Arc<[u8]>,
    /// Whether it came from a Secret.
    pub secret: bool,
}

impl std::fmt::Debug for VolumeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Content is left out: it may be a Secret's.
        f.debug_struct("VolumeFile")
            .field("path", &self.path)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// Files given to each replica in a private folder. No file at all: an `emptyDir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: Arc<str>,
    /// Its files.
    pub files: Vec<VolumeFile>,
}

/// Where a container wants a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Name of the volume.
    pub volume: Arc<str>,
    /// Absolute path in the container.
    pub path: PathBuf,
    /// One path of the volume instead of all of it.
    pub sub_path: Option<PathBuf>,
}

/// How a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// A connection can be made to the port; none = the replica's port.
    Tcp {
        /// A port other than the replica's own.
        port: Option<u16>,
    },
    /// `GET` answers 200–399.
    Http {
        /// Path with query.
        path: Arc<str>,
        /// A port other than the replica's own.
        port: Option<u16>,
        /// Further headers; `Host` among them replaces the default.
        headers: Vec<(Arc<str>, Arc<str>)>,
    },
    /// `grpc.health.v1.Health/Check` answers `SERVING`.
    Grpc {
        /// A port other than the replica's own.
        port: Option<u16>,
        /// Service to ask for.
        service: Arc<str>,
    },
    /// A command ends with 0.
    Exec {
        /// Program and arguments.
        command: Vec<Arc<str>>,
    },
}

/// One probe with Kubernetes' fields, after Knative's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How it asks.
    pub action: ProbeAction,
    /// `initialDelaySeconds`.
    pub initial_delay: Duration,
    /// `periodSeconds`; zero = Knative's aggressive probing.
    pub period: Duration,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// `successThreshold`.
    pub success_threshold: u32,
    /// `failureThreshold`.
    pub failure_threshold: u32,
}

/// The probes of the serving container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// Gates the others until it succeeded once.
    pub startup: Option<Probe>,
    /// Takes the endpoint in and out.
    pub readiness: Probe,
    /// Restarts the replica.
    pub liveness: Option<Probe>,
}

/// A program to start as a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSpec {
    /// Program and arguments, before `$(NAME)` expansion; never empty. A program named `tidegate`
    /// means the running one.
    pub command: Vec<Arc<str>>,
    /// Working directory; none = tidegate's own.
    pub directory: Option<PathBuf>,
    /// Environment in the manifest's order, `envFrom` first.
    pub env: Vec<EnvVar>,
    /// Volumes to write.
    pub volumes: Vec<Volume>,
    /// Where they are wanted.
    pub mounts: Vec<Mount>,
    /// Probes.
    pub probes: Probes,
    /// `resources.limits.memory` in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Time between SIGTERM and SIGKILL.
    pub termination_grace: Duration,
}
