//! A connection to a collector. Every wait on it is bounded, and looks now and then whether it is
//! still worth waiting.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use tokio::time::Instant;

use super::wire;
use crate::config::settings::Forwarder;

/// For each address of the collector.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a wait looks whether it is still worth it.
const LOOK: Duration = Duration::from_millis(250);
/// A collector that takes no byte, or confirms nothing, for this long is given up.
const STALLED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Connection(TcpStream);

impl Connection {
    /// Connects to the first address that answers.
    pub(super) fn open(forwarder: &Forwarder) -> io::Result<Self> {
        let mut failed = None;
        for address in (forwarder.host.as_str(), forwarder.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(LOOK))?;
                    stream.set_read_timeout(Some(LOOK))?;
                    return Ok(Self(stream));
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::new(ErrorKind::NotFound, "it has no address")))
    }

    /// The same connection unless the collector has closed it.
    pub(super) fn if_open(mut self) -> Option<Self> {
        (!self.is_closed()).then_some(self)
    }

    /// What the collector said unasked is thrown away.
    fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 1024];
        if self.0.set_nonblocking(true).is_err() {
            return true;
        }
        let is_closed = loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        is_closed || self.0.set_nonblocking(false).is_err()
    }

    /// Writes a message. `is_worth_it` is asked while the collector takes nothing.
    pub(super) fn write(
        &mut self,
        mut message: &[u8],
        mut is_worth_it: impl FnMut() -> bool,
    ) -> io::Result<()> {
        let mut moved = Instant::now();
        while !message.is_empty() {
            match self.0.write(message) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    message = &message[written..];
                    moved = Instant::now();
                }
                Err(error) => still(&error, moved, "it does not read", &mut is_worth_it)?,
            }
        }
        Ok(())
    }

    /// Waits for the confirmation of a chunk.
    pub(super) fn wait_confirmed(
        &mut self,
        chunk: &str,
        mut is_worth_it: impl FnMut() -> bool,
    ) -> io::Result<()> {
        let (mut answer, mut buffer) = (Vec::new(), [0; 256]);
        let asked = Instant::now();
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
                Err(error) => still(&error, asked, "it does not confirm", &mut is_worth_it)?,
            }
            match wire::confirmed(&answer)? {
                Some(found) if found == chunk => return Ok(()),
                Some(_) => {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "it confirms another chunk",
                    ));
                }
                None => {}
            }
        }
    }
}

/// Whether a wait that was broken off goes on.
fn still(
    error: &io::Error,
    since: Instant,
    what: &'static str,
    is_worth_it: &mut impl FnMut() -> bool,
) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            if since.elapsed() < STALLED && is_worth_it() {
                Ok(())
            } else {
                Err(io::Error::new(ErrorKind::TimedOut, what))
            }
        }
        kind => Err(io::Error::new(kind, error.to_string())),
    }
}
