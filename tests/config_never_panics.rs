//! Whatever is in a file, reading and admitting it ends with a verdict.

use proptest::prelude::*;
use tidegate::config::yaml::{Node, parse_file};
use tidegate::config::{AdmissionContext, admit};

const SEEDS: [&str; 4] = [
    "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: hello\n  annotations: {serving.knative.dev/rollout-duration: 10s}\nspec:\n  template:\n    metadata:\n      annotations:\n        autoscaling.knative.dev/window: 60s\n        autoscaling.knative.dev/target: \"0x1p3\"\n    spec:\n      containerConcurrency: 5\n      containers:\n        - image: docker.io/example/hello:1\n          ports: [{containerPort: 8080, name: h2c}]\n          env: [{name: A, value: \"1\"}]\n          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 3}\n          resources: {limits: {memory: 1.5Gi}}\n          volumeMounts: [{name: v, mountPath: /data/../x}]\n      volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]\n  traffic:\n    - {percent: 90, revisionName: hello-00001}\n    - {percent: 10, tag: next}\n",
    "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\nmetadata: {name: a}\nspec:\n  scaleTargetRef: {kind: Service, name: hello}\n  minScale: 0\n  target: 10.0\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: aGk=}\nstringData: {x: z}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata: &d\n  stable-window: 60s\n  max-scale-up-rate: '1_0.5'\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-network}\ndata:\n  domain-template: '{{.Name}}-{{index .Annotations \"a\"}}'\n  rollout-duration: '5'\n",
    "apiVersion: logging.knative.dev/v1alpha1\nkind: LoggingConfig\nmetadata: {name: l}\nspec:\n  loggers: {a: {level: INFO}}\n  forwarders: [{type: fluentd, config: {host: h, port: 1}}]\n---\napiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\nmetadata: {name: a.example.com, namespace: x}\nspec: {ref: {kind: Service, name: s, apiVersion: v1}}\n",
];

/// Pieces that mean something to YAML or to a field.
const PIECES: [&str; 26] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "*d",
    "&d ",
    "<<: *d\n",
    "---\n",
    "|\n",
    "null",
    "~",
    "-1",
    "9223372036854775808",
    "1e400",
    "é",
    "\u{feff}",
    "%",
    "{{",
    "1h",
    "0x",
];

fn verdict(text: &str) {
    let parsed = parse_file(text);
    for ctx in [AdmissionContext::default(), AdmissionContext::one_machine()] {
        let mut stored: Option<Node> = None;
        for document in &parsed.documents {
            let admission = admit(&document.node, &ctx, stored.as_ref());
            for problem in admission.problems.iter().chain(&admission.warnings) {
                assert!(!problem.to_string().is_empty());
                assert!(!problem.message.is_empty());
            }
            // What is admitted is admitted again as it was filled in.
            if admission.problems.is_empty() {
                let again = Node::from_json(&admission.object);
                let twice = admit(&again, &ctx, None);
                assert!(twice.problems.is_empty(), "{:?}\n{text}", twice.problems);
                assert_eq!(twice.object, admission.object, "filling in is done once\n{text}");
            }
            stored = Some(Node::from_json(&admission.object));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_manifests(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0..12_usize), 1..6),
    ) {
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (at, piece, cut) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        verdict(&text.iter().collect::<String>());
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        verdict(&text);
    }
}

#[test]
fn the_seeds_are_admitted() {
    for seed in SEEDS {
        let parsed = parse_file(seed);
        assert_eq!(parsed.error, None, "{seed}");
        for document in parsed.documents {
            let admission = admit(&document.node, &AdmissionContext::one_machine(), None);
            assert_eq!(admission.problems, Vec::new(), "{seed}");
        }
        verdict(seed);
    }
}
