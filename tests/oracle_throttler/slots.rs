//! How many requests run at once, and on which endpoints.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::stage::{Asked, Stage};
use super::{Report, Skipped, list, number};

/// Fills every slot that `pods` endpoints of `limit` have; requests on each. Without a limit, what
/// one request meets.
fn fill(limit: u32, pods: u32) -> (u32, BTreeMap<u32, u32>) {
    let mut stage = Stage::new(limit, 1);
    stage.report((0..pods).collect());
    let most = if limit == 0 { 1 } else { u32::MAX };
    let running = (0..most).take_while(|id| stage.ask(*id) == Asked::Runs).count();
    (u32::try_from(running).unwrap(), stage.load())
}

/// Compares one row, where this activator is alone on its pods.
fn compare(row: &Json, limit: u32, pods: u32, alone: bool, index: usize, report: &mut Report) {
    if !alone {
        report.skip(Skipped::Shared);
        return;
    }
    report.row();
    let (capacity, load) = fill(limit, pods);
    report.check(format!("#{index} capacity of {row}"), capacity, number(row, "capacity"));
    // A cluster IP hides its pods.
    let pod_capacity = list(row, "pod_capacity");
    if limit > 0 && !pod_capacity.is_empty() {
        let wanted = list(row, "assigned").iter().zip(pod_capacity);
        let part = |number: &Json| u32::try_from(number.as_u64().unwrap()).unwrap();
        let wanted = wanted.map(|(pod, slots)| (part(pod), part(slots))).collect();
        report.check(format!("#{index} pods of {row}"), load, wanted);
    }
}

pub(crate) fn capacities(doc: &Json, report: &mut Report) {
    for (index, row) in list(doc, "rows").iter().enumerate() {
        let alone = row["index"] == -1 || number(row, "activators") <= 1;
        compare(row, number(row, "cc"), number(row, "pods"), alone, index, report);
    }
}

pub(crate) fn sequence(doc: &Json, report: &mut Report) {
    let mut pods = 0;
    for (index, op) in list(doc, "ops").iter().enumerate() {
        if op["op"] == "pods" {
            pods = number(op, "pods");
        }
        let alone = op["now_index"] == -1 || number(op, "now_activators") <= 1;
        compare(op, number(doc, "cc"), pods, alone, index, report);
    }
}

pub(crate) fn policy(doc: &Json, report: &mut Report) {
    let (limit, pods) = (number(doc, "cc"), number(doc, "pods"));
    let mut stage = Stage::new(limit, 10_000);
    stage.report((0..pods).collect());
    for (index, op) in list(doc, "ops").iter().enumerate() {
        report.row();
        let id = number(op, "id");
        match op["op"].as_str().unwrap() {
            "acquire" => {
                let granted = stage.ask(id) == Asked::Runs;
                if !granted {
                    stage.leave(id);
                }
                report.check(format!("#{index} granted"), granted, !op["dest"].is_null());
                report.skip(Skipped::Pod);
            }
            "release" => stage.finish(id),
            other => panic!("unknown op {other}"),
        }
        let most = stage.load().into_values().max().unwrap_or(0);
        report.check(format!("#{index} within the limit"), most <= limit, true);
    }
}
