//! What proxies say to each other about slots.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::peers::PeerId;
use crate::model::{EndpointId, ObjectName, RevisionId};

/// Who divides the slots: every two terms are ordered, the later one counts. Its number is how
/// often the Lease went from one holder to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Term {
    pub(super) number: u32,
    pub(super) keeper: PeerId,
}

/// One message. `session` is a number that is new with each connection, so that nothing counts
/// that was said on a former one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Message {
    /// I divide the slots. Say what you hold.
    Lead { term: Term, session: u64 },
    /// There is a later term than yours.
    Behind { term: Term },
    /// What I hold, and need.
    Report(Report),
    /// So many are yours from now on.
    Grant {
        term: Term,
        session: u64,
        /// Counts the grants of the session.
        number: u64,
        caps: Vec<Cap>,
    },
}

/// What a proxy holds and needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) term: Term,
    pub(super) session: u64,
    /// The last grant that it has taken.
    pub(super) seen: u64,
    /// Which part it is.
    pub(super) part: Part,
    /// Proxies that may hold what this one gave them in an earlier term.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gave_to: Vec<PeerId>,
    pub(super) needs: Vec<Need>,
}

/// Which part of what a proxy holds a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Part {
    /// Revisions that have changed.
    Changes,
    /// All of it, and more comes.
    More,
    /// All of it, with what came before: it holds nothing else.
    Last,
}

/// One revision at a proxy. Of endpoints that are not named it holds nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// Which one.
    #[serde(with = "name")]
    pub revision: RevisionId,
    /// `containerConcurrency`; 0 = it does not know the revision.
    pub limit: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Its endpoints here, those included that are gone but still have requests.
    pub endpoints: Vec<Line>,
}

/// One endpoint at a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which replica.
    #[serde(with = "text")]
    pub endpoint: EndpointId,
    /// Its own: it begins no more requests than that.
    pub own: u32,
    /// In use; may be more for a while.
    pub used: u32,
    /// Whether it could send requests there.
    pub takes: bool,
}

impl Line {
    /// The most that it may have in use from now on, if nothing is granted.
    pub(super) fn held(&self) -> u32 {
        self.own.max(self.used)
    }
}

/// How many slots of an endpoint a proxy may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cap {
    #[serde(with = "name")]
    pub(super) revision: RevisionId,
    #[serde(with = "text")]
    pub(super) endpoint: EndpointId,
    pub(super) slots: u32,
}

mod name {
    use super::{Deserialize, Deserializer, ObjectName, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &ObjectName, to: S) -> Result<S::Ok, S::Error> {
        (&*name.namespace, &*name.name).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectName, D::Error> {
        let (namespace, name) = <(String, String)>::deserialize(from)?;
        Ok(ObjectName::new(namespace, name))
    }
}

mod text {
    use super::{Deserialize, Deserializer, EndpointId, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &EndpointId, to: S) -> Result<S::Ok, S::Error> {
        id.0.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<EndpointId, D::Error> {
        Ok(EndpointId::new(String::deserialize(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let term = Term { number: 3, keeper: PeerId("a_1".into()) };
        let revision = ObjectName::new("default", "hello-00001");
        let endpoint = EndpointId::new("uid");
        let line = Line { endpoint: endpoint.clone(), own: 2, used: 3, takes: true };
        let need = Need { revision: revision.clone(), limit: 5, waiting: 7, endpoints: vec![line] };
        for message in [
            Message::Lead { term: term.clone(), session: 1 },
            Message::Behind { term: term.clone() },
            Message::Report(Report {
                term: term.clone(),
                session: 1,
                seen: 2,
                part: Part::Last,
                gave_to: vec![PeerId("b_2".into())],
                needs: vec![need],
            }),
            Message::Grant {
                term,
                session: 1,
                number: 4,
                caps: vec![Cap { revision, endpoint, slots: 1 }],
            },
        ] {
            let text = serde_json::to_string(&message).expect("it is written");
            assert_eq!(serde_json::from_str::<Message>(&text).expect("it is read"), message);
        }
    }
}
