//! What happens when twice as much is asked for as there is?

use std::time::Duration;

use clap::Args as ClapArgs;

use super::manifest::Service;
use super::{
    LATENCY_COLUMNS, arrivals, concurrency, failures, interval, latencies, latency_cells, measure,
    rates, refusals, sampling, timeline,
};
use crate::chart::{Form, Mark, Panel, Series, Tone};
use crate::cli::{Common, Failure, finish, progress};
use crate::generator::{Arrivals, Ask, Load, Plan, Recording, Schedule, Shape};
use crate::results::{Outcome, Table};
use crate::text::{count, positive_duration};
use crate::tidegate::{Setup, Tidegate, host};

const QUESTION: &str = "What happens when more is asked for than there is?";

/// Options of `overload`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// How long it takes; the middle half is overloaded
    #[arg(long, short = 'd', value_name = "TIME", default_value = "40s")]
    #[arg(value_parser = positive_duration)]
    duration: Duration,

    /// Load in the middle, as a multiple of the capacity
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    factor: f64,

    /// Replicas, always there
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    replicas: u32,

    /// Requests that a replica takes at once (containerConcurrency)
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,

    /// What a replica takes for a request
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = positive_duration)]
    service_time: Duration,

    /// How long a request waits before it is refused (tidegate.dev/queue-timeout)
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = positive_duration)]
    queue_timeout: Duration,
}

impl Args {
    /// Requests a second.
    fn capacity(&self) -> f64 {
        f64::from(self.replicas * self.concurrency) / self.service_time.as_secs_f64()
    }

    fn phases(&self) -> [(&'static str, Duration, Duration, f64); 3] {
        let quarter = self.duration / 4;
        [
            ("before", Duration::ZERO, quarter, 0.5),
            ("overloaded", quarter, quarter * 3, self.factor),
            ("after", quarter * 3, self.duration, 0.5),
        ]
    }
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = tokio::time::Instant::now();
    let mut outcome = Outcome::begin("overload", QUESTION, context.machine.clone());
    let capacity = args.capacity();
    outcome.setting("capacity, requests a second", capacity);
    outcome.setting("load in the middle", format!("{} × capacity", args.factor));
    outcome.setting("queue timeout", format!("{:?}", args.queue_timeout));
    let service = Service::new("busy", args.concurrency)
        .scaled(args.replicas, args.replicas)
        .with("tidegate.dev/queue-timeout", format!("{}ms", args.queue_timeout.as_millis()));
    let setup = Setup { manifests: service.yaml(), ..Setup::default() };
    let mut tidegate = Tidegate::start(&context.tidegate, setup).await?;
    let path = format!("/delay?ms={}", args.service_time.as_millis());
    let ask = Ask::service(tidegate.http(), &host("busy"), &path)?;
    let points: Vec<_> = args
        .phases()
        .into_iter()
        .flat_map(|(_, from, to, part)| [(from, part * capacity), (to, part * capacity)])
        .collect();
    let shape = Shape::curve(&points)?;
    // As many as can be in flight, and some more for what Poisson brings together.
    let longest = args.queue_timeout + args.service_time;
    let at_once = shape.peak() * longest.as_secs_f64();
    let schedule = Schedule { shape, arrivals: Arrivals::Poisson, seed: context.seed };
    progress(format!("{capacity:.0} requests a second are possible, {} × that come", args.factor));
    let plan = Plan {
        connections: (at_once * 1.5) as usize + 50,
        interval: interval(args.duration),
        ..Plan::new(ask, Load::Open(schedule))
    };
    let measured = measure(&mut tidegate, plan, sampling(args.duration)).await?;
    tidegate.stop().await?;

    let recording = &measured.recording;
    outcome.tables.push(phase_table(args, recording));
    outcome.tables.extend(failures("", recording));
    let eighth = args.duration / 8;
    let after = recording.between((eighth * 6 + longest).max(eighth * 7), args.duration);
    outcome.check("once the overload is over, nothing is refused", after.bad_total() == 0);
    let foreign =
        recording.bad.keys().any(|what| !what.starts_with("504 ") && !what.starts_with("503 "));
    outcome.check("what is refused is refused with a reason", !foreign);
    let quarter = args.duration.as_secs_f64() / 4.0;
    outcome.figures.push(timeline(
        &format!("{} × what is possible", args.factor),
        &format!(
            "{} replicas take {} requests at once, {} ms each: {capacity:.0} a second. A request \
             that waited {} ms is refused.",
            args.replicas,
            args.concurrency,
            args.service_time.as_millis(),
            args.queue_timeout.as_millis()
        ),
        args.duration,
        vec![
            arrivals(recording),
            goodput(recording, capacity),
            concurrency(&measured, |_| true),
            latencies(recording),
            refusals(recording),
        ],
        vec![
            Mark { at: quarter, label: "overload begins".into() },
            Mark { at: quarter * 3.0, label: "overload ends".into() },
        ],
    ));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

fn goodput(recording: &Recording, capacity: f64) -> Panel {
    let good = rates(recording, |bucket| bucket.good);
    let level = good.iter().map(|(at, _)| (*at, capacity)).collect();
    Panel::linear(
        "Answered well, requests a second",
        vec![
            Series::new("capacity", Tone::Grey, Form::Line, level),
            Series::with_gaps("answered well", Tone::Green, Form::Area, good),
        ],
    )
}

fn phase_table(args: &Args, recording: &Recording) -> Table {
    let mut table = Table::new(
        "Latency of what was accepted",
        &["", "due a second", "good a second", "of capacity", "refused"],
    );
    table.columns.extend(LATENCY_COLUMNS.map(str::to_owned));
    for (name, from, to, _) in args.phases() {
        let bucket = recording.between(from, to);
        let seconds = (to - from).as_secs_f64();
        let rate = |number: u64| number as f64 / seconds;
        let mut cells = vec![
            name.to_owned(),
            format!("{:.0}", rate(bucket.due)),
            format!("{:.0}", rate(bucket.good)),
            format!("{:.0} %", rate(bucket.good) * 100.0 / args.capacity()),
            count(bucket.bad_total()),
        ];
        cells.extend(latency_cells(&bucket.latency));
        table.row(cells);
    }
    table
}
