//! Making a connection to an endpoint.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::TcpStream;

use super::socket::Socket;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers connection attempts in memory.
pub type MemoryNetwork = Arc<dyn Fn(SocketAddr) -> io::Result<DuplexStream> + Send + Sync>;

/// How endpoints are reached.
#[derive(Clone)]
pub enum Connector {
    /// TCP.
    Tcp,
    /// In memory, for tests and simulation.
    Memory(MemoryNetwork),
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::Memory(_) => "Memory",
        })
    }
}

impl Connector {
    /// Connects within a second.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<Socket> {
        match self {
            Self::Tcp => {
                let connect = TcpStream::connect(address);
                let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(
                    |_elapsed| io::Error::new(io::ErrorKind::TimedOut, "no connection within 1 s"),
                )??;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Memory(network) => network(address).map(Socket::Memory),
        }
    }
}
