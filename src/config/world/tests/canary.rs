//! New revisions that are tried beside the old one, load after load.

use std::time::Duration;

use super::*;
use crate::config::rollout::Standing;
use crate::model::{Evidence, Tally};

/// A service whose new revisions are tried.
fn tried(command: &str, spec: &str) -> String {
    let annotations = "annotations: {tidegate.dev/rollout: canary, \
                       tidegate.dev/rollout-steps: '10,50'}";
    service("hello", command, spec)
        .replace("{name: hello}", &format!("{{name: hello, {annotations}}}"))
}

/// Without the annotation.
fn plain(command: &str) -> String {
    service("hello", command, "")
}

struct Stage {
    bench: Bench,
    standing: Standing,
    /// Requests of both in the step, and failures of the new one.
    seen: (u64, u64),
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self { bench: Bench::new(), standing: Standing::Ready, seen: (0, 0) };
        assert_eq!(stage.write(&tried("a", "")), "hello-00001 100%");
        stage
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Loader, &Moment<'_>) -> T) -> T {
        let (standing, (requests, errors)) = (self.standing, self.seen);
        let counted = move |_: &RevisionId, _: &RevisionId, _: UnixNanos| {
            let tally = |errors| {
                let mut tally = Tally { requests, errors, ..Tally::default() };
                (errors..requests).for_each(|_| tally.latencies.record(Duration::from_millis(20)));
                tally
            };
            Some(Evidence { over: Duration::from_secs(60), old: tally(0), new: tally(errors) })
        };
        self.bench.now += 1;
        let now = self.bench.moment();
        let standing = move |_: &RevisionId| standing;
        act(
            &mut self.bench.loader,
            &Moment { now, standing: &standing, counted: &counted, ..Moment::default() },
        )
    }

    fn write(&mut self, text: &str) -> String {
        let files = [SourceFile::new("app.yaml", text)];
        let loaded = self.with(|loader, moment| loader.load_at(&files, moment));
        assert_good(&loaded);
        shown(&loaded.world)
    }

    fn look(&mut self, requests: u64, errors: u64) -> String {
        self.seen = (requests, errors);
        match self.with(Loader::advance) {
            Advance::Still => "still".to_owned(),
            Advance::Moved(world) => shown(&world),
            Advance::Loaded(loaded) => format!("loaded: {}", shown(&loaded.world)),
            Advance::Reload => panic!("one service moves by itself"),
        }
    }

    fn order(&mut self, new: &NewTraffic) -> String {
        let id = ServiceId::new("default", "hello");
        let ordered = self.with(|loader, moment| loader.order_traffic(&id, new, moment));
        shown(&ordered.unwrap().1.world)
    }

    fn restart(&mut self) {
        let stored = serde_json::to_string(self.bench.loader.stamps()).unwrap();
        let loader = Loader::new(LoaderOptions::default());
        self.bench.loader = loader.with_stamps(serde_json::from_str(&stored).unwrap());
    }

    fn said(&self) -> String {
        self.bench.loader.world.services[0].warnings.join("\n")
    }
}

/// Shares of the only service, and its canaries.
fn shown(world: &World) -> String {
    let service = &world.services[0];
    let share = |target: &crate::model::TrafficTarget| {
        format!("{} {}%", target.revision.name, target.percent)
    };
    let mut parts: Vec<String> = service.traffic.iter().map(share).collect();
    for tag in service.tags.iter().filter(|tag| !tag.moving.is_empty()) {
        parts.push(format!("#{}", tag.name));
        parts.extend(tag.moving.iter().map(share));
    }
    for canary in &service.canaries {
        let back = if canary.state.taken_back.is_some() { " taken back" } else { "" };
        parts.push(format!("({}{back})", canary.new.name));
    }
    parts.join(" ")
}

#[test]
fn a_good_one_gets_through() {
    let b = tried("b", "");
    let mut stage = Stage::new();
    assert_eq!(stage.write(&b), "hello-00001 90% hello-00002 10% (hello-00002)");
    assert_eq!(
        stage.said(),
        "RolloutInProgress: hello-00002 has 10 of 100 % beside hello-00001, step 1 of 2: more once \
         100 answers and 30 s show no harm"
    );
    assert_eq!(stage.look(50, 0), "hello-00001 90% hello-00002 10% (hello-00002)");
    assert_eq!(stage.look(50, 0), "still");
    let next = stage.with(|loader, moment| loader.next_step(moment));
    assert!(next.is_some(), "it is looked at again");
    assert_eq!(stage.look(100, 0), "hello-00001 50% hello-00002 50% (hello-00002)");
    stage.restart();
    assert_eq!(stage.write(&b), "hello-00001 50% hello-00002 50% (hello-00002)");
    stage.look(1, 0);
    assert_eq!(stage.look(101, 1), "loaded: hello-00002 100%");
    assert_eq!(stage.said(), "");
    assert_eq!(stage.bench.loader.rolling().count(), 0);
}

#[test]
fn a_bad_one_is_taken_back_until_there_is_a_newer_one() {
    let b = tried("b", "");
    let mut stage = Stage::new();
    stage.write(&b);
    stage.look(1, 0);
    let back = "hello-00001 100% (hello-00002 taken back)";
    assert_eq!(stage.look(100, 30), format!("loaded: {back}"));
    assert_eq!(
        stage.said(),
        "RolloutTakenBack: hello-00002 has none of 100 %, hello-00001 has all: 30 of 100 requests \
         failed (30 %), of hello-00001 0 of 100 (0 %): more than 1 point above"
    );
    // It costs nothing, and is not looked at any more.
    let is_reachable = |stage: &Stage| stage.bench.loader.world.revisions[1].scaling.reachable;
    assert!(!is_reachable(&stage));
    assert_eq!(stage.bench.loader.rolling().count(), 0);
    assert_eq!(stage.look(1_000, 0), "still");
    stage.restart();
    assert_eq!(stage.write(&b), back);
    assert_eq!(stage.write(&format!("# a comment\n{b}")), back);
    assert!(stage.said().starts_with("RolloutTakenBack: "));
    assert_eq!(stage.write(&tried("c", "")), "hello-00001 90% hello-00003 10% (hello-00003)");
    // Before the newer one proved itself another one comes, which cannot start.
    assert_eq!(stage.write(&tried("d", "")), "hello-00001 90% hello-00004 10% (hello-00004)");
    stage.look(0, 0);
    stage.standing = Standing::Failing;
    assert_eq!(stage.look(0, 0), "loaded: hello-00001 100% (hello-00004 taken back)");
    assert!(stage.said().contains("its replicas cannot be started"), "{}", stage.said());
}

#[test]
fn what_is_ordered_is_not_tried() {
    let mut stage = Stage::new();
    stage.write(&tried("b", ""));
    let to_latest = NewTraffic::Shares(vec![(None, 100)]);
    assert_eq!(stage.order(&to_latest), "hello-00002 100%");
    // The next one is, beside the one that was ordered.
    assert_eq!(stage.write(&tried("c", "")), "hello-00002 90% hello-00003 10% (hello-00003)");
    stage.look(1, 0);
    stage.look(100, 50);
    assert_eq!(stage.order(&to_latest), "hello-00003 100%");
    assert_eq!(stage.write(&tried("d", "")), "hello-00003 90% hello-00004 10% (hello-00004)");
    assert_eq!(stage.order(&NewTraffic::Rollback), "hello-00003 100%");
    assert_eq!(stage.write(&tried("e", "")), "hello-00003 100%", "it is pinned now");
}

#[test]
fn without_the_annotation_it_is_a_plain_rollout() {
    let mut stage = Stage::new();
    stage.write(&tried("b", ""));
    stage.look(1, 0);
    stage.look(100, 50);
    assert_eq!(stage.write(&plain("b")), "hello-00002 100%");
    assert_eq!(stage.said(), "");
}

#[test]
fn only_what_follows_the_latest_is_tried() {
    let spec = "  traffic:\n  - {revisionName: hello-00001, percent: 60}\n  \
                - {latestRevision: true, percent: 40, tag: next}\n";
    let mut stage = Stage::new();
    assert_eq!(
        stage.write(&tried("b", spec)),
        "hello-00001 96% hello-00002 4% (hello-00002)",
        "a new tag leads to the latest at once"
    );
    stage.look(1, 0);
    stage.look(100, 0);
    assert_eq!(stage.look(1, 0), "hello-00001 80% hello-00002 20% (hello-00002)");
    stage.look(100, 0);
    assert_eq!(
        stage.write(&tried("c", spec)),
        "hello-00001 60% hello-00002 36% hello-00003 4% #next hello-00002 90% hello-00003 10% \
         (hello-00003) (hello-00003)"
    );
    stage.look(1, 0);
    assert_eq!(
        stage.look(100, 50),
        "loaded: hello-00001 60% hello-00002 40% #next hello-00002 100% (hello-00003 taken back) \
         (hello-00003 taken back)"
    );
    let pinned = "  traffic: [{revisionName: hello-00001, percent: 100}]\n";
    assert_eq!(stage.write(&tried("d", pinned)), "hello-00001 100%");
}

#[test]
fn misplaced_annotations_say_where_they_belong() {
    let refused = |text: &str| {
        let mut bench = Bench::new();
        problems(&bench.write("a.yaml", text))
    };
    let text = refused(&tried("a", "").replace("rollout-steps: '10,50'", "rollout-stepz: '10'"));
    assert!(text.contains("metadata.annotations.tidegate.dev/rollout-stepz"), "{text}");
    assert!(text.contains("write tidegate.dev/rollout-steps"), "{text}");
    let on_template = service("hello", "a", "").replace(
        "template:\n",
        "template:\n    metadata: {annotations: {tidegate.dev/rollout: canary}}\n",
    );
    let text = refused(&on_template);
    assert!(text.contains("move it to metadata.annotations of the Service or Route"), "{text}");
    let text = refused(
        &tried("a", "").replace("tidegate.dev/rollout-steps: '10,50'", "tidegate.dev/eager: 'no'"),
    );
    assert!(text.contains("move it to spec.template.metadata.annotations"), "{text}");
}
