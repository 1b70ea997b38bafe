use std::io::Read as _;
use std::net::TcpListener;

use expect_test::expect;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn spec(port: u16, confirmed: bool) -> Forwarder {
    Forwarder { host: "127.0.0.1".to_owned(), port, tag: "t".to_owned(), confirmed }
}

fn record(json: &str) -> Record {
    let at = SystemTime::UNIX_EPOCH + Duration::new(0x0102_0304, 5);
    Record { at, json: Arc::from(json.as_bytes()) }
}

/// A port of this machine that nothing listens at.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn deadline() -> Instant {
    Instant::now() + LONG
}

/// Waits until all records of a queue are sent or given up.
fn wait_finished(link: &Link, records: u64) {
    let mut progress = link.progress.lock();
    while progress.finished < records {
        assert!(!link.moved.wait_for(&mut progress, LONG).timed_out(), "{progress:?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn messages_byte_by_byte() {
    let records = [record(r#"{"a":[1,-1,null,true,1.5],"b":{"c":"d"}}"#), record("plain")];
    let message = wire::message("t", &records, Some("id")).unwrap();
    // [tag, [[time, {a: [1, -1, nil, true, 1.5], b: {c: d}}], [time, {message: plain}]],
    //  {size: 2, chunk: id}]
    expect![["93a17492\
        92d7000102030400000005\
        82a1619501ffc0c3cb3ff8000000000000a16281a163a164\
        92d7000102030400000005\
        81a76d657373616765a5706c61696e\
        82a473697a6502a56368756e6ba26964"]]
    .assert_eq(&hex(&message));
    let message = wire::message("t", &records[..0], None).unwrap();
    assert_eq!(hex(&message), "93a1749081a473697a6500");
}

#[test]
fn confirmations_are_read_as_they_come() {
    let answer = b"\x81\xa3ack\xa4abcd";
    for cut in 0..answer.len() {
        assert_eq!(wire::confirmed(&answer[..cut]).unwrap(), None, "{cut} bytes");
    }
    assert_eq!(wire::confirmed(answer).unwrap().as_deref(), Some("abcd"));
    assert!(wire::confirmed(b"\x81\xa3nak\xa4abcd").is_err());
    assert!(wire::confirmed(&[0xc1; 2000]).is_err());
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let cost = record("{}").cost();
    for (records, bytes) in [(4, usize::MAX), (1000, 4 * cost)] {
        let running = Running::start(&spec(free_port(), false), records, bytes).unwrap();
        for _ in 0..2000 {
            running.take(record("{}"));
        }
        let link = Arc::clone(&running.link);
        let (taken, dropped) =
            (link.taken.load(Ordering::Acquire), link.dropped.load(Ordering::Acquire));
        assert_eq!(taken + dropped, 2000);
        // One batch may have left the queue, but not the count of bytes.
        assert!((4..=4 + 1024).contains(&taken), "{taken} taken");
        assert!(link.bytes.load(Ordering::Acquire) <= bytes);
        link.part(Instant::now());
        drop(running);
        wait_finished(&link, taken);
        assert_eq!(link.dropped.load(Ordering::Acquire), 2000, "nobody was there");
        assert_eq!(link.bytes.load(Ordering::Acquire), 0);
    }
}

#[test]
fn flushing_waits_for_a_collector_that_is_there_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = spec(listener.local_addr().unwrap().port(), false);
    let forwarders = Forwarders::default();
    forwarders.set(&[there.clone(), there.clone(), spec(free_port(), false)]);
    forwarders.take_line(b"{\"a\":1}\n");
    forwarders.flush(deadline());
    let counts: Vec<_> = forwarders.counts().iter().map(|c| (c.sent, c.dropped)).collect();
    assert_eq!(counts, [(1, 0), (0, 0)], "the same one twice is one");
    // Those that stay keep their counts and their connection.
    forwarders.set(&[there]);
    forwarders.take_line(b"{\"a\":2}\n");
    forwarders.flush(deadline());
    assert_eq!(forwarders.counts()[0].sent, 2);
    forwarders.set(&[]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let received = hex(&received);
    assert_eq!(received.matches("81a16101").count(), 1, "{received}");
    assert_eq!(received.matches("81a16102").count(), 1, "{received}");
}

#[test]
fn what_is_not_confirmed_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running =
        Running::start(&spec(listener.local_addr().unwrap().port(), true), 8, 1 << 20).unwrap();
    running.take(record("{}"));
    let read = |stream: &mut std::net::TcpStream| {
        let mut message = [0; 63];
        stream.read_exact(&mut message).unwrap();
        hex(&message)
    };
    let (mut first, _) = listener.accept().unwrap();
    let message = read(&mut first);
    assert_eq!(running.counts().sent, 0);
    drop(first);
    let (mut second, _) = listener.accept().unwrap();
    assert_eq!(read(&mut second), message, "the same chunk");
    // The chunk is the last 32 bytes, in hex in the message already.
    let chunk = &message[message.len() - 64..];
    let bytes: Vec<u8> = (0..chunk.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&chunk[at..at + 2], 16).unwrap())
        .collect();
    let answer = [&b"\x81\xa3ack\xd9\x20"[..], &bytes].concat();
    io::Write::write_all(&mut second, &answer).unwrap();
    wait_finished(&running.link, 1);
    assert_eq!((running.counts().sent, running.counts().dropped), (1, 0));
}

#[test]
fn what_the_forwarder_says_is_not_forwarded() {
    let forwarders = Forwarders::default();
    forwarders.set(&[spec(free_port(), false)]);
    let taken = || forwarders.0.load()[0].link.taken.load(Ordering::Acquire);
    let subscriber = tracing_subscriber::registry().with(ForwardLayer(forwarders.clone()));
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!("of this module");
        tracing::warn!(target: "tidegate::cli::logging::forward::sender", "of its thread");
        assert_eq!(taken(), 0);
        tracing::warn!(target: "tidegate::proxy", "of another one");
        assert_eq!(taken(), 1);
    });
}
