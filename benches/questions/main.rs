//! What the steps of a request and of a scaling decision cost, each named by the question it
//! answers.
//!
//! ```text
//! cargo bench --bench questions                          times, by criterion
//! cargo bench --bench questions -- host                  of questions with this in their name
//! cargo bench --bench questions -- --instructions        instructions, by valgrind
//! cargo bench --bench questions -- --check               compared with benches/instructions.txt
//! cargo bench --bench questions -- --renew               which it writes anew
//! ```
//!
//! Times on a shared machine are noise beyond some per cent; the instructions of the same binary
//! are the same in every run, so they are what is compared for every change.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the numbers are what it is for")]

mod counting;
mod instructions;
mod live;
mod proxying;
mod queueing;
mod routing;
mod scaling;

use std::process::ExitCode;

use criterion::Criterion;

/// What is measured: prepared once, then done again and again.
type Step = Box<dyn FnMut()>;

/// A question, and how to find out.
type Named = (&'static str, fn() -> Step);

/// Every question, in the order of a request's way.
fn questions() -> Vec<Named> {
    [
        routing::QUESTIONS,
        queueing::QUESTIONS,
        counting::QUESTIONS,
        scaling::QUESTIONS,
        proxying::QUESTIONS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if let Some(at) = arguments.iter().position(|argument| argument == instructions::ONE) {
        return instructions::run_one(&questions(), arguments.get(at + 1));
    }
    if is("--check") {
        return instructions::check(&questions());
    }
    if is("--renew") {
        return instructions::renew(&questions());
    }
    if is("--instructions") {
        return instructions::show(&questions());
    }
    times();
    ExitCode::SUCCESS
}

fn times() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, prepare) in questions() {
        criterion.bench_function(name, |bencher| {
            let mut step = prepare();
            bencher.iter(&mut step);
        });
    }
    criterion.final_summary();
}
