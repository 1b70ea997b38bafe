//! The life of one replica: prepared, started, ready, ended – one task.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::model::{ProcessSpec, RevisionSpec};

use super::cgroup::{Limit, Limits};
use super::environment::{Program, Variables, program};
use super::failure::{first_held, message, refusal};
use super::group::{Running, Stop, told};
use super::health;
use super::keeper::{Keeper, StartError};
use super::listening::{described, ports_in_use};
use super::output::Output;
use super::ports::{Port, Ports};
use super::probe::{Commands, Prober};
use super::serials::Serials;
use super::starting::Starting;
use super::volumes::{Mounted, Volumes};
use super::wire::{End, Start};

/// A start that takes longer no longer keeps others from starting.
const TURN: Duration = Duration::from_secs(5);

/// What all replicas share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Starts programs.
    pub(super) keeper: Keeper,
    /// Numbers them.
    pub(super) serials: Serials,
    /// Their ports.
    pub(super) ports: Ports,
    /// Their volumes.
    pub(super) volumes: Volumes,
    /// What they print.
    pub(super) output: Output,
    /// The running program.
    pub(super) own: PathBuf,
    /// Memory limits; none inside: they cannot be had here, which was said once.
    pub(super) limits: Mutex<Option<Option<Limits>>>,
}

/// What happens to a replica.
#[derive(Debug)]
pub(super) enum Event {
    /// Its program runs in this process group.
    Spawned(Instant, i32),
    /// It does not become ready soon: others may start.
    Slow,
    /// Its program listens on this port instead of the given one; its process group.
    IgnoresPort(u16, i32),
    /// It takes requests.
    Ready(Instant, SocketAddr),
    /// Its readiness probe fails.
    Unready,
    /// It failed and is being cleared away.
    Failed(Failure),
    /// It is gone with all its processes.
    Gone,
}

/// Why a replica failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was never ready.
    NeverReady {
        /// What happened and what to do.
        message: String,
        /// A port its program wanted, and the group of the process that holds it.
        held: Option<(u16, i32)>,
    },
    /// It ended, or its liveness probe failed, after it was ready.
    Crashed(String),
    /// Another process took its port between the choice and the program's bind.
    PortLost,
    /// The guard died and it was killed.
    GuardLost,
}

/// One replica to be.
#[derive(Debug)]
pub(super) struct Job {
    /// Its number.
    pub(super) serial: u64,
    /// Its revision.
    pub(super) revision: Arc<RevisionSpec>,
    /// Its program.
    pub(super) process: Arc<ProcessSpec>,
    /// The port that its program is known to listen on instead of the given one.
    pub(super) fixed_port: Option<u16>,
}

/// Lives one replica's life. [`Event::Gone`] is always the last event.
pub(super) async fn run(
    shared: Arc<Shared>,
    job: Job,
    stop: watch::Receiver<Stop>,
    events: mpsc::Sender<(u64, Event)>,
) {
    let serial = job.serial;
    let life = Life { shared, job, stop, events: events.clone() };
    life.live().await;
    let _ = events.send((serial, Event::Gone)).await;
}

struct Life {
    shared: Arc<Shared>,
    job: Job,
    stop: watch::Receiver<Stop>,
    events: mpsc::Sender<(u64, Event)>,
}

/// What a replica holds while it lives; dropped when it is gone.
struct Kit {
    port: Port,
    /// Kept for its files.
    _mounted: Option<Mounted>,
    limit: Option<Limit>,
    variables: Arc<Variables>,
    program: Program,
}

enum Began {
    Ready(SocketAddr),
    Told,
    Ended(Option<End>),
    Failed(String),
}

impl Life {
    async fn live(mut self) {
        let kit = match self.prepare() {
            Ok(kit) => kit,
            Err(wrong) => return self.never_ready(&wrong, None, None).await,
        };
        let mut running = match self.spawn(&kit).await {
            Ok(running) => running,
            Err(StartError::GuardLost) => {
                return self.tell(Event::Failed(Failure::GuardLost)).await;
            }
            Err(StartError::Refused(error)) => {
                let wrong = refusal(&kit.program, &error);
                return self.never_ready(&wrong, None, None).await;
            }
        };
        self.tell(Event::Spawned(running.since, running.number())).await;
        let prober = self.prober(&kit);
        match self.start_up(&mut running, &prober, &kit).await {
            Began::Ready(address) => {
                self.tell_ready(&running, &kit, address).await;
                self.serve(&mut running, &prober, address).await;
            }
            Began::Told => {}
            Began::Ended(None) => self.tell(Event::Failed(Failure::GuardLost)).await,
            Began::Ended(Some(end)) => self.ended_early(&mut running, &kit, end).await,
            Began::Failed(wrong) => {
                self.never_ready(&wrong, Some(&running.tail.lines()), None).await;
            }
        }
        let gone = running.clear_away(self.job.process.termination_grace, &mut self.stop).await;
        if !gone {
            tracing::error!(
                revision = %self.job.revision.id,
                replica = self.job.serial,
                pid = running.number(),
                "the kernel does not end the replica; it is left alone"
            );
        }
        tracing::info!(
            revision = %self.job.revision.id,
            replica = self.job.serial,
            end = running.end().map(tracing::field::display),
            "replica is gone"
        );
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send((self.job.serial, event)).await;
    }

    /// Everything that is needed before the program can be started.
    fn prepare(&self) -> Result<Kit, String> {
        let Job { serial, revision, process, .. } = &self.job;
        let port = self.shared.ports.take().map_err(|error| error.to_string())?;
        let mounted = self.shared.volumes.mount(*serial, process)?;
        if let Some(mounted) = &mounted {
            for note in &mounted.notes {
                tracing::info!(revision = %revision.id, note, "a volume is elsewhere");
            }
        }
        let volumes = mounted.as_ref().map_or(&[][..], |mounted| &mounted.variables);
        let variables = Variables::of(revision, process, port.number(), volumes);
        if let Some(directory) = &process.directory
            && !directory.is_dir()
        {
            return Err(format!("its working directory {} is not there", directory.display()));
        }
        let directory = process.directory.as_deref();
        let program = program(&process.command, &variables, directory, &self.shared.own)?;
        let limit = process.memory_limit_bytes.and_then(|bytes| self.limit(bytes));
        Ok(Kit { port, _mounted: mounted, limit, variables: Arc::new(variables), program })
    }

    /// A memory limit; where there is no writable cgroup v2, that is said once.
    fn limit(&self, bytes: u64) -> Option<Limit> {
        let mut limits = self.shared.limits.lock();
        let prepared = limits.get_or_insert_with(|| {
            Limits::prepare(self.shared.keeper.guard_pid())
                .inspect_err(|reason| {
                    tracing::warn!(reason, "resources.limits.memory is not enforced");
                })
                .ok()
        });
        prepared
            .as_ref()?
            .make(&self.job.serial.to_string(), bytes)
            .inspect_err(|error| tracing::warn!(%error, "a memory limit is not enforced"))
            .ok()
    }

    async fn spawn(&self, kit: &Kit) -> Result<Running, StartError> {
        let Job { serial, revision, process, .. } = &self.job;
        let (out, out_end) = std::io::pipe().map_err(StartError::Refused)?;
        let (err, err_end) = std::io::pipe().map_err(StartError::Refused)?;
        let start = Start {
            serial: *serial,
            program: kit.program.path.clone(),
            argv: kit.program.argv.clone(),
            env: kit.variables.list().to_vec(),
            directory: process.directory.clone(),
            cgroup: kit.limit.as_ref().map(|limit| limit.folder().to_owned()),
        };
        let child = self.shared.keeper.run(start, vec![out_end.into(), err_end.into()]).await?;
        // First of all: the time that counts is the program's.
        let mut running = Running::new(child.pid, child.ended);
        tracing::info!(
            revision = %revision.id,
            replica = serial,
            pid = running.number(),
            port = kit.port.number(),
            "replica starts"
        );
        let output = &self.shared.output;
        running.tail = output.attach(&revision.id, *serial, out.into(), err.into()).await;
        Ok(running)
    }

    fn prober(&self, kit: &Kit) -> Prober {
        Prober {
            protocol: self.job.revision.protocol,
            commands: Some(Commands {
                keeper: self.shared.keeper.clone(),
                serials: self.shared.serials.clone(),
                variables: Arc::clone(&kit.variables),
                directory: self.job.process.directory.clone(),
                own: self.shared.own.clone(),
            }),
        }
    }

    /// From the running program to ready, or to why not.
    async fn start_up(&mut self, running: &mut Running, prober: &Prober, kit: &Kit) -> Began {
        let deadline = self.job.revision.scaling.progress_deadline;
        let starting = Starting {
            prober,
            probes: &self.job.process.probes,
            since: running.since,
            port: kit.port.number(),
            fixed_port: self.job.fixed_port,
            group: running.number(),
            last: Mutex::new(format!("nobody listens on its PORT {}", kit.port.number())),
        };
        let late = running.since + deadline;
        let serial = self.job.serial;
        let turn_ends = running.since + TURN;
        let turn = async {
            sleep_until(turn_ends).await;
            let _ = self.events.send((serial, Event::Slow)).await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = told(&mut self.stop) => Began::Told,
            ready = starting.ready() => match ready {
                Ok(address) => Began::Ready(address),
                Err(wrong) => Began::Failed(format!("was stopped: {wrong}")),
            },
            end = running.ended() => Began::Ended(end),
            () = sleep_until(late) => Began::Failed(format!(
                "was not ready within {} s: {}. \
                 Make it listen on the port in $PORT, correct its readinessProbe, or give it more \
                 time with the annotation serving.knative.dev/progress-deadline",
                deadline.as_secs_f64(),
                starting.last.lock(),
            )),
            never = turn => never,
        }
    }

    async fn tell_ready(&self, running: &Running, kit: &Kit, address: SocketAddr) {
        let revision = &self.job.revision.id;
        let now = Instant::now();
        self.tell(Event::Ready(now, address)).await;
        tracing::info!(
            %revision,
            replica = self.job.serial,
            %address,
            after_ms = now.duration_since(running.since).as_millis(),
            "replica is ready"
        );
        if address.port() != kit.port.number() {
            if self.job.fixed_port != Some(address.port()) {
                tracing::warn!(
                    %revision,
                    "the program listens on port {} and not on the port in $PORT; it is used as it \
                     is, but with one replica at most. Make it listen on $PORT to have more",
                    address.port()
                );
            }
            self.tell(Event::IgnoresPort(address.port(), running.number())).await;
        }
    }

    /// While it takes requests. Returns when it is told to go or has failed.
    async fn serve(&mut self, running: &mut Running, prober: &Prober, address: SocketAddr) {
        let (changes, mut changed) = mpsc::channel(1);
        let watching = health::watch(prober, &self.job.process.probes, address, &changes);
        tokio::pin!(watching);
        let failure = loop {
            tokio::select! {
                biased;
                () = told(&mut self.stop) => return,
                end = running.ended() => break match end {
                    Some(end) => Failure::Crashed(format!("ended with {end}")),
                    None => Failure::GuardLost,
                },
                Some(ready) = changed.recv() => {
                    let event = if ready {
                        Event::Ready(Instant::now(), address)
                    } else {
                        Event::Unready
                    };
                    let _ = self.events.send((self.job.serial, event)).await;
                }
                reason = &mut watching => break Failure::Crashed(reason),
            }
        };
        if let Failure::Crashed(reason) = &failure {
            tracing::warn!(
                revision = %self.job.revision.id,
                replica = self.job.serial,
                reason,
                "replica failed; it is started anew"
            );
        }
        self.tell(Event::Failed(failure)).await;
    }

    /// The program ended before it was ready: says why.
    async fn ended_early(&self, running: &mut Running, kit: &Kit, end: End) {
        let lines = running.wreck().await;
        let mut wrong = format!(
            "ended with {end} before it was ready, {} ms after its start",
            running.since.elapsed().as_millis()
        );
        if kit.limit.as_ref().is_some_and(Limit::killed) {
            wrong.push_str(". It needed more than resources.limits.memory; raise that");
        }
        let wanted = ports_in_use(&lines);
        let held = if wanted.is_empty() {
            None
        } else {
            tokio::task::spawn_blocking(move || first_held(&wanted)).await.ok().flatten()
        };
        if held.as_ref().is_some_and(|(port, _)| *port == kit.port.number()) {
            return self.tell(Event::Failed(Failure::PortLost)).await;
        }
        if let Some((port, process)) = &held {
            let by = described(process.as_ref());
            let _ = write!(
                wrong,
                ". It wants port {port}, which {by} holds; end that, or make the program listen on \
                 the port in $PORT"
            );
        }
        let group = held.and_then(|(port, process)| Some((port, process?.group)));
        self.never_ready(&wrong, Some(&lines), group).await;
    }

    /// Reports a failed start, with what the program printed if it ran.
    async fn never_ready(&self, wrong: &str, lines: Option<&[String]>, held: Option<(u16, i32)>) {
        let Job { serial, revision, process, .. } = &self.job;
        let message = message(&process.command, wrong, lines);
        tracing::warn!(revision = %revision.id, replica = serial, "{message}");
        self.tell(Event::Failed(Failure::NeverReady { message, held })).await;
    }
}
