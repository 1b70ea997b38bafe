//! One proxy, one kind of work, once.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Kind;
use crate::cli::Failure;
use crate::generator::{self, Ask, Load, Plan, Protocol};
use crate::peers::instruments::{Counter, memory, processor};
use crate::peers::place::Cores;
use crate::peers::{Peer, Proxy, service_host};

const CONNECTIONS: usize = 64;
const H2_CONNECTIONS: usize = 8;
const H2_STREAMS: usize = 16;
const POSTED: usize = 1 << 10;
/// Opening the connections is counted too; over this long it is little beside the requests.
const COUNTED_LEAST: Duration = Duration::from_secs(2);
/// What an idle proxy does in the background ends, before its memory is read.
const SETTLES: Duration = Duration::from_millis(500);

/// What all measurements have in common.
pub(super) struct Bench {
    pub(super) origin: SocketAddr,
    pub(super) cores: Option<Cores>,
    pub(super) duration: Duration,
    pub(super) connections: u32,
}

/// What one measurement found.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Processor time of a request in µs; at rest: ms per second.
    pub(super) processor: f64,
    /// Requests per second.
    pub(super) rate: f64,
    /// Part of a processor that the proxy used.
    pub(super) busy: f64,
    /// Latencies with everything saturated, in seconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// In MiB.
    pub(super) memory: f64,
    /// KiB for each connection at rest.
    pub(super) each: f64,
    /// Requests without a good answer.
    pub(super) bad: u64,
}

/// What was counted of each request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) calls: Option<f64>,
    pub(super) instructions: Option<f64>,
}

impl Bench {
    /// On the processor that is the proxy's.
    async fn start(&self, peer: Peer, program: &Path) -> Result<Proxy, Failure> {
        if let Some(cores) = &self.cores {
            cores.for_proxy();
        }
        // This thread is the only one of this program that starts anything, so what is pinned
        // meanwhile is the proxy.
        let proxy = Proxy::start(peer, program, self.origin).await;
        if let Some(cores) = &self.cores {
            cores.for_others();
        }
        proxy
    }

    /// Starts a proxy, measures, and stops it.
    pub(super) async fn sample(
        &self,
        kind: Kind,
        peer: Peer,
        program: &Path,
    ) -> Result<Sample, Failure> {
        let proxy = self.start(peer, program).await?;
        let sample = match kind {
            Kind::Idle => self.idle(&proxy).await,
            _ => self.load(kind, &proxy).await,
        };
        proxy.stop().await?;
        sample
    }

    /// The same with counters, which slow it down: nothing else is measured.
    pub(super) async fn count(
        &self,
        kind: Kind,
        peer: Peer,
        program: &Path,
        counters: &[Counter],
    ) -> Result<Counted, Failure> {
        let proxy = self.start(peer, program).await?;
        generator::run(self.plan(kind, &proxy, self.duration / 4)?).await?;
        let pids = proxy.pids();
        let mut counted = Counted::default();
        for counter in counters {
            let plan = self.plan(kind, &proxy, self.duration.max(COUNTED_LEAST))?;
            let load = async { Ok(generator::run(plan).await?.good) };
            let each = counter.per_request(&pids, load).await?;
            match counter {
                Counter::Calls => counted.calls = each,
                Counter::Instructions => counted.instructions = each,
            }
        }
        proxy.stop().await?;
        Ok(counted)
    }

    fn plan(&self, kind: Kind, proxy: &Proxy, duration: Duration) -> Result<Plan, Failure> {
        let path = if kind == Kind::Large { "/64k" } else { "/" };
        let mut ask = Ask::service(proxy.http1(), &service_host(), path)?;
        let mut plan =
            Plan { connections: CONNECTIONS, ..Plan::new(ask.clone(), Load::Closed { duration }) };
        match kind {
            Kind::Post => {
                ask.method = Method::POST;
                ask.body = Bytes::from(vec![b'x'; POSTED]);
            }
            Kind::H2 => {
                ask.protocol = Protocol::Http2;
                ask.connect_to = Some(proxy.http2());
                (plan.connections, plan.streams) = (H2_CONNECTIONS, H2_STREAMS);
            }
            Kind::Churn => {
                ask.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                (plan.reuse, plan.connect_first) = (false, false);
            }
            Kind::Get | Kind::Large | Kind::Idle => {}
        }
        // Each further thread costs the load's side something, so only where there is room.
        plan.threads = self.cores.map_or(1, |cores| (cores.others_count / 2).clamp(1, 8));
        plan.ask = ask;
        Ok(plan)
    }

    async fn load(&self, kind: Kind, proxy: &Proxy) -> Result<Sample, Failure> {
        generator::run(self.plan(kind, proxy, self.duration / 2)?).await?;
        let pids = proxy.pids();
        let mut before = Duration::ZERO;
        let plan = self.plan(kind, proxy, self.duration)?;
        let recording = generator::run_from(plan, |_| before = processor(&pids)).await?;
        let used = processor(&pids).saturating_sub(before).as_secs_f64();
        let quantile = |part: f64| recording.latency.quantile(part).unwrap_or_default();
        Ok(Sample {
            processor: used * 1e6 / recording.good.max(1) as f64,
            rate: recording.throughput(),
            busy: used / recording.elapsed.as_secs_f64().max(1e-3),
            p50: quantile(0.5),
            p99: quantile(0.99),
            memory: mib(memory(&pids)),
            each: 0.0,
            bad: recording.bad_total() + u64::from(recording.good == 0),
        })
    }

    async fn idle(&self, proxy: &Proxy) -> Result<Sample, Failure> {
        let pids = proxy.pids();
        // The first one makes what is made once.
        let first = ask_once(proxy.http1()).await?;
        let without = memory(&pids);
        let mut open = Vec::new();
        for _ in 0..self.connections {
            open.push(ask_once(proxy.http1()).await?);
        }
        sleep(SETTLES).await;
        let with = memory(&pids);
        let (before, begun) = (processor(&pids), Instant::now());
        sleep(self.duration).await;
        let used = processor(&pids).saturating_sub(before).as_secs_f64();
        let used = used / begun.elapsed().as_secs_f64().max(1e-3);
        drop((first, open));
        Ok(Sample {
            processor: used * 1e3,
            busy: used,
            memory: mib(with),
            each: with.saturating_sub(without) as f64 / 1024.0 / f64::from(self.connections),
            ..Sample::default()
        })
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A connection on which a request was answered.
async fn ask_once(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", service_host());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        if stream.read_buf(&mut answer).await? == 0 {
            let told = String::from_utf8_lossy(&answer).into_owned();
            return Err(io::Error::other(format!("the connection ended after {told:?}")));
        }
    }
    Ok(stream)
}
