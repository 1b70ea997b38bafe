//! What goes wrong on the platform, now and then, as the weather has it.

use std::rc::Rc;
use std::time::Duration;

use tidegate::model::RevisionId;

use crate::platform::{BACK_OFF, Platform, Stage, address};
use crate::replica::Replica;
use crate::weather::Weather;

impl Platform {
    /// Begins with all that the weather has.
    pub(crate) fn go_wrong(self: &Rc<Self>, weather: &Weather) {
        let me = || Rc::clone(self);
        let spawn = |fault: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            tokio::task::spawn_local(fault);
        };
        if let Some(every) = weather.crashes {
            spawn(Box::pin(me().crashes(every)));
        }
        if let Some(every) = weather.refusals {
            spawn(Box::pin(me().refusals(every)));
        }
        if let Some(every) = weather.flaps {
            spawn(Box::pin(me().flaps(every)));
        }
        if let Some(every) = weather.hangs {
            spawn(Box::pin(me().hangs(every)));
        }
        if let Some(every) = weather.surpluses {
            spawn(Box::pin(me().surpluses(every)));
        }
        if let Some(every) = weather.shortages {
            spawn(Box::pin(me().shortages(every)));
        }
    }

    fn random_ready(&self) -> Option<(RevisionId, u64, Rc<Replica>)> {
        let fleets = self.fleets.borrow();
        let ready: Vec<_> = fleets
            .iter()
            .flat_map(|(id, fleet)| fleet.members.iter().map(move |(serial, m)| (id, serial, m)))
            .filter(|(_, _, member)| member.stage == Stage::Ready)
            .filter_map(|(id, serial, m)| {
                Some((id.clone(), *serial, Rc::clone(m.replica.as_ref()?)))
            })
            .collect();
        (!ready.is_empty()).then(|| ready[self.rng.borrow_mut().usize(..ready.len())].clone())
    }

    /// Now and then a replica crashes.
    async fn crashes(self: Rc<Self>, every: u64) {
        while self.pause(every).await {
            let Some((id, serial, replica)) = self.random_ready() else { continue };
            self.ledger.note(format_args!("replica {serial} crashes"));
            replica.kill();
            self.member(&id, |members| {
                members.remove(&serial);
            });
            self.report_replicas(&id);
            self.back_off(&id, true);
            tokio::time::sleep(BACK_OFF).await;
            self.back_off(&id, false);
            self.reconcile(&id);
        }
    }

    /// Now and then a replica refuses connections for a while.
    async fn refusals(self: Rc<Self>, every: u64) {
        while self.pause(every).await {
            let Some((_, serial, _)) = self.random_ready() else { continue };
            self.ledger.note(format_args!("replica {serial} refuses connections"));
            self.network.set_refusing(address(serial), true);
            let for_ms = self.rng.borrow_mut().u64(100..6_000);
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            self.ledger.note(format_args!("replica {serial} accepts connections again"));
            self.network.set_refusing(address(serial), false);
        }
    }

    /// Now and then a replica is not ready for a while, and goes on working.
    async fn flaps(self: Rc<Self>, every: u64) {
        while self.pause(every).await {
            let Some((id, serial, _)) = self.random_ready() else { continue };
            self.set_stage(&id, serial, Stage::Ready, Stage::Unready);
            let for_ms = self.rng.borrow_mut().u64(1..3_000);
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            self.set_stage(&id, serial, Stage::Unready, Stage::Ready);
        }
    }

    fn set_stage(&self, id: &RevisionId, serial: u64, from: Stage, to: Stage) {
        let mut changed = false;
        self.member(id, |members| {
            if let Some(member) = members.get_mut(&serial)
                && member.stage == from
            {
                member.stage = to;
                if let Some(replica) = member.replica.as_ref().filter(|_| to == Stage::Ready) {
                    replica.ready_again();
                }
                changed = true;
            }
        });
        if changed {
            self.ledger.note(format_args!("replica {serial} is {to:?}"));
            self.report_replicas(id);
        }
    }

    /// Waits for the next fault; false when there are to be no more.
    async fn pause(&self, every: u64) -> bool {
        let pause = self.rng.borrow_mut().u64(every * 500..every * 1_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        !self.quiet.get()
    }

    /// Now and then a replica stands still for a while, with its connections open.
    async fn hangs(self: Rc<Self>, every: u64) {
        while self.pause(every).await {
            let Some((_, serial, replica)) = self.random_ready() else { continue };
            self.ledger.note(format_args!("replica {serial} stands still"));
            replica.valve.set_hung(true);
            let for_ms = self.rng.borrow_mut().u64(100..30_000);
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            self.ledger.note(format_args!("replica {serial} goes on"));
            replica.valve.set_hung(false);
        }
    }

    /// Now and then there are more replicas of a revision than were ordered.
    async fn surpluses(self: Rc<Self>, every: u64) {
        while self.pause(every).await {
            let surplus = self.rng.borrow_mut().usize(1..3);
            let Some(id) = self.random_fleet() else { continue };
            self.ledger.note(format_args!("{surplus} replicas more of {} than ordered", id.name));
            self.set_surplus(&id, surplus);
            let for_ms = self.rng.borrow_mut().u64(100..20_000);
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            self.ledger.note(format_args!("no more replicas of {} than ordered", id.name));
            self.set_surplus(&id, 0);
        }
    }

    /// Now and then there are no replicas to be had.
    async fn shortages(self: Rc<Self>, every: u64) {
        while self.pause(every).await {
            let most = self.rng.borrow_mut().usize(0..3);
            let Some(id) = self.random_fleet() else { continue };
            self.ledger.note(format_args!("only {most} replicas of {} can be had", id.name));
            self.set_at_most(&id, Some(most));
            let for_ms = self.rng.borrow_mut().u64(100..20_000);
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            self.ledger.note(format_args!("all replicas of {} can be had", id.name));
            self.set_at_most(&id, None);
        }
    }

    fn random_fleet(&self) -> Option<RevisionId> {
        let ids = self.revisions();
        (!ids.is_empty()).then(|| ids[self.rng.borrow_mut().usize(..ids.len())].clone())
    }

    fn set_surplus(&self, id: &RevisionId, surplus: usize) {
        if let Some(fleet) = self.fleets.borrow_mut().get_mut(id) {
            fleet.surplus = surplus;
        }
        self.reconcile(id);
    }

    fn set_at_most(&self, id: &RevisionId, at_most: Option<usize>) {
        if let Some(fleet) = self.fleets.borrow_mut().get_mut(id) {
            fleet.at_most = at_most;
        }
        self.reconcile(id);
    }
}
