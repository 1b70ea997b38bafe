//! Is a bad new revision taken back, and how much of the traffic does it cost?

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval as ticks_of, sleep_until};

use super::manifest::Service;
use super::{
    LATENCY_COLUMNS, Measured, failures, interval, latencies, latency_cells, rates, refusals,
    sampling, summary, timeline,
};
use crate::chart::{Figure, Form, Mark, Panel, Series, Tone};
use crate::cli::{Common, Failure, finish, progress};
use crate::generator::{self, Arrivals, Ask, Load, Plan, Recording, Schedule, Shape};
use crate::results::{Outcome, Table};
use crate::text::{count, percent, positive_duration};
use crate::tidegate::{Admin, Setup, Tidegate, host};
use crate::watch::{Watcher, curve};

const QUESTION: &str =
    "Is a bad new revision taken back, and how much of the traffic does it cost?";

/// When the bad revision and the good one come, in parts of the time.
const EDITS: [f64; 2] = [0.1, 0.4];
/// From one look at the shares to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `canary`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// How long it takes: the bad revision comes after a tenth of it, a good one after four
    #[arg(long, short = 'd', value_name = "TIME", default_value = "90s")]
    #[arg(value_parser = positive_duration)]
    duration: Duration,

    /// Requests per second
    #[arg(long, short = 'r', value_name = "RATE", default_value_t = 400.0)]
    rate: f64,

    /// What a replica takes for a request
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = positive_duration)]
    service_time: Duration,

    /// Least time of a step [default: a tenth of the duration]
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    step_time: Option<Duration>,

    /// Answers of the new revision that a step needs
    #[arg(long, value_name = "N", default_value_t = 100)]
    samples: u64,

    /// How many of 100 requests the bad revision fails
    #[arg(long, value_name = "N", default_value_t = 15)]
    fail_percent: u8,

    /// Milliseconds by which the bad revision is slower
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow_ms: u64,
}

/// Shares of the revisions at one moment.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    shares: Vec<Share>,
    state: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Share {
    revision: String,
    percent: u8,
}

#[derive(Deserialize)]
struct Services {
    services: Vec<ServiceView>,
}

#[derive(Deserialize)]
struct ServiceView {
    traffic: Vec<Share>,
    canary: Option<CanaryView>,
}

#[derive(Deserialize)]
struct CanaryView {
    state: String,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("canary", QUESTION, context.machine.clone());
    outcome.setting("duration", format!("{:?}", args.duration));
    outcome.setting("requests a second", args.rate);
    outcome.setting("service time", format!("{:?}", args.service_time));
    outcome.setting("least time of a step", format!("{:?}", args.step_time()));
    outcome.setting("answers that a step needs", args.samples);
    outcome.setting("of 100 requests the bad revision fails", args.fail_percent);
    outcome.setting("and is slower by", format!("{} ms", args.slow_ms));
    let setup = Setup { manifests: args.manifests(1), ..Setup::default() };
    let mut tidegate = Tidegate::start(&context.tidegate, setup).await?;
    let path = format!("/?ms={}", args.service_time.as_millis());
    let ask = Ask::service(tidegate.http(), &host("shop"), &path)?;
    let shape = Shape::constant(args.rate, args.duration);
    let schedule = Schedule { shape, arrivals: Arrivals::Poisson, seed: context.seed };
    let plan = Plan {
        connections: 200,
        interval: interval(args.duration),
        labels: true,
        ..Plan::new(ask, Load::Open(schedule))
    };
    let watcher = Watcher::start(tidegate.admin(), sampling(args.duration));
    let looking = look(tidegate.admin());
    let mut start = Instant::now();
    let load = generator::run_from(plan, |at| start = at);
    let (recording, edits) = tokio::join!(load, edits(&tidegate, args));
    let edits = edits?;
    let measured = Measured { recording: recording?, samples: watcher.stop().await, start };
    looking.0.send_replace(true);
    let seen = looking.1.await?;
    tidegate.check()?;
    tidegate.stop().await?;

    let recording = &measured.recording;
    let back = seen.iter().find(|seen| seen.state.as_deref() == Some("taken_back"));
    let last = seen.last().and_then(|seen| seen.share("shop-00003"));
    outcome.check("the bad revision is taken back", back.is_some());
    outcome.check("the good one gets all", last == Some(100));
    outcome.tables.push(summary("A bad revision, then a good one", &[("all", recording)]));
    outcome.tables.push(cost(args, &measured, &seen, &edits));
    outcome.tables.extend(failures("", recording));
    outcome.figures.push(figure(args, &measured, &seen, &edits));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

impl Args {
    fn step_time(&self) -> Duration {
        self.step_time.unwrap_or(self.duration / 10)
    }

    /// The manifest's first, second or third version.
    fn manifests(&self, version: u32) -> String {
        let mut environment = vec![("TARGET".to_owned(), format!("version {version}"))];
        if version == 2 {
            environment.push(("FAIL_PERCENT".to_owned(), self.fail_percent.to_string()));
            environment.push(("SLOW_MS".to_owned(), self.slow_ms.to_string()));
        }
        let service = Service { environment, ..Service::new("shop", 0) };
        let rules = format!(
            "  name: shop\n  annotations:\n    tidegate.dev/rollout: canary\n    \
             tidegate.dev/rollout-step-time: {}ms\n    tidegate.dev/rollout-samples: \"{}\"\n",
            self.step_time().as_millis(),
            self.samples
        );
        service.yaml().replacen("  name: shop\n", &rules, 1)
    }
}

impl Seen {
    fn share(&self, revision: &str) -> Option<u8> {
        self.shares.iter().find(|share| share.revision == revision).map(|share| share.percent)
    }
}

/// Looks at the shares until it is told to stop.
fn look(admin: Admin) -> (tokio::sync::watch::Sender<bool>, JoinHandle<Vec<Seen>>) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        let mut ticks = ticks_of(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stopped.borrow() {
            ticks.tick().await;
            let at = Instant::now();
            let Ok(body) = admin.get("/api/v1/services").await else { continue };
            let Ok(Services { services }) = serde_json::from_slice(&body) else { continue };
            let Some(service) = services.into_iter().next() else { continue };
            let state = service.canary.map(|canary| canary.state);
            seen.push(Seen { at, shares: service.traffic, state });
        }
        seen
    });
    (stop, task)
}

/// Edits the manifest twice; returns when that was.
async fn edits(tidegate: &Tidegate, args: &Args) -> Result<Vec<Instant>, Failure> {
    let begun = Instant::now();
    let mut edits = Vec::new();
    for (version, part) in (2..).zip(EDITS) {
        sleep_until(begun + args.duration.mul_f64(part)).await;
        progress(format!("  version {version}"));
        tidegate.rewrite(&args.manifests(version))?;
        edits.push(Instant::now());
    }
    Ok(edits)
}

fn answers(recording: &Recording, version: u32) -> Vec<(f64, Option<f64>)> {
    let label = format!("Hello version {version}!");
    rates(recording, |bucket| bucket.labels.get(&label).copied().unwrap_or(0))
}

/// What the bad revision cost, and how the good one got on.
fn cost(args: &Args, measured: &Measured, seen: &[Seen], edits: &[Instant]) -> Table {
    let recording = &measured.recording;
    let mut table = Table::new(
        "What it cost",
        &[
            "revision",
            "greatest share",
            "from its first share to the end of it",
            "failed",
            "of all",
        ],
    );
    table.columns.extend(LATENCY_COLUMNS.map(str::to_owned));
    let ends = [edits.get(1).copied(), None];
    for ((version, edit), end) in (2..).zip(edits).zip(ends) {
        let name = format!("shop-{version:05}");
        let shares = seen.iter().filter_map(|seen| Some((seen.at, seen.share(&name)?)));
        let shares: Vec<(Instant, u8)> = shares.filter(|(_, share)| *share > 0).collect();
        let most = shares.iter().map(|(_, share)| *share).max().unwrap_or(0);
        let begun = shares.first().map(|(at, _)| *at);
        let reached = shares.iter().find(|(_, share)| *share == 100).or(shares.last());
        let took = begun.zip(reached).map(|(begun, (at, _))| (*at - begun).as_secs_f64());
        let since = |at: Instant| at.saturating_duration_since(measured.start);
        let until = end.map_or(args.duration, since);
        let bucket = recording.between(since(*edit), until);
        let mut cells = vec![
            name,
            format!("{most} %"),
            took.map_or_else(|| "–".to_owned(), |took| format!("{took:.1} s")),
            count(bucket.bad_total()),
            percent(bucket.bad_total(), bucket.due),
        ];
        cells.extend(latency_cells(&bucket.latency));
        table.row(cells);
    }
    table
}

fn figure(args: &Args, measured: &Measured, seen: &[Seen], edits: &[Instant]) -> Figure {
    let recording = &measured.recording;
    let since = |at: Instant| at.saturating_duration_since(measured.start).as_secs_f64();
    let shares = |name: &str| -> Vec<(f64, f64)> {
        let known = seen.iter().filter(|seen| seen.at >= measured.start);
        known.map(|seen| (since(seen.at), seen.share(name).unwrap_or(0).into())).collect()
    };
    let ready = |name: &'static str| {
        curve(&measured.samples, measured.start, |r| r.name == name, |r| r.ready.into())
    };
    let panels = vec![
        Panel::linear(
            "Share of the new revision, %",
            vec![
                Series::new("the bad one", Tone::Red, Form::Step, shares("shop-00002")),
                Series::new("the good one", Tone::Green, Form::Step, shares("shop-00003")),
            ],
        ),
        Panel::linear(
            "Good answers a second",
            vec![
                Series::with_gaps("first", Tone::Grey, Form::Line, answers(recording, 1)),
                Series::with_gaps("the bad one", Tone::Red, Form::Line, answers(recording, 2)),
                Series::with_gaps("the good one", Tone::Green, Form::Line, answers(recording, 3)),
            ],
        ),
        refusals(recording),
        latencies(recording),
        Panel::linear(
            "Ready replicas",
            vec![
                Series::new("first", Tone::Grey, Form::Step, ready("shop-00001")),
                Series::new("the bad one", Tone::Red, Form::Step, ready("shop-00002")),
                Series::new("the good one", Tone::Green, Form::Step, ready("shop-00003")),
            ],
        ),
    ];
    let words = ["a bad revision", "a good one"];
    let mut marks: Vec<Mark> = edits
        .iter()
        .zip(words)
        .map(|(at, label)| Mark { at: since(*at), label: label.to_owned() })
        .collect();
    if let Some(back) = seen.iter().find(|seen| seen.state.as_deref() == Some("taken_back")) {
        marks.push(Mark { at: since(back.at), label: "taken back".to_owned() });
    }
    let slow = match args.slow_ms {
        0 => String::new(),
        ms => format!(" and takes {ms} ms longer"),
    };
    timeline(
        "A bad new revision is taken back, a good one gets through",
        &format!(
            "{} requests a second, each takes {} ms; the bad revision fails {} of 100{slow}. Steps \
             of 5, 25 and 50 % of at least {} s and {} answers.",
            args.rate,
            args.service_time.as_millis(),
            args.fail_percent,
            args.step_time().as_secs_f64(),
            args.samples
        ),
        args.duration,
        panels,
        marks,
    )
}
