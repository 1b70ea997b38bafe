//! A revision as people and checks see it.

use crate::model::EndpointId;

use super::Revision;
use super::state::{Phase, all_aside};

/// An endpoint as shown to people.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Which replica.
    pub id: EndpointId,
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// Requests on it.
    pub in_flight: u32,
    /// `ready`, `victim`, `stopping`, `draining` or `ejected`.
    pub state: &'static str,
}

impl Revision {
    /// Its endpoints, for people.
    pub fn endpoints(&self) -> Vec<EndpointView> {
        let state = self.state.lock();
        let mut views: Vec<_> = state
            .entries
            .iter()
            .map(|e| EndpointView {
                id: e.endpoint.id().clone(),
                address: e.endpoint.address(),
                in_flight: e.load(),
                state: match e.phase {
                    Phase::Ready if e.ejected.is_some() => "ejected",
                    Phase::Ready => "ready",
                    Phase::Victim { .. } => "victim",
                    Phase::Condemned { .. } => "stopping",
                    Phase::Draining { .. } => "draining",
                },
            })
            .collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    /// Checks what must always hold; the text names what does not. For tests and simulation.
    pub fn check(&self) -> Result<(), String> {
        let state = self.state.lock();
        let all_aside = all_aside(&state.entries);
        for entry in &state.entries {
            // Of its own it may have fewer than are in use.
            if let Some(limit) = self.limit()
                && entry.held > limit
            {
                return Err(format!(
                    "{}: {} permits of {limit} slots",
                    entry.endpoint.id(),
                    entry.held
                ));
            }
            // A victim would be taken back.
            let takes = (entry.phase == Phase::Ready || entry.is_taken_back())
                && (entry.ejected.is_none() || all_aside);
            if takes && entry.limit.admits(entry.held) && !state.waiters.is_empty() {
                return Err(format!("{}: a free slot beside a waiter", entry.endpoint.id()));
            }
        }
        Ok(())
    }
}
