//! Clients: HTTP/1.1 over duplex pipes. Some leave, some stop reading, most wait for their answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fastrand::Rng;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tidegate::proxy::Worker;
use tidegate::upstream::Socket;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::body::Drip;
use crate::checker::Judge;
use crate::ledger::{End, Ledger, Property};
use crate::replica::{PIPE_BYTES, fill};
use crate::weather::{Phase, Weather};

/// What a client does with one request.
#[derive(Clone, Debug)]
struct Ask {
    service: usize,
    work_ms: u64,
    reply_bytes: usize,
    reply_pause_ms: u64,
    how: &'static str,
    /// Bytes of a body, pause between its pieces, whether its length is told.
    upload: Option<(usize, u64, bool)>,
    leave_after: Option<Duration>,
    /// Reads nothing of the answer's body for so long.
    stall: Option<Duration>,
}

impl Ask {
    fn plain(service: usize, work_ms: u64) -> Self {
        Self {
            service,
            work_ms,
            reply_bytes: 100,
            reply_pause_ms: 0,
            how: "plain",
            upload: None,
            leave_after: None,
            stall: None,
        }
    }

    fn draw(rng: &mut Rng, weather: &Weather, service: usize, work_ms: u64) -> Self {
        let mut ask = Self::plain(service, rng.u64(1..=work_ms));
        let chance = |rng: &mut Rng, chance: f64| chance > 0.0 && rng.f64() < chance;
        ask.reply_bytes = match rng.u8(..10) {
            0 => 0,
            1 => rng.usize(20_000..100_000),
            _ => rng.usize(1..2_000),
        };
        if chance(rng, 0.1) {
            ask.reply_pause_ms = rng.u64(50..1_000);
        }
        if chance(rng, 0.3) {
            ask.how = "chunked";
        }
        if chance(rng, weather.uploads) {
            let slow = chance(rng, 0.1);
            let pause = if slow { rng.u64(2_000..4_000) } else { rng.u64(0..30) };
            let bytes = if slow { rng.usize(1..60_000) } else { rng.usize(1..150_000) };
            ask.upload = Some((bytes, pause, rng.bool()));
            if chance(rng, 0.3) {
                ask.how = "early";
            }
        }
        if chance(rng, weather.breaks) {
            ask.how = if rng.bool() { "break" } else { "cut" };
            ask.reply_bytes = ask.reply_bytes.max(2);
        }
        if chance(rng, weather.leavers) {
            ask.leave_after = Some(Duration::from_millis(rng.u64(1..work_ms + 2_000)));
        } else if chance(rng, weather.stalls) {
            ask.reply_bytes = 300_000;
            let timeout = weather.revisions[service].timeout;
            ask.stall = Some(timeout + Duration::from_millis(rng.u64(0..20_000)));
        }
        ask
    }
}

/// A connection; dropping it closes it.
struct Line {
    sender: SendRequest<Drip<()>>,
    driver: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// All clients of a run.
#[derive(Debug)]
pub(crate) struct Clients {
    ledger: Rc<Ledger>,
    weather: Weather,
    judge: Judge,
    workers: Vec<(Rc<Worker>, Arc<AtomicU32>)>,
    rng: RefCell<Rng>,
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
        judge: Judge,
        workers: Vec<(Rc<Worker>, Arc<AtomicU32>)>,
    ) -> Rc<Self> {
        Rc::new(Self {
            ledger: Rc::clone(ledger),
            weather: weather.clone(),
            judge,
            workers,
            rng: RefCell::new(Rng::with_seed(seed)),
            busy: Cell::new(0),
        })
    }

    /// Whether a client still has something to do.
    pub(crate) fn are_busy(&self) -> bool {
        self.busy.get() > 0
    }

    /// Lives through one phase. Clients may have something to do after it.
    pub(crate) async fn phase(self: &Rc<Self>, phase: &Phase) {
        self.ledger.note(format_args!("phase {phase:?}"));
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
                        self.spawn_ask(Ask::plain(service, long_ms));
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
        usize::try_from(n).expect("few") % self.weather.revisions.len()
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
        self.spawn_ask(self.draw(service, work_ms));
    }

    fn spawn_ask(self: &Rc<Self>, ask: Ask) {
        let me = Rc::clone(self);
        self.spawn(async move {
            let line = me.connect().await;
            drop(me.ask(line, ask).await);
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
            line = self.ask_on(line, Ask::plain(0, work_ms)).await;
        }
    }

    async fn ask_on(&self, line: Option<Line>, ask: Ask) -> Option<Line> {
        let usable = match line {
            Some(mut line) => line.sender.ready().await.is_ok().then_some(line),
            None => None,
        };
        let line = match usable {
            Some(line) => line,
            None => self.connect().await,
        };
        self.ask(line, ask).await
    }

    async fn connect(&self) -> Line {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (worker, load) = {
            let n = self.rng.borrow_mut().usize(..self.workers.len());
            &self.workers[n]
        };
        load.fetch_add(1, Ordering::Relaxed);
        worker.accept(Socket::Memory(theirs), std::net::Ipv4Addr::LOCALHOST.into());
        let (sender, driver) = handshake(TokioIo::new(ours)).await.expect("nothing is sent yet");
        let driver = tokio::task::spawn_local(async move {
            // How a connection ends shows in its requests.
            drop(driver.await);
        });
        Line { sender, driver: driver.abort_handle() }
    }

    /// Asks and waits for the end; the connection comes back if it can be used again.
    async fn ask(&self, mut line: Line, ask: Ask) -> Option<Line> {
        let patient = ask.leave_after.is_none() && ask.stall.is_none();
        let request = self.ledger.sent(ask.service, ask.upload.is_some(), patient);
        self.ledger.note(format_args!("request {request} is sent: {ask:?}"));
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
        let path = format!(
            "/{request}/{}/{}/{}/{}",
            ask.work_ms, ask.reply_bytes, ask.reply_pause_ms, ask.how
        );
        let method = if ask.upload.is_some() { Method::POST } else { Method::GET };
        let body = match ask.upload {
            None => Drip::new(0, 0, Duration::ZERO, ()),
            Some((bytes, pause, told)) => {
                let body = Drip::new(bytes, b'u', Duration::from_millis(pause), ());
                if told { body } else { body.chunked() }
            }
        };
        let http = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("s{}.default.localhost", ask.service))
            .body(body)
            .expect("a request");
        let Ok(response) = line.sender.send_request(http).await else { return End::NoAnswer };
        let status = response.status().as_u16();
        let reason = response.headers().get("tidegate-reason");
        let reason = reason.map(|value| value.to_str().expect("a token").to_owned());
        if let Some(stall) = ask.stall {
            tokio::time::sleep(stall).await;
        }
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return End::Cut };
            let data = frame.into_data().unwrap_or_default();
            bytes += data.len();
            if reason.is_none() && data.iter().any(|byte| *byte != fill(request)) {
                self.ledger.violated(
                    Property::RightAnswer,
                    format_args!("request {request} got another one's answer"),
                );
            }
        }
        if reason.is_none() && bytes != ask.reply_bytes {
            self.ledger.violated(
                Property::RightAnswer,
                format_args!("request {request} got {bytes} of {} bytes", ask.reply_bytes),
            );
        }
        End::Answered { status, reason }
    }
}
