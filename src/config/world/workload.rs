//! What a revision's replicas are on one machine, and the other parts of its template.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::admitted::metadata_map;
use super::data::{DataSet, Lookup};
use super::env::{Fields, environment, list, scalar, text};
use super::own::OwnSettings;
use super::probes::probes;
use super::volumes::{mounts, volumes};
use crate::config::admission::{KPA, autoscaling};
use crate::config::text::Quantity;
use crate::model::{
    ContainerConcurrency, Problem, ProcessSpec, Protocol, Reason, RevisionId, Timeouts, Workload,
};

/// Kubernetes' default time between SIGTERM and SIGKILL; Knative's templates cannot change it.
const TERMINATION_GRACE: Duration = Duration::from_secs(30);
/// Knative's `timeoutSeconds` where admission left none.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// A revision whose workload is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) revision: &'a RevisionId,
    /// What `--run` names: the service, or the configuration where there is none.
    pub(super) configuration: &'a str,
    /// `spec` of the admitted template.
    pub(super) spec: &'a Value,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) annotations: &'a BTreeMap<String, String>,
    pub(super) own: &'a OwnSettings,
    /// Folder of the manifest.
    pub(super) directory: &'a Path,
    /// Command that `--run` gives.
    pub(super) run: Option<&'a [Arc<str>]>,
}

/// The container that serves: the one with a port, else the first.
pub(super) fn serving_container(spec: &Value) -> &Value {
    let containers = list(spec, "containers");
    let with_port = containers.iter().find(|container| !list(container, "ports").is_empty());
    with_port.or_else(|| containers.first()).unwrap_or(&Value::Null)
}

/// `containerConcurrency` after defaults.
pub(super) fn container_concurrency(spec: &Value) -> ContainerConcurrency {
    let limit = spec.get("containerConcurrency").and_then(Value::as_u64).unwrap_or(0);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    NonZeroU32::new(limit).map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost)
}

/// What the port speaks, by its name.
pub(super) fn protocol(spec: &Value) -> Protocol {
    let port = list(serving_container(spec), "ports").first();
    match port.and_then(|port| text(port, "name")) {
        Some("h2c") => Protocol::H2c,
        _ => Protocol::Http1,
    }
}

/// The three timers after defaults; 0 is none.
pub(super) fn timeouts(spec: &Value) -> Timeouts {
    let seconds = |field: &str| {
        let seconds = spec.get(field).and_then(Value::as_u64).filter(|seconds| *seconds > 0);
        seconds.map(Duration::from_secs)
    };
    Timeouts {
        request: seconds("timeoutSeconds").unwrap_or(REQUEST_TIMEOUT),
        response_start: seconds("responseStartTimeoutSeconds"),
        idle: seconds("idleTimeoutSeconds"),
    }
}

/// What stands behind the revision: the command that `--run`, the annotation or the container
/// gives, in this order, or replicas that somebody else runs.
pub(super) fn workload(subject: Subject<'_>, set: &DataSet) -> Workload {
    if subject.run.is_none()
        && let Some(endpoints) = &subject.own.static_endpoints
    {
        return Workload::Static(endpoints.clone());
    }
    let container = serving_container(subject.spec);
    let command = subject
        .run
        .map(<[_]>::to_vec)
        .or_else(|| subject.own.local_command.clone())
        .or_else(|| container_command(container));
    let Some(command) = command else {
        return Workload::Unavailable(no_local_command(subject, container));
    };
    let fields = Fields {
        revision: subject.revision,
        labels: subject.labels,
        annotations: subject.annotations,
    };
    let mut lookup = Lookup::new(set, &subject.revision.namespace);
    let env = environment(container, fields, &mut lookup);
    let volumes = volumes(subject.spec, fields, &mut lookup);
    if let Some(message) = lookup.explain(subject.revision) {
        return Workload::Unavailable(Problem::new(Reason::MissingConfig, message));
    }
    let directory = subject.own.local_directory.as_deref();
    Workload::Process(Arc::new(ProcessSpec {
        command,
        directory: directory.map(|directory| resolved(subject.directory, directory)),
        env,
        volumes,
        mounts: mounts(container),
        probes: probes(container),
        memory_limit_bytes: memory_limit(container),
        termination_grace: TERMINATION_GRACE,
    }))
}

/// `command` with `args`; none without `command`, for then the image's own program is meant.
fn container_command(container: &Value) -> Option<Vec<Arc<str>>> {
    let words = |field| list(container, field).iter().filter_map(Value::as_str).map(Arc::from);
    let mut command: Vec<Arc<str>> = words("command").collect();
    if command.first()?.is_empty() {
        return None;
    }
    command.extend(words("args"));
    Some(command)
}

/// A folder given relative to another one, without `.` and, where that is possible without
/// looking, without `..`.
fn resolved(base: &Path, directory: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for part in base.join(directory).components() {
        let last = path.components().next_back();
        match (part, last) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                path.pop();
            }
            _ => path.push(part),
        }
    }
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

fn memory_limit(container: &Value) -> Option<u64> {
    let limit = scalar(container.pointer("/resources/limits/memory")?)?;
    u64::try_from(Quantity::parse(&limit)?.value()).ok().filter(|bytes| *bytes > 0)
}

fn no_local_command(subject: Subject<'_>, container: &Value) -> Problem {
    let RevisionId { namespace, .. } = subject.revision;
    let configuration = subject.configuration;
    let run = match &**namespace {
        "default" => configuration.to_owned(),
        other => format!("{other}/{configuration}"),
    };
    let image = text(container, "image").unwrap_or("an image");
    Problem::new(
        Reason::NoLocalCommand,
        format!(
            "nothing says which program {namespace}/{configuration} is on this machine: its \
             manifest names only the image {image}.\nStart tidegate with\n  \
             --run {run}='PROGRAM ARGUMENT'\n\
             or add to spec.template.metadata of the manifest\n  \
             annotations:\n    tidegate.dev/local-command: '[\"PROGRAM\", \"ARGUMENT\"]'\n    \
             tidegate.dev/local-directory: .\n\
             or add to its container\n  command: [\"PROGRAM\", \"ARGUMENT\"]"
        ),
    )
}

/// Parts of a template that mean nothing on one machine, as far as the user wrote them.
pub(super) fn ignored(written_template: &Value) -> Vec<String> {
    let Some(spec) = written_template.get("spec") else { return Vec::new() };
    let containers = list(spec, "containers");
    let mut ignored = Vec::new();
    if containers.len() > 1 {
        let serving = serving_container(spec);
        let others: Vec<&str> = containers
            .iter()
            .filter(|container| !std::ptr::eq(*container, serving))
            .map(|container| text(container, "name").unwrap_or("without a name"))
            .collect();
        ignored.push(format!("containers beside the serving one ({})", others.join(", ")));
    }
    let given = |object: &Value, field: &str| {
        object.get(field).is_some_and(|value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        })
    };
    if given(spec, "initContainers") {
        ignored.push("initContainers".to_owned());
    }
    if given(spec, "securityContext") || containers.iter().any(|c| given(c, "securityContext")) {
        ignored.push("securityContext".to_owned());
    }
    for field in ["serviceAccountName", "imagePullSecrets"] {
        if given(spec, field) {
            ignored.push(field.to_owned());
        }
    }
    let annotations = metadata_map(written_template, "annotations");
    if let Some((_, class)) = autoscaling(&annotations, "class").filter(|(_, class)| *class != KPA)
    {
        ignored.push(format!("autoscaling class {class}"));
    }
    ignored
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    /// The workload of `default/hello-00001` from its spec, own settings and `--run`.
    fn build(spec: &Value, own: &OwnSettings, run: Option<&[Arc<str>]>) -> Workload {
        let revision = RevisionId::new("default", "hello-00001");
        let none = BTreeMap::new();
        let subject = Subject {
            revision: &revision,
            configuration: "hello",
            spec,
            labels: &none,
            annotations: &none,
            own,
            directory: Path::new("manifests/prod"),
            run,
        };
        workload(subject, &DataSet::default())
    }

    fn command_of(workload: &Workload) -> String {
        match workload {
            Workload::Process(spec) => {
                format!("{} in {:?}", spec.command.join(" "), spec.directory)
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_command_comes_from_the_first_place_that_has_one() {
        let spec = json!({"containers": [{"image": "x", "command": ["a"], "args": ["b"]}]});
        let none = OwnSettings::default();
        assert_eq!(command_of(&build(&spec, &none, None)), "a b in None");
        let own = OwnSettings {
            local_command: Some(vec!["c".into()]),
            local_directory: Some(PathBuf::from("../app/.")),
            ..OwnSettings::default()
        };
        assert_eq!(command_of(&build(&spec, &own, None)), "c in Some(\"manifests/app\")");
        let run = ["d".into(), "e".into()];
        assert_eq!(command_of(&build(&spec, &own, Some(&run))), "d e in Some(\"manifests/app\")");
        let elsewhere = OwnSettings {
            static_endpoints: Some(vec!["127.0.0.1:9001".parse().unwrap()]),
            ..OwnSettings::default()
        };
        assert_eq!(command_of(&build(&spec, &elsewhere, None)), "Static([127.0.0.1:9001])");
        assert_eq!(command_of(&build(&spec, &elsewhere, Some(&run))), "d e in None");
    }

    #[test]
    fn without_a_command_the_answer_says_what_to_add() {
        let spec = json!({"containers": [{"image": "docker.io/example/hello", "args": ["x"]}]});
        let Workload::Unavailable(problem) = build(&spec, &OwnSettings::default(), None) else {
            panic!("it has no command");
        };
        assert_eq!(problem.reason, Reason::NoLocalCommand);
        expect![[r#"
            nothing says which program default/hello is on this machine: its manifest names only the image docker.io/example/hello.
            Start tidegate with
              --run hello='PROGRAM ARGUMENT'
            or add to spec.template.metadata of the manifest
              annotations:
                tidegate.dev/local-command: '["PROGRAM", "ARGUMENT"]'
                tidegate.dev/local-directory: .
            or add to its container
              command: ["PROGRAM", "ARGUMENT"]"#]]
        .assert_eq(&problem.message);
    }

    #[test]
    fn folders() {
        for (base, directory, expected) in [
            ("", ".", "."),
            ("a/b", ".", "a/b"),
            ("a/b", "../..", "."),
            ("a", "../../x", "../x"),
            ("a", "/srv/app", "/srv/app"),
            ("/a", "../../x", "/../x"),
        ] {
            let path = resolved(Path::new(base), Path::new(directory));
            assert_eq!(path, PathBuf::from(expected), "{base} {directory}");
        }
    }

    #[test]
    fn other_parts_of_the_template() {
        let spec = json!({
            "containerConcurrency": 7, "timeoutSeconds": 20, "responseStartTimeoutSeconds": 0,
            "idleTimeoutSeconds": 5,
            "containers": [
                {"name": "side"},
                {"name": "main", "ports": [{"name": "h2c"}],
                    "resources": {"limits": {"memory": "64Mi"}}},
            ],
        });
        assert_eq!(
            container_concurrency(&spec),
            ContainerConcurrency::AtMost(NonZeroU32::new(7).unwrap())
        );
        assert_eq!(protocol(&spec), Protocol::H2c);
        let seconds = Duration::from_secs;
        let expected =
            Timeouts { request: seconds(20), response_start: None, idle: Some(seconds(5)) };
        assert_eq!(timeouts(&spec), expected);
        assert_eq!(memory_limit(serving_container(&spec)), Some(64 << 20));
        assert_eq!(container_concurrency(&json!({})), ContainerConcurrency::Unlimited);
    }

    #[test]
    fn what_means_nothing_here_is_named() {
        let annotations = json!({"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"});
        let template = json!({"metadata": {"annotations": annotations}, "spec": {
            "serviceAccountName": "robot", "imagePullSecrets": [{"name": "x"}],
            "containers": [
                {"name": "main", "ports": [{}], "securityContext": {"runAsUser": 1}},
                {"name": "side"}, {"image": "x"},
            ],
        }});
        assert_eq!(
            ignored(&template),
            [
                "containers beside the serving one (side, without a name)",
                "securityContext",
                "serviceAccountName",
                "imagePullSecrets",
                "autoscaling class hpa.autoscaling.knative.dev",
            ]
        );
        assert!(ignored(&json!({"spec": {"containers": [{}], "securityContext": {}}})).is_empty());
    }
}
