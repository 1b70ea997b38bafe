//! What workers ask whether a request is recorded, and hand what was recorded to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::TraceId;
use super::endpoint::{Endpoint, Protocol};
use super::exporter::{self, Parting};
use super::queue::Queue;
use super::resource::{self, Resource};
use super::span::Recorded;

/// Spans that may wait for the exporter.
const SPANS: usize = 16_384;
/// Spans that are sent together.
const BATCH: usize = 1_024;
/// How long what is queued for a collector that is no longer wanted may take to go.
const PARTING: Duration = Duration::from_secs(2);

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a collector, by OTLP.
    Collector(Endpoint),
    /// To standard output, a line of JSON each.
    Lines,
}

impl Target {
    fn announce(&self) {
        match self {
            Self::Lines => tracing::info!("traces go to standard output"),
            Self::Collector(endpoint) => {
                let (to, protocol) = (endpoint.authority(), endpoint.protocol.word());
                tracing::info!(%to, protocol, "traces go to a collector");
            }
        }
    }
}

/// What the configuration says of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where spans go.
    pub target: Target,
    /// The share of requests without a decision of their caller that are recorded, 0–1.
    pub rate: f64,
    /// The name of this instance.
    pub instance: String,
}

/// What became of spans since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans dropped because the collector was away, slow, or refused them.
    pub dropped: u64,
}

/// The same, counted by several.
#[derive(Debug, Default)]
pub(super) struct Counters {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    pub(super) fn exported(&self, spans: usize) {
        self.exported.fetch_add(spans as u64, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, spans: usize) {
        self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            exported: self.exported.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Decides which requests are recorded, and takes what was. Clones are the same; off at first.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_on: AtomicBool,
    /// Traces whose part for samplers is below it are recorded.
    threshold: AtomicU64,
    running: ArcSwapOption<Running>,
    counters: Arc<Counters>,
}

impl Tracer {
    /// Whether requests are traced at all.
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    /// Whether a trace that begins here is recorded: the share of them that the settings say, by
    /// their identity alone, so that whoever decides by the same share decides the same.
    pub fn samples(&self, trace: TraceId) -> bool {
        trace.ratio_part() < self.0.threshold.load(Ordering::Relaxed)
    }

    /// Takes what was recorded of a request that has ended; drops and counts it if too much waits.
    pub fn finish(&self, recorded: Recorded) {
        let rejected = match &*self.0.running.load() {
            Some(running) => running.queue.push(recorded).err(),
            // Turned off while the request was on its way.
            None => None,
        };
        if let Some(rejected) = rejected {
            self.0.counters.dropped(rejected.spans.len());
        }
    }

    /// What became of spans since the start; none as long as it was never on.
    pub fn counts(&self) -> Option<Counts> {
        let counts = self.0.counters.counts();
        (self.is_on() || counts != Counts::default()).then_some(counts)
    }

    /// Uses these settings from now on; none turns it off. What waits for a former collector gets
    /// two seconds to go.
    ///
    /// # Errors
    ///
    /// There is no thread for the exporter; then it is off.
    pub fn set(&self, settings: Option<&Settings>) -> io::Result<()> {
        let Some(settings) = settings else {
            if self.turn_off(Instant::now() + PARTING).is_some() {
                tracing::info!("traces are off");
            }
            return Ok(());
        };
        self.0.threshold.store(threshold(settings.rate), Ordering::Relaxed);
        let running = self.0.running.load_full();
        let is_kept = running.is_some_and(|running| running.target == settings.target);
        if !is_kept {
            self.turn_off(Instant::now() + PARTING);
            let running = Running::start(settings, &self.0.counters)?;
            self.0.running.store(Some(Arc::new(running)));
        }
        self.0.is_on.store(true, Ordering::Relaxed);
        if !is_kept {
            settings.target.announce();
        }
        Ok(())
    }

    /// Turns it off for good and returns when what waited is sent, or `within` has passed.
    pub async fn close(&self, within: Duration) {
        let deadline = Instant::now() + within;
        if let Some(running) = self.turn_off(deadline) {
            let mut ended = running.ended.clone();
            // Gone is the end, too.
            let ended = async { drop(ended.wait_for(|ended| *ended).await) };
            drop(tokio::time::timeout_at(deadline, ended).await);
        }
    }

    fn turn_off(&self, deadline: Instant) -> Option<Arc<Running>> {
        self.0.is_on.store(false, Ordering::Relaxed);
        let running = self.0.running.swap(None)?;
        running.parting.send_replace(Some(deadline));
        Some(running)
    }
}

/// `rate` of all numbers below 2⁶³ are below it.
fn threshold(rate: f64) -> u64 {
    const ALL: f64 = (1_u64 << 63) as f64;
    // Saturating by definition of `as`.
    (rate.clamp(0.0, 1.0) * ALL) as u64
}

/// The exporter in use; its thread ends soon after it is told to part.
#[derive(Debug)]
struct Running {
    target: Target,
    queue: Arc<Queue>,
    parting: watch::Sender<Option<Instant>>,
    ended: watch::Receiver<bool>,
}

impl Running {
    fn start(settings: &Settings, counters: &Arc<Counters>) -> io::Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let (resource, headers) =
            (resource::resource(&settings.instance, env), resource::headers(env));
        let queue = Arc::new(Queue::new(SPANS, BATCH));
        let (parting, parted) = watch::channel(None);
        let (end, ended) = watch::channel(false);
        let work = Work {
            target: settings.target.clone(),
            resource,
            headers,
            queue: Arc::clone(&queue),
            counters: Arc::clone(counters),
            parted,
        };
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || {
            work.run();
            end.send_replace(true);
        })?;
        Ok(Self { target: settings.target.clone(), queue, parting, ended })
    }
}

/// What the exporter's thread has.
struct Work {
    target: Target,
    resource: Resource,
    headers: Vec<(String, String)>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    parted: watch::Receiver<Option<Instant>>,
}

impl Work {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime.inspect_err(|error| tracing::error!(%error, "no traces")) else {
            return;
        };
        runtime.block_on(async {
            let (counters, parting) = (&*self.counters, Parting::new(self.parted));
            match self.target {
                Target::Lines => {
                    let mut lines = super::lines::Lines::new(self.resource);
                    let write = async |batch: &[Recorded]| lines.write(batch);
                    exporter::run(&self.queue, counters, parting, write).await;
                }
                Target::Collector(endpoint) => {
                    let mut client =
                        super::client::Client::new(endpoint, self.resource, self.headers);
                    let send = async |batch: &[Recorded]| client.send(batch).await;
                    exporter::run(&self.queue, counters, parting, send).await;
                }
            }
        });
    }
}

impl Protocol {
    /// As `tracing-protocol` has it.
    fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_sampled_as_are_asked_for() {
        const DRAWN: usize = 100_000;
        let tracer = Tracer::default();
        let mut rng = fastrand::Rng::with_seed(7);
        let ids: Vec<_> = std::iter::repeat_with(|| TraceId::draw(&mut rng)).take(DRAWN).collect();
        for rate in [0.0, 0.01, 0.5, 0.999, 1.0, 7.0, -1.0, f64::NAN] {
            tracer.0.threshold.store(threshold(rate), Ordering::Relaxed);
            let sampled = ids.iter().filter(|id| tracer.samples(**id)).count();
            let expected = if rate.is_nan() { 0.0 } else { rate.clamp(0.0, 1.0) } * DRAWN as f64;
            // Six standard deviations.
            let off = (sampled as f64 - expected).abs();
            assert!(
                off <= 6.0 * (expected * (1.0 - rate.clamp(0.0, 1.0))).abs().sqrt() + 0.5
                    || rate.is_nan() && sampled == 0,
                "{rate}: {sampled} of {DRAWN}"
            );
        }
    }

    #[test]
    fn what_one_samples_is_sampled_by_all_that_sample_more() {
        let (less, more) = (Tracer::default(), Tracer::default());
        less.0.threshold.store(threshold(0.1), Ordering::Relaxed);
        more.0.threshold.store(threshold(0.3), Ordering::Relaxed);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let trace = TraceId::draw(&mut rng);
            assert!(more.samples(trace) || !less.samples(trace));
        }
    }

    #[test]
    fn off_it_counts_nothing() {
        let tracer = Tracer::default();
        assert!(!tracer.is_on());
        assert_eq!(tracer.counts(), None);
        tracer.set(None).unwrap();
        assert!(!tracer.is_on());
    }
}
