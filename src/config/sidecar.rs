//! The world of a sidecar: one service, which takes any host, with one revision before a backend
//! that somebody else runs. Made from arguments, by the rules that a manifest's template has.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    ContainerConcurrency, Probe, ProbeAction, Protocol, QueueSettings, RevisionId, RevisionSpec,
    ScalingSpec, ServiceId, ServiceSpec, Timeouts, TrafficTarget, Workload, World,
};

/// Waiting requests for each slot where no depth is given (`pkg/queue/sharedmain`: ten times
/// `containerConcurrency`).
const DEPTH_PER_SLOT: u32 = 10;
/// The same without a limit, where requests wait only for a backend that is not ready.
const DEPTH_UNLIMITED: u32 = 10_000;
/// `readinessProbe.timeoutSeconds` and `failureThreshold` of Kubernetes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const PROBE_FAILURES: u32 = 3;

/// What a sidecar is told.
#[derive(Clone, Debug)]
pub struct SidecarSettings {
    /// What the backend is called.
    pub name: ServiceId,
    /// Requests it gets at once; 0 = no limit.
    pub container_concurrency: u32,
    /// Requests that may wait.
    pub queue_depth: Option<u32>,
    /// How long they may.
    pub queue_timeout: Option<Duration>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The timers.
    pub timeouts: Timeouts,
    /// `GET` this to see whether it is ready; none = connect.
    pub readiness_path: Option<String>,
    /// Time between two probes.
    pub readiness_period: Duration,
}

/// A sidecar's whole configuration; it never changes.
#[derive(Clone, Debug)]
pub struct SidecarWorld {
    /// The service and its revision.
    pub world: Arc<World>,
    /// The revision.
    pub revision: RevisionId,
    /// Requests that may wait.
    pub queue_depth: u32,
    /// How the backend is asked whether it is ready.
    pub probe: Probe,
}

impl SidecarSettings {
    /// The world.
    ///
    /// # Errors
    /// What contradicts something else, and what to write.
    pub fn world(&self) -> Result<SidecarWorld, String> {
        self.check()?;
        let name = &self.name.name;
        let revision = RevisionId::new(Arc::clone(&self.name.namespace), format!("{name}-00001"));
        let limit = NonZeroU32::new(self.container_concurrency);
        let spec = RevisionSpec {
            id: revision.clone(),
            service: Some(self.name.clone()),
            configuration: Arc::clone(name),
            container_concurrency: limit
                .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost),
            protocol: self.protocol,
            timeouts: self.timeouts,
            scaling: ScalingSpec { min_scale: 1, max_scale: Some(1), ..ScalingSpec::default() },
            queue: QueueSettings { timeout: self.queue_timeout, ..QueueSettings::default() },
            depends_on: Vec::new(),
            // Where it is, is looked up and reported by who probes it.
            workload: Workload::Static(Vec::new()),
        };
        let service = ServiceSpec {
            id: self.name.clone(),
            hosts: Vec::new(),
            traffic: vec![TrafficTarget { revision: revision.clone(), percent: 100 }],
            tags: Vec::new(),
            tag_header_routing: false,
            https_hosts: Vec::new(),
            canaries: Vec::new(),
            problem: None,
            warnings: Vec::new(),
        };
        let world = World {
            services: vec![Arc::new(service)],
            revisions: vec![Arc::new(spec)],
            default_service: Some(self.name.clone()),
            ..World::default()
        };
        let usual = match self.container_concurrency {
            0 => DEPTH_UNLIMITED,
            slots => slots.saturating_mul(DEPTH_PER_SLOT),
        };
        let queue_depth = self.queue_depth.unwrap_or(usual);
        Ok(SidecarWorld { world: Arc::new(world), revision, queue_depth, probe: self.probe() })
    }

    /// The timers' rules (`pkg/apis/serving/v1/revision_validation.go`).
    fn check(&self) -> Result<(), String> {
        let Timeouts { request, response_start, idle } = self.timeouts;
        if request.is_zero() {
            return Err("--timeout 0 would end every request; write a time, as in 300s".to_owned());
        }
        for (option, timeout) in [
            ("--response-start-timeout", response_start),
            ("--idle-timeout", idle),
            ("--queue-timeout", self.queue_timeout),
        ] {
            if timeout.is_some_and(|timeout| timeout > request) {
                return Err(format!(
                    "{option} is longer than --timeout ({request:?}) and would never count; write \
                     a shorter one, or a longer --timeout"
                ));
            }
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(format!("{option} 0 would end every request; leave it out for none"));
            }
        }
        if self.readiness_period.is_zero() {
            return Err(
                "--readiness-period 0 would ask without a pause; write a time, as in 1s".to_owned()
            );
        }
        Ok(())
    }

    fn probe(&self) -> Probe {
        let action = match &self.readiness_path {
            Some(path) => {
                ProbeAction::Http { path: path.as_str().into(), port: None, headers: Vec::new() }
            }
            None => ProbeAction::Tcp { port: None },
        };
        Probe {
            action,
            initial_delay: Duration::ZERO,
            period: self.readiness_period,
            timeout: PROBE_TIMEOUT,
            success_threshold: 1,
            failure_threshold: PROBE_FAILURES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SidecarSettings {
        SidecarSettings {
            name: ServiceId::new("shop", "cart"),
            container_concurrency: 0,
            queue_depth: None,
            queue_timeout: None,
            protocol: Protocol::Http1,
            timeouts: Timeouts {
                request: Duration::from_secs(300),
                response_start: None,
                idle: None,
            },
            readiness_path: None,
            readiness_period: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_queue_is_ten_times_the_limit() {
        let depth = |slots, given| {
            let settings =
                SidecarSettings { container_concurrency: slots, queue_depth: given, ..settings() };
            settings.world().unwrap().queue_depth
        };
        assert_eq!(depth(4, None), 40);
        assert_eq!(depth(4, Some(0)), 0);
        assert_eq!(depth(0, None), 10_000);
        assert_eq!(depth(u32::MAX, None), u32::MAX);
    }

    #[test]
    fn one_service_takes_all() {
        let SidecarWorld { world, revision, .. } = settings().world().unwrap();
        assert_eq!(revision, RevisionId::new("shop", "cart-00001"));
        assert_eq!(world.default_service, Some(ServiceId::new("shop", "cart")));
        assert_eq!(world.revisions[0].container_concurrency, ContainerConcurrency::Unlimited);
    }

    #[test]
    fn timers_that_could_never_count_are_refused() {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { request: second, response_start: None, idle: None };
        for (settings, word) in [
            (
                SidecarSettings {
                    timeouts: Timeouts { idle: Some(2 * second), ..timeouts },
                    ..settings()
                },
                "--idle-timeout",
            ),
            (
                SidecarSettings {
                    timeouts: Timeouts { response_start: Some(2 * second), ..timeouts },
                    ..settings()
                },
                "--response-start-timeout",
            ),
            (
                SidecarSettings { queue_timeout: Some(Duration::ZERO), ..settings() },
                "--queue-timeout 0",
            ),
            (
                SidecarSettings {
                    timeouts: Timeouts { request: Duration::ZERO, ..timeouts },
                    ..settings()
                },
                "--timeout 0",
            ),
            (
                SidecarSettings { readiness_period: Duration::ZERO, ..settings() },
                "--readiness-period 0",
            ),
        ] {
            let error = settings.world().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
