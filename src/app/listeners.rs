//! The listening sockets: opened all before anything is started, and told on standard output.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::TokenError;
use crate::admin::server::Config as AdminConfig;
use crate::cli::args::ListenArgs;
use crate::cli::say;
use crate::local::port_holder;
use crate::proxy::{Door, Entry};
use crate::tls::TlsError;

use super::https::{TlsServers, admin_token, https_port};
use super::inherited::Inherited;

/// Why there is nothing to serve on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("{0}")]
    Bind(String),
}

/// All sockets, open.
pub(super) struct Listeners {
    /// Data listeners, those with TLS last.
    pub(super) doors: Vec<Door>,
    /// Their addresses.
    pub(super) http: Vec<SocketAddr>,
    /// Those for callers inside.
    pub(super) inside: Vec<SocketAddr>,
    pub(super) https: Vec<SocketAddr>,
    /// Port by which clients reach the https listeners.
    pub(super) https_port: Option<u16>,
    pub(super) admin: AdminConfig,
    /// TLS of all of them.
    pub(super) tls: TlsServers,
}

impl Listeners {
    /// Opens what the command line asks for, but for what is `inherited`. `inside` are addresses
    /// for callers inside; `outside` says that callers at all others are not, whether or not there
    /// are any of those.
    ///
    /// # Errors
    /// An address that cannot be had, or certificates that cannot be used.
    pub(super) fn open(
        args: &ListenArgs,
        inside: &[SocketAddr],
        outside: bool,
        inherited: Inherited,
    ) -> Result<Self, ListenError> {
        inherited.tell();
        let tls = TlsServers::open(&args.https)?;
        let proxy_protocol = args.https.proxy_protocol;
        let api_is_local = outside;
        let outside = outside || !inside.is_empty() || !inherited.inside.is_empty();
        let plain = Arc::new(Entry { proxy_protocol, tls: None, outside, service: None });
        let tls_of_https = tls.https.as_ref().map(Arc::clone);
        let entry = Arc::new(Entry { proxy_protocol, tls: tls_of_https, outside, service: None });
        let mut doors = taken_over(inherited.http, &plain)?;
        if doors.is_empty() {
            let opened = open_doors(args)?.into_iter();
            doors.extend(opened.map(|door| door.with(Arc::clone(&plain))));
        }
        let mut of_inside = taken_over(inherited.inside, &Arc::default())?;
        if of_inside.is_empty() {
            of_inside = bind_all(inside, "--http-internal", &Arc::default())?;
        }
        let mut secure = taken_over(inherited.https, &entry)?;
        if secure.is_empty() {
            secure = bind_all(&args.https.https, "--https", &entry)?;
        }
        let admin = AdminConfig {
            token: admin_token(&args.https.admin.token)?,
            listener: inherited.admin.map_or_else(|| bind_admin(args.admin), Ok)?,
            hosts: args.admin_host.clone(),
            tls: tls.admin.clone(),
            // Where callers outside come in, the admin listener is open to them, too.
            api_is_local,
            reviewer: None,
            orders: None,
        };
        let of = |doors: &[Door]| doors.iter().map(Door::address).collect::<Vec<_>>();
        let (http, inside, https) = (of(&doors), of(&of_inside), of(&secure));
        let https_port = https_port(&args.https, &https);
        doors.extend(of_inside);
        doors.extend(secure);
        Ok(Self { doors, http, inside, https, https_port, admin, tls })
    }
}

fn open_doors(args: &ListenArgs) -> Result<Vec<Door>, ListenError> {
    let (addresses, given) = args.http_addresses();
    let mut doors = Vec::with_capacity(addresses.len());
    for address in addresses {
        match Door::bind(address) {
            Ok(door) => doors.push(door),
            // A machine without IPv6 is no reason to fail.
            Err(error)
                if !given
                    && !doors.is_empty()
                    && error.kind() == io::ErrorKind::AddrNotAvailable =>
            {
                tracing::info!(%address, "not listened on: this machine does not have it");
            }
            Err(error) => return Err(ListenError::Bind(taken(address, "--http", &error))),
        }
    }
    Ok(doors)
}

/// The sockets of a service manager.
fn taken_over(
    sockets: Vec<std::net::TcpListener>,
    entry: &Arc<Entry>,
) -> Result<Vec<Door>, ListenError> {
    let doors = sockets.into_iter().map(Door::of).collect::<io::Result<Vec<_>>>();
    let doors = doors.map_err(|error| {
        ListenError::Bind(format!("cannot listen at what the service manager opened: {error}"))
    })?;
    Ok(doors.into_iter().map(|door| door.with(Arc::clone(entry))).collect())
}

fn bind_all(
    addresses: &[SocketAddr],
    flag: &str,
    entry: &Arc<Entry>,
) -> Result<Vec<Door>, ListenError> {
    let bind = |address: &SocketAddr| match Door::bind(*address) {
        Ok(door) => Ok(door.with(Arc::clone(entry))),
        Err(error) => Err(ListenError::Bind(taken(*address, flag, &error))),
    };
    addresses.iter().map(bind).collect()
}

/// Where the admission webhook listens.
pub(super) fn bind_webhook(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    std::net::TcpListener::bind(address)
        .map_err(|error| ListenError::Bind(taken(address, "--webhook", &error)))
}

/// Where kubelets ask about pods that have to go.
pub(super) fn bind_prestop(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    std::net::TcpListener::bind(address)
        .map_err(|error| ListenError::Bind(taken(address, "--prestop", &error)))
}

/// Where other proxies call.
pub(super) fn bind_peers(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    std::net::TcpListener::bind(address)
        .map_err(|error| ListenError::Bind(taken(address, "--peers", &error)))
}

fn bind_admin(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    std::net::TcpListener::bind(address)
        .map_err(|error| ListenError::Bind(taken(address, "--admin", &error)))
}

/// Why an address cannot be listened on, who has it, and what to do.
fn taken(address: SocketAddr, flag: &str, error: &io::Error) -> String {
    let holder = (error.kind() == io::ErrorKind::AddrInUse)
        .then(|| port_holder(address.port()))
        .flatten()
        .map(|holder| format!("; {holder} has it"))
        .unwrap_or_default();
    format!("cannot listen on {address}: {error}{holder}; choose another with {flag} ADDR")
}

/// The one line on standard output that says where everything is.
pub(super) fn announce(
    http: &[SocketAddr],
    inside: &[SocketAddr],
    https: &[SocketAddr],
    admin: SocketAddr,
) {
    let all = |name: &str, addresses: &[SocketAddr]| -> String {
        addresses.iter().map(|address| format!("{name}={address} ")).collect()
    };
    let (http, inside) = (all("http", http), all("http-internal", inside));
    say(format_args!("listening {http}{inside}{}admin={admin}", all("https", https)));
}
