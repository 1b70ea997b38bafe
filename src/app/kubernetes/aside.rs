//! Work beside the data plane, on a thread of its own: looking at thousands of objects takes
//! seconds, in which nobody is to wait for a route, a replica or a renewed Lease.

use std::io;
use std::thread::JoinHandle;

use kube::Client;
use tokio::sync::oneshot;

use crate::app::carry::StartError;
use crate::app::threads::spawn;
use crate::kubernetes::client::connect;

/// A thread that works until this is dropped.
#[derive(Debug)]
pub(super) struct Aside {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Aside {
    /// Starts `work` with a client of its own.
    pub(super) async fn start(
        name: &str,
        work: impl AsyncFnOnce(Client) + Send + 'static,
    ) -> Result<Self, StartError> {
        let (stop, stopped) = oneshot::channel();
        let (connected, is_connected) = oneshot::channel();
        let thread = spawn(name, move |runtime| {
            runtime.block_on(async move {
                // kube has a task of its own, which has to be here.
                let client = match connect().await {
                    Ok(client) => client,
                    Err(error) => return drop(connected.send(Err(error))),
                };
                if connected.send(Ok(())).is_ok() {
                    tokio::select! {
                        biased;
                        _ = stopped => {}
                        () = work(client) => {}
                    }
                }
            });
        })?;
        is_connected.await.map_err(io::Error::other)??;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread beside the data plane panicked");
        }
    }
}
