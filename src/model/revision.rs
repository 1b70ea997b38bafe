//! One revision, as its template says after defaults.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{RevisionId, ScalingSpec, ServiceId, Workload};

/// How many requests one replica takes at the same time (`containerConcurrency`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerConcurrency {
    /// Knative's 0.
    Unlimited,
    /// A hard limit.
    AtMost(NonZeroU32),
}

/// What a revision's port speaks (the container port's name: `h2c` or not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    H2c,
}

/// The three timers of a revision (`pkg/http/handler/timeout.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `timeoutSeconds`: from arrival to the end of the response.
    pub request: Duration,
    /// `responseStartTimeoutSeconds`: from arrival to the response's head.
    pub response_start: Option<Duration>,
    /// `idleTimeoutSeconds`: since the last byte in either direction once the response began.
    pub idle: Option<Duration>,
}

/// One entry of `tidegate.dev/no-wake`: requests that all given parts match do not wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWake {
    /// The request's method, upper case.
    Method(Arc<str>),
    /// A prefix of the path, starting with `/`.
    PathPrefix(Arc<str>),
    /// A prefix of the `User-Agent` header.
    UserAgentPrefix(Arc<str>),
}

/// Own settings of a revision's queue (`tidegate.dev/*` annotations).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// `tidegate.dev/queue-timeout`: waiting ends after this.
    pub timeout: Option<Duration>,
    /// `tidegate.dev/no-wake`.
    pub no_wake: Vec<NoWake>,
    /// `tidegate.dev/idle-connection`: an upgraded connection without bytes for this long is no
    /// longer counted as load.
    pub idle_connection: Option<Duration>,
    /// `tidegate.dev/eager`: extra decisions between ticks; on unless `"false"`.
    pub eager: bool,
    /// `tidegate.dev/waiting-page`: a browser that waits for a first replica is shown a page.
    pub waiting_page: bool,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            timeout: None,
            no_wake: Vec::new(),
            idle_connection: None,
            eager: true,
            waiting_page: false,
        }
    }
}

/// A service that another one needs (`tidegate.dev/depends-on`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dependency {
    /// The service, or route.
    pub service: ServiceId,
    /// The revision that its traffic has to lead to; none = whichever that leads to.
    pub revision: Option<RevisionId>,
}

impl std::fmt::Display for Dependency {
    /// `NAMESPACE/NAME`, with a revision `NAMESPACE/NAME=REVISION`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}={}", self.service, revision.name),
            None => write!(f, "{}", self.service),
        }
    }
}

/// An immutable version of a service. Only the autoscaling settings (annotations, ConfigMap and
/// `PodAutoscaler` are live) and what the workload takes from outside the template (ConfigMaps,
/// Secrets, `--run`) can differ between two values of the same revision.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionSpec {
    /// Its name.
    pub id: RevisionId,
    /// The service it belongs to; a revision given apart may have none.
    pub service: Option<ServiceId>,
    /// The configuration it was stamped from (the service's name where there is a service).
    pub configuration: Arc<str>,
    /// How many requests a replica takes at once.
    pub container_concurrency: ContainerConcurrency,
    /// What its port speaks.
    pub protocol: Protocol,
    /// Its timers.
    pub timeouts: Timeouts,
    /// Effective autoscaling settings.
    pub scaling: ScalingSpec,
    /// Queue settings.
    pub queue: QueueSettings,
    /// Services that it calls, in the order written: woken with it.
    pub depends_on: Vec<Dependency>,
    /// What its replicas are.
    pub workload: Workload,
}

impl RevisionSpec {
    /// Whether a replica takes so many requests at once and no more.
    pub const fn is_limited(&self) -> bool {
        matches!(self.container_concurrency, ContainerConcurrency::AtMost(_))
    }

    /// Slots of one replica as the queue and the extra decisions see them: the hard limit, else
    /// the autoscaler's target, at least 1.
    pub fn slots_per_replica(&self) -> u32 {
        match self.container_concurrency {
            ContainerConcurrency::AtMost(limit) => limit.get(),
            ContainerConcurrency::Unlimited => {
                // Saturating by definition of `as`; targets are small positive numbers.
                (self.scaling.target_value.ceil() as u32).max(1)
            }
        }
    }
}
