//! `loadtest run URL`: the generator as a tool of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;

use super::{Failure, say};
use crate::generator::{
    self, Arrivals, Ask, Load, Plan, Protocol, RateText, Recording, Schedule, Shape, Trust,
    header_line,
};
use crate::text::{count, duration, millis, percent, positive_duration};

pub(super) const EXAMPLES: &str = "\
Examples:
  loadtest run http://127.0.0.1:8080/ --rate 1000 --duration 10s
  loadtest run http://127.0.0.1:8080/ --rate 10@0s,500@30s,10@60s    a rate that rises and falls
  loadtest run http://127.0.0.1:8080/ --requests 1000 -c 1000        1,000 requests at once
  loadtest run http://127.0.0.1:8080/ --closed --duration 10s        as fast as answers come
  loadtest run https://localhost:8443/ --http2 --streams 20 --cacert ca.pem
  loadtest run http://127.0.0.1:8080/ -H 'Host: hello.default.localhost'

Requests are sent when they are due, whether or not earlier ones were answered (open loop), and
latency counts from when a request was due: a server that stalls shows the wait of everybody who
came meanwhile. With too few connections (-c) requests wait for one; that wait counts too.";

/// Percentiles that are told.
const PERCENTILES: &[(&str, f64)] =
    &[("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// From this on the generator itself disturbs what it measures.
const LAG_TOLERATED: f64 = 0.001;

/// Options of `run`.
#[derive(Args, Clone, Debug)]
pub(super) struct RunArgs {
    /// `http://HOST[:PORT]/PATH` or `https://…`
    #[arg(value_name = "URL", value_parser = Ask::get)]
    ask: Ask,

    /// Requests per second, or points of a curve: RATE@TIME,RATE@TIME,…
    #[arg(long, short = 'r', value_name = "RATE", default_value = "100")]
    rate: RateText,

    /// How long requests become due (a curve has its own)
    #[arg(long, short = 'd', value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = positive_duration)]
    duration: Duration,

    /// So many requests at once instead
    #[arg(long, short = 'n', value_name = "N", conflicts_with_all = ["rate", "duration", "closed"])]
    requests: Option<u64>,

    /// Every connection sends its next request when it has its answer (closed loop), to find how
    /// much is possible
    #[arg(long, conflicts_with = "rate")]
    closed: bool,

    /// How requests are spread within the rate
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    arrivals: Arrivals,

    /// Connections
    #[arg(long, short = 'c', value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    connections: usize,

    /// HTTP/2: by prior knowledge (h2c) for http, by ALPN for https
    #[arg(long)]
    http2: bool,

    /// Requests at once on each HTTP/2 connection
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    streams: usize,

    /// A new connection for every request
    #[arg(long)]
    no_reuse: bool,

    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: usize,

    /// GET, POST, …
    #[arg(long, short = 'X', value_name = "METHOD", default_value = "GET")]
    method: Method,

    /// A header; repeatable
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header_line)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Body of each request
    #[arg(long, value_name = "TEXT", conflicts_with = "body_bytes")]
    body: Option<String>,

    /// A body of so many bytes
    #[arg(long, value_name = "N")]
    body_bytes: Option<usize>,

    /// Connect to this address instead of the URL's
    #[arg(long, value_name = "ADDR")]
    connect_to: Option<SocketAddr>,

    /// Certificate authorities to believe, a PEM file [default: this system's]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,

    /// Believe every certificate
    #[arg(long, short = 'k')]
    insecure: bool,

    /// From sending to giving up
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive_duration)]
    timeout: Duration,

    /// How long a request goes on connecting while nobody listens
    #[arg(long, value_name = "TIME", value_parser = duration)]
    patience: Option<Duration>,

    /// The same seed draws the same arrivals
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Print JSON, with every second of the run
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    fn plan(&self) -> Plan {
        let trust = match &self.cacert {
            Some(path) => Trust::File(path.clone()),
            None if self.insecure => Trust::Anybody,
            None => Trust::System,
        };
        let mut ask = Ask {
            connect_to: self.connect_to,
            protocol: if self.http2 { Protocol::Http2 } else { Protocol::Http1 },
            trust,
            method: self.method.clone(),
            ..self.ask.clone()
        };
        ask.headers.extend(self.headers.iter().cloned());
        if let Some(text) = &self.body {
            ask.body = Bytes::from(text.clone());
        } else if let Some(bytes) = self.body_bytes {
            ask.body = Bytes::from(vec![b'x'; bytes]);
        }
        Plan {
            connections: self.connections,
            streams: if self.http2 { self.streams } else { 1 },
            connect_first: !self.no_reuse,
            reuse: !self.no_reuse,
            threads: self.threads,
            timeout: self.timeout,
            patience: self.patience,
            ..Plan::new(ask, self.load())
        }
    }

    fn load(&self) -> Load {
        if let Some(requests) = self.requests {
            return Load::AtOnce { requests };
        }
        if self.closed {
            return Load::Closed { duration: self.duration };
        }
        let shape = match &self.rate {
            RateText::Constant(rate) => Shape::constant(*rate, self.duration),
            RateText::Curve(shape) => shape.clone(),
        };
        Load::Open(Schedule { shape, arrivals: self.arrivals, seed: self.seed })
    }
}

/// Returns whether every request was answered well.
pub(super) async fn run(args: &RunArgs) -> Result<bool, Failure> {
    let recording = generator::run(args.plan()).await?;
    if args.json {
        say(serde_json::to_string_pretty(&as_json(&recording))?);
    } else {
        say(as_text(&recording, args.closed));
    }
    Ok(recording.bad_total() == 0 && recording.good > 0)
}

fn as_text(recording: &Recording, closed: bool) -> String {
    let mut lines = vec![format!(
        "{} of {} requests answered well ({}) in {:.1} s: {:.1} a second, {} connections opened",
        count(recording.good),
        count(recording.due),
        percent(recording.good, recording.due),
        recording.elapsed.as_secs_f64(),
        recording.throughput(),
        count(recording.connects),
    )];
    for (what, number) in &recording.bad {
        lines.push(format!("  {} × {what}", count(*number)));
    }
    if recording.retries > 0 {
        lines.push(format!(
            "  {} sent again, as their connection had been closed",
            count(recording.retries)
        ));
    }
    let latency = &recording.latency;
    if let (Some(mean), Some(max)) = (latency.mean(), latency.max()) {
        let from = if closed { "from when it was sent" } else { "from when a request was due" };
        lines.push(format!("latency in ms, {from}:"));
        let percentiles = PERCENTILES
            .iter()
            .filter_map(|(name, part)| Some(format!("{name} {}", millis(latency.quantile(*part)?))))
            .collect::<Vec<_>>()
            .join("  ");
        lines.push(format!("  mean {}  {percentiles}  max {}", millis(mean), millis(max)));
    }
    if let Some(lag) = recording.lag.quantile(0.99).filter(|lag| *lag > LAG_TOLERATED) {
        lines.push(format!(
            "note: this program itself was late (p99 {} ms): more --threads, or less load",
            millis(lag)
        ));
    }
    lines.join("\n")
}

fn as_json(recording: &Recording) -> serde_json::Value {
    let seconds: Vec<_> = recording
        .buckets
        .iter()
        .map(|bucket| {
            json!({
                "due": bucket.due,
                "good": bucket.good,
                "bad": bucket.bad,
                "p50_seconds": bucket.latency.quantile(0.5),
                "p99_seconds": bucket.latency.quantile(0.99),
                "max_seconds": bucket.latency.max(),
            })
        })
        .collect();
    let latency = &recording.latency;
    let mut percentiles = serde_json::Map::new();
    for (name, part) in PERCENTILES {
        percentiles.insert((*name).to_owned(), json!(latency.quantile(*part)));
    }
    json!({
        "elapsed_seconds": recording.elapsed.as_secs_f64(),
        "due": recording.due,
        "good": recording.good,
        "bad": recording.bad,
        "good_per_second": recording.throughput(),
        "bytes": recording.bytes,
        "connections_opened": recording.connects,
        "sent_again": recording.retries,
        "latency_seconds": {
            "mean": latency.mean(),
            "max": latency.max(),
            "percentiles": percentiles,
        },
        "own_lag_p99_seconds": recording.lag.quantile(0.99),
        "seconds": seconds,
    })
}
