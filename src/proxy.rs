//! One request, in order: the edge's checks, the route, the queue, the headers, the endpoint, the
//! response. Worker per core: each worker is one thread with its own runtime, its own connections
//! on both sides, and counters nobody else writes.
//!
//! Plain HTTP/1.1 takes the direct path (`direct.rs`); all else is read and written by hyper
//! (`answer.rs` to `body.rs`). What a request takes and gives back is the same for both
//! (`attempt.rs`, `exchange.rs`). hyper reads HTTP/1 through a guard (`guard.rs`) that lets only heads
//! of one meaning pass.

mod access_log;
mod answer;
mod attempt;
mod body;
mod connection;
mod direct;
mod edge;
mod exchange;
mod forward;
mod forwarded;
mod framing;
mod grpc;
mod guard;
mod head;
mod headers;
mod listen;
mod noted;
mod outgoing;
mod probe;
mod proxy_protocol;
mod refusal;
mod relay;
mod retry;
mod route;
mod scan;
mod shared;
mod sweep;
mod trace;
mod upgrade;
mod waiting;
mod welcome;
mod worker;

pub use access_log::{AccessLog, LineSink};
pub use listen::{Acceptor, Door, Entry};
pub use noted::{Met, Note, Noted};
pub use shared::{DrainState, Position, Settings, Shared};
pub use worker::{Message, Worker};
