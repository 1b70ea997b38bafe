//! Which stamped revisions are kept (Knative's garbage collection, `pkg/reconciler/gc`): those in
//! use, those that were in use or made lately, and a number of others to go back to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::admitted::{Objects, metadata_map};
use super::identity::{Kind, ObjectKey};
use super::revisions::Configuration;
use super::routes::RouteDraft;
use super::stamp::{ConfigurationStamps, StampedRevision, Stamps};
use crate::config::retention::{self, Idle, KEEP};
use crate::config::rollout::UnixNanos;
use crate::config::settings::RetentionConfig;
use crate::model::RevisionId;

/// Seconds since the Unix epoch, as stamps note them.
const fn seconds(now: UnixNanos) -> u64 {
    now.0 / 1_000_000_000
}

/// What a load says about the use of revisions.
pub(super) struct Usage {
    /// In seconds since the Unix epoch.
    now: u64,
    /// Configurations that are there, as `NAMESPACE/NAME`: of others nothing is known, for a file
    /// cannot be read.
    present: BTreeSet<String>,
    /// Revisions that traffic or a tag names.
    pub(super) routed: HashSet<RevisionId>,
    /// Namespaces where some traffic names what is not there: what it will name, nobody knows.
    unsettled: BTreeSet<Arc<str>>,
    /// Revisions that documents bring: the files keep them.
    documents: HashSet<RevisionId>,
}

impl Usage {
    pub(super) fn new(
        configurations: &[Configuration<'_>],
        routes: &[RouteDraft<'_>],
        objects: &Objects,
        now: UnixNanos,
    ) -> Self {
        let documents = objects.keys().filter(|key: &&ObjectKey| key.kind == Kind::Revision);
        let unsettled = routes.iter().filter(|route| !route.is_resolved);
        Self {
            now: seconds(now),
            present: configurations.iter().map(|c| c.id.to_string()).collect(),
            routed: routes.iter().flat_map(RouteDraft::revisions).collect(),
            unsettled: unsettled.map(|route| Arc::clone(&route.id.namespace)).collect(),
            documents: documents.map(|key| key.name.clone()).collect(),
        }
    }

    /// Revisions that are past every limit.
    pub(super) fn expired(
        &self,
        stamps: &Stamps,
        limits: &RetentionConfig,
    ) -> BTreeSet<RevisionId> {
        let mut expired = BTreeSet::new();
        for name in &self.present {
            let Some(configuration) = stamps.configurations.get(name.as_str()) else { continue };
            let namespace = namespace_of(name);
            if self.unsettled.contains(namespace) {
                continue;
            }
            let id = |revision: &StampedRevision| RevisionId::new(namespace, &*revision.name);
            let in_use = |revision: &StampedRevision| {
                let id = id(revision);
                self.routed.contains(&id) || self.documents.contains(&id)
            };
            expired.extend(configuration.expired(in_use, limits, self.now).map(id));
        }
        expired
    }

    /// Notes in the stamps what is in use, and forgets the expired ones.
    pub(super) fn note(&self, stamps: &mut Stamps, expired: &BTreeSet<RevisionId>) {
        for name in &self.present {
            let Some(configuration) = stamps.configurations.get_mut(name.as_str()) else {
                continue;
            };
            let namespace = namespace_of(name);
            let is_new = |revision: &StampedRevision| {
                let id = RevisionId::new(namespace, &*revision.name);
                let is_idle = revision.inactive_since.is_some();
                revision.created == 0
                    || self.routed.contains(&id) == is_idle
                    || expired.contains(&id)
            };
            // Stamps that stay as they are stay the same object: they are not written again.
            if !configuration.revisions.iter().any(is_new) {
                continue;
            }
            Arc::make_mut(configuration).revisions.retain_mut(|revision| {
                let id = RevisionId::new(namespace, &*revision.name);
                if revision.created == 0 {
                    revision.created = self.now;
                }
                if self.routed.contains(&id) {
                    revision.inactive_since = None;
                } else {
                    revision.inactive_since.get_or_insert(self.now);
                }
                !expired.contains(&id)
            });
        }
    }
}

/// Namespace of `NAMESPACE/NAME`.
fn namespace_of(name: &str) -> &str {
    name.split_once('/').map_or("", |(namespace, _)| namespace)
}

impl ConfigurationStamps {
    fn expired<'a>(
        &'a self,
        in_use: impl Fn(&StampedRevision) -> bool,
        limits: &RetentionConfig,
        now: u64,
    ) -> impl Iterator<Item = &'a StampedRevision> {
        let idle = self
            .revisions
            .iter()
            .filter(|revision| revision.name != self.latest && !revision.is_kept())
            .filter(|revision| !in_use(revision))
            .map(|revision| Idle {
                revision,
                created: if revision.created == 0 { now } else { revision.created },
                last_active: revision.inactive_since.unwrap_or(now),
            });
        retention::expired(idle.collect(), limits, now)
    }
}

impl StampedRevision {
    /// Whether its template asks to be kept for good.
    fn is_kept(&self) -> bool {
        let annotations: BTreeMap<_, _> = metadata_map(&self.admitted, "annotations");
        annotations.get(KEEP).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl Stamps {
    /// Whether a load at `now` may find revisions to collect, as far as the last load's use of
    /// them tells. May say yes for nothing.
    pub(super) fn may_collect(&self, limits: &RetentionConfig, now: UnixNanos) -> bool {
        let now = seconds(now);
        let in_use = |revision: &StampedRevision| revision.inactive_since.is_none();
        let mut configurations = self.configurations.values();
        configurations.any(|stamps| stamps.expired(in_use, limits, now).next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const HOUR: u64 = 3600;

    /// Revisions `1`, `2`, … made and last in use so many hours ago; the newest is the latest.
    fn stamps(ages: &[(u64, Option<u64>)]) -> ConfigurationStamps {
        let now = 1000 * HOUR;
        let revisions = (1..).zip(ages).map(|(number, (created, inactive))| StampedRevision {
            name: format!("{number}"),
            created: now - created * HOUR,
            inactive_since: inactive.map(|hours| now - hours * HOUR),
            admitted: json!({}).into(),
            ..StampedRevision::default()
        });
        let revisions: Vec<_> = revisions.collect();
        let latest = revisions.last().map(|r| r.name.clone()).unwrap_or_default();
        ConfigurationStamps { latest, revisions, ..ConfigurationStamps::default() }
    }

    fn expired(stamps: &ConfigurationStamps, limits: &RetentionConfig) -> String {
        let in_use = |revision: &StampedRevision| revision.inactive_since.is_none();
        let mut names: Vec<&str> =
            stamps.expired(in_use, limits, 1000 * HOUR).map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        names.join(" ")
    }

    fn limits(
        create: Option<u64>,
        active: Option<u64>,
        min: usize,
        max: Option<usize>,
    ) -> RetentionConfig {
        let hours = |hours: Option<u64>| hours.map(|hours| Duration::from_secs(hours * HOUR));
        RetentionConfig {
            since_create: hours(create),
            since_last_active: hours(active),
            min_non_active: min,
            max_non_active: max,
        }
    }

    #[test]
    fn who_is_past_the_limits() {
        // In use; old; old but in use lately; young; the latest, not in use.
        let some =
            stamps(&[(100, None), (90, Some(80)), (80, Some(10)), (40, Some(30)), (30, Some(29))]);
        for (limits, gone) in [
            (limits(Some(48), Some(15), 0, None), "2"),
            (limits(Some(48), Some(15), 3, None), ""),
            (limits(Some(48), Some(15), 2, None), "2"),
            (limits(None, Some(15), 0, None), "2 4"),
            (limits(Some(48), None, 0, None), "2 3"),
            (limits(None, None, 0, None), ""),
            (limits(None, None, 0, Some(1)), "2 4"),
            (limits(None, None, 0, Some(0)), "2 3 4"),
            (limits(Some(48), Some(15), 0, Some(1)), "2 4"),
            (limits(Some(48), Some(15), 1, Some(1)), "2 4"),
            (RetentionConfig::default(), ""),
        ] {
            assert_eq!(expired(&some, &limits), gone, "{limits:?}");
        }
    }

    #[test]
    fn twenty_are_kept_to_go_back_to() {
        let ages: Vec<_> = (0..30).map(|n| (500 - n, Some(499 - n))).collect();
        let many = stamps(&ages);
        // 29 beside the latest: the oldest nine go.
        assert_eq!(expired(&many, &RetentionConfig::default()), "1 2 3 4 5 6 7 8 9");
    }

    #[test]
    fn an_annotation_keeps_one() {
        let mut some = stamps(&[(90, Some(80)), (80, Some(70)), (1, None)]);
        let all = limits(Some(1), Some(1), 0, Some(0));
        assert_eq!(expired(&some, &all), "1 2");
        some.revisions[0].admitted =
            json!({"metadata": {"annotations": {"serving.knative.dev/no-gc": "True"}}}).into();
        assert_eq!(expired(&some, &all), "2");
    }

    proptest::proptest! {
        /// Never one in use, never the latest; at least the minimum and at most the maximum stay.
        #[test]
        fn bounds_hold(
            ages in proptest::collection::vec((0_u64..100, proptest::option::of(0_u64..100)), 0..12),
            create in proptest::option::of(0_u64..100), active in proptest::option::of(0_u64..100),
            min in 0_usize..6, room in proptest::option::of(0_usize..6),
        ) {
            let some = stamps(&ages);
            let max = room.map(|room| min + room);
            let limits = limits(create, active, min, max);
            let in_use = |revision: &StampedRevision| revision.inactive_since.is_none();
            let gone: Vec<&StampedRevision> = some.expired(in_use, &limits, 1000 * HOUR).collect();
            proptest::prop_assert!(gone.iter().all(|r| !in_use(r) && r.name != some.latest));
            let idle = some.revisions.iter().filter(|r| !in_use(r) && r.name != some.latest).count();
            let left = idle - gone.len();
            proptest::prop_assert!(left >= min.min(idle));
            proptest::prop_assert!(max.is_none_or(|max| left <= max));
        }
    }
}
