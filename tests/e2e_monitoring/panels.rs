//! What the dashboard shows: the one source of `deploy/grafana/tidegate.json`.
//!
//! In expressions `{S}` stands for what the variables choose among series that carry their service,
//! `{R}` among those that carry only their revision, and `{J}` among those of the program.

/// A row of panels.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) panels: &'static [Panel],
}

/// One graph.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// What it says and what to look for.
    pub(crate) help: &'static str,
    /// Grafana's name of it.
    pub(crate) unit: &'static str,
    pub(crate) targets: &'static [Target],
}

/// One expression.
pub(crate) struct Target {
    pub(crate) expression: &'static str,
    pub(crate) legend: &'static str,
    /// Where there are such series.
    pub(crate) home: Home,
}

/// Where something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Everywhere,
    /// Only where several proxies know of each other.
    Kubernetes,
}

const fn target(expression: &'static str, legend: &'static str) -> Target {
    Target { expression, legend, home: Home::Everywhere }
}

const fn of_peers(expression: &'static str, legend: &'static str) -> Target {
    Target { expression, legend, home: Home::Kubernetes }
}

const SERVICE: &str = "{{namespace}}/{{service}}";
const REVISION: &str = "{{namespace}}/{{revision}}";

pub(crate) const ROWS: &[Row] = &[
    Row { title: "Requests", panels: REQUESTS },
    Row { title: "Concurrency and queue", panels: QUEUE },
    Row { title: "Replicas", panels: REPLICAS },
    Row { title: "The program", panels: PROGRAM },
];

const REQUESTS: &[Panel] = &[
    Panel {
        title: "Requests",
        help: "Ended requests by service, of all proxies together.",
        unit: "reqps",
        targets: &[target(
            "sum by (namespace, service) (rate(tidegate_requests_total{S}[$__rate_interval]))",
            SERVICE,
        )],
    },
    Panel {
        title: "Error rate (status 400 and above)",
        help: "Which part of the answers was 4xx or 5xx. 5xx alone: the panel beside it.",
        unit: "percentunit",
        targets: &[target(
            "sum by (namespace, service) (rate(tidegate_requests_total{S,code=~\"4..|5..\"}[$__rate_interval])) / sum by (namespace, service) (rate(tidegate_requests_total{S}[$__rate_interval]))",
            SERVICE,
        )],
    },
    Panel {
        title: "Server errors (status 500 and above)",
        help: "Which part of the answers was 5xx, by replicas or by tidegate itself: see Refusals.",
        unit: "percentunit",
        targets: &[target(
            "sum by (namespace, service) (rate(tidegate_requests_total{S,code=~\"5..\"}[$__rate_interval])) / sum by (namespace, service) (rate(tidegate_requests_total{S}[$__rate_interval]))",
            SERVICE,
        )],
    },
    Panel {
        title: "Average response time",
        help: "From arrival to the end of the response, waiting included.",
        unit: "s",
        targets: &[target(
            "sum by (namespace, service) (rate(tidegate_request_duration_seconds_sum{S}[$__rate_interval])) / sum by (namespace, service) (rate(tidegate_request_duration_seconds_count{S}[$__rate_interval]))",
            SERVICE,
        )],
    },
    Panel {
        title: "Response time, p50 and p99",
        help: "Half of the requests, and 99 of 100, were faster. Estimated within the buckets: 5, 25, 100, 250, 500 ms, 1, 2.5, 10 s.",
        unit: "s",
        targets: &[
            target(
                "histogram_quantile(0.5, sum by (namespace, service, le) (rate(tidegate_request_duration_seconds_bucket{S}[$__rate_interval])))",
                "p50 {{namespace}}/{{service}}",
            ),
            target(
                "histogram_quantile(0.99, sum by (namespace, service, le) (rate(tidegate_request_duration_seconds_bucket{S}[$__rate_interval])))",
                "p99 {{namespace}}/{{service}}",
            ),
        ],
    },
    Panel {
        title: "Answers by status",
        help: "none: ended without an answer, as when the client left.",
        unit: "reqps",
        targets: &[target(
            "sum by (code) (rate(tidegate_requests_total{S}[$__rate_interval]))",
            "{{code}}",
        )],
    },
    Panel {
        title: "Traffic by revision",
        help: "How the split over revisions comes out.",
        unit: "reqps",
        targets: &[target(
            "sum by (namespace, revision) (rate(tidegate_requests_total{S}[$__rate_interval]))",
            REVISION,
        )],
    },
    Panel {
        title: "Errors by revision (status 500 and above)",
        help: "A new revision that fails stands out here.",
        unit: "percentunit",
        targets: &[target(
            "sum by (namespace, revision) (rate(tidegate_requests_total{S,code=~\"5..\"}[$__rate_interval])) / sum by (namespace, revision) (rate(tidegate_requests_total{S}[$__rate_interval]))",
            REVISION,
        )],
    },
    Panel {
        title: "Refusals by reason",
        help: "What tidegate answered itself; its README lists the reasons. Those without a revision had none yet, as for an unknown host.",
        unit: "reqps",
        targets: &[
            target(
                "sum by (reason) (rate(tidegate_refused_total{R}[$__rate_interval]))",
                "{{reason}}",
            ),
            target(
                "sum by (reason) (rate(tidegate_refused_total{J,revision=\"\"}[$__rate_interval]))",
                "{{reason}}, no revision",
            ),
        ],
    },
];

const QUEUE: &[Panel] = &[
    Panel {
        title: "Concurrency against target",
        help: "Average of requests in flight, and what the ready replicas are meant to take. Where the metric is rps the target is requests a second.",
        unit: "short",
        targets: &[
            target(
                "sum by (namespace, revision) (rate(tidegate_request_in_flight_seconds_total{S}[$__rate_interval]))",
                "in flight {{namespace}}/{{revision}}",
            ),
            target(
                "max by (namespace, revision) (tidegate_autoscaler_target{R}) * max by (namespace, revision) (tidegate_revision_replicas{R,state=\"ready\"})",
                "target {{namespace}}/{{revision}}",
            ),
        ],
    },
    Panel {
        title: "Load over the windows, and target of one replica",
        help: "What decisions are made from. Load over target is the number of replicas wanted.",
        unit: "short",
        targets: &[
            target(
                "max by (namespace, revision) (tidegate_autoscaler_stable{R})",
                "stable {{namespace}}/{{revision}}",
            ),
            target(
                "max by (namespace, revision) (tidegate_autoscaler_panic{R})",
                "panic {{namespace}}/{{revision}}",
            ),
            target(
                "max by (namespace, revision) (tidegate_autoscaler_target{R})",
                "target {{namespace}}/{{revision}}",
            ),
        ],
    },
    Panel {
        title: "Waiting requests",
        help: "They wait for a replica, or for a place at one. Never back to zero: too few replicas.",
        unit: "short",
        targets: &[
            target(
                "sum by (namespace, service) (tidegate_queue_depth{S})",
                "waiting {{namespace}}/{{service}}",
            ),
            target(
                "sum by (namespace, service) (tidegate_request_concurrency{S})",
                "in flight {{namespace}}/{{service}}",
            ),
        ],
    },
    Panel {
        title: "Time waited",
        help: "Of those that had to wait.",
        unit: "s",
        targets: &[
            target(
                "sum by (namespace, revision) (rate(tidegate_queue_wait_seconds_sum{R}[$__rate_interval])) / sum by (namespace, revision) (rate(tidegate_queue_wait_seconds_count{R}[$__rate_interval]))",
                "average {{namespace}}/{{revision}}",
            ),
            target(
                "histogram_quantile(0.99, sum by (namespace, revision, le) (rate(tidegate_queue_wait_seconds_bucket{R}[$__rate_interval])))",
                "p99 {{namespace}}/{{revision}}",
            ),
        ],
    },
    Panel {
        title: "Spare burst capacity and panic",
        help: "Below zero a sudden burst would wait. Panic is 1 while the short window decides.",
        unit: "short",
        targets: &[
            target(
                "max by (namespace, revision) (tidegate_autoscaler_excess_burst_capacity{R})",
                "spare {{namespace}}/{{revision}}",
            ),
            target(
                "max by (namespace, revision) (tidegate_autoscaler_panic_mode{R})",
                "panic {{namespace}}/{{revision}}",
            ),
        ],
    },
];

const REPLICAS: &[Panel] = &[
    Panel {
        title: "Replicas desired and ready",
        help: "Ready below desired for long: they do not come up.",
        unit: "short",
        targets: &[
            target(
                "max by (namespace, revision) (tidegate_revision_replicas{R,state=\"desired\"})",
                "desired {{namespace}}/{{revision}}",
            ),
            target(
                "max by (namespace, revision) (tidegate_revision_replicas{R,state=\"ready\"})",
                "ready {{namespace}}/{{revision}}",
            ),
        ],
    },
    Panel {
        title: "Replicas on their way",
        help: "Starting, and stopping once their last request has ended.",
        unit: "short",
        targets: &[target(
            "max by (namespace, revision, state) (tidegate_revision_replicas{R,state=~\"starting|stopping\"})",
            "{{state}} {{namespace}}/{{revision}}",
        )],
    },
    Panel {
        title: "Load of endpoints",
        help: "Requests at each replica. One that stands out hangs or is slow.",
        unit: "short",
        targets: &[target(
            "sum by (namespace, revision, endpoint) (tidegate_endpoint_in_flight{R})",
            "{{namespace}}/{{endpoint}}",
        )],
    },
    Panel {
        title: "Cold starts",
        help: "Starts of a revision's first replica, a minute.",
        unit: "cpm",
        targets: &[target(
            "60 * sum by (namespace, revision) (rate(tidegate_cold_start_seconds_count{R}[$__rate_interval]))",
            REVISION,
        )],
    },
    Panel {
        title: "Cold starts by phase",
        help: "Where the time of an average cold start goes.",
        unit: "s",
        targets: &[target(
            "sum by (phase) (rate(tidegate_cold_start_phase_seconds_total{R}[$__rate_interval])) / on () group_left () sum (rate(tidegate_cold_start_seconds_count{R}[$__rate_interval]))",
            "{{phase}}",
        )],
    },
    Panel {
        title: "Cold starts, p99",
        help: "From the order for the first replica until it is ready.",
        unit: "s",
        targets: &[target(
            "histogram_quantile(0.99, sum by (namespace, revision, le) (rate(tidegate_cold_start_seconds_bucket{R}[$__rate_interval])))",
            REVISION,
        )],
    },
];

const PROGRAM: &[Panel] = &[
    Panel {
        title: "Client connections",
        help: "Open now, and accepted a second.",
        unit: "short",
        targets: &[
            target(
                "sum by (instance, listener) (tidegate_connections{J})",
                "open {{instance}} {{listener}}",
            ),
            target(
                "sum by (instance, listener) (rate(tidegate_connections_accepted_total{J}[$__rate_interval]))",
                "accepted a second {{instance}} {{listener}}",
            ),
        ],
    },
    Panel {
        title: "Processor",
        help: "Processors in use; replicas on one machine are not part of it.",
        unit: "short",
        targets: &[target("rate(process_cpu_seconds_total{J}[$__rate_interval])", "{{instance}}")],
    },
    Panel {
        title: "Memory",
        help: "Resident; replicas on one machine are not part of it.",
        unit: "bytes",
        targets: &[target("process_resident_memory_bytes{J}", "{{instance}}")],
    },
    Panel {
        title: "File descriptors in use",
        help: "At all of them no connection is accepted.",
        unit: "percentunit",
        targets: &[target("process_open_fds{J} / process_max_fds{J}", "{{instance}}")],
    },
    Panel {
        title: "Configuration",
        help: "Services loaded, and objects that are not in effect because of an error.",
        unit: "short",
        targets: &[
            target("tidegate_services{J}", "services {{instance}}"),
            target("tidegate_rejected_objects{J}", "rejected objects {{instance}}"),
        ],
    },
    Panel {
        title: "Other proxies",
        help: "In a cluster: those it speaks with, those it misses, and reports of load that did not come.",
        unit: "short",
        targets: &[
            of_peers("tidegate_peers_connected{J}", "connected {{instance}}"),
            of_peers("tidegate_peers_missing{J}", "missing {{instance}}"),
            of_peers(
                "rate(tidegate_peer_reports_lost_total{J}[$__rate_interval])",
                "reports lost a second {{instance}}",
            ),
        ],
    },
    Panel {
        title: "Log and state",
        help: "Lines and records dropped a second; 1 while the state cannot be written (one machine).",
        unit: "short",
        targets: &[
            target(
                "rate(tidegate_log_lines_dropped_total{J}[$__rate_interval])",
                "lines dropped {{instance}}",
            ),
            target(
                "rate(tidegate_log_records_dropped_total{J}[$__rate_interval])",
                "records dropped {{forwarder}} {{instance}}",
            ),
            target("tidegate_state_unsaved{J}", "state not saved {{instance}}"),
        ],
    },
    Panel {
        title: "TLS handshakes",
        help: "By how they ended.",
        unit: "ops",
        targets: &[target(
            "sum by (listener, result) (rate(tidegate_tls_handshakes_total{J}[$__rate_interval]))",
            "{{listener}} {{result}}",
        )],
    },
    Panel {
        title: "Certificates end in",
        help: "By file, of those that are read from files.",
        unit: "s",
        targets: &[target(
            "min by (instance, file) (tidegate_tls_certificate_expiry_timestamp_seconds{J}) - time()",
            "{{file}} {{instance}}",
        )],
    },
    Panel {
        title: "Versions and uptime",
        help: "How long each has run.",
        unit: "s",
        targets: &[target(
            "(time() - process_start_time_seconds{J}) * on (job, instance) group_left (version) tidegate_build_info{J}",
            "{{version}} {{instance}}",
        )],
    },
];
