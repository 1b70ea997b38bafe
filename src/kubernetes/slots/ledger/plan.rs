//! Who is to have how many slots.
//!
//! Slots that nobody holds are given out at once, so that a proxy has some before it needs them.
//! Only places that are open count. What a proxy holds is asked back only when another one has a use for it: requests wait there, or
//! all that it has is in use.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::super::super::peers::PeerId;
use super::super::message::Cap;
use super::super::share::{Demand, fair};
use super::{Ledger, Shared};
use crate::model::EndpointId;

/// What one proxy has and should have of a revision.
#[derive(Debug)]
struct Member {
    who: PeerId,
    has: u32,
    target: u32,
    is_needy: bool,
}

impl Ledger {
    /// Divides anew what has changed among those that are there; what each is to be told. `present`
    /// says which number its next grant has.
    pub(in super::super) fn plan(
        &mut self,
        present: &BTreeMap<PeerId, u64>,
        turn: u64,
    ) -> BTreeMap<PeerId, Vec<Cap>> {
        let mut grants: BTreeMap<PeerId, Vec<Cap>> = BTreeMap::new();
        for id in std::mem::take(&mut self.changed) {
            let Some(shared) = self.revisions.get_mut(&id) else { continue };
            let mut dealing = Dealing { shared, present, touched: BTreeSet::new() };
            dealing.deal(turn);
            for (who, endpoint) in dealing.touched {
                let booking = shared.places.get(&endpoint).and_then(|place| place.by.get(&who));
                let slots = booking.map_or(0, |booking| booking.cap);
                grants.entry(who).or_default().push(Cap { revision: id.clone(), endpoint, slots });
            }
        }
        grants
    }
}

/// One revision's slots while they are dealt out.
struct Dealing<'a> {
    shared: &'a mut Shared,
    /// Who can be granted something, and the number of the grant.
    present: &'a BTreeMap<PeerId, u64>,
    touched: BTreeSet<(PeerId, EndpointId)>,
}

impl Dealing<'_> {
    fn deal(&mut self, turn: u64) {
        let mut members = self.members(turn);
        // Whoever has a use for them, and has least, comes first.
        members.sort_by_key(|member| (!member.is_needy, member.has));
        for member in &mut members {
            let lacks = member.target.saturating_sub(member.has);
            member.has += self.give(&member.who, lacks);
        }
        let needy = members.iter().filter(|member| member.is_needy);
        let lacking: u32 = needy.map(|member| member.target.saturating_sub(member.has)).sum();
        let mut lacking = lacking.saturating_sub(self.coming_back());
        members.sort_by_key(|member| Reverse(member.has.saturating_sub(member.target)));
        for member in &members {
            let spare = member.has.saturating_sub(member.target).min(lacking);
            lacking -= self.ask_back(&member.who, spare);
        }
    }

    /// Those that are there and see an endpoint, with their shares.
    fn members(&self, turn: u64) -> Vec<Member> {
        let mut sums: BTreeMap<&PeerId, (u32, u32)> = BTreeMap::new();
        let mut slots = 0;
        for place in self.shared.places.values().filter(|place| place.is_open) {
            let (mut is_seen, mut booked) = (false, 0);
            for (who, booking) in &place.by {
                if self.present.contains_key(who) && booking.takes {
                    let (has, used) = sums.entry(who).or_default();
                    *has += booking.cap;
                    *used += booking.used;
                    booked += booking.booked;
                    is_seen = true;
                }
            }
            if is_seen {
                slots += booked + place.free(self.shared.limit);
            }
        }
        let waiting = |who: &PeerId| self.shared.waiting.get(who).copied().unwrap_or(0);
        let demands: Vec<_> = sums
            .iter()
            .map(|(who, (_, used))| Demand { who: *who, used: *used, unmet: waiting(who) })
            .collect();
        let shares = fair(slots, &demands, turn);
        let left = slots - shares.values().sum::<u32>();
        let count = u32::try_from(sums.len()).unwrap_or(u32::MAX).max(1);
        let mut members = Vec::with_capacity(sums.len());
        for (index, (who, (has, used))) in (0..count).zip(sums) {
            let share = shares.get(who).copied().unwrap_or(0);
            members.push(Member {
                who: who.clone(),
                has,
                target: share + left / count + u32::from(index < left % count),
                is_needy: waiting(who) > 0 || used >= has,
            });
        }
        members
    }

    /// Gives up to `count` slots that are free; how many there were.
    fn give(&mut self, who: &PeerId, count: u32) -> u32 {
        let Some(number) = self.present.get(who) else { return 0 };
        let limit = self.shared.limit;
        let mut given = 0;
        while given < count {
            let seen = self.shared.places.iter_mut().filter(|(_, place)| {
                let is_seen = place.by.get(who).is_some_and(|booking| booking.takes);
                place.is_open && is_seen && place.free(limit) > 0
            });
            let mut open: Vec<_> = seen.collect();
            // The emptiest first, some of each.
            open.sort_by_key(|(_, place)| Reverse(place.free(limit)));
            let Ok(places @ 1..) = u32::try_from(open.len()) else { break };
            let each = (count - given).div_ceil(places);
            for (endpoint, place) in open {
                let more = each.min(count - given).min(place.free(limit));
                let Some(booking) = place.by.get_mut(who).filter(|_| more > 0) else { continue };
                booking.cap += more;
                booking.sent = *number;
                booking.booked = booking.booked.max(booking.cap);
                self.touched.insert((who.clone(), endpoint.clone()));
                given += more;
            }
        }
        given
    }

    /// Slots that proxies which are there have still to give back.
    fn coming_back(&self) -> u32 {
        let open = self.shared.places.values().filter(|place| place.is_open);
        let bookings = open.flat_map(|place| &place.by);
        let present = bookings.filter(|(who, _)| self.present.contains_key(*who));
        present.map(|(_, booking)| booking.booked.saturating_sub(booking.cap)).sum()
    }

    /// Asks for slots back, idle ones first; how many.
    fn ask_back(&mut self, who: &PeerId, count: u32) -> u32 {
        let Some(number) = self.present.get(who) else { return 0 };
        let mut bookings: Vec<_> = self
            .shared
            .places
            .iter_mut()
            .filter(|(_, place)| place.is_open)
            .filter_map(|(endpoint, place)| Some((endpoint, place.by.get_mut(who)?)))
            .filter(|(_, booking)| booking.takes && booking.cap > 0)
            .collect();
        let idle = |cap: u32, used: u32| cap.saturating_sub(used);
        bookings.sort_by_key(|(_, booking)| Reverse(idle(booking.cap, booking.used)));
        let mut asked = 0;
        for is_idle in [true, false] {
            for (endpoint, booking) in &mut bookings {
                let of_these = if is_idle { idle(booking.cap, booking.used) } else { booking.cap };
                let fewer = of_these.min(count - asked);
                if fewer > 0 {
                    booking.cap -= fewer;
                    booking.sent = *number;
                    self.touched.insert((who.clone(), (*endpoint).clone()));
                    asked += fewer;
                }
            }
        }
        asked
    }
}
