use super::*;
use crate::config::settings::AutoscalerConfig;

fn now() -> Timestamp {
    Timestamp::from_second(0).unwrap()
}

/// A Deployment with a condition of each given type: type, status, reason, message.
fn deployment(wanted: i64, ready: i64, conditions: &[[&str; 4]]) -> Value {
    let conditions = conditions.iter().map(|[kind, status, reason, message]| {
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    });
    json!({
        "spec": {"replicas": wanted},
        "status": {
            "readyReplicas": ready, "availableReplicas": ready,
            "conditions": conditions.collect::<Vec<_>>(),
        },
    })
}

const GOES_ON: [&str; 4] = ["Progressing", "True", "ReplicaSetUpdated", ""];
const TIMED_OUT: [&str; 4] =
    ["Progressing", "False", "ProgressDeadlineExceeded", "it took too long"];

fn pod(container: Value) -> Value {
    json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [container]}})
}

fn waiting(reason: &str) -> Value {
    pod(json!({"state": {"waiting": {"reason": reason, "message": "so it is"}}}))
}

fn ended(code: i64, message: &str) -> Value {
    let ended = json!({"exitCode": code, "message": message, "reason": "Error"});
    pod(
        json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}),
    )
}

/// Conditions of a revision and of its PodAutoscaler after a look, on from what they were.
fn look(
    before: &(Value, Value),
    deployment: &Value,
    pods: &[Value],
    annotations: &Value,
) -> (Value, Value) {
    let mut of = revision();
    of["status"] = before.0.clone();
    of["metadata"]["annotations"] = annotations.clone();
    let config = AutoscalerConfig { allow_zero_initial_scale: true, ..AutoscalerConfig::default() };
    let bounds = bounds(&of, &config, true);
    let mut status = RevisionStatus::of(&of, now());
    status.take_deployment(deployment, pods, false);
    let mut scaler = ScalerStatus::of(&json!({"status": before.1}), now());
    let scale = Scale::of(deployment);
    scaler.take("hello-00001", "hello-00001-private", scale, &bounds);
    status.take_scaler(&scaler, scale);
    (status.value(&of), scaler.value(&json!({"metadata": {"generation": 1}})))
}

fn shown((revision, scaler): &(Value, Value)) -> String {
    let of = |status: &Value| {
        let one = |condition: &Value| {
            let parts = ["type", "status", "reason", "message"]
                .map(|key| condition.get(key).and_then(Value::as_str).unwrap_or_default());
            parts.join(" ").trim_end().to_owned()
        };
        status.list("/conditions").iter().map(one).collect::<Vec<_>>().join("\n")
    };
    format!("{}\n--\n{}", of(revision), of(scaler))
}

fn first(deployment: &Value, pods: &[Value]) -> String {
    shown(&look(&(json!({}), json!({})), deployment, pods, &json!({})))
}

#[test]
fn from_nothing_to_ready_to_zero_and_back() {
    let none = json!({});
    let start = look(&(json!({}), json!({})), &deployment(1, 0, &[GOES_ON]), &[], &none);
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy Unknown
        Ready Unknown Deploying
        ResourcesAvailable Unknown Deploying
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]].assert_eq(&shown(&start));
    let up = look(&start, &deployment(1, 1, &[GOES_ON]), &[], &none);
    expect![[r#"
        Active True
        ContainerHealthy True
        Ready True
        ResourcesAvailable True
        --
        Active True
        Ready True
        SKSReady True
        ScaleTargetInitialized True"#]]
    .assert_eq(&shown(&up));
    let down = look(&up, &deployment(0, 0, &[GOES_ON]), &[], &none);
    expect![[r#"
        Active False NoTraffic The target is not receiving traffic.
        ContainerHealthy True
        Ready True
        ResourcesAvailable True
        --
        Active False NoTraffic The target is not receiving traffic.
        Ready False NoTraffic The target is not receiving traffic.
        SKSReady True
        ScaleTargetInitialized True"#]]
    .assert_eq(&shown(&down));
    let again = look(&down, &deployment(1, 0, &[GOES_ON]), &[], &none);
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy True
        Ready True
        ResourcesAvailable True
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized True"#]].assert_eq(&shown(&again));
    assert_eq!(again.0["desiredReplicas"], 1);
    assert_eq!(again.0["actualReplicas"], 0);
    assert_eq!(again.1["serviceName"], "hello-00001");
}

#[test]
fn nothing_to_begin_with_is_ready() {
    let none = json!({"autoscaling.knative.dev/initial-scale": "0"});
    let start = look(&(json!({}), json!({})), &deployment(0, 0, &[GOES_ON]), &[], &none);
    expect![[r#"
        Active False NoTraffic The target is not receiving traffic.
        ContainerHealthy True
        Ready True
        ResourcesAvailable True
        --
        Active False NoTraffic The target is not receiving traffic.
        Ready False NoTraffic The target is not receiving traffic.
        SKSReady True
        ScaleTargetInitialized True"#]]
    .assert_eq(&shown(&start));
}

#[test]
fn an_initial_scale_that_was_never_reached_is_a_failure() {
    let none = json!({});
    let start = look(&(json!({}), json!({})), &deployment(1, 0, &[GOES_ON]), &[], &none);
    let given_up = look(&start, &deployment(0, 0, &[GOES_ON]), &[], &none);
    expect![[r#"
        Active False TimedOut The target could not be activated.
        ContainerHealthy Unknown
        Ready False ProgressDeadlineExceeded Initial scale was never achieved
        ResourcesAvailable False ProgressDeadlineExceeded Initial scale was never achieved
        --
        Active False TimedOut The target could not be activated.
        Ready False TimedOut The target could not be activated.
        SKSReady True
        ScaleTargetInitialized Unknown"#]]
    .assert_eq(&shown(&given_up));
    // It says the same the next time.
    let later = look(&given_up, &deployment(0, 0, &[GOES_ON]), &[], &none);
    assert_eq!(later.1, given_up.1);
}

#[test]
fn failures_that_users_make() {
    let at_work = deployment(1, 0, &[GOES_ON]);
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy Unknown
        Ready False ImagePullBackOff so it is
        ResourcesAvailable False ImagePullBackOff so it is
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]].assert_eq(&first(&at_work, &[waiting("ImagePullBackOff")]));
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy False ExitCode7 Container failed with: no database
        Ready False ExitCode7 Container failed with: no database
        ResourcesAvailable Unknown Deploying
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]].assert_eq(&first(&at_work, &[ended(7, "no database\n")]));
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy False ExitCode0 Container failed with: container exited with no error
        Ready False ExitCode0 Container failed with: container exited with no error
        ResourcesAvailable Unknown Deploying
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]].assert_eq(&first(&at_work, &[ended(0, "")]));
    let unschedulable = json!({"metadata": {"name": "p"}, "status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }]}});
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy Unknown
        Ready False Unschedulable 0/1 nodes are available: 1 Insufficient cpu.
        ResourcesAvailable False Unschedulable 0/1 nodes are available: 1 Insufficient cpu.
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]].assert_eq(&first(&at_work, &[unschedulable]));
    let quota = ["ReplicaFailure", "True", "FailedCreate", "forbidden: exceeded quota: q"];
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy Unknown
        Ready False FailedCreate forbidden: exceeded quota: q
        ResourcesAvailable False FailedCreate forbidden: exceeded quota: q
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]].assert_eq(&first(&deployment(1, 0, &[GOES_ON, quota]), &[]));
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy Unknown
        Ready False ContainerCreating so it is
        ResourcesAvailable False ContainerCreating so it is
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]]
        .assert_eq(&first(&deployment(1, 0, &[TIMED_OUT]), &[waiting("ContainerCreating")]));
    expect![[r#"
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        ContainerHealthy Unknown
        Ready False ProgressDeadlineExceeded it took too long
        ResourcesAvailable False ProgressDeadlineExceeded it took too long
        --
        Active Unknown Queued Requests to the target are being buffered as resources are provisioned.
        Ready Unknown Queued Requests to the target are being buffered as resources are provisioned.
        SKSReady True
        ScaleTargetInitialized Unknown"#]].assert_eq(&first(&deployment(1, 0, &[TIMED_OUT]), &[]));
}

#[test]
fn what_only_takes_time_is_no_failure() {
    let at_work = deployment(1, 0, &[GOES_ON]);
    let (before, after) = (first(&at_work, &[]), first(&at_work, &[waiting("ContainerCreating")]));
    assert_eq!(before, after);
    // One of several fails, and the others serve.
    let one_ready = deployment(2, 1, &[GOES_ON]);
    let shown = first(&one_ready, &[ended(1, "x")]);
    assert!(shown.contains("ContainerHealthy True"), "{shown}");
}

#[test]
fn an_init_container_that_ended_well_is_no_failure() {
    let init = |code: i64| {
        json!({"metadata": {"name": "p"}, "status": {"initContainerStatuses": [
            {"state": {"terminated": {"exitCode": code, "reason": "Error", "message": ""}}},
        ]}})
    };
    let at_work = deployment(1, 0, &[GOES_ON]);
    assert_eq!(first(&at_work, &[init(0)]), first(&at_work, &[]));
    let shown = first(&at_work, &[init(3)]);
    assert!(
        shown.contains("ContainerHealthy False ExitCode3 Container failed with: Error"),
        "{shown}"
    );
}

#[test]
fn a_failure_is_over_when_a_pod_is_ready() {
    let none = json!({});
    let at_work = deployment(1, 0, &[GOES_ON]);
    let failed = look(&(none.clone(), none.clone()), &at_work, &[ended(7, "no database")], &none);
    let up = look(&failed, &deployment(1, 1, &[GOES_ON]), &[ended(7, "no database")], &none);
    assert!(shown(&up).contains("\nReady True\n"), "{}", shown(&up));
}
