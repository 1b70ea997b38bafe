//! `loadtest`: an open-loop load generator for any URL, and scenarios, each named by the question
//! that it answers about tidegate.

fn main() {}
