//! The log while the program runs: levels that change with a file, and collectors that speak
//! Fluentd's forward protocol, also ones that are away, die or do not read.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "support/client.rs"]
mod client;
#[path = "support/serving.rs"]
mod serving;

use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rmpv::Value;

use client::get;
use serving::{Service, Tidegate, file, host, until};

/// What a collector has got.
#[derive(Default)]
struct Received {
    /// Tag, seconds since 1970, record.
    records: Vec<(String, u32, serde_json::Value)>,
    streams: Vec<TcpStream>,
}

/// A collector that decodes all it gets.
struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    /// Listens at an address, with port 0 at any.
    fn at(address: SocketAddr) -> Self {
        Self::new(TcpListener::bind(address).unwrap())
    }

    fn new(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Received>> = Arc::default();
        let taken = Arc::clone(&received);
        std::thread::spawn(move || {
            // The listener goes with the first connection: what comes later is refused.
            let (stream, _) = listener.accept().unwrap();
            taken.lock().streams.push(stream.try_clone().unwrap());
            collect(stream, &taken);
        });
        Self { address, received }
    }

    /// Ends its connection.
    fn kill(self) {
        for stream in &self.received.lock().streams {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    /// Waits for a record whose message has a text.
    async fn gets(&self, text: &str) -> serde_json::Value {
        let find = || self.records().into_iter().find(|record| record.to_string().contains(text));
        until(&format!("a record with {text:?}"), || find().is_some()).await;
        find().unwrap()
    }

    fn records(&self) -> Vec<serde_json::Value> {
        self.received.lock().records.iter().map(|(_, _, record)| record.clone()).collect()
    }
}

/// Decodes messages until the end of the stream.
fn collect(stream: TcpStream, received: &Mutex<Received>) {
    let mut stream = BufReader::new(stream);
    while let Ok(message) = rmpv::decode::read_value(&mut stream) {
        let message = message.as_array().unwrap().clone();
        let tag = message[0].as_str().unwrap();
        let entries = message[1].as_array().unwrap();
        let option = message[2].as_map().unwrap();
        assert_eq!(option[0], (Value::from("size"), Value::from(entries.len())));
        for entry in entries {
            let (time, record) = (&entry[0], &entry[1]);
            let (0, time) = time.as_ext().unwrap() else { panic!("no EventTime: {time}") };
            let seconds = u32::from_be_bytes(time[..4].try_into().unwrap());
            let nanoseconds = u32::from_be_bytes(time[4..].try_into().unwrap());
            assert!(nanoseconds < 1_000_000_000, "{nanoseconds}");
            received.lock().records.push((tag.to_owned(), seconds, json(record)));
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(number) => number.as_i64().unwrap().into(),
        Value::F64(number) => (*number).into(),
        Value::String(text) => text.as_str().unwrap().into(),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.as_str().unwrap().to_owned(), json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => panic!("not expected in a record: {other}"),
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An address that nothing listens at.
fn nowhere() -> SocketAddr {
    TcpListener::bind(any()).unwrap().local_addr().unwrap()
}

/// A `LoggingConfig` that forwards to an address.
fn forwarding(address: SocketAddr, more: &str) -> String {
    format!(
        "---\napiVersion: logging.knative.dev/v1alpha1\nkind: LoggingConfig\nmetadata:\n  \
         name: logging\nspec:\n  loggers:\n    serving.knative.dev:\n      level: INFO\n  \
         forwarders:\n  - type: fluentd\n    config:\n      host: 127.0.0.1\n      \
         port: {}\n{more}",
        address.port()
    )
}

/// A metric's value, of all series together.
async fn metric(tidegate: &Tidegate, name: &str) -> u64 {
    let page = get(tidegate.admin, "localhost", "/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn levels_follow_the_file() {
    let services = ["a", "b", "c", "d"].map(Service::new);
    // The last key is of a part that does not exist here; what is said of it tells the edits apart.
    let logging = |levels: &str, edit: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-logging}}\n\
             data: {{{levels}, loglevel.{edit}: info}}\n"
        )
    };
    let overall = "---\napiVersion: logging.knative.dev/v1alpha1\nkind: LoggingConfig\n\
                   metadata: {name: l}\nspec: {level: warn}\n";
    let of_autoscaler = "DEBUG tidegate::autoscaler";
    let info = logging("loglevel.autoscaler: info", "first");
    let tidegate = Tidegate::serve(&(file(&services) + &info));
    tidegate.logged("loggers=first").await;
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.status, 200);
    assert!(!tidegate.log().contains("DEBUG"), "{}", tidegate.log());

    let debug = |edit| logging("loglevel.autoscaler: debug", edit);
    tidegate.write(&(file(&services) + &debug("second")));
    tidegate.logged("loggers=second").await;
    assert_eq!(get(tidegate.address(), &host("b"), "/").await.status, 200);
    tidegate.logged(of_autoscaler).await;
    let log = tidegate.log();
    assert!(!log.contains("DEBUG tidegate::app"), "only what is named: {log}");

    // A LoggingConfig on top: everything else says less, and the part that is named still more.
    tidegate.write(&(file(&services) + &debug("third") + overall));
    tidegate.logged("loggers=third").await;
    let before = tidegate.log().len();
    assert_eq!(get(tidegate.address(), &host("c"), "/").await.status, 200);
    until("a decision", || tidegate.log()[before..].contains(of_autoscaler)).await;
    assert!(!tidegate.log()[before..].contains("INFO"), "{}", tidegate.log());

    // Without either it is as at the start.
    tidegate.write(&(file(&services) + &logging("a: b", "fourth")));
    tidegate.logged("loggers=fourth").await;
    let before = tidegate.log().len();
    assert_eq!(get(tidegate.address(), &host("d"), "/").await.status, 200);
    until("news", || tidegate.log()[before..].contains("replica is ready")).await;
    assert!(!tidegate.log()[before..].contains("DEBUG"), "{}", tidegate.log());
}

#[tokio::test]
async fn a_collector_gets_all_that_is_logged() {
    let collector = Collector::at(any());
    let talks = r#"echo '{"price": 7}'; echo words; exec tidegate echo"#;
    let more = "      tag: my.tag\n      path: /x\n  - type: elasticsearch\n    config: {url: 'http://e'}\n";
    let manifests = Service::new("a").shell(talks).yaml() + &forwarding(collector.address, more);
    let mut tidegate = Tidegate::with(&manifests, &["--access-log"]);
    assert_eq!(get(tidegate.address(), &host("a"), "/?find=me").await.status, 200);

    let words = collector.gets("\"words\"").await;
    assert_eq!((&words["target"], &words["level"]), (&"replica".into(), &"INFO".into()));
    assert_eq!(words["revision"], "default/a-00001");
    let line = collector.gets("price").await;
    assert_eq!(line["raw"]["price"], 7, "JSON stays JSON: {line}");
    let access = collector.gets("/?find=me").await;
    assert_eq!(access["httpRequest"]["status"], 200, "{access}");

    let log = tidegate.log();
    assert_eq!(log.matches("without effect here: spec.forwarders").count(), 1, "{log}");
    assert!(
        log.contains("spec.forwarders[0].config.path, spec.forwarders[1] (type elastic"),
        "{log}"
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (tag, seconds, record) in &collector.received.lock().records {
        assert_eq!(tag, "my.tag");
        assert!(now.abs_diff(u64::from(*seconds)) < 60, "{seconds}: {record}");
        assert!(record.get("timestamp").is_none(), "the time is beside it: {record}");
    }
    assert!(metric(&tidegate, "tidegate_log_records_forwarded_total").await >= 3);
    assert_eq!(metric(&tidegate, "tidegate_log_records_dropped_total").await, 0);

    // What is said last arrives as well.
    tidegate.terminate();
    assert!(tidegate.ended().await.success());
    collector.gets("\"ended\"").await;
}

#[tokio::test]
async fn a_collector_that_is_away_or_dies_costs_no_request() {
    let address = nowhere();
    let services = file(&["a", "b", "c"].map(Service::new));
    let manifests = services.clone() + &forwarding(address, "");
    let tidegate = Tidegate::with(&manifests, &["--access-log"]);
    assert_eq!(get(tidegate.address(), &host("a"), "/?q=while-away").await.status, 200);
    tidegate.logged("the log cannot be forwarded").await;

    let first = Collector::at(address);
    first.gets("/?q=while-away").await;
    first.kill();
    assert_eq!(get(tidegate.address(), &host("b"), "/?q=while-dead").await.status, 200);
    until("the news", || tidegate.log().matches("the log cannot be forwarded").count() == 2).await;

    let second = Collector::at(address);
    second.gets("/?q=while-dead").await;
    assert_eq!(get(tidegate.address(), &host("c"), "/?q=there-again").await.status, 200);
    second.gets("/?q=there-again").await;
    assert!(!second.records().iter().any(|record| record.to_string().contains("/?q=while-away")));
    until("the news", || tidegate.log().matches("forwarding the log again").count() == 2).await;
    assert!(
        !second.records().iter().any(|record| record.to_string().contains("the log again")),
        "what the forwarder says is not forwarded"
    );

    // Another place from now on.
    let third = Collector::at(any());
    tidegate.write(&(services + &forwarding(third.address, "")));
    tidegate.logged(&format!("to=fluentd {}", third.address)).await;
    assert_eq!(get(tidegate.address(), &host("a"), "/?q=elsewhere").await.status, 200);
    third.gets("/?q=elsewhere").await;
    tidegate.logged("no longer forwarding the log").await;
}

#[tokio::test]
async fn a_collector_that_does_not_read_costs_records_only() {
    let listener = TcpListener::bind(any()).unwrap();
    let address = listener.local_addr().unwrap();
    // 40 MB of output: more than the queue and the kernel's buffers hold.
    let floods = "line=$(head -c 10000 /dev/zero | tr '\\0' x); i=0; \
                  while [ $i -lt 4000 ]; do echo $line; i=$((i+1)); done; echo done; \
                  exec tidegate echo";
    let manifests = Service::new("flood").shell(floods).yaml()
        + &Service::new("calm").yaml()
        + &forwarding(address, "");
    let tidegate = Tidegate::with(&manifests, &["--access-log"]);
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(get(tidegate.address(), &host("flood"), "/").await.status, 200);
    tidegate.logged("log records dropped: the collector is away or slow").await;
    assert_eq!(get(tidegate.address(), &host("calm"), "/").await.status, 200);
    let dropped = metric(&tidegate, "tidegate_log_records_dropped_total").await;
    assert!(dropped > 1000, "{dropped}");
    assert!(tidegate.memory() < 100 << 20, "{} bytes", tidegate.memory());
    let log = tidegate.log();
    assert!(log.matches("log records dropped").count() <= 2, "one line a period");

    // It reads again: what is logged from now on arrives. The connection may have been given up.
    let received: Arc<Mutex<Received>> = Arc::default();
    let taken = Arc::clone(&received);
    std::thread::spawn(move || {
        collect(stream, &taken);
        while let Ok((stream, _)) = listener.accept() {
            collect(stream, &taken);
        }
    });
    let collector = Collector { address, received };
    until("room in the queue", || collector.received.lock().records.len() > 500).await;
    assert_eq!(get(tidegate.address(), &host("calm"), "/?q=after-all").await.status, 200);
    collector.gets("/?q=after-all").await;
}
