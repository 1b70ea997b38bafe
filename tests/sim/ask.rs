//! What a client does with one request.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use http::{Method, Request};

use crate::body::Drip;
use crate::judge::LATE;
use crate::ledger::Manner;
use crate::lines::Sending;
use crate::valve::Garbage;
use crate::weather::Weather;

/// What is said through an upgraded connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) messages: u64,
    pub(crate) pause_ms: u64,
    /// Whether the client says that it ends.
    pub(crate) says_goodbye: bool,
}

/// A body that is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upload {
    pub(crate) bytes: usize,
    /// Between its pieces.
    pub(crate) pause_ms: u64,
    /// Whether its length is told.
    pub(crate) told: bool,
}

/// What a client does with one request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) service: usize,
    pub(crate) work_ms: u64,
    pub(crate) reply_bytes: usize,
    pub(crate) reply_pause_ms: u64,
    /// What the replica is to do.
    pub(crate) how: String,
    pub(crate) upload: Option<Upload>,
    pub(crate) leave_after: Option<Duration>,
    /// Reads nothing of the answer's body for so long.
    pub(crate) stall: Option<Duration>,
    pub(crate) http2: bool,
    /// On a connection with others.
    pub(crate) shared: bool,
    pub(crate) sending: Sending,
    pub(crate) talk: Option<Talk>,
    timeout: Duration,
}

impl Ask {
    pub(crate) fn plain(weather: &Weather, service: usize, work_ms: u64) -> Self {
        Self {
            service,
            work_ms,
            reply_bytes: 100,
            reply_pause_ms: 0,
            how: "plain".to_owned(),
            upload: None,
            leave_after: None,
            stall: None,
            http2: false,
            shared: false,
            sending: Sending::default(),
            talk: None,
            timeout: weather.services[service].timeout,
        }
    }

    pub(crate) fn draw(rng: &mut Rng, weather: &Weather, service: usize, work_ms: u64) -> Self {
        let mut ask = Self::plain(weather, service, rng.u64(1..=work_ms));
        let chances = &weather.chances;
        ask.reply_bytes = match rng.u8(..10) {
            0 => 0,
            1 => rng.usize(20_000..100_000),
            _ => rng.usize(1..2_000),
        };
        if chance(rng, 0.1) {
            ask.reply_pause_ms = rng.u64(50..1_000);
        }
        if chance(rng, 0.3) {
            ask.how = "chunked".to_owned();
        }
        ask.http2 = chance(rng, chances.http2);
        ask.shared = ask.http2 && rng.bool();
        if chance(rng, chances.uploads) {
            let slow = chance(rng, 0.1);
            let pause_ms = if slow { rng.u64(2_000..4_000) } else { rng.u64(0..30) };
            let bytes = if slow { rng.usize(1..60_000) } else { rng.usize(1..150_000) };
            ask.upload = Some(Upload { bytes, pause_ms, told: rng.bool() });
            if chance(rng, 0.3) {
                ask.how = "early".to_owned();
            }
        }
        ask.replica_fails(rng, weather);
        if chance(rng, chances.leavers) {
            ask.leave_after = Some(Duration::from_millis(rng.u64(1..work_ms + 2_000)));
        } else if chance(rng, chances.stalls) && !ask.how.starts_with("garbage") {
            ask.reply_bytes = 300_000;
            ask.stall = Some(ask.timeout + Duration::from_millis(rng.u64(0..20_000)));
        } else if !ask.http2 {
            ask.sends_oddly(rng, weather);
        }
        ask
    }

    fn replica_fails(&mut self, rng: &mut Rng, weather: &Weather) {
        let chances = &weather.chances;
        if chance(rng, chances.breaks) {
            self.how = if rng.bool() { "break" } else { "cut" }.to_owned();
            self.reply_bytes = self.reply_bytes.max(2);
        } else if chance(rng, chances.never) {
            self.how = "never".to_owned();
        } else if chance(rng, chances.garbage) {
            let garbage = Garbage::ALL[rng.usize(..Garbage::ALL.len())];
            self.how = format!("garbage-{garbage:?}");
            // In one piece, so that what comes instead of it, or behind it, is told from it.
            (self.reply_bytes, self.reply_pause_ms) = (self.reply_bytes.min(200), 0);
        }
    }

    fn sends_oddly(&mut self, rng: &mut Rng, weather: &Weather) {
        let chances = &weather.chances;
        let h2c = weather.services[self.service].h2c;
        if chance(rng, chances.upgrades) && !h2c {
            self.how = "upgrade".to_owned();
            self.upload = None;
            self.talk = Some(Talk {
                messages: rng.u64(0..12),
                pause_ms: rng.u64(1..4_000),
                says_goodbye: rng.bool(),
            });
        } else if chance(rng, chances.half_closes) && self.upload.is_none() {
            self.sending.half_close = true;
        } else if chance(rng, chances.drips) && self.upload.is_none() {
            self.sending.drip = Some((rng.usize(5..40), Duration::from_millis(rng.u64(1..200))));
        }
    }

    /// What kind of client this is.
    pub(crate) fn manner(&self) -> Manner {
        if self.talk.is_some() {
            Manner::Tunnel
        } else if self.leave_after.is_some() || self.stall.is_some() {
            Manner::Careless
        } else if self.sending.half_close {
            Manner::HalfClosed
        } else if self.sending.drip.is_some() {
            Manner::Dripping
        } else {
            Manner::Patient
        }
    }

    /// How long it may take at most.
    pub(crate) fn bound(&self, weather: &Weather) -> Duration {
        if let Some(after) = self.leave_after {
            return after + LATE;
        }
        let mut bound = self.timeout + LATE + self.stall.unwrap_or_default();
        if let Some((piece, pause)) = self.sending.drip {
            // Its head is about so long.
            bound += pause * u32::try_from(200 / piece + 1).expect("few pieces");
        }
        if let Some(talk) = self.talk {
            bound += Duration::from_millis(talk.messages * talk.pause_ms);
            // A replica that stands still does so for at most this long.
            let still = if weather.hangs.is_some() { talk.messages + 1 } else { 0 };
            bound += Duration::from_secs(30 * still);
        }
        bound
    }

    /// The request, numbered.
    pub(crate) fn request(&self, number: usize) -> Request<Drip<()>> {
        let path = format!(
            "/{number}/{}/{}/{}/{}",
            self.work_ms, self.reply_bytes, self.reply_pause_ms, self.how
        );
        let method = if self.upload.is_some() { Method::POST } else { Method::GET };
        let body = match self.upload {
            None => Drip::empty(),
            Some(Upload { bytes, pause_ms, told }) => {
                let body = Drip::new(bytes, b'u', Duration::from_millis(pause_ms), ());
                if told { body } else { body.chunked() }
            }
        };
        let host = format!("s{}.default.localhost", self.service);
        let mut request = Request::builder().method(method);
        request = if self.http2 {
            request.uri(format!("http://{host}{path}"))
        } else {
            request.uri(path).header("host", host)
        };
        if self.talk.is_some() {
            request = request.header("connection", "upgrade").header("upgrade", "echo");
        }
        request.body(body).expect("a request")
    }
}

fn chance(rng: &mut Rng, chance: f64) -> bool {
    chance > 0.0 && rng.f64() < chance
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match (self.http2, self.shared) {
            (false, _) => "HTTP/1.1",
            (true, false) => "HTTP/2",
            (true, true) => "HTTP/2 with others",
        };
        write!(f, "s{} by {protocol}, {} ms of work", self.service, self.work_ms)?;
        if let Some(Upload { bytes, pause_ms, told }) = self.upload {
            write!(f, ", sends {bytes} bytes")?;
            if pause_ms > 0 {
                write!(f, " with pauses of {pause_ms} ms")?;
            }
            if !told {
                write!(f, " of untold length")?;
            }
        }
        if let Some(talk) = self.talk {
            return write!(f, ", upgrades, {} messages every {} ms", talk.messages, talk.pause_ms);
        }
        write!(f, ", {} bytes back", self.reply_bytes)?;
        if self.reply_pause_ms > 0 {
            write!(f, " with pauses of {} ms", self.reply_pause_ms)?;
        }
        if self.how != "plain" {
            write!(f, ", {}", self.how)?;
        }
        if let Some(after) = self.leave_after {
            write!(f, ", leaves after {after:?}")?;
        }
        if let Some(stall) = self.stall {
            write!(f, ", reads nothing for {stall:?}")?;
        }
        if self.sending.half_close {
            write!(f, ", half-closes")?;
        }
        if let Some((piece, pause)) = self.sending.drip {
            write!(f, ", sends {piece} bytes every {pause:?}")?;
        }
        Ok(())
    }
}
