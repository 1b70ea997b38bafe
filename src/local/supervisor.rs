//! Makes replicas of stated counts: one task that owns all revisions' state, one task a replica.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::model::{RevisionId, RevisionSpec};
use crate::platform::{ScaleError, ScaleOrder, ScaleTarget, Updates};

use super::keeper::{GuardSettings, Keeper};
use super::output::Output;
use super::ports::Ports;
use super::printed::Printed;
use super::replica::Shared;
use super::room::Room;
use super::serials::Serials;
use super::volumes::Volumes;

/// Orders waiting to be taken.
const ORDERS_WAITING: usize = 256;
/// Longest time that a shutdown waits for the guard, which ends by itself anyway.
const GUARD_BOUND: Duration = Duration::from_secs(5);

/// What a supervisor is started with.
#[derive(Clone, Debug)]
pub struct SupervisorSettings {
    /// The running program: becomes the guard by the argument `__guard`, and is what a command
    /// named `tidegate` means.
    pub program: PathBuf,
    /// Folder for replicas' volumes; its parent must exist. Removed at the end, also after
    /// `kill -9`. Must not be shared by two supervisors.
    pub folder: PathBuf,
    /// Replicas of all revisions together that are ever made; more is an error. The autoscaler
    /// clamps below it.
    pub replicas_bound: u32,
    /// Replicas that start at the same time.
    pub starting_bound: usize,
    /// Longest time that [`Supervisor::shutdown`] lets replicas end by themselves.
    pub shutdown_grace: Duration,
}

impl SupervisorSettings {
    /// Settings for this machine: the running program, a private folder in `XDG_RUNTIME_DIR` or
    /// the temporary folder, 1000 replicas, 2 × cores starting at once, 10 s for the end.
    ///
    /// # Errors
    ///
    /// The path of the running program cannot be told.
    pub fn detect() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let parent = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|folder| folder.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let unique = fastrand::u64(..);
        Ok(Self {
            program: std::env::current_exe()?,
            folder: parent.join(format!("tidegate-{}-{unique:016x}", std::process::id())),
            replicas_bound: 1000,
            starting_bound: 2 * cores,
            shutdown_grace: Duration::from_secs(10),
        })
    }
}

/// Runs replicas as child processes.
#[derive(Debug)]
pub struct Supervisor {
    handle: SupervisorHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    guard: JoinHandle<()>,
}

/// Gives orders to a [`Supervisor`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SupervisorHandle {
    orders: mpsc::Sender<Order>,
    printed: Arc<Printed>,
}

#[derive(Debug)]
struct Order {
    what: What,
    reply: oneshot::Sender<Result<bool, String>>,
}

#[derive(Debug)]
enum What {
    Scale(Arc<RevisionSpec>, ScaleOrder),
    Learn(Arc<RevisionSpec>),
    Renew(RevisionId),
}

impl Supervisor {
    /// Starts the guard process and the supervisor's task. Must be called on a runtime with I/O
    /// and time; everything runs there but the draining of output, which has own threads.
    ///
    /// # Errors
    ///
    /// The guard or a thread cannot be started.
    pub fn start(settings: SupervisorSettings, updates: Updates) -> io::Result<Self> {
        let guard_settings =
            GuardSettings { program: settings.program.clone(), folder: settings.folder.clone() };
        let (keeper, guard) = Keeper::start(guard_settings)?;
        let output = Output::start()?;
        let printed = output.printed();
        let shared = Arc::new(Shared {
            keeper,
            serials: Serials::default(),
            ports: Ports::default(),
            volumes: Volumes::new(settings.folder.clone()),
            output,
            own: settings.program.clone(),
            limits: Mutex::new(None),
        });
        let (orders, received) = mpsc::channel(ORDERS_WAITING);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(Room::new(settings, shared), received, stopped, updates));
        Ok(Self { handle: SupervisorHandle { orders, printed }, stop, task, guard })
    }

    /// Gives orders.
    pub fn handle(&self) -> SupervisorHandle {
        self.handle.clone()
    }

    /// Stops all replicas: SIGTERM, and SIGKILL after their grace or the settings'
    /// `shutdown_grace`, whichever is shorter. Returns when nothing is left.
    pub async fn shutdown(self) {
        let Self { handle, stop, task, guard } = self;
        drop(handle);
        // A failed send or join: the task is gone already.
        let _ = stop.send(());
        let _ = task.await;
        let _ = timeout(GUARD_BOUND, guard).await;
    }
}

impl SupervisorHandle {
    /// Makes a revision known before its first count. Endpoints that somebody else runs
    /// (`tidegate.dev/static-endpoints`) are reported then.
    ///
    /// # Errors
    ///
    /// The supervisor was shut down.
    pub async fn announce(&self, revision: &Arc<RevisionSpec>) -> Result<(), ScaleError> {
        self.give(&revision.id, What::Learn(Arc::clone(revision))).await.map(drop)
    }

    /// What replicas printed lately.
    pub fn printed(&self) -> &Arc<Printed> {
        &self.printed
    }

    /// Begins to replace all replicas of a revision, without waiting for a back-off: those that were
    /// never ready go at once; the others as counts are stated that name them
    /// ([`ScaleOrder::replaced`]). Whether its program can run only once, because it listens on a
    /// port of its own.
    ///
    /// # Errors
    ///
    /// There is no such revision here, or the supervisor was shut down.
    pub async fn renew(&self, revision: &RevisionId) -> Result<bool, ScaleError> {
        self.give(revision, What::Renew(revision.clone())).await
    }

    async fn give(&self, revision: &RevisionId, what: What) -> Result<bool, ScaleError> {
        let error = |message: String| ScaleError { revision: revision.clone(), message };
        let down = || error("the supervisor is shut down".to_owned());
        let (reply, answer) = oneshot::channel();
        let order = Order { what, reply };
        self.orders.send(order).await.map_err(|_error: mpsc::error::SendError<Order>| down())?;
        match answer.await {
            Ok(taken) => taken.map_err(error),
            Err(_dropped) => Err(down()),
        }
    }
}

impl ScaleTarget for SupervisorHandle {
    async fn scale(
        &self,
        revision: &Arc<RevisionSpec>,
        order: ScaleOrder,
    ) -> Result<(), ScaleError> {
        self.give(&revision.id, What::Scale(Arc::clone(revision), order)).await.map(drop)
    }
}

async fn run(
    mut room: Room,
    mut orders: mpsc::Receiver<Order>,
    mut stopped: oneshot::Receiver<()>,
    updates: Updates,
) {
    loop {
        let retry = room.next_retry();
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some((serial, event)) = room.happened() => room.happen(serial, event),
            Some(Order { what, reply }) = orders.recv() => {
                let taken = match what {
                    What::Scale(revision, order) => {
                        room.order(revision, Some(order)).map(|()| false)
                    }
                    What::Learn(revision) => room.order(revision, None).map(|()| false),
                    What::Renew(revision) => room.renew(&revision),
                };
                // Nobody waits for the answer: the order holds all the same.
                let _ = reply.send(taken);
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                room.retry(Instant::now());
            }
            permit = updates.reserve(), if room.has_news() => match permit {
                Ok(permit) => {
                    if let Some(update) = room.next_update() {
                        permit.send(update);
                    }
                }
                // The application is going down; its replicas are stopped by `shutdown`.
                Err(_closed) => room.forget_news(),
            },
        }
    }
    room.end_all().await;
}
