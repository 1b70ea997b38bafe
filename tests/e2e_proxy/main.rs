//! Proxying with real sockets: one tidegate per test, its replicas `tidegate echo` processes or
//! played by the test.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/serving.rs"]
mod serving;

mod bodies;
mod direct;
mod edge;
mod goodbyes;
mod headers;
mod inside;
mod neighbours;
mod protocols;
mod queue;
mod timers;
mod upstream;
mod upstream_h2;
