//! What an operator and Prometheus see: health, metrics, a JSON API. It runs on its own thread
//! and knows the rest only by read-only views that are handed in.

pub mod metrics;
pub mod order;
pub mod server;
pub mod view;

mod guard;
mod routes;
mod token;

pub use token::{Token, TokenError};
