//! TLS of the listeners: pairs of certificate and key, the choice among them by the client's
//! server name, handshakes, and taking up changed files without losing a connection.
//!
//! One configuration serves all workers, so that a session begun with one is resumed with any other
//! (the ticket keys live in it); certificates are swapped below it.

mod certificate;
mod choice;
mod handshake;
mod named;
mod reload;
mod server;
#[cfg(test)]
mod tests;

pub use certificate::{PairError, PairFiles};
pub use handshake::{Handshake, Outcome};
pub use named::NamedPair;
pub use server::{CertificateState, TlsError, TlsServer};
