//! Do replicas follow the load of a day, and do users notice?

use std::time::Duration;

use clap::Args as ClapArgs;

use super::manifest::Service;
use super::{
    Measured, arrivals, concurrency, failures, interval, latencies, measure, refusals, replicas,
    sampling, summary, timeline,
};
use crate::chart::{Figure, Mark};
use crate::cli::{Common, Failure, finish, progress};
use crate::generator::{Arrivals, Ask, Load, Plan, Schedule, Shape};
use crate::results::{Outcome, Table};
use crate::text::positive_duration;
use crate::tidegate::{Setup, Tidegate, host};
use crate::watch::{curve, peak};

const QUESTION: &str = "Do replicas follow the load of a day, and do users notice?";

/// A day: hours, and the load as a part of its peak.
const DAY: &[(f64, f64)] = &[
    (0.0, 0.08),
    (1.5, 0.03),
    (2.0, 0.01),
    (2.0, 0.0),
    (5.0, 0.0),
    (5.0, 0.01),
    (7.0, 0.25),
    (9.0, 0.8),
    (11.0, 0.95),
    (12.5, 0.6),
    (14.0, 0.75),
    (17.0, 0.7),
    (19.0, 0.9),
    (20.0, 1.0),
    (22.0, 0.45),
    (24.0, 0.08),
];

/// Knative's least stable window.
const WINDOW_MIN: Duration = Duration::from_secs(6);

/// Options of `scale`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// How long the day takes
    #[arg(long, short = 'd', value_name = "TIME", default_value = "4m")]
    #[arg(value_parser = positive_duration)]
    duration: Duration,

    /// Requests per second at the day's peak
    #[arg(long, value_name = "RATE", default_value_t = 400.0)]
    peak: f64,

    /// What a replica takes for a request
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = positive_duration)]
    service_time: Duration,

    /// Requests that a replica takes at once (containerConcurrency)
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = tokio::time::Instant::now();
    let mut outcome = Outcome::begin("scale", QUESTION, context.machine.clone());
    // An hour of this day, where that is not too short.
    let window = (args.duration / 24).max(WINDOW_MIN);
    let window_text = format!("{}s", window.as_secs());
    outcome.setting("duration", format!("{:?}", args.duration));
    outcome.setting("peak, requests a second", args.peak);
    outcome.setting("service time", format!("{:?}", args.service_time));
    outcome.setting("containerConcurrency", args.concurrency);
    outcome.setting("stable window", &window_text);
    let service =
        Service::new("shop", args.concurrency).with("autoscaling.knative.dev/window", &window_text);
    let setup = Setup { manifests: service.yaml(), ..Setup::default() };
    let mut tidegate = Tidegate::start(&context.tidegate, setup).await?;
    let path = format!("/delay?ms={}", args.service_time.as_millis());
    let ask = Ask::service(tidegate.http(), &host("shop"), &path)?;
    let schedule = Schedule { shape: day(args)?, arrivals: Arrivals::Poisson, seed: context.seed };
    progress(format!("a day in {:?}: about {:.0} requests", args.duration, schedule.shape.total()));
    let plan = Plan {
        connections: 400,
        interval: interval(args.duration),
        ..Plan::new(ask, Load::Open(schedule))
    };
    let measured = measure(&mut tidegate, plan, sampling(args.duration)).await?;
    tidegate.stop().await?;

    outcome.tables.push(summary("A day's requests", &[("all", &measured.recording)]));
    outcome.tables.push(replica_table(&measured));
    outcome.tables.extend(failures("", &measured.recording));
    outcome.check("every request is answered well", measured.recording.bad_total() == 0);
    outcome.figures.push(figure(args, &window_text, &measured));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

fn day(args: &Args) -> Result<Shape, Failure> {
    let points: Vec<_> = DAY
        .iter()
        .map(|(hour, part)| (args.duration.mul_f64(hour / 24.0), part * args.peak))
        .collect();
    Ok(Shape::curve(&points)?)
}

fn replica_table(measured: &Measured) -> Table {
    let Measured { samples, start, .. } = measured;
    let ready = curve(samples, *start, |_| true, |revision| revision.ready.into());
    let seconds: f64 = ready.windows(2).map(|pair| (pair[1].0 - pair[0].0) * pair[0].1).sum();
    let span = ready.last().map_or(1.0, |(at, _)| at.max(1e-9));
    let mut table = Table::new("Replicas", &["", "ready at most", "on average"]);
    table.row(["all".to_owned(), format!("{}", peak(&ready)), format!("{:.1}", seconds / span)]);
    table
}

fn figure(args: &Args, window: &str, measured: &Measured) -> Figure {
    let hour = |hour: u32| Mark {
        at: args.duration.as_secs_f64() * f64::from(hour) / 24.0,
        label: format!("{hour}:00"),
    };
    timeline(
        "A day's traffic",
        &format!(
            "24 hours in {}; each request takes {} ms, a replica takes {} at once; stable window \
             {window}. Dotted lines are hours of that day.",
            span(args.duration),
            args.service_time.as_millis(),
            args.concurrency
        ),
        args.duration,
        vec![
            arrivals(&measured.recording),
            concurrency(measured, |_| true),
            replicas(measured, |_| true),
            latencies(&measured.recording),
            refusals(&measured.recording),
        ],
        vec![hour(6), hour(12), hour(18)],
    )
}

fn span(duration: Duration) -> String {
    if duration.as_secs() >= 60 && duration.as_secs().is_multiple_of(60) {
        format!("{} minutes", duration.as_secs() / 60)
    } else {
        format!("{duration:?}")
    }
}
