//! Clients that ask again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::client::{H1, empty, h1, request, whole};

/// Clients at work, each on a connection of its own that it opens again when it was closed.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<BTreeMap<String, u32>>,
}

impl Load {
    /// GETs by `clients` clients.
    pub(crate) fn start(at: SocketAddr, clients: usize, host: &str, path: &str) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut set = JoinSet::new();
        for _ in 0..clients {
            let (stop, host, path) = (Arc::clone(&stop), host.to_owned(), path.to_owned());
            set.spawn(async move {
                let mut seen = BTreeMap::new();
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    let outcome = ask(&mut connection, at, &host, &path).await;
                    *seen.entry(outcome).or_default() += 1;
                }
                seen
            });
        }
        Self { stop, clients: set }
    }

    /// Stops after the requests that are under way; how many had which outcome.
    pub(crate) async fn stop(self) -> BTreeMap<String, u32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for seen in self.clients.join_all().await {
            for (outcome, number) in seen {
                *all.entry(outcome).or_default() += number;
            }
        }
        all
    }
}

/// The body of a 200, else what went wrong.
async fn ask(connection: &mut Option<H1>, at: SocketAddr, host: &str, path: &str) -> String {
    let mut sender = match connection.take() {
        Some(sender) => sender,
        None => h1(at).await,
    };
    if sender.ready().await.is_err() {
        sender = h1(at).await;
    }
    let request = request("GET", host, path).body(empty()).unwrap();
    match sender.try_send_request(request).await {
        Ok(response) => {
            let answer = whole(response).await;
            *connection = Some(sender);
            if answer.status == 200 {
                answer.text().trim().to_owned()
            } else {
                format!("{} {}", answer.status, answer.text().trim())
            }
        }
        // It never left: the connection had been closed between two requests.
        Err(error) if error.message().is_some() => Box::pin(ask(connection, at, host, path)).await,
        Err(error) => format!("broken: {}", error.into_error()),
    }
}
