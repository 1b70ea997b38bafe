//! Tells the service manager how far the process is, as sd_notify(3) says.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where to tell it; nobody asks where no service manager has started this process.
#[derive(Debug, Default)]
pub(super) struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    /// The one that `NOTIFY_SOCKET` names.
    pub(super) fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let opened = address(name.as_encoded_bytes()).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A manager that is stuck is no reason to be stuck, too.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match opened {
            Ok(open) => Self(Some(open)),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything");
                Self(None)
            }
        }
    }

    /// Requests are served.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The last requests are served, and no new ones.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining: the last requests are served");
    }

    fn tell(&self, state: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, "the service manager was not told: {}", state.replace('\n', " "));
        }
    }
}

/// A path, or a name of the kernel's own that begins with `@`.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::unix::ffi::OsStrExt as _;
    match name {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)
        }
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_names_are_understood() {
        let path = address(b"/run/x/notify").unwrap();
        assert_eq!(path.as_pathname(), Some(std::path::Path::new("/run/x/notify")));
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt as _;
            let own = address(b"@/x/notify").unwrap();
            assert_eq!(own.as_abstract_name(), Some(b"/x/notify".as_slice()));
        }
    }

    #[test]
    fn states_reach_the_manager() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager_end = UnixDatagram::bind(&path).unwrap();
        let address = address(path.as_os_str().as_encoded_bytes()).unwrap();
        let manager = Manager(Some((UnixDatagram::unbound().unwrap(), address)));
        let mut told = [0; 100];
        manager.ready();
        let length = manager_end.recv(&mut told).unwrap();
        assert_eq!(&told[..length], b"READY=1\nSTATUS=serving");
        manager.stopping();
        let length = manager_end.recv(&mut told).unwrap();
        assert!(told[..length].starts_with(b"STOPPING=1\n"));
        // Nobody is told where nobody asked.
        Manager::default().ready();
    }
}
