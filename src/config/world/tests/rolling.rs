//! Traffic that moves step by step, load after load.

use expect_test::expect;

use super::*;
use crate::config::rollout::{Standing, UnixNanos};

const SECOND: u64 = 1_000_000_000;

/// A service with a duration of ten seconds.
fn slow(command: &str, spec: &str) -> String {
    let annotation = "{name: hello, annotations: {serving.knative.dev/rollout-duration: 10s}}";
    service("hello", command, spec).replace("{name: hello}", annotation)
}

/// A bench with a clock.
struct Slow {
    bench: Bench,
    now: u64,
    standing: Standing,
}

impl Slow {
    fn new() -> Self {
        Self { bench: Bench::new(), now: 1_000, standing: Standing::Ready }
    }

    /// Loads the file with this text; traffic afterwards.
    fn write(&mut self, text: &str) -> String {
        let standing = self.standing;
        let moment = Moment {
            now: UnixNanos(self.now * SECOND),
            standing: &move |_| standing,
            ..Moment::default()
        };
        let files = [SourceFile::new("app.yaml", text)];
        let loaded = self.bench.loader.load_at(&files, &moment);
        assert_good(&loaded);
        shown(&loaded.world)
    }

    /// Moves on after so many seconds, loading the text again if that is asked for.
    fn after(&mut self, seconds: u64, text: &str) -> String {
        self.now += seconds;
        let standing = self.standing;
        let moment = Moment {
            now: UnixNanos(self.now * SECOND),
            standing: &move |_| standing,
            ..Moment::default()
        };
        match self.bench.loader.advance(&moment) {
            Advance::Still => "still".to_owned(),
            Advance::Moved(world) => shown(&world),
            Advance::Loaded(loaded) => format!("loaded: {}", shown(&loaded.world)),
            Advance::Reload => format!("reload: {}", self.write(text)),
        }
    }

    /// Another process goes on with what this one stored.
    fn restart(&mut self) {
        let stored = serde_json::to_string(self.bench.loader.stamps()).unwrap();
        let loader = Loader::new(LoaderOptions::default());
        self.bench.loader = loader.with_stamps(serde_json::from_str(&stored).unwrap());
    }
}

/// Shares of the only service; those of a tag where they differ.
fn shown(world: &World) -> String {
    let service = &world.services[0];
    let share = |target: &crate::model::TrafficTarget| {
        format!(" {} {}%", target.revision.name.trim_start_matches("hello-0000"), target.percent)
    };
    let mut text: String = service.traffic.iter().map(share).collect();
    for tag in service.tags.iter().filter(|tag| !tag.moving.is_empty()) {
        text.push_str(&format!(" {}:", tag.name));
        text.extend(tag.moving.iter().map(share));
    }
    text.trim().to_owned()
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let (a, b) = (slow("a", ""), slow("b", ""));
    let mut slow = Slow::new();
    assert_eq!(slow.write(&a), "1 100%");
    assert_eq!(slow.write(&b), "1 99% 2 1%");
    // Before it is timed, and after.
    slow.restart();
    slow.now += 1;
    assert_eq!(slow.write(&b), "1 99% 2 1%");
    assert_eq!(slow.after(0, &b), "1 99% 2 1%");
    assert_eq!(slow.after(1, &b), "1 88% 2 12%");
    slow.restart();
    assert_eq!(slow.write(&b), "1 88% 2 12%");
    slow.now += 100;
    slow.restart();
    // Late steps are not caught up.
    assert_eq!(slow.write(&b), "1 77% 2 23%");
    let steps: Vec<String> = (0..8).map(|_| slow.after(1, &b)).collect();
    expect!["1 66% 2 34%, 1 55% 2 45%, 1 44% 2 56%, 1 33% 2 67%, 1 22% 2 78%, 1 11% 2 89%, loaded: 2 100%, still"]
        .assert_eq(&steps.join(", "));
    assert_eq!(slow.bench.loader.rolling().count(), 0);
}

/// A mapped host leads to the service, so its shares are the service's at each step.
#[test]
fn a_domain_mapping_follows_moving_traffic() {
    let mapping = "---\napiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\nmetadata: \
                   {name: shop.example.com}\nspec: {ref: {apiVersion: serving.knative.dev/v1, kind: \
                   Service, name: hello}}\n";
    let (a, b) = (slow("a", "") + mapping, slow("b", "") + mapping);
    let mut slow = Slow::new();
    assert_eq!(slow.write(&a), "1 100%");
    assert_eq!(slow.write(&b), "1 99% 2 1%");
    slow.after(0, &b);
    let mut shares = Vec::new();
    for _ in 0..10 {
        slow.now += 1;
        let now = UnixNanos(slow.now * SECOND);
        let world = match slow.bench.loader.advance(&Moment {
            now,
            standing: &|_| Standing::Ready,
            ..Moment::default()
        }) {
            Advance::Still => break,
            Advance::Moved(world) => world,
            Advance::Loaded(loaded) => loaded.world,
            Advance::Reload => panic!("one service moves by itself"),
        };
        assert!(world.services[0].hosts.iter().any(|host| **host == *"shop.example.com"));
        shares.push(shown(&world));
    }
    expect!["1 88% 2 12%, 1 77% 2 23%, 1 66% 2 34%, 1 55% 2 45%, 1 44% 2 56%, 1 33% 2 67%, 1 22% 2 78%, 1 11% 2 89%, 2 100%"]
        .assert_eq(&shares.join(", "));
}

#[test]
fn a_tag_moves_too_and_pinned_traffic_does_not() {
    let spec = "  traffic:\n  - {revisionName: hello-00001, percent: 30}\n  \
                - {latestRevision: true, percent: 70, tag: next}\n";
    let (a, b, c) = (slow("a", ""), slow("b", spec), slow("c", spec));
    let mut slow = Slow::new();
    assert_eq!(slow.write(&a), "1 100%");
    // The share shrinks, and what is left begins to move; the new tag is new.
    assert_eq!(slow.write(&b), "1 99% 2 1%");
    assert_eq!(slow.after(0, &b), "1 99% 2 1%");
    let mut steps = vec![slow.after(1, &b), slow.after(1, &b)];
    for _ in 0..20 {
        steps.push(slow.after(1, &b));
    }
    steps.retain(|step| step != "still");
    steps.push(slow.write(&c));
    steps.extend((0..30).map(|second| slow.after(u64::from(second > 0), &c)));
    steps.retain(|step| step != "still");
    expect![[r#"
        1 91% 2 9%
        1 83% 2 17%
        1 75% 2 25%
        1 67% 2 33%
        1 59% 2 41%
        1 51% 2 49%
        1 43% 2 57%
        1 35% 2 65%
        loaded: 1 30% 2 70%
        1 30% 2 69% 3 1% next: 2 99% 3 1%
        1 30% 2 69% 3 1% next: 2 99% 3 1%
        1 30% 2 61% 3 9% next: 2 88% 3 12%
        1 30% 2 53% 3 17% next: 2 77% 3 23%
        1 30% 2 45% 3 25% next: 2 66% 3 34%
        1 30% 2 37% 3 33% next: 2 55% 3 45%
        1 30% 2 29% 3 41% next: 2 44% 3 56%
        1 30% 2 21% 3 49% next: 2 33% 3 67%
        1 30% 2 13% 3 57% next: 2 22% 3 78%
        1 30% 2 5% 3 65% next: 2 11% 3 89%
        loaded: 1 30% 3 70%"#]]
    .assert_eq(&steps.join("\n"));
}

#[test]
fn what_cannot_be_resolved_or_started_stays() {
    let missing = slow("b", "  traffic: [{revisionName: hello-00009, percent: 100}]\n");
    let (a, b) = (slow("a", ""), slow("b", ""));
    let mut slow = Slow::new();
    slow.write(&a);
    slow.write(&b);
    slow.after(0, &b);
    assert_eq!(slow.after(1, &b), "1 88% 2 12%");
    // The last good traffic stays in effect as it is.
    assert_eq!(slow.write(&missing), "1 88% 2 12%");
    assert_eq!(slow.after(1, &missing), "still");
    assert_eq!(slow.write(&b), "1 77% 2 23%");
    slow.standing = Standing::Failing;
    assert_eq!(slow.after(60, &b), "1 77% 2 23%");
    let warnings = &slow.bench.loader.world.services[0].warnings;
    assert_eq!(warnings.len(), 1);
    expect!["RolloutInProgress: hello-00002 has 23 of 100 %, no more while its replicas cannot be started"]
        .assert_eq(&warnings[0]);
    slow.standing = Standing::Ready;
    assert_eq!(slow.after(0, &b), "1 66% 2 34%");
    // A version without a program never gets more than its first per cent.
    let nothing = b.replace("        command: [b]\n", "");
    assert_eq!(slow.write(&nothing), "1 66% 2 33% 3 1%");
    for _ in 0..3 {
        slow.after(60, &nothing);
    }
    assert_eq!(slow.write(&nothing), "1 66% 2 33% 3 1%");
    // And back, under a new name.
    assert_eq!(slow.write(&b), "1 66% 2 33% 4 1%");
}

#[test]
fn a_configuration_and_a_route_given_apart() {
    let configuration = |command: &str| {
        service("hello", command, "").replace("kind: Service", "kind: Configuration") + "---\n"
    };
    let route = "apiVersion: serving.knative.dev/v1\nkind: Route\nmetadata:\n  name: front\n  \
                 annotations: {serving.knative.dev/rolloutDuration: 2s}\nspec:\n  traffic:\n  \
                 - {configurationName: hello, percent: 100}\n";
    let (a, b) = (configuration("a") + route, configuration("b") + route);
    let mut slow = Slow::new();
    assert_eq!(slow.write(&a), "1 100%");
    assert_eq!(slow.write(&b), "1 99% 2 1%");
    slow.after(0, &b);
    assert_eq!(slow.after(1, &b), "reload: 2 100%");
}
