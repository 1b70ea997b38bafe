//! Replays recorded rollouts: every reconcile of Knative's route controller, with its inputs.
#![expect(clippy::unwrap_used, reason = "a malformed data file is to stop the test")]

#[path = "support/oracle.rs"]
mod oracle;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidegate::config::rollout::{
    ConfigurationRollout, RevisionShare, Rollout, Standing, StepParams, UnixNanos,
};

/// Times are computed in binary fractions of absolute nanoseconds there.
const TOLERANCE_NS: u64 = 1_000;

/// Inputs that stay as they are until a reconcile changes them.
#[derive(Default)]
struct Inputs {
    spec: Vec<Json>,
    latest: BTreeMap<String, String>,
    duration: Duration,
}

/// A target once resolved: revision, per cent, and the configuration whose newest revision it is.
struct Target {
    revision: String,
    percent: u8,
    follows: Option<String>,
}

impl Inputs {
    fn take(&mut self, row: &Json) {
        if let Some(spec) = row["spec"].as_array() {
            self.spec.clone_from(spec);
        }
        for (configuration, revision) in row["latest"].as_object().into_iter().flatten() {
            self.latest.insert(configuration.clone(), revision.as_str().unwrap().to_owned());
        }
        if let Some(seconds) = row["rollout_duration_s"].as_u64() {
            self.duration = Duration::from_secs(seconds);
        }
    }

    /// The route's own targets, those that lead to the same revision added up, and the tags'.
    fn resolved(&self) -> (Vec<Target>, Vec<(String, Target)>) {
        let (mut targets, mut tags) = (Vec::<Target>::new(), Vec::new());
        for entry in &self.spec {
            let follows = entry["config"].as_str().map(str::to_owned);
            let revision = match &follows {
                Some(configuration) => self.latest[configuration].clone(),
                None => entry["revision"].as_str().unwrap().to_owned(),
            };
            let percent = u8::try_from(entry["percent"].as_u64().unwrap_or(0)).unwrap();
            if let Some(tag) = entry["tag"].as_str() {
                let follows = follows.clone();
                let target = Target { revision: revision.clone(), percent: 100, follows };
                tags.push((tag.to_owned(), target));
            }
            match targets.iter_mut().find(|target| target.revision == revision) {
                Some(known) => known.percent += percent,
                None => targets.push(Target { revision, percent, follows }),
            }
        }
        (targets, tags)
    }
}

fn target(targets: &[Target], tags: &[(String, Target)]) -> Rollout {
    let own = targets.iter().map(|target| (None, target));
    let tagged = tags.iter().map(|(tag, target)| (Some(tag.clone()), target));
    Rollout::at_target(own.chain(tagged).filter_map(|(tag, target)| {
        let follows = target.follows.clone()?;
        Some((tag, follows, target.revision.clone(), target.percent))
    }))
}

/// A state as the data give it, times relative to `base`.
fn shown(rollout: &Rollout, base: u64) -> Vec<Json> {
    let shown = |configuration: &ConfigurationRollout| {
        let revisions = configuration.revisions.iter();
        let revisions: Vec<Json> = revisions
            .map(|share| json!({"revision": share.revision_name, "percent": share.percent}))
            .collect();
        let mut shown = json!({
            "config": configuration.configuration_name,
            "percent": configuration.percent,
            "revisions": revisions,
        });
        let params = configuration.step_params;
        for (key, value) in [
            ("start_ns", params.start_time.0.checked_sub(base)),
            ("next_step_ns", params.next_step_time.0.checked_sub(base)),
            ("step_duration_ns", Some(params.step_duration).filter(|duration| *duration > 0)),
            ("step_size", Some(u64::from(params.step_size)).filter(|size| *size > 0)),
        ] {
            if let Some(value) = value {
                shown[key] = value.into();
            }
        }
        if let Some(tag) = &configuration.tag {
            shown["tag"] = tag.as_str().into();
        }
        shown
    };
    rollout.configurations.iter().map(shown).collect()
}

/// A recorded state: what the next reconcile starts from, as times of our own differ by less than
/// the tolerance and still may fall on the other side of a moment.
fn recorded(configurations: &Json, base: u64) -> Rollout {
    let percent = |json: &Json| u8::try_from(json["percent"].as_u64().unwrap()).unwrap();
    let configurations = configurations.as_array().into_iter().flatten().map(|json| {
        let at = |key: &str| UnixNanos(json[key].as_u64().map_or(0, |time| base + time));
        let number = |key: &str| json[key].as_u64().unwrap_or(0);
        ConfigurationRollout {
            configuration_name: json["config"].as_str().unwrap().to_owned(),
            tag: json["tag"].as_str().map(str::to_owned),
            percent: percent(json),
            revisions: json["revisions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|share| RevisionShare {
                    revision_name: share["revision"].as_str().unwrap().to_owned(),
                    percent: percent(share),
                })
                .collect(),
            step_params: StepParams {
                start_time: at("start_ns"),
                next_step_time: at("next_step_ns"),
                step_duration: number("step_duration_ns"),
                step_size: u8::try_from(number("step_size")).unwrap(),
            },
            canary: None,
        }
    });
    Rollout { configurations: configurations.collect() }
}

/// Equal, times within the tolerance.
fn is_close(got: &Json, want: &Json) -> bool {
    match (got, want) {
        (Json::Array(got), Json::Array(want)) => {
            got.len() == want.len() && got.iter().zip(want).all(|(got, want)| is_close(got, want))
        }
        (Json::Object(got), Json::Object(want)) => {
            got.len() == want.len()
                && got.iter().all(|(key, got)| match (want.get(key), key.ends_with("_ns")) {
                    (Some(want), true) => {
                        let (got, want) = (got.as_u64().unwrap(), want.as_u64().unwrap());
                        got.abs_diff(want) <= TOLERANCE_NS
                    }
                    (Some(want), false) => is_close(got, want),
                    (None, _) => false,
                })
        }
        (got, want) => got == want,
    }
}

/// Shares of the default host, targets in order, those that move in place.
fn splits(rollout: &Rollout, targets: &[Target]) -> Vec<Json> {
    let mut splits = Vec::new();
    for target in targets.iter().filter(|target| target.percent > 0) {
        let mut add = |revision: &str, percent: u8| {
            splits.push(json!({"revision": revision, "percent": percent}));
        };
        let moving = target.follows.as_ref().and_then(|_| rollout.shares(None, &target.revision));
        match moving {
            Some(shares) => shares.iter().for_each(|s| add(&s.revision_name, s.percent)),
            None => add(&target.revision, target.percent),
        }
    }
    splits
}

/// What a Route's status says of its traffic: while anything moves, every target that follows a
/// newest revision as the shares it has now, those of its tag where it has one.
fn status(rollout: &Rollout, inputs: &Inputs) -> Vec<Json> {
    let mut status = Vec::new();
    for entry in &inputs.spec {
        let (follows, tag) = (entry["config"].as_str(), entry["tag"].as_str());
        let mut add = |revision: &str, percent: u64| {
            let mut shown = json!({
                "revision": revision, "percent": percent, "latest": follows.is_some(),
            });
            if let Some(tag) = tag {
                shown["tag"] = tag.into();
            }
            status.push(shown);
        };
        let moving = rollout.configurations.iter().find(|moving| {
            !rollout.is_done()
                && Some(moving.configuration_name.as_str()) == follows
                && moving.tag.as_deref() == tag
        });
        match (moving, follows) {
            (Some(moving), _) => {
                moving.revisions.iter().for_each(|s| add(&s.revision_name, s.percent.into()));
            }
            (None, Some(follows)) => {
                add(&inputs.latest[follows], entry["percent"].as_u64().unwrap_or(0));
            }
            (None, None) => {
                let revision = entry["revision"].as_str().unwrap();
                add(revision, entry["percent"].as_u64().unwrap_or(0));
            }
        }
    }
    status
}

/// Replays one file; its reconciles, and those that end in Knative's index error.
fn replay(doc: &Json, name: &str, differences: &mut Vec<String>) -> (usize, usize) {
    let base: u64 = doc["base_unix_ns"].as_str().unwrap().parse().unwrap();
    let (mut inputs, mut stored) = (Inputs::default(), None::<Rollout>);
    let (mut reconciles, mut panics) = (0, 0);
    for row in doc["reconciles"].as_array().unwrap() {
        inputs.take(row);
        if let Some(text) = row["prev_override"].as_str() {
            stored = serde_json::from_str(text).ok();
        }
        let ready = row["ingress_ready"] == true && row["route_ingress_ready"] == false;
        let stand = |_: &str| if ready { Standing::Ready } else { Standing::Pending };
        let now = UnixNanos(base + row["t_ns"].as_u64().unwrap());
        let (targets, tags) = inputs.resolved();
        let goal = target(&targets, &tags);
        let got = goal.clone().advanced(stored.as_ref(), inputs.duration, now, &stand);
        if row["panic"].is_string() {
            // Not imitated: any state that makes sense is right, and nothing follows.
            assert!(got.is_valid() && got.target() == goal, "{name}: {got:?}");
            panics += 1;
            break;
        }
        reconciles += 1;
        let mut check = |what: &str, got: Json, want: &Json| {
            if !is_close(&got, want) {
                let at = row["t_ns"].as_u64().unwrap();
                differences.push(format!("{name} at {at} ns: {what}: {got}, Knative has {want}"));
            }
        };
        let none = json!([]);
        let or_none = |list: &'_ Json| if list.is_null() { none.clone() } else { list.clone() };
        check("state", shown(&got, base).into(), &or_none(&row["rollout"]));
        check("done", got.is_done().into(), &row["done"]);
        check("splits", splits(&got, &targets).into(), &or_none(&row["ingress_splits"]));
        check("status", status(&got, &inputs).into(), &or_none(&row["status_traffic"]));
        let wait = got.next_step(&stand).map(|next| next.since(now).as_nanos() as u64);
        let wait = json!({"requeue_after_ns": wait.unwrap_or(0)});
        let want = json!({"requeue_after_ns": row["requeue_after_ns"].as_u64().unwrap_or(0)});
        check("wake", wait, &want);
        stored = Some(recorded(&row["rollout"], base));
    }
    (reconciles, panics)
}

#[test]
fn rollouts_are_those_of_knative() {
    let (mut files, mut reconciles, mut panics) = (0, 0, 0);
    let mut differences = Vec::new();
    for file in oracle::files("rollout") {
        assert_eq!(file.json["kind"], "rollout", "{}", file.path.display());
        let name = file.json["name"].as_str().unwrap();
        let (replayed, panicked) = replay(&file.json, name, &mut differences);
        assert!(replayed > 0, "{name}: no reconcile in it");
        files += 1;
        reconciles += replayed;
        panics += panicked;
    }
    println!("rollout: {files} files, {reconciles} reconciles");
    println!("  skipped {panics} reconciles: an index error of Knative, a sane state is enough");
    assert!(reconciles > 0, "no case was found");
    let first: Vec<&str> = differences.iter().take(20).map(String::as_str).collect();
    assert!(first.is_empty(), "{} differences:\n{}", differences.len(), first.join("\n"));
}
