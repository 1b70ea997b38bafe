//! Specs for this room's tests.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    ContainerConcurrency, Probe, ProbeAction, Probes, ProcessSpec, Protocol, QueueSettings,
    RevisionId, RevisionSpec, ScalingSpec, ServiceId, Timeouts, Workload,
};

/// Knative's default probe.
pub(super) fn tcp_probe() -> Probe {
    Probe {
        action: ProbeAction::Tcp { port: None },
        initial_delay: Duration::ZERO,
        period: Duration::ZERO,
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

/// A program without anything special.
pub(super) fn process(command: &[&str]) -> ProcessSpec {
    ProcessSpec {
        command: command.iter().map(|part| (*part).into()).collect(),
        directory: None,
        env: vec![],
        volumes: vec![],
        mounts: vec![],
        probes: Probes { startup: None, readiness: tcp_probe(), liveness: None },
        memory_limit_bytes: None,
        termination_grace: Duration::from_secs(5),
    }
}

/// The first revision of a service.
pub(super) fn revision(service: &str, process: ProcessSpec) -> RevisionSpec {
    RevisionSpec {
        id: RevisionId::new("default", format!("{service}-00001")),
        service: Some(ServiceId::new("default", service)),
        configuration: service.into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Process(Arc::new(process)),
    }
}
