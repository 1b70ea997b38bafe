//! Replays recorded decisions of Knative's activator on slots and queues: every file below
//! `tests/oracle/throttler` and, if set, below `$TIDEGATE_ORACLE/throttler`.
//!
//! There, a breaker counts slots as a number. Here, the slots are those of endpoints: so many
//! endpoints with so many slots each are a breaker's capacity. Where that makes a difference by
//! design, the row is counted as a deviation of a named kind, and each kind is printed.
#![expect(clippy::unwrap_used, reason = "a malformed data file is to stop the test")]

mod breaker;
#[path = "../support/oracle.rs"]
mod oracle;
mod slots;
mod stage;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value as Json;

/// Kinds of cases that are replayed, and what of them is not.
const REPLAYED: [(&str, &str); 5] = [
    ("breaker", "who runs, who waits, who is turned away"),
    ("throttler-capacity", "for a proxy that does not share its pods with others"),
    ("throttler-sequence", "for a proxy that does not share its pods with others"),
    ("throttler-try", "how many run, how many wait and how each ended; not which pod"),
    (
        "lb-policy",
        "whether there is a free slot and that no pod has more than its own; not which pod: \
         least loaded of two random for every limit, where Knative has three policies by limit",
    ),
];

/// What a row or part of it is not compared for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Skipped {
    /// Several activators divide the pods among themselves.
    Shared,
    /// Which pod a request goes to.
    Pod,
    /// Which of several waiting requests is next.
    Order,
}

impl Skipped {
    const fn reason(self) -> &'static str {
        match self {
            Self::Shared => {
                "several activators, each with its own part of the pods: every proxy may use every \
                 endpoint, slots are leased to where requests are, so there are no parts"
            }
            Self::Pod => "which pod: see the policy of `lb-policy`",
            Self::Order => {
                "which of several waiting requests is next: the first here, any in Knative; the \
                 two change names"
            }
        }
    }
}

/// How a row may differ, because design says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deviation {
    /// A request waits where Knative's queue is full.
    BoundOfWaiting,
    /// More run than the endpoints still reported have slots.
    Draining,
}

impl Deviation {
    const fn reason(self) -> &'static str {
        match self {
            Self::BoundOfWaiting => {
                "`full` there: all places (queue and greatest capacity) are taken; here the bound \
                 is of those that wait, so that it does not depend on how many run"
            }
            Self::Draining => {
                "waits there: requests on a pod that went count against those that are left; \
                 here the limit is each endpoint's own, and the ones left have free slots"
            }
        }
    }
}

/// What a kind came to.
#[derive(Default)]
pub(crate) struct Report {
    case: String,
    files: usize,
    rows: usize,
    skipped: BTreeMap<Skipped, usize>,
    deviations: BTreeMap<Deviation, Vec<String>>,
    differences: String,
}

impl Report {
    pub(crate) fn check<T: PartialEq + std::fmt::Debug>(
        &mut self,
        at: impl std::fmt::Display,
        got: T,
        want: T,
    ) {
        if got != want {
            let case = &self.case;
            writeln!(self.differences, "{case} {at}: got {got:?}, want {want:?}").unwrap();
        }
    }

    pub(crate) const fn row(&mut self) {
        self.rows += 1;
    }

    pub(crate) fn skip(&mut self, what: Skipped) {
        *self.skipped.entry(what).or_default() += 1;
    }

    pub(crate) fn deviates(&mut self, how: Deviation, row: usize) {
        self.deviations.entry(how).or_default().push(format!("{}#{row}", self.case));
    }
}

pub(crate) fn list<'a>(json: &'a Json, key: &str) -> &'a [Json] {
    json[key].as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn number(json: &Json, key: &str) -> u32 {
    let number = json[key].as_u64().unwrap_or_else(|| panic!("{key} in {json}"));
    u32::try_from(number).unwrap()
}

#[test]
fn recorded_slots_and_queues_are_reproduced() {
    let mut reports: BTreeMap<&str, Report> = BTreeMap::new();
    for file in oracle::files("throttler") {
        let kind = file.json["kind"].as_str().unwrap();
        let known = REPLAYED.iter().find(|(name, _)| *name == kind);
        let Some((kind, _)) = known else {
            panic!("{}: unknown kind {kind}", file.path.display());
        };
        let report = reports.entry(kind).or_default();
        file.json["name"].as_str().unwrap().clone_into(&mut report.case);
        report.files += 1;
        let seen = |report: &Report| report.rows + report.skipped.values().sum::<usize>();
        let before = seen(report);
        match *kind {
            "breaker" => breaker::replay(&file.json, report),
            "throttler-capacity" => slots::capacities(&file.json, report),
            "throttler-sequence" => slots::sequence(&file.json, report),
            "throttler-try" => breaker::tries(&file.json, report),
            _ => slots::policy(&file.json, report),
        }
        assert!(seen(report) > before, "{}: no row in it", file.path.display());
    }
    let mut differences = String::new();
    for (kind, what) in REPLAYED {
        let report = reports.get(kind).unwrap_or_else(|| panic!("no case of kind {kind}"));
        assert!(report.rows > 0, "no row of kind {kind} was replayed");
        println!("{kind}: {} files, {} rows; {what}", report.files, report.rows);
        for (skipped, count) in &report.skipped {
            println!("  skipped in {count} rows: {}", skipped.reason());
        }
        for (deviation, rows) in &report.deviations {
            let (count, rows) = (rows.len(), rows.join(" "));
            println!("  {count} rows differ by design: {}: {rows}", deviation.reason());
        }
        differences.push_str(&report.differences);
    }
    let first: Vec<&str> = differences.lines().take(40).collect();
    assert!(first.is_empty(), "{} differences:\n{}", differences.lines().count(), first.join("\n"));
}
