//! The keys that settings ConfigMaps have.

/// Keys of a ConfigMap; none for one whose keys are free.
pub(super) fn known(name: &str) -> &'static [&'static str] {
    match name {
        "config-autoscaler" => &AUTOSCALER,
        "config-defaults" => &DEFAULTS,
        "config-gc" => &GC,
        "config-network" => &NETWORK,
        "config-observability" => &OBSERVABILITY,
        _ => &[],
    }
}

const AUTOSCALER: [&str; 20] = [
    "pod-autoscaler-class",
    "enable-scale-to-zero",
    "allow-zero-initial-scale",
    "max-scale-up-rate",
    "max-scale-down-rate",
    "container-concurrency-target-percentage",
    "container-concurrency-target-default",
    "requests-per-second-target-default",
    "target-burst-capacity",
    "panic-window-percentage",
    "panic-threshold-percentage",
    "activator-capacity",
    "initial-scale",
    "min-scale",
    "max-scale",
    "max-scale-limit",
    "stable-window",
    "scale-down-delay",
    "scale-to-zero-grace-period",
    "scale-to-zero-pod-retention-period",
];

const DEFAULTS: [&str; 16] = [
    "revision-timeout-seconds",
    "max-revision-timeout-seconds",
    "revision-response-start-timeout-seconds",
    "revision-idle-timeout-seconds",
    "container-concurrency",
    "container-concurrency-max-limit",
    "allow-container-concurrency-zero",
    "enable-service-links",
    "container-name-template",
    "init-container-name-template",
    "revision-cpu-request",
    "revision-memory-request",
    "revision-ephemeral-storage-request",
    "revision-cpu-limit",
    "revision-memory-limit",
    "revision-ephemeral-storage-limit",
];

const GC: [&str; 4] = [
    "retain-since-create-time",
    "retain-since-last-active-time",
    "min-non-active-revisions",
    "max-non-active-revisions",
];

const NETWORK: [&str; 25] = [
    "ingress-class",
    "ingress.class",
    "certificate-class",
    "certificate.class",
    "domain-template",
    "domainTemplate",
    "tag-template",
    "tagTemplate",
    "rollout-duration",
    "rolloutDuration",
    "autocreate-cluster-domain-claims",
    "autocreateClusterDomainClaims",
    "default-external-scheme",
    "defaultExternalScheme",
    "external-domain-tls",
    "auto-tls",
    "autoTLS",
    "cluster-local-domain-tls",
    "system-internal-tls",
    "internal-encryption",
    "http-protocol",
    "httpProtocol",
    "enable-mesh-pod-addressability",
    "mesh-compatibility-mode",
    "namespace-wildcard-cert-selector",
];

const OBSERVABILITY: [&str; 16] = [
    "logging.enable-request-log",
    "logging.enable-probe-request-log",
    "logging.request-log-template",
    "logging.enable-var-log-collection",
    "logging.revision-url-template",
    "metrics-protocol",
    "metrics-endpoint",
    "metrics-export-interval",
    "request-metrics-protocol",
    "request-metrics-endpoint",
    "request-metrics-export-interval",
    "tracing-protocol",
    "tracing-endpoint",
    "tracing-sampling-rate",
    "runtime-profiling",
    "runtime-export-interval",
];
