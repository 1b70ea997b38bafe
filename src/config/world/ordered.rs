//! Traffic that somebody ordered by the admin API: it holds until the `traffic` block of the
//! manifest itself changes, over restarts too.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::identity::{Kind, ObjectKey};
use super::revisions::generation_of;
use super::rolling::Moment;
use super::stamp::{Stamps, TrafficStamp};
use super::traffic::{Missing, Revisions, resolve, targets};
use super::{Loaded, Loader};
use crate::model::{ObjectName, RevisionId, ServiceId, World};

/// A block of traffic in place of a manifest's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OrderedTraffic {
    /// What the manifest's block was, as admitted; null = there was none.
    written: Value,
    /// The block that holds.
    traffic: Value,
}

impl OrderedTraffic {
    /// The block that holds beside what the manifest says now; none once that is something else.
    pub(super) fn in_place_of(&self, written: Option<&Value>) -> Option<&Value> {
        (self.written == *written.unwrap_or(&Value::Null)).then_some(&self.traffic)
    }
}

/// Other shares of traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewTraffic {
    /// Revisions – none named: the latest – and per cents, which add up to 100.
    Shares(Vec<(Option<String>, u8)>),
    /// All to the revision before the newest one with traffic.
    Rollback,
}

/// What an order changes: shares in effect, each revision once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficChange {
    /// Before it.
    pub before: Vec<(String, u8)>,
    /// After it; where traffic moves step by step, in the end.
    pub after: Vec<(String, u8)>,
}

/// Why traffic cannot be so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No such service.
    #[error("there is no Service {0} in the manifests")]
    Unknown(ServiceId),
    /// It has no traffic that could be resolved yet.
    #[error("{0} has no traffic yet: its manifest names a revision that is not there")]
    NoTraffic(ServiceId),
    /// Revisions that are not there.
    #[error("{service} has no revision {}; there {}", .missing.join(", "), there(.known))]
    Missing {
        /// Whose.
        service: ServiceId,
        /// Those that are not there.
        missing: Vec<String>,
        /// Those that are.
        known: Vec<String>,
    },
    /// Nothing to go back to.
    #[error("{service} has no revision before {newest}")]
    NothingBefore {
        /// Whose.
        service: ServiceId,
        /// Its newest revision with traffic.
        newest: String,
    },
}

fn there(known: &[String]) -> String {
    match known {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

/// The revisions of a service that there are.
struct Known<'a> {
    service: &'a ServiceId,
    world: &'a World,
    stamps: &'a Stamps,
}

impl Known<'_> {
    fn names(&self) -> Vec<String> {
        let is_its =
            |spec: &&Arc<crate::model::RevisionSpec>| spec.service.as_ref() == Some(self.service);
        self.world.revisions.iter().filter(is_its).map(|spec| spec.id.name.to_string()).collect()
    }
}

impl Revisions for Known<'_> {
    fn exists(&self, name: &str) -> bool {
        let id = RevisionId::new(Arc::clone(&self.service.namespace), name);
        let found = self.world.revision(&id);
        found.is_some_and(|spec| spec.service.as_ref() == Some(self.service))
    }

    fn latest(&self, _: Option<&str>) -> Option<String> {
        self.stamps.latest(self.service).filter(|name| self.exists(name)).map(str::to_owned)
    }
}

impl Loader {
    /// What an order would change.
    ///
    /// # Errors
    /// Traffic cannot be so.
    pub fn plan_traffic(
        &self,
        service: &ServiceId,
        new: &NewTraffic,
    ) -> Result<TrafficChange, OrderError> {
        self.ordered(service, new).map(|(change, _)| change)
    }

    /// Has traffic be so until the manifest's block changes, and loads all.
    ///
    /// # Errors
    /// Traffic cannot be so.
    pub fn order_traffic(
        &mut self,
        service: &ServiceId,
        new: &NewTraffic,
        moment: &Moment<'_>,
    ) -> Result<(TrafficChange, Loaded), OrderError> {
        let (change, ordered) = self.ordered(service, new)?;
        self.stamps.set_ordered(service, ordered);
        Ok((change, self.load_whole(moment)))
    }

    fn ordered(
        &self,
        service: &ServiceId,
        new: &NewTraffic,
    ) -> Result<(TrafficChange, OrderedTraffic), OrderError> {
        let key = ObjectKey { kind: Kind::Service, name: service.clone() };
        let object = self.objects.get(&key).ok_or_else(|| OrderError::Unknown(service.clone()))?;
        let written = object.object.pointer("/spec/traffic");
        let good = self.stamps.good_traffic(service);
        let good = good.ok_or_else(|| OrderError::NoTraffic(service.clone()))?;
        let known = Known { service, world: &self.world, stamps: &self.stamps };
        let shares = match new {
            NewTraffic::Shares(shares) => shares.clone(),
            NewTraffic::Rollback => vec![(Some(self.before(service, good, &known)?), 100)],
        };
        let held = good.ordered.as_ref().and_then(|ordered| ordered.in_place_of(written));
        let traffic = traffic_block(held.or(written), &shares);
        let resolved = resolve(&targets(Some(&traffic)), &known, &service.name);
        let resolved = resolved.map_err(|Missing(missing)| OrderError::Missing {
            service: service.clone(),
            missing,
            known: known.names(),
        })?;
        let before = good.shares().into_iter().map(|share| (share.revision_name, share.percent));
        let change = TrafficChange { before: before.collect(), after: resolved.targets };
        let written = written.cloned().unwrap_or(Value::Null);
        Ok((change, OrderedTraffic { written, traffic }))
    }

    /// The revision before the newest one with traffic.
    fn before(
        &self,
        service: &ServiceId,
        good: &TrafficStamp,
        known: &Known<'_>,
    ) -> Result<String, OrderError> {
        let shares = good.shares();
        let mut names = known.names();
        names.sort_by_key(|name| self.age_of(service, name));
        let has_share = |name: &String| shares.iter().any(|share| share.revision_name == *name);
        let newest = names.iter().rposition(has_share);
        match newest {
            Some(index) if index > 0 => Ok(names.swap_remove(index - 1)),
            _ => Err(OrderError::NothingBefore {
                service: service.clone(),
                newest: newest.map_or("those with traffic", |index| &names[index]).to_owned(),
            }),
        }
    }

    /// Puts revisions in the order in which they were made: those of documents, which came from
    /// elsewhere, before those that were stamped here.
    fn age_of(&self, service: &ServiceId, name: &str) -> (bool, usize) {
        let stamped = self.stamps.revisions(service).iter();
        if let Some(index) = stamped.map(|revision| &revision.name).position(|known| known == name)
        {
            return (true, index);
        }
        let id = ObjectName::new(Arc::clone(&service.namespace), name);
        let document = self.objects.get(&ObjectKey { kind: Kind::Revision, name: id.clone() });
        let generation = document.and_then(|document| generation_of(service, &id, document));
        (false, generation.map_or(0, |generation| generation as usize))
    }
}

/// A block of traffic with these shares – of a revision by name, or of the latest one – and the tags of
/// another block.
pub fn traffic_block(former: Option<&Value>, shares: &[(Option<String>, u8)]) -> Value {
    let tagged = former.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let tagged = tagged.iter().filter(|entry| entry.get("tag").is_some_and(Value::is_string));
    let tags = tagged.cloned().map(|mut entry| {
        entry["percent"] = json!(0);
        entry
    });
    let shares = shares.iter().map(|(revision, percent)| match revision {
        Some(name) => json!({"revisionName": name, "latestRevision": false, "percent": percent}),
        None => json!({"latestRevision": true, "percent": percent}),
    });
    // The first entry that names a revision says whether it is followed.
    shares.chain(tags).collect()
}

impl Stamps {
    /// Notes that other traffic was ordered.
    fn set_ordered(&mut self, service: &ObjectName, ordered: OrderedTraffic) {
        if let Some(good) = self.good_traffic(service) {
            let ordered = Some(Arc::new(ordered));
            let mut traffic = TrafficStamp { ordered, ..good.clone() };
            // What somebody orders is not tried any more, whatever it was.
            traffic.rollout.forget_canaries();
            self.set_good_traffic(service, &traffic);
        }
    }
}
