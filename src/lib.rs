//! **tidegate** takes Knative Service manifests as they are and serves them: ingress, activator
//! and autoscaler in one process. A revision without replicas costs nothing; the first request
//! for it is held, a replica is started, the request goes through.
//!
//! ```text
//! request:  listener → router → revision (queue → permit → endpoint) → upstream → response
//! echo:     in-flight events → windows → decider → desired replicas → scale target
//! return:   config source → update → snapshot + endpoints → the queue moves
//! ```
//!
//! # Words
//!
//! *service* (hosts + traffic) · *revision* (immutable version of a service; has replicas) ·
//! *replica* (process or pod) · *endpoint* (address of a ready replica) · *slot* (one unit of
//! container concurrency on an endpoint) · *permit* (a slot held by one request) · *queue*
//! (requests waiting for a permit) · *ejection* (an endpoint set aside because it fails) ·
//! *stable window*, *panic window* · *target* (load per replica the autoscaler aims at) ·
//! *desired / ready replicas* · *victim* (a replica chosen to go) · *snapshot* (the routing table
//! of one moment) · *drain*.
//!
//! # Rules
//!
//! * [`proxy`] and [`autoscaler`] never name each other; they meet in [`stats`].
//! * The loop closes only through the [`platform`]: the autoscaler states a number, the platform
//!   makes replicas, the source reports endpoints, the queue moves.
//! * Only [`local`] starts a process; only [`config`] reads YAML; only [`cli`] prints, and
//!   [`traces`] where spans are to go to standard output.
//! * Clocks are tokio's, so that tests own time; pure code gets `now` as an argument.
//!
//! `tests/architecture.rs` checks who may import whom.

pub mod model;
pub mod config;
pub mod platform;
pub mod stats;
pub mod traces;
pub mod revision;
pub mod snapshot;
pub mod proxy;
pub mod upstream;
pub mod tls;
pub mod server;
pub mod autoscaler;
pub mod kubernetes;
pub mod local;
pub mod admin;
pub mod app;
pub mod cli;
