//! A Knative that runs in the same cluster: recognised by the Leases that its controllers renew,
//! never fought. While one lives, its kinds are neither served, scaled nor written here; what is
//! adopted is annotated for tidegate and goes on.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::kinds::Kind;
use super::mirror::Mirror;

/// A Lease that did not change for so long is nobody's.
const STALE: Duration = Duration::from_secs(60);
/// How often the right to look is looked for where it is missing.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// After a call that failed.
const AGAIN: Duration = Duration::from_secs(2);
/// A call takes no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Past the end of what was alive, so that it is over when it is looked at.
const A_MOMENT: Duration = Duration::from_millis(10);
/// What the names of the Leases of Knative's controllers begin with.
const PREFIXES: [&str; 2] = ["controller.", "autoscaler"];

/// Whose the objects are.
#[derive(Clone, Debug)]
pub struct Ownership {
    alone: watch::Receiver<Option<bool>>,
}

impl Ownership {
    /// Whether no Knative lives; none until the first look.
    pub fn alone(&self) -> watch::Receiver<Option<bool>> {
        self.alone.clone()
    }
}

/// The side that looks.
#[derive(Debug)]
pub struct Recogniser {
    alone: watch::Sender<Option<bool>>,
}

/// Nothing known yet, and the part that [`Recogniser::run`] plays in it.
pub fn recognise() -> (Recogniser, Ownership) {
    let (sender, alone) = watch::channel(None);
    (Recogniser { alone: sender }, Ownership { alone })
}

impl Recogniser {
    /// Follows the Leases of Knative's namespace for good. By a watch, so that all proxies take over
    /// and let go at the same moment.
    pub async fn run(self, client: &Client, namespace: &str) {
        let api = Kind::Lease.in_namespace(client, namespace);
        self.be_allowed(&api, namespace).await;
        let leases = Mirror::default();
        let changed = Notify::new();
        tokio::select! {
            () = leases.follow(api, watcher::Config::default(), Renewal::of, |_| changed.notify_one()) => {}
            () = self.look(&leases, &changed, namespace) => {}
        }
    }

    /// Returns once the Leases may be listed. Without that right nothing is known of anybody.
    async fn be_allowed(&self, api: &Api<DynamicObject>, namespace: &str) {
        let one = ListParams::default().limit(1);
        loop {
            let wait = match timeout(CALL_TIMEOUT, api.list(&one)).await {
                Ok(Ok(_)) => return,
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                    if self.alone.borrow().is_none() {
                        tracing::info!(
                            namespace,
                            "Leases cannot be listed here, so a running Knative is not recognised"
                        );
                    }
                    self.say(true, namespace);
                    ASK_EVERY
                }
                _ => AGAIN,
            };
            sleep(wait).await;
        }
    }

    /// Judges whenever a Lease changed, and when the last one that lived has not for too long.
    async fn look(&self, leases: &Mirror<Renewal>, changed: &Notify, namespace: &str) {
        let mut seen = Seen::default();
        leases.complete().await;
        loop {
            let renewals = leases.all().into_iter().map(|(_, renewal)| (*renewal).clone());
            let alive = seen.look(renewals, Timestamp::now(), Instant::now());
            self.say(alive.is_none(), namespace);
            tokio::select! {
                () = changed.notified() => {}
                () = sleep(alive.unwrap_or(STALE)) => {}
            }
        }
    }

    fn say(&self, alone: bool, namespace: &str) {
        let former = *self.alone.borrow();
        // Told only when it is another one: much is looked at anew then.
        self.alone.send_if_modified(|known| known.replace(alone) != Some(alone));
        match (former, alone) {
            (None | Some(true), false) => tracing::warn!(
                namespace,
                "a Knative lives here, its Leases are renewed: tidegate neither serves nor scales nor \
                 changes its objects until they are not renewed any more; only what is adopted"
            ),
            (Some(false), true) => tracing::info!(
                namespace,
                "Knative's Leases are not renewed any more: tidegate acts on all objects"
            ),
            _ => {}
        }
    }
}

/// A Lease of one of Knative's controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Renewal {
    name: String,
    /// As it stands there.
    time: String,
}

impl Renewal {
    /// None for a Lease of anything else, or one that nobody holds.
    fn of(lease: &DynamicObject) -> Option<Self> {
        let name = lease.metadata.name.clone()?;
        let is_knatives = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let spec = lease.data.get("spec")?;
        let text = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
        let is_held = !text("holderIdentity").is_empty();
        (is_knatives && is_held).then(|| Self { name, time: text("renewTime").to_owned() })
    }
}

/// Leases as they were seen, and since when they are so.
#[derive(Clone, Debug, Default)]
struct Seen(HashMap<String, (String, Option<Instant>)>);

impl Seen {
    /// For how long any is alive yet, none if none is: it was renewed within the last minute by
    /// what it says, or by what was seen of it – the clocks of two machines may differ.
    fn look(
        &mut self,
        leases: impl Iterator<Item = Renewal>,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Duration> {
        let mut seen = HashMap::new();
        let mut alive = None;
        for Renewal { name, time } in leases {
            let changed = match self.0.get(&name) {
                Some((former, since)) if *former == time => *since,
                Some(_) => Some(now),
                // When it changed before the first look is only known from its time.
                None => None,
            };
            let age = time.parse::<Timestamp>().ok().map(|time| wall.duration_since(time));
            // A time to come is as good as one that far back.
            let said = age.map(|age| (age.unsigned_abs(), age.is_negative()));
            let said = said
                .filter(|(age, _)| *age <= STALE)
                .map(|(age, is_ahead)| if is_ahead { STALE + age } else { STALE - age });
            let was_seen = changed.and_then(|since| STALE.checked_sub(now - since));
            alive = alive.max(said).max(was_seen);
            seen.insert(name, (time, changed));
        }
        self.0 = seen;
        alive.map(|left| left + A_MOMENT)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(name: &str, holder: &str, time: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "knative-serving"},
            "spec": {"holderIdentity": holder, "renewTime": time},
        }))
        .unwrap()
    }

    const CONTROLLER: &str =
        "controller.knative.dev.serving.pkg.reconciler.route.reconciler.00-of-01";

    #[test]
    fn leases_of_knative_that_somebody_holds() {
        for (name, holder, expected) in [
            (CONTROLLER, "controller-5d_1", true),
            ("autoscaler-bucket-00-of-01", "autoscaler-1_10.0.0.1", true),
            (CONTROLLER, "", false),
            ("tidegate", "tidegate-1", false),
            ("net-kourier-controller.00-of-01", "x", false),
        ] {
            let found = Renewal::of(&lease(name, holder, "2026-01-01T00:00:00.000000Z"));
            assert_eq!(found.is_some(), expected, "{name} {holder}");
        }
    }

    #[test]
    fn alive_is_what_was_renewed_within_a_minute_by_whatever_clock() {
        let (wall, start) = (Timestamp::from_second(1_800_000_000).unwrap(), Instant::now());
        // Second of the look, the Lease's time then as seconds of this clock, alive.
        let check = |rows: &[(u64, i64, bool)]| {
            let mut seen = Seen::default();
            for (second, time, expected) in rows {
                let time = Timestamp::from_second(1_800_000_000 + time).unwrap().to_string();
                let renewal = Renewal { name: "a".to_owned(), time };
                let after = Duration::from_secs(*second);
                let alive = seen.look([renewal.clone()].into_iter(), wall + after, start + after);
                assert_eq!(alive.is_some(), *expected, "second {second}");
                let Some(left) = alive else { continue };
                // Without another change it is alive for just so long.
                for (later, expected) in [(left.saturating_sub(2 * A_MOMENT), true), (left, false)]
                {
                    let mut seen = seen.clone();
                    let renewal = renewal.clone();
                    let alive = seen.look(
                        [renewal].into_iter(),
                        wall + after + later,
                        start + after + later,
                    );
                    assert_eq!(alive.is_some(), expected, "second {second} and {later:?}");
                }
            }
        };
        check(&[(0, 0, true), (60, 0, true), (61, 0, false), (75, 74, true)]);
        // Left behind long ago.
        check(&[(0, -61, false), (15, -61, false)]);
        // Its clock is ten minutes behind, or ahead.
        check(&[(0, -600, false), (15, -590, true), (30, -590, true), (76, -590, false)]);
        check(&[(0, 600, false), (15, 615, true), (76, 615, false)]);
        assert!(Seen::default().look(std::iter::empty(), wall, start).is_none());
    }

    #[test]
    fn what_is_known_is_told() {
        let (recogniser, ownership) = recognise();
        let known = || *ownership.alone().borrow();
        assert_eq!(known(), None);
        let mut told = ownership.alone();
        for alone in [true, true, false, false, true] {
            let is_new = known() != Some(alone);
            recogniser.say(alone, "knative-serving");
            assert_eq!(known(), Some(alone));
            assert_eq!(told.has_changed().unwrap(), is_new);
            told.mark_unchanged();
        }
    }
}
