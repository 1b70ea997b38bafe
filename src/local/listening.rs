//! Who listens where, from `/proc`: finds the port of a program that ignores `PORT`, and the
//! holder of a port that a program wanted. Linux only; elsewhere nothing is found.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    inode: u64,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: i32,
    /// Its group.
    pub(super) group: i32,
    /// Its name, at most 15 characters.
    pub(super) name: String,
}

/// Addresses at which a process group listens, one per port: loopback where the socket is bound
/// to any address. Sorted by port.
pub(super) fn listening_addresses(group: i32) -> Vec<SocketAddr> {
    let inodes: HashSet<u64> = processes()
        .into_iter()
        .filter(|process| process.group == group)
        .flat_map(|process| sockets_of(process.pid))
        .collect();
    let mut by_port: HashMap<u16, SocketAddr> = HashMap::new();
    for socket in listening_sockets().into_iter().filter(|socket| inodes.contains(&socket.inode)) {
        let address = reachable(socket.address);
        let held = by_port.entry(address.port()).or_insert(address);
        if address.is_ipv4() {
            *held = address;
        }
    }
    let mut addresses: Vec<SocketAddr> = by_port.into_values().collect();
    addresses.sort_by_key(SocketAddr::port);
    addresses
}

/// The process that listens on a port; none when nobody does. Another user's process cannot be
/// told: then `Some(None)`.
pub(super) fn holder(port: u16) -> Option<Option<Process>> {
    let inodes: HashSet<u64> = listening_sockets()
        .into_iter()
        .filter(|socket| socket.address.port() == port)
        .map(|socket| socket.inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    Some(
        processes()
            .into_iter()
            .find(|process| sockets_of(process.pid).iter().any(|inode| inodes.contains(inode))),
    )
}

/// Who listens on a port, for people: `process 4711 (nginx)`. None when nobody does, or where
/// that cannot be told (macOS).
pub fn port_holder(port: u16) -> Option<String> {
    Some(described(holder(port)?.as_ref()))
}

/// The holder of a port in a text.
pub(super) fn described(holder: Option<&Process>) -> String {
    holder.map_or_else(
        || "a process of another user".to_owned(),
        |process| format!("process {} ({})", process.pid, process.name),
    )
}

/// Ports named in what a program printed about an address in use. Empty when it printed no such
/// thing.
pub(super) fn ports_in_use(lines: &[String]) -> Vec<u16> {
    const SIGNS: [&str; 4] =
        ["eaddrinuse", "address already in use", "address in use", "only one usage of each socket"];
    let said = |line: &String| {
        let line = line.to_ascii_lowercase();
        SIGNS.iter().any(|sign| line.contains(sign))
    };
    if !lines.iter().any(said) {
        return Vec::new();
    }
    let mut ports = Vec::new();
    // The line that says so first, then those around it (Node prints `port: 3000` below).
    for line in lines.iter().filter(|line| said(line)).chain(lines) {
        for port in numbers(line) {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    ports
}

/// Numbers that can be a port: after a colon, a blank or an equals sign.
fn numbers(line: &str) -> Vec<u16> {
    let mut found = Vec::new();
    let mut before = ' ';
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            before = first;
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if matches!(before, ':' | ' ' | '=' | '(')
            && let Ok(port @ 1..) = rest[..digits].parse()
        {
            found.push(port);
        }
        before = '0';
        rest = &rest[digits..];
    }
    found
}

fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // Usually dual stack; the caller tries the other family as well.
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(ip.into(), IpAddr::from),
        ip @ IpAddr::V4(_) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn listening_sockets() -> Vec<Socket> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| parse_table(&text))
        .collect()
}

/// Listening sockets of a `/proc/net/tcp` or `tcp6`.
fn parse_table(text: &str) -> Vec<Socket> {
    text.lines().filter_map(parse_row).collect()
}

fn parse_row(row: &str) -> Option<Socket> {
    let fields: Vec<&str> = row.split_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let address = parse_address(fields.get(1)?)?;
    let inode = fields.get(9)?.parse().ok()?;
    Some(Socket { address, inode })
}

/// `0100007F:1F90` or 32 hexadecimal digits: words of the machine's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(ip)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(ip.get(index * 8..index * 8 + 8)?)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read(entry.path().join("stat")).ok())
        .filter_map(|stat| parse_stat(&String::from_utf8_lossy(&stat)))
        .collect()
}

/// `pid (name) state parent group …`; the name may hold anything, also parentheses.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let group = rest.split(' ').nth(2)?.parse().ok()?;
    Some(Process { pid: pid.parse().ok()?, group, name: name.to_owned() })
}

fn sockets_of(pid: i32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|target| parse_socket(&target))
        .collect()
}

/// `socket:[12345]`.
fn parse_socket(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn tables_are_read() {
        let v4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n   \
            1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0\n   \
            2: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 20 4 30 10 -1\n";
        let v6 = "   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 444 1 0\n   \
            1: 0000000000000000FFFF00000100007F:0BB9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 555 1 0\n";
        let rows: Vec<(String, u64)> = parse_table(v4)
            .into_iter()
            .chain(parse_table(v6))
            .map(|socket| (reachable(socket.address).to_string(), socket.inode))
            .collect();
        let expected = [
            ("127.0.0.1:8080", 111),
            ("127.0.0.1:80", 222),
            ("[::1]:3000", 444),
            ("127.0.0.1:3001", 555),
        ];
        assert_eq!(rows, expected.map(|(text, inode)| (text.to_owned(), inode)));
        for odd in ["", "0:", "1: 01:02 x 0A", "1: 0100007F:1F90 0 0A"] {
            assert!(parse_table(odd).is_empty(), "{odd}");
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let process = parse_stat("42 (a) b (c) S 1 40 40 0 -1").unwrap();
        assert_eq!(process, Process { pid: 42, group: 40, name: "a) b (c".into() });
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn ports_in_messages_of_usual_programs() {
        for (lines, expected) in [
            (&["Error: listen EADDRINUSE: address already in use :::3000"][..], &[3000][..]),
            (&["  port: 3000", "code: 'EADDRINUSE',", "errno: -98"], &[3000]),
            (&["OSError: [Errno 98] Address already in use"], &[98]),
            (&["listen tcp :8080: bind: address already in use"], &[8080]),
            (&["[::]:5000 Address in use", "x"], &[5000]),
            (&["listening on 3000"], &[]),
        ] {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            let mut ports = ports_in_use(&lines);
            ports.truncate(expected.len());
            assert_eq!(ports, expected, "{lines:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let process = holder(port).unwrap().unwrap();
        assert_eq!(process.pid, i32::try_from(std::process::id()).unwrap());
        assert!(listening_addresses(process.group).contains(&listener.local_addr().unwrap()));
        drop(listener);
        assert_eq!(holder(port), None);
    }
}
