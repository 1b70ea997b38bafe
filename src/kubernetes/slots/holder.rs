//! What one proxy may use, what it does use, and what it has told of both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{EndpointId, RevisionId, nanos_of};

use super::message::{Cap, Held, Need};

/// A revision as it is at one moment in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `containerConcurrency`.
    pub limit: u32,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// Requests that wait.
    pub waiting: u32,
    /// Its endpoints, those on their way out that still have requests included.
    pub endpoints: Vec<SeenEndpoint>,
}

/// One endpoint of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEndpoint {
    /// Which.
    pub id: EndpointId,
    /// Slots in use.
    pub used: u32,
    /// The most that were since this was last looked at.
    pub peak: u32,
    /// Whether requests would be sent there.
    pub takes: bool,
}

/// Own, used, takes.
type Line = (u32, u32, bool);

/// Slots of one endpoint that are this process' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSlots {
    /// Whose.
    pub endpoint: EndpointId,
    /// How many.
    pub slots: u32,
    /// Others wait for such: that one is idle is to be told at once.
    pub wanted: bool,
}

#[derive(Debug, Default)]
struct Place {
    /// In force in the revision.
    own: u32,
    /// To be in force next.
    wish: Option<u32>,
    wanted: bool,
    used: u32,
    takes: bool,
    /// Most in use in the present span between two renewals, and in the one before.
    peaks: [u32; 2],
    /// What the keeper was told last in this session: own, used, takes.
    told: Option<Line>,
    /// The keeper waits for a word on what it granted, even if all is as it was told last.
    owes: bool,
}

impl Place {
    fn held(&self) -> u32 {
        self.own.max(self.used)
    }

    fn line(&self) -> Line {
        (self.own, self.used, self.takes)
    }

    /// Nothing to know of it, and nothing that the keeper does not know.
    fn is_over(&self) -> bool {
        let nothing = |(own, used, takes): Line| own == 0 && used == 0 && !takes;
        nothing(self.line()) && self.wish.is_none() && !self.owes && self.told.is_none_or(nothing)
    }
}

#[derive(Debug, Default)]
struct Local {
    limit: u32,
    timeout: Duration,
    waiting: u32,
    told_waiting: u32,
    places: BTreeMap<EndpointId, Place>,
}

/// One proxy's part.
#[derive(Debug, Default)]
pub(super) struct Holder {
    revisions: BTreeMap<RevisionId, Local>,
    /// May differ from what was told.
    changed: BTreeSet<RevisionId>,
    is_due: bool,
}

impl Holder {
    /// Forgets everything: it may use what there is.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A revision was looked at; none = it is gone, and its requests too. Endpoints that were not
    /// known have no slot, or all where `has_all`.
    pub(super) fn observe(&mut self, id: &RevisionId, seen: Option<&Seen>, has_all: bool) {
        if seen.is_none() && !self.revisions.contains_key(id) {
            return;
        }
        let local = self.revisions.entry(id.clone()).or_default();
        let absent = |seen: Option<&Seen>, id: &EndpointId| {
            seen.is_none_or(|seen| seen.endpoints.iter().all(|e| e.id != *id))
        };
        for (endpoint, place) in &mut local.places {
            if absent(seen, endpoint) {
                let Place { told, owes, .. } = *place;
                *place = Place { told, owes, ..Place::default() };
            }
        }
        local.waiting = seen.map_or(0, |seen| seen.waiting);
        if let Some(seen) = seen {
            (local.limit, local.timeout) = (seen.limit, seen.timeout);
            for endpoint in &seen.endpoints {
                let place = local.places.entry(endpoint.id.clone()).or_default();
                if has_all {
                    place.own = seen.limit;
                }
                (place.used, place.takes) = (endpoint.used, endpoint.takes);
                place.peaks[0] = place.peaks[0].max(endpoint.peak).max(endpoint.used);
            }
        }
        local.places.retain(|_, place| !place.is_over());
        for place in local.places.values_mut() {
            if place.wanted && local.waiting == 0 && place.own > place.used && place.wish.is_none()
            {
                place.wish = Some(place.used);
            }
        }
        let returned = |p: &Place| p.told.is_some_and(|(own, used, _)| p.held() < own.max(used));
        let opened = |p: &Place| p.takes && p.told.is_none_or(|(.., takes)| !takes);
        let asks = local.waiting > 0
            && (local.told_waiting == 0
                || local.waiting >= local.told_waiting.saturating_mul(2)
                || local.places.values().any(opened));
        self.is_due |= asks || local.places.values().any(returned);
        if local.places.is_empty() && local.waiting == 0 && local.told_waiting == 0 {
            self.revisions.remove(id);
            self.changed.remove(id);
        } else {
            self.changed.insert(id.clone());
        }
    }

    /// What the keeper grants; in force once [`Self::take_wishes`] was obeyed.
    pub(super) fn grant(&mut self, caps: &[Cap]) {
        for cap in caps {
            // One that is gone meanwhile goes back, with a word.
            let local = self.revisions.entry(cap.revision.clone()).or_default();
            let place = local.places.entry(cap.endpoint.clone()).or_default();
            // What is taken back is waited for; what is given can be acknowledged later.
            self.is_due |= cap.slots < place.own || !place.takes;
            place.owes = true;
            let before = place.wish.unwrap_or(place.own);
            local.told_waiting =
                local.told_waiting.saturating_sub(cap.slots.saturating_sub(before));
            place.wish = Some(cap.slots);
            place.wanted = cap.wanted;
            self.changed.insert(cap.revision.clone());
        }
    }

    /// Idle slots go back: what was not in use at any moment since the renewal before the last.
    pub(super) fn return_idle(&mut self) {
        for local in self.revisions.values_mut() {
            for place in local.places.values_mut() {
                let needed = place.used.max(place.peaks[0]).max(place.peaks[1]);
                place.peaks = [place.used, place.peaks[0]];
                let keeps = local.waiting > 0 && place.takes;
                if place.own > needed && place.wish.is_none() && !keeps {
                    place.wish = Some(if place.takes { needed } else { 0 });
                }
            }
        }
    }

    /// The lease has ended: what is idle is nobody's own any more.
    pub(super) fn drop_idle(&mut self) {
        for local in self.revisions.values_mut() {
            for place in local.places.values_mut().filter(|place| place.own > place.used) {
                place.wish = Some(place.used);
            }
        }
    }

    /// What to put in force, by revision. Each is to be followed by [`Self::applied`].
    pub(super) fn take_wishes(&mut self) -> Vec<(RevisionId, Vec<OwnSlots>)> {
        let wishes = |local: &Local| -> Vec<_> {
            let wished = |(id, place): (&EndpointId, &Place)| {
                let (endpoint, wanted) = (id.clone(), place.wanted);
                Some(OwnSlots { endpoint, slots: place.wish?, wanted })
            };
            local.places.iter().filter_map(wished).collect()
        };
        let all = self.revisions.iter().map(|(id, local)| (id.clone(), wishes(local)));
        all.filter(|(_, wishes)| !wishes.is_empty()).collect()
    }

    /// These are in force, and this is what the revision looked like afterwards.
    pub(super) fn applied(&mut self, id: &RevisionId, caps: &[OwnSlots], seen: Option<&Seen>) {
        if let Some(local) = self.revisions.get_mut(id) {
            for own in caps {
                if let Some(place) = local.places.get_mut(&own.endpoint) {
                    place.own = own.slots;
                    place.wish = None;
                }
            }
        }
        self.observe(id, seen, false);
    }

    /// Revisions with slots or requests.
    pub(super) fn holding(&self) -> Vec<RevisionId> {
        let holds = |local: &Local| {
            local.waiting > 0
                || local.told_waiting > 0
                || local.places.values().any(|p| p.held() > 0)
        };
        self.revisions.iter().filter(|(_, l)| holds(l)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether the keeper is to be told now.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// What has changed since the keeper was told, or everything in a new session; with a renewal
    /// also who still waits.
    pub(super) fn needs(&mut self, everything: bool, is_renewal: bool) -> Vec<Need> {
        self.is_due = false;
        let changed = std::mem::take(&mut self.changed);
        let mut needs = Vec::new();
        for (id, local) in &mut self.revisions {
            if everything {
                local.places.values_mut().for_each(|place| place.told = None);
            } else if !changed.contains(id) {
                continue;
            }
            let mut endpoints = Vec::new();
            for (endpoint, place) in &mut local.places {
                let line @ (own, used, takes) = place.line();
                if place.told != Some(line) || place.owes {
                    place.told = Some(line);
                    place.owes = false;
                    endpoints.push(Held { endpoint: endpoint.clone(), own, used, takes });
                }
            }
            let waits = local.waiting != local.told_waiting
                || ((is_renewal || everything) && local.waiting > 0);
            if endpoints.is_empty() && !waits {
                continue;
            }
            local.told_waiting = local.waiting;
            needs.push(Need {
                revision: id.clone(),
                limit: local.limit,
                timeout_ms: nanos_of(local.timeout) / 1_000_000,
                waiting: local.waiting,
                endpoints,
            });
            local.places.retain(|_, place| !place.is_over());
        }
        self.revisions.retain(|_, l| !(l.places.is_empty() && l.waiting == 0));
        needs
    }
}
