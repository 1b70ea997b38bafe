//! The traffic of a Route as its controller states it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::config::rollout::{ConfigurationRollout, Rollout};
use crate::config::world::env::text;
use crate::config::world::stamp::TrafficStamp;
use crate::model::CLUSTER_DOMAIN;

/// The traffic in effect; none unless it is all of it.
///
/// While traffic moves, a status shows the shares of the moment, and those of a tag as parts of the
/// tag: what follows a newest revision is read from the annotation, where there is one. That is
/// written first, so the two may differ for a moment; then the status alone counts.
pub(super) fn traffic(object: &Value, rollout: Option<Rollout>) -> Option<TrafficStamp> {
    let entries = object.pointer("/status/traffic")?.as_array()?;
    let rollout = rollout.filter(Rollout::is_valid).unwrap_or_default();
    read(entries, rollout).or_else(|| read(entries, Rollout::default()))
}

fn read(entries: &[Value], rollout: Rollout) -> Option<TrafficStamp> {
    let own: Vec<&ConfigurationRollout> = of_tag(&rollout, None).collect();
    let mut stamp = TrafficStamp::default();
    let mut sum: u32 = 0;
    let mut add = |revision: &str, percent: u8| {
        sum += u32::from(percent);
        match stamp.targets.iter_mut().find(|(name, _)| name == revision) {
            Some((_, known)) => *known = known.saturating_add(percent),
            None if percent > 0 => stamp.targets.push((revision.to_owned(), percent)),
            None => {}
        }
    };
    for entry in entries {
        let revision = text(entry, "revisionName").filter(|name| !name.is_empty())?;
        let follows = entry.get("latestRevision").and_then(Value::as_bool) == Some(true);
        // What leads to the same revision by its name is part of what follows.
        let is_counted = (follows && !rollout.configurations.is_empty())
            || own.iter().any(|following| following.newest() == revision);
        if !is_counted {
            let percent = entry.get("percent").and_then(Value::as_u64).unwrap_or(0);
            add(revision, u8::try_from(percent.min(100)).unwrap_or(100));
        }
        let tag = text(entry, "tag").filter(|tag| !tag.is_empty());
        if let Some(tag) = tag
            && stamp.tags.iter().all(|(known, _)| known != tag)
        {
            let newest = of_tag(&rollout, Some(tag)).next().filter(|_| follows);
            let revision = newest.map_or(revision, ConfigurationRollout::newest);
            stamp.tags.push((tag.to_owned(), revision.to_owned()));
        }
    }
    own.iter().for_each(|following| add(following.newest(), following.percent));
    drop(own);
    stamp.rollout = rollout;
    (sum == 100).then_some(stamp)
}

fn of_tag<'a>(
    rollout: &'a Rollout,
    tag: Option<&'a str>,
) -> impl Iterator<Item = &'a ConfigurationRollout> {
    rollout.configurations.iter().filter(move |following| following.tag.as_deref() == tag)
}

/// Names of a Route that only the cluster sees by what its status says, whatever its labels say:
/// none is the Route's own, the others are tags.
pub(super) fn private_names(object: &Value) -> BTreeSet<Option<String>> {
    let end = format!(".svc.{CLUSTER_DOMAIN}");
    let is_private = |entry: &Value| text(entry, "url").is_some_and(|url| url.ends_with(&end));
    let status = object.get("status").unwrap_or(&Value::Null);
    let own = is_private(status).then_some(None);
    let tagged = status.get("traffic").and_then(Value::as_array).into_iter().flatten();
    let tags = tagged.filter(|entry| is_private(entry));
    let tags = tags.filter_map(|entry| text(entry, "tag").map(|tag| Some(tag.to_owned())));
    own.into_iter().chain(tags).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Tag, configuration, per cent, and how it is shared.
    type Shared<'a> = (Option<&'a str>, &'a str, u8, &'a [(&'a str, u8)]);

    fn rollout(configurations: &[Shared<'_>]) -> Option<Rollout> {
        let share =
            |(name, percent): &(&str, u8)| json!({"revisionName": name, "percent": percent});
        let configuration = |(tag, name, percent, shares): &(_, &str, u8, &[(&str, u8)])| {
            let shares: Vec<Value> = shares.iter().map(share).collect();
            json!({
                "tag": tag, "configurationName": name, "percent": percent, "revisions": shares,
            })
        };
        let all: Vec<Value> = configurations.iter().map(configuration).collect();
        serde_json::from_value(json!({"configurations": all})).unwrap()
    }

    /// Entries as `PERCENT REVISION [latest] [#TAG]`; what is in effect in the same form.
    fn check(entries: &[&str], rollout: Option<Rollout>, expected: &str) {
        let entry = |text: &&str| {
            let words: Vec<&str> = text.split(' ').collect();
            let tag = words.iter().find_map(|word| word.strip_prefix('#'));
            json!({
                "percent": words[0].parse::<u8>().unwrap(), "revisionName": words[1], "tag": tag,
                "latestRevision": words.contains(&"latest"),
            })
        };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        let found = traffic(&json!({"status": {"traffic": entries}}), rollout);
        let found = found.map(|stamp| {
            let shares = stamp.shares();
            let shares = shares.iter().map(|s| format!("{} {}", s.percent, s.revision_name));
            let tags = stamp.tags.iter().map(|(tag, revision)| {
                let moving = stamp.rollout.shares(Some(tag), revision).unwrap_or_default();
                let moving = moving.iter().map(|s| format!(" {} {}", s.percent, s.revision_name));
                format!("#{tag} {revision}{}", moving.collect::<String>())
            });
            shares.chain(tags).collect::<Vec<_>>().join(", ")
        });
        assert_eq!(found.unwrap_or_default(), expected);
    }

    #[test]
    fn shares_in_effect() {
        check(&["100 a-1 latest"], None, "100 a-1");
        check(&["70 a-1", "30 a-2 latest #n", "0 a-1 #o"], None, "70 a-1, 30 a-2, #n a-2, #o a-1");
        check(&["50 a-1", "20 a-2"], None, "");
        // All that moves is in the annotation.
        let moving = rollout(&[(None, "a", 100, &[("a-1", 80), ("a-2", 20)])]);
        check(&["80 a-1 latest", "20 a-2 latest"], moving.clone(), "80 a-1, 20 a-2");
        // The status is not written yet.
        check(&["100 a-1 latest"], moving, "80 a-1, 20 a-2");
        let ended = rollout(&[(None, "a", 100, &[("a-2", 100)])]);
        check(&["10 a-1 latest", "90 a-2 latest"], ended.clone(), "100 a-2");
        // From a name to following: the status that knows neither is the one before.
        check(&["100 a-1"], ended, "100 a-1");
        let part = rollout(&[(None, "a", 40, &[("a-1", 30), ("a-2", 10)])]);
        check(
            &["60 a-0", "30 a-1 latest", "10 a-2 latest"],
            part.clone(),
            "60 a-0, 30 a-1, 10 a-2",
        );
        // The old revision has a share by its name, too.
        let entries = ["60 a-1", "30 a-1 latest", "10 a-2 latest"];
        check(&entries, part, "90 a-1, 10 a-2");
        let both = rollout(&[(None, "a", 100, &[("a-1", 99), ("a-2", 1)])]);
        check(&["99 a-1 latest", "1 a-2 latest", "50 a-2"], both, "99 a-1, 1 a-2");
    }

    #[test]
    fn tags_that_move() {
        let moving = rollout(&[
            (None, "a", 50, &[("a-1", 40), ("a-2", 10)]),
            (Some("n"), "a", 100, &[("a-1", 75), ("a-2", 25)]),
        ]);
        check(
            &["75 a-1 latest #n", "25 a-2 latest #n", "50 a-0 #o"],
            moving,
            "50 a-0, 40 a-1, 10 a-2, #n a-2 75 a-1 25 a-2, #o a-0",
        );
        let alone = rollout(&[(Some("n"), "a", 100, &[("a-1", 75), ("a-2", 25)])]);
        let entries = ["100 a-0", "75 a-1 latest #n", "25 a-2 latest #n"];
        check(&entries, alone, "100 a-0, #n a-2 75 a-1 25 a-2");
    }
}
