//! Conditions of a status, as Knative keeps them (`knative.dev/pkg/apis/condition_set.go`): one
//! top condition follows from those it depends on; the others only inform.

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It does.
    True,
    /// It does not.
    False,
    /// Not known, or not yet.
    Unknown,
}

/// One condition of an object's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name, such as `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: Status,
    /// Empty = an error if it does not hold; `Info` for those that only inform.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub severity: String,
    /// When anything of it changed last, RFC 3339 to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// A word for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

const INFO: &str = "Info";

/// The conditions of one kind of object: the top one, and those it follows from.
#[derive(Clone, Copy, Debug)]
pub struct ConditionSet {
    top: &'static str,
    dependents: &'static [&'static str],
}

impl ConditionSet {
    /// A set with `Ready` at its top.
    pub const fn living(dependents: &'static [&'static str]) -> Self {
        Self { top: "Ready", dependents }
    }

    /// The conditions of a status as they were read, all that are missing unknown.
    pub fn read(self, status: &Value, now: Timestamp) -> Conditions {
        let list = status.get("conditions").cloned().unwrap_or_default();
        let list: Vec<Condition> = serde_json::from_value(list).unwrap_or_default();
        let mut conditions = Conditions { set: self, former: list.clone(), list, now };
        conditions.initialize();
        conditions
    }
}

/// Conditions of one object while they are worked on.
#[derive(Clone, Debug)]
pub struct Conditions {
    set: ConditionSet,
    /// As they were read.
    former: Vec<Condition>,
    list: Vec<Condition>,
    now: Timestamp,
}

impl Conditions {
    /// A condition by its name.
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.list.iter().find(|condition| condition.kind == kind)
    }

    /// Status of a condition; unknown where there is none.
    pub fn status(&self, kind: &str) -> Status {
        self.get(kind).map_or(Status::Unknown, |condition| condition.status)
    }

    /// The top condition.
    pub fn top(&self) -> Option<&Condition> {
        self.get(self.set.top)
    }

    /// Whether the top condition holds.
    pub fn is_ready(&self) -> bool {
        self.status(self.set.top) == Status::True
    }

    /// All conditions by name, as a status has them. One that says what it said when it was read
    /// has not changed, whatever it was meanwhile.
    pub fn to_value(&self) -> Value {
        let settled = self.list.iter().map(|condition| {
            let is_same = |former: &&Condition| {
                let last_transition_time = condition.last_transition_time.clone();
                Condition { last_transition_time, ..(*former).clone() } == *condition
            };
            self.former.iter().find(is_same).unwrap_or(condition)
        });
        serde_json::to_value(settled.collect::<Vec<_>>()).unwrap_or_default()
    }

    /// It holds.
    pub fn mark_true(&mut self, kind: &str) {
        self.mark_true_with_reason(kind, "", "");
    }

    /// It holds, and why.
    pub fn mark_true_with_reason(&mut self, kind: &str, reason: &str, message: &str) {
        self.set(kind, Status::True, reason, message);
        self.recompute(kind);
    }

    /// Not known. The top condition is not either, unless something it depends on does not hold.
    pub fn mark_unknown(&mut self, kind: &str, reason: &str, message: &str) {
        self.set(kind, Status::Unknown, reason, message);
        let fails = |name: &&&str| self.status(name) == Status::False;
        if self.set.dependents.iter().any(|name| fails(&name)) {
            if self.status(self.set.top) != Status::False {
                self.set(self.set.top, Status::False, reason, message);
            }
        } else if self.set.dependents.contains(&kind) {
            self.set(self.set.top, Status::Unknown, reason, message);
        }
    }

    /// It does not hold, nor does the top condition if it depends on it.
    pub fn mark_false(&mut self, kind: &str, reason: &str, message: &str) {
        self.set(kind, Status::False, reason, message);
        if self.set.dependents.contains(&kind) {
            self.set(self.set.top, Status::False, reason, message);
        }
    }

    /// Forgets a condition that the top one does not depend on.
    pub fn clear(&mut self, kind: &str) {
        if !self.is_terminal(kind) {
            self.list.retain(|condition| condition.kind != kind);
        }
    }

    /// What is missing is unknown; where the top condition holds, all it depends on does.
    fn initialize(&mut self) {
        let is_ready = self.is_ready();
        if self.top().is_none() {
            self.set(self.set.top, Status::Unknown, "", "");
        }
        for name in self.set.dependents {
            if self.get(name).is_none() {
                let status = if is_ready { Status::True } else { Status::Unknown };
                self.set(name, status, "", "");
            }
        }
    }

    fn is_terminal(&self, kind: &str) -> bool {
        kind == self.set.top || self.set.dependents.contains(&kind)
    }

    fn set(&mut self, kind: &str, status: Status, reason: &str, message: &str) {
        let severity = if self.is_terminal(kind) { "" } else { INFO };
        let former = self.get(kind);
        let condition = Condition {
            kind: kind.to_owned(),
            status,
            severity: severity.to_owned(),
            last_transition_time: former.and_then(|former| former.last_transition_time.clone()),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        if former == Some(&condition) {
            return;
        }
        let condition = Condition { last_transition_time: Some(seconds(self.now)), ..condition };
        self.list.retain(|condition| condition.kind != kind);
        self.list.push(condition);
        self.list.sort_by(|a, b| a.kind.cmp(&b.kind));
    }

    /// The top condition is the newest of those that do not hold, else of those not known.
    fn recompute(&mut self, kind: &str) {
        match self.unhappy() {
            Some((status, reason, message)) => self.set(self.set.top, status, &reason, &message),
            None if kind != self.set.top => self.set(self.set.top, Status::True, "", ""),
            None => {}
        }
    }

    fn unhappy(&self) -> Option<(Status, String, String)> {
        if self.set.dependents.is_empty() {
            return None;
        }
        let mut terminal: Vec<&Condition> = self
            .list
            .iter()
            .filter(|condition| condition.severity.is_empty() && condition.kind != self.set.top)
            .collect();
        terminal.sort_by(|a, b| b.last_transition_time.cmp(&a.last_transition_time));
        let of = |status| terminal.iter().find(|condition| condition.status == status);
        let found = of(Status::False).or_else(|| of(Status::Unknown));
        if let Some(found) = found {
            return Some((found.status, found.reason.clone(), found.message.clone()));
        }
        let is_incomplete = self.set.dependents.len() > terminal.len();
        is_incomplete.then(|| (Status::Unknown, String::new(), String::new()))
    }
}

/// A time as objects have it: to the second.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SET: ConditionSet = ConditionSet::living(&["A", "B"]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn shown(conditions: &Conditions) -> String {
        let of = |condition: &Condition| {
            let Condition { kind, status, reason, .. } = condition;
            format!("{kind}={status:?}{}{reason}", if reason.is_empty() { "" } else { ":" })
        };
        conditions.list.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_top_follows_from_those_it_depends_on() {
        let mut conditions = SET.read(&json!({}), at(0));
        assert_eq!(shown(&conditions), "A=Unknown B=Unknown Ready=Unknown");
        conditions.mark_true("A");
        assert_eq!(shown(&conditions), "A=True B=Unknown Ready=Unknown");
        conditions.mark_true("B");
        assert_eq!(shown(&conditions), "A=True B=True Ready=True");
        conditions.mark_unknown("B", "Waits", "for it");
        assert_eq!(shown(&conditions), "A=True B=Unknown:Waits Ready=Unknown:Waits");
        conditions.mark_false("A", "Broken", "it is");
        assert_eq!(shown(&conditions), "A=False:Broken B=Unknown:Waits Ready=False:Broken");
        conditions.mark_unknown("B", "Again", "");
        assert_eq!(shown(&conditions), "A=False:Broken B=Unknown:Again Ready=False:Broken");
        conditions.mark_true("A");
        assert_eq!(shown(&conditions), "A=True B=Unknown:Again Ready=Unknown:Again");
    }

    #[test]
    fn others_only_inform() {
        let mut conditions = SET.read(&json!({}), at(0));
        conditions.mark_true("A");
        conditions.mark_true("B");
        conditions.mark_false("Active", "NoTraffic", "there is none");
        assert!(conditions.is_ready());
        assert_eq!(conditions.get("Active").unwrap().severity, "Info");
        conditions.clear("A");
        conditions.clear("Active");
        assert_eq!(shown(&conditions), "A=True B=True Ready=True");
    }

    #[test]
    fn the_time_is_that_of_the_last_change() {
        let mut conditions = SET.read(&json!({}), at(0));
        conditions.mark_false("A", "Broken", "it is");
        let status = json!({"conditions": conditions.to_value()});
        let mut later = SET.read(&status, at(60));
        later.mark_false("A", "Broken", "it is");
        assert_eq!(later.to_value(), conditions.to_value(), "nothing changed");
        later.mark_false("A", "Broken", "it still is");
        let mut again = SET.read(&status, at(60));
        again.mark_unknown("A", "Looking", "");
        again.mark_false("A", "Broken", "it is");
        assert_eq!(again.to_value(), conditions.to_value(), "nothing changed in the end");
        let time = |kind: &str| later.get(kind).unwrap().last_transition_time.clone().unwrap();
        assert_eq!((time("A"), time("B")), (seconds(at(60)), seconds(at(0))));
        assert_eq!(seconds(at(0)), "2023-11-14T22:13:20Z");
    }
}
