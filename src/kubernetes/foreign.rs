//! A Knative that runs in the same cluster: recognised by the Leases that its controllers renew,
//! never fought. While one lives, its kinds are neither served, scaled nor written here; what is
//! adopted is annotated for tidegate and goes on.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::kinds::Kind;

/// A Lease that did not change for so long is nobody's.
const STALE: Duration = Duration::from_secs(60);
/// How often the Leases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(2);
/// A look takes no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
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
    /// Looks at the Leases of Knative's namespace for good.
    pub async fn run(self, client: &Client, namespace: &str) {
        let api = Kind::Lease.in_namespace(client, namespace);
        let mut seen = Seen::default();
        loop {
            let list = timeout(CALL_TIMEOUT, api.list(&ListParams::default())).await;
            let wait = match list {
                Ok(Ok(leases)) => {
                    let leases = leases.items.iter().filter_map(Renewal::of);
                    self.say(!seen.look(leases, Timestamp::now(), Instant::now()), namespace);
                    LOOK_EVERY
                }
                // Without the right to look nothing is known of anybody, also later.
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                    if self.alone.borrow().is_none() {
                        tracing::info!(
                            namespace,
                            "Leases cannot be listed here, so a running Knative is not recognised"
                        );
                    }
                    self.say(true, namespace);
                    LOOK_EVERY
                }
                // What was known last holds.
                _ => AGAIN,
            };
            sleep(wait).await;
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
#[derive(Debug, Default)]
struct Seen(HashMap<String, (String, Option<Instant>)>);

impl Seen {
    /// Whether any is alive: renewed within the last minute by what it says, or by what was seen
    /// of it – the clocks of two machines may differ.
    fn look(
        &mut self,
        leases: impl Iterator<Item = Renewal>,
        wall: Timestamp,
        now: Instant,
    ) -> bool {
        let mut seen = HashMap::new();
        let mut alive = false;
        for Renewal { name, time } in leases {
            let changed = match self.0.get(&name) {
                Some((former, since)) if *former == time => *since,
                Some(_) => Some(now),
                // When it changed before the first look is only known from its time.
                None => None,
            };
            let age = time.parse::<Timestamp>().ok().map(|time| wall.duration_since(time));
            let says = age.is_some_and(|age| age.unsigned_abs() <= STALE);
            alive |= says || changed.is_some_and(|since| now - since <= STALE);
            seen.insert(name, (time, changed));
        }
        self.0 = seen;
        alive
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
                let alive = seen.look([renewal].into_iter(), wall + after, start + after);
                assert_eq!(alive, *expected, "second {second}");
            }
        };
        check(&[(0, 0, true), (60, 0, true), (61, 0, false), (75, 74, true)]);
        // Left behind long ago.
        check(&[(0, -61, false), (15, -61, false)]);
        // Its clock is ten minutes behind, or ahead.
        check(&[(0, -600, false), (15, -590, true), (30, -590, true), (76, -590, false)]);
        check(&[(0, 600, false), (15, 615, true), (76, 615, false)]);
        assert!(!Seen::default().look(std::iter::empty(), wall, start));
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
