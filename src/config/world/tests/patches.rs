//! A load of what changed comes to the same as a load of everything.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::rollout::Standing;
use crate::model::{Evidence, Tally};

/// Names with their namespaces; `a-b` and `a` can clash in hosts of tags and revisions' names.
const NAMES: [(&str, &str); 5] =
    [("default", "a"), ("default", "a-b"), ("default", "c"), ("other", "a"), ("other", "tag-a")];

/// One document.
fn document() -> impl Strategy<Value = String> {
    let names = (0..NAMES.len(), 0..NAMES.len());
    (names, 0_u8..4, 0_u8..100, any::<bool>()).prop_map(|((name, other), command, kind, twist)| {
        let (namespace, name) = NAMES[name];
        let other = NAMES[other].1;
        match kind {
            0..60 => a_service(namespace, name, command, kind, twist),
            60..75 => format!(
                "apiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\nmetadata: {{name: \
                 d{command}.example.com, namespace: {namespace}}}\nspec: {{ref: {{apiVersion: \
                 serving.knative.dev/v1, kind: Service, name: {name}}}}}\n"
            ),
            75..90 => {
                let target = match twist {
                    true => format!("kind: Service, name: {name}"),
                    false => format!("kind: Revision, name: {name}-0000{command}"),
                };
                format!(
                    "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\nmetadata: \
                     {{name: {other}, namespace: {namespace}}}\nspec: {{scaleTargetRef: \
                     {{{target}}}, minScale: {command}, maxScale: 9, metrics: []}}\n"
                )
            }
            90..92 => format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-autoscaler}}\ndata: \
                 {{min-scale: \"{command}\"}}\n"
            ),
            92..94 => "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n".to_owned(),
            94 => "metadata:\nspec: {}\n".to_owned(),
            95 => "a: [\n".to_owned(),
            96 => format!(
                "apiVersion: serving.knative.dev/v1\nkind: Revision\nmetadata: {{name: \
                 {name}-00009, namespace: {namespace}, labels: {{serving.knative.dev/service: \
                 {name}}}}}\nspec: {{containers: [{{image: x, command: [a]}}]}}\n"
            ),
            97 => format!(
                "apiVersion: serving.knative.dev/v1\nkind: Route\nmetadata: {{name: front, \
                 namespace: {namespace}}}\nspec: {{traffic: [{{configurationName: {name}, percent: \
                 100}}]}}\n"
            ),
            _ => a_service(namespace, name, command, kind, twist)
                .replace("kind: Service\n", "kind: Configuration\n"),
        }
    })
}

fn a_service(namespace: &str, name: &str, command: u8, kind: u8, twist: bool) -> String {
    let traffic = match kind {
        0..8 => "  traffic: [{latestRevision: true, percent: 100, tag: tag}]\n".to_owned(),
        8..14 => format!(
            "  traffic: [{{revisionName: {name}-00001, percent: 90}}, {{latestRevision: true, \
             percent: 10}}]\n"
        ),
        14..16 => format!("  traffic: [{{revisionName: {name}-00003, percent: 100}}]\n"),
        _ => String::new(),
    };
    let mut text = service(name, &format!("c{command}"), &traffic);
    let annotations = match kind {
        16..24 => ", annotations: {serving.knative.dev/rollout-duration: 10s}",
        32..42 => {
            ", annotations: {tidegate.dev/rollout: canary, tidegate.dev/rollout-step-time: 1s}"
        }
        _ => "",
    };
    let metadata = format!("metadata: {{name: {name}, namespace: {namespace}{annotations}}}");
    text = text.replace(&format!("metadata: {{name: {name}}}"), &metadata);
    if (24..28).contains(&kind) && twist {
        // A name of its own, which may be another one's generated name.
        let own = format!("metadata: {{name: {name}-b-00001}}");
        text = text.replace(
            "    spec:\n      containers",
            &format!("    {own}\n    spec:\n      containers"),
        );
    }
    if (28..32).contains(&kind) {
        text = text.replace("command:", "securityContext: {runAsUser: 1}\n        command:");
    }
    if (32..40).contains(&kind) {
        let other = NAMES[usize::from(kind) % NAMES.len()];
        let needed = format!("{}/{}", other.0, other.1);
        text = text.replace(
            "  template:\n",
            &format!(
                "  template:\n    metadata: {{annotations: {{tidegate.dev/depends-on: {needed}}}}}\n"
            ),
        );
    }
    text
}

/// What was counted of two revisions by now: of every second one that is new half failed.
fn counted(now: u64, new: &RevisionId, since: UnixNanos) -> Evidence {
    let seconds = now.saturating_sub(since.0 / 1_000_000_000);
    let (over, requests) = (Duration::from_secs(seconds), seconds * 50);
    let errors = if new.name.ends_with(['1', '3', '5']) { requests / 2 } else { 0 };
    let tally = |errors| Tally { requests, errors, ..Tally::default() };
    Evidence { over, old: tally(0), new: tally(errors) }
}

/// Both loaders and what they were given.
struct Pair {
    patched: Loader,
    whole: Loader,
    files: BTreeMap<String, String>,
    now: u64,
    patches: usize,
}

impl Pair {
    fn new() -> Self {
        let loader = || Loader::new(LoaderOptions::default());
        Self { patched: loader(), whole: loader(), files: BTreeMap::new(), now: 1, patches: 0 }
    }

    fn write(&mut self, file: &str, text: Option<String>) -> Result<(), TestCaseError> {
        match text {
            Some(text) => self.files.insert(file.to_owned(), text),
            None => self.files.remove(file),
        };
        let files: Vec<SourceFile> =
            self.files.iter().map(|(path, text)| SourceFile::new(path, text.as_str())).collect();
        let now = self.now;
        let moment = Moment {
            now: UnixNanos(now * 1_000_000_000),
            standing: &|_| Standing::Ready,
            is_ready: &|id| (now + id.name.len() as u64).is_multiple_of(2),
            counted: &|_, new, since| Some(counted(now, new, since)),
        };
        let changes = self.patched.cache.changes(&files);
        let changed = self.patched.cache.take(changes);
        let patched = self.patched.patch(&changed, &moment);
        self.patches += usize::from(patched.is_some());
        let patched = patched.unwrap_or_else(|| self.patched.load_whole(&moment));
        let changes = self.whole.cache.changes(&files);
        self.whole.cache.take(changes);
        let whole = self.whole.load_whole(&moment);
        self.compare(&patched, &whole)
    }

    fn compare(&self, patched: &Loaded, whole: &Loaded) -> Result<(), TestCaseError> {
        prop_assert_eq!(problems(patched), problems(whole));
        let sorted = |loaded: &Loaded| {
            let mut warnings = loaded.warnings.clone();
            warnings.sort();
            warnings.join("\n")
        };
        prop_assert_eq!(sorted(patched), sorted(whole));
        prop_assert_eq!(&patched.collected, &whole.collected);
        prop_assert_eq!(&patched.logging, &whole.logging);
        prop_assert_eq!(&patched.world, &whole.world);
        prop_assert_eq!(&self.patched.stamps, &self.whole.stamps);
        prop_assert_eq!(&self.patched.rolling, &self.whole.rolling);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_patch_comes_to_what_a_load_of_everything_does(
        start in proptest::collection::btree_map(0..NAMES.len(), (0_u8..4, 0_u8..60), 0..NAMES.len()),
        steps in proptest::collection::vec(
            (0_usize..5, proptest::option::weighted(0.9, proptest::collection::vec(document(), 0..3)), 0_u64..4),
            1..16,
        ),
    ) {
        let mut pair = Pair::new();
        for (index, (command, kind)) in start {
            let (namespace, name) = NAMES[index];
            let text = a_service(namespace, name, command, kind, false);
            pair.write(&format!("{index}.yaml"), Some(text))?;
        }
        for (file, documents, seconds) in steps {
            pair.now += seconds;
            let text = documents.map(|documents| documents.join("---\n"));
            pair.write(&format!("{file}.yaml"), text)?;
        }
    }
}

/// That the property above is about something: edits of services are patches.
#[test]
fn what_is_a_patch() {
    let mut pair = Pair::new();
    let write = |pair: &mut Pair, file: &str, text: Option<&str>| {
        let before = pair.patches;
        pair.write(file, text.map(str::to_owned)).unwrap();
        pair.patches > before
    };
    let scaler = "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\nmetadata: \
                  {name: a}\nspec: {scaleTargetRef: {kind: Service, name: a}, minScale: 1, \
                  maxScale: 9}\n";
    let mapping = "apiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\nmetadata: {name: \
                   a.example.com}\nspec: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, \
                   name: a}}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b}\n";
    let (a, b) = (service("a", "x", ""), service("b", "x", ""));
    let both = [a.as_str(), b.as_str()].join("---\n");
    for (file, text, expected) in [
        ("0", Some(a.as_str()), false),
        ("1", Some(b.as_str()), true),
        ("0", Some(&service("a", "v", "")), true),
        ("2", Some(scaler), true),
        ("3", Some(mapping), true),
        ("4", Some(map), false),
        ("0", Some(&service("a", "w", "")), true),
        // Two of one name, and back.
        ("0", Some(&both), false),
        ("0", Some(&a), false),
        ("1", None, true),
        ("0", Some(&both), true),
        // What is not read, and what is wrong.
        ("5", Some("a: ["), false),
        ("5", None, false),
        ("0", Some(&a), true),
        // The last service goes while nobody knows what is gone: its stamps are kept until another
        // one is there.
        ("5", Some("a: ["), false),
        ("0", None, false),
        ("5", None, false),
        ("0", Some(&b), false),
        // What is said of a missing scale target may be over now.
        ("0", Some(&a), false),
        ("0", Some(&service("a", "z", "")), true),
    ] {
        assert_eq!(write(&mut pair, file, text), expected, "{file}: {text:?}");
    }
}
