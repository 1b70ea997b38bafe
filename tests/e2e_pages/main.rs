//! Pages for people: the one that is shown while a first replica starts, and the dashboard; as
//! clients see them, and in a real browser.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/serving.rs"]
mod serving;

mod browser;
mod chromium;
mod dashboard;
mod waiting;
