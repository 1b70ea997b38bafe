//! Is anything lost or slowed when traffic moves to a new revision under load?

use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::Instant;

use super::manifest::Service;
use super::{
    LATENCY_COLUMNS, Measured, arrivals, by_interval, failures, interval, latencies, latency_cells,
    rates, refusals, sampling, summary, timeline,
};
use crate::chart::{Figure, Form, Mark, Panel, Series, Tone};
use crate::cli::{Common, Failure, finish, progress};
use crate::generator::{self, Arrivals, Ask, Bucket, Load, Plan, Schedule, Shape};
use crate::results::{Outcome, Table};
use crate::text::{count, percent, positive_duration};
use crate::tidegate::{Setup, Tidegate, host};
use crate::watch::{Watcher, curve};

const QUESTION: &str =
    "Is anything lost or slowed when traffic moves to a new revision under load?";

/// Shares of the new revision, each for an equal part of the time.
const STEPS: [u32; 4] = [0, 10, 50, 100];

/// Options of `rollout`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// How long it takes, all four steps together
    #[arg(long, short = 'd', value_name = "TIME", default_value = "40s")]
    #[arg(value_parser = positive_duration)]
    duration: Duration,

    /// Requests per second
    #[arg(long, short = 'r', value_name = "RATE", default_value_t = 200.0)]
    rate: f64,

    /// What a replica takes for a request
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = positive_duration)]
    service_time: Duration,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("rollout", QUESTION, context.machine.clone());
    outcome.setting("duration", format!("{:?}", args.duration));
    outcome.setting("requests a second", args.rate);
    outcome.setting("service time", format!("{:?}", args.service_time));
    let setup = Setup { manifests: manifests(0), ..Setup::default() };
    let mut tidegate = Tidegate::start(&context.tidegate, setup).await?;
    let path = format!("/?ms={}", args.service_time.as_millis());
    let ask = Ask::service(tidegate.http(), &host("shop"), &path)?;
    let shape = Shape::constant(args.rate, args.duration);
    let schedule = Schedule { shape, arrivals: Arrivals::Uniform, seed: context.seed };
    let plan = Plan {
        connections: 200,
        interval: interval(args.duration),
        labels: true,
        ..Plan::new(ask, Load::Open(schedule))
    };
    let watcher = Watcher::start(tidegate.admin(), sampling(args.duration));
    let mut start = Instant::now();
    let load = generator::run_from(plan, |at| start = at);
    let (recording, edits) = tokio::join!(load, edits(&tidegate, args.duration));
    let edits = edits?;
    let measured = Measured { recording: recording?, samples: watcher.stop().await, start };
    tidegate.check()?;
    tidegate.stop().await?;

    let recording = &measured.recording;
    outcome.tables.push(summary("Traffic moved while it flowed", &[("all", recording)]));
    outcome.tables.push(step_table(args, &measured));
    outcome.tables.extend(failures("", recording));
    outcome.check("no request is lost or refused", recording.bad_total() == 0);
    let quarter = args.duration / 4;
    let settled = (quarter * 3 + quarter / 2, args.duration);
    let last = recording.between(settled.0, settled.1);
    outcome.check("at the end all requests go to the new revision", new(&last) == last.good);
    outcome.figures.push(figure(args, &measured, &edits));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

/// Two revisions, with a share for the new one.
fn manifests(share: u32) -> String {
    let target = |name: &str| vec![("TARGET".to_owned(), name.to_owned())];
    let service = Service {
        environment: target("new"),
        revision: Some("shop-new".into()),
        traffic: vec![("shop-old".into(), 100 - share), ("shop-new".into(), share)],
        ..Service::new("shop", 10)
    };
    service.older("shop-old", &target("old")) + &service.yaml()
}

/// Edits the manifest at the end of each step; returns when that was.
async fn edits(tidegate: &Tidegate, duration: Duration) -> Result<Vec<(Instant, u32)>, Failure> {
    let mut edits = Vec::new();
    for share in &STEPS[1..] {
        tokio::time::sleep(duration / 4).await;
        progress(format!("  {share} % to the new revision"));
        tidegate.rewrite(&manifests(*share))?;
        edits.push((Instant::now(), *share));
    }
    Ok(edits)
}

fn new(bucket: &Bucket) -> u64 {
    bucket.labels.get("Hello new!").copied().unwrap_or(0)
}

fn step_table(args: &Args, measured: &Measured) -> Table {
    let mut table = Table::new(
        "By step; an edit takes effect after 0.2 s of quiet",
        &["new revision", "requests", "to the new", "share", "refused or failed"],
    );
    table.columns.extend(LATENCY_COLUMNS.map(str::to_owned));
    let quarter = args.duration / 4;
    for (number, share) in (0_u32..).zip(STEPS) {
        let bucket = measured.recording.between(quarter * number, quarter * (number + 1));
        let mut cells = vec![
            format!("{share} %"),
            count(bucket.due),
            count(new(&bucket)),
            percent(new(&bucket), bucket.good),
            count(bucket.bad_total()),
        ];
        cells.extend(latency_cells(&bucket.latency));
        table.row(cells);
    }
    table
}

fn figure(args: &Args, measured: &Measured, edits: &[(Instant, u32)]) -> Figure {
    let recording = &measured.recording;
    let since = |at: Instant| at.saturating_duration_since(measured.start).as_secs_f64();
    let mut wanted = vec![(0.0, 0.0)];
    wanted.extend(edits.iter().map(|(at, share)| (since(*at), f64::from(*share))));
    wanted.push((args.duration.as_secs_f64(), 100.0));
    let share = by_interval(recording, |bucket| {
        (bucket.good > 0).then(|| new(bucket) as f64 * 100.0 / bucket.good as f64)
    });
    let old = |bucket: &Bucket| bucket.good - new(bucket);
    let ready = |name: &'static str| {
        curve(&measured.samples, measured.start, |r| r.name == name, |r| r.ready.into())
    };
    let panels = vec![
        arrivals(recording),
        Panel::linear(
            "Answers a second",
            vec![
                Series::with_gaps("old revision", Tone::Grey, Form::Line, rates(recording, old)),
                Series::with_gaps("new revision", Tone::Violet, Form::Line, rates(recording, new)),
            ],
        ),
        Panel::linear(
            "Share of the new revision, %",
            vec![
                Series::new("in the manifest", Tone::Orange, Form::Step, wanted),
                Series::with_gaps("measured", Tone::Violet, Form::Line, share),
            ],
        ),
        Panel::linear(
            "Ready replicas",
            vec![
                Series::new("old revision", Tone::Grey, Form::Step, ready("shop-old")),
                Series::new("new revision", Tone::Violet, Form::Step, ready("shop-new")),
            ],
        ),
        latencies(recording),
        refusals(recording),
    ];
    let mark = |(at, share): &(Instant, u32)| Mark { at: since(*at), label: format!("{share} %") };
    timeline(
        "Traffic moves to a new revision",
        &format!(
            "{} requests a second, each takes {} ms; the manifest is edited at the dotted lines. \
             The new revision has no replica before.",
            args.rate,
            args.service_time.as_millis()
        ),
        args.duration,
        panels,
        edits.iter().map(mark).collect(),
    )
}
