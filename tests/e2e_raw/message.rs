//! Messages as they stand on a wire. Requests are read with the strictest rules there are: what a
//! replica gets is to have one meaning for every reader.

/// A request that a replica got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) upgrade: bool,
    pub(crate) expects: bool,
    /// Bytes of the head.
    pub(crate) head: usize,
}

/// What the bytes at hand begin with.
#[derive(Debug)]
pub(crate) enum Read<T> {
    /// Part of it; the head, if that is whole.
    Partial(Option<T>),
    /// All of it, and its length.
    Whole(T, usize),
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

type Fields = Vec<(String, Vec<u8>)>;

/// The first line and the fields; none if they are not whole.
fn head(bytes: &[u8]) -> Result<Option<(Vec<u8>, Fields, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = Vec::new();
    let mut rest = &bytes[..end + 2];
    while let Some(at) = find(rest, b"\r\n") {
        let line = &rest[..at];
        if line.iter().any(|b| matches!(b, 0..=8 | 10..=31 | 127)) {
            return Err(format!("a control character in {:?}", String::from_utf8_lossy(line)));
        }
        lines.push(line);
        rest = &rest[at + 2..];
    }
    let mut fields = Vec::new();
    for line in &lines[1..] {
        let bad = || format!("no field: {:?}", String::from_utf8_lossy(line));
        let colon = line.iter().position(|b| *b == b':').ok_or_else(bad)?;
        if colon == 0 || !line[..colon].iter().all(|b| is_token(*b)) {
            return Err(bad());
        }
        let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
        fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    Ok(Some((lines[0].to_vec(), fields, end + 4)))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn framing(fields: &Fields) -> Result<Option<Framing>, String> {
    let all = |name: &str| -> Vec<&Vec<u8>> {
        fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value).collect()
    };
    let (lengths, encodings) = (all("content-length"), all("transfer-encoding"));
    match (&lengths[..], &encodings[..]) {
        ([], []) => Ok(None),
        ([length], []) => {
            let text = String::from_utf8_lossy(length).into_owned();
            let number: usize = text.parse().map_err(|_wrong| format!("Content-Length {text}"))?;
            if number.to_string() != text {
                return Err(format!("Content-Length {text}"));
            }
            Ok(Some(Framing::Length(number)))
        }
        ([], [encoding]) if encoding.as_slice() == b"chunked" => Ok(Some(Framing::Chunked)),
        _ => Err("its framing has several meanings".into()),
    }
}

/// The body and where it ends; none if it is not whole.
fn body(bytes: &[u8], framing: Framing) -> Result<Option<(Vec<u8>, usize)>, String> {
    match framing {
        Framing::Length(length) => {
            Ok((bytes.len() >= length).then(|| (bytes[..length].to_vec(), length)))
        }
        Framing::Close => Ok(None),
        Framing::Chunked => chunks(bytes),
    }
}

fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = &bytes[at..at + line];
        // Extensions are passed on from replicas to clients; tidegate writes none to replicas.
        let digits = size.split(|b| *b == b';').next().unwrap_or(size);
        let text = String::from_utf8_lossy(digits).into_owned();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("a chunk of size {text:?}"));
        }
        let size = usize::from_str_radix(&text, 16).map_err(|e| format!("{text}: {e}"))?;
        at += line + 2;
        if size == 0 {
            break;
        }
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        content.extend_from_slice(&bytes[at..at + size]);
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("a chunk without its end".into());
        }
        at += size + 2;
    }
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        at += line + 2;
        if line == 0 {
            return Ok(Some((content, at)));
        }
    }
}

/// Reads a request as strictly as can be.
pub(crate) fn request(bytes: &[u8]) -> Result<Read<Request>, String> {
    let Some((line, fields, length)) = head(bytes)? else { return Ok(Read::Partial(None)) };
    let parts: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let &[method, target, b"HTTP/1.1"] = &parts[..] else {
        return Err(format!("no request line: {:?}", String::from_utf8_lossy(&line)));
    };
    if method.is_empty() || target.is_empty() || target.contains(&b'#') {
        return Err(format!("no request line: {:?}", String::from_utf8_lossy(&line)));
    }
    if fields.iter().filter(|(name, _)| name == "host").count() != 1 {
        return Err("not one Host".into());
    }
    let mut request = Request {
        method: String::from_utf8_lossy(method).into_owned(),
        target: target.to_vec(),
        body: Vec::new(),
        upgrade: fields.iter().any(|(name, _)| name == "upgrade"),
        expects: fields.iter().any(|(name, _)| name == "expect"),
        head: length,
    };
    let framing = framing(&fields)?.unwrap_or(Framing::Length(0));
    if framing == Framing::Chunked && find(&bytes[length..], b";").is_some_and(|at| at < 8) {
        return Err("a chunk extension was passed on".into());
    }
    Ok(match body(&bytes[length..], framing)? {
        Some((content, end)) => {
            request.body = content;
            Read::Whole(request, length + end)
        }
        None => Read::Partial(Some(request)),
    })
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Reads a response to a request of this method; `ended` is whether no more bytes come.
pub(crate) fn response(bytes: &[u8], to: &str, ended: bool) -> Result<Read<Response>, String> {
    let Some((line, fields, length)) = head(bytes)? else { return Ok(Read::Partial(None)) };
    let text = String::from_utf8_lossy(&line).into_owned();
    let status: u16 = match text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)) {
        Some(status) => status.parse().map_err(|_wrong| format!("no status line: {text:?}"))?,
        None => return Err(format!("no status line: {text:?}")),
    };
    let bodiless = to == "HEAD" || status < 200 || matches!(status, 204 | 304);
    let framing = match framing(&fields)? {
        _ if bodiless => Framing::Length(0),
        Some(framing) => framing,
        None => Framing::Close,
    };
    let rest = &bytes[length..];
    if framing == Framing::Close && ended {
        return Ok(Read::Whole(Response { status, body: rest.to_vec() }, bytes.len()));
    }
    Ok(match body(rest, framing)? {
        Some((body, end)) => Read::Whole(Response { status, body }, length + end),
        None => Read::Partial(Some(Response { status, body: rest.to_vec() })),
    })
}
