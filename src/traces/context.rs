//! Identities of traces and spans, and the header `traceparent` that carries them from one program
//! to the next (W3C Trace Context §3.2).

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// Bytes of a `traceparent` of version 00.
pub const HEADER_BYTES: usize = 55;
/// Where in it the span's identity is, 16 digits long.
pub const SPAN_AT: usize = 36;

/// The flag that says that the caller records the trace.
const SAMPLED: u8 = 1;
/// Flags that are known: whether it is sampled, and whether the identity was drawn at random.
const KNOWN_FLAGS: u8 = 3;

/// The identity of a trace; none is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// A new one.
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        Self(NonZeroU128::new(rng.u128(..)).unwrap_or(NonZeroU128::MIN))
    }

    /// Its 16 bytes, as they are sent.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// The part of it that a sampler by ratio looks at, below 2⁶³: the same one as OpenTelemetry's
    /// libraries take, so that those of one trace agree.
    pub(super) fn ratio_part(self) -> u64 {
        // Truncated on purpose: the last eight bytes.
        (self.0.get() as u64) >> 1
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The identity of a span; none is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// A new one.
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        Self(NonZeroU64::new(rng.u64(..)).unwrap_or(NonZeroU64::MIN))
    }

    /// Its 8 bytes, as they are sent.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }

    /// Its 16 digits, as `traceparent` has them.
    pub fn digits(self) -> [u8; 16] {
        let mut digits = [0; 16];
        write_hex(&mut digits, &self.to_bytes());
        digits
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What one program tells the next: the trace, the span that calls, and whether it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    flags: u8,
}

impl SpanContext {
    /// The first one of a trace that begins here.
    pub fn begin(trace: TraceId, span: SpanId, sampled: bool) -> Self {
        Self { trace, span, flags: u8::from(sampled) }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(self, span: SpanId) -> Self {
        Self { span, ..self }
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The known flags.
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// Reads a `traceparent`; none if it is malformed, and then a trace begins anew. Of a version
    /// that is not known yet the known beginning is read, as the specification has it.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(HEADER_BYTES)?;
        let [b'-', b'-', b'-'] = [head[2], head[35], head[52]] else { return None };
        let version = read_hex(&head[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !is_whole {
            return None;
        }
        let trace = TraceId(NonZeroU128::new(read_hex(&head[3..35])?)?);
        let span = u64::try_from(read_hex(&head[SPAN_AT..52])?).ok()?;
        let flags = u8::try_from(read_hex(&head[53..])?).ok()?;
        Some(Self { trace, span: SpanId(NonZeroU64::new(span)?), flags: flags & KNOWN_FLAGS })
    }

    /// The `traceparent` that says it.
    pub fn to_header(self) -> [u8; HEADER_BYTES] {
        let mut header = [b'-'; HEADER_BYTES];
        header[..2].copy_from_slice(b"00");
        write_hex(&mut header[3..35], &self.trace.to_bytes());
        header[SPAN_AT..52].copy_from_slice(&self.span.digits());
        write_hex(&mut header[53..], &[self.flags]);
        header
    }
}

/// Two digits a byte.
fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (two, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// A number of up to 32 digits; those above nine are in lower case.
fn read_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// What it is read as, and written again.
    fn read(value: &str) -> Option<String> {
        let context = SpanContext::parse(value.as_bytes())?;
        Some(String::from_utf8(context.to_header().to_vec()).unwrap())
    }

    #[test]
    fn traceparents() {
        let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        for (value, expected) in [
            (GOOD.to_owned(), Some("01")),
            (format!("00-{ids}-00"), Some("00")),
            (format!("00-{ids}-03"), Some("03")),
            // Flags that are not known yet are not passed on.
            (format!("00-{ids}-ff"), Some("03")),
            // A later version is read as far as it is known.
            (format!("01-{ids}-01"), Some("01")),
            (format!("cc-{ids}-01-what the future brings"), Some("01")),
            (format!("cc-{ids}-01."), None),
            (format!("ff-{ids}-01"), None),
            (format!("00-{ids}-01-more"), None),
            (format!("00-{ids}-01-"), None),
            (format!("00-{ids}-1"), None),
            (format!("00-{ids}"), None),
            (format!("00_{ids}-01"), None),
            (format!("00-{ids}_01"), None),
            (format!("00-{ids}-0g"), None),
            (format!(" 00-{ids}-01"), None),
            (GOOD.to_uppercase(), None),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(), None),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(), None),
            (String::new(), None),
        ] {
            let expected = expected.map(|flags| format!("00-{ids}-{flags}"));
            assert_eq!(read(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn identities_are_shown_as_they_are_sent() {
        let context = SpanContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span.to_string(), "b7ad6b7169203331");
        assert_eq!(context.span.digits(), *b"b7ad6b7169203331");
        assert!(context.is_sampled());
        let header = context.to_header();
        assert_eq!(header[SPAN_AT..SPAN_AT + 16], context.span.digits());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seed: u64, sampled: bool) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (trace, span) = (TraceId::draw(&mut rng), SpanId::draw(&mut rng));
            let context = SpanContext::begin(trace, span, sampled);
            prop_assert_eq!(SpanContext::parse(&context.to_header()), Some(context));
        }

        #[test]
        fn nothing_that_is_sent_makes_it_panic(value: Vec<u8>) {
            let read = SpanContext::parse(&value);
            prop_assert!(read.is_none() || value.len() >= HEADER_BYTES);
        }

        #[test]
        fn one_wrong_byte_is_seen(at in 0..HEADER_BYTES, byte: u8) {
            let mut value = GOOD.as_bytes().to_vec();
            value[at] = byte;
            if let Some(read) = SpanContext::parse(&value) {
                // Whatever is accepted says what was sent, but for its version and its flags.
                prop_assert_eq!(&read.to_header()[3..53], &value[3..53]);
            }
        }
    }
}
