//! Load for tidegate: an open-loop [`generator`] that is a tool of its own, and scenarios that each
//! answer one question about tidegate with a table, JSON and a plot.
//!
//! ```text
//! text        durations and numbers as people write them
//! stats       quantiles, medians with their interval
//! generator   requests at intended times, latencies, counts
//! process     programs that a scenario starts and that are gone at its end
//! tidegate    a tidegate as a child, and its admin API
//! peers       other proxies for the same work, and how to look at them
//! watch       looks at a tidegate under load
//! chart       plots as SVG
//! results     what was found: tables, JSON, plots
//! scenario    one question each
//! report      all results as one page
//! cli         the command line
//! ```

pub mod text;
pub mod stats;
pub mod generator;
pub mod process;
pub mod tidegate;
pub mod peers;
pub mod watch;
pub mod chart;
pub mod results;
pub mod scenario;
pub mod report;
pub mod cli;
