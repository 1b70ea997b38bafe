//! What stands behind tidegate: a replica that the test plays, or a real server behind a tap.
//! Either way every byte is recorded.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::case::Script;
use crate::message::{self, Read};

/// How long a replica that is asked for an upgrade looks for bytes before it has agreed.
const BEFORE_SWITCHING: Duration = Duration::from_millis(50);

/// One connection from tidegate.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Bytes from tidegate, and from the replica.
    pub(crate) asked: Vec<u8>,
    pub(crate) said: Vec<u8>,
    /// tidegate has closed it.
    pub(crate) closed: bool,
    /// Bytes that came before the replica had agreed to switch protocols.
    pub(crate) early: Vec<u8>,
    /// Where the tunnel begins in `asked`.
    pub(crate) tunnel: Option<usize>,
}

type Wires = Arc<Mutex<Vec<Arc<Mutex<Wire>>>>>;

/// A replica and its record.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    wires: Wires,
    script: Arc<Mutex<Option<Script>>>,
}

impl Replica {
    /// Played by the test, or the server that listens at `socket`.
    pub(crate) async fn start(socket: Option<PathBuf>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wires = Wires::default();
        let script = Arc::new(Mutex::new(None));
        let replica = Self { address, wires: Arc::clone(&wires), script: Arc::clone(&script) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let wire = Arc::new(Mutex::new(Wire::default()));
                wires.lock().push(Arc::clone(&wire));
                let (socket, script) = (socket.clone(), Arc::clone(&script));
                tokio::spawn(async move {
                    match socket {
                        Some(socket) => tap(stream, &socket, &wire).await,
                        None => play(stream, &wire, &script).await,
                    }
                    wire.lock().closed = true;
                });
            }
        });
        replica
    }

    /// Begins a case: what was recorded before is forgotten, but for where messages begin.
    pub(crate) fn begin(&self, script: Option<Script>) {
        *self.script.lock() = script;
        let mut wires = self.wires.lock();
        wires.retain(|wire| {
            let wire = wire.lock();
            !wire.closed && wire.tunnel.is_none()
        });
        for wire in &*wires {
            let wire = &mut *wire.lock();
            wire.asked.clear();
            wire.said.clear();
        }
    }

    /// What was recorded since.
    pub(crate) fn wires(&self) -> Vec<Arc<Mutex<Wire>>> {
        self.wires.lock().clone()
    }
}

/// Copies bytes to a server and back.
async fn tap(stream: TcpStream, socket: &std::path::Path, wire: &Mutex<Wire>) {
    let Ok(server) = UnixStream::connect(socket).await else { return };
    let (mut from_tidegate, mut to_tidegate) = stream.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from_tidegate.read(&mut buffer).await {
            wire.lock().asked.extend_from_slice(&buffer[..n]);
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    let saying = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            wire.lock().said.extend_from_slice(&buffer[..n]);
            if to_tidegate.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! { () = asking => {}, () = saying => {} }
}

/// Reads requests strictly, and answers them.
async fn play(mut stream: TcpStream, wire: &Mutex<Wire>, script: &Mutex<Option<Script>>) {
    let mut input = Vec::new();
    let mut continued = false;
    loop {
        // What it finds malformed is found again in the record.
        let Ok(read) = message::request(&input) else { return };
        let (request, length) = match read {
            Read::Whole(request, length) => (request, length),
            Read::Partial(head) => {
                if let Some(head) = &head {
                    let script = script_for(script, &head.target);
                    if let Some(script) = script.filter(|script| script.early) {
                        say(&mut stream, wire, &script.answer).await;
                        if script.close {
                            return;
                        }
                        // Whatever comes is only recorded.
                        while take(&mut stream, wire, &mut input).await {}
                        return;
                    }
                    if head.expects && !continued {
                        continued = true;
                        say(&mut stream, wire, b"HTTP/1.1 100 Continue\r\n\r\n").await;
                    }
                }
                if !take(&mut stream, wire, &mut input).await {
                    return;
                }
                continue;
            }
        };
        continued = false;
        input.drain(..length);
        let script = script_for(script, &request.target);
        if request.upgrade {
            let before = input.len();
            let early = take(&mut stream, wire, &mut input);
            let more = tokio::time::timeout(BEFORE_SWITCHING, early).await;
            if matches!(more, Ok(true)) || before > 0 {
                wire.lock().early.clone_from(&input);
            }
        }
        let answer = match &script {
            Some(script) => script.answer.clone(),
            None => usual(&request.method, &request.target),
        };
        if answer.starts_with(b"HTTP/1.1 101 ") {
            {
                let mut wire = wire.lock();
                wire.tunnel = Some(wire.asked.len());
            }
            say(&mut stream, wire, &answer).await;
            // What comes now is no request.
            while take(&mut stream, wire, &mut input).await {}
            return;
        }
        say(&mut stream, wire, &answer).await;
        if script.is_some_and(|script| script.close) {
            return;
        }
    }
}

/// The script is for all but the requests by which the test looks whether all is well.
fn script_for(script: &Mutex<Option<Script>>, target: &[u8]) -> Option<Script> {
    if target.starts_with(b"/canary") { None } else { script.lock().clone() }
}

fn usual(method: &str, target: &[u8]) -> Vec<u8> {
    let body = [method.as_bytes(), b" ", target, b"\n"].concat();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    if method == "HEAD" { head.into_bytes() } else { [head.as_bytes(), &body].concat() }
}

async fn take(stream: &mut TcpStream, wire: &Mutex<Wire>, input: &mut Vec<u8>) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    match stream.read(&mut buffer).await {
        Ok(n @ 1..) => {
            input.extend_from_slice(&buffer[..n]);
            wire.lock().asked.extend_from_slice(&buffer[..n]);
            true
        }
        _ => false,
    }
}

async fn say(stream: &mut TcpStream, wire: &Mutex<Wire>, bytes: &[u8]) {
    wire.lock().said.extend_from_slice(bytes);
    // tidegate may be gone.
    let _ = stream.write_all(bytes).await;
}
