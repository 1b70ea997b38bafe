//! A tidegate as a child of this process, on ports of its own, and its admin API.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::{ProcessError, Running, Scratch, Usage};

/// How long a tidegate may take to serve: thousands of services are read first.
const START_LIMIT: Duration = Duration::from_secs(60);
const ADMIN_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no tidegate to measure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no binary.
    #[error(
        "there is no tidegate at {0}: build it with `cargo build --release --workspace`, or name it \
         with --tidegate PATH"
    )]
    NoBinary(PathBuf),
    /// It does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Files could not be written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// Its admin API does not answer.
    #[error("the admin API of tidegate: {path}: {problem}")]
    Admin {
        /// What was asked for.
        path: String,
        /// What happened.
        problem: String,
    },
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Manifests, as YAML.
    pub manifests: String,
    /// Further options of `tidegate serve`.
    pub options: Vec<String>,
    /// Address of the data listener; none = any free port.
    pub http: Option<SocketAddr>,
    /// Whether revisions and replica counts are kept over restarts.
    pub remembers: bool,
}

/// A tidegate that runs.
#[derive(Debug)]
pub struct Tidegate {
    running: Running,
    http: SocketAddr,
    admin: SocketAddr,
    binary: PathBuf,
    setup: Setup,
    folder: Scratch,
}

/// The binary to measure: the one named, else the one beside this program.
///
/// # Errors
/// When there is none.
pub fn binary(named: Option<&Path>) -> Result<PathBuf, Error> {
    let path = named.map_or_else(
        || std::env::current_exe().unwrap_or_default().with_file_name("tidegate"),
        Path::to_owned,
    );
    if path.is_file() { Ok(path) } else { Err(Error::NoBinary(path)) }
}

/// The line of `tidegate --version`.
pub async fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output().await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| error.to_string())
}

impl Tidegate {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// When it cannot be started or does not serve within a minute.
    pub async fn start(binary: &Path, setup: Setup) -> Result<Self, Error> {
        let temporary = |error| Error::File(std::env::temp_dir(), error);
        let folder = Scratch::new().map_err(temporary)?;
        write(&folder, &setup.manifests)?;
        let (running, http, admin) = launch(binary, &setup, folder.path()).await?;
        Ok(Self { running, http, admin, binary: binary.to_owned(), setup, folder })
    }

    /// Where requests go.
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Its admin API.
    pub const fn admin(&self) -> Admin {
        Admin(self.admin)
    }

    /// What the process used so far, without its replicas.
    pub fn usage(&self) -> Option<Usage> {
        self.running.usage()
    }

    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Replaces its manifests; it takes them up by itself.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn rewrite(&self, manifests: &str) -> Result<(), Error> {
        write(&self.folder, manifests)
    }

    /// Stops it with SIGTERM, waits for the end, and starts it again on the same port. Gives back
    /// how it ended.
    ///
    /// # Errors
    /// When it cannot be waited for or started again.
    pub async fn restart(&mut self) -> Result<ExitStatus, Error> {
        self.running.terminate();
        let waited = self.running.ended().await;
        let status = waited.map_err(|error| Error::File(self.binary.clone(), error))?;
        let setup = Setup { http: Some(self.http), ..self.setup.clone() };
        let (running, http, admin) = launch(&self.binary, &setup, self.folder.path()).await?;
        (self.running, self.http, self.admin) = (running, http, admin);
        Ok(status)
    }

    /// Stops it with SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn stop(self) -> Result<ExitStatus, Error> {
        let binary = self.binary;
        self.running.stop().await.map_err(|error| Error::File(binary, error))
    }

    /// An error when it ended by itself.
    ///
    /// # Errors
    /// With its exit status and the last lines of its log.
    pub fn check(&mut self) -> Result<(), Error> {
        Ok(self.running.check()?)
    }
}

/// The host of a service of the namespace `default`.
pub fn host(service: &str) -> String {
    format!("{service}.default.localhost")
}

/// Written beside and renamed, so that no half of it is read.
fn write(folder: &Scratch, manifests: &str) -> Result<(), Error> {
    let failed = |error| Error::File(folder.path().to_owned(), error);
    let manifests_folder = folder.path().join("manifests");
    std::fs::create_dir_all(&manifests_folder).map_err(failed)?;
    let new = folder.path().join("new.yaml");
    std::fs::write(&new, manifests).map_err(failed)?;
    std::fs::rename(&new, manifests_folder.join("services.yaml")).map_err(failed)
}

async fn launch(
    binary: &Path,
    setup: &Setup,
    folder: &Path,
) -> Result<(Running, SocketAddr, SocketAddr), Error> {
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let mut command = Command::new(binary);
    // What is set for another tidegate is not meant for this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    let state = if setup.remembers { folder.join("state") } else { "none".into() };
    command
        .arg("serve")
        .arg("-f")
        .arg(folder.join("manifests"))
        .arg("--http")
        .arg(setup.http.unwrap_or(any).to_string())
        .arg("--admin")
        .arg(any.to_string())
        .arg("--state-dir")
        .arg(state)
        .args(&setup.options)
        .stdout(Stdio::piped());
    let mut running = Running::start("tidegate", &mut command, &folder.join("log"))?;
    let Some(stdout) = running.stdout() else { return Err(running.not_ready().into()) };
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(START_LIMIT, lines.next_line()).await;
    let Some((http, admin)) = line.ok().and_then(Result::ok).flatten().and_then(|l| addresses(&l))
    else {
        // It says why after it closed its output.
        let _ = timeout(Duration::from_secs(5), running.ended()).await;
        return Err(running.not_ready().into());
    };
    // A full pipe would hold it up.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((running, http, admin))
}

/// `listening http=ADDR admin=ADDR`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let words = line.strip_prefix("listening ")?;
    let found = |name: &str| {
        words.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok())
    };
    Some((found("http=")?, found("admin=")?))
}

/// A client of the admin API.
#[derive(Clone, Copy, Debug)]
pub struct Admin(SocketAddr);

/// What scenarios look at of a revision; see tidegate's `GET /api/v1/revisions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RevisionView {
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: Option<String>,
    /// Replicas ordered.
    pub desired: u32,
    /// Ready replicas.
    pub ready: u32,
    /// Replicas on their way up.
    pub starting: u32,
    /// Requests in flight, waiting ones included.
    pub in_flight: u64,
    /// Requests that wait for a replica.
    pub waiting: u32,
    /// Requests that tidegate answered itself, by reason, since the start.
    pub refused: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct RevisionsView {
    revisions: Vec<RevisionView>,
}

impl Admin {
    /// All revisions.
    ///
    /// # Errors
    /// When there is no answer within 10 s, or not the expected one.
    pub async fn revisions(&self) -> Result<Vec<RevisionView>, Error> {
        let path = "/api/v1/revisions";
        let bytes = self.get(path).await?;
        let view: RevisionsView = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Admin { path: path.into(), problem: error.to_string() })?;
        Ok(view.revisions)
    }

    /// The metrics, as Prometheus gets them.
    ///
    /// # Errors
    /// When there is no answer within 10 s.
    pub async fn metrics(&self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.get("/metrics").await?).into_owned())
    }

    /// What is at a path.
    ///
    /// # Errors
    /// When there is no answer within 10 s, or it is not 200.
    pub async fn get(&self, path: &str) -> Result<Bytes, Error> {
        let problem = |problem: String| Error::Admin { path: path.to_owned(), problem };
        match timeout(ADMIN_LIMIT, self.exchange(path)).await {
            Ok(answer) => answer.map_err(problem),
            Err(_elapsed) => Err(problem(format!("no answer within {ADMIN_LIMIT:?}"))),
        }
    }

    async fn exchange(&self, path: &str) -> Result<Bytes, String> {
        let told = |error: hyper::Error| error.to_string();
        let stream = TcpStream::connect(self.0).await.map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(told)?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, self.0.to_string())
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(told)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(told)?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(status.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_line_is_understood() {
        let line = "listening http=127.0.0.1:8080 http=[::1]:8080 admin=127.0.0.1:9095";
        let (http, admin) = addresses(line).unwrap();
        assert_eq!((http.port(), admin.port()), (8080, 9095));
        assert!(addresses("error: no").is_none());
    }

    #[test]
    fn a_missing_binary_says_what_to_do() {
        let error = binary(Some(Path::new("/no/tidegate"))).unwrap_err().to_string();
        assert!(error.contains("cargo build --release --workspace"), "{error}");
    }
}
