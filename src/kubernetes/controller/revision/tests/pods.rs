use super::*;
use crate::config::settings::DeploymentConfig;

/// Pods that do not mind each other.
fn alone() -> DeploymentConfig {
    DeploymentConfig { spreads_over_nodes: false, ..DeploymentConfig::default() }
}

/// The first container of a pod made from a container of a manifest.
fn made(container: Value) -> Value {
    let mut revision = revision();
    revision["spec"]["containers"] = json!([container]);
    pod::pod_spec(&revision, &alone())["containers"][0].clone()
}

#[test]
fn probes_without_a_port_are_for_the_users() {
    for (probe, expected) in [
        (
            json!({"tcpSocket": {"port": 0}}),
            json!({"tcpSocket": {"port": 9000}, "periodSeconds": 1}),
        ),
        (
            json!({"httpGet": {"path": "/x"}, "periodSeconds": 0, "timeoutSeconds": 0}),
            json!({"httpGet": {"path": "/x", "port": 9000}, "periodSeconds": 1}),
        ),
        (
            json!({"httpGet": {"path": "/x", "port": 8081}, "periodSeconds": 10}),
            json!({"httpGet": {"path": "/x", "port": 8081}, "periodSeconds": 10}),
        ),
        (
            json!({"httpGet": {"port": 8081, "scheme": "http"}, "periodSeconds": 2}),
            json!({"httpGet": {"port": 8081, "scheme": "HTTP"}, "periodSeconds": 2}),
        ),
        (
            json!({"grpc": {"service": ""}}),
            json!({"grpc": {"service": "", "port": 9000}, "periodSeconds": 1}),
        ),
        (
            json!({"exec": {"command": ["a"]}}),
            json!({"exec": {"command": ["a"]}, "periodSeconds": 1}),
        ),
    ] {
        let container = json!({"ports": [{"containerPort": 9000}], "readinessProbe": probe});
        assert_eq!(made(container)["readinessProbe"], expected);
    }
    let container = json!({"livenessProbe": {"httpGet": {"path": "/"}, "initialDelaySeconds": 0}});
    let made = made(container);
    assert_eq!(made["livenessProbe"], json!({"httpGet": {"path": "/", "port": 8080}}));
}

/// Apply refuses lists with a name twice; Kubernetes takes the last.
#[test]
fn the_last_of_each_name_counts() {
    let made = made(json!({"env": [
        {"name": "A", "value": "1"}, {"name": "PORT", "value": "9"}, {"name": "A", "value": "2"},
        {"name": "K_SERVICE", "value": "mine"},
    ]}));
    let shown: Vec<String> = made["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{}={}", one.text("/name"), one.text("/value")))
        .collect();
    let expected =
        ["A=2", "PORT=8080", "K_REVISION=hello-00001", "K_CONFIGURATION=hello", "K_SERVICE=hello"];
    assert_eq!(shown, expected);
}

#[test]
fn others_beside_the_one_with_the_port_are_left_alone() {
    let mut revision = revision();
    revision["spec"]["containers"] = json!([
        {"name": "side", "readinessProbe": {"httpGet": {"port": 1234}}},
        {"name": "main", "ports": [{"containerPort": 80}]},
    ]);
    assert_eq!(pod::serving(&revision).unwrap()["name"], "main");
    let made = pod::pod_spec(&revision, &alone());
    let side = &made["containers"][0];
    assert_eq!(side["readinessProbe"], json!({"httpGet": {"port": 1234}, "periodSeconds": 1}));
    assert_eq!(side.get("ports"), None);
    let names: Vec<&str> = side.list("/env").iter().map(|one| one.text("/name")).collect();
    assert_eq!(names, ["K_REVISION", "K_CONFIGURATION", "K_SERVICE"]);
    let expected = json!([{"name": "user-port", "containerPort": 80, "protocol": "TCP"}]);
    assert_eq!(made["containers"][1]["ports"], expected);
}

#[test]
fn fields_of_newer_clusters_stay_and_the_manifests_affinity_wins() {
    let mut revision = revision();
    revision["spec"]["newField"] = json!({"a": 1});
    revision["spec"]["containers"][0]["newField"] = json!(2);
    let made = pod::pod_spec(&revision, &DeploymentConfig::default());
    assert_eq!(made["newField"], json!({"a": 1}));
    assert_eq!(made["containers"][0]["newField"], 2);
    assert!(made["affinity"]["podAntiAffinity"].is_object());
    revision["spec"]["affinity"] = json!({"nodeAffinity": {}});
    assert_eq!(
        pod::pod_spec(&revision, &DeploymentConfig::default())["affinity"],
        json!({"nodeAffinity": {}})
    );
    assert_eq!(made["terminationGracePeriodSeconds"], 35);
}

#[test]
fn a_pod_is_held_by_tidegate_where_kubelets_can_ask_it() {
    let hold = |address: Option<&str>| {
        let address = address.map(|address| address.parse().unwrap());
        let config = DeploymentConfig { prestop_address: address, ..alone() };
        pod::pod_spec(&revision(), &config)["containers"][0]["lifecycle"].clone()
    };
    // Its revision's timeout is 5 s.
    assert_eq!(hold(None), json!({"preStop": {"sleep": {"seconds": 5}}}));
    let asked = |host: &str| {
        let path = "/prestop/ns/hello-00001/5";
        json!({"preStop": {"httpGet": {"host": host, "port": 80, "path": path, "scheme": "HTTP"}}})
    };
    assert_eq!(hold(Some("10.96.0.8:80")), asked("10.96.0.8"));
    assert_eq!(hold(Some("[fd00::8]:80")), asked("fd00::8"));
}
