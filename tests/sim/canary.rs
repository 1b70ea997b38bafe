//! Canaries: new revisions of services are tried beside the old ones while all else goes on.

use std::rc::Rc;
use std::time::Duration;

use tidegate::model::World;

use crate::ledger::Property;
use crate::world::Stage;

/// From one look at canaries to the next, as the source of files has it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// By then a bad revision is taken back.
const SETTLED: Duration = Duration::from_secs(80);
/// By then a good one has all, also where its first answers happened to be slow ones.
const THROUGH: Duration = Duration::from_secs(240);

impl Stage {
    /// Moves canaries on for good.
    pub(crate) async fn try_canaries(self: Rc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(life) = self.running() else { continue };
            if let Some(world) = life.advance() {
                self.check_steps(&world);
                life.platform.configure(world);
            }
        }
    }

    /// One that gets everything wrong never gets past its first step.
    fn check_steps(&self, world: &World) {
        let Some(weather) = self.weather.canary.filter(|canary| canary.fails_each == 1) else {
            return;
        };
        for canary in world.services.iter().flat_map(|service| &service.canaries) {
            let revision = world.revisions.iter().find(|spec| spec.id == canary.new);
            let is_bad =
                revision.is_some_and(|spec| weather.is_bad(crate::platform::edition(spec)));
            if is_bad && canary.state.step > 0 {
                let text = format_args!("{} fails, and gets more", canary.new.name);
                self.ledger.violated(Property::Canary, text);
            }
        }
    }

    /// The second edition is bad, the third is good; there is load all the time.
    pub(crate) async fn bad_then_good(self: Rc<Self>) {
        tokio::time::sleep(Duration::from_secs(15)).await;
        self.edit().await;
        tokio::time::sleep(SETTLED).await;
        self.check("a bad revision is taken back", |world| {
            let service = &world.services[0];
            let back = service.canaries.iter().any(|canary| canary.state.taken_back.is_some());
            back && service.traffic.len() == 1 && *service.traffic[0].revision.name == *"s0-00001"
        })
        .await;
        self.edit().await;
        tokio::time::sleep(THROUGH).await;
        self.check("a good revision gets through", |world| {
            let service = &world.services[0];
            service.canaries.is_empty()
                && service.traffic.len() == 1
                && *service.traffic[0].revision.name == *"s0-00003"
        })
        .await;
    }

    async fn edit(&self) {
        while self.running().is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let edit = self.files.borrow_mut().next_edition(0);
        self.ledger.note(format_args!("{edit}"));
        if let Some(life) = self.running() {
            self.reload(&life);
        }
    }

    async fn check(&self, what: &str, holds: impl Fn(&World) -> bool) {
        while self.running().is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let Some(life) = self.running() else { return };
        let world = life.told();
        if !holds(&world) {
            let service = &world.services[0];
            let said = service.warnings.join("; ");
            let shares: Vec<String> = service
                .traffic
                .iter()
                .map(|target| format!("{} {}%", target.revision.name, target.percent))
                .collect();
            let text = format_args!("not so: {what}; {}; {said}", shares.join(", "));
            self.ledger.violated(Property::Canary, text);
        }
    }
}
