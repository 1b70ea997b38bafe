//! Is anything lost when tidegate is stopped and started again under load?

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::Instant;

use super::manifest::Service;
use super::{
    Measured, arrivals, concurrency, failures, interval, latencies, refusals, replicas, sampling,
    summary, timeline,
};
use crate::chart::Mark;
use crate::cli::{Common, Failure, finish, progress};
use crate::generator::{self, Arrivals, Ask, Load, Plan, Schedule, Shape};
use crate::process::free_port;
use crate::results::{Outcome, Table};
use crate::text::{millis, positive_duration};
use crate::tidegate::{Setup, Tidegate, host};
use crate::watch::Watcher;

const QUESTION: &str = "Is anything lost when tidegate is stopped and started again under load?";

/// Options of `drain`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// How long it takes
    #[arg(long, short = 'd', value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = positive_duration)]
    duration: Duration,

    /// Times that tidegate gets SIGTERM and is started again
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    restarts: u32,

    /// Requests per second
    #[arg(long, short = 'r', value_name = "RATE", default_value_t = 200.0)]
    rate: f64,

    /// What a replica takes for a request
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = positive_duration)]
    service_time: Duration,
}

/// One stop and start.
struct Restart {
    asked: Instant,
    serves: Instant,
    clean: bool,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("drain", QUESTION, context.machine.clone());
    outcome.setting("duration", format!("{:?}", args.duration));
    outcome.setting("restarts", args.restarts);
    outcome.setting("requests a second", args.rate);
    outcome.setting("service time", format!("{:?}", args.service_time));
    let setup = Setup {
        manifests: Service::new("shop", 20).yaml(),
        http: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?)),
        remembers: true,
        ..Setup::default()
    };
    let mut tidegate = Tidegate::start(&context.tidegate, setup).await?;
    let path = format!("/delay?ms={}", args.service_time.as_millis());
    let ask = Ask::service(tidegate.http(), &host("shop"), &path)?;
    let shape = Shape::constant(args.rate, args.duration);
    let schedule = Schedule { shape, arrivals: Arrivals::Poisson, seed: context.seed };
    let plan = Plan {
        connections: (args.rate * 3.0) as usize + 50,
        interval: interval(args.duration),
        // As a client would: while nobody listens it tries again.
        patience: Some(Duration::from_secs(20)),
        ..Plan::new(ask, Load::Open(schedule))
    };
    let watcher = Watcher::start(tidegate.admin(), sampling(args.duration));
    let mut start = Instant::now();
    let load = generator::run_from(plan, |at| start = at);
    let (recording, restarts) = tokio::join!(load, restarts(&mut tidegate, args, &watcher));
    let restarts = restarts?;
    let measured = Measured { recording: recording?, samples: watcher.stop().await, start };
    tidegate.check()?;
    tidegate.stop().await?;

    let recording = &measured.recording;
    outcome.tables.push(summary("Requests over all restarts", &[("all", recording)]));
    outcome.tables.push(restart_table(&restarts));
    outcome.tables.extend(failures("", recording));
    outcome.check("no request is lost", recording.bad_total() == 0);
    let clean = restarts.iter().all(|restart| restart.clean);
    outcome.check("tidegate ends with exit code 0 each time", clean);
    outcome.notes.push(
        "Retried are requests that met a connection as it was being closed, before anything of \
         an answer came; a client repeats these (RFC 9110 section 9.2.2). While nobody listens, \
         clients try to connect every 5 ms, and their wait counts."
            .into(),
    );
    let since = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
    let marks = restarts
        .iter()
        .flat_map(|restart| {
            let stop = Mark { at: since(restart.asked), label: "SIGTERM".into() };
            [stop, Mark { at: since(restart.serves), label: "serves again".into() }]
        })
        .collect();
    outcome.figures.push(timeline(
        "Stopped and started again under load",
        &format!(
            "{} requests a second, each takes {} ms. SIGTERM lets running requests end; the next \
             tidegate starts as many replicas as there were.",
            args.rate,
            args.service_time.as_millis()
        ),
        args.duration,
        vec![
            arrivals(recording),
            concurrency(&measured, |_| true),
            replicas(&measured, |_| true),
            latencies(recording),
            refusals(recording),
        ],
        marks,
    ));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

async fn restarts(
    tidegate: &mut Tidegate,
    args: &Args,
    watcher: &Watcher,
) -> Result<Vec<Restart>, Failure> {
    let mut restarts = Vec::new();
    for _ in 0..args.restarts {
        tokio::time::sleep(args.duration / (args.restarts + 1)).await;
        progress("  SIGTERM");
        let asked = Instant::now();
        let status = tidegate.restart().await?;
        watcher.follow(tidegate.admin());
        restarts.push(Restart { asked, serves: Instant::now(), clean: status.success() });
    }
    Ok(restarts)
}

fn restart_table(restarts: &[Restart]) -> Table {
    let mut table =
        Table::new("Restarts", &["", "from SIGTERM to serving again, ms", "clean exit"]);
    for (number, restart) in (1..).zip(restarts) {
        let took = (restart.serves - restart.asked).as_secs_f64();
        let clean = if restart.clean { "yes" } else { "no" };
        table.row([format!("{number}"), millis(took), clean.to_owned()]);
    }
    table
}
