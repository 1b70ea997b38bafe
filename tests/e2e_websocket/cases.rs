//! The cases: what one end sends, frame by frame, and what the other end's library makes of it.

use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// What an end has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A close, with its code and reason if it has them.
    Close(Option<(u16, String)>),
    /// The library refused what came.
    Refused,
}

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) frames: Vec<Frame>,
    /// What the receiving end sees, to the last.
    pub(crate) seen: Vec<Seen>,
}

fn frame(opcode: OpCode, is_final: bool, payload: impl Into<Vec<u8>>) -> Frame {
    let header = FrameHeader { is_final, opcode, ..FrameHeader::default() };
    Frame::from_payload(header, payload.into().into())
}

fn data(kind: Data, last: bool, payload: impl Into<Vec<u8>>) -> Frame {
    frame(OpCode::Data(kind), last, payload)
}

fn control(kind: Control, payload: impl Into<Vec<u8>>) -> Frame {
    frame(OpCode::Control(kind), true, payload)
}

fn close(code: u16, reason: &[u8]) -> Frame {
    control(Control::Close, [&code.to_be_bytes()[..], reason].concat())
}

fn case(name: impl Into<String>, frames: Vec<Frame>, seen: Vec<Seen>) -> Case {
    Case { name: name.into(), frames, seen }
}

/// Bytes without a pattern that a mistake could keep.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// A case for each length of a message: around those at which the form of a frame changes, and
/// 16 MiB.
fn sizes(cases: &mut Vec<Case>) {
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1 << 20, 16 << 20] {
        let payload = bytes(length);
        let frames = vec![data(Data::Binary, true, payload.clone())];
        cases.push(case(format!("{length} bytes"), frames, vec![Seen::Binary(payload)]));
        let text = "ä".repeat(length / 2);
        let frames = vec![data(Data::Text, true, text.clone())];
        cases.push(case(format!("{length} bytes of text"), frames, vec![Seen::Text(text)]));
    }
}

/// Messages in several frames, also with control frames between them.
fn fragments(cases: &mut Vec<Case>) {
    let whole = bytes(100_000);
    for size in [1_000, 4_096, 65_536, 99_999] {
        for pings in [false, true] {
            let mut frames = Vec::new();
            let mut seen = Vec::new();
            let count = whole.chunks(size).count();
            for (i, piece) in whole.chunks(size).enumerate() {
                let kind = if i == 0 { Data::Binary } else { Data::Continue };
                frames.push(data(kind, i + 1 == count, piece));
                if pings && i + 1 < count {
                    frames.push(control(Control::Ping, i.to_string()));
                    seen.push(Seen::Ping(i.to_string().into()));
                }
            }
            seen.push(Seen::Binary(whole.clone()));
            let name = format!("frames of {size}, pings between them: {pings}");
            cases.push(case(name, frames, seen));
        }
    }
    let empty = ["", "", "x", ""];
    let frames = empty
        .iter()
        .enumerate()
        .map(|(i, piece)| data(if i == 0 { Data::Text } else { Data::Continue }, i == 3, *piece));
    cases.push(case("empty frames", frames.collect(), vec![Seen::Text("x".into())]));
    let split = vec![
        data(Data::Text, false, [0xe2, 0x82]),
        control(Control::Pong, "unasked"),
        data(Data::Continue, true, [0xac]),
    ];
    let seen = vec![Seen::Pong("unasked".into()), Seen::Text("€".into())];
    cases.push(case("a character in two frames", split, seen));
    for (name, frames) in [
        ("a continuation of nothing", vec![data(Data::Continue, true, "x")]),
        ("a message in a message", vec![data(Data::Text, false, "a"), data(Data::Text, true, "b")]),
    ] {
        cases.push(case(name, frames, vec![Seen::Refused]));
    }
}

/// Pings, pongs, and control frames that must not be.
fn controls(cases: &mut Vec<Case>) {
    for length in [0, 1, 124, 125] {
        let payload = bytes(length);
        for (kind, seen) in [
            (Control::Ping, Seen::Ping(payload.clone())),
            (Control::Pong, Seen::Pong(payload.clone())),
        ] {
            let name = format!("{kind:?} of {length} bytes");
            cases.push(case(name, vec![control(kind, payload.clone())], vec![seen]));
        }
    }
    let many = (0..100_u8).map(|i| control(Control::Ping, [i]));
    let seen = (0..100_u8).map(|i| Seen::Ping(vec![i]));
    cases.push(case("a hundred pings", many.collect(), seen.collect()));
    let large = vec![control(Control::Ping, bytes(126))];
    cases.push(case("a ping of 126 bytes", large, vec![Seen::Refused]));
    let part = vec![frame(OpCode::Control(Control::Ping), false, "x")];
    cases.push(case("a ping in parts", part, vec![Seen::Refused]));
    for (name, opcode) in [
        ("reserved data", OpCode::Data(Data::Reserved(3))),
        ("reserved control", OpCode::Control(Control::Reserved(11))),
    ] {
        let frames = vec![frame(opcode, true, "x")];
        cases.push(case(name, frames, vec![Seen::Refused]));
    }
    let mut reserved = data(Data::Text, true, "x");
    reserved.header_mut().rsv1 = true;
    cases.push(case("a reserved bit", vec![reserved], vec![Seen::Refused]));
}

/// Closing: every code that may be sent (RFC 6455 §7.4), and no code.
fn closes(cases: &mut Vec<Case>) {
    let none = vec![control(Control::Close, "")];
    cases.push(case("a close without a code", none, vec![Seen::Close(None)]));
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
    {
        for reason in ["", "bye, ä€😀"] {
            let seen = vec![Seen::Close(Some((code, reason.into())))];
            let name = format!("close {code} {reason:?}");
            cases.push(case(name, vec![close(code, reason.as_bytes())], seen));
        }
    }
    let longest = "x".repeat(123);
    let seen = vec![Seen::Close(Some((1000, longest.clone())))];
    cases.push(case("the longest reason", vec![close(1000, longest.as_bytes())], seen));
    let frames = vec![control(Control::Close, [3])];
    cases.push(case("half a code", frames, vec![Seen::Refused]));
    let frames = vec![close(1000, &[0xff, 0xfe])];
    cases.push(case("a reason that is no UTF-8", frames, vec![Seen::Refused]));
    for code in [999, 1004, 1005, 1006, 1015, 2000] {
        // What the library calls a close with a code that must not be sent.
        let seen = vec![Seen::Close(Some((1002, "Protocol violation".into())))];
        cases.push(case(format!("close {code}"), vec![close(code, b"")], seen));
    }
}

/// Text must be UTF-8 (RFC 6455 §8.1).
fn utf_8(cases: &mut Vec<Case>) {
    for text in ["κόσμε", "\u{0}", "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "\u{fffd}", "😀👩‍🚀"]
    {
        let frames = vec![data(Data::Text, true, text)];
        cases.push(case(format!("text {text:?}"), frames, vec![Seen::Text(text.into())]));
    }
    for bytes in [
        &[0x80][..],
        &[0xc0, 0x80],
        &[0xe2, 0x82],
        &[0xed, 0xa0, 0x80],
        &[0xf4, 0x90, 0x80, 0x80],
        &[0xf8, 0x88, 0x80, 0x80, 0x80],
        &[0xfe],
        &[b'a', 0xff, b'b'],
    ] {
        let frames = vec![data(Data::Text, true, bytes)];
        cases.push(case(format!("no text {bytes:x?}"), frames, vec![Seen::Refused]));
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    sizes(&mut cases);
    fragments(&mut cases);
    controls(&mut cases);
    closes(&mut cases);
    utf_8(&mut cases);
    cases
}
