//! Listening sockets that a service manager opened before this process began, as sd_listen_fds(3)
//! says: they stay open from one life of the process to the next, so that clients wait and are not
//! refused.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

use crate::cli::args::ListenArgs;

/// Names that a socket may have, and the option whose addresses it stands in for.
const ROLES: [(&str, Role); 4] = [
    ("http", Role::Http),
    ("https", Role::Https),
    ("http-internal", Role::HttpInternal),
    ("admin", Role::Admin),
];

/// What comes in at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Http,
    Https,
    HttpInternal,
    Admin,
}

/// The sockets, by what comes in there. Where there is one, the option of its name opens none.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) http: Vec<TcpListener>,
    pub(super) https: Vec<TcpListener>,
    pub(super) inside: Vec<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

/// What cannot be used, and what to write in the unit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InheritError(String);

impl Inherited {
    /// Takes them over, so that no child has them too. To be called before anything else is opened
    /// or started: the descriptors are known by their number only.
    ///
    /// # Errors
    /// A socket that has no use here.
    pub(super) fn take() -> Result<Self, InheritError> {
        // Without a process named they may be anybody's, such as a parent's.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").ok().filter(|names| !names.is_empty());
        let mut descriptors = ListenFd::from_env();
        let names = named(names.as_deref(), descriptors.len())?;
        let mut sockets = Self::default();
        for (index, name) in names.iter().enumerate() {
            let role = role(name, index)?;
            sockets.add(role, listener(&mut descriptors, name, index)?)?;
        }
        Ok(sockets)
    }

    fn add(&mut self, role: Role, socket: TcpListener) -> Result<(), InheritError> {
        match role {
            Role::Http => self.http.push(socket),
            Role::Https => self.https.push(socket),
            Role::HttpInternal => self.inside.push(socket),
            Role::Admin if self.admin.is_some() => {
                return Err(InheritError(
                    "two sockets are named admin: keep one ListenStream= line where \
                     FileDescriptorName=admin stands"
                        .to_owned(),
                ));
            }
            Role::Admin => self.admin = Some(socket),
        }
        Ok(())
    }

    /// Whether the command line has what the sockets need.
    ///
    /// # Errors
    /// What to add to it.
    pub(super) fn check(&self, args: &ListenArgs) -> Result<(), InheritError> {
        if !self.https.is_empty() && args.https.https.is_empty() {
            return Err(InheritError(
                "a socket named https needs a certificate: add --https ADDR --tls-cert FILE \
                 --tls-key FILE to ExecStart= (the socket stands in for ADDR), or disable its \
                 .socket unit"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The same without sockets for callers inside, where there is no such listener.
    ///
    /// # Errors
    /// There is one.
    pub(super) fn without_inside(self) -> Result<Self, InheritError> {
        if self.inside.is_empty() {
            return Ok(self);
        }
        Err(InheritError(
            "a socket named http-internal is for `serve`: write FileDescriptorName=http in its \
             .socket file"
                .to_owned(),
        ))
    }

    /// Says in the log what was taken over.
    pub(super) fn tell(&self) {
        let addresses = |sockets: &[TcpListener]| -> String {
            let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok());
            addresses.map(|address: SocketAddr| format!("{address} ")).collect()
        };
        let all = [
            ("http", addresses(&self.http)),
            ("https", addresses(&self.https)),
            ("http-internal", addresses(&self.inside)),
            ("admin", addresses(self.admin.as_slice())),
        ];
        for (name, addresses) in all.iter().filter(|(_, addresses)| !addresses.is_empty()) {
            let addresses = addresses.trim_end();
            tracing::info!(name, addresses, "listening at what the service manager opened");
        }
    }
}

/// A name for each socket. Where none is told, requests come in at all of them.
fn named(names: Option<&str>, count: usize) -> Result<Vec<String>, InheritError> {
    let Some(names) = names else { return Ok(vec!["http".to_owned(); count]) };
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if count > 0 && names.len() != count {
        return Err(InheritError(format!(
            "LISTEN_FDS says {count} sockets and LISTEN_FDNAMES has {} names: whoever starts \
             tidegate has to give each socket one name",
            names.len()
        )));
    }
    Ok(if count == 0 { Vec::new() } else { names })
}

fn role(name: &str, index: usize) -> Result<Role, InheritError> {
    if let Some((_, role)) = ROLES.iter().find(|(known, _)| *known == name) {
        return Ok(*role);
    }
    let known = ROLES.map(|(name, _)| format!("FileDescriptorName={name}"));
    // Without FileDescriptorName= systemd gives a socket the name of its unit.
    let file = if name.ends_with(".socket") { name } else { "its .socket file" };
    Err(InheritError(format!(
        "socket {} is named {name:?}, which says nothing of what comes in there: write one of {} \
         below [Socket] in {file}",
        index + 1,
        known.join(", ")
    )))
}

/// The socket of this index, if connections can be accepted there.
fn listener(
    descriptors: &mut ListenFd,
    name: &str,
    index: usize,
) -> Result<TcpListener, InheritError> {
    let unusable = |what: &str, instead: &str| {
        InheritError(format!("the socket named {name} {what}: {instead} in its .socket file"))
    };
    let streams = "write ListenStream=PORT or ListenStream=ADDRESS:PORT";
    match descriptors.take_tcp_listener(index) {
        Ok(Some(socket)) if SockRef::from(&socket).is_listener().unwrap_or(false) => Ok(socket),
        Ok(Some(_)) => Err(unusable("is a connection and not a listener", "write Accept=no")),
        _ if is_some(descriptors.take_udp_socket(index)) => Err(unusable(
            "takes datagrams (UDP)",
            &format!("{streams} in place of ListenDatagram="),
        )),
        _ if is_some(descriptors.take_unix_listener(index))
            || is_some(descriptors.take_unix_datagram(index)) =>
        {
            Err(unusable("is a file in a folder and not a port", &format!("{streams}, not a path")))
        }
        _ => Err(unusable("is no TCP socket", streams)),
    }
}

fn is_some<T>(taken: std::io::Result<Option<T>>) -> bool {
    matches!(taken, Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_has_one_name() {
        assert_eq!(named(None, 2).unwrap(), ["http", "http"]);
        assert_eq!(named(Some("http:admin"), 2).unwrap(), ["http", "admin"]);
        assert_eq!(named(Some("http"), 0).unwrap(), [""; 0], "somebody else's");
        let error = named(Some("http"), 2).unwrap_err().to_string();
        assert!(error.starts_with("LISTEN_FDS says 2 sockets and LISTEN_FDNAMES has 1"), "{error}");
    }

    #[test]
    fn a_name_says_what_comes_in() {
        assert_eq!(role("http-internal", 0), Ok(Role::HttpInternal));
        let error = role("tidegate-admin.socket", 1).unwrap_err().to_string();
        assert!(error.contains("socket 2"), "{error}");
        assert!(error.contains("FileDescriptorName=admin below"), "{error}");
        assert!(error.ends_with("in tidegate-admin.socket"), "{error}");
        assert!(role("HTTP", 0).unwrap_err().to_string().ends_with("in its .socket file"));
    }
}
