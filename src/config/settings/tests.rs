use super::*;

fn data(pairs: &[(&str, &str)]) -> Data {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Vec<ConfigProblem>>) -> Vec<String> {
    let problems = result.expect_err("problems");
    assert!(problems.iter().all(|p| p.fix.is_some()), "each says what to write");
    problems.into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect()
}

#[test]
fn all_problems_of_a_config_map_are_named_at_once() {
    let problems = refused(parse_config_autoscaler(&data(&[
        ("stable-window", "5.5s"),
        ("min-scale", "-1"),
        ("max-scale-up-rate", "1"),
    ])));
    assert_eq!(
        problems,
        [
            "data.max-scale-up-rate: max-scale-up-rate = 1, must be greater than 1.0",
            "data.stable-window: stable-window = 5.5s, must be in [6s; 1h0m0s] range",
            "data.stable-window: stable-window = 5.5s, must be specified with at most second precision",
            "data.min-scale: min-scale = -1, must be at least 0",
        ]
    );
}

#[test]
fn one_machine_starts_nothing_unless_told() {
    let local = AutoscalerConfig::one_machine();
    assert_eq!((local.initial_scale, local.allow_zero_initial_scale), (0, true));
    let told = local.overlaid(&data(&[("initial-scale", "2")])).expect("valid");
    assert_eq!((told.initial_scale, told.allow_zero_initial_scale), (2, true));
    assert_eq!(AutoscalerConfig::default().initial_scale, 1);
}

#[test]
fn percentages_become_fractions() {
    let read = |text: &str| {
        let data = data(&[("container-concurrency-target-percentage", text)]);
        parse_config_autoscaler(&data).expect("valid").container_concurrency_target_fraction
    };
    assert_eq!((read("50"), read("0.5"), read("1"), read("1.5")), (0.5, 0.5, 1.0, 0.015));
}

#[test]
fn defaults_are_consistent_with_each_other() {
    let c = parse_config_defaults(&data(&[("revision-timeout-seconds", "200")])).expect("valid");
    assert_eq!(c.revision_response_start_timeout_seconds, 200);
    assert_eq!(
        refused(parse_config_defaults(&data(&[
            ("revision-timeout-seconds", "700"),
            ("revision-idle-timeout-seconds", "800"),
            ("container-concurrency", "2000"),
        ]))),
        [
            "data.revision-timeout-seconds: revision-timeout-seconds (700) cannot be greater than max-revision-timeout-seconds (600)",
            "data.revision-idle-timeout-seconds: revision-idle-timeout-seconds (800) cannot be greater than revision-timeout-seconds (700)",
            "data.container-concurrency: expected 0 <= 2000 <= 1000: container-concurrency",
        ]
    );
    let named = parse_config_defaults(&data(&[("container-name-template", "{{.Name}}-c")]));
    assert!(named.is_ok());
    assert_eq!(refused(parse_config_defaults(&data(&[("revision-cpu-limit", "much")]))).len(), 1);
}

#[test]
fn network_settings() {
    let c = parse_config_network(&data(&[
        ("domainTemplate", "{{.Name}}.{{.Domain}}"),
        ("rollout-duration", "60"),
        ("http-protocol", "Redirected"),
        ("auto-tls", "Enabled"),
    ]))
    .expect("valid");
    let none = Data::new();
    assert_eq!(c.host("hello", "default", "localhost", &none, &none), "hello.localhost");
    assert_eq!(c.tag_name("hello", "v1"), "v1-hello");
    assert_eq!(c.rollout_duration.as_secs(), 60);
    assert_eq!((c.http_protocol, c.external_domain_tls), (HttpProtocol::Redirected, true));
    let problems = refused(parse_config_network(&data(&[
        ("rollout-duration", "-1"),
        ("domain-template", "{{.Nam}}"),
        ("http-protocol", "maybe"),
        ("tag-template", "{{.Tag}} {{.Name}}"),
    ])));
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn the_most_specific_domain_wins() {
    let c = parse_config_domain(&data(&[
        ("example.com", ""),
        ("app.example.com", "selector:\n  app: web\n"),
        ("prod.example.com", "selector:\n  app: web\n  env: prod\n"),
        ("_example", ": not yaml ["),
    ]))
    .expect("valid");
    let domain = |pairs: &[(&str, &str)]| c.domain(&data(pairs)).map(str::to_owned);
    assert_eq!(domain(&[]).as_deref(), Some("example.com"));
    assert_eq!(domain(&[("app", "web")]).as_deref(), Some("app.example.com"));
    assert_eq!(domain(&[("app", "web"), ("env", "prod")]).as_deref(), Some("prod.example.com"));
    assert_eq!(refused(parse_config_domain(&data(&[("a.com", "selector: [")]))).len(), 1);
    assert_eq!(DomainConfig::default().domain(&Data::new()), None);
}

#[test]
fn features_logging_observability() {
    let features = parse_config_features(&data(&[
        ("tag-header-based-routing", "enabled"),
        ("kubernetes.podspec-affinity", "Allowed"),
        ("multi-container", "nonsense"),
    ]))
    .expect("valid");
    assert!(features.tag_header_based_routing() && features.is_enabled("multi-container"));
    assert!(features.is_allowed("kubernetes.podspec-affinity"));
    assert!(!features.is_enabled("kubernetes.podspec-affinity"));

    let logging = parse_config_logging(&data(&[
        ("loglevel.controller", "DEBUG"),
        ("zap-logger-config", "{\"level\": \"warn\"}"),
    ]))
    .expect("valid");
    assert_eq!(logging.level, Some(LogLevel::Warn));
    assert_eq!(logging.loggers.get("controller"), Some(&LogLevel::Debug));
    assert_eq!(
        refused(parse_config_logging(&data(&[("loglevel.x", "loud")]))),
        ["data.loglevel.x: invalid logging level: loud"]
    );

    let pairs = [("metrics-protocol", "grpc"), ("tracing-sampling-rate", "2")];
    assert_eq!(refused(parse_config_observability(&data(&pairs))).len(), 2);
    let on = parse_config_observability(&data(&[("logging.enable-request-log", "true")]));
    assert!(on.is_ok_and(|c| c.enable_request_log && c.request_log_template.is_none()));
}

#[test]
fn every_settings_config_map_is_known() {
    for name in CONFIG_MAPS {
        assert!(validate_settings(name, &data(&[("_example", "x")])).is_empty(), "{name}");
    }
    let bad = data(&[("stable-window", "1s")]);
    assert_eq!(validate_settings("config-autoscaler", &bad).len(), 1);
    assert!(validate_settings("other", &bad).is_empty());
}
