//! Cases of `tests/raw`: bytes that a client, or a replica, may send. Each is refused, or forwarded
//! with one meaning. Behind tidegate are a replica that records, and HAProxy, nginx and Node's
//! server: what they understand is compared with what the strictest reader does.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

mod case;
#[path = "../support/client.rs"]
mod client;
mod http2;
mod message;
mod replica;
mod run;
mod servers;
#[path = "../support/serving.rs"]
mod serving;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use case::Case;
use replica::Replica;
use run::{Stage, Tally, is_for_servers, is_http2};
use servers::Server;
use serving::{Service, Tidegate, file, repository};

/// Cases in the repository, by folder.
const HTTP1: usize = 47;
const REPLICA: usize = 62;
const SMUGGLING: usize = 449;

const BACKENDS: [&str; 4] = ["recorder", "haproxy", "nginx", "node"];

fn folder(path: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let files = files.iter().filter(|file| file.extension().is_some_and(|e| e == "raw"));
    files.flat_map(|file| case::read(file)).collect()
}

/// A tidegate before a backend; with `plain`, what is plain HTTP/1.1 takes the direct path, else
/// everything is hyper's.
async fn stage(backend: &str, plain: bool, server: Option<&Server>) -> Stage {
    let replica = Replica::start(server.map(Server::socket)).await;
    let mut service = Service::new("a").at(replica.address);
    if !plain {
        service = service.annotation("tidegate.dev/no-wake", "/nobody-asks-for-this");
    }
    let tidegate = Tidegate::with(&file(&[service]), &["--workers", "1"]);
    Stage { tidegate, replica, real: backend != "recorder" }
}

/// Plays all that is for a backend, on both paths; what went wrong is told.
async fn all(backend: &'static str, cases: &[Case]) -> (Tally, Vec<String>) {
    let server = match backend {
        "recorder" => None,
        name => Some(Server::start(name).await),
    };
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for plain in [true, false] {
        let stage = stage(backend, plain, server.as_ref()).await;
        for case in cases {
            // HTTP/2 has one path.
            if stage.real && !is_for_servers(case) || is_http2(case) && !plain {
                continue;
            }
            if let Err(why) = stage.play(case, &mut tally).await {
                let path = if plain { "direct" } else { "hyper" };
                wrong.push(format!("{} ({backend}, {path})\n  {why}", case.at));
            }
        }
    }
    (tally, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_is_refused_or_has_one_meaning() {
    let mut cases = Vec::new();
    let mut counts = Vec::new();
    for part in ["http1", "replica", "smuggling"] {
        let found = folder(&repository("tests/raw").join(part));
        counts.push(found.len());
        cases.extend(found);
    }
    assert_eq!(counts, [HTTP1, REPLICA, SMUGGLING], "cases that were found");
    if let Some(further) = std::env::var_os("TIDEGATE_RAW") {
        let found = folder(Path::new(&further));
        assert!(!found.is_empty(), "TIDEGATE_RAW names a folder without cases (*.raw)");
        cases.extend(found);
    }
    let (a, b, c, d) = tokio::join!(
        all(BACKENDS[0], &cases),
        all(BACKENDS[1], &cases),
        all(BACKENDS[2], &cases),
        all(BACKENDS[3], &cases),
    );
    let mut tallies = BTreeMap::new();
    let mut wrong = Vec::new();
    for (backend, (tally, found)) in BACKENDS.into_iter().zip([a, b, c, d]) {
        tallies.insert(backend, tally);
        wrong.extend(found);
    }
    let table = table(&tallies);
    println_table(&table);
    assert!(wrong.is_empty(), "{} went wrong:\n{}\n{table}", wrong.len(), wrong.join("\n"));
    let twice = cases.iter().filter(|case| !is_http2(case)).count();
    assert_eq!(tallies["recorder"].played, cases.len() + twice, "each case, on each path");
    let real = cases.iter().filter(|case| is_for_servers(case));
    let real: usize = real.map(|case| if is_http2(case) { 1 } else { 2 }).sum();
    for backend in &BACKENDS[1..] {
        assert_eq!(tallies[backend].played, real, "cases before {backend}");
    }
}

fn table(tallies: &BTreeMap<&str, Tally>) -> String {
    let mut table = String::from(
        "backend      played  refused  broken off  forwarded  refused by the server\n",
    );
    for (backend, tally) in tallies {
        let Tally { played, refused, broken, forwarded, by_server } = tally;
        let _ = writeln!(
            table,
            "{backend:<10} {played:>8} {refused:>8} {broken:>11} {forwarded:>10} {by_server:>22}"
        );
    }
    table
}

#[expect(clippy::print_stderr, reason = "the table is what this test is asked for")]
fn println_table(table: &str) {
    eprintln!("{table}");
}
