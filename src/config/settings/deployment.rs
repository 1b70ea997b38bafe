//! `config-deployment`: what the Deployments of revisions are like.

use std::net::SocketAddr;
use std::time::Duration;

use super::Data;
use super::reader::{Reader, positive};
use crate::config::problem::ConfigProblem;
use crate::config::text::is_whole_seconds;

/// The keys that are read.
pub(super) const KEYS: [&str; 5] = [
    "progress-deadline",
    "progressDeadline",
    "default-affinity-type",
    "pod-is-always-schedulable",
    "prestop-address",
];

/// The keys of `config-deployment` that say something without a sidecar and without resolving
/// image tags; the others are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentConfig {
    /// `progress-deadline`, whole seconds.
    pub progress_deadline: Duration,
    /// `default-affinity-type`: whether the pods of a revision prefer nodes without each other.
    pub spreads_over_nodes: bool,
    /// `pod-is-always-schedulable`: whether a pod without a node is no failure, because nodes come.
    pub pod_is_always_schedulable: bool,
    /// `prestop-address`, a key of our own: where kubelets ask whether a pod that has to go has
    /// requests left. None = they do not ask.
    pub prestop_address: Option<SocketAddr>,
}

impl Default for DeploymentConfig {
    /// Knative's.
    fn default() -> Self {
        Self {
            progress_deadline: Duration::from_secs(600),
            spreads_over_nodes: true,
            pod_is_always_schedulable: false,
            prestop_address: None,
        }
    }
}

/// Reads `config-deployment`; Knative's defaults stand for the keys that are absent.
pub fn parse_config_deployment(data: &Data) -> Result<DeploymentConfig, Vec<ConfigProblem>> {
    let mut config = DeploymentConfig::default();
    let mut r = Reader::new(data, "");
    for key in ["progressDeadline", "progress-deadline"] {
        let mut nanos = 600_000_000_000;
        r.duration(key, &mut nanos);
        if nanos <= 0 {
            let message = format!("{key} cannot be a non-positive duration");
            r.refuse(key, message, "write a duration such as 600s");
        } else if !is_whole_seconds(nanos) {
            let message = format!("{key} must be rounded to a whole second");
            r.refuse(key, message, "write a duration such as 600s");
        } else if r.raw(key).is_some() {
            config.progress_deadline = positive(nanos);
        }
    }
    let key = "default-affinity-type";
    match r.raw(key) {
        None | Some("prefer-spread-revision-over-nodes") => {}
        Some("none") => config.spreads_over_nodes = false,
        Some(other) => {
            let message = format!("unsupported {key} value: {other:?}");
            r.refuse(key, message, "write none, or prefer-spread-revision-over-nodes");
        }
    }
    r.bool("pod-is-always-schedulable", &mut config.pod_is_always_schedulable);
    let key = "prestop-address";
    match r.raw(key).map(|address| (address, address.parse())) {
        None => {}
        Some((_, Ok(address))) => config.prestop_address = Some(address),
        Some((given, Err(_))) => {
            let message = format!("{key} is no address with a port: {given:?}");
            // Kubelets resolve names as their nodes do, and those do not know Services.
            r.refuse(key, message, "write the cluster address of a Service, such as 10.96.0.8:80");
        }
    }
    r.finish(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<DeploymentConfig, String> {
        let data = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse_config_deployment(&data).map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn keys_as_knative_reads_them() {
        let default = DeploymentConfig::default();
        assert_eq!(parse(&[("queue-sidecar-image", "x")]), Ok(default));
        let all = parse(&[
            ("progress-deadline", "2m"),
            ("default-affinity-type", "none"),
            ("pod-is-always-schedulable", "true"),
            ("prestop-address", "10.96.0.8:80"),
        ]);
        let expected = DeploymentConfig {
            progress_deadline: Duration::from_secs(120),
            spreads_over_nodes: false,
            pod_is_always_schedulable: true,
            prestop_address: Some(SocketAddr::from(([10, 96, 0, 8], 80))),
        };
        assert_eq!(all, Ok(expected));
        assert_eq!(
            parse(&[("progressDeadline", "30s")]).unwrap().progress_deadline,
            Duration::from_secs(30)
        );
    }

    #[test]
    fn what_is_refused() {
        for (key, value, part) in [
            ("progress-deadline", "0s", "cannot be a non-positive duration"),
            ("progress-deadline", "1500ms", "must be rounded to a whole second"),
            ("progress-deadline", "soon", "failed to parse"),
            ("default-affinity-type", "tight", "unsupported default-affinity-type value"),
            ("pod-is-always-schedulable", "maybe", "failed to parse"),
            ("prestop-address", "tidegate-prestop:80", "is no address with a port"),
            ("prestop-address", "10.96.0.8", "is no address with a port"),
        ] {
            let error = parse(&[(key, value)]).unwrap_err();
            assert!(error.contains(part), "{key}: {value}: {error}");
        }
    }
}
