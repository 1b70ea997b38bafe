//! Connections to endpoints: connect, pool, send, and what a failed attempt allows.
//!
//! hyper's low-level connections, each driven by a task on the worker's own runtime, and for the
//! direct path bare sockets; pools belong to one worker and are not shared. Whether a request may be tried again is decided by what was
//! written and read, which the socket counts: the library cannot tell.

mod body;
mod connect;
mod error;
mod goodbye;
mod idle;
mod pool;
mod socket;
#[cfg(test)]
mod tests;

pub use body::{ContinueGate, RequestBody, Returned};
pub use connect::{Connector, MemoryNetwork};
pub use error::{SendError, Sent};
pub use idle::keep_for;
pub use pool::{Attempt, EndpointPool, Failed, Lease, Unsent};
pub use socket::{SharedIo, Socket, Traffic};
