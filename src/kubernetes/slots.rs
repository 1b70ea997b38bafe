//! Slots are leased: several proxies together never have more requests on a replica than its
//! `containerConcurrency`.
//!
//! One of the proxies keeps a ledger of who may use how many slots of which endpoint; all others
//! report to it what they hold, use and lack, and are granted slots. It is the one that leads by
//! the Lease, but nothing here depends on there being only one: a keeper has to have heard of
//! *all* that may hold slots, and whoever reports to a keeper promises to listen to no older one.
//!
//! ```text
//! keeper ── Collect ──▶ member        "my term is 7": the member promises
//! keeper ◀── Report ─── member        what it holds, uses and lacks: all of it, then what changes
//! keeper ── Grant ────▶ member        slots, the lease; and what the keeper holds itself
//! ```
//!
//! # What must hold, and why it does
//! * *The bookings of an endpoint never exceed its limit, and a member's booking is the most that it
//!   may have in use.* A booking grows before the grant is sent, and falls only by a report that was
//!   made after the last grant was in force. Messages belong to a session, which is one connection
//!   in one term, so what was lost or is late cannot be mistaken.
//! * *A member begins no request beyond its own slots, nor after its lease.* The lease runs from
//!   when the member sent the report that the grant answers; the keeper counts from when it sent the
//!   grant, and a tenth more, so the member's end comes first. Requests in flight are never cut.
//! * *What a member that is not heard of may have in use counts*: that is everything it holds, for a
//!   slot that was idle when it last reported may have been taken since. It is free again when it
//!   reports; when its process has ended ([`Timing::dead`] after that was noticed, so that a mistake
//!   is mended by its next report); or, where the keeper leads by the Lease and hears of all others,
//!   when its lease has ended and the revision's `timeoutSeconds` have passed, after which none of its
//!   requests is left. (Two that are missing may go on together, with a keeper among them.)
//!   (Upgraded connections may outlast that. They are not cut either.)
//! * *A new keeper knows of what a keeper that it cannot reach holds itself*: a keeper uses slots of
//!   its own only after another member has taken note; or when it leads and all notes have outlived
//!   their lease, after which nobody takes them for the last. So when all but the former keeper
//!   report, and one of them has a note whose lease has not ended, the note is the bound.
//!   When more are missing, all that nobody reports is taken as held by those that are missing.
//!
//! # What it costs
//! A request that finds no slot pays one round trip to the keeper; one more where the slot has to
//! come back from another proxy. A renewal goes each [`Timing::renew`] between the keeper and each
//! member, whatever the number of revisions. Slots that were not in use for one to two renewals go
//! back, so an idle revision costs nothing. A proxy that is cut off makes those slots missing that
//! it had used lately. A lease outlives an election, so that a keeper which falls silent does not
//! stop the others; they get no more slots until the next one has collected. If one that is not
//! heard of and the keeper fail together, idle slots of the endpoints there were are missing until
//! they are heard of again or have ended. A proxy
//! that is the only one has everything without a word.
//!
//! # Not in use yet
//! Nothing calls this, and it is not safe yet: with more seeds than its test has, the simulation finds
//! an endpoint with more requests than its limit (first 288: a keeper that lost the Lease and leads
//! again trusts its old ledger; 381: a candidate's own support makes an old note look fresh).

mod holder;
mod keeper;
mod ledger;
mod message;
mod seat;
mod share;
#[cfg(test)]
mod simulation;

use std::time::Duration;

pub use holder::{OwnSlots, Seen, SeenEndpoint};
pub use message::{Ballot, Cap, Grant, Held, MemberId, Message, Need, Past, Report, Session};
pub use seat::{Change, Event, Seat};

/// The spans.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long what was granted may be used after the report that asked for it was sent.
    pub lease: Duration,
    /// Between two renewals.
    pub renew: Duration,
    /// A member that was not heard of for so long is granted nothing.
    pub silent: Duration,
    /// Slots of a process that has ended are free after so long.
    pub dead: Duration,
    /// A new keeper waits for reports for so long.
    pub collect: Duration,
    /// Before a keeper that was overtaken tries again.
    pub retry: Duration,
    /// Where fewer slots than proxies are there, they go round after so long.
    pub turn: Duration,
}

impl Timing {
    /// After so long a lease has ended by any clock.
    pub fn lease_at_most(&self) -> Duration {
        self.lease + self.lease / 10
    }
}

impl Default for Timing {
    /// The lease is longer than it takes until another one leads
    /// ([`super::lease::Timing::duration`] and two attempts).
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(12),
            renew: Duration::from_millis(700),
            silent: Duration::from_secs(2),
            dead: Duration::from_secs(2),
            collect: Duration::from_secs(1),
            retry: Duration::from_millis(300),
            turn: Duration::from_millis(200),
        }
    }
}
