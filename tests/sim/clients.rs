//! All clients of a run: what they do in each phase, and how they see their requests end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::ask::{Ask, Talk};
use crate::judge::Judge;
use crate::ledger::{End, Ledger, Property};
use crate::life::Door;
use crate::lines::{Line, Sending, Unsent};
use crate::nonsense;
use crate::replica::fill;
use crate::weather::{Phase, Weather};

/// All clients of a run.
pub(crate) struct Clients {
    ledger: Rc<Ledger>,
    weather: Weather,
    judge: Judge,
    door: Rc<Door>,
    rng: RefCell<Rng>,
    /// A connection that many requests share.
    shared: RefCell<Option<Line>>,
    busy: Cell<u32>,
}

/// Counts a client while it has something to do.
struct Busy(Rc<Clients>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

impl Clients {
    pub(crate) fn new(
        seed: u64,
        ledger: &Rc<Ledger>,
        weather: &Weather,
        door: &Rc<Door>,
    ) -> Rc<Self> {
        Rc::new(Self {
            ledger: Rc::clone(ledger),
            weather: weather.clone(),
            judge: Judge::new(weather),
            door: Rc::clone(door),
            rng: RefCell::new(Rng::with_seed(seed)),
            shared: RefCell::new(None),
            busy: Cell::new(0),
        })
    }

    /// Whether a client still has something to do.
    pub(crate) fn are_busy(&self) -> bool {
        self.busy.get() > 0
    }

    /// Nobody keeps a connection open.
    pub(crate) fn hang_up(&self) {
        *self.shared.borrow_mut() = None;
    }

    /// Lives through one phase. Clients may have something to do after it.
    pub(crate) async fn phase(self: &Rc<Self>, phase: &Phase) {
        self.ledger.note(format_args!("phase: {phase:?}"));
        match *phase {
            Phase::Silence { seconds } => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Phase::Burst { requests, work_ms } => {
                for n in 0..requests {
                    self.spawn_one(self.service(n), work_ms);
                    let gap = self.rng.borrow_mut().u64(..3);
                    tokio::time::sleep(Duration::from_millis(gap)).await;
                }
            }
            Phase::Spread { requests, work_ms, long_ms } => {
                for n in 0..requests {
                    let service = self.service(n);
                    if n % 7 == 3 {
                        self.spawn_ask(Ask::plain(&self.weather, service, long_ms));
                    } else {
                        self.spawn_one(service, work_ms);
                    }
                    tokio::time::sleep(Duration::from_millis(n % 3)).await;
                }
            }
            Phase::Trickle { requests, over_s, work_ms } => {
                for n in 0..requests {
                    let gap = self.rng.borrow_mut().u64(..=2_000 * over_s / requests);
                    tokio::time::sleep(Duration::from_millis(gap)).await;
                    self.spawn_one(self.service(n), work_ms);
                }
            }
            Phase::Steady { clients, work_ms, seconds } => {
                let until = Instant::now() + Duration::from_secs(seconds);
                for n in 0..clients {
                    let me = Rc::clone(self);
                    self.spawn(async move { me.keep_asking(me.service(n), work_ms, until).await });
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
                tokio::time::sleep_until(until).await;
            }
            Phase::Settle { clients, work_ms } => {
                // Only this load, none that is left from before.
                while self.are_busy() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let until = Instant::now() + Duration::from_secs(150);
                for _ in 0..clients {
                    let me = Rc::clone(self);
                    self.spawn(async move { me.keep_asking_plainly(work_ms, until).await });
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
                tokio::time::sleep_until(until).await;
            }
        }
    }

    fn service(&self, n: u64) -> usize {
        usize::try_from(n).expect("few") % self.weather.services.len()
    }

    fn spawn(self: &Rc<Self>, client: impl Future<Output = ()> + 'static) {
        self.busy.set(self.busy.get() + 1);
        let busy = Busy(Rc::clone(self));
        tokio::task::spawn_local(async move {
            client.await;
            drop(busy);
        });
    }

    fn draw(&self, service: usize, work_ms: u64) -> Ask {
        Ask::draw(&mut self.rng.borrow_mut(), &self.weather, service, work_ms)
    }

    fn spawn_one(self: &Rc<Self>, service: usize, work_ms: u64) {
        let nonsense = self.weather.chances.nonsense;
        if nonsense > 0.0 && self.rng.borrow_mut().f64() < nonsense {
            let me = Rc::clone(self);
            self.spawn(async move { me.talk_nonsense().await });
        }
        self.spawn_ask(self.draw(service, work_ms));
    }

    fn spawn_ask(self: &Rc<Self>, ask: Ask) {
        let me = Rc::clone(self);
        self.spawn(async move {
            drop(me.ask_on(None, ask).await);
        });
    }

    async fn keep_asking(&self, service: usize, work_ms: u64, until: Instant) {
        let mut line = None;
        while Instant::now() < until {
            let ask = self.draw(service, work_ms);
            line = self.ask_on(line, ask).await;
            // Where an answer takes no time, this takes some.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn keep_asking_plainly(&self, work_ms: u64, until: Instant) {
        let mut line = None;
        while Instant::now() < until {
            line = self.ask_on(line, Ask::plain(&self.weather, 0, work_ms)).await;
        }
    }

    /// Asks on this connection if it is of use, else on another.
    async fn ask_on(&self, line: Option<Line>, ask: Ask) -> Option<Line> {
        let odd = ask.sending != Sending::default() || ask.talk.is_some();
        let usable = match line {
            Some(mut line) if !odd && line.is_http2() == ask.http2 => {
                let ready = line.ready().await;
                (ready && self.may_go_on(&line)).then_some(line)
            }
            _ => None,
        };
        let line = match usable {
            Some(line) => line,
            None => self.connect(&ask).await,
        };
        let line = self.ask(line, ask).await;
        line.filter(|_| !odd)
    }

    /// Whether a connection may be used for more. One whose server said GOAWAY must not, and hyper's
    /// client uses it all the same, for requests that the server is to ignore.
    fn may_go_on(&self, line: &Line) -> bool {
        !line.is_http2() || self.door.is_open()
    }

    async fn connect(&self, ask: &Ask) -> Line {
        let shared = self.shared.borrow().as_ref().filter(|_| ask.shared).and_then(Line::share);
        let shared = shared.filter(|line| self.may_go_on(line));
        if let Some(line) = shared {
            return line;
        }
        loop {
            let stream = self.door.connect(&self.rng).await;
            if !ask.http2 {
                return Line::http1(stream, ask.sending).await;
            }
            // None: the program ended this moment.
            let Some(line) = Line::http2(stream).await else { continue };
            if ask.shared {
                *self.shared.borrow_mut() = line.share();
            }
            return line;
        }
    }

    /// Asks and waits for the end; the connection comes back if it can be used again.
    async fn ask(&self, mut line: Line, ask: Ask) -> Option<Line> {
        let (post, bound) = (ask.upload.is_some(), ask.bound(&self.weather));
        let request = self.ledger.sent(ask.service, post, ask.manner(), bound);
        self.ledger.note(format_args!("request {request} is sent to {ask}"));
        let end = match ask.leave_after {
            None => self.exchange(&mut line, request, &ask).await,
            Some(after) => {
                let exchange = self.exchange(&mut line, request, &ask);
                tokio::time::timeout(after, exchange).await.unwrap_or(End::Left)
            }
        };
        self.ledger.ended(request, end.clone());
        self.judge.end(&self.ledger, request, &end);
        matches!(end, End::Answered { .. }).then_some(line)
    }

    async fn exchange(&self, line: &mut Line, request: usize, ask: &Ask) -> End {
        let mut response = loop {
            match line.send(ask.request(request)).await {
                Ok(response) => break response,
                Err(Unsent(false)) => return End::NoAnswer,
                Err(Unsent(true)) => {
                    *line = self.connect(ask).await;
                    self.ledger.sent_again(request);
                }
            }
        };
        let status = response.status().as_u16();
        let reason = response.headers().get("tidegate-reason");
        let reason = reason.map(|value| value.to_str().expect("a token").to_owned());
        if let Some(talk) = ask.talk
            && response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            let upgraded = hyper::upgrade::on(&mut response);
            let whole = async {
                let io = TokioIo::new(upgraded.await.map_err(std::io::Error::other)?);
                self.talk(io, request, talk).await
            };
            return match whole.await {
                Ok(()) => End::Answered { status, reason },
                Err(_) => End::Cut,
            };
        }
        if let Some(stall) = ask.stall {
            tokio::time::sleep(stall).await;
        }
        let expected = reason.is_none().then_some(ask.reply_bytes);
        match self.read(response.into_body(), request, expected).await {
            Ok(()) => End::Answered { status, reason },
            Err(_) => End::Cut,
        }
    }

    /// Reads an answer, which is to be this request's own where the proxy does not say why not.
    async fn read(
        &self,
        mut body: Incoming,
        request: usize,
        expected: Option<usize>,
    ) -> hyper::Result<()> {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let data = frame?.into_data().unwrap_or_default();
            bytes += data.len();
            if expected.is_some() && data.iter().any(|byte| *byte != fill(request)) {
                self.ledger.violated(
                    Property::RightAnswer,
                    format_args!("request {request} got another one's answer"),
                );
            }
        }
        if expected.is_some_and(|expected| expected != bytes) {
            self.ledger.violated(
                Property::RightAnswer,
                format_args!("request {request} got {bytes} of {expected:?} bytes"),
            );
        }
        Ok(())
    }

    /// Says something, and is to hear it again.
    async fn talk(
        &self,
        mut io: TokioIo<hyper::upgrade::Upgraded>,
        request: usize,
        talk: Talk,
    ) -> std::io::Result<()> {
        for message in 0..talk.messages {
            tokio::time::sleep(Duration::from_millis(talk.pause_ms)).await;
            let said = format!("{request}:{message};");
            io.write_all(said.as_bytes()).await?;
            let mut heard = vec![0; said.len()];
            io.read_exact(&mut heard).await?;
            if heard != said.as_bytes() {
                self.ledger.violated(
                    Property::RightAnswer,
                    format_args!("request {request} heard what it did not say"),
                );
            }
        }
        if talk.says_goodbye {
            io.shutdown().await?;
            let mut rest = Vec::new();
            io.read_to_end(&mut rest).await?;
        }
        Ok(())
    }

    /// Connects and says what is no request.
    async fn talk_nonsense(&self) {
        let stream = self.door.connect(&self.rng).await;
        let kind = self.rng.borrow_mut().usize(..);
        nonsense::talk(stream, kind, &self.ledger).await;
    }
}
