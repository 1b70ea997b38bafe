//! HTTPS on the data listeners, with the clients that people use: curl, openssl, and rustls.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/https.rs"]
mod https;
#[path = "../support/serving.rs"]
mod serving;

mod admin;
mod handshake;
mod inside;
mod proxy_protocol;
mod redirect;
mod reload;
mod requests;
mod start;
