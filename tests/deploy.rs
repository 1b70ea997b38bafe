//! The files of `deploy`: complete, fit for this program, and the Helm chart made from the manifests,
//! so that there is one source. `UPDATE_EXPECT=1 cargo test --test deploy` writes the chart's
//! templates anew.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "deploy/docker.rs"]
mod docker;
#[path = "deploy/options.rs"]
mod options;
#[path = "deploy/systemd.rs"]
mod systemd;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The files of a folder that are YAML.
fn files(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(path(folder)).unwrap().map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml").collect()
}

/// What a kustomization lists.
fn listed(folder: &str) -> Vec<String> {
    let text = read(&format!("{folder}/kustomization.yaml"));
    text.lines().filter_map(|line| line.strip_prefix("  - ")).map(str::to_owned).collect()
}

#[test]
fn kustomizations_list_every_file() {
    for folder in ["deploy/kubernetes", "deploy/kubernetes/crds"] {
        let names: BTreeSet<String> = listed(folder).into_iter().collect();
        assert_eq!(names, files(folder), "{folder}");
    }
}

#[test]
fn versions_are_those_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    let deployment = read("deploy/kubernetes/deployment.yaml");
    assert!(deployment.contains(&format!("image: tidegate:{version}\n")));
    let chart = read("deploy/helm/Chart.yaml");
    for field in ["version", "appVersion"] {
        assert!(chart.contains(&format!("\n{field}: {version}\n")), "{field}");
    }
}

/// The drain lies within the time that Kubernetes gives a pod to end.
#[test]
fn a_pod_has_the_time_to_drain() {
    let deployment = read("deploy/kubernetes/deployment.yaml");
    let number = |before: &str, after: &str| -> u64 {
        let rest = deployment.split_once(before).unwrap().1;
        rest.split_once(after).unwrap().0.parse().unwrap()
    };
    let delay = number("--drain-delay=", "s\n");
    let timeout = number("--drain-timeout=", "s\n");
    let grace = number("terminationGracePeriodSeconds: ", "\n");
    // max-revision-timeout-seconds of config-defaults.
    assert!(timeout >= 600);
    assert!(grace >= delay + timeout);
}

/// What the chart has in place of a text of a manifest.
const REPLACED: &[(&str, &str, &str)] = &[
    ("*", "namespace: tidegate-system", "namespace: {{ .Release.Namespace }}"),
    ("deployment.yaml", "  replicas: 2\n", "  replicas: {{ .Values.replicas }}\n"),
    (
        "deployment.yaml",
        concat!("          image: tidegate:", env!("CARGO_PKG_VERSION"), "\n"),
        concat!(
            "          image: \"{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}\"\n",
            "          imagePullPolicy: {{ .Values.image.pullPolicy }}\n",
        ),
    ),
    (
        "deployment.yaml",
        "          env:\n",
        concat!(
            "            {{- range .Values.args }}\n",
            "            - {{ . | quote }}\n",
            "            {{- end }}\n",
            "          env:\n",
        ),
    ),
    (
        "deployment.yaml",
        "          resources:\n            requests:\n              cpu: 100m\n              memory: 64Mi\n",
        "          resources: {{- toYaml .Values.resources | nindent 12 }}\n",
    ),
    (
        "deployment.yaml",
        "      serviceAccountName: tidegate\n",
        concat!(
            "      serviceAccountName: tidegate\n",
            "      {{- with .Values.image.pullSecrets }}\n",
            "      imagePullSecrets: {{- toYaml . | nindent 8 }}\n",
            "      {{- end }}\n",
            "      {{- with .Values.nodeSelector }}\n",
            "      nodeSelector: {{- toYaml . | nindent 8 }}\n",
            "      {{- end }}\n",
            "      {{- with .Values.tolerations }}\n",
            "      tolerations: {{- toYaml . | nindent 8 }}\n",
            "      {{- end }}\n",
        ),
    ),
    ("services.yaml", "  type: LoadBalancer\n", "  type: {{ .Values.service.type }}\n"),
    (
        "services.yaml",
        "  name: tidegate\n  namespace: {{ .Release.Namespace }}\n",
        concat!(
            "  name: tidegate\n",
            "  namespace: {{ .Release.Namespace }}\n",
            "  {{- with .Values.service.annotations }}\n",
            "  annotations: {{- toYaml . | nindent 4 }}\n",
            "  {{- end }}\n",
        ),
    ),
];

/// A manifest as the chart's template.
fn template(name: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for (file, from, to) in REPLACED.iter().filter(|row| row.0 == "*" || row.0 == name) {
        assert!(*file == "*" || text.contains(from), "{name} has no {from:?}");
        text = text.replace(from, to);
    }
    let condition = match name {
        "network-policies.yaml" => ".Values.networkPolicies.enabled",
        "service-monitor.yaml" => ".Values.serviceMonitor.enabled",
        _ => return text,
    };
    format!("{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n")
}

/// A kind, or what it needs beside it: kept when the chart is uninstalled.
fn kept(text: &str) -> String {
    let mut made = "{{- if .Values.crds.install }}\n".to_owned();
    for line in text.lines() {
        made += &format!("{line}\n");
        if line == "metadata:" {
            made += "  annotations:\n    helm.sh/resource-policy: keep\n";
        }
    }
    made + "{{- end }}\n"
}

#[test]
fn the_chart_is_made_from_the_manifests() {
    let mut made = BTreeSet::new();
    let mut template_is = |name: &str, text: &str| {
        let note = "# Made from deploy/kubernetes; `UPDATE_EXPECT=1 cargo test --test deploy` \
                    writes it anew.\n";
        expect_file![path(&format!("deploy/helm/templates/{name}"))]
            .assert_eq(&format!("{note}{text}"));
        made.insert(name.to_owned());
    };
    // The namespace is the release's.
    for name in listed("deploy/kubernetes").iter().filter(|name| *name != "namespace.yaml") {
        template_is(name, &template(name, &read(&format!("deploy/kubernetes/{name}"))));
    }
    let monitor = read("deploy/kubernetes/monitoring/service-monitor.yaml");
    template_is("service-monitor.yaml", &template("service-monitor.yaml", &monitor));
    for name in listed("deploy/kubernetes/crds") {
        let text = read(&format!("deploy/kubernetes/crds/{name}"));
        template_is(&format!("crd-{name}"), &kept(&text));
    }
    assert_eq!(made, files("deploy/helm/templates"));
}
