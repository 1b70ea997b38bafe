//! What proxies tell each other of their load.

use super::*;

/// One revision, and the reports of a proxy that has a peer.
struct Room {
    clock: Clock,
    pokes: Arc<Pokes>,
    stats: Arc<RevisionStats>,
    reports: Arc<Reports>,
    /// What was heard of single endpoints.
    told: Arc<Mutex<Vec<String>>>,
    peers: Peers,
    b: PeerId,
    sending: Queue,
    outgoing: Outgoing,
}

impl Room {
    fn new() -> Self {
        let (clock, pokes) = (Clock::start(), Arc::new(Pokes::default()));
        let id = RevisionId::new("ns", "a-1");
        let stats = RevisionStats::new(id, clock, 1, Arc::clone(&pokes));
        let (all, one) = (Arc::clone(&stats), Arc::clone(&stats));
        let known = move |id: &RevisionId| (*id == *one.revision()).then(|| Arc::clone(&one));
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let reports = Reports::new(Sources {
            all: Box::new(move || vec![Arc::clone(&all)]),
            one: Box::new(known),
            loads: Box::new(|_| vec![(EndpointId::new("uid-1"), 2)]),
            elsewhere: Box::new(move |id, proxy, loads| {
                heard.lock().push(format!("{id} {proxy} {loads:?}"));
            }),
        });
        let peers = Peers::new(PeerId("a_1".into()), "a");
        reports.listen(&peers);
        let b = PeerId("b_1".into());
        let (sending, outgoing) = queue();
        peers.change(|roster| ((), roster.joined("b", &b, &sending)));
        Self { clock, pokes, stats, reports, told, peers, b, sending, outgoing }
    }
}

/// From the bytes of a message to the revisions.
#[tokio::test(start_paused = true)]
async fn load_of_others_is_added_and_goes_with_its_proxy() {
    let Room { pokes, stats, reports, told, peers, b, sending, .. } = Room::new();
    let id = stats.revision().clone();
    let say = |kind: &[u8], text: &str| peers.received(&b, kind, text.as_bytes());
    let line = |more: &str| format!(r#"{{"namespace": "ns", "name": "a-1", {more}}}"#);
    let second = |number: u32, lines: &str| {
        say(b"stats", &format!(r#"{{"number": {number}, "new": 1, "revisions": [{lines}]}}"#));
    };
    second(
        7,
        &line(
            r#""concurrency": 2.5, "arrivals": 10, "in_flight": 3, "waiting": 0, "new": 1,
                "on": [["uid-1", 1], ["uid-2", 2]]"#,
        ),
    );
    let on_each = std::mem::take(&mut *told.lock());
    assert_eq!(on_each, ["ns/a-1 b_1 [(uid-1, 1), (uid-2, 2)]"]);
    assert_eq!((stats.take_elsewhere(), stats.in_flight_elsewhere()), ((2.5, 10.0), 3));
    assert_eq!(pokes.take(), std::slice::from_ref(&id), "load where there was none");
    assert!(stats.take_poke());
    say(b"poke", &line(r#""in_flight": 9, "waiting": 6"#));
    assert_eq!((stats.waiting_everywhere(), stats.in_flight_elsewhere()), (6, 9));
    assert_eq!(pokes.take(), std::slice::from_ref(&id));
    // Of revisions without load nothing is said.
    second(8, r#"{"namespace": "ns", "name": "unknown", "concurrency": 1}"#);
    assert_eq!((stats.take_elsewhere(), stats.in_flight_elsewhere()), ((0.0, 0.0), 0));
    assert_eq!(std::mem::take(&mut *told.lock()), ["ns/a-1 b_1 []"]);
    say(b"stats", "rubbish");
    assert_eq!(reports.lost(), 0);
    second(11, &line(r#""concurrency": 4, "in_flight": 4"#));
    assert_eq!(reports.lost(), 2, "two seconds did not come");
    assert_eq!(stats.take_elsewhere(), (4.0, 0.0));
    // Cut off it may still have them; dead it has not.
    peers.change(|roster| ((), roster.list(&listing("a b"))));
    peers.change(|roster| ((), roster.over("b", &sending, Loss::CutOff)));
    assert_eq!((stats.take_elsewhere(), stats.in_flight_elsewhere()), ((4.0, 0.0), 4));
    peers.change(|roster| ((), roster.refused("b")));
    assert_eq!((stats.take_elsewhere(), stats.in_flight_elsewhere()), ((0.0, 0.0), 0));
}

#[tokio::test(start_paused = true)]
async fn what_this_one_has_is_said_each_second_and_at_once_when_requests_wait() {
    let Room { clock, pokes, stats, reports, peers, mut outgoing, .. } = Room::new();
    let poked = pokes.also();
    let reporting = reports.run(&peers, &poked);
    let running = async {
        sleep(Duration::from_millis(500)).await;
        stats.arrive(0, clock.now());
        stats.set_waiting(1);
        stats.poke();
        sleep(Duration::from_millis(50)).await;
        stats.set_waiting(0);
        sleep(Duration::from_millis(2_400)).await;
    };
    tokio::select! {
        () = reporting => {}
        () = running => {}
    }
    let mut said = Vec::new();
    while let Some(frame) = outgoing.try_next() {
        said.push(String::from_utf8(frame.to_vec()).unwrap());
    }
    let line = |concurrency: &str, arrivals: &str, waiting: u32| {
        format!(
            r#"{{"namespace":"ns","name":"a-1","concurrency":{concurrency},"arrivals":{arrivals},"in_flight":1,"waiting":{waiting}}}"#
        )
    };
    let on = |line: &str| line.replace('}', r#","on":[["uid-1",2]]}"#);
    let second =
        |number: u32, line: &str| format!("stats\n{{\"number\":{number},\"revisions\":[{line}]}}");
    assert_eq!(
        said,
        [
            second(1, ""),
            format!("poke\n{}", line("0.0", "0.0", 1)),
            // None waits any more.
            format!("poke\n{}", line("0.0", "0.0", 0)),
            second(2, &on(&line("0.5", "1.0", 0))),
            second(3, &on(&line("1.0", "0.0", 0))),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_others_counted_of_a_canary_is_added() {
    let Room { clock, stats, reports, peers, b, sending, mut outgoing, .. } = Room::new();
    let number = std::cell::Cell::new(0);
    let second = |tally: &str| {
        number.set(number.get() + 1);
        let line = format!(r#"{{"namespace":"ns","name":"a-1","arrivals":1{tally}}}"#);
        let text = format!(r#"{{"number":{},"revisions":[{line}]}}"#, number.get());
        peers.received(&b, b"stats", text.as_bytes());
    };
    let counted = || {
        let tally = stats.tally();
        (tally.requests, tally.errors, tally.latencies.count())
    };
    let tally = |requests: u64, errors: u64| {
        let bucket = requests - errors;
        format!(
            r#","tally":{{"requests":{requests},"errors":{errors},"latencies":[[50,{bucket}]]}}"#
        )
    };
    second(&tally(5, 0));
    assert_eq!(counted(), (0, 0, 0), "nothing is compared");
    stats.set_compared(true);
    second(&tally(10, 1));
    assert_eq!(counted(), (0, 0, 0), "what it had counted before is of another time");
    second(&tally(30, 2));
    assert_eq!(counted(), (20, 1, 19));
    // A proxy of an older version says nothing of it.
    second("");
    assert_eq!(counted(), (20, 1, 19));
    // What this one counts comes on top, and is what it says itself.
    stats.arrive(0, clock.now());
    stats.judge(0, Ended::Failed);
    stats.judge(0, Ended::Answered(20_000_000));
    assert_eq!(counted(), (22, 2, 20));
    let poked = Pokes::default().also();
    tokio::select! {
        () = reports.run(&peers, &poked) => {}
        () = sleep(Duration::from_millis(1_500)) => {}
    }
    let mut said = String::new();
    while let Some(frame) = outgoing.try_next() {
        said.push_str(std::str::from_utf8(&frame).unwrap());
    }
    let own = r#""tally":{"requests":2,"errors":1,"latencies":[[90,1]]}"#;
    assert!(said.contains(own), "{said}");
    // What one counted that is gone stays; with the comparison it goes.
    peers.change(|roster| ((), roster.list(&listing("a b"))));
    peers.change(|roster| ((), roster.over("b", &sending, Loss::CutOff)));
    peers.change(|roster| ((), roster.refused("b")));
    assert_eq!(counted(), (22, 2, 20));
    stats.set_compared(false);
    assert_eq!(counted(), (2, 1, 1));
}

/// Whoever is alone looks at no revision; the first one to come hears what is in flight then, not
/// what was before.
#[tokio::test(start_paused = true)]
async fn alone_nothing_is_counted() {
    let (clock, pokes) = (Clock::start(), Arc::new(Pokes::default()));
    let stats = RevisionStats::new(RevisionId::new("ns", "a-1"), clock, 1, Arc::clone(&pokes));
    let looks = Arc::new(Mutex::new(0));
    let (all, counted) = (Arc::clone(&stats), Arc::clone(&looks));
    let look = move || {
        *counted.lock() += 1;
        vec![Arc::clone(&all)]
    };
    let reports = Reports::new(Sources {
        all: Box::new(look),
        one: Box::new(|_| None),
        loads: Box::new(|_| Vec::new()),
        elsewhere: Box::new(|_, _, _| {}),
    });
    let peers = Peers::new(PeerId("a_1".into()), "a");
    let (sending, mut outgoing) = queue();
    let running = async {
        stats.arrive(0, clock.now());
        sleep(Duration::from_millis(10_500)).await;
        assert_eq!(*looks.lock(), 0);
        peers.change(|roster| ((), roster.joined("b", &PeerId("b_1".into()), &sending)));
        sleep(Duration::from_secs(2)).await;
    };
    let poked = pokes.also();
    tokio::select! {
        () = reports.run(&peers, &poked) => {}
        () = running => {}
    }
    let line = r#"{"namespace":"ns","name":"a-1","concurrency":1.0,"arrivals":0.0,"in_flight":1,"waiting":0}"#;
    for number in [12, 13] {
        let said = format!("stats\n{{\"number\":{number},\"revisions\":[{line}]}}");
        assert_eq!(outgoing.try_next().unwrap(), said.as_bytes());
    }
    assert_eq!(*looks.lock(), 2);
}
