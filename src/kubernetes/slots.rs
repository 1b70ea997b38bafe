//! The slots of a revision with `containerConcurrency`, divided among several proxies.
//!
//! ```text
//! revisions ─▶ holder: what is its own ─▶ report ─▶ keeper: the book ─▶ grant ─▶ holder ─▶ revisions
//! ```
//!
//! A slot is one proxy's at a time, and stays its own until it gives it back: when another one has
//! a use for it, or its endpoint goes. Nothing runs out by a clock, so that whatever is lost or late
//! – a message, a connection, the one who divides, the API server – nobody ever sends more than the
//! limit, and everybody goes on with what it holds. What a proxy held is free again when its process
//! is known to be gone; until then it is missing, also if it is only cut off.
//!
//! Who leads by the Lease divides: its term has the number of the Lease, and everybody listens to
//! the latest term only. A new keeper knows what is whose when all have reported to it that could
//! hold anything: those it hears of, those that the keeper before gave something to, and those in
//! whose pods a proxy runs by the API server, asked after the term began. Until then everybody goes
//! on with what it holds.
//!
//! That may be long: of a node that is lost the API server says for minutes or hours that its pods
//! run. So a keeper in doubt divides one kind of endpoints nevertheless: those of which no keeper
//! before it gave anything, nor can yet. Two rules make that true, without any clock:
//!
//! * It gives slots of an endpoint only if the pod was made after its term began: the pod is in a
//!   list, and not in an earlier one that was asked for after the Lease was taken (`births`).
//! * Every keeper, in doubt or not, gives slots of an endpoint that it had not in its book only after
//!   a write of the Lease succeeded that was begun after it heard of the endpoint
//!   ([`Renewals`](super::lease::Renewals)).
//!
//! By the second rule, whatever an earlier keeper gave something of was there before its last write
//! of the Lease, so before the next one took it, so before that one's first list: it is in that list,
//! or deleted. This holds also for a keeper that was stopped or cut off at any moment, and where the
//! Lease was deleted and made anew. Two in doubt one after the other give of endpoints that were
//! made in two spans which do not overlap. One that comes out of doubt has the reports of all, among
//! them those to whom an earlier one in doubt gave something. What is taken for granted: a list has
//! what was written before it was asked for, a pod has its revision's label from the beginning, and
//! nobody writes a former holder into the Lease by hand.

mod births;
mod heard;
mod holder;
mod keeper;
mod ledger;
mod lists;
mod message;
mod run;
mod seat;
mod share;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use message::{Line, Need};
pub use run::{Seated, Slots};

use crate::model::{EndpointId, RevisionId};

/// The revisions of this proxy.
pub trait Local {
    /// Those whose slots are shared and that have endpoints or requests.
    fn revisions(&mut self) -> Vec<RevisionId>;

    /// What one has, uses and lacks; none if there is no such revision, or it shares nothing.
    fn view(&mut self, id: &RevisionId) -> Option<Need>;

    /// From now on so many slots of these endpoints are its own.
    fn set(&mut self, id: &RevisionId, own: &[(EndpointId, u32)]);
}
