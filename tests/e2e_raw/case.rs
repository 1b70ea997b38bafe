//! The text format of cases, as `tests/raw/README.md` says it.

use std::path::Path;

/// One case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// File, line and name.
    pub(crate) at: String,
    pub(crate) steps: Vec<Step>,
    /// HTTP/2 instead of bytes.
    pub(crate) frames: Vec<Frame>,
    /// How the replica behaves; the usual one otherwise.
    pub(crate) script: Option<Script>,
    pub(crate) forwarded: Vec<Forwarded>,
    pub(crate) ending: Ending,
    /// Statuses on the client's connection, if other than what `forwarded` and `ending` come to.
    pub(crate) answers: Option<Vec<u16>>,
    pub(crate) client_has: Vec<Vec<u8>>,
    pub(crate) client_lacks: Vec<Vec<u8>>,
    pub(crate) replica_has: Vec<Vec<u8>>,
    pub(crate) replica_lacks: Vec<Vec<u8>>,
    pub(crate) tunnel: Option<Vec<u8>>,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Reads until this has come.
    Wait(Vec<u8>),
    /// A moment, so that what follows is another read.
    Pause,
    /// Ends its own direction.
    HalfClose,
}

/// A frame of stream 1.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Headers(Vec<(Vec<u8>, Vec<u8>)>),
    Data(Vec<u8>),
}

/// A played replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) answer: Vec<u8>,
    /// Answers as soon as it has the head.
    pub(crate) early: bool,
    /// Closes after the answer.
    pub(crate) close: bool,
}

/// A request that a replica is to have seen.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) whole: bool,
}

/// How the client's connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With what was forwarded.
    #[default]
    Answered,
    /// The last request is refused with this status, and the connection closed.
    Refused(u16),
    /// The answer breaks off: the client sees that it is not whole, or a 5xx.
    Cut,
    /// The last request turns out to be malformed after its head: no replica has it whole.
    Broken,
}

impl Case {
    /// Statuses that the client is to see.
    pub(crate) fn expected(&self) -> Vec<u16> {
        if let Some(answers) = &self.answers {
            return answers.clone();
        }
        let mut expected = vec![200; self.forwarded.len()];
        if let Ending::Refused(status) = self.ending {
            expected.push(status);
        }
        expected
    }
}

/// All cases of a file.
pub(crate) fn read(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = format!("{}:{}", file.display(), number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case { at: format!("{at}: {name}"), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{at}: before the first `=== name`"));
        take(case, line, &at);
    }
    for case in &cases {
        let what = case.steps.is_empty() != case.frames.is_empty();
        assert!(what, "{}: needs either `>` or `2>` lines", case.at);
    }
    cases
}

fn take(case: &mut Case, line: &str, at: &str) {
    let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
    match mark {
        ">" => send(case, [unescape(rest, at).as_slice(), b"\r\n"].concat()),
        ">>" => send(case, unescape(rest, at)),
        "wait" => case.steps.push(Step::Wait(unescape(rest, at))),
        "pause" => case.steps.push(Step::Pause),
        "half-close" => case.steps.push(Step::HalfClose),
        "2>" => {
            let (name, value) = field(rest, at);
            match case.frames.last_mut() {
                Some(Frame::Headers(fields)) => fields.push((name, value)),
                _ => case.frames.push(Frame::Headers(vec![(name, value)])),
            }
        }
        "2>>" => case.frames.push(Frame::Data(unescape(rest, at))),
        "<" => {
            let answer = &mut case.script.get_or_insert_default().answer;
            answer.extend(unescape(rest, at));
            answer.extend(b"\r\n");
        }
        "<<" => case.script.get_or_insert_default().answer.extend(unescape(rest, at)),
        "<early" => case.script.get_or_insert_default().early = true,
        "<close" => case.script.get_or_insert_default().close = true,
        "?" => expect(case, rest, at),
        _ => panic!("{at}: nobody knows `{mark}`"),
    }
}

fn send(case: &mut Case, bytes: Vec<u8>) {
    match case.steps.last_mut() {
        Some(Step::Send(before)) => before.extend(bytes),
        _ => case.steps.push(Step::Send(bytes)),
    }
}

/// `name: value`; the name may begin with a colon.
fn field(text: &str, at: &str) -> (Vec<u8>, Vec<u8>) {
    let colon = text[1..].find(':').unwrap_or_else(|| panic!("{at}: no colon")) + 1;
    let value = text[colon + 1..].strip_prefix(' ').unwrap_or(&text[colon + 1..]);
    (unescape(&text[..colon], at), unescape(value, at))
}

fn expect(case: &mut Case, text: &str, at: &str) {
    let (what, rest) = text.split_once(' ').unwrap_or((text, ""));
    let status = |text: &str| text.parse().unwrap_or_else(|_| panic!("{at}: {text}: no status"));
    match what {
        "forwarded" | "incomplete" => {
            let mut parts = rest.splitn(3, ' ');
            let method = parts.next().unwrap_or_default().to_owned();
            let target = unescape(parts.next().unwrap_or_else(|| panic!("{at}: no target")), at);
            let body = parts.next().map(|body| unescape(body, at));
            let whole = what == "forwarded";
            case.forwarded.push(Forwarded { method, target, body, whole });
        }
        "refused" => case.ending = Ending::Refused(status(rest)),
        "broken" => case.ending = Ending::Broken,
        "answers" if rest == "cut" => case.ending = Ending::Cut,
        "answers" => case.answers = Some(rest.split_whitespace().map(status).collect()),
        "client-has" => case.client_has.push(unescape(rest, at)),
        "client-lacks" => case.client_lacks.push(unescape(rest, at)),
        "replica-has" => case.replica_has.push(unescape(rest, at)),
        "replica-lacks" => case.replica_lacks.push(unescape(rest, at)),
        "tunnel" => case.tunnel = Some(unescape(rest, at)),
        _ => panic!("{at}: nobody knows `? {what}`"),
    }
}

/// `\r \n \t \0 \\ \xNN`, and `\*(COUNT)C` for COUNT times the character C.
fn unescape(text: &str, at: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = rest.chars().next().unwrap_or_else(|| panic!("{at}: a lone \\"));
        rest = &rest[1..];
        match escape {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            's' => out.push(b' '),
            '0' => out.push(0),
            '\\' => out.push(b'\\'),
            'x' => {
                let byte = rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.push(byte.unwrap_or_else(|| panic!("{at}: \\x needs two digits")));
                rest = &rest[2..];
            }
            '*' => {
                let parsed = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
                let (count, after) = parsed.unwrap_or_else(|| panic!("{at}: \\*(COUNT)C"));
                let count: usize = count.parse().unwrap_or_else(|e| panic!("{at}: {count}: {e}"));
                out.extend(std::iter::repeat_n(after.as_bytes()[0], count));
                rest = &after[1..];
            }
            _ => panic!("{at}: nobody knows \\{escape}"),
        }
    }
    out
}
