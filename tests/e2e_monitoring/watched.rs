//! A tidegate that something happens to, and a Prometheus that scrapes it.

use std::net::TcpListener;

use super::client::{empty, get, h1, request, send1, soon};
use super::https::{Authority, TlsClient};
use super::prometheus::Prometheus;
use super::serving::{Service, Tidegate, file, host, repository};

/// Both, running.
pub(crate) struct Watched {
    pub(crate) prometheus: Prometheus,
    tidegate: Tidegate,
    client: TlsClient,
    _authority: Authority,
}

impl Watched {
    /// Starts them.
    pub(crate) fn start() -> Self {
        let authority = Authority::new();
        let pair = authority.issue("all", &[&host("hello")]);
        let client = authority.client(&["http/1.1"]);
        let state = authority.path("state");
        let services = [
            Service::new("hello"),
            Service::new("one")
                .spec("containerConcurrency: 1")
                .annotation("autoscaling.knative.dev/max-scale", "1"),
            Service::new("none").command(""),
            Service::new("broken").command(r#"["false"]"#),
        ];
        // Collectors that are away: their series are there all the same.
        let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let forwarding = format!(
            "---\napiVersion: logging.knative.dev/v1alpha1\nkind: LoggingConfig\nmetadata:\n  \
             name: logging\nspec:\n  forwarders:\n  - type: fluentd\n    config:\n      \
             host: 127.0.0.1\n      port: {}\n",
            nowhere.port()
        );
        let traced = format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-observability\n  \
             namespace: knative-serving\ndata:\n  tracing-protocol: grpc\n  \
             tracing-endpoint: http://{nowhere}\n  tracing-sampling-rate: \"1\"\n"
        );
        let secure = ["--https", "127.0.0.1:0", "--state-dir", state.to_str().unwrap()];
        let arguments = [&secure[..], &pair.arguments()].concat();
        let manifests = |tried: &str| {
            let tried = Service::new("tried").env("TARGET", tried).yaml();
            let canary = "  name: tried\n  annotations: {tidegate.dev/rollout: canary}\n";
            file(&services) + &tried.replacen("  name: tried\n", canary, 1) + &forwarding + &traced
        };
        let tidegate = Tidegate::with(&manifests("old"), &arguments);
        // A new revision of it is tried from now on.
        tidegate.write(&manifests("new"));
        let prometheus = Prometheus::start(&format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\nscrape_configs:\n- job_name: tidegate\n  static_configs: \
             [{{targets: ['{}']}}]\n",
            repository("deploy/prometheus/alerts.yaml").display(),
            tidegate.admin,
        ));
        Self { prometheus, tidegate, client, _authority: authority }
    }

    /// Requests of every kind: answered, failed, slow, waiting, refused, from zero.
    pub(crate) async fn load(&self) {
        let at = self.tidegate.address();
        let status = async |service: &str, path: &str| get(at, &host(service), path).await.status;
        assert_eq!(status("hello", "/").await, 200);
        assert_eq!(status("hello", "/status?code=404").await, 404);
        assert_eq!(status("hello", "/status?code=500").await, 500);
        assert_eq!(status("none", "/").await, 503);
        assert_eq!(status("broken", "/").await, 503);
        assert_eq!(status("nobody", "/").await, 404);
        let one = host("one");
        // The second and third wait for the first.
        let slow = || get(at, &one, "/delay?ms=150");
        let (first, second, third) = soon(async { tokio::join!(slow(), slow(), slow()) }).await;
        assert_eq!([first.status, second.status, third.status], [200; 3]);
        let mut secured = self.client.h1(self.tidegate.https[0], &host("hello")).await;
        let secure = request("GET", &host("hello"), "/").body(empty()).unwrap();
        assert_eq!(send1(&mut secured, secure).await.status, 200);
        // Its replica ends, and the next request needs a new one.
        let mut ending = h1(at).await;
        let exit = request("GET", &host("hello"), "/exit").body(empty()).unwrap();
        drop(soon(ending.send_request(exit)).await);
        assert_eq!(status("hello", "/").await, 200);
    }

    /// Prometheus has evaluated every rule without an error.
    pub(crate) fn rules_are_well(&self) {
        let rules = self.prometheus.api("rules").unwrap();
        let groups = rules["data"]["groups"].as_array().unwrap();
        let rules: Vec<_> = groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
        assert!(rules.len() > 15, "{rules:#?}");
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{rule:#}");
        }
    }
}
