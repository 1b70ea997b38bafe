//! The settings that are annotations `tidegate.dev/*`, told to those who write them.

/// An annotation of our own.
#[derive(Clone, Copy, Debug)]
pub struct OwnAnnotation {
    /// Its name after `tidegate.dev/`.
    pub name: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn own(name: &'static str, default: &'static str, meaning: &'static str) -> OwnAnnotation {
    OwnAnnotation { name, default, meaning }
}

/// Those on a template.
pub const TEMPLATE_ANNOTATIONS: [OwnAnnotation; 9] = [
    own(
        "queue-timeout",
        "none",
        "how long a request may wait for a replica, then 504 `queue_timeout`",
    ),
    own(
        "no-wake",
        "none",
        "requests that never start a replica and are no load: a list of methods, path prefixes and \
         prefixes of `User-Agent`, as in `HEAD, /healthz, agent:UptimeRobot/`",
    ),
    own(
        "idle-connection",
        "none",
        "an upgraded connection without bytes for so long no longer keeps a replica up; it is not cut",
    ),
    own(
        "eager",
        "`true`",
        "`false`: more than one replica is decided on every two seconds only, not as soon as \
         requests wait",
    ),
    own(
        "waiting-page",
        "`false`",
        "`true`: a browser that waits for a first replica is shown a page after a second",
    ),
    own(
        "depends-on",
        "none",
        "services that it calls, as in `db, shop/cart, api=api-00002`: woken with it, and ready \
         before a new revision of it gets traffic; `=REVISION` has their traffic lead to that one",
    ),
    own("local-command", "none", "the program on this machine, as a JSON array; not in a cluster"),
    own(
        "local-directory",
        "the manifest's folder",
        "where that program is started, relative to the manifest's folder; not in a cluster",
    ),
    own(
        "static-endpoints",
        "none",
        "addresses with ports of replicas that somebody else runs; nothing is started",
    ),
];

/// Those on a Service or Route itself, where its traffic is said.
pub const SERVICE_ANNOTATIONS: [OwnAnnotation; 6] = [
    own(
        "rollout",
        "none",
        "`canary`: a new revision gets traffic step by step as long as it does no worse than the \
         old one, and is taken back when it does",
    ),
    own("rollout-steps", "`5,25,50`", "per cent at each step; all of it comes after the last"),
    own("rollout-step-time", "`30s`", "least time of a step"),
    own(
        "rollout-samples",
        "`100`",
        "answers without an error that a step needs of the new revision",
    ),
    own(
        "rollout-max-errors",
        "`1`",
        "points by which the per cent of its requests that fail may be above the old one's",
    ),
    own(
        "rollout-max-latency",
        "`1.5`",
        "how many times as long as the old one's its answers may take, at the median and for 95 \
         of 100",
    ),
];

/// Those on a Service (core) whose Deployment is adopted; those of a template's queue come on top.
pub const ADOPTION_ANNOTATIONS: [OwnAnnotation; 6] = [
    own("adopt", "none", "`true`: its Deployment or StatefulSet is served and scaled"),
    own("adopt-service", "none", "`true`: so are callers of the Service's own name"),
    own(
        "port",
        "the one that speaks HTTP",
        "name or number of the port that goes through tidegate",
    ),
    own("workload", "the only one", "`deployment/NAME` or `statefulset/NAME`"),
    own("container-concurrency", "unlimited", "requests that a pod gets at the same time"),
    own("timeout", "none", "from a request's arrival to the end of its answer"),
];

/// Their names.
pub(super) const fn names<const N: usize>(all: &[OwnAnnotation; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = all[index].name;
        index += 1;
    }
    names
}
