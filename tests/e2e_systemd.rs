//! Sockets, readiness and restarts as systemd's protocol has them, with a launcher that stands in
//! for systemd: nothing of it needs to be installed.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "support/client.rs"]
mod client;
#[path = "support/https.rs"]
mod https;
#[path = "support/serving.rs"]
mod serving;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use client::{Answer, empty, get, h1, request, send1, soon};
use serving::{Service, Tidegate, host, needs, repository, tidegate, until};
use tokio::net::UnixDatagram;

/// Puts descriptors where the protocol wants them and becomes tidegate: arguments are the names,
/// the descriptors, both parted by `:`, and the command.
const LAUNCH: &str = r#"
import fcntl, os, sys
names, given, command = sys.argv[1], sys.argv[2].split(":"), sys.argv[3:]
# Away from where they have to be first: none is lost to one that is moved before it.
moved = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 64) for fd in given]
for fd in given:
    os.close(int(fd))
for place, fd in enumerate(moved, 3):
    os.dup2(fd, place)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"#;

/// A command that starts with these sockets, and what it needs open until it has.
struct Launch {
    command: Command,
    _open: Vec<OwnedFd>,
}

/// `tidegate` with further arguments, and with sockets by name.
fn launch(names: &str, sockets: &[&dyn AsFd], arguments: &[&str]) -> Launch {
    needs("python3", "python3");
    let program = tidegate();
    let mut command = Command::new("python3");
    for (name, value) in program.get_envs() {
        assert!(value.is_none(), "variables are only taken away");
        command.env_remove(name);
    }
    // A copy is inherited, as nothing closes it when another program takes over.
    let open: Vec<OwnedFd> =
        sockets.iter().map(|socket| rustix::io::dup(socket.as_fd()).unwrap()).collect();
    let numbers: Vec<String> = open.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    command.arg("-c").arg(LAUNCH).arg(names).arg(numbers.join(":"));
    command.arg(program.get_program()).args(arguments).current_dir(repository("."));
    Launch { command, _open: open }
}

/// The same as a process that serves.
fn served(
    manifests: &Path,
    names: &str,
    sockets: &[&dyn AsFd],
    arguments: &[&str],
    notify: Option<&Path>,
) -> Tidegate {
    let serve = ["serve", "--state-dir", "none", "-f", manifests.to_str().unwrap()];
    let all = [&serve, arguments].concat();
    let Launch { mut command, _open } = launch(names, sockets, &all);
    if let Some(notify) = notify {
        command.env("NOTIFY_SOCKET", notify);
    }
    Tidegate::spawned(command)
}

/// A file of one service that answers from inside this machine.
fn manifests(service: &Service) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), service.yaml()).unwrap();
    file
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn hello(address: SocketAddr) -> Answer {
    get(address, &host("hello"), "/").await
}

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

#[tokio::test]
async fn who_comes_before_the_process_waits_for_it() {
    let file = manifests(&Service::new("hello"));
    let (socket, address) = listener();
    // Connected and sent before anything runs that could answer.
    let mut early = h1(address).await;
    let waiting = tokio::spawn(async move {
        send1(&mut early, request("GET", &host("hello"), "/").body(empty()).unwrap()).await
    });
    let tidegate = served(file.path(), "http", &[&socket], &ADMIN, None);
    assert_eq!(tidegate.http, [address], "the default addresses are not opened beside it");
    let answer = soon(waiting).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "Hello World!\n"));
    assert!(tidegate.log().contains("listening at what the service manager opened"));
}

#[tokio::test]
async fn a_restart_loses_no_request() {
    let file = manifests(&Service::new("hello"));
    let (socket, address) = listener();
    let start = || served(file.path(), "http", &[&socket], &ADMIN, None);
    let mut tidegate = start();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(hello(address).await.status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let before = answered.load(Ordering::Relaxed);
        let more = || answered.load(Ordering::Relaxed) >= before + 50;
        until("requests between two restarts", more).await;
        tidegate.terminate();
        assert!(tidegate.ended().await.success());
        // Nobody is there, and a client comes all the same.
        let waiting = tokio::spawn(hello(address));
        tidegate = start();
        assert_eq!(soon(waiting).await.unwrap().status, 200);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        soon(client).await.unwrap();
    }
}

#[tokio::test]
async fn sockets_of_every_name_are_taken_over() {
    let file = manifests(&Service::new("hello"));
    let authority = https::Authority::new();
    let pair = authority.issue("hello", &[&host("hello")]);
    let sockets: Vec<(TcpListener, SocketAddr)> = (0..5).map(|_| listener()).collect();
    let all: Vec<&dyn AsFd> = sockets.iter().map(|(socket, _)| socket as &dyn AsFd).collect();
    let at = |index: usize| sockets[index].1;
    let secure = ["--https", "127.0.0.1:1"];
    let arguments = [&secure[..], &pair.arguments()].concat();
    let names = "https:http:admin:http-internal:http";
    let tidegate = served(file.path(), names, &all, &arguments, None);
    assert_eq!(tidegate.https, [at(0)]);
    assert_eq!(tidegate.http, [at(1), at(4)]);
    assert_eq!(tidegate.admin, at(2));
    assert_eq!(tidegate.inside, [at(3)]);
    for address in [at(1), at(3), at(4)] {
        assert_eq!(hello(address).await.status, 200);
    }
    // A listener for callers inside makes the others one for those outside.
    assert_eq!(get(at(3), "hello.default.svc", "/").await.status, 200);
    assert_eq!(get(at(1), "hello.default.svc", "/").await.status, 404);
    assert_eq!(get(at(2), "localhost", "/livez").await.status, 200);
    let client = authority.client(&["http/1.1"]);
    let mut secured = client.h1(at(0), &host("hello")).await;
    let get = request("GET", &host("hello"), "/").body(empty()).unwrap();
    assert_eq!(send1(&mut secured, get).await.status, 200);
}

#[tokio::test]
async fn replicas_have_neither_the_sockets_nor_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!("env >{0}.part; mv {0}.part {0}; exec tidegate echo", seen.display());
    let file = manifests(&Service::new("hello").shell(&script));
    let (socket, address) = listener();
    let notify = folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let tidegate = served(file.path(), "http", &[&socket], &ADMIN, Some(&notify));
    assert_eq!(hello(address).await.status, 200);
    let variables = std::fs::read_to_string(&seen).unwrap();
    for name in ["LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES=", "NOTIFY_SOCKET="] {
        assert!(!variables.contains(name), "{name} in {variables}");
    }
    assert!(variables.contains("K_SERVICE=hello"), "{variables}");
    let number = socket.as_raw_fd();
    let inode = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    for pid in tidegate.descendants() {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        for descriptor in descriptors.flatten() {
            let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
            assert_ne!(target, inode, "process {pid} has the listening socket");
        }
    }
    drop(manager);
}

async fn told(manager: &UnixDatagram) -> String {
    let mut text = [0; 200];
    let length = soon(manager.recv(&mut text)).await.unwrap();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[tokio::test]
async fn the_manager_learns_when_it_serves_and_when_it_drains() {
    let file = manifests(&Service::new("hello"));
    let folder = tempfile::tempdir().unwrap();
    let notify = folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    let (socket, address) = listener();
    let mut tidegate = served(file.path(), "http", &[&socket], &ADMIN, Some(&notify));
    assert_eq!(told(&manager).await, "READY=1\nSTATUS=serving");
    assert_eq!(hello(address).await.status, 200);
    let mut slow = h1(address).await;
    let running = tokio::spawn(async move {
        let get = request("GET", &host("hello"), "/delay?ms=1000").body(empty()).unwrap();
        send1(&mut slow, get).await
    });
    soon(async {
        let revision = "/api/v1/revisions/default/hello-00001";
        while get(tidegate.admin, "localhost", revision).await.json()["in_flight"] != 1 {}
    })
    .await;
    tidegate.terminate();
    assert!(told(&manager).await.starts_with("STOPPING=1\n"));
    assert_eq!(soon(running).await.unwrap().status, 200);
    assert!(tidegate.ended().await.success());
}

/// How a start ends that is refused.
fn refused(names: &str, sockets: &[&dyn AsFd], arguments: &[&str]) -> (Option<i32>, String) {
    let Launch { mut command, _open } = launch(names, sockets, arguments);
    let output: Output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_socket_without_use_is_refused_with_what_to_write() {
    let file = manifests(&Service::new("hello"));
    let serve = ["serve", "--state-dir", "none", "-f", file.path().to_str().unwrap()];
    let serve = [&serve[..], &ADMIN].concat();
    let folder = tempfile::tempdir().unwrap();
    let (tcp, address) = listener();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
    let connection = std::net::TcpStream::connect(address).unwrap();
    let plain = std::fs::File::open(file.path()).unwrap();
    let cases: [(&str, &[&dyn AsFd], &str); 8] = [
        ("tidegate.socket", &[&tcp], "write one of FileDescriptorName=http"),
        ("http:web", &[&tcp, &tcp], "socket 2 is named \"web\""),
        ("http", &[&udp], "in place of ListenDatagram= in its .socket file"),
        ("admin", &[&unix], "write ListenStream=PORT or ListenStream=ADDRESS:PORT, not a path"),
        ("http", &[&connection], "write Accept=no in its .socket file"),
        ("http", &[&plain], "is no TCP socket: write ListenStream=PORT"),
        ("admin:admin", &[&tcp, &tcp], "keep one ListenStream= line"),
        ("https", &[&tcp], "add --https ADDR --tls-cert FILE"),
    ];
    for (names, sockets, says) in cases {
        let (code, text) = refused(names, sockets, &serve);
        assert_eq!(code, Some(78), "{names}: {text}");
        assert!(text.contains(says), "{names}: {text}");
    }
    let (code, text) = refused("http", &[&tcp, &tcp], &serve);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("LISTEN_FDS says 2 sockets and LISTEN_FDNAMES has 1 names"), "{text}");
    let sidecar = ["sidecar", "--upstream", "127.0.0.1:1", "--container-concurrency", "1"];
    let (code, text) = refused("http-internal", &[&tcp], &sidecar);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("http-internal is for `serve`"), "{text}");
}

/// Variables that are meant for somebody else, such as the process that started this one.
#[tokio::test]
async fn sockets_of_another_process_are_not_touched() {
    let file = manifests(&Service::new("hello"));
    let mut command = tidegate();
    command.args(["serve", "--state-dir", "none", "--http", "127.0.0.1:0"]).args(ADMIN);
    command.arg("-f").arg(file.path());
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "http:admin");
    let tidegate = Tidegate::spawned(command);
    assert_eq!(hello(tidegate.address()).await.status, 200);
}
