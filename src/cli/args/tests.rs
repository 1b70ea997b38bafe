use super::*;
use std::num::NonZeroUsize;
use std::time::Duration;

fn parse(line: &[&str]) -> Result<Command, clap::Error> {
    let line = std::iter::once("tidegate").chain(line.iter().copied());
    parse_from(line.map(OsString::from).collect())
}

fn serve(line: &[&str]) -> ServeArgs {
    match parse(line).unwrap() {
        Command::Serve(serve) => *serve,
        other => panic!("not serve: {other:?}"),
    }
}

#[test]
fn definitions_are_consistent() {
    cli().debug_assert();
    EchoAlone::command().debug_assert();
}

#[test]
fn serve_is_the_default_and_has_defaults() {
    let serve = serve(&["-f", "a.yaml", "-f", "b"]);
    assert_eq!(serve.manifests.files, [PathBuf::from("a.yaml"), PathBuf::from("b")]);
    let (addresses, given) = serve.listen.http_addresses();
    assert!(!given);
    assert_eq!(addresses, ["127.0.0.1:8080", "[::1]:8080"].map(|a| a.parse().unwrap()));
    assert_eq!(serve.listen.admin, "127.0.0.1:9095".parse().unwrap());
    assert_eq!(serve.manifests.domain, "localhost");
    assert_eq!(serve.max_replicas, 64);
    assert_eq!(serve.drain.drain_timeout, Duration::from_secs(30));
    assert_eq!(serve.state_dir, None);
    assert!(!serve.manifests.strict && !serve.log.access_log);
    assert!(serve.listen.worker_count() >= 1);
}

#[test]
fn every_option_of_serve_is_understood() {
    let line = "serve -f a.yaml --http 127.0.0.1:0 --http [::1]:0,:9 --admin localhost:0 \
                --domain example.com --default-service shop/cart --run hello=x,y \
                --state-dir none --workers 3 --max-replicas 5 --drain-timeout 500ms \
                --health-path /healthz --trusted-proxies 10.0.0.0/8,::1 --strict \
                --http-internal :0 --https :8443 --tls-cert a.crt,b.crt --tls-key a.key --tls-key b.key \
                --log-format json --log-level debug --access-log --access-log-sample 0.5";
    let serve = serve(&line.split_whitespace().collect::<Vec<_>>());
    let expected = ["127.0.0.1:0", "[::1]:0", "[::]:9"].map(|a| a.parse().unwrap());
    assert_eq!(serve.listen.http_addresses(), (expected.to_vec(), true));
    assert_eq!(serve.http_internal, ["[::]:0".parse().unwrap()]);
    assert_eq!(serve.default_service, Some(ServiceId::new("shop", "cart")));
    assert_eq!(serve.manifests.run.len(), 1, "a comma belongs to the command");
    assert_eq!(serve.manifests.run[0].command, "x,y");
    assert_eq!(serve.state_dir, Some(StateDir::None));
    assert!(parse(&["-f", "a.yaml", "--state-dir", ""]).is_err());
    assert_eq!(serve.listen.workers, NonZeroUsize::new(3));
    assert_eq!(serve.drain.drain_timeout, Duration::from_millis(500));
    let networks = ["10.0.0.0/8", "::1/128"].map(|n| n.parse().unwrap());
    assert_eq!(serve.trusted_proxies, networks);
    assert_eq!(serve.listen.https.https, ["[::]:8443".parse().unwrap()]);
    let pair = |name: &str| (PathBuf::from(format!("{name}.crt")), format!("{name}.key").into());
    let pairs: Vec<(PathBuf, PathBuf)> =
        serve.listen.https.pairs().map(|(cert, key)| (cert.into(), key.into())).collect();
    assert_eq!(pairs, ["a", "b"].map(pair));
    assert_eq!(serve.log.log_format, LogFormat::Json);
    assert!(serve.manifests.strict && serve.log.access_log);
}

fn sidecar(line: &str) -> Result<SidecarArgs, clap::Error> {
    let line: Vec<_> = std::iter::once("sidecar").chain(line.split_whitespace()).collect();
    parse(&line).map(|command| match command {
        Command::Sidecar(sidecar) => *sidecar,
        other => panic!("not sidecar: {other:?}"),
    })
}

#[test]
fn a_sidecar_has_knatives_defaults() {
    let args = sidecar("--upstream 127.0.0.1:9000").unwrap();
    assert_eq!((args.container_concurrency, args.queue_depth, args.queue_timeout), (0, None, None));
    assert_eq!(args.timeout, Duration::from_secs(300));
    assert_eq!((args.response_start_timeout, args.idle_timeout), (None, None));
    assert!(!args.h2c && args.readiness_path.is_none());
    assert_eq!(args.name, ServiceId::new("default", "backend"));
    assert!(!args.listen.http_addresses().1);
}

#[test]
fn a_backend_is_a_port_an_address_or_a_name() {
    for (text, host, port) in [
        ("9000", "localhost", 9000),
        (":9000", "localhost", 9000),
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("[::1]:9000", "::1", 9000),
        ("app.default:80", "app.default", 80),
    ] {
        let found = sidecar(&format!("--upstream {text}")).unwrap().upstream;
        assert_eq!((found.host.as_str(), found.port), (host, port), "{text}");
    }
    for text in ["", "app", "0", "127.0.0.1:0", "http://app:80", "app:99999", "::1", "a/b:80"] {
        let error = sidecar(&format!("--upstream={text}")).unwrap_err().to_string();
        assert!(error.contains("app:9000"), "{text:?} gives:\n{error}");
    }
}

#[test]
fn wrong_values_say_what_to_write() {
    for (line, advice) in [
        (&["-f", "a", "--http", "8080"][..], "127.0.0.1:8080"),
        (&["-f", "a", "--run", "hello"], "python3"),
        (&["-f", "a", "--run", "=x"], "python3"),
        (&["-f", "a", "--drain-timeout", "soon"], "30s"),
        (&["-f", "a", "--drain-timeout=-1s"], "30s"),
        (&["-f", "a", "--trusted-proxies", "ten"], "10.0.0.0/8"),
        (&["-f", "a", "--health-path", "healthz"], "/healthz"),
        (&["-f", "a", "--access-log-sample", "2"], "0.01"),
        (&["-f", "a", "--default-service", "a/b/c"], "NAMESPACE/NAME"),
        (&["-f", "a", "--workers", "0"], "workers"),
        (&["-f", "a", "--https", ":8443"], "--tls-cert FILE --tls-key FILE"),
        (&["-f", "a", "--tls-cert", "c", "--tls-key", "k"], "add --https ADDR"),
        (&["-f", "a", "--https", ":1", "--tls-cert", "c"], "each certificate its key"),
        (&["-f", "a", "--https-port", "443"], "add --https ADDR"),
        (&["-f", "a", "--admin-tls-cert", "c"], "--admin-tls-key <FILE>"),
        (&["status", "--admin-name", "x"], "--admin-ca <FILE>"),
        (&["-f", "a", "--admin-token-file", "t", "--admin-token", "x"], "cannot be used with"),
        (&["serve"], "--filename <PATH>"),
        (&["sevre"], "serve"),
    ] {
        let text = parse(line).unwrap_err().to_string();
        assert!(text.contains(advice), "{line:?} gives:\n{text}");
    }
}

#[test]
fn a_cluster_instead_of_files() {
    let args = serve(&["serve", "--kubernetes"]);
    assert!(args.cluster.kubernetes && args.manifests.files.is_empty());
    let all = |addresses: &[SocketAddr]| -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    };
    assert_eq!(all(&args.listen.http), ["[::]:8080"]);
    assert_eq!(all(&args.http_internal), ["[::]:8081"]);
    assert_eq!(all(&[args.listen.admin]), ["[::]:9095"]);
    let line = ["--kubernetes", "--namespace", "shop", "--http", ":80", "--admin", ":1"];
    let args = serve(&line);
    assert_eq!(args.cluster.namespace.as_deref(), Some("shop"));
    assert_eq!((all(&args.listen.http).len(), args.listen.admin.port()), (1, 1));
    for (line, advice) in [
        (&["serve", "--kubernetes", "-f", "a"][..], "--filename is for serving files"),
        (&["serve", "--kubernetes", "--run", "a=b"], "--run is for serving files"),
        (&["serve", "--kubernetes", "--state-dir", "none"], "--state-dir is for serving files"),
        (&["serve", "-f", "a", "--namespace", "x"], "--kubernetes"),
    ] {
        let text = parse(line).unwrap_err().to_string();
        assert!(text.contains(advice), "{line:?} gives:\n{text}");
    }
}

#[test]
fn echo_and_status_and_guard() {
    match parse(&["echo", "--port", "0"]).unwrap() {
        Command::Echo(echo) => assert_eq!(echo.address(), "127.0.0.1:0".parse().unwrap()),
        other => panic!("{other:?}"),
    }
    for (listen, expected) in [
        ("[::]", "[::]:9000"),
        ("0.0.0.0", "0.0.0.0:9000"),
        ("[::]:8080", "[::]:8080"),
        (":8080", "[::]:8080"),
        ("10.0.0.1:8080", "10.0.0.1:8080"),
    ] {
        match parse(&["echo", "--port", "9000", "--listen", listen]).unwrap() {
            Command::Echo(echo) => assert_eq!(echo.address(), expected.parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }
    for listen in ["::", "8080", "example.com", "[::1", ""] {
        let refused = parse(&["echo", "--listen", listen]).unwrap_err().to_string();
        assert!(refused.contains("0.0.0.0 or [::]"), "{refused}");
    }
    match parse(&["status", "-w", "-o", "json"]).unwrap() {
        Command::Status(status) => {
            assert!(status.watch);
            assert_eq!(status.output, Output::Json);
        }
        other => panic!("{other:?}"),
    }
    match parse(&["__guard", "7", "--", "sh", "-c", "x"]).unwrap() {
        Command::Guard(guard) => assert_eq!(guard.arguments.last().unwrap(), "x"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_option_can_come_from_the_environment() {
    for command in Cli::command()
        .get_subcommands()
        .filter(|c| ["serve", "sidecar", "validate"].contains(&c.get_name()))
    {
        for option in command.get_arguments().filter(|a| a.get_id() != "help") {
            let env = option.get_env().unwrap_or_else(|| panic!("{} has none", option.get_id()));
            let env = env.to_str().unwrap();
            let long = option.get_long().unwrap().to_uppercase().replace('-', "_");
            assert_eq!(env, format!("TIDEGATE_{long}"));
        }
    }
}
