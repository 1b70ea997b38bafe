//! `loadtest origin` and `loadtest copy`: the servers that scenarios start as programs of their own.

use std::net::SocketAddr;

use clap::Args;
use tokio::net::{TcpListener, TcpSocket};

use super::Failure;
use crate::peers::{copier, origin};

/// Connections that may wait for being accepted.
const BACKLOG: u32 = 4096;

/// Options of `origin`.
#[derive(Args, Clone, Debug)]
pub(super) struct OriginArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

/// Options of `copy`.
#[derive(Args, Clone, Debug)]
pub(super) struct CopyArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,

    /// Where the bytes go
    #[arg(long, value_name = "ADDR")]
    upstream: SocketAddr,
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error: std::io::Error| format!("cannot listen on {address}: {error}").into())
}

/// Serves until it is stopped.
pub(super) async fn origin(args: &OriginArgs) -> Result<bool, Failure> {
    origin::serve(listen(args.listen)?).await?;
    Ok(true)
}

/// Copies until it is stopped.
pub(super) async fn copy(args: &CopyArgs) -> Result<bool, Failure> {
    copier::serve(listen(args.listen)?, args.upstream).await?;
    Ok(true)
}
