//! What does a request cost in tidegate, in HAProxy, in nginx, in Envoy, and what in bytes alone?

mod measure;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::Instant;

use crate::cli::{Common, Context, Failure, finish, progress};
use crate::peers::instruments::Counter;
use crate::peers::place::{Cores, is_own_network};
use crate::peers::{ALL, Origin, Peer};
use crate::results::Outcome;
use crate::text::positive_duration;
use measure::{Bench, Counted, Sample};

const QUESTION: &str = "What does a request cost in tidegate, and what in other proxies?";

pub(crate) const EXAMPLES: &str = "\
Examples:
  loadtest peers --only get,h2                  about ten minutes
  loadtest peers --only get --rounds 3          whether it works at all
  loadtest peers --beside haproxy               beside one other

Rounds are interleaved: each starts every proxy anew, in an order that turns. A ratio is the median
of the ratios within a round, with its 95 % bootstrap interval; 15 rounds or more make it worth
telling. The proxy has a processor of its own where there are two, the load and the origin have the
others; all of it is in a network namespace of its own where this user may have one.";

/// The work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// GET, 2 bytes back, 64 connections that are kept.
    Get,
    /// POST of 1 KiB, 2 bytes back.
    Post,
    /// GET, 64 KiB back.
    #[value(name = "64k")]
    Large,
    /// HTTP/2 from the client: 8 connections of 16 streams.
    H2,
    /// A new connection for every request.
    Churn,
    /// Connections that had a request each and are kept open.
    Idle,
}

impl Kind {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Large => "64k",
            Self::H2 => "h2",
            Self::Churn => "churn",
            Self::Idle => "idle",
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Get => "GET, 2 bytes back, 64 connections",
            Self::Post => "POST of 1 KiB, 2 bytes back, 64 connections",
            Self::Large => "GET, 64 KiB back, 64 connections",
            Self::H2 => "HTTP/2 GET, 2 bytes back, 8 connections of 16 streams",
            Self::Churn => "GET, 2 bytes back, a new connection each, 64 at once",
            Self::Idle => "Connections at rest, a request on each before",
        }
    }

    /// The copier understands no HTTP, so it makes no HTTP/1.1 of HTTP/2.
    fn suits(self, peer: Peer) -> bool {
        !(self == Self::H2 && peer == Peer::Copier)
    }
}

/// Options of `peers`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// Kinds of work
    #[arg(long, value_name = "KIND,…", value_enum, value_delimiter = ',')]
    #[arg(default_values = ["get", "post", "64k", "h2", "churn", "idle"])]
    only: Vec<Kind>,

    /// Other proxies [default: those that are installed]
    #[arg(long, value_name = "PROXY,…", value_enum, value_delimiter = ',')]
    beside: Vec<Peer>,

    /// Rounds of each kind
    #[arg(long, value_name = "N", default_value_t = 15)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// How long each is measured, after half as long to warm up
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = positive_duration)]
    duration: Duration,

    /// Connections at rest, for `idle`
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=7000))]
    connections: u32,
}

/// A proxy that is there.
struct Present {
    peer: Peer,
    program: PathBuf,
}

/// Everything about one kind.
struct Found {
    kind: Kind,
    /// By proxy, in the order of tables, then by round.
    samples: Vec<(Peer, Vec<Sample>)>,
    counted: Vec<(Peer, Counted)>,
    /// What could not be counted, and why.
    notes: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("peers", QUESTION, context.machine.clone());
    outcome.setting("rounds", args.rounds);
    outcome.setting("measured for", format!("{:?} each", args.duration));
    let present = present(args, &context, &mut outcome).await;
    let cores = Cores::split();
    describe_place(cores.as_ref(), &mut outcome);
    let mut counters = Vec::new();
    for counter in [Counter::Calls, Counter::Instructions] {
        match counter.obstacle().await {
            None => counters.push(counter),
            Some(obstacle) => outcome.notes.push(format!("not measured: {obstacle}")),
        }
    }
    if let Some(cores) = &cores {
        cores.for_others();
    }
    let origin = Origin::start().await?;
    let bench = Bench {
        origin: origin.address(),
        cores,
        duration: args.duration,
        connections: args.connections,
    };
    for &kind in &args.only {
        let found = rounds(args, kind, &present, &bench, &counters).await?;
        table::add(&mut outcome, &found, args.common.seed);
    }
    if let Some(cores) = &cores {
        cores.give_back();
    }
    table::notes(&mut outcome, args.rounds);
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

/// Looks who is there; what is missing is said, with how to get it.
async fn present(args: &Args, context: &Context, outcome: &mut Outcome) -> Vec<Present> {
    let mut present = Vec::new();
    for peer in ALL {
        if peer != Peer::Tidegate && !args.beside.is_empty() && !args.beside.contains(&peer) {
            continue;
        }
        let Some(program) = peer.program(&context.tidegate) else {
            let (name, how) = (peer.name(), peer.how_to_install());
            outcome.notes.push(format!("not measured: {name} is not installed: {how}"));
            continue;
        };
        if peer != Peer::Copier {
            outcome.setting(peer.name(), peer.version(&program).await);
        }
        present.push(Present { peer, program });
    }
    present
}

fn describe_place(cores: Option<&Cores>, outcome: &mut Outcome) {
    let processors = match cores {
        Some(cores) => format!("one for the proxy, {} for load and origin", cores.others_count),
        None => "one for everybody: rates and latencies say little".into(),
    };
    outcome.setting("processors", processors);
    let network = if is_own_network() {
        "a namespace of its own".into()
    } else {
        outcome.notes.push(
            "no network namespace of its own: run it as root, with `unshare` (util-linux) and `ip` \
             (iproute2) installed"
                .into(),
        );
        "this machine's loopback".to_owned()
    };
    outcome.setting("network", network);
}

async fn rounds(
    args: &Args,
    kind: Kind,
    present: &[Present],
    bench: &Bench,
    counters: &[Counter],
) -> Result<Found, Failure> {
    let mine: Vec<&Present> = present.iter().filter(|one| kind.suits(one.peer)).collect();
    let mut found = Found {
        kind,
        samples: mine.iter().map(|one| (one.peer, Vec::new())).collect(),
        counted: Vec::new(),
        notes: Vec::new(),
    };
    for round in 0..args.rounds as usize {
        progress(format!("{}: round {} of {}", kind.name(), round + 1, args.rounds));
        for turn in 0..mine.len() {
            // Nobody is always the one behind the same other.
            let index = (turn + round) % mine.len();
            let one = mine[index];
            let sample = bench.sample(kind, one.peer, &one.program).await;
            let sample = sample.map_err(|error| format!("{}: {error}", one.peer.name()))?;
            found.samples[index].1.push(sample);
        }
    }
    if kind != Kind::Idle && !counters.is_empty() {
        progress(format!("{}: counting", kind.name()));
        for one in mine {
            // A tracer may be forbidden (kernel.yama.ptrace_scope, a container): the rest holds.
            match bench.count(kind, one.peer, &one.program, counters).await {
                Ok(counted) => found.counted.push((one.peer, counted)),
                Err(error) => {
                    let (kind, name) = (kind.name(), one.peer.name());
                    found.notes.push(format!("not counted: {kind} of {name}: {error}"));
                }
            }
        }
    }
    Ok(found)
}
