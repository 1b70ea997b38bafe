//! Which revisions that nothing uses are kept (Knative's garbage collection,
//! `pkg/reconciler/gc/gc.go`): those that were made or in use lately, and a number to go back to.

use std::time::Duration;

use super::settings::RetentionConfig;

/// Annotation of a revision that is never collected.
pub const KEEP: &str = "serving.knative.dev/no-gc";

/// A revision that nothing uses. Times are seconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Idle<T> {
    /// The revision.
    pub revision: T,
    /// When it was made.
    pub created: u64,
    /// When it was in use last.
    pub last_active: u64,
}

/// The idle revisions of one configuration that are past the limits.
pub fn expired<T>(
    mut idle: Vec<Idle<T>>,
    limits: &RetentionConfig,
    now: u64,
) -> impl Iterator<Item = T> + use<T> {
    // Oldest first; among equals in the order they were given.
    idle.sort_by_key(|one| one.last_active);
    let mut may_go = idle.len().saturating_sub(limits.min_non_active);
    let (mut expired, mut kept) = (Vec::new(), Vec::new());
    for one in idle {
        if may_go > 0 && stale_at(&one, limits).is_some_and(|at| at <= now) {
            may_go -= 1;
            expired.push(one);
        } else {
            kept.push(one);
        }
    }
    let surplus = limits.max_non_active.map_or(0, |max| kept.len().saturating_sub(max));
    expired.extend(kept.drain(..surplus));
    expired.into_iter().map(|one| one.revision)
}

/// When the next of the idle revisions is past the limits of time, if one may go then.
pub fn next_expiry<T>(idle: &[Idle<T>], limits: &RetentionConfig, now: u64) -> Option<Duration> {
    if idle.len() <= limits.min_non_active {
        return None;
    }
    let times = idle.iter().filter_map(|one| stale_at(one, limits)).filter(|at| *at > now);
    times.min().map(|at| Duration::from_secs(at - now))
}

/// When no limit of time keeps a revision any more; none = they never say so.
fn stale_at<T>(one: &Idle<T>, limits: &RetentionConfig) -> Option<u64> {
    let since = |limit: Option<Duration>, since: u64| {
        // A part of a second is waited for.
        limit.map(|limit| {
            since.saturating_add(limit.as_secs() + u64::from(limit.subsec_nanos() > 0))
        })
    };
    since(limits.since_create, one.created).max(since(limits.since_last_active, one.last_active))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next one to go is looked at when it goes, and not before.
    #[test]
    fn when_the_next_one_goes() {
        let idle: Vec<Idle<u32>> = [(0, 100), (50, 60), (70, 80)]
            .into_iter()
            .zip(1..)
            .map(|((created, last_active), revision)| Idle { revision, created, last_active })
            .collect();
        let limits = |create: Option<u64>, active: Option<u64>, min| RetentionConfig {
            since_create: create.map(Duration::from_secs),
            since_last_active: active.map(Duration::from_secs),
            min_non_active: min,
            max_non_active: None,
        };
        let gone =
            |limits: &RetentionConfig, now| expired(idle.clone(), limits, now).collect::<Vec<_>>();
        let both = limits(Some(100), Some(50), 0);
        assert_eq!(next_expiry(&idle, &both, 100), Some(Duration::from_secs(50)));
        assert_eq!(gone(&both, 149), [0; 0]);
        assert_eq!(gone(&both, 150), [2, 1]);
        assert_eq!(next_expiry(&idle, &both, 150), Some(Duration::from_secs(20)));
        assert_eq!(gone(&both, 170), [2, 3, 1]);
        assert_eq!(next_expiry(&idle, &both, 170), None);
        assert_eq!(next_expiry(&idle, &limits(None, None, 0), 100), None);
        assert_eq!(next_expiry(&idle, &limits(Some(100), Some(50), 3), 100), None, "all are kept");
    }
}
