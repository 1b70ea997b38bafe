//! What tidegate adds to a cold start on one machine.
//!
//! Pairs, in turns: *order* is from the stated count to the report of a ready endpoint; *floor*
//! is the same program started directly and polled every millisecond until it takes a
//! connection. Prints medians, the median of the differences and the 90th percentile.
//!
//! ```text
//! cargo bench --bench cold_start            100 pairs of a program that starts at once
//! cargo bench --bench cold_start -- 50 200  50 pairs, the program listens after 200 ms
//! ```
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidegate::local::{Supervisor, SupervisorSettings};
use tidegate::model::{
    ContainerConcurrency, EnvVar, Probe, ProbeAction, Probes, ProcessSpec, Protocol, QueueSettings,
    RevisionId, RevisionSpec, ScalingSpec, Timeouts, Workload,
};
use tidegate::platform::{ScaleOrder, ScaleTarget, Update};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Milliseconds that the program takes before it listens.
const DELAY: &str = "START_DELAY_MS";

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if arguments.first().is_some_and(|word| word == "listen") {
        return listen();
    }
    let number =
        |index: usize, usual: u64| arguments.get(index).map_or(usual, |word| word.parse().unwrap());
    let (pairs, delay) = (number(0, 100), number(1, 0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(pairs, delay));
}

/// The program that is started.
fn listen() {
    let delay = std::env::var(DELAY).unwrap().parse().unwrap();
    wait(Duration::from_millis(delay));
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming() {
        drop(stream);
    }
}

/// An exact pause of a thread.
fn wait(pause: Duration) {
    if !pause.is_zero() {
        let pause = rustix::time::Timespec::try_from(pause).unwrap();
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}

async fn measure(pairs: u64, delay: u64) {
    let settings = SupervisorSettings {
        program: env!("CARGO_BIN_EXE_tidegate").into(),
        ..SupervisorSettings::detect().unwrap()
    };
    let (sender, mut updates) = mpsc::channel(64);
    let supervisor = Supervisor::start(settings, sender).unwrap();
    let handle = supervisor.handle();
    let revision = revision(delay);
    let (mut orders, mut floors, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    // The first pair warms the page cache.
    for pair in 0..=pairs {
        let floor = floor(delay).await;
        let begun = Instant::now();
        handle.scale(&revision, ScaleOrder::of(1)).await.unwrap();
        until(&mut updates, 1).await;
        let order = begun.elapsed();
        handle.scale(&revision, ScaleOrder::of(0)).await.unwrap();
        until(&mut updates, 0).await;
        if pair > 0 {
            let micros = |duration: Duration| duration.as_secs_f64() * 1e3;
            orders.push(micros(order));
            floors.push(micros(floor));
            differences.push(micros(order) - micros(floor));
        }
    }
    supervisor.shutdown().await;
    println!("{pairs} pairs, the program listens after {delay} ms; milliseconds");
    println!("order → ready   median {:.2}  p90 {:.2}", at(&mut orders, 50), at(&mut orders, 90));
    println!("floor           median {:.2}  p90 {:.2}", at(&mut floors, 50), at(&mut floors, 90));
    println!("difference of medians {:.2}", at(&mut orders, 50) - at(&mut floors, 50));
    println!(
        "differences     median {:.2}  p90 {:.2}",
        at(&mut differences, 50),
        at(&mut differences, 90)
    );
}

fn at(numbers: &mut [f64], percent: usize) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[(numbers.len() - 1) * percent / 100]
}

/// The same program, started directly, polled every millisecond.
async fn floor(delay: u64) -> Duration {
    tokio::task::spawn_blocking(move || {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("listen")
            .env("PORT", port.to_string())
            .env(DELAY, delay.to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            wait(Duration::from_millis(1));
        }
        let took = begun.elapsed();
        child.kill().unwrap();
        child.wait().unwrap();
        took
    })
    .await
    .unwrap()
}

async fn until(updates: &mut mpsc::Receiver<Update>, count: u32) {
    loop {
        match updates.recv().await.unwrap() {
            Update::Replicas { counts, .. }
                if counts.ready == count && counts.starting + counts.stopping == 0 =>
            {
                return;
            }
            Update::StartFailed { problem, .. } => panic!("{}", problem.message),
            _ => {}
        }
    }
}

fn revision(delay: u64) -> Arc<RevisionSpec> {
    let own = std::env::current_exe().unwrap();
    let readiness = Probe {
        action: ProbeAction::Tcp { port: None },
        initial_delay: Duration::ZERO,
        period: Duration::ZERO,
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    };
    let delay = EnvVar { name: DELAY.into(), value: delay.to_string().into(), secret: false };
    let process = ProcessSpec {
        command: vec![own.to_str().unwrap().into(), "listen".into()],
        directory: None,
        env: vec![delay],
        volumes: vec![],
        mounts: vec![],
        probes: Probes { startup: None, readiness, liveness: None },
        memory_limit_bytes: None,
        termination_grace: Duration::from_secs(5),
    };
    Arc::new(RevisionSpec {
        id: RevisionId::new("default", "cold-00001"),
        service: None,
        configuration: "cold".into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Process(Arc::new(process)),
    })
}
