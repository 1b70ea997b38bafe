//! Playing a case against one tidegate, and judging what came of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::case::{Case, Ending, Frame, Step};
use crate::client::get;
use crate::http2;
use crate::message::{self, Read, Request, Response, find};
use crate::replica::{Replica, Wire};
use crate::serving::Tidegate;

/// Between two sends that are to be two reads.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest that a case may take.
const SOON: Duration = Duration::from_secs(5);

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) played: usize,
    /// Refused by tidegate.
    pub(crate) refused: usize,
    /// Broken off after the head: no replica had it whole.
    pub(crate) broken: usize,
    /// Forwarded, and understood alike by the strict reader and the server.
    pub(crate) forwarded: usize,
    /// Forwarded, and refused by the server.
    pub(crate) by_server: usize,
}

/// What is behind tidegate.
pub(crate) struct Stage {
    pub(crate) tidegate: Tidegate,
    pub(crate) replica: Replica,
    /// A real server: it answers as it likes.
    pub(crate) real: bool,
}

impl Stage {
    /// Plays a case; says what is wrong.
    pub(crate) async fn play(&self, case: &Case, tally: &mut Tally) -> Result<(), String> {
        self.replica.begin(case.script.clone());
        let seen = if case.frames.is_empty() {
            tokio::time::timeout(SOON, self.http1(case))
                .await
                .map_err(|_wrong| "it does not end".to_owned())?
        } else {
            self.http2(case).await
        };
        let seen = seen.map_err(|why| format!("{why}\n{}", self.record()))?;
        self.canaries().await?;
        let by_server = self.judge(case).await.map_err(|why| {
            format!("{why}\nclient saw: {:?}\n{}", String::from_utf8_lossy(&seen), self.record())
        })?;
        tally.played += 1;
        match case.ending {
            Ending::Refused(_) => tally.refused += 1,
            Ending::Broken => tally.broken += 1,
            Ending::Answered | Ending::Cut if by_server => tally.by_server += 1,
            Ending::Answered | Ending::Cut => tally.forwarded += 1,
        }
        Ok(())
    }

    /// The next requests, on kept connections of either path, are answered with what they asked.
    async fn canaries(&self) -> Result<(), String> {
        let answer = get(self.tidegate.address(), "a.default", "/canary").await;
        if answer.text() != "GET /canary\n" {
            return Err(format!("the next request was answered with {answer:?}"));
        }
        let chunked = "POST /canary HTTP/1.1\r\nHost: a.default\r\nConnection: close\r\n\
                       Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let answer = crate::client::raw(self.tidegate.address(), chunked).await;
        match answer {
            Ok(text) if text.contains("POST /canary") => Ok(()),
            other => Err(format!("the next upload was answered with {other:?}")),
        }
    }

    async fn http1(&self, case: &Case) -> Result<Vec<u8>, String> {
        let mut stream = TcpStream::connect(self.tidegate.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut read = Vec::new();
        for step in &case.steps {
            match step {
                // It may have been refused before its end.
                Step::Send(bytes) => drop(stream.write_all(bytes).await),
                Step::Pause => tokio::time::sleep(PAUSE).await,
                Step::HalfClose => drop(stream.shutdown().await),
                Step::Wait(text) => {
                    while find(&read, text).is_none() {
                        if !more(&mut stream, &mut read).await {
                            let read = String::from_utf8_lossy(&read);
                            return Err(format!("ended before {text:?}: {read:?}"));
                        }
                    }
                }
            }
        }
        let expected = case.expected();
        let finals = expected.iter().filter(|status| **status >= 200 || **status == 101).count();
        let to_the_end = case.ending != Ending::Answered;
        let mut ended = false;
        while !ended {
            let (found, _) = self.answers(case, &read, false)?;
            if !to_the_end && found.iter().filter(|s| **s >= 200 || **s == 101).count() >= finals {
                break;
            }
            ended = !more(&mut stream, &mut read).await;
        }
        if case.tunnel.is_some() {
            // Bytes in a tunnel arrive when they arrive.
            self.tunnel(case).await?;
        }
        if !ended {
            drop(stream.shutdown().await);
            while more(&mut stream, &mut read).await {}
        }
        let (found, rest) = self.answers(case, &read, true)?;
        if !self.fits(case, &found, &read) {
            let read = String::from_utf8_lossy(&read);
            return Err(format!("{found:?} instead of {expected:?}: {read:?}"));
        }
        if !rest.is_empty() && case.ending != Ending::Broken && case.tunnel.is_none() {
            return Err(format!("behind the answers: {:?}", String::from_utf8_lossy(&rest)));
        }
        self.client_side(case, &read)?;
        Ok(read)
    }

    /// Whether a client saw the statuses that it should.
    fn fits(&self, case: &Case, found: &[u16], read: &[u8]) -> bool {
        let expected = case.expected();
        let finals = |statuses: &[u16]| statuses.iter().filter(|s| **s >= 200).count();
        match case.ending {
            Ending::Broken => {
                let last = found.get(expected.len());
                last.is_none_or(|status| *status >= 400) && found.len() <= expected.len() + 1
            }
            Ending::Cut => {
                let whole = matches!(message::response(read, "GET", true), Ok(Read::Whole(..)));
                !whole || found.first().is_some_and(|status| *status >= 500)
            }
            // A real server answers what it likes.
            Ending::Answered if self.real => finals(found) == finals(&expected),
            Ending::Refused(_) if self.real => {
                found.last() == expected.last() && finals(found) == finals(&expected)
            }
            _ => found == expected,
        }
    }

    fn client_side(&self, case: &Case, read: &[u8]) -> Result<(), String> {
        if self.real {
            return Ok(());
        }
        has(read, &case.client_has, &case.client_lacks, "client")
    }

    /// Statuses of the responses so far, and what is behind them.
    fn answers(
        &self,
        case: &Case,
        read: &[u8],
        ended: bool,
    ) -> Result<(Vec<u16>, Vec<u8>), String> {
        let mut statuses = Vec::new();
        let mut rest = read;
        let mut finals = 0;
        while !rest.is_empty() {
            let method = case.forwarded.get(finals).map_or("GET", |f| f.method.as_str());
            match message::response(rest, method, ended) {
                Ok(Read::Whole(response, length)) => {
                    statuses.push(response.status);
                    rest = &rest[length..];
                    finals += usize::from(response.status >= 200);
                    if response.status == 101 {
                        break;
                    }
                }
                Ok(Read::Partial(head)) => {
                    // A refusal of a HEAD has no body, one that is cut off may have half of it.
                    if ended && let Some(head) = head {
                        statuses.push(head.status);
                        rest = &[];
                    }
                    break;
                }
                Err(why) => return Err(format!("{why} in {:?}", String::from_utf8_lossy(read))),
            }
        }
        Ok((statuses, rest.to_vec()))
    }

    async fn http2(&self, case: &Case) -> Result<Vec<u8>, String> {
        let sent = http2::send(self.tidegate.address(), &case.frames);
        let outcome = tokio::time::timeout(SOON, sent)
            .await
            .map_err(|_wrong| "it does not end".to_owned())?;
        let status = outcome.statuses.last().copied();
        let fine = match case.ending {
            // Reset, or an answer that says no.
            Ending::Refused(_) => status.is_none_or(|status| (400..500).contains(&status)),
            Ending::Broken => status.is_none_or(|status| status >= 400),
            Ending::Answered if self.real => status.is_some(),
            Ending::Answered | Ending::Cut => outcome.statuses == case.expected(),
        };
        if !fine {
            return Err(format!("{outcome:?} instead of {:?}", case.expected()));
        }
        self.client_side(case, &outcome.body)?;
        Ok(outcome.body)
    }

    /// Waits until a tunnel has carried what it is to carry.
    async fn tunnel(&self, case: &Case) -> Result<(), String> {
        let Some(expected) = &case.tunnel else { return Ok(()) };
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            for wire in self.replica.wires() {
                let wire = wire.lock();
                if wire.tunnel.is_some_and(|at| wire.asked[at..] == expected[..]) {
                    return Ok(());
                }
            }
            if tokio::time::Instant::now() > deadline {
                return Err("the tunnel carried something else".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether the replica got what it was to get, and nothing else.
    async fn judge(&self, case: &Case) -> Result<bool, String> {
        let mut whole: Vec<Request> = Vec::new();
        let mut partial: Vec<Option<Request>> = Vec::new();
        let mut by_server = false;
        let mut heads = Vec::new();
        for wire in self.replica.wires() {
            let (asked, said, early) = {
                let wire = wire.lock();
                let end = wire.tunnel.unwrap_or(wire.asked.len()).min(wire.asked.len());
                (wire.asked[..end].to_vec(), wire.said.clone(), wire.early.clone())
            };
            if !early.is_empty() {
                let early = String::from_utf8_lossy(&early).into_owned();
                return Err(format!("before it had agreed to switch, the replica got {early:?}"));
            }
            let (requests, rest) = requests(&asked)?;
            if let Some(rest) = rest {
                closed(&wire).await?;
                partial.push(rest);
            } else if self.real {
                by_server |= agree(&requests, &said)?;
            }
            for (request, bytes) in requests {
                if !request.target.starts_with(b"/canary") {
                    heads.extend(bytes);
                    whole.push(request);
                }
            }
        }
        let expected: Vec<_> = case.forwarded.iter().filter(|f| f.whole).collect();
        if whole.len() != expected.len() {
            return Err(format!("the replica got {} requests", whole.len()));
        }
        // Several may have come on several connections.
        for (number, expected) in expected.iter().enumerate() {
            let fits = whole.iter().any(|request| {
                request.method == expected.method
                    && request.target == expected.target
                    && expected.body.as_ref().is_none_or(|body| *body == request.body)
            });
            if !fits {
                return Err(format!("nothing the replica got is request {}", number + 1));
            }
        }
        let may_be_partial =
            case.ending == Ending::Broken || case.forwarded.iter().any(|f| !f.whole);
        if !may_be_partial && !partial.is_empty() {
            return Err("the replica got part of a request".into());
        }
        has(&heads, &case.replica_has, &case.replica_lacks, "replica")?;
        Ok(by_server)
    }

    fn record(&self) -> String {
        let wires = self.replica.wires();
        let lines = wires.iter().map(|wire| {
            let wire = wire.lock();
            let (asked, said) =
                (String::from_utf8_lossy(&wire.asked), String::from_utf8_lossy(&wire.said));
            let cut = |text: &str| text.chars().take(1_500).collect::<String>();
            format!("  to the replica: {:?}\n  from it: {:?}\n", cut(&asked), cut(&said))
        });
        lines.collect()
    }
}

type Recorded = Vec<(Request, Vec<u8>)>;

/// Requests with their bytes, and what of one there is behind them.
fn requests(mut asked: &[u8]) -> Result<(Recorded, Option<Option<Request>>), String> {
    let mut requests = Vec::new();
    while !asked.is_empty() {
        match message::request(asked)? {
            Read::Whole(request, length) => {
                requests.push((request, asked[..length].to_vec()));
                asked = &asked[length..];
            }
            Read::Partial(head) => return Ok((requests, Some(head))),
        }
    }
    Ok((requests, None))
}

/// Whether a real server understood the requests as the strict reader did; true if it refused one.
fn agree(requests: &Recorded, said: &[u8]) -> Result<bool, String> {
    let mut rest = said;
    let mut refused = false;
    for (request, _) in requests {
        let response = loop {
            match message::response(rest, &request.method, true)? {
                Read::Whole(response, length) => {
                    rest = &rest[length..];
                    if response.status >= 200 {
                        break response;
                    }
                }
                Read::Partial(_) => return Err("the server answered fewer requests".into()),
            }
        };
        refused |= understood(request, &response)?;
    }
    if !rest.is_empty() {
        return Err("the server answered more requests".into());
    }
    Ok(refused)
}

fn understood(request: &Request, response: &Response) -> Result<bool, String> {
    if (400..600).contains(&response.status) {
        return Ok(true);
    }
    let expected = [request.method.as_bytes(), b" ", &request.target, b"\n"].concat();
    if request.method != "HEAD" && response.body != expected {
        let body = String::from_utf8_lossy(&response.body).into_owned();
        return Err(format!("the server understood {body:?}"));
    }
    Ok(false)
}

/// A connection in the middle of a request is never used again: it is closed.
async fn closed(wire: &parking_lot::Mutex<Wire>) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + SOON;
    while !wire.lock().closed {
        if tokio::time::Instant::now() > deadline {
            return Err("a connection was left in the middle of a request".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn has(bytes: &[u8], has: &[Vec<u8>], lacks: &[Vec<u8>], who: &str) -> Result<(), String> {
    let (bytes, lower) = (&bytes.to_ascii_lowercase(), <[u8]>::to_ascii_lowercase);
    for text in has {
        if find(bytes, &lower(text)).is_none() {
            return Err(format!("the {who} got no {:?}", String::from_utf8_lossy(text)));
        }
    }
    for text in lacks {
        if find(bytes, &lower(text)).is_some() {
            return Err(format!("the {who} got {:?}", String::from_utf8_lossy(text)));
        }
    }
    Ok(())
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    match stream.read(&mut buffer).await {
        Ok(n @ 1..) => {
            read.extend_from_slice(&buffer[..n]);
            true
        }
        _ => false,
    }
}

/// Whether a case is for real servers: one that no script plays.
pub(crate) fn is_for_servers(case: &Case) -> bool {
    case.script.is_none() && case.forwarded.iter().all(|f| f.whole)
}

/// Whether a case comes by HTTP/2.
pub(crate) fn is_http2(case: &Case) -> bool {
    matches!(case.frames.first(), Some(Frame::Headers(_) | Frame::Data(_)))
}
