//! How much later is an answer through tidegate than over a direct connection?

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::Instant;

use crate::chart::{Axis, Content, Figure, Form, Panel, Panels, Series, Tone, percentile_place};
use crate::cli::{Common, Failure, finish, progress};
use crate::generator::{self, Arrivals, Ask, Latencies, Load, Plan, Schedule, Shape};
use crate::peers::{Origin, Peer, Proxy, service_host};
use crate::results::{Outcome, Table};
use crate::stats::estimate;
use crate::text::positive_duration;

const QUESTION: &str = "How much later is an answer through tidegate than directly?";
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
/// Of each round, whose percentiles are compared: beyond, one round has too few.
const COMPARED: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
const NINES: u32 = 3;

/// Options of `overhead`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// Requests per second
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,

    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,

    /// Rounds, each directly and through tidegate
    #[arg(long, value_name = "N", default_value_t = 15)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// How long each is measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = positive_duration)]
    duration: Duration,
}

#[derive(Default)]
struct Side {
    rounds: Vec<Latencies>,
    bad: u64,
}

impl Side {
    fn all(&self) -> Latencies {
        let mut all = Latencies::default();
        for round in &self.rounds {
            all.add(round);
        }
        all
    }
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("overhead", QUESTION, context.machine.clone());
    outcome.setting("rate", format!("{} a second", args.rate));
    outcome.setting("connections", args.connections);
    outcome.setting("rounds", format!("{} of {:?} each", args.rounds, args.duration));
    let origin = Origin::start().await?;
    let proxy = Proxy::start(Peer::Tidegate, &context.tidegate, origin.address()).await?;
    let addresses = [origin.address(), proxy.http1()];
    let mut sides = [Side::default(), Side::default()];
    for address in addresses {
        // Not counted: connections to the origin are made, code is read.
        measure(args, address, u64::MAX).await?;
    }
    for round in 0..args.rounds {
        progress(format!("round {} of {}", round + 1, args.rounds));
        for turn in 0..2 {
            let which = (turn + round as usize) % 2;
            let recording =
                measure(args, addresses[which], args.common.seed + u64::from(round)).await?;
            sides[which].bad += recording.bad_total() + u64::from(recording.good == 0);
            sides[which].rounds.push(recording.latency);
        }
    }
    proxy.stop().await?;
    tell(args, &sides, &mut outcome);
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

/// The same seed draws the same arrivals for both.
async fn measure(
    args: &Args,
    address: SocketAddr,
    seed: u64,
) -> Result<generator::Recording, Failure> {
    let shape = Shape::constant(args.rate.into(), args.duration);
    let load = Load::Open(Schedule { shape, arrivals: Arrivals::Poisson, seed });
    let ask = Ask::service(address, &service_host(), "/")?;
    let plan = Plan { connections: args.connections as usize, ..Plan::new(ask, load) };
    Ok(generator::run(plan).await?)
}

fn tell(args: &Args, sides: &[Side; 2], outcome: &mut Outcome) {
    let [direct, through] = sides;
    let (all_direct, all_through) = (direct.all(), through.all());
    let mut table = Table::new("Latency from when a request was due, µs", &["", "requests"]);
    table.columns.extend(PERCENTILES.map(|(name, _)| name.to_owned()));
    for (name, all) in [("directly", &all_direct), ("through tidegate", &all_through)] {
        let mut cells = vec![name.to_owned(), crate::text::count(all.count())];
        cells.extend(PERCENTILES.map(|(_, part)| micros(all.quantile(part).unwrap_or_default())));
        table.row(cells);
    }
    outcome.tables.push(table);
    let columns = ["", "median of the rounds", "95 % interval"];
    let mut table = Table::new("Later through tidegate, µs", &columns);
    for (name, part) in COMPARED {
        let later: Vec<f64> = through
            .rounds
            .iter()
            .zip(&direct.rounds)
            .filter_map(|(through, direct)| Some(through.quantile(part)? - direct.quantile(part)?))
            .collect();
        if let Some(later) = estimate(&later, args.common.seed) {
            let interval = format!("{} to {}", micros(later.low), micros(later.high));
            table.row([name.to_owned(), micros(later.median), interval]);
        }
    }
    outcome.tables.push(table);
    outcome.check("every request was answered well", direct.bad + through.bad == 0);
    outcome.figures.push(figure(args, &all_direct, &all_through));
}

fn micros(seconds: f64) -> String {
    crate::text::grouped((seconds * 1e6).round())
}

fn figure(args: &Args, direct: &Latencies, through: &Latencies) -> Figure {
    let points = |all: &Latencies| {
        (0..=300)
            .filter_map(|step| {
                let place = f64::from(step) / 100.0;
                let part = 1.0 - 10_f64.powf(-place);
                Some((percentile_place(part), all.quantile(part)? * 1e6))
            })
            .collect()
    };
    let series = vec![
        Series::new("directly", Tone::Grey, Form::Line, points(direct)),
        Series::new("through tidegate", Tone::Blue, Form::Line, points(through)),
    ];
    Figure {
        name: String::new(),
        title: "Latency through tidegate and directly".into(),
        subtitle: format!(
            "{} requests a second on {} connections, {} rounds of each in turn, loopback.",
            args.rate, args.connections, args.rounds
        ),
        content: Content::Panels(Panels {
            axis: Axis::Percentile { nines: NINES },
            panels: vec![Panel::log("Latency, µs", series)],
            marks: Vec::new(),
        }),
    }
}
