//! `tidegate estimate`, as it is called.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::serving::{Service, file, tidegate};

/// Ten minutes: none, twelve at a time, none.
fn load(metric: &Value) -> String {
    let at = |minute: u32| if (3..6).contains(&minute) { "12" } else { "0" };
    let values: Vec<Value> = (1..=10).map(|minute| json!([60 * minute, at(minute)])).collect();
    let data = json!({"resultType": "matrix", "result": [{"metric": metric, "values": values}]});
    json!({"status": "success", "data": data}).to_string()
}

/// Its exit code, output and complaints; manifests are a file, the load comes in.
fn estimate(manifests: &str, load: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("services.yaml");
    std::fs::write(&path, manifests).unwrap();
    let mut command = tidegate();
    command.args(["estimate", "--load", "-", "-f", path.to_str().unwrap()]).args(arguments);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(load.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn services() -> String {
    file(&[
        Service::new("a").annotation("autoscaling.knative.dev/target", "10"),
        Service::new("b").annotation("autoscaling.knative.dev/metric", "rps"),
    ])
}

#[test]
fn settings_are_compared_service_by_service() {
    let load = load(&json!({"namespace": "default", "service": "a"}));
    let given = ["--price", "2", "--set", "min-scale=2", "--set", "target=4,max-scale=1"];
    let (code, output, complaints) = estimate(&services(), &load, &given);
    assert_eq!((code, complaints.as_str()), (0, ""));
    let rows: Vec<Vec<&str>> = output
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0][..4], ["SERVICE", "SETTINGS", "REPLICA-HOURS", "COST"]);
    let column = |name: &str, row: usize| {
        let at = rows[0].iter().position(|head| *head == name).unwrap();
        rows[row][at]
    };
    assert_eq!(
        (1..4).map(|row| column("SETTINGS", row)).collect::<Vec<_>>(),
        ["as they are", "min-scale=2", "target=4,max-scale=1"]
    );
    assert_eq!((1..4).map(|row| column("MOST", row)).collect::<Vec<_>>(), ["2", "2", "1"]);
    assert_eq!((1..4).map(|row| column("COLD STARTS", row)).collect::<Vec<_>>(), ["1", "0", "1"]);
    // Two replicas for ten minutes, at two an hour.
    assert_eq!((column("REPLICA-HOURS", 2), column("COST", 2)), ("0.33", "0.67"));
    assert_eq!(column("LOAD", 1), "3.60 concurrency");
}

#[test]
fn what_a_pod_autoscaler_says_is_as_it_is_and_can_be_changed() {
    let manifests = file(&[Service::new("a").annotation("autoscaling.knative.dev/min-scale", "1")])
        + "---\n"
        + &json!({
            "apiVersion": "autoscaling.knative.dev/v1alpha1", "kind": "PodAutoscaler",
            "metadata": {"name": "a"},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "a",
                },
                "minScale": 3, "maxScale": 4,
            },
        })
        .to_string();
    // What names no service is that of the only one.
    let given = ["-o", "json", "--set", "min-scale=2"];
    let (code, output, complaints) = estimate(&manifests, &load(&json!({})), &given);
    assert_eq!((code, complaints.as_str()), (0, ""));
    let output: Value = serde_json::from_str(&output).unwrap();
    let most = |row: usize| output["estimates"][row]["mostReplicas"].clone();
    assert_eq!((most(0), most(1)), (json!(3), json!(2)), "{output}");
    assert_eq!(output["estimates"][1]["settings"], "min-scale=2");
    assert_eq!(output["estimates"][0]["seconds"], 600);
}

#[test]
fn what_is_wrong_is_said() {
    let named = load(&json!({"namespace": "default", "service": "a"}));
    let nobody = load(&json!({}));
    let other = load(&json!({"namespace": "shop", "service": "till"}));
    for (load, arguments, expected) in [
        (&named, vec!["--set", "min-scale=x"], "autoscaling.knative.dev/min-scale: invalid value"),
        (&named, vec!["--set", "min-scal=1"], "did you mean min-scale?"),
        (&named, vec!["--set", "metric=rps"], "change metric in a copy of the file"),
        (&named, vec!["--set", "1"], "write KEY=VALUE, such as min-scale=1"),
        (&named, vec!["c"], "there is no service default/c; known: default/a, default/b"),
        (&named, vec!["b"], "- has no series of default/b: it has those of default/a"),
        (&other, vec![], "it has those of shop/till"),
        (&nobody, vec![], "its series has no label `service`: name the service"),
        (&"{}".to_owned(), vec![], "this is no answer of Prometheus'"),
    ] {
        let (code, output, complaints) = estimate(&services(), load, &arguments);
        assert_eq!((code, output.as_str()), (1, ""), "{arguments:?}");
        assert!(complaints.contains(expected), "{arguments:?}: {complaints}");
    }
    let (code, ..) = estimate(&services(), &nobody, &["b"]);
    assert_eq!(code, 0, "it is said whose it is");
    let (code, _, complaints) = estimate("kind: Service", &named, &[]);
    assert!(code == 1 && complaints.contains("apiVersion"), "{complaints}");
}
