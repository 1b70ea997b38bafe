//! Services that need each other: each the one before it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tidegate::app::Live;
use tidegate::config::world::DEPENDENCIES_NOT_READY;
use tidegate::model::{RevisionId, ServiceId, ServiceSpec, World};

use crate::ledger::{Ledger, Property};
use crate::world::Stage;

/// From one look at what new revisions wait for to the next.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Since when services wait, and when revisions had a replica that was ready last.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    since: BTreeMap<ServiceId, Duration>,
    ready: BTreeMap<RevisionId, Duration>,
}

impl Waiting {
    /// Remembers which revisions are ready now.
    pub(crate) fn look(&mut self, live: &Live, now: Duration) {
        let revisions = live.revisions().into_iter().map(|revision| revision.id().clone());
        let ready = revisions.filter(|id| live.counts(id).1.ready > 0);
        self.ready.extend(ready.map(|id| (id, now)));
    }

    /// A revision gets its first traffic once each revision that it depends on has had a replica
    /// that was ready since its service waits, unless that had none before.
    pub(crate) fn took(&mut self, former: &World, world: &World, live: &Live, ledger: &Ledger) {
        let now = ledger.now();
        self.look(live, now);
        for service in &world.services {
            let since = self.since.get(&service.id).copied().unwrap_or(now);
            if waits_for(service).is_some() {
                self.since.insert(service.id.clone(), since);
            } else {
                self.since.remove(&service.id);
            }
            let Some(before) = former.service(&service.id).filter(|s| !s.traffic.is_empty()) else {
                continue;
            };
            for new in service.routed().filter(|id| !before.routed().any(|known| known == *id)) {
                for revision in needed(new, world) {
                    if self.ready.get(revision).is_none_or(|at| *at < since) {
                        let text = format!("{} gets traffic before {}", new.name, revision.name);
                        ledger.violated(Property::Needed, format_args!("{text}"));
                    }
                }
            }
        }
    }
}

/// Revisions that have traffic of the services that one depends on.
fn needed<'a>(id: &RevisionId, world: &'a World) -> impl Iterator<Item = &'a RevisionId> {
    let needed = world.revision(id).into_iter().flat_map(|spec| &spec.depends_on);
    needed.filter_map(|needed| world.service(&needed.service)).flat_map(|service| service.routed())
}

/// What a service says that its new revision waits for.
fn waits_for(service: &ServiceSpec) -> Option<&str> {
    let texts = service.warnings.iter().map(|text| &**text);
    texts.into_iter().find(|text| text.starts_with(DEPENDENCIES_NOT_READY))
}

impl Stage {
    /// Gives new revisions their traffic once it is time, to the end of the run.
    pub(crate) async fn let_through(self: Rc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(life) = self.running() else { continue };
            life.waiting.borrow_mut().look(&life.live, self.ledger.now());
            if let Some(world) = life.advance() {
                life.platform.configure(world);
            }
        }
    }

    /// Without faults nothing waits for good.
    pub(crate) fn nothing_waits(&self) {
        let Some(life) = self.running() else { return };
        for service in &life.told().services {
            if let Some(text) = waits_for(service) {
                self.ledger.violated(Property::Needed, format_args!("still: {text}"));
            }
        }
    }
}
