//! What proxies say to each other about slots.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{EndpointId, RevisionId};

/// One process of one proxy. A container that was restarted is another member.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId {
    /// The proxy: the same name at everybody.
    pub peer: Arc<str>,
    /// Drawn when the process started; 0 = not known.
    pub process: u64,
}

impl MemberId {
    /// A process of a proxy.
    pub fn new(peer: impl Into<Arc<str>>, process: u64) -> Self {
        Self { peer: peer.into(), process }
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:x}", self.peer, self.process)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A term of one keeper. The higher one counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// One more than any that its keeper had heard of.
    pub number: u64,
    /// Whose term it is.
    pub keeper: MemberId,
}

/// A term between a keeper and one member over one connection. Whatever belongs to an older
/// connection is thereby known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// The term.
    pub ballot: Ballot,
    /// Counted by the keeper.
    pub number: u64,
}

/// Slots of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    /// Whose endpoint.
    pub revision: RevisionId,
    /// Which.
    pub endpoint: EndpointId,
    /// How many.
    pub slots: u32,
    /// Others wait for such: one that is idle is to go back at once.
    pub wanted: bool,
}

/// One endpoint of a revision as a member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub endpoint: EndpointId,
    /// Slots that are the member's own: no request is begun beyond them.
    pub own: u32,
    /// In use; more than `own` where some were taken back.
    pub used: u32,
    /// Whether the member would send requests there.
    pub takes: bool,
}

impl Held {
    /// The most that may be in use without another word of the keeper.
    pub fn held(&self) -> u32 {
        self.own.max(self.used)
    }
}

/// What a member has and wants of one revision. Endpoints that are not named are as they were last
/// told in this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Which.
    pub revision: RevisionId,
    /// `containerConcurrency`; 0 = not known any more.
    pub limit: u32,
    /// `timeoutSeconds`, in milliseconds.
    pub timeout_ms: u64,
    /// Requests that wait for want of a slot.
    pub waiting: u32,
    /// Its endpoints.
    pub endpoints: Vec<Held>,
}

/// What a new keeper has to know of the terms before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The last term whose grants were taken, or the member's own as a keeper.
    pub accepted: Option<Ballot>,
    /// The last term that was promised to before this one.
    pub promised: Option<Ballot>,
    /// Whom that keeper counted as members.
    pub members: Vec<MemberId>,
    /// Whether the lease of that term has not ended.
    pub is_fresh: bool,
    /// What that keeper held itself, as it told.
    pub record: Vec<Cap>,
    /// Of a former keeper: what it had booked for each of the others.
    pub ledger: Vec<(MemberId, Vec<Cap>)>,
}

/// A member to its keeper: renewal, need, return, acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of which session.
    pub session: Session,
    /// Counted by the member; the answer says it again.
    pub number: u64,
    /// The last grant that was taken, in effect before what this says was looked up.
    pub seen: u64,
    /// What has changed; all of it where there is a past.
    pub needs: Vec<Need>,
    /// In answer to [`Message::Collect`].
    pub past: Option<Box<Past>>,
}

/// A keeper to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Of which session.
    pub session: Session,
    /// Counted by the keeper over all members.
    pub seq: u64,
    /// The last report that was taken: the lease runs from when that was sent.
    pub answers: u64,
    /// The slots a member may use from now on; those not named stay.
    pub caps: Vec<Cap>,
    /// What the keeper holds itself, for a later keeper; those not named stay, unless it is the
    /// first of a session.
    pub own: Vec<Cap>,
    /// All members, when they changed; always in the first of a session.
    pub members: Option<Vec<MemberId>>,
    /// Whether it is the first of a session.
    pub is_first: bool,
}

/// Everything that is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Begins a session: "I keep the ledger; what do you have?"
    Collect(Session),
    /// See there.
    Report(Report),
    /// See there.
    Grant(Grant),
    /// To one who speaks of an older term: there is this one.
    Fenced(Ballot),
}
