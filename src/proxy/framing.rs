//! Where the body of a message ends (RFC 9112 §6.3, §7.1). Its bytes are passed on as
//! they came; only their end is looked for, with one meaning or none.

/// Bytes of chunk extensions and trailers that one body may have.
const EXTRA_BYTES_MAX: usize = 64 * 1024;

/// How a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes more.
    Length(u64),
    /// With the last chunk.
    Chunked(Chunks),
    /// With the connection.
    Close,
}

/// What of the bytes at hand belongs to the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Bytes to pass on.
    pub(super) taken: usize,
    /// Those of them that are content.
    pub(super) content: usize,
    /// What comes after them.
    pub(super) then: Then,
}

/// What comes after a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// More of the body.
    More,
    /// Nothing: the body has ended.
    End,
    /// Something that is no chunk: where the body ends would be a guess.
    Malformed,
}

/// The number of a `Content-Length` that a request may have: digits without leading zeros, below
/// 2^63.
pub(super) fn request_length(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) || (value.len() > 1 && value[0] == b'0') {
        return None;
    }
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    u64::try_from(number).ok()
}

/// A byte that does not belong there.
#[derive(Debug)]
struct Malformed;

impl Framing {
    /// No body.
    pub(super) const NONE: Self = Self::Length(0);

    /// Looks at the next bytes.
    pub(super) fn consume(&mut self, bytes: &[u8]) -> Piece {
        match self {
            Self::Length(left) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                let then = if *left == 0 { Then::End } else { Then::More };
                Piece { taken, content: taken, then }
            }
            Self::Chunked(chunks) => chunks.consume(bytes),
            Self::Close => Piece { taken: bytes.len(), content: bytes.len(), then: Then::More },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a size, of which so many digits were read.
    Size(u8),
    /// In what may follow a size.
    Extension,
    /// After the CR behind a size.
    SizeEnd,
    /// In data.
    Data,
    /// Before the CR, or the LF, behind data.
    DataCr,
    DataLf,
    /// At the start of a line after the last chunk.
    Line,
    /// In a trailer.
    Trailer,
    /// After the CR of a trailer.
    TrailerEnd,
    /// After the CR of the empty line.
    End,
    Done,
}

/// The state of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    /// The size that is being read, then the bytes of data left.
    left: u64,
    extra: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size(0), left: 0, extra: 0 }
    }
}

impl Chunks {
    fn consume(&mut self, bytes: &[u8]) -> Piece {
        let (mut taken, mut content) = (0, 0);
        while taken < bytes.len() && self.at != At::Done {
            if self.at == At::Data {
                let rest = bytes.len() - taken;
                let n = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                (taken, content) = (taken + n, content + n);
                self.left -= n as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
            } else {
                match self.step(bytes[taken]) {
                    Ok(at) => self.at = at,
                    Err(Malformed) => return Piece { taken, content, then: Then::Malformed },
                }
                taken += 1;
            }
        }
        let then = if self.at == At::Done { Then::End } else { Then::More };
        Piece { taken, content, then }
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        match (self.at, byte) {
            (At::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                self.left = self.left << 4 | u64::from(digit);
                Ok(At::Size(digits + 1))
            }
            (At::Size(1..), b';' | b' ' | b'\t') => self.spend(At::Extension),
            (At::Size(1..) | At::Extension, b'\r') => Ok(At::SizeEnd),
            (At::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.spend(At::Extension),
            (At::SizeEnd, b'\n') => Ok(if self.left == 0 { At::Line } else { At::Data }),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size(0)),
            (At::Line, b'\r') => Ok(At::End),
            (At::Line, b'!'..=b'~') => self.spend(At::Trailer),
            (At::Trailer, b'\r') => Ok(At::TrailerEnd),
            (At::Trailer, b'\t' | b' '..=b'~' | 0x80..) => self.spend(At::Trailer),
            (At::TrailerEnd, b'\n') => Ok(At::Line),
            (At::End, b'\n') => Ok(At::Done),
            _ => Err(Malformed),
        }
    }

    fn spend(&mut self, then: At) -> Result<At, Malformed> {
        self.extra += 1;
        if self.extra > EXTRA_BYTES_MAX { Err(Malformed) } else { Ok(then) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked() -> Framing {
        Framing::Chunked(Chunks::default())
    }

    #[test]
    fn ends() {
        type Case<'a> = (Framing, &'a [u8], (usize, usize, Then));
        let cases: [Case<'_>; 12] = [
            (Framing::NONE, b"x", (0, 0, Then::End)),
            (Framing::Length(3), b"ab", (2, 2, Then::More)),
            (Framing::Length(3), b"abcd", (3, 3, Then::End)),
            (Framing::Close, b"ab", (2, 2, Then::More)),
            (chunked(), b"0\r\n\r\nHTTP", (5, 0, Then::End)),
            (chunked(), b"2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n", (22, 2, Then::End)),
            (chunked(), b"A;q=\"1\"\r\n0123456789\r\n", (21, 10, Then::More)),
            (chunked(), b"2\nab", (1, 0, Then::Malformed)),
            (chunked(), b"\r\n", (0, 0, Then::Malformed)),
            (chunked(), b"0x2\r\nab", (1, 0, Then::Malformed)),
            (chunked(), b"2\r\nabc\r\n", (5, 2, Then::Malformed)),
            (chunked(), b"00000000000000001\r\na", (16, 0, Then::Malformed)),
        ];
        for (mut framing, bytes, (taken, content, then)) in cases {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(framing.consume(bytes), Piece { taken, content, then }, "{text:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_have_a_bound() {
        let long = [b"1;".as_slice(), &vec![b'x'; EXTRA_BYTES_MAX]].concat();
        assert_eq!(chunked().consume(&long).then, Then::Malformed);
    }

    proptest! {
        /// However the bytes are cut into reads, the body ends at the same byte.
        #[test]
        fn the_cut_does_not_matter(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            cuts in prop::collection::vec(1_usize..20, 1..60),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:x};e\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nt: v\r\n\r\n");
            let length = bytes.len();
            bytes.extend(b"HTTP/1.1 200 OK\r\n");
            let mut framing = chunked();
            let (mut at, mut content, mut then) = (0, 0, Then::More);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                let piece = framing.consume(&bytes[at..end]);
                (at, content, then) = (at + piece.taken, content + piece.content, piece.then);
                if then != Then::More || end == bytes.len() {
                    break;
                }
            }
            prop_assert_eq!(then, Then::End);
            prop_assert_eq!(at, length);
            prop_assert_eq!(content, chunks.iter().map(Vec::len).sum::<usize>());
        }
    }
}
