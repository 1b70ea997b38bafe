//! How long does a crowd wait that comes all at once to a service without replicas?

use std::time::Duration;

use clap::Args as ClapArgs;

use super::manifest::Service;
use super::{Measured, failures, measure, summary};
use crate::chart::{Axis, Content, Figure, Form, Panel, Panels, Series, Tone};
use crate::cli::{Common, Context, Failure, finish, progress};
use crate::generator::{Ask, Load, Plan};
use crate::results::{Outcome, Table};
use crate::text::{count, positive_duration};
use crate::tidegate::{Setup, Tidegate, host};
use crate::watch::{curve, peak};

const QUESTION: &str =
    "How long does a crowd wait that comes all at once to a service without replicas?";

/// Options of `burst`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// Requests, all at once
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=50_000))]
    requests: u64,

    /// What a replica takes for a request
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = positive_duration)]
    service_time: Duration,

    /// Requests that a replica takes at once (containerConcurrency)
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,

    /// Replicas of all services together
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    max_replicas: u32,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = tokio::time::Instant::now();
    let mut outcome = Outcome::begin("burst", QUESTION, context.machine.clone());
    outcome.setting("requests", args.requests);
    outcome.setting("service time", format!("{:?}", args.service_time));
    outcome.setting("containerConcurrency", args.concurrency);
    outcome.setting("max replicas", args.max_replicas);
    progress(format!("{} requests at once, with extra decisions", count(args.requests)));
    let with = variant(&context, args, true).await?;
    progress("the same without extra decisions (tidegate.dev/eager: \"false\")");
    let without = variant(&context, args, false).await?;

    let rows =
        [("with extra decisions", &with.recording), ("without (eager: false)", &without.recording)];
    outcome.tables.push(summary("1 burst to a service at zero", &rows));
    let mut table = Table::new("Replicas", &["", "desired at most", "ready at most"]);
    for (name, measured) in [("with extra decisions", &with), ("without (eager: false)", &without)]
    {
        let Measured { samples, start, .. } = measured;
        let desired = peak(&curve(samples, *start, |_| true, |r| r.desired.into()));
        let ready = peak(&curve(samples, *start, |_| true, |r| r.ready.into()));
        table.row([name.to_owned(), format!("{desired}"), format!("{ready}")]);
    }
    outcome.tables.push(table);
    for (name, recording) in rows {
        outcome.tables.extend(failures(name, recording));
        outcome.check(format!("{name}: every request is answered"), recording.bad_total() == 0);
    }
    outcome.figures.push(figure(args, &with, &without));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

async fn variant(context: &Context, args: &Args, eager: bool) -> Result<Measured, Failure> {
    let service = Service::new("crowd", args.concurrency).with("tidegate.dev/eager", eager);
    let setup = Setup {
        manifests: service.yaml(),
        options: vec!["--max-replicas".into(), args.max_replicas.to_string()],
        ..Setup::default()
    };
    let mut tidegate = Tidegate::start(&context.tidegate, setup).await?;
    let path = format!("/delay?ms={}", args.service_time.as_millis());
    let ask = Ask::service(tidegate.http(), &host("crowd"), &path)?;
    let plan = Plan {
        connections: usize::try_from(args.requests)?,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(60),
        ..Plan::new(ask, Load::AtOnce { requests: args.requests })
    };
    let measured = measure(&mut tidegate, plan, Duration::from_millis(10)).await?;
    tidegate.stop().await?;
    Ok(measured)
}

fn figure(args: &Args, with: &Measured, without: &Measured) -> Figure {
    let longest = [with, without]
        .into_iter()
        .filter_map(|measured| measured.recording.latency.max())
        .fold(0.1, f64::max);
    let end = longest * 1.05;
    let both = |form, points: &dyn Fn(&Measured) -> Vec<(f64, f64)>| {
        let cut = |measured: &Measured| {
            points(measured).into_iter().filter(|(at, _)| *at <= end).collect::<Vec<_>>()
        };
        vec![
            Series::new("without extra decisions", Tone::Grey, form, cut(without)),
            Series::new("with", Tone::Blue, form, cut(with)),
        ]
    };
    let of = |field: fn(&crate::tidegate::RevisionView) -> u64| {
        move |measured: &Measured| curve(&measured.samples, measured.start, |_| true, field)
    };
    let panels = vec![
        Panel::linear("Answered requests", both(Form::Line, &answered)),
        Panel::linear("Waiting requests", both(Form::Line, &of(|r| r.waiting.into()))),
        Panel::linear("Desired replicas", both(Form::Step, &of(|r| r.desired.into()))),
        Panel::linear("Ready replicas", both(Form::Step, &of(|r| r.ready.into()))),
    ];
    Figure {
        name: String::new(),
        title: format!("{} requests at once, from zero", count(args.requests)),
        subtitle: format!(
            "Each takes {} ms; a replica takes {} at once; the service has none when they come.",
            args.service_time.as_millis(),
            args.concurrency
        ),
        content: Content::Panels(Panels { axis: Axis::Time { end }, panels, marks: vec![] }),
    }
}

/// All were due at once, so the latencies are the times of the answers.
fn answered(measured: &Measured) -> Vec<(f64, f64)> {
    let latency = &measured.recording.latency;
    let total = latency.count() as f64;
    let steps = (0..=200).map(|step| f64::from(step) / 200.0);
    let at = |part: f64| latency.quantile(part).map(|at| (at, part * total));
    std::iter::once((0.0, 0.0)).chain(steps.filter_map(at)).collect()
}
