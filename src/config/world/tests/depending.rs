//! Services that depend on others: circles, what is not there, and new revisions that wait.

use expect_test::{Expect, expect};

use super::*;
use crate::config::rollout::Standing;

/// A service that runs `command` and depends on what is listed; further lines below `spec`.
fn needing(name: &str, command: &str, needed: &str, spec: &str) -> String {
    let text = service(name, command, spec);
    if needed.is_empty() {
        return text;
    }
    let annotation =
        format!("    metadata: {{annotations: {{tidegate.dev/depends-on: \"{needed}\"}}}}\n");
    text.replace("  template:\n", &format!("  template:\n{annotation}"))
}

/// What is known of revisions at the moment of a load.
#[derive(Default)]
struct Known {
    ready: Vec<&'static str>,
    failing: Vec<&'static str>,
}

impl Known {
    fn at<T>(&self, run: impl FnOnce(&Moment<'_>) -> T) -> T {
        let is_ready = |id: &RevisionId| self.ready.contains(&&*id.name);
        let standing = |id: &RevisionId| match self.failing.contains(&&*id.name) {
            true => Standing::Failing,
            false => Standing::Ready,
        };
        run(&Moment {
            now: UnixNanos(1),
            standing: &standing,
            is_ready: &is_ready,
            ..Moment::default()
        })
    }

    /// Loads all with these files written anew.
    fn load(&self, bench: &mut Bench, files: &[(&str, String)]) -> Loaded {
        for (path, text) in files {
            bench.files.insert((*path).to_owned(), text.clone());
        }
        let files: Vec<SourceFile> =
            bench.files.iter().map(|(path, text)| SourceFile::new(path, text.as_str())).collect();
        self.at(|moment| bench.loader.load_at(&files, moment))
    }

    /// Looks whether something that was waited for is ready; the world then.
    fn advance(&self, bench: &mut Bench) -> Option<Arc<World>> {
        self.at(|moment| match bench.loader.advance(moment) {
            Advance::Still => None,
            Advance::Moved(world) => Some(world),
            Advance::Loaded(loaded) => Some(loaded.world),
            Advance::Reload => Some(bench.loader.load_changes(Vec::new(), moment).world),
        })
    }
}

/// Services with traffic and conditions, then what is waited for.
fn shown(world: &World) -> String {
    let mut text = String::new();
    for service in &world.services {
        text.push_str(&traffic_of(service));
        for warning in &service.warnings {
            text.push_str(&format!("\n  {warning}"));
        }
        text.push('\n');
    }
    let awaited: Vec<&str> = world.awaited.iter().map(|id| &*id.name).collect();
    format!("{text}awaited: {}", awaited.join(" "))
}

#[expect(clippy::needless_pass_by_value, reason = "reads better")]
fn check(world: &World, expected: Expect) {
    expected.assert_eq(&shown(world));
}

#[test]
fn a_circle_is_named_and_what_made_it_keeps_its_former_self() {
    let mut bench = Bench::new();
    let files = [
        ("a.yaml", needing("a", "one", "b, other/x", "")),
        ("b.yaml", needing("b", "one", "c", "")),
        ("c.yaml", needing("c", "one", "", "")),
    ];
    let known = Known::default();
    assert_good(&known.load(&mut bench, &files));
    let loaded = known.load(&mut bench, &[("c.yaml", needing("c", "two", "b, a=a-00001", ""))]);
    expect!["c.yaml:6: document 1: spec.template.metadata.annotations.tidegate.dev/depends-on: a circle: default/a → default/b → default/c → default/a; leave one of them out: a service that is called back is no dependency"]
    .assert_eq(&problems(&loaded));
    assert_eq!(
        traffic(&loaded),
        "default/a: a-00001 100%\ndefault/b: b-00001 100%\ndefault/c: c-00001 100%"
    );
    // Mended, it is taken.
    let loaded = known.load(&mut bench, &[("c.yaml", needing("c", "two", "", ""))]);
    assert_eq!(problems(&loaded), "");
    assert!(traffic(&loaded).ends_with("default/c: c-00002 100%"));
}

#[test]
fn at_first_each_member_of_a_circle_is_told() {
    let mut bench = Bench::new();
    let files = [
        ("a.yaml", needing("a", "one", "b", "")),
        ("b.yaml", needing("b", "one", "a", "")),
        ("c.yaml", needing("c", "one", "c", "")),
    ];
    let loaded = Known::default().load(&mut bench, &files);
    let told: Vec<&str> = loaded.problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "a circle: default/a → default/b → default/a",
            "a circle: default/a → default/b → default/a",
            "a circle: default/c → default/c",
        ]
    );
}

#[test]
fn what_is_not_there_is_warned_of_until_it_comes() {
    let mut bench = Bench::new();
    let known = Known::default();
    let loaded = known.load(&mut bench, &[("a.yaml", needing("a", "one", "b, c=c-00001", ""))]);
    let expected = "service default/a: DependencyMissing: it depends on default/b, \
                    default/c=c-00001, not there";
    assert_eq!(loaded.warnings, [expected]);
    let loaded = known.load(&mut bench, &[("b.yaml", needing("b", "one", "", ""))]);
    assert!(loaded.warnings[0].ends_with("it depends on default/c=c-00001, not there"));
    let loaded = known.load(&mut bench, &[("c.yaml", needing("c", "one", "", ""))]);
    assert_eq!(loaded.warnings, [""; 0]);
    let loaded = bench.remove("b.yaml");
    assert!(loaded.warnings[0].ends_with("it depends on default/b, not there"));
    let options = LoaderOptions { strict: true, ..LoaderOptions::default() };
    let mut strict = Bench::with(options);
    let loaded = known.load(&mut strict, &[("a.yaml", needing("a", "one", "b", ""))]);
    expect!["a.yaml:6: document 1: spec.template.metadata.annotations.tidegate.dev/depends-on: DependencyMissing: it depends on default/b, not there; add them, or correct their names"].assert_eq(&problems(&loaded));
}

#[test]
fn a_new_revision_waits_for_what_it_depends_on() {
    let mut bench = Bench::new();
    let mut known = Known::default();
    let files = [("a.yaml", needing("a", "one", "b", "")), ("b.yaml", needing("b", "one", "", ""))];
    // The first revision has nobody before it.
    let loaded = known.load(&mut bench, &files);
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00001 100%
        default/b: b-00001 100%
        awaited: "#]],
    );
    let loaded = known.load(&mut bench, &[("a.yaml", needing("a", "two", "b", ""))]);
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00001 100%
          DependenciesNotReady: a-00002 gets traffic once what it depends on is ready: default/b (b-00001 starts)
        default/b: b-00001 100%
        awaited: b-00001"#]],
    );
    assert_eq!(known.advance(&mut bench), None, "nothing is ready yet");
    known.failing.push("b-00001");
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
        default/a: a-00001 100%
          DependenciesNotReady: a-00002 gets traffic once what it depends on is ready: default/b (b-00001 cannot be started)
        default/b: b-00001 100%
        awaited: b-00001"#]],
    );
    assert_eq!(known.advance(&mut bench), None);
    // What else changes meanwhile takes effect.
    let other = known.load(&mut bench, &[("z.yaml", needing("z", "one", "", ""))]);
    assert!(traffic(&other).contains("a: a-00001 100%"));
    known.failing.clear();
    known.ready.push("b-00001");
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
        default/a: a-00002 100%
        default/b: b-00001 100%
        default/z: z-00001 100%
        awaited: "#]],
    );
    assert_eq!(known.advance(&mut bench), None);
    // What depends on nothing new waits for nothing, whatever becomes of the other.
    known.ready.clear();
    let loaded = known.load(&mut bench, &[("b.yaml", needing("b", "two", "", ""))]);
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00002 100%
        default/b: b-00002 100%
        default/z: z-00001 100%
        awaited: "#]],
    );
}

#[test]
fn a_whole_chain_comes_in_order() {
    let mut bench = Bench::new();
    let mut known = Known { ready: vec!["a-00001", "b-00001", "c-00001"], ..Known::default() };
    let files = |command: &str| {
        [
            ("a.yaml", needing("a", command, "b", "")),
            ("b.yaml", needing("b", command, "c", "")),
            ("c.yaml", needing("c", command, "", "")),
        ]
    };
    known.load(&mut bench, &files("one"));
    let loaded = known.load(&mut bench, &files("two"));
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00001 100%
          DependenciesNotReady: a-00002 gets traffic once what it depends on is ready: default/b, whose new revision waits itself
        default/b: b-00001 100%
          DependenciesNotReady: b-00002 gets traffic once what it depends on is ready: default/c (c-00002 starts)
        default/c: c-00002 100%
        awaited: c-00002"#]],
    );
    known.ready.push("c-00002");
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
        default/a: a-00001 100%
          DependenciesNotReady: a-00002 gets traffic once what it depends on is ready: default/b (b-00002 starts)
        default/b: b-00002 100%
        default/c: c-00002 100%
        awaited: b-00002"#]],
    );
    known.ready.push("b-00002");
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
        default/a: a-00002 100%
        default/b: b-00002 100%
        default/c: c-00002 100%
        awaited: "#]],
    );
}

#[test]
fn a_locked_version_has_to_have_traffic() {
    let mut bench = Bench::new();
    let mut known = Known { ready: vec!["b-00001", "b-00002"], ..Known::default() };
    let pinned = |revision: &str| {
        format!(
            "  traffic: [{{revisionName: {revision}, percent: 100}}, {{latestRevision: true, percent: 0, tag: next}}]\n"
        )
    };
    let files = [("a.yaml", needing("a", "one", "", "")), ("b.yaml", needing("b", "one", "", ""))];
    known.load(&mut bench, &files);
    let files = [
        ("a.yaml", needing("a", "two", "b=b-00003", "")),
        ("b.yaml", needing("b", "two", "", &pinned("b-00001"))),
    ];
    let loaded = known.load(&mut bench, &files);
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00001 100%
          DependenciesNotReady: a-00002 gets traffic once what it depends on is ready: default/b=b-00003, to which no traffic leads
        default/b: b-00001 100% next→b-00002
        awaited: "#]],
    );
    // By a tag it can be reached, and is started for that.
    let loaded =
        known.load(&mut bench, &[("b.yaml", needing("b", "three", "", &pinned("b-00002")))]);
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00001 100%
          DependenciesNotReady: a-00002 gets traffic once what it depends on is ready: default/b=b-00003 (b-00003 starts)
        default/b: b-00002 100% next→b-00003
        awaited: b-00003"#]],
    );
    known.ready.push("b-00003");
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
        default/a: a-00002 100%
        default/b: b-00002 100% next→b-00003
        awaited: "#]],
    );
}

#[test]
fn what_is_held_back_survives_a_restart_and_moves_step_by_step() {
    let mut bench = Bench::new();
    let mut known = Known::default();
    let slow = |command: &str| {
        needing("a", command, "b", "").replace(
            "metadata: {name: a}",
            "metadata: {name: a, annotations: {serving.knative.dev/rollout-duration: 100s}}",
        )
    };
    known.load(&mut bench, &[("a.yaml", slow("one")), ("b.yaml", needing("b", "one", "", ""))]);
    known.load(&mut bench, &[("a.yaml", slow("two"))]);
    let stamps = bench.loader.stamps().clone();
    bench.loader = Loader::new(LoaderOptions::default()).with_stamps(stamps);
    let loaded = known.load(&mut bench, &[]);
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00001 100%
          DependenciesNotReady: a-00002 gets traffic once what it depends on is ready: default/b (b-00001 starts)
        default/b: b-00001 100%
        awaited: b-00001"#]],
    );
    known.ready.push("b-00001");
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
        default/a: a-00001 99% a-00002 1%
          RolloutInProgress: a-00002 has 1 of 100 %, more once that is in effect
        default/b: b-00001 100%
        awaited: "#]],
    );
}

#[test]
fn what_it_depends_on_need_not_be_ready_all_at_once() {
    let mut bench = Bench::new();
    let mut known = Known::default();
    let files = [
        ("a.yaml", needing("a", "one", "b, c", "")),
        ("b.yaml", needing("b", "one", "", "")),
        ("c.yaml", needing("c", "one", "", "")),
    ];
    known.load(&mut bench, &files);
    known.load(&mut bench, &[("a.yaml", needing("a", "two", "b, c", ""))]);
    // One replica for all of them (`--max-replicas 1`): they take turns.
    known.ready = vec!["b-00001"];
    let world = known.advance(&mut bench).unwrap();
    assert_eq!(world.awaited.iter().map(|id| &*id.name).collect::<Vec<_>>(), ["c-00001"]);
    known.ready.clear();
    assert_eq!(known.advance(&mut bench), None, "what was ready is not started again");
    known.ready = vec!["c-00001"];
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
            default/a: a-00002 100%
            default/b: b-00001 100%
            default/c: c-00001 100%
            awaited: "#]],
    );
    // What was ready while another revision waited says nothing.
    known.ready.clear();
    let loaded = known.load(&mut bench, &[("a.yaml", needing("a", "three", "b, c", ""))]);
    check(
        &loaded.world,
        expect![[r#"
        default/a: a-00002 100%
          DependenciesNotReady: a-00003 gets traffic once what it depends on is ready: default/b (b-00001 starts); default/c (c-00001 starts)
        default/b: b-00001 100%
        default/c: c-00001 100%
        awaited: b-00001 c-00001"#]],
    );
    // Nor what cannot be started any more.
    known.ready = vec!["b-00001"];
    known.advance(&mut bench).unwrap();
    known.ready = vec!["c-00001"];
    known.failing = vec!["b-00001"];
    check(
        &known.advance(&mut bench).unwrap(),
        expect![[r#"
        default/a: a-00002 100%
          DependenciesNotReady: a-00003 gets traffic once what it depends on is ready: default/b (b-00001 cannot be started)
        default/b: b-00001 100%
        default/c: c-00001 100%
        awaited: b-00001"#]],
    );
}
