//! Do modest services suffer when one is greedy?

use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::manifest::Service;
use super::{
    LATENCY_COLUMNS, Measured, interval, latency_cells, refusals, replicas, sampling, timeline,
};
use crate::chart::{Figure, Form, Mark, Panel, Series, Tone};
use crate::cli::{Common, Context, Failure, finish, progress};
use crate::generator::{
    self, Arrivals, Ask, Bucket, Load, Plan, Protocol, Recording, Schedule, Shape,
};
use crate::results::{Outcome, Table};
use crate::text::{count, millis, positive_duration};
use crate::tidegate::{RevisionView, Setup, Tidegate, host};
use crate::watch::{Watcher, curve};

const QUESTION: &str = "Do modest services suffer when one is greedy?";

/// What each replica takes at once, and its replicas at most.
const CONCURRENCY: u32 = 10;
const GREEDY_REPLICAS: u32 = 4;
/// How long a request of the greedy one waits before it is refused.
const GREEDY_WAIT: Duration = Duration::from_secs(2);
/// HTTP/2 streams per connection of the greedy client.
const STREAMS: usize = 50;

/// Options of `fairness`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// How long it takes; the middle third has the greedy one
    #[arg(long, short = 'd', value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = positive_duration)]
    duration: Duration,

    /// Modest services
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    modest: u32,

    /// Requests per second of each modest service
    #[arg(long, value_name = "RATE", default_value_t = 20.0)]
    modest_rate: f64,

    /// What a replica takes for a request
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = positive_duration)]
    service_time: Duration,

    /// Load of the greedy service, as a multiple of what it may have
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    greed: f64,
}

impl Args {
    fn greedy_capacity(&self) -> f64 {
        f64::from(GREEDY_REPLICAS * CONCURRENCY) / self.service_time.as_secs_f64()
    }
}

/// What was measured of each kind.
struct Found {
    modest: Measured,
    greedy: Recording,
    newcomer: Recording,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("fairness", QUESTION, context.machine.clone());
    outcome.setting("modest services", args.modest);
    outcome.setting("requests a second of each", args.modest_rate);
    outcome.setting("greedy service, requests a second", args.greedy_capacity() * args.greed);
    outcome.setting("of which it may have", args.greedy_capacity());
    let found = load(&context, args).await?;

    let third = args.duration / 3;
    let mut table = Table::new("Modest services together", &["", "requests", "refused or failed"]);
    table.columns.extend(LATENCY_COLUMNS.map(str::to_owned));
    for (number, name) in (0..).zip(["before", "beside the greedy one", "after"]) {
        let bucket = found.modest.recording.between(third * number, third * (number + 1));
        let mut cells = vec![name.to_owned(), count(bucket.due), count(bucket.bad_total())];
        cells.extend(latency_cells(&bucket.latency));
        table.row(cells);
    }
    outcome.tables.push(table);
    let mut table =
        Table::new("The others", &["", "requests", "good", "refused or failed", "p50 ms"]);
    for (name, recording) in [
        ("greedy service", &found.greedy),
        ("a service at zero, asked in the middle", &found.newcomer),
    ] {
        table.row([
            name.to_owned(),
            count(recording.due),
            count(recording.good),
            count(recording.bad_total()),
            recording.latency.quantile(0.5).map_or_else(|| "–".into(), millis),
        ]);
    }
    outcome.tables.push(table);
    let modest_bad = found.modest.recording.bad_total();
    outcome.check("no request of a modest service is refused or fails", modest_bad == 0);
    outcome.check("a service at zero is started meanwhile", found.newcomer.bad_total() == 0);
    outcome.figures.push(figure(args, &found));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

fn services(args: &Args) -> String {
    let wait = format!("{}ms", GREEDY_WAIT.as_millis());
    let greedy = Service::new("greedy", CONCURRENCY)
        .scaled(0, GREEDY_REPLICAS)
        .with("tidegate.dev/queue-timeout", wait);
    let mut text = greedy.yaml() + &Service::new("newcomer", CONCURRENCY).yaml();
    for number in 0..args.modest {
        text += &Service::new(&format!("modest-{number}"), CONCURRENCY).scaled(1, 4).yaml();
    }
    text
}

async fn load(context: &Context, args: &Args) -> Result<Found, Failure> {
    let setup = Setup { manifests: services(args), ..Setup::default() };
    let mut tidegate = Tidegate::start(&context.tidegate, setup).await?;
    let path = format!("/delay?ms={}", args.service_time.as_millis());
    let ask = |service: &str| Ask::service(tidegate.http(), &host(service), &path);
    let interval = interval(args.duration);
    let constant = Shape::constant(args.modest_rate, args.duration);
    let mut modest = JoinSet::new();
    for number in 0..args.modest {
        let seed = context.seed.wrapping_add(u64::from(number));
        let schedule = Schedule { shape: constant.clone(), arrivals: Arrivals::Poisson, seed };
        let ask = ask(&format!("modest-{number}"))?;
        modest.spawn(generator::run(Plan { interval, ..Plan::new(ask, Load::Open(schedule)) }));
    }
    let greedy = generator::run(greedy_plan(args, ask("greedy")?, context.seed)?);
    let newcomer = async {
        tokio::time::sleep(args.duration / 2).await;
        generator::run(Plan::new(ask("newcomer")?, Load::AtOnce { requests: 1 })).await
    };
    progress(format!("{} modest services, and a greedy one in the middle third", args.modest));
    let watcher = Watcher::start(tidegate.admin(), sampling(args.duration));
    let start = Instant::now();
    let (modest, greedy, newcomer) = tokio::join!(modest.join_all(), greedy, newcomer);
    let samples = watcher.stop().await;
    let mut all: Option<Recording> = None;
    for recording in modest {
        let recording = recording?;
        match &mut all {
            Some(all) => all.add(&recording),
            None => all = Some(recording),
        }
    }
    tidegate.check()?;
    tidegate.stop().await?;
    let recording = all.ok_or("there is no modest service")?;
    let modest = Measured { recording, samples, start };
    Ok(Found { modest, greedy: greedy?, newcomer: newcomer? })
}

fn greedy_plan(args: &Args, ask: Ask, seed: u64) -> Result<Plan, Failure> {
    let rate = args.greedy_capacity() * args.greed;
    let third = args.duration / 3;
    let points = [
        (Duration::ZERO, 0.0),
        (third, 0.0),
        (third, rate),
        (third * 2, rate),
        (third * 2, 0.0),
        (args.duration, 0.0),
    ];
    let shape = Shape::curve(&points)?;
    let at_once = rate * (GREEDY_WAIT + args.service_time).as_secs_f64() * 1.2;
    let ask = Ask { protocol: Protocol::Http2, ..ask };
    Ok(Plan {
        connections: (at_once / STREAMS as f64).ceil() as usize,
        streams: STREAMS,
        interval: interval(args.duration),
        ..Plan::new(ask, Load::Open(Schedule { shape, arrivals: Arrivals::Poisson, seed }))
    })
}

fn figure(args: &Args, found: &Found) -> Figure {
    let modest = &found.modest;
    let is_modest = |revision: &RevisionView| revision.name.starts_with("modest");
    let is_greedy = |revision: &RevisionView| revision.name.starts_with("greedy");
    let rate = |recording: &Recording, value: fn(&Bucket) -> u64| super::rates(recording, value);
    let in_flight = |which: &dyn Fn(&RevisionView) -> bool| {
        curve(&modest.samples, modest.start, which, |revision| revision.in_flight)
    };
    let mut refused = refusals(&found.greedy);
    refused.title = "Refusals and failures of the greedy one, requests a second".into();
    let mut own = replicas(modest, is_greedy);
    own.title = "Replicas of the greedy one".into();
    let third = args.duration.as_secs_f64() / 3.0;
    let due = |bucket: &Bucket| bucket.due;
    timeline(
        "One greedy service beside modest ones",
        &format!(
            "{} modest services with {} requests a second each; in the middle third a greedy one \
             asks for {} × what its {GREEDY_REPLICAS} replicas can do. Each request takes {} ms.",
            args.modest,
            args.modest_rate,
            args.greed,
            args.service_time.as_millis()
        ),
        args.duration,
        vec![
            Panel::linear(
                "Arrivals, requests a second",
                vec![
                    Series::with_gaps("greedy", Tone::Red, Form::Area, rate(&found.greedy, due)),
                    Series::with_gaps(
                        "modest, all",
                        Tone::Green,
                        Form::Line,
                        rate(&modest.recording, due),
                    ),
                ],
            ),
            Panel::linear(
                "Concurrency, requests in flight",
                vec![
                    Series::new("greedy", Tone::Red, Form::Area, in_flight(&is_greedy)),
                    Series::new("modest, all", Tone::Green, Form::Line, in_flight(&is_modest)),
                ],
            ),
            own,
            latencies(found),
            refused,
        ],
        vec![
            Mark { at: third, label: "greed begins".into() },
            Mark { at: third * 2.0, label: "greed ends".into() },
        ],
    )
}

fn latencies(found: &Found) -> Panel {
    let line = |name: &str, tone, recording: &Recording, part: f64| {
        let points = super::by_interval(recording, |bucket| {
            bucket.latency.quantile(part).map(|seconds| seconds * 1e3)
        });
        Series::with_gaps(name, tone, Form::Line, points)
    };
    let modest = &found.modest.recording;
    Panel::log(
        "Latency by when a request was due, ms",
        vec![
            line("greedy p50", Tone::Red, &found.greedy, 0.5),
            line("modest max", Tone::Grey, modest, 1.0),
            line("modest p99", Tone::Violet, modest, 0.99),
            line("modest p50", Tone::Green, modest, 0.5),
        ],
    )
}
