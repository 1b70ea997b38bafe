//! Replicas as real processes: the supervisor with its guard, and programs of several kinds.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod stage;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate::model::{
    EndpointId, EnvVar, Mount, Probe, ProbeAction, Probes, Problem, ProcessSpec, Reason,
    RevisionId, Volume, VolumeFile, Workload,
};
use tidegate::platform::{Endpoint, ScaleOrder, ScaleTarget};
use tokio::time::{Instant, sleep};

use stage::{
    PATIENCE, SERVER, Stage, State, alive, dies, free_port, get, has, http_probe, of, parent, perl,
    process, revision, tcp_probe,
};

#[tokio::test]
async fn a_replica_starts_with_the_runtime_contract_and_stops() {
    let mut stage = Stage::new();
    let home = tempfile::tempdir().unwrap();
    let mount = home.path().join("etc/config");
    let variable =
        |name: &str, value: &str| EnvVar { name: name.into(), value: value.into(), secret: false };
    let file = VolumeFile { path: "key".into(), content: b"value"[..].into(), secret: true };
    let spec = of(ProcessSpec {
        env: vec![variable("GREETING", "at $(PORT) of $(K_SERVICE), $$(PORT)")],
        volumes: vec![Volume { name: "my-config".into(), files: vec![file] }],
        mounts: vec![Mount { volume: "my-config".into(), path: mount.clone(), sub_path: None }],
        ..perl()
    });
    stage.scale(&spec, 1, &[]).await;
    let endpoints = stage.settled(&spec, 1).await;
    stage.until(&spec, "a cold start", |state| state.cold_starts == 1).await;
    let address = endpoints[0].address;
    let port = address.port();
    let volume = get(address, "/env/TIDEGATE_VOLUME_MY_CONFIG").await.unwrap();
    for (path, expected) in [
        ("/env/K_SERVICE", "hello"),
        ("/env/K_REVISION", "hello-00001"),
        ("/env/K_CONFIGURATION", "hello"),
        ("/env/PORT", &port.to_string()),
        ("/env/GREETING", &format!("at {port} of hello, $(PORT)")),
        ("/env/PATH", &std::env::var("PATH").unwrap()),
    ] {
        assert_eq!(get(address, path).await.unwrap(), expected, "{path}");
    }
    assert_eq!(std::fs::read(mount.join("key")).unwrap(), b"value");
    let pid = get(address, "/pid").await.unwrap();
    stage.scale(&spec, 0, &[]).await;
    stage.settled(&spec, 0).await;
    assert!(!alive(&pid));
    assert!(!std::fs::exists(volume).unwrap(), "its volumes go with it");
    assert!(std::fs::symlink_metadata(&mount).is_err(), "and so does the link");
    stage.end().await;
}

#[tokio::test]
async fn programs_of_several_languages_and_a_shell_between() {
    let node = "require('http').createServer((q, r) => r.end(String(process.pid)))\
                .listen(process.env.PORT)";
    let python = "import http.server, os\n\
                  class H(http.server.BaseHTTPRequestHandler):\n\
                  \x20 def do_GET(s):\n\
                  \x20   s.send_response(200); s.end_headers(); s.wfile.write(str(os.getpid()).encode())\n\
                  http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()";
    let shell = format!("perl -e '{SERVER}'; true");
    for (needs, command) in [
        ("python3", &["python3", "-c", python][..]),
        ("node", &["node", "-e", node]),
        ("node", &["node", "-e", &node.replace(".PORT)", ".PORT, '::1')")]),
        ("node", &["sh", "-c", &format!("node -e \"{node}\"; true")]),
        ("sh", &["sh", "-c", &shell]),
    ] {
        if !has(needs) {
            println!("no {needs} here");
            continue;
        }
        let mut stage = Stage::new();
        let spec = of(process(command));
        stage.scale(&spec, 1, &[]).await;
        let address = stage.settled(&spec, 1).await[0].address;
        let pid = get(address, "/pid").await.unwrap();
        assert!(alive(&pid), "{command:?} answered {pid}");
        stage.scale(&spec, 0, &[]).await;
        stage.settled(&spec, 0).await;
        assert!(!alive(&pid), "{command:?}: the whole group goes");
        stage.end().await;
    }
}

#[tokio::test]
async fn the_last_spared_go_first_and_counts_include_those_that_stop() {
    let mut stage = Stage::new();
    let spec = of(perl());
    stage.scale(&spec, 3, &[]).await;
    let mut ids: Vec<_> =
        stage.settled(&spec, 3).await.into_iter().map(|endpoint| endpoint.id).collect();
    ids.rotate_left(1);
    stage.scale(&spec, 1, &ids).await;
    let stopping = |state: &State| state.counts.stopping == 2 && state.endpoints.len() == 1;
    stage.until(&spec, "two that stop", stopping).await;
    assert_eq!(stage.settled(&spec, 1).await[0].id, ids[0]);
    stage.end().await;
}

#[tokio::test]
async fn a_program_that_ignores_port_is_found_and_runs_once() {
    let mut stage = Stage::new();
    let own = free_port();
    let spec = of(process(&["perl", "-e", SERVER, &own.to_string()]));
    stage.scale(&spec, 3, &[]).await;
    let endpoints = stage.settled(&spec, 1).await;
    assert_eq!(endpoints[0].address.port(), own);
    assert_eq!(get(endpoints[0].address, "/").await.unwrap(), "hello");
    // Still one when the count is stated again, and again after it was at zero.
    stage.scale(&spec, 3, &[]).await;
    stage.scale(&spec, 0, &[]).await;
    stage.settled(&spec, 0).await;
    stage.scale(&spec, 3, &[]).await;
    assert_eq!(stage.settled(&spec, 1).await[0].address.port(), own);
    stage.end().await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_holder() {
    let mut stage = Stage::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let spec = of(process(&["perl", "-e", SERVER, &port]));
    stage.scale(&spec, 1, &[]).await;
    let text = stage.failure(&spec).await;
    assert!(text.contains("Address already in use"), "{text}");
    let holder = format!("wants port {port}, which process {} (", std::process::id());
    assert!(text.contains(&holder), "{text}");
    stage.end().await;
}

#[tokio::test]
async fn failures_say_why() {
    for (command, parts) in [
        (
            &["sh", "-c", "echo one; echo two >&2; exit 3"][..],
            &["`sh -c ", "exit status 3", "\n  one", "\n  two"][..],
        ),
        (&["sh", "-c", "kill -SEGV $$$$"], &["signal 11", "It printed nothing"]),
        (&["no-such-program-here"], &["no program no-such-program-here on PATH", "install it"]),
        (&["/etc/passwd"], &["/etc/passwd", "not executable"]),
    ] {
        let mut stage = Stage::new();
        let spec = of(process(command));
        let asked = Instant::now();
        stage.scale(&spec, 1, &[]).await;
        let text = stage.failure(&spec).await;
        for part in parts {
            assert!(text.contains(part), "{command:?}: {part} is not in: {text}");
        }
        assert!(asked.elapsed() < Duration::from_secs(10), "{command:?}: promptly");
        stage.end().await;
    }
}

#[tokio::test]
async fn one_that_never_listens_fails_at_the_deadline_and_is_killed() {
    let mut stage = Stage::new();
    let mut spec = (*of(process(&["sh", "-c", "echo $$$$; sleep 1000"]))).clone();
    spec.scaling.progress_deadline = Duration::from_millis(600);
    let spec = Arc::new(spec);
    stage.scale(&spec, 1, &[]).await;
    let text = stage.failure(&spec).await;
    assert!(text.contains("not ready within 0.6 s"), "{text}");
    assert!(text.contains("$PORT"), "{text}");
    let pid = text.lines().last().unwrap().trim().to_owned();
    dies(&pid).await;
    // It is tried again by itself, and not more often than the back-off allows.
    assert!(stage.failure(&spec).await.contains("not ready"));
    stage.end().await;
}

#[tokio::test]
async fn a_crash_loop_backs_off_whatever_is_ordered() {
    let mut stage = Stage::new();
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("starts");
    let script = format!("echo x >> {}; exit 1", list.display());
    let spec = of(process(&["sh", "-c", &script]));
    let until = Instant::now() + Duration::from_millis(1_000);
    while Instant::now() < until {
        stage.scale(&spec, 1, &[]).await;
        while let Ok(update) = stage.updates.try_recv() {
            stage.take(update);
        }
        sleep(Duration::from_millis(2)).await;
    }
    // At 0, 0.1, 0.3, 0.7 s: four, fewer on a slow machine.
    let starts = std::fs::read_to_string(&list).unwrap().lines().count();
    assert!((1..=4).contains(&starts), "{starts} starts");
    let reported = stage.states[&spec.id].problems.len();
    assert!(reported <= starts && starts <= reported + 1, "{reported} of {starts} are reported");
    stage.end().await;
}

#[tokio::test]
async fn a_stubborn_group_is_killed_after_its_grace() {
    let mut stage = Stage::new();
    let script = format!("trap '' TERM; perl -e '$SIG{{TERM}} = \"IGNORE\"; {SERVER}'");
    let spec = of(ProcessSpec {
        termination_grace: Duration::from_millis(300),
        ..process(&["sh", "-c", &script])
    });
    stage.scale(&spec, 1, &[]).await;
    let address = stage.settled(&spec, 1).await[0].address;
    let pid = get(address, "/pid").await.unwrap();
    let told = Instant::now();
    stage.scale(&spec, 0, &[]).await;
    stage.settled(&spec, 0).await;
    assert!(told.elapsed() >= Duration::from_millis(300), "its grace");
    assert!(!alive(&pid));
    stage.end().await;
}

#[tokio::test]
async fn probes_take_out_bring_back_and_restart() {
    let mut stage = Stage::new();
    let spec = of(ProcessSpec {
        probes: Probes {
            startup: Some(Probe { failure_threshold: 200, ..http_probe("/startup") }),
            readiness: http_probe("/ready"),
            liveness: None,
        },
        ..perl()
    });
    stage.scale(&spec, 1, &[]).await;
    let before = stage.settled(&spec, 1).await;
    get(before[0].address, "/fail").await.unwrap();
    let out = |state: &State| state.endpoints.is_empty() && state.counts.starting == 1;
    stage.until(&spec, "taken out", out).await;
    get(before[0].address, "/mend").await.unwrap();
    assert_eq!(stage.settled(&spec, 1).await, before, "the same replica is back");
    stage.end().await;

    let mut stage = Stage::new();
    let spec = of(ProcessSpec {
        probes: Probes { startup: None, readiness: tcp_probe(), liveness: Some(http_probe("/")) },
        ..perl()
    });
    stage.scale(&spec, 1, &[]).await;
    let before = stage.settled(&spec, 1).await;
    get(before[0].address, "/fail").await.unwrap();
    stage.until(&spec, "out", |state| state.endpoints.is_empty()).await;
    let after = stage.settled(&spec, 1).await;
    assert_ne!(after[0].id, before[0].id, "another replica");
    stage.end().await;
}

#[tokio::test]
async fn exec_probes_run_as_the_program_does() {
    let mut stage = Stage::new();
    let home = tempfile::tempdir().unwrap();
    let sign = home.path().join("sign");
    let check = format!("test \"$K_SERVICE\" = hello && test -e {}", sign.display());
    let readiness = Probe {
        action: ProbeAction::Exec { command: vec!["sh".into(), "-c".into(), check.into()] },
        period: Duration::from_millis(100),
        ..tcp_probe()
    };
    let probes = Probes { startup: None, readiness, liveness: None };
    let spec = of(ProcessSpec { probes, ..perl() });
    stage.scale(&spec, 1, &[]).await;
    sleep(Duration::from_millis(400)).await;
    while let Ok(update) = stage.updates.try_recv() {
        stage.take(update);
    }
    assert_eq!(stage.states[&spec.id].counts.ready, 0, "the sign is not there yet");
    std::fs::write(&sign, "").unwrap();
    stage.settled(&spec, 1).await;
    stage.end().await;
}

#[tokio::test]
async fn a_crash_and_the_death_of_the_guard_are_survived() {
    let mut stage = Stage::new();
    let spec = of(perl());
    stage.scale(&spec, 2, &[]).await;
    let before = stage.settled(&spec, 2).await;
    let _ = get(before[0].address, "/die").await;
    stage.until(&spec, "one", |state| state.endpoints.len() == 1).await;
    let after = stage.settled(&spec, 2).await;
    let ids = |endpoints: &[Endpoint]| -> BTreeSet<EndpointId> {
        endpoints.iter().map(|endpoint| endpoint.id.clone()).collect()
    };
    assert_eq!(ids(&before).intersection(&ids(&after)).count(), 1, "the other one stays");

    let pid = get(after[0].address, "/pid").await.unwrap();
    let guard = parent(&pid);
    assert!(std::process::Command::new("kill").args(["-9", &guard]).status().unwrap().success());
    stage.until(&spec, "none", |state| state.endpoints.is_empty()).await;
    dies(&pid).await;
    let anew = stage.settled(&spec, 2).await;
    assert!(ids(&after).is_disjoint(&ids(&anew)));
    let pid = get(anew[0].address, "/pid").await.unwrap();
    assert_ne!(parent(&pid), guard);
    stage.end().await;
    assert!(!alive(&pid), "gone with the shutdown");
}

#[tokio::test]
async fn a_renewal_does_not_wait_and_what_is_replaced_goes() {
    let mut stage = Stage::new();
    let home = tempfile::tempdir().unwrap();
    let sign = home.path().join("sign");
    let script = format!("test -e {} && exec perl -e '{SERVER}'; exit 1", sign.display());
    let spec = of(process(&["sh", "-c", &script]));
    stage.scale(&spec, 1, &[]).await;
    stage.failure(&spec).await;
    std::fs::write(&sign, "").unwrap();
    assert!(!stage.handle.renew(&spec.id).await.unwrap());
    let before = stage.settled(&spec, 1).await;
    assert!(!stage.handle.renew(&spec.id).await.unwrap());
    let order = ScaleOrder { replaced: vec![before[0].id.clone()], ..ScaleOrder::of(1) };
    stage.handle.scale(&spec, order).await.unwrap();
    stage.until(&spec, "the old one out", |state| state.endpoints != before).await;
    assert_ne!(stage.settled(&spec, 1).await, before);
    let unknown = RevisionId::new("default", "other");
    assert!(stage.handle.renew(&unknown).await.is_err());
    stage.end().await;
}

#[tokio::test]
async fn a_flood_of_output_stops_nobody() {
    let mut stage = Stage::new();
    let script = format!("$| = 1; print 'x' x 100, qq(\\n) for 1..100_000; {SERVER}");
    let spec = of(process(&["perl", "-e", &script]));
    stage.scale(&spec, 1, &[]).await;
    stage.settled(&spec, 1).await;
    stage.end().await;
}

/// Events of the target `replica`, as `name=value` texts.
#[derive(Clone, Default)]
struct Log(Arc<parking_lot::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{}={value:?};", field.name());
            }
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.0 += &format!("{}={value};", field.name());
            }
        }
        if event.metadata().target() == "replica" {
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            self.0.lock().push(fields.0);
        }
    }
}

#[tokio::test]
async fn what_replicas_print_is_logged_line_by_line() {
    use tracing_subscriber::layer::SubscriberExt;
    let log = Log::default();
    // For the whole process: the log has a thread of its own. Other tests only add lines.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone()))
        .unwrap();
    let mut stage = Stage::new();
    let json = r#"{"level":"info","n":1}"#;
    let script = format!("printf 'one\\ntwo\\n%s\\n' '{json}'; echo bad >&2; printf tail; exit 1");
    let spec = of(process(&["sh", "-c", &script]));
    stage.scale(&spec, 1, &[]).await;
    stage.failure(&spec).await;
    stage.end().await;
    let revision = "revision=default/hello-00001;replica=1;";
    for (stream, rest) in [
        ("stdout", "message=one;"),
        ("stdout", "message=two;"),
        ("stdout", r#"raw={"level":"info","n":1};"#),
        ("stdout", "message=tail;"),
        ("stderr", "message=bad;"),
    ] {
        let deadline = Instant::now() + PATIENCE;
        let stream = format!("stream={stream};");
        let is_it =
            |line: &String| [rest, revision, &stream].iter().all(|part| line.contains(part));
        while !log.0.lock().iter().any(is_it) {
            assert!(Instant::now() < deadline, "{stream} {rest} is not in {:?}", log.0.lock());
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn what_somebody_else_runs_is_reported_and_left_alone() {
    let mut stage = Stage::new();
    let addresses: Vec<SocketAddr> =
        vec!["127.0.0.1:9001".parse().unwrap(), "[::1]:9002".parse().unwrap()];
    let spec = revision(Workload::Static(addresses.clone()));
    stage.handle.announce(&spec).await.unwrap();
    let endpoints = stage.settled(&spec, 2).await;
    let seen: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    assert_eq!(seen, addresses);
    assert_eq!(endpoints[1].id, EndpointId::new("[::1]:9002"));
    stage.scale(&spec, 0, &[]).await;
    assert!(stage.updates.try_recv().is_err(), "a count changes nothing");

    let problem = Problem::new(Reason::NoLocalCommand, "say which program");
    let spec = revision(Workload::Unavailable(problem.clone()));
    stage.scale(&spec, 1, &[]).await;
    stage.until(&spec, "told", |state| state.problems == [problem.clone()]).await;

    let error = stage.handle.scale(&of(perl()), ScaleOrder::of(5_000)).await.unwrap_err();
    assert!(error.to_string().contains("more than 1000"), "{error}");
    stage.end().await;
}
