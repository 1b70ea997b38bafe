//! How long does the first request to a service without replicas wait, and for what?

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::process::Command;
use tokio::time::Instant;

use super::manifest::Service;
use crate::chart::{Axis, Bars, Content, Figure, Form, Panel, Panels, Row, Series, Tone};
use crate::cli::{Common, Context, Failure, finish, progress};
use crate::process::{Running, Scratch, free_port};
use crate::results::{Outcome, Table};
use crate::stats::{estimate, quantile};
use crate::text::millis;
use crate::tidegate::{Setup, Tidegate, host};

const QUESTION: &str = "How long does the first request to a service at zero wait, and for what?";

/// Pause between two attempts to connect to what was started by hand.
const POLL: Duration = Duration::from_millis(1);
/// A start that takes longer failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Pause between two starts: the machine is quiet again.
const REST: Duration = Duration::from_millis(50);

/// Options of `from_zero`.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,

    /// Cold starts, each with one of the same program started by hand
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500))]
    pairs: u32,
}

/// Seconds of one pair.
struct Pair {
    floor: f64,
    tidegate: f64,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started or written.
pub async fn run(args: &Args) -> Result<bool, Failure> {
    let context = args.common.context().await?;
    let begun = Instant::now();
    let mut outcome = Outcome::begin("from_zero", QUESTION, context.machine.clone());
    outcome.setting("pairs", args.pairs);
    progress(format!("{} cold starts, in turns with starts by hand", args.pairs));
    // A service for each start, so that none has to go back to zero first; one to warm up.
    let services = (0..=args.pairs).map(|number| Service::new(&name(number), 0).yaml());
    let setup = Setup {
        manifests: services.collect(),
        options: vec!["--max-replicas".into(), (args.pairs + 1).to_string()],
        ..Setup::default()
    };
    let tidegate = Tidegate::start(&context.tidegate, setup).await?;
    pair(&context, &tidegate, args.pairs, false).await?;
    let before = phases(&tidegate.admin().metrics().await?);
    let mut pairs = Vec::new();
    for number in 0..args.pairs {
        pairs.push(pair(&context, &tidegate, number, number % 2 == 0).await?);
        if (number + 1) % 10 == 0 {
            progress(format!("  {} of {}", number + 1, args.pairs));
        }
    }
    let after = phases(&tidegate.admin().metrics().await?);
    tidegate.stop().await?;
    let phases: Vec<(String, f64)> = after
        .into_iter()
        .map(|(phase, sum)| {
            let known = before.iter().find(|(name, _)| *name == phase);
            let sum = sum - known.map_or(0.0, |(_, sum)| *sum);
            (phase, sum / f64::from(args.pairs))
        })
        .collect();
    report(&mut outcome, &context, &pairs, &phases)?;
    outcome.took = begun.elapsed().as_secs_f64();
    finish(&args.common, &outcome)
}

fn name(number: u32) -> String {
    format!("cold-{number:03}")
}

async fn pair(
    context: &Context,
    tidegate: &Tidegate,
    number: u32,
    floor_first: bool,
) -> Result<Pair, Failure> {
    let mut by_hand = 0.0;
    if floor_first {
        by_hand = floor(&context.tidegate).await?;
        tokio::time::sleep(REST).await;
    }
    let (address, host) = (tidegate.http(), host(&name(number)));
    let held = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        first_byte(address, &host).map(|()| begun.elapsed().as_secs_f64())
    });
    let held = held.await??;
    tokio::time::sleep(REST).await;
    if !floor_first {
        by_hand = floor(&context.tidegate).await?;
        tokio::time::sleep(REST).await;
    }
    Ok(Pair { floor: by_hand, tidegate: held })
}

/// The same program started by hand and connected to as soon as it listens.
async fn floor(binary: &Path) -> Result<f64, Failure> {
    let scratch = Scratch::new()?;
    let port = free_port()?;
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let mut command = Command::new(binary);
    command.arg("echo").env("PORT", port.to_string()).stdout(Stdio::null());
    let begun = Instant::now();
    let program = Running::start("tidegate echo", &mut command, &scratch.path().join("log"))?;
    let waited = tokio::task::spawn_blocking(move || {
        while let Err(error) = first_byte(address, "localhost") {
            if error.kind() != io::ErrorKind::ConnectionRefused || begun.elapsed() > LIMIT {
                return Err(error);
            }
            #[expect(clippy::disallowed_methods, reason = "a thread of its own, and exact")]
            std::thread::sleep(POLL);
        }
        Ok(begun.elapsed().as_secs_f64())
    });
    let took = waited.await??;
    program.stop().await?;
    Ok(took)
}

/// A request on a new connection, until the first byte of its answer.
fn first_byte(address: SocketAddr, host: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    if &start == b"HTTP/1.1 200" {
        return Ok(());
    }
    Err(io::Error::other(format!("the answer begins {:?}", String::from_utf8_lossy(&start))))
}

/// Seconds of all cold starts together, by phase.
fn phases(metrics: &str) -> Vec<(String, f64)> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("tidegate_cold_start_phase_seconds_total{") else {
            continue;
        };
        let phase = rest.split("phase=\"").nth(1).and_then(|rest| rest.split('"').next());
        let value = rest.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let (Some(phase), Some(value)) = (phase, value) else { continue };
        match sums.iter_mut().find(|(name, _)| name == phase) {
            Some((_, sum)) => *sum += value,
            None => sums.push((phase.to_owned(), value)),
        }
    }
    sums
}

fn report(
    outcome: &mut Outcome,
    context: &Context,
    pairs: &[Pair],
    phases: &[(String, f64)],
) -> Result<(), Failure> {
    let floors: Vec<f64> = pairs.iter().map(|pair| pair.floor).collect();
    let held: Vec<f64> = pairs.iter().map(|pair| pair.tidegate).collect();
    let added: Vec<f64> = pairs.iter().map(|pair| pair.tidegate - pair.floor).collect();
    let mut table = Table::new(
        "From the request (by hand: from the start) to the first byte, ms",
        &["", "median", "95 % interval", "p90", "max"],
    );
    for (name, values) in [
        ("started by hand", &floors),
        ("through tidegate", &held),
        ("difference of a pair", &added),
    ] {
        let found = estimate(values, context.seed).ok_or("nothing was measured")?;
        let at = |part| quantile(values, part).map_or_else(String::new, signed);
        table.row([
            name.to_owned(),
            signed(found.median),
            format!("{} to {}", signed(found.low), signed(found.high)),
            at(0.9),
            at(1.0),
        ]);
    }
    outcome.tables.push(table);
    let mut table = Table::new("Where it goes, as tidegate counts it", &["phase", "mean ms"]);
    for (phase, seconds) in phases {
        table.row([phase.clone(), millis(*seconds)]);
    }
    outcome.tables.push(table);
    outcome.notes.push(
        "By hand means: the same program, started by this one, asked every millisecond until it \
         answers. The interval holds the true median with 95 % (bootstrap)."
            .into(),
    );
    outcome.check("every first request is answered", held.len() == pairs.len());
    outcome.figures.push(pairs_figure(pairs));
    outcome.figures.push(phase_figure(&floors, &held, phases));
    Ok(())
}

fn signed(seconds: f64) -> String {
    if seconds < 0.0 { format!("−{}", millis(-seconds)) } else { millis(seconds) }
}

fn pairs_figure(pairs: &[Pair]) -> Figure {
    let points = |value: fn(&Pair) -> f64| {
        (1_u32..).zip(pairs).map(|(number, pair)| (f64::from(number), value(pair) * 1e3)).collect()
    };
    let series = vec![
        Series::new("started by hand", Tone::Grey, Form::Dots, points(|pair| pair.floor)),
        Series::new("through tidegate", Tone::Blue, Form::Dots, points(|pair| pair.tidegate)),
    ];
    let added = points(|pair| (pair.tidegate - pair.floor).max(0.0));
    Figure {
        name: String::new(),
        title: "The first request to a service at zero".into(),
        subtitle: "Time to the first byte, beside the same program started by hand and asked \
                   every millisecond; in turns."
            .into(),
        content: Content::Panels(Panels {
            axis: Axis::Number {
                label: "number of the pair".into(),
                from: 0.0,
                to: pairs.len() as f64 + 1.0,
            },
            panels: vec![
                Panel::linear("First byte, ms", series),
                Panel::linear(
                    "More than by hand, ms",
                    vec![Series::new("difference", Tone::Orange, Form::Dots, added)],
                ),
            ],
            marks: vec![],
        }),
    }
}

fn phase_figure(floors: &[f64], held: &[f64], phases: &[(String, f64)]) -> Figure {
    const TONES: [Tone; 5] = [Tone::Orange, Tone::Blue, Tone::Green, Tone::Violet, Tone::Red];
    let mean = |values: &[f64]| values.iter().sum::<f64>() * 1e3 / values.len().max(1) as f64;
    let whole = mean(held);
    let mut parts: Vec<(String, f64, Tone)> = phases
        .iter()
        .zip(TONES)
        .map(|((name, seconds), tone)| (name.clone(), seconds * 1e3, tone))
        .collect();
    let known: f64 = parts.iter().map(|(_, value, _)| value).sum();
    parts.push(("request and answer".into(), (whole - known).max(0.0), Tone::Red));
    let row = |label: &str, parts, note: f64| Row {
        label: label.into(),
        parts,
        interval: None,
        note: format!("{note:.2} ms"),
    };
    let floor = mean(floors);
    let by_hand = vec![("program by hand".to_owned(), floor, Tone::Grey)];
    Figure {
        name: "phases".into(),
        title: "Where the time of a cold start goes".into(),
        subtitle: "Means over all pairs; phases as tidegate's own metrics count them.".into(),
        content: Content::Bars(Bars {
            unit: "milliseconds".into(),
            rows: vec![
                row("started by hand", by_hand, floor),
                row("through tidegate", parts, whole),
            ],
            reference: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_summed_over_revisions() {
        let metrics = "\
# TYPE tidegate_cold_start_phase_seconds_total counter
tidegate_cold_start_phase_seconds_total{revision=\"a\",phase=\"spawn\"} 0.5
tidegate_cold_start_phase_seconds_total{revision=\"b\",phase=\"spawn\"} 0.25
tidegate_cold_start_phase_seconds_total{revision=\"a\",phase=\"listen\"} 1
tidegate_other_total{phase=\"spawn\"} 9
";
        assert_eq!(phases(metrics), [("spawn".to_owned(), 0.75), ("listen".to_owned(), 1.0)]);
    }

    #[test]
    fn differences_have_their_sign() {
        assert_eq!(signed(-0.0012), "−1.20");
        assert_eq!(signed(0.0012), "1.20");
    }
}
