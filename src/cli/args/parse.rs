//! Values of options from their text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::ObjectName;

/// Which program a service is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunCommand {
    /// The service's namespace; none = any.
    pub namespace: Option<String>,
    /// The service's name.
    pub name: String,
    /// A shell's command line.
    pub command: String,
}

/// Where revisions are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateDir {
    /// Nowhere.
    None,
    /// In this folder.
    Path(PathBuf),
}

impl FromStr for StateDir {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("write a folder, or none"),
            "none" => Ok(Self::None),
            folder => Ok(Self::Path(folder.into())),
        }
    }
}

impl RunCommand {
    /// Whom it is for, as written: `NAME` or `NAMESPACE/NAME`.
    pub fn target(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

pub(super) fn run_command(text: &str) -> Result<RunCommand, String> {
    let (name, command) = text
        .split_once('=')
        .filter(|(name, command)| !name.is_empty() && !command.trim().is_empty())
        .ok_or("write NAME=COMMAND, for example hello='python3 app.py'")?;
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, name),
    };
    Ok(RunCommand { namespace, name: name.to_owned(), command: command.to_owned() })
}

/// What `wait` waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Each revision with traffic has a ready replica.
    Ready,
    /// The revision of this name has one.
    Revision(String),
}

pub(super) fn wait_for(text: &str) -> Result<WaitFor, String> {
    match text.split_once('=') {
        None if text == "ready" => Ok(WaitFor::Ready),
        Some(("revision", name)) if !name.is_empty() => Ok(WaitFor::Revision(name.to_owned())),
        _ => Err("write ready or revision=NAME".to_owned()),
    }
}

/// A share of traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Name of the revision; none = the latest one.
    pub revision: Option<String>,
    /// Per cent.
    pub percent: u8,
}

pub(super) fn share(text: &str) -> Result<Share, String> {
    let help = || "write REVISION=PERCENT, for example hello-00001=90".to_owned();
    let (name, percent) = text.split_once('=').ok_or_else(help)?;
    let percent = percent.trim_end_matches('%').parse().map_err(|_error| help())?;
    if name.is_empty() || percent > 100 {
        return Err(help());
    }
    // As `kn` has it.
    let revision = (name != "@latest").then(|| name.to_owned());
    Ok(Share { revision, percent })
}

pub(super) fn object_name(text: &str) -> Result<ObjectName, String> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err("write NAME or NAMESPACE/NAME".to_owned());
    }
    Ok(ObjectName::new(namespace, name))
}

/// `IP:PORT`, `:PORT` for all addresses, `localhost:PORT`.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    const HELP: &str = "write IP:PORT, for example 127.0.0.1:8080, [::1]:8080, or :8080 for all \
                        addresses of this machine";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or(HELP)?;
    let port = port.parse().or(Err(HELP))?;
    let ip = match host {
        "" => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        _ => return Err(HELP.to_owned()),
    };
    Ok(SocketAddr::new(ip, port))
}

/// An address that may leave its port to another option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port, if it has one.
    pub port: Option<u16>,
}

/// What [`listen_address`] takes, and `IP` or `[IPV6]` without port.
pub(super) fn host_address(text: &str) -> Result<HostAddress, String> {
    let without_port = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        // Without brackets, where would an IPv6 address end and its port begin?
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    };
    if let Some(ip) = without_port {
        return Ok(HostAddress { ip, port: None });
    }
    let address = listen_address(text)
        .map_err(|help| format!("{help}; without a port: 0.0.0.0 or [::], and --port counts"))?;
    Ok(HostAddress { ip: address.ip(), port: Some(address.port()) })
}

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// An IP address or a name that is looked up.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// `PORT`, `IP:PORT`, `NAME:PORT`.
pub(super) fn upstream(text: &str) -> Result<UpstreamAddress, String> {
    const HELP: &str = "write PORT, IP:PORT or NAME:PORT, for example 9000, 127.0.0.1:9000, \
                        [::1]:9000 or app:9000";
    if let Ok(address) = text.parse::<SocketAddr>() {
        let found = UpstreamAddress { host: address.ip().to_string(), port: address.port() };
        return if found.port == 0 { Err(HELP.to_owned()) } else { Ok(found) };
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let host = if host.is_empty() { "localhost" } else { host };
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(HELP)?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !host.bytes().all(is_name) {
        return Err(HELP.to_owned());
    }
    Ok(UpstreamAddress { host: host.to_owned(), port })
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|error| format!("{error}: write a network, for example 10.0.0.0/8 or fd00::/8"))
}

/// A number with `ms`, `s`, `m` or `h`; seconds without.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const HELP: &str = "write a time, for example 500ms, 30s, 2m";
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(HELP.to_owned()),
    };
    let number: f64 = number.parse().or(Err(HELP))?;
    Duration::try_from_secs_f64(number * seconds).or(Err(HELP.to_owned()))
}

pub(super) fn health_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text.contains(['?', '#', ' ']) {
        return Err("write a path without query, for example /healthz".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn sample(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|part| (0.0..=1.0).contains(part))
        .ok_or_else(|| "write a part from 0 to 1, for example 0.01".to_owned())
}
