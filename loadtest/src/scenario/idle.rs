//! What do many services and many connections cost at rest?

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use super::manifest::Service;
use super::timeline;
use crate::chart::{Figure, Form, Mark, Panel, Series, Tone};
use crate::cli::{Common, Context, Failure, finish, progress};
use crate::process::Usage;
use crate::results::{Outcome, Table};
use crate::text::{count, positive_duration};
use crate::tidegate::{Setup, Tidegate, host};

const QUESTION: &str = "What do many services and many connections cost at rest?";

/// Connections from one address of the loopback network; ports of one are about 28,000.
const PER_ADDRESS: u32 = 20_000;
/// How often memory and processor time are read.
const EVERY: Duration = Duration::from_millis(250);

/// Options of `idle`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// Services without replicas
    #[arg(long, value_name = "N", default_value_t = 2000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    services: u32,

    /// Connections that had a request each and are kept open
    #[arg(long, value_name = "N", default_value_t = 5000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,

    /// How long each state is looked at
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = positive_duration)]
    hold: Duration,
}

/// A state at rest.
struct State {
    name: String,
    resident: u64,
    /// Processor time per second.
    processor: f64,
}

/// What is read of the process meanwhile.
struct Reading {
    at: Instant,
    usage: Usage,
    connections: usize,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written, or this system has no `/proc`.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("idle", QUESTION, context.machine.clone());
    outcome.setting("services", args.services);
    outcome.setting("connections", args.connections);
    outcome.setting("each state looked at for", format!("{:?}", args.hold));
    progress("1 service");
    let alone = alone(&context, args).await?;
    progress(format!("{} services", count(args.services.into())));
    let tidegate = start(&context, args.services).await?;
    let start = Instant::now();
    let mut readings = Vec::new();
    let services = count(args.services.into());
    let many = at_rest(&tidegate, args, &mut readings, 0, format!("{services} services")).await?;
    progress(format!("{} connections", count(args.connections.into())));
    let opens = Instant::now();
    let connections = open(&tidegate, args.connections, &mut readings).await?;
    let opened = Instant::now();
    let open_count = connections.len();
    let name = format!("and {} connections", count(args.connections.into()));
    let connected = at_rest(&tidegate, args, &mut readings, open_count, name).await?;
    drop(connections);
    let closed = Instant::now();
    let after = at_rest(&tidegate, args, &mut readings, 0, "after they were closed".into()).await?;
    let status = tidegate.stop().await?;

    let kib = |more: &State, less: &State, number: u32| {
        let bytes = more.resident.saturating_sub(less.resident) as f64;
        format!("{:.1}", bytes / 1024.0 / f64::from(number))
    };
    let mut table =
        Table::new("At rest", &["", "memory MiB", "KiB for each more", "processor ms per second"]);
    let each_service = kib(&many, &alone, args.services);
    let each_connection = kib(&connected, &many, args.connections);
    for (state, each) in [
        (&alone, "–".to_owned()),
        (&many, each_service),
        (&connected, each_connection),
        (&after, "–".to_owned()),
    ] {
        let memory = format!("{:.1}", mib(state.resident));
        table.row([state.name.clone(), memory, each, format!("{:.2}", state.processor * 1e3)]);
    }
    outcome.tables.push(table);
    outcome.notes.push(
        "Memory is that of the process of tidegate (resident), without its replica; the service \
         that is asked has one."
            .into(),
    );
    outcome.check("all connections were served", open_count == args.connections as usize);
    outcome.check("tidegate ends with exit code 0", status.success());
    let marks = [(opens, "connections are opened"), (opened, "all are open"), (closed, "closed")];
    outcome.figures.push(figure(args, start, &readings, &marks));
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

/// `asked` has a replica, the others have none.
async fn start(context: &Context, services: u32) -> Result<Tidegate, Failure> {
    let mut manifests = Service::new("asked", 0).scaled(1, 1).yaml();
    for number in 1..services {
        manifests += &Service::new(&format!("idle-{number:05}"), 0).yaml();
    }
    Ok(Tidegate::start(&context.tidegate, Setup { manifests, ..Setup::default() }).await?)
}

async fn alone(context: &Context, args: &Args) -> Result<State, Failure> {
    let tidegate = start(context, 1).await?;
    let state = at_rest(&tidegate, args, &mut Vec::new(), 0, "1 service".into()).await?;
    tidegate.stop().await?;
    Ok(state)
}

/// Looks for a while; the first quarter is not counted, what went before settles in it.
async fn at_rest(
    tidegate: &Tidegate,
    args: &Args,
    readings: &mut Vec<Reading>,
    connections: usize,
    name: String,
) -> Result<State, Failure> {
    let end = Instant::now() + args.hold;
    let settled = Instant::now() + args.hold / 4;
    let mut first: Option<(Instant, Usage)> = None;
    loop {
        let usage = tidegate.usage().ok_or("memory and processor time are read from /proc")?;
        let at = Instant::now();
        readings.push(Reading { at, usage, connections });
        if first.is_none() && at >= settled {
            first = Some((at, usage));
        }
        if at >= end {
            let (since, begun) = first.unwrap_or((at, usage));
            let seconds = (at - since).as_secs_f64().max(1e-3);
            let used = usage.processor.saturating_sub(begun.processor).as_secs_f64();
            return Ok(State { name, resident: usage.resident, processor: used / seconds });
        }
        sleep(EVERY.min(args.hold / 8)).await;
    }
}

/// Opens connections, one after the other, with an answered request on each.
async fn open(
    tidegate: &Tidegate,
    number: u32,
    readings: &mut Vec<Reading>,
) -> io::Result<Vec<TcpStream>> {
    let address = tidegate.http();
    let mut connections: Vec<TcpStream> = Vec::new();
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("asked"));
    for index in 0..number {
        if index.is_multiple_of((number / 20).max(1))
            && let Some(usage) = tidegate.usage()
        {
            readings.push(Reading { at: Instant::now(), usage, connections: connections.len() });
        }
        let socket = TcpSocket::new_v4()?;
        if index >= PER_ADDRESS {
            // All of 127.0.0.0/8 is this machine (RFC 1122 section 3.2.1.3).
            let last = u8::try_from(1 + index / PER_ADDRESS).unwrap_or(254);
            socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
        }
        let mut stream = socket.connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"Hello World!\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                let told = String::from_utf8_lossy(&answer).into_owned();
                return Err(io::Error::other(format!("connection {index} ended after {told:?}")));
            }
        }
        connections.push(stream);
    }
    Ok(connections)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn figure(args: &Args, start: Instant, readings: &[Reading], marks: &[(Instant, &str)]) -> Figure {
    let since = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
    let points = |value: &dyn Fn(&Reading) -> f64| {
        readings.iter().map(|reading| (since(reading.at), value(reading))).collect::<Vec<_>>()
    };
    let processor = readings
        .windows(2)
        .map(|pair| {
            let used = pair[1].usage.processor.saturating_sub(pair[0].usage.processor);
            let seconds = (pair[1].at - pair[0].at).as_secs_f64().max(1e-3);
            (since(pair[1].at), used.as_secs_f64() * 1e3 / seconds)
        })
        .collect();
    let end = readings.last().map_or(1.0, |reading| since(reading.at));
    let one = |title: &str, tone, form, points| {
        Panel::linear(title, vec![Series::new(title, tone, form, points)])
    };
    timeline(
        "At rest",
        &format!(
            "{} services without replicas and one that is asked; then {} connections with a \
             request each, kept open; then closed.",
            count(args.services.into()),
            count(args.connections.into())
        ),
        Duration::from_secs_f64(end),
        vec![
            one(
                "Connections held open",
                Tone::Blue,
                Form::Area,
                points(&|reading| reading.connections as f64),
            ),
            one("Memory, MiB", Tone::Violet, Form::Area, points(&|r| mib(r.usage.resident))),
            one("Processor time, ms per second", Tone::Orange, Form::Line, processor),
        ],
        marks.iter().map(|(at, label)| Mark { at: since(*at), label: (*label).into() }).collect(),
    )
}
