//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a load balancer
//! says of the client before the connection's own first byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 begins.
const PREFIX: &[u8] = b"PROXY ";
/// Longest line of version 1, its end included (§2.1).
pub(super) const LINE_BYTES_MAX: usize = 107;
/// What version 2 begins with: signature, command, family, length.
pub(super) const HEAD_BYTES: usize = 16;
/// Most that may follow it. Addresses take 216 bytes at most; the rest are TLVs, of which those of a
/// client's certificate are the longest.
const TAIL_BYTES_MAX: usize = 4096;

const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
/// In the first byte of [`SSL`]: the client connected by TLS.
const CLIENT_SSL: u8 = 0x01;

/// What is said of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Its address; none = it is the peer itself, or of no family that has addresses.
    pub(super) source: Option<IpAddr>,
    /// Whether it reached the load balancer by TLS.
    pub(super) secure: bool,
}

/// Why what came is no header.
pub(super) type Malformed = &'static str;

/// Which version the first twelve bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Looks at the first twelve bytes.
pub(super) fn version(first: &[u8; 12]) -> Result<Version, Malformed> {
    if first == SIGNATURE {
        Ok(Version::V2)
    } else if first.starts_with(PREFIX) {
        Ok(Version::V1)
    } else {
        Err("the connection does not begin with a PROXY header")
    }
}

/// Reads a line of version 1, its end included (§2.1).
pub(super) fn line(line: &[u8]) -> Result<Told, Malformed> {
    const WRONG: Malformed = "the line of the PROXY header is malformed";
    let text = line.strip_suffix(b"\r\n").and_then(|text| text.strip_prefix(PREFIX));
    let text = text.and_then(|text| std::str::from_utf8(text).ok()).ok_or(WRONG)?;
    let mut words = text.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Told::default());
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, from, to] = words[..] else { return Err(WRONG) };
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_not_one| WRONG);
    let (source, destination) = (address(source)?, address(destination)?);
    let is_port = |text: &str| {
        let canonical = text == "0" || !text.starts_with(['0', '+']);
        canonical && text.parse::<u16>().is_ok()
    };
    let fits = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !fits || !is_port(from) || !is_port(to) {
        return Err(WRONG);
    }
    Ok(Told { source: Some(source), secure: false })
}

/// How many bytes follow the first sixteen of version 2.
pub(super) fn tail(head: &[u8; HEAD_BYTES]) -> Result<usize, Malformed> {
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > TAIL_BYTES_MAX {
        return Err("the PROXY header is longer than 4 KiB");
    }
    Ok(length)
}

/// Reads a whole header of version 2 (§2.2).
pub(super) fn header(bytes: &[u8]) -> Result<Told, Malformed> {
    const SHORT: Malformed = "the PROXY header is shorter than its addresses";
    let (command, family) = (bytes[12], bytes[13]);
    let body = &bytes[HEAD_BYTES..];
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("the PROXY header has an unknown version or command"),
    };
    let addresses = match family >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err("the PROXY header has an unknown address family"),
    };
    // Of a connection of its own the sender need not say anything: what it says is skipped.
    if is_local {
        return Ok(Told::default());
    }
    let (addresses, tlvs) = body.split_at_checked(addresses).ok_or(SHORT)?;
    let source = match family {
        0x11 => {
            let octets: [u8; 4] = addresses[..4].try_into().map_err(|_never| SHORT)?;
            Some(Ipv4Addr::from(octets).into())
        }
        0x21 => {
            let octets: [u8; 16] = addresses[..16].try_into().map_err(|_never| SHORT)?;
            Some(Ipv6Addr::from(octets).into())
        }
        // Nothing is known, or it is a Unix socket.
        0x00 | 0x31 => None,
        _ => return Err("the PROXY header is not of a stream"),
    };
    let offset = HEAD_BYTES + addresses.len();
    Ok(Told { source, secure: secure(bytes, offset, tlvs)? })
}

/// Goes through the TLVs: whether the client came by TLS. A checksum must be right (§2.2.3).
fn secure(bytes: &[u8], mut offset: usize, mut tlvs: &[u8]) -> Result<bool, Malformed> {
    const TORN: Malformed = "the PROXY header ends within a TLV";
    let mut secure = false;
    while !tlvs.is_empty() {
        let [kind, high, low, rest @ ..] = tlvs else { return Err(TORN) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(TORN)?;
        offset += 3;
        match *kind {
            CRC32C => {
                let mut zeroed = bytes.to_vec();
                zeroed[offset..offset + length].fill(0);
                if value != crc32c(&zeroed).to_be_bytes() {
                    return Err("the PROXY header's checksum is wrong");
                }
            }
            SSL => secure = value.first().is_some_and(|client| client & CLIENT_SSL != 0),
            _ => {}
        }
        offset += length;
        tlvs = rest;
    }
    Ok(secure)
}

/// CRC-32C (RFC 9260, appendix A), bit by bit: it is rare and short.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(source: &str, secure: bool) -> Result<Told, Malformed> {
        Ok(Told { source: source.parse().ok(), secure })
    }

    #[test]
    fn lines() {
        let read = |text: &str| line(text.as_bytes());
        assert_eq!(read("PROXY TCP4 10.1.2.3 10.0.0.1 5000 443\r\n"), told("10.1.2.3", false));
        assert_eq!(read("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), told("2001:db8::1", false));
        assert_eq!(read("PROXY UNKNOWN\r\n"), told("", false));
        assert_eq!(read("PROXY UNKNOWN a b 1 2\r\n"), told("", false));
        for wrong in [
            "PROXY TCP4 10.1.2.3 10.0.0.1 5000 443\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 5000\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 5000 443 1\r\n",
            "PROXY TCP4 10.1.2.3  10.0.0.1 5000 443\r\n",
            "PROXY TCP4 ::1 ::1 5000 443\r\n",
            "PROXY TCP6 10.1.2.3 10.0.0.1 5000 443\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 5000 65536\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 +5000 443\r\n",
            "PROXY TCP4 10.1.2.3 10.0.0.1 05000 443\r\n",
            "PROXY UDP4 10.1.2.3 10.0.0.1 5000 443\r\n",
            "PROXY \r\n",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    /// A header of version 2 with this command, family and what follows.
    fn made(command: u8, family: u8, tail: &[u8]) -> Vec<u8> {
        let length = u16::try_from(tail.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, tail].concat()
    }

    const TCP4: [u8; 12] = [10, 1, 2, 3, 10, 0, 0, 1, 0x13, 0x88, 1, 0xbb];

    #[test]
    fn headers() {
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat();
        let tcp6 = [&v6[..], &[0, 1, 0, 2]].concat();
        assert_eq!(header(&made(0x21, 0x11, &TCP4)), told("10.1.2.3", false));
        assert_eq!(header(&made(0x21, 0x21, &tcp6)), told("2001:db8::1", false));
        assert_eq!(header(&made(0x20, 0x11, &TCP4)), told("", false), "LOCAL");
        assert_eq!(header(&made(0x20, 0x00, &[])), told("", false), "LOCAL without addresses");
        assert_eq!(header(&made(0x21, 0x00, &[])), told("", false));
        assert_eq!(header(&made(0x21, 0x31, &[0; 216])), told("", false), "a Unix socket");
        for wrong in [
            made(0x11, 0x11, &TCP4),
            made(0x22, 0x11, &TCP4),
            made(0x21, 0x12, &TCP4),
            made(0x21, 0x41, &TCP4),
            made(0x21, 0x11, &TCP4[..11]),
            made(0x21, 0x21, &TCP4),
        ] {
            assert!(header(&wrong).is_err(), "{wrong:?}");
        }
        let mut head: [u8; HEAD_BYTES] = made(0x21, 0x11, &[0; 4096])[..16].try_into().unwrap();
        assert_eq!(tail(&head), Ok(4096));
        head[15] = 1;
        assert!(tail(&head).is_err());
    }

    #[test]
    fn tlvs() {
        let with = |tlvs: &[u8]| header(&made(0x21, 0x11, &[&TCP4[..], tlvs].concat()));
        let authority = [2, 0, 3, b'a', b'.', b'b'];
        assert_eq!(with(&authority), told("10.1.2.3", false));
        let ssl = [SSL, 0, 5, CLIENT_SSL, 0, 0, 0, 0];
        assert_eq!(with(&[&authority[..], &ssl].concat()), told("10.1.2.3", true));
        assert_eq!(with(&[SSL, 0, 5, 0, 0, 0, 0, 0]), told("10.1.2.3", false));
        for torn in [&[2][..], &[2, 0], &[2, 0, 1], &[2, 0xff, 0xff, 0]] {
            assert!(with(torn).is_err(), "{torn:?}");
        }
        let mut whole = made(0x21, 0x11, &[&TCP4[..], &[CRC32C, 0, 4, 0, 0, 0, 0]].concat());
        let sum = crc32c(&whole).to_be_bytes();
        assert!(header(&whole).is_err());
        let at = whole.len() - 4;
        whole[at..].copy_from_slice(&sum);
        assert_eq!(header(&whole), told("10.1.2.3", false));
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn nothing_panics(
            text in proptest::collection::vec(any::<u8>(), 0..120),
            command in any::<u8>(),
            family in any::<u8>(),
        ) {
            let _ = line(&text);
            let _ = line(&[PREFIX, &text].concat());
            for command in [0x21, command] {
                for family in [0x11, 0x21, 0x31, family] {
                    let _ = header(&made(command, family, &text));
                }
            }
        }
    }
}
