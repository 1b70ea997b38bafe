//! Requests that come, wait, run and end while capacity changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::stage::{Asked, Stage};
use super::{Deviation, Report, Skipped, list, number};

/// Numbers in a list, as a set.
fn numbers(row: &Json, key: &str) -> BTreeSet<u32> {
    list(row, key).iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// How each request ended so far.
fn ended(row: &Json) -> BTreeMap<u32, String> {
    let ended = row["ended"].as_object().into_iter().flatten();
    ended.map(|(id, how)| (id.parse().unwrap(), how.as_str().unwrap().to_owned())).collect()
}

/// The requests of the data by their numbers here. Which of several waiting ones runs next is open
/// there: where it is another, the two are the same request from then on.
#[derive(Default)]
struct Names(BTreeMap<u32, u32>);

impl Names {
    /// The number here of a request there.
    fn ours(&self, theirs: u32) -> u32 {
        self.0.get(&theirs).copied().unwrap_or(theirs)
    }

    /// The number there of a request here.
    fn theirs(&self, ours: u32) -> u32 {
        self.0.iter().find(|(_, known)| **known == ours).map_or(ours, |(theirs, _)| *theirs)
    }

    /// Lets those that run there be the ones that run here, where one of them waits here.
    fn follow(&mut self, running: &BTreeSet<u32>, stage: &Stage, report: &mut Report) {
        let ours: BTreeSet<u32> = stage.running().iter().map(|id| self.theirs(*id)).collect();
        let waiting: BTreeSet<u32> = stage.waiting().iter().map(|id| self.theirs(*id)).collect();
        let wrongly_waiting = waiting.intersection(running);
        let pairs: Vec<(u32, u32)> =
            wrongly_waiting.copied().zip(ours.difference(running).copied()).collect();
        for (waits, runs) in pairs {
            let (waits_here, runs_here) = (self.ours(waits), self.ours(runs));
            self.0.insert(waits, runs_here);
            self.0.insert(runs, waits_here);
            report.skip(Skipped::Order);
        }
    }
}

/// A breaker's capacity is that many endpoints with one slot each. Which of them go when it shrinks
/// is open: those whose requests end first, so that the number that runs is the breaker's.
fn resize(stage: &mut Stage, names: &Names, size: u32, rest: &[Json]) {
    let ends = |id: u32| {
        let id = names.theirs(id);
        let end = |op: &Json| {
            matches!(op["op"].as_str().unwrap(), "finish" | "release-reserved")
                && number(op, "id") == id
        };
        rest.iter().position(end).unwrap_or(usize::MAX)
    };
    let mut busy: Vec<(usize, u32)> =
        stage.running().iter().map(|id| (ends(*id), stage.endpoint_of(*id))).collect();
    busy.sort_unstable();
    let size = size as usize;
    let mut kept: BTreeSet<u32> =
        busy.iter().rev().take(size).map(|(_, endpoint)| *endpoint).collect();
    let unused = (0_u32..).filter(|n| !busy.iter().any(|(_, endpoint)| endpoint == n));
    let missing = size - kept.len();
    kept.extend(unused.take(missing));
    stage.report(kept);
}

/// A breaker, every row of it.
pub(crate) fn replay(doc: &Json, report: &mut Report) {
    let ops = list(doc, "ops");
    let places = number(doc, "queue_depth") + number(doc, "max_concurrency");
    let initial = number(doc, "initial_capacity");
    let sizes = ops.iter().filter(|op| op["op"] == "update").map(|op| number(op, "size"));
    // As many as wait at most there: all places are taken and the fewest run.
    let fewest = sizes.chain([initial]).min().unwrap();
    let mut stage = Stage::new(1, places - fewest);
    let mut names = Names::default();
    resize(&mut stage, &names, initial, ops);
    let (mut reserved, mut ends) = (BTreeSet::new(), BTreeMap::<u32, String>::new());
    for (index, op) in ops.iter().enumerate() {
        report.row();
        let id = op["id"].as_u64().map(|id| u32::try_from(id).unwrap());
        match (op["op"].as_str().unwrap(), id) {
            ("maybe", Some(id)) => match stage.ask(id) {
                Asked::Full => {
                    ends.insert(id, "full".to_owned());
                }
                Asked::Waits if ended(op).get(&id).is_some_and(|how| how == "full") => {
                    let more_run = stage.running().len() > fewest as usize;
                    report.check(format!("#{index} room because more run"), more_run, true);
                    report.deviates(Deviation::BoundOfWaiting, index);
                    stage.leave(id);
                    ends.insert(id, "full".to_owned());
                }
                Asked::Runs | Asked::Waits => {}
            },
            // Nobody asks without waiting here: the same as to ask and to leave at once.
            ("reserve", Some(id)) => {
                let granted = stage.ask(id) == Asked::Runs;
                report.check(
                    format!("#{index} granted"),
                    Json::from(granted),
                    op["granted"].clone(),
                );
                if granted {
                    reserved.insert(id);
                } else {
                    stage.leave(id);
                }
            }
            ("finish", Some(id)) => {
                stage.finish(names.ours(id));
                ends.insert(id, "ok".to_owned());
            }
            ("release-reserved", Some(id)) => {
                reserved.remove(&id);
                stage.finish(names.ours(id));
            }
            ("cancel", Some(id)) => {
                if stage.leave(names.ours(id)) {
                    ends.insert(id, "cancelled".to_owned());
                }
            }
            ("update", None) => {
                resize(&mut stage, &names, number(op, "size"), &ops[index + 1..]);
            }
            (other, _) => panic!("unknown op {other}"),
        }
        let wanted: BTreeSet<u32> = numbers(op, "running").union(&reserved).copied().collect();
        names.follow(&wanted, &stage, report);
        let named = |ids: BTreeSet<u32>| -> BTreeSet<u32> {
            ids.into_iter().map(|id| names.theirs(id)).collect()
        };
        let taken = named(stage.running());
        let at = |what: &str| format!("#{index} {what}");
        report.check(at("waiting"), named(stage.waiting()), numbers(op, "waiting"));
        let in_flight = taken.len() + stage.waiting().len();
        report.check(at("in flight"), in_flight, number(op, "in_flight") as usize);
        report.check(at("capacity"), stage.reported().len(), number(op, "capacity") as usize);
        report.check(at("running"), taken, wanted);
        report.check(at("ended"), ends.clone(), ended(op));
    }
}

/// A revision's throttler: pods with their own limit each.
pub(crate) fn tries(doc: &Json, report: &mut Report) {
    let mut stage = Stage::new(number(doc, "cc"), 10_000);
    let mut ends = BTreeMap::<u32, String>::new();
    for (index, op) in list(doc, "ops").iter().enumerate() {
        report.row();
        report.skip(Skipped::Pod);
        match op["op"].as_str().unwrap() {
            "pods" => stage.report((0..number(op, "pods")).collect()),
            "request" => {
                stage.ask(number(op, "id"));
            }
            "finish" => {
                stage.finish(number(op, "id"));
                ends.insert(number(op, "id"), "ok".to_owned());
            }
            "cancel" => {
                if stage.leave(number(op, "id")) {
                    ends.insert(number(op, "id"), "cancelled".to_owned());
                }
            }
            other => panic!("unknown op {other}"),
        }
        let at = |what: &str| format!("#{index} {what}");
        report.check(at("ended"), ends.clone(), ended(op));
        let ours = (stage.running().len(), stage.waiting().len());
        let theirs = (op["running"].as_object().unwrap().len(), list(op, "waiting").len());
        let gone = stage.load().keys().any(|endpoint| !stage.reported().contains(endpoint));
        if ours.0 > theirs.0 && gone {
            // Requests on pods that went are what makes the difference: each that waits there and
            // runs here has a slot of a pod that is left.
            report.check(at("all"), ours.0 + ours.1, theirs.0 + theirs.1);
            report.deviates(Deviation::Draining, index);
        } else {
            report.check(at("running and waiting"), ours, theirs);
        }
    }
}
