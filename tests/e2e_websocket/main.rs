//! WebSocket (RFC 6455) with tungstenite on both ends and tidegate between them, over HTTP and
//! HTTPS.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]
#![expect(clippy::print_stdout, reason = "how many cases passed is part of the result")]

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/https.rs"]
mod https;
#[path = "../support/serving.rs"]
mod serving;

mod cases;
mod conformance;
mod lifetime;
