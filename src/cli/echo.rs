//! `tidegate echo`: the built-in backend that examples, tests and measurements use as a replica.
//!
//! One thread, one port, nothing prepared ahead: it listens within a millisecond or two of its
//! start, because how fast it starts is the floor of every cold-start measurement.

mod body;
mod connection;
mod grpc;
mod http;
mod query;
mod state;
mod websocket;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::EchoArgs;
use super::exit;
use state::State;

/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Runs the backend until SIGTERM or SIGINT; requests in flight are finished first, unless a
/// second signal arrives. `/exit?code=N` ends it at once with that code.
pub fn run(args: &EchoArgs) -> ExitCode {
    let address = args.address();
    let result = listen(address).and_then(|listener| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let code = runtime.block_on(serve(listener, args));
        // Connections that a second signal left behind are not waited for.
        runtime.shutdown_background();
        code
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "tidegate echo: cannot serve on {address}: {error}; choose another port with \
                 --port (0 = any free one)"
            );
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

async fn serve(listener: std::net::TcpListener, args: &EchoArgs) -> io::Result<u8> {
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (exit_now, mut exit_asked) = mpsc::channel(1);
    let (state, stop) = State::new(args, address.port(), exit_now);
    // Each connection holds a clone; when the last one is gone the drain is over.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    // Nobody may be reading; that is no reason not to serve.
    let _ = writeln!(io::stdout(), "listening http={address}");

    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let task = connection::serve(stream, Arc::clone(&state), alive.clone());
                    tokio::spawn(task);
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            code = exit_asked.recv() => return Ok(code.unwrap_or_default()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    drop(alive);
    stop.send_replace(true);
    tokio::select! {
        _ = all_gone.recv() => Ok(0),
        code = exit_asked.recv() => Ok(code.unwrap_or_default()),
        _ = terminate.recv() => Ok(exit::FAILURE),
        _ = interrupt.recv() => Ok(exit::FAILURE),
    }
}
