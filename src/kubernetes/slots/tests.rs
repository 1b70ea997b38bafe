//! A few proxies that reach each other at once, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::seat::Seat;
use super::simulation::{Here, Revisions};
use super::{Line, Local as _};
use crate::kubernetes::lease::Renewals;
use crate::kubernetes::peers::PeerId;
use crate::model::{EndpointId, ObjectName, RevisionId};

fn revision() -> RevisionId {
    ObjectName::new("default", "hello-00001")
}

/// Proxies `p1`, `p2` and so on.
struct Table {
    seats: BTreeMap<PeerId, (Seat, Revisions)>,
    renewals: BTreeMap<PeerId, Arc<Renewals>>,
}

impl Table {
    fn new(proxies: u32, limit: u32, endpoints: u32) -> Self {
        let line = |n: u32| {
            let endpoint = EndpointId::new(format!("e{n}"));
            (endpoint.clone(), Line { endpoint, own: 0, used: 0, takes: true })
        };
        let renewals: BTreeMap<_, _> = (1..=proxies).map(|n| (peer(n), Arc::default())).collect();
        let seat = |n: u32| {
            let here = Here { limit, lines: (0..endpoints).map(line).collect(), ..Here::default() };
            let seat = Seat::new(peer(n), Arc::clone(&renewals[&peer(n)]));
            (peer(n), (seat, Revisions(BTreeMap::from([(revision(), here)]))))
        };
        Self { seats: (1..=proxies).map(seat).collect(), renewals }
    }

    fn act(&mut self, proxy: u32, act: impl FnOnce(&mut Seat, &mut Revisions)) {
        if let Some((seat, revisions)) = self.seats.get_mut(&peer(proxy)) {
            act(seat, revisions);
        }
        self.carry();
    }

    /// Takes the Lease, and goes on to write it as long as that is wanted.
    fn lead(&mut self, proxy: u32, number: u32) {
        self.write(proxy, number, true);
        self.act(proxy, |seat, revisions| assert_eq!(seat.lead(number, revisions), None));
        self.renew(proxy, number);
    }

    fn write(&mut self, proxy: u32, number: u32, is_take: bool) {
        let renewals = &self.renewals[&peer(proxy)];
        renewals.succeeded(renewals.begin(is_take), number);
    }

    fn renew(&mut self, proxy: u32, number: u32) {
        while self.seats.get_mut(&peer(proxy)).is_some_and(|(seat, _)| seat.take_wanting()) {
            self.write(proxy, number, false);
            self.act(proxy, |seat, revisions| seat.renewed(revisions));
        }
    }

    /// Carries messages until nobody has anything to say.
    fn carry(&mut self) {
        loop {
            let mut sent = Vec::new();
            for (from, (seat, _)) in &mut self.seats {
                sent.extend(seat.take_outgoing().into_iter().map(|(to, m)| (from.clone(), to, m)));
            }
            if sent.is_empty() {
                return;
            }
            for (from, to, message) in sent {
                if let Some((seat, revisions)) = self.seats.get_mut(&to) {
                    assert_eq!(seat.received(&from, message, revisions), None);
                }
            }
        }
    }

    /// All connect, and the first one leads.
    fn begin(&mut self) {
        let all: Vec<_> = self.seats.keys().cloned().collect();
        for (me, (seat, _)) in &mut self.seats {
            all.iter().filter(|other| *other != me).for_each(|other| seat.joined(other));
        }
        self.lead(1, 1);
        self.look(1, 1);
    }

    fn look(&mut self, proxy: u32, number: u32) {
        let pods = self.seats.keys().map(|peer| peer.pod().into()).collect();
        self.act(proxy, |seat, revisions| seat.looked(number, pods, revisions));
    }

    /// So many requests wait, and as many as may begin.
    fn wait(&mut self, proxy: u32, waiting: u32) {
        self.act(proxy, |seat, revisions| {
            if let Some(here) = revisions.0.get_mut(&revision()) {
                here.waiting = waiting;
            }
            seat.poked([revision()], revisions);
        });
    }

    /// Slots of each proxy.
    fn own(&mut self) -> Vec<u32> {
        let of = |(_, revisions): &mut (Seat, Revisions)| {
            let need = revisions.view(&revision()).expect("the revision");
            need.endpoints.iter().map(|line| line.own).sum()
        };
        self.seats.values_mut().map(of).collect()
    }
}

fn peer(proxy: u32) -> PeerId {
    PeerId(format!("p{proxy}_1").into())
}

#[test]
fn one_that_is_alone_has_everything_once_it_leads() {
    let mut table = Table::new(1, 10, 3);
    table.wait(1, 4);
    assert_eq!(table.own(), [0]);
    table.begin();
    assert_eq!(table.own(), [30]);
}

#[test]
fn nothing_is_given_before_all_that_may_hold_something_have_spoken() {
    let mut table = Table::new(2, 4, 1);
    table.lead(1, 1);
    assert_eq!(table.seats[&peer(1)].0.doubts(), Some(1));
    // The other one runs, and is not connected yet.
    table.look(1, 1);
    assert_eq!(table.own(), [0, 0]);
    table.act(1, |seat, _| seat.joined(&peer(2)));
    assert_eq!(table.own(), [2, 2]);
    assert_eq!(table.seats[&peer(1)].0.doubts(), None);
}

#[test]
fn idle_proxies_have_some_and_one_that_needs_all_gets_them() {
    let mut table = Table::new(3, 5, 2);
    table.begin();
    assert_eq!(table.own(), [4, 3, 3]);
    table.wait(3, 20);
    assert_eq!(table.own(), [0, 0, 10]);
    table.wait(2, 20);
    let own = table.own();
    assert_eq!((own[0], own[1] + own[2]), (0, 10), "{own:?}");
    assert!((5..=5).contains(&own[1]), "{own:?}");
}

#[test]
fn a_single_slot_goes_round_where_all_wait() {
    let mut table = Table::new(3, 1, 1);
    table.begin();
    (1..=3).for_each(|proxy| table.wait(proxy, 5));
    let mut seen = [0; 3];
    for _ in 0..6 {
        table.act(1, |seat, revisions| seat.tick(revisions));
        let own = table.own();
        assert_eq!(own.iter().sum::<u32>(), 1, "{own:?}");
        (0..3).for_each(|n| seen[n] += own[n]);
    }
    assert_eq!(seen, [2, 2, 2]);
}

#[test]
fn without_its_keeper_everybody_goes_on_and_the_next_one_divides_what_is_left() {
    let mut table = Table::new(3, 6, 1);
    table.begin();
    assert_eq!(table.own(), [2, 2, 2]);
    table.seats.remove(&peer(1));
    for proxy in [2, 3] {
        table.act(proxy, |seat, revisions| seat.lost(&peer(1), false, revisions));
    }
    table.wait(2, 9);
    assert_eq!(table.own(), [2, 2], "nobody divides");
    table.lead(2, 2);
    // It is cut off, as far as is known, and has what it had.
    let pods = ["p1", "p2", "p3"].map(Into::into).into();
    table.act(2, |seat, revisions| seat.looked(2, pods, revisions));
    assert_eq!(table.own(), [2, 2]);
    table.look(2, 2);
    assert_eq!(table.own(), [6, 0]);
}

/// A replica that is new to all of them.
fn born(table: &mut Table, name: &str) {
    for proxy in 1..=3 {
        table.act(proxy, |seat, revisions| {
            let endpoint = EndpointId::new(name);
            if let Some(here) = revisions.0.get_mut(&revision()) {
                let line = Line { endpoint: endpoint.clone(), own: 0, used: 0, takes: true };
                here.lines.insert(endpoint, line);
            }
            seat.poked([revision()], revisions);
        });
    }
}

fn list(table: &mut Table, proxy: u32, pods: &[&str]) {
    let pods = pods.iter().map(|name| EndpointId::new(*name)).collect();
    table.act(proxy, |seat, revisions| {
        let ask = seat.asks().expect("it asks");
        seat.listed(ask, pods, revisions);
    });
}

/// The first one leads and is lost with its node; its pod is still said to run, so that the second
/// one, which leads now, is in doubt. It has listed pods once.
fn in_doubt() -> Table {
    let mut table = Table::new(3, 6, 1);
    table.begin();
    table.seats.remove(&peer(1));
    for proxy in [2, 3] {
        table.act(proxy, |seat, revisions| seat.lost(&peer(1), false, revisions));
    }
    table.lead(2, 2);
    let pods = ["p1", "p2", "p3"].map(Into::into).into();
    table.act(2, |seat, revisions| seat.looked(2, pods, revisions));
    list(&mut table, 2, &["e0", "before"]);
    assert_eq!(table.own(), [2, 2]);
    table
}

#[test]
fn one_in_doubt_gives_slots_of_what_is_younger_than_its_term_and_of_nothing_else() {
    let mut table = in_doubt();
    for name in ["before", "gone", "younger"] {
        born(&mut table, name);
    }
    table.renew(2, 2);
    assert_eq!(table.own(), [2, 2], "it is not known how old they are");
    list(&mut table, 2, &["e0", "before", "younger"]);
    assert_eq!(table.own(), [5, 5]);
    // All of it moves to where it is needed, and nothing of the others.
    table.wait(3, 20);
    assert_eq!(table.own(), [2, 8]);
    assert_eq!(table.seats[&peer(2)].0.asks(), None, "each is asked about once");
    // What the lost one had is free once it is known to be gone: all are.
    table.act(2, |seat, revisions| seat.lost(&peer(1), true, revisions));
    table.look(2, 2);
    assert_eq!(table.own().iter().sum::<u32>(), 24);
}

#[test]
fn nothing_new_is_given_before_the_lease_was_written_after_it_was_heard_of() {
    let mut table = in_doubt();
    let renewals = Arc::clone(&table.renewals[&peer(2)]);
    let under_way = renewals.begin(false);
    born(&mut table, "younger");
    list(&mut table, 2, &["e0", "younger"]);
    let renewed = |table: &mut Table, write, number| {
        renewals.succeeded(write, number);
        table.act(2, |seat, revisions| seat.renewed(revisions));
        table.own()
    };
    assert_eq!(renewed(&mut table, under_way, 2), [2, 2], "it was sent before");
    // It was somebody else's meanwhile.
    let later = renewals.begin(true);
    assert_eq!(renewed(&mut table, later, 4), [2, 2]);
    let again = renewals.begin(true);
    assert_eq!(renewed(&mut table, again, 2), [2, 2], "the same number is another tenure");
    table.act(2, |seat, revisions| {
        assert_eq!(seat.lead(2, revisions), Some(2), "it is to have a number of its own");
    });
}

#[test]
fn one_that_is_not_in_doubt_gives_nothing_new_without_the_lease_either() {
    let mut table = Table::new(3, 6, 1);
    table.begin();
    born(&mut table, "younger");
    assert_eq!(table.own(), [2, 2, 2], "another one may lead by now, and give them");
    table.wait(3, 9);
    assert_eq!(table.own(), [0, 0, 6], "what it had it goes on to divide");
    table.renew(1, 1);
    assert_eq!(table.own().iter().sum::<u32>(), 12);
}

#[test]
fn what_was_heard_of_while_it_started_is_given_at_once() {
    let mut table = Table::new(3, 6, 1);
    table.begin();
    let heard = |table: &mut Table| {
        let mut is_wanted = false;
        table.act(1, |seat, _| {
            seat.heard(vec![EndpointId::new("younger")]);
            is_wanted = seat.take_wanting();
        });
        is_wanted
    };
    assert!(heard(&mut table), "the Lease is to be written");
    assert!(!heard(&mut table), "once");
    // Before it is there.
    table.write(1, 1, false);
    table.act(1, |seat, revisions| seat.renewed(revisions));
    born(&mut table, "younger");
    assert_eq!(table.own().iter().sum::<u32>(), 12);
    table.act(1, |seat, _| assert!(!seat.take_wanting()));
    // What was sent before it was heard of is not enough.
    let renewals = Arc::clone(&table.renewals[&peer(1)]);
    let under_way = renewals.begin(false);
    table.act(1, |seat, _| seat.heard(vec![EndpointId::new("next")]));
    renewals.succeeded(under_way, 1);
    born(&mut table, "next");
    assert_eq!(table.own().iter().sum::<u32>(), 12);
}
