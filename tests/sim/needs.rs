//! Services that need each other: each the one before it.

use std::rc::Rc;
use std::time::Duration;

use tidegate::app::Live;
use tidegate::config::world::DEPENDENCIES_NOT_READY;
use tidegate::model::World;

use crate::ledger::{Ledger, Property};
use crate::world::Stage;

/// From one look at what new revisions wait for to the next.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A revision gets its first traffic once what it depends on has a replica that is ready, unless
/// its service had none before.
pub(crate) fn check_first_traffic(former: &World, now: &World, live: &Live, ledger: &Ledger) {
    for service in &now.services {
        let Some(before) = former.service(&service.id).filter(|s| !s.traffic.is_empty()) else {
            continue;
        };
        for new in service.routed().filter(|id| !before.routed().any(|known| known == *id)) {
            let needed = now.revision(new).into_iter().flat_map(|spec| &spec.depends_on);
            let services = needed.filter_map(|needed| now.service(&needed.service));
            for revision in services.flat_map(|service| service.routed()) {
                if live.counts(revision).1.ready == 0 {
                    let text = format_args!("{} gets traffic before {}", new.name, revision.name);
                    ledger.violated(Property::Needed, text);
                }
            }
        }
    }
}

impl Stage {
    /// Gives new revisions their traffic once it is time, to the end of the run.
    pub(crate) async fn let_through(self: Rc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(life) = self.running() else { continue };
            if let Some(world) = life.advance() {
                life.platform.configure(world);
            }
        }
    }

    /// Without faults nothing waits for good.
    pub(crate) fn nothing_waits(&self) {
        let Some(life) = self.running() else { return };
        for service in &life.told().services {
            let waiting =
                service.warnings.iter().find(|text| text.starts_with(DEPENDENCIES_NOT_READY));
            if let Some(text) = waiting {
                self.ledger.violated(Property::Needed, format_args!("still: {text}"));
            }
        }
    }
}
