//! From the traffic a service or route asks for to revisions by name.

use serde_json::Value;

use super::stamp::TrafficStamp;
use crate::config::rollout::Rollout;

/// One entry of `spec.traffic`, admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tag: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) configuration: Option<String>,
    pub(super) percent: u8,
}

/// What traffic can lead to.
pub(super) trait Revisions {
    /// Whether a revision of this service exists.
    fn exists(&self, name: &str) -> bool;
    /// Newest revision of a configuration; none named = the service's own.
    fn latest(&self, configuration: Option<&str>) -> Option<String>;
}

/// Revisions or configurations that traffic names and that do not exist, in the order named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing(pub(super) Vec<String>);

/// The targets of an admitted `spec.traffic`; with none, all goes to the latest revision.
pub(super) fn targets(traffic: Option<&Value>) -> Vec<Target> {
    let listed = traffic.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if listed.is_empty() {
        return vec![Target { percent: 100, ..Target::default() }];
    }
    listed
        .iter()
        .map(|entry| {
            let text = |key: &str| {
                let text = entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
                text.map(str::to_owned)
            };
            let percent = entry.get("percent").and_then(Value::as_u64).unwrap_or(0);
            Target {
                tag: text("tag"),
                revision: text("revisionName"),
                configuration: text("configurationName"),
                percent: u8::try_from(percent.min(100)).unwrap_or(100),
            }
        })
        .collect()
}

/// Resolves targets as Knative does: entries that lead to the same revision are added up, 0 %
/// entries get no share while their tags still lead somewhere, and one missing revision stops all.
/// `own` is the configuration meant where none is named. All traffic is at its target.
pub(super) fn resolve(
    targets: &[Target],
    revisions: &dyn Revisions,
    own: &str,
) -> Result<TrafficStamp, Missing> {
    let mut shares: Vec<Share> = Vec::with_capacity(targets.len());
    let mut tags = Vec::new();
    // What follows a newest revision, and so moves to the next one step by step.
    let mut following = Vec::new();
    let mut missing = Vec::new();
    for target in targets {
        let revision = match &target.revision {
            Some(name) if revisions.exists(name) => Some(name.clone()),
            Some(_) => None,
            None => revisions.latest(target.configuration.as_deref()),
        };
        let Some(revision) = revision else {
            let name = target.revision.as_ref().or(target.configuration.as_ref());
            let name = name.map_or("the latest revision", String::as_str).to_owned();
            if !missing.contains(&name) {
                missing.push(name);
            }
            continue;
        };
        let configuration = target.configuration.as_deref().unwrap_or(own);
        let follows = target.revision.is_none().then(|| configuration.to_owned());
        if let Some(tag) = &target.tag {
            tags.push((tag.clone(), revision.clone()));
            if let Some(configuration) = &follows {
                following.push((Some(tag.clone()), configuration.clone(), revision.clone(), 100));
            }
        }
        // The first entry that names a revision says whether it is followed.
        match shares.iter_mut().find(|share| share.revision == revision) {
            Some(share) => share.percent = share.percent.saturating_add(target.percent),
            None => shares.push(Share { revision, percent: target.percent, follows }),
        }
    }
    if !missing.is_empty() {
        return Err(Missing(missing));
    }
    shares.retain(|share| share.percent > 0);
    following.extend(shares.iter().filter_map(|share| {
        Some((None, share.follows.clone()?, share.revision.clone(), share.percent))
    }));
    Ok(TrafficStamp {
        targets: shares.into_iter().map(|share| (share.revision, share.percent)).collect(),
        tags,
        rollout: Rollout::at_target(following),
        ordered: None,
    })
}

/// A revision's part of the traffic.
struct Share {
    revision: String,
    percent: u8,
    /// The configuration whose newest revision it is; none for a revision that is named.
    follows: Option<String>,
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    struct Known;

    impl Revisions for Known {
        fn exists(&self, name: &str) -> bool {
            matches!(name, "hello-00001" | "hello-00002")
        }
        fn latest(&self, configuration: Option<&str>) -> Option<String> {
            match configuration {
                None | Some("hello") => Some("hello-00002".to_owned()),
                Some(_) => None,
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better in a table")]
    fn check(traffic: Value, expected: Expect) {
        let text = match resolve(&targets(Some(&traffic)), &Known, "hello") {
            Ok(TrafficStamp { targets, tags, .. }) => format!("{targets:?} {tags:?}"),
            Err(Missing(names)) => format!("missing {}", names.join(", ")),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn resolves() {
        check(json!([]), expect![[r#"[("hello-00002", 100)] []"#]]);
        check(
            json!([{"latestRevision": true, "percent": 100}]),
            expect![[r#"[("hello-00002", 100)] []"#]],
        );
        check(
            json!([
                {"revisionName": "hello-00001", "percent": 90},
                {"latestRevision": true, "percent": 10, "tag": "next"},
            ]),
            expect![[r#"[("hello-00001", 90), ("hello-00002", 10)] [("next", "hello-00002")]"#]],
        );
        // The same revision twice is added up.
        check(
            json!([
                {"revisionName": "hello-00002", "percent": 30, "tag": "a"},
                {"revisionName": "hello-00001", "percent": 50},
                {"latestRevision": true, "percent": 20, "tag": "b"},
            ]),
            expect![[
                r#"[("hello-00002", 50), ("hello-00001", 50)] [("a", "hello-00002"), ("b", "hello-00002")]"#
            ]],
        );
        // No share, but a tag; no percent is 0 %.
        check(
            json!([
                {"configurationName": "hello", "percent": 100},
                {"revisionName": "hello-00001", "percent": 0, "tag": "old"},
                {"revisionName": "hello-00001", "tag": "older"},
                {"revisionName": "hello-00001", "percent": 0},
            ]),
            expect![[
                r#"[("hello-00002", 100)] [("old", "hello-00001"), ("older", "hello-00001")]"#
            ]],
        );
    }

    #[test]
    fn names_all_that_is_missing() {
        check(
            json!([
                {"revisionName": "hello-00007", "percent": 50},
                {"revisionName": "hello-00001", "percent": 50},
                {"configurationName": "bye", "percent": 0, "tag": "t"},
                {"revisionName": "hello-00007", "tag": "again"},
            ]),
            expect!["missing hello-00007, bye"],
        );
    }

    proptest::proptest! {
        /// Whatever is asked for: shares are kept, revisions are distinct, no share is 0, every tag
        /// leads somewhere.
        #[test]
        fn shares_are_kept(
            asked in proptest::collection::vec((0_usize..3, 0_u8..=20, proptest::bool::ANY), 1..8),
        ) {
            let target = |(index, (to, percent, tagged)): (usize, &(usize, u8, bool))| Target {
                tag: tagged.then(|| format!("t{index}")),
                revision: [None, Some("hello-00001"), Some("hello-00002")][*to].map(str::to_owned),
                configuration: None,
                percent: *percent,
            };
            let targets: Vec<Target> = asked.iter().enumerate().map(target).collect();
            let resolved = resolve(&targets, &Known, "hello").unwrap();
            let sum = |shares: Vec<u8>| shares.into_iter().map(u32::from).sum::<u32>();
            proptest::prop_assert_eq!(
                sum(resolved.targets.iter().map(|(_, percent)| *percent).collect()),
                sum(asked.iter().map(|(_, percent, _)| *percent).collect())
            );
            let mut names: Vec<&String> = resolved.targets.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            proptest::prop_assert_eq!(names.len(), resolved.targets.len());
            proptest::prop_assert!(resolved.targets.iter().all(|(_, percent)| *percent > 0));
            let tags = asked.iter().filter(|(_, _, tagged)| *tagged).count();
            proptest::prop_assert_eq!(resolved.tags.len(), tags);
        }
    }
}
