//! Two sides over a pipe, with time that is the test's own.

mod reports;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::Framed;

use super::roster::{Listed, Listing, Roster, Told};
use super::session::{HelloError, Outgoing, Queue, SILENCE, Session, queue};
use super::wire::{Hello, VERSIONS, codec, frame, word};
use super::*;
use crate::kubernetes::keys::{Issued, Purpose};
use crate::model::{EndpointId, RevisionId};
use crate::stats::{Clock, Ended, Pokes, RevisionStats};

fn hello(name: &str) -> Hello {
    Hello::new(PeerId(name.into()), name)
}

/// A proxy's side of a pipe.
async fn open(stream: DuplexStream, name: &str) -> Result<Session<DuplexStream>, HelloError> {
    Session::open(stream, &hello(name)).await
}

/// The other side, by hand.
type Raw = Framed<DuplexStream, tokio_util::codec::LengthDelimitedCodec>;

async fn raw(stream: DuplexStream, first: Bytes) -> Raw {
    let mut raw = Framed::new(stream, codec());
    raw.send(first).await.unwrap();
    raw.next().await.unwrap().unwrap();
    raw
}

/// Runs a session against `other`; how it ended, when, and what it took in.
async fn against(
    first: Bytes,
    other: impl AsyncFnOnce(Raw, Queue),
) -> (Loss, Duration, Vec<String>) {
    let (ours, theirs) = duplex(64 * 1024);
    let (session, raw) = tokio::join!(open(ours, "a"), raw(theirs, first));
    let session = session.unwrap();
    let (sending, outgoing): (Queue, Outgoing) = queue();
    let taken = RefCell::new(Vec::new());
    let begun = Instant::now();
    let running = session.run(outgoing, |kind, body| {
        if kind != b"alive" {
            let text =
                format!("{}{}", String::from_utf8_lossy(kind), String::from_utf8_lossy(body));
            taken.borrow_mut().push(text);
        }
    });
    let ended = async { (running.await, begun.elapsed()) };
    let ((loss, took), ()) = tokio::join!(ended, other(raw, sending));
    (loss, took, taken.into_inner())
}

fn said_hello() -> Bytes {
    frame("hello", &hello("b")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn how_a_connection_ends_says_what_became_of_the_other_side() {
    let (loss, took, _) = against(said_hello(), async |raw, _| drop(raw)).await;
    assert_eq!((loss, took), (Loss::Dead, Duration::ZERO), "closed without a word");

    let bye = async |mut raw: Raw, _| raw.send(word("bye")).await.unwrap();
    assert_eq!(against(said_hello(), bye).await.0, Loss::Ended);

    let cut = async |mut raw: Raw, _| raw.send(word("cut")).await.unwrap();
    assert_eq!(against(said_hello(), cut).await.0, Loss::CutOff);

    // In the middle of a frame.
    let torn = async |raw: Raw, _| {
        let mut stream = raw.into_inner();
        stream.write_all(&[0, 0, 0, 9, b'x']).await.unwrap();
    };
    assert_eq!(against(said_hello(), torn).await.0, Loss::Dead);

    let huge = async |raw: Raw, _| {
        let mut stream = raw.into_inner();
        stream.write_all(&[0xff, 0xff, 0xff, 0xff]).await.unwrap();
        sleep(SILENCE * 3).await;
    };
    assert_eq!(against(said_hello(), huge).await.0, Loss::CutOff, "it is not understood");

    let silent = async |raw: Raw, _| {
        sleep(SILENCE * 3).await;
        drop(raw);
    };
    let (loss, took, _) = against(said_hello(), silent).await;
    assert_eq!(loss, Loss::CutOff);
    // A last word is tried.
    assert!(took >= SILENCE && took < SILENCE * 2, "{took:?}");
}

/// Whoever gives up a connection says so, for an end without a word is that of a process.
#[tokio::test(start_paused = true)]
async fn who_is_silent_is_told_that_it_is_cut_off() {
    let (loss, ..) = against(said_hello(), async |mut raw: Raw, _| {
        let mut last = Bytes::new();
        while let Some(Ok(frame)) = raw.next().await {
            last = frame.freeze();
        }
        assert_eq!(last, word("cut"));
    })
    .await;
    assert_eq!(loss, Loss::CutOff);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_comes_after_what_waits() {
    let (loss, took, _) = against(said_hello(), async |mut raw: Raw, sending: Queue| {
        assert!(sending.push(frame("stats", &1).unwrap()));
        sending.say_bye();
        let mut words = Vec::new();
        while let Some(Ok(frame)) = raw.next().await {
            if frame[..] != word("alive") {
                words.push(String::from_utf8(frame.to_vec()).unwrap());
            }
        }
        assert_eq!(words, ["stats\n1", "bye\n{}"]);
    })
    .await;
    assert_eq!((loss, took), (Loss::CutOff, Duration::ZERO), "of its own will");
}

/// What a version does not know of the next one it ignores: fields, words, and a range of versions
/// that reaches further.
#[tokio::test(start_paused = true)]
async fn a_version_and_the_next_one_work_together() {
    let next = json!({"oldest": VERSIONS.1, "newest": VERSIONS.1 + 1, "id": "b_1", "pod": "b",
        "region": "north"});
    let (loss, _, taken) = against(frame("hello", &next).unwrap(), async |mut raw: Raw, _| {
        raw.send(word("weather")).await.unwrap();
        raw.send(Bytes::from_static(b"no body")).await.unwrap();
        raw.send(frame("stats", &json!({"new": true})).unwrap()).await.unwrap();
        raw.send(word("bye")).await.unwrap();
    })
    .await;
    // Listeners take the words that they know.
    assert_eq!(taken, ["weather{}", "no body", "stats{\"new\":true}"]);
    assert_eq!(loss, Loss::Ended);

    for (oldest, newest, expected) in [
        (VERSIONS.0, VERSIONS.1, Some(VERSIONS.1)),
        (0, VERSIONS.0, Some(VERSIONS.0)),
        (VERSIONS.1, u32::MAX, Some(VERSIONS.1)),
        (VERSIONS.1 + 1, u32::MAX, None),
        (0, VERSIONS.0 - 1, None),
    ] {
        let other = Hello { oldest, newest, ..hello("b") };
        assert_eq!(hello("a").agree(&other), expected, "{oldest}..={newest}");
        assert_eq!(other.agree(&hello("a")), expected, "{oldest}..={newest}");
    }
    let (ours, theirs) = duplex(1024);
    let far = Hello { oldest: VERSIONS.1 + 1, newest: VERSIONS.1 + 2, ..hello("b") };
    let (opened, _) = tokio::join!(open(ours, "a"), raw(theirs, frame("hello", &far).unwrap()));
    let error = opened.expect_err("they have no version in common").to_string();
    assert!(error.contains("update one version at a time"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_who_it_is_is_not_let_in() {
    for first in [word("stats"), Bytes::from_static(b"hello\n{\"id\":1}"), Bytes::from_static(b"")]
    {
        let (ours, theirs) = duplex(1024);
        let (opened, _) = tokio::join!(open(ours, "a"), raw(theirs, first));
        assert!(matches!(opened, Err(HelloError::Unknown)));
    }
    let (ours, theirs) = duplex(1024);
    let begun = Instant::now();
    assert!(matches!(open(ours, "a").await, Err(HelloError::Late(_))));
    assert_eq!(begun.elapsed(), SILENCE);
    drop(theirs);
}

/// A peer that takes nothing costs a bounded number of messages and bytes, and nobody waits for it.
#[tokio::test(start_paused = true)]
async fn a_slow_peer_is_not_waited_for() {
    let (sending, _outgoing) = queue();
    let small = frame("stats", &1).unwrap();
    let taken = (0..1000).take_while(|_| sending.push(small.clone())).count();
    assert_eq!(taken, 256);
    let (sending, _outgoing) = queue();
    let large = frame("stats", &"x".repeat(1024 * 1024)).unwrap();
    let taken = (0..100).take_while(|_| sending.push(large.clone())).count();
    assert_eq!(taken, 3, "4 MiB");
    assert_eq!(frame("stats", &"x".repeat(4 * 1024 * 1024)), None, "too large for a frame");

    // One that reads nothing at all is cut off although it says that it is alive.
    let (ours, theirs) = duplex(1024);
    let (session, mut raw) = tokio::join!(open(ours, "a"), raw(theirs, said_hello()));
    let (sending, outgoing) = queue();
    for _ in 0..256 {
        assert!(sending.push(small.clone()));
    }
    let running = session.unwrap().run(outgoing, |_, _| {});
    let other = async {
        for _ in 0..10 {
            raw.send(word("alive")).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        drop(raw);
    };
    let (loss, ()) = tokio::join!(running, other);
    assert_eq!(loss, Loss::Dead, "it was heard all along");
}

/// Keys of the same Secret work together, also while one of them has the next certificate or
/// trusts the next authority already; others are refused.
#[tokio::test]
async fn only_who_has_the_key_is_spoken_with() {
    let names = [SERVICE.to_owned()];
    let now = SystemTime::now();
    let day = |days: u64| now + Duration::from_secs(days * 24 * 3600);
    let keys = |pair: &Issued, authorities: &str| {
        let keys = PeerKeys::default();
        keys.put(pair, authorities).unwrap();
        keys
    };
    let first = Issued::new(Purpose::Peers, &names, now).unwrap();
    let renewed = first.renewed(Purpose::Peers, &names, day(61)).unwrap().unwrap();
    let next = Issued::new(Purpose::Peers, &names, now).unwrap();
    let both = format!("{}{}", next.authorities, first.authorities);
    let other_use = Issued::new(Purpose::Webhook, &names, now).unwrap();
    let a = keys(&first, &first.authorities);
    for (what, b, expected) in [
        ("the same", keys(&first, &first.authorities), true),
        ("of a stranger", keys(&next, &next.authorities), false),
        ("of a stranger who trusts this one", keys(&next, &both), false),
        ("before the next authority is used", keys(&first, &both), true),
        ("for another use", keys(&other_use, &first.authorities), false),
    ] {
        for (called, caller) in [(&a, &b), (&b, &a)] {
            let (ours, theirs) = duplex(64 * 1024);
            let called = async {
                let mut stream = called.accept(ours).await?;
                let mut byte = [0];
                stream.read_exact(&mut byte).await?;
                stream.write_all(&byte).await?;
                stream.flush().await
            };
            let caller = async {
                let mut stream = caller.call(theirs).await?;
                stream.write_all(&[7]).await?;
                stream.flush().await?;
                let mut byte = [0];
                stream.read_exact(&mut byte).await.map(|_| ())
            };
            let both = async { tokio::join!(called, caller) };
            let (called, caller) = timeout(Duration::from_secs(10), both).await.unwrap();
            assert_eq!((called.is_ok(), caller.is_ok()), (expected, expected), "{what}");
        }
    }
    assert_eq!(renewed.authorities, first.authorities);
    assert!(
        PeerKeys::default().accept(duplex(16).0).await.is_err(),
        "without a key nobody is heard"
    );
}

/// A step of a roster's life.
enum Step {
    List(&'static str),
    Join(&'static str, &'static str),
    Over(&'static str, Loss),
    Refused(&'static str),
    Unanswered(&'static str),
}

fn listing(text: &str) -> Listing {
    let listed =
        |is_serving| Listed { name: "x".into(), address: ([127, 0, 0, 1], 1).into(), is_serving };
    let pod = |pod: &str| match pod.strip_suffix('-') {
        Some(uid) => (uid.to_owned(), listed(false)),
        None => (pod.to_owned(), listed(true)),
    };
    text.split_whitespace().map(pod).collect()
}

fn shown(told: &[Told]) -> String {
    let one = |told: &Told| match told {
        Told::Joined(peer) => format!("+{peer}"),
        Told::Lost(peer, loss) => format!("-{peer} {loss:?}"),
    };
    told.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn who_is_there_and_who_is_missing() {
    use Step::{Join, List, Over, Refused, Unanswered};
    let steps: &[(Step, &str, &str)] = &[
        (List("b"), "", "not listed 0+0+1"),
        // A pod that starts is not missed; one that serves is, until it is heard of.
        (List("a b c-"), "", "0+0+1 missing"),
        (Join("b", "b_1"), "+b_1", "1+0+0"),
        (List("a b c"), "", "1+0+1 missing"),
        (Refused("c"), "", "1+0+0"),
        (Unanswered("c"), "", "1+0+1 missing"),
        (Join("c", "c_1"), "+c_1", "2+0+0"),
        (Over("c", Loss::CutOff), "-c_1 CutOff", "1+1+0 missing"),
        (Join("c", "c_1"), "+c_1", "2+0+0"),
        // Its program was started again, before or after it was known to have ended.
        (Over("c", Loss::CutOff), "-c_1 CutOff", "1+1+0 missing"),
        (Join("c", "c_2"), "-c_1 Dead, +c_2", "2+0+0"),
        (Join("c", "c_3"), "-c_2 Dead, +c_3", "2+0+0"),
        (Join("c", "c_3"), "-c_3 CutOff, +c_3", "2+0+0"),
        // Nothing runs there any more.
        (Over("c", Loss::CutOff), "-c_3 CutOff", "1+1+0 missing"),
        (Refused("c"), "-c_3 Dead", "1+0+0"),
        // Closed without a word: whether it lives is not known before it was called again.
        (Over("b", Loss::Dead), "-b_1 CutOff", "0+1+0 missing"),
        (Unanswered("b"), "", "0+1+0 missing"),
        (Refused("b"), "-b_1 Dead", "0+0+0"),
        (Join("b", "b_2"), "+b_2", "1+0+0"),
        (Over("b", Loss::Ended), "-b_2 Ended", "0+0+0"),
        // The cluster has forgotten it: cut off or not, its pod is gone.
        (Join("b", "b_3"), "+b_3", "1+0+0"),
        (Over("b", Loss::CutOff), "-b_3 CutOff", "0+1+0 missing"),
        (List("a c"), "-b_3 Dead", "0+0+0"),
        (Join("c", "c_4"), "+c_4", "1+0+0"),
        (List("a"), "", "1+0+0"),
        (Over("c", Loss::CutOff), "-c_4 Dead", "0+0+0"),
    ];
    let mut roster = Roster::new("a");
    let mut queues: BTreeMap<&str, Queue> = BTreeMap::new();
    for (index, (step, expected, members)) in steps.iter().enumerate() {
        let told = match step {
            List(text) => roster.list(&listing(text)),
            Join(uid, id) => {
                let (sending, _) = queue();
                let told = roster.joined(uid, &PeerId((*id).into()), &sending);
                // The end of what it took the place of says nothing.
                if let Some(former) = queues.insert(*uid, sending) {
                    assert!(roster.over(uid, &former, Loss::Dead).is_empty());
                }
                told
            }
            Over(uid, loss) => roster.over(uid, &queues[uid], *loss),
            Refused(uid) => roster.refused(uid),
            Unanswered(uid) => {
                roster.unanswered(uid);
                Vec::new()
            }
        };
        assert_eq!(shown(&told), *expected, "step {index}");
        let found = roster.members();
        let count = format!(
            "{}{}+{}+{}{}",
            if found.listed { "" } else { "not listed " },
            found.connected.len(),
            found.cut_off.len(),
            found.unheard.len(),
            if found.listed && !found.is_complete() { " missing" } else { "" }
        );
        assert_eq!(count, *members, "step {index}");
    }
}

#[test]
fn a_listener_hears_its_own_kind_and_everybody_hears_who_is_there() {
    let peers = Peers::new(PeerId("a_1".into()), "a");
    let heard = Arc::new(Mutex::new(Vec::new()));
    for kind in ["stats", "other"] {
        let heard = Arc::clone(&heard);
        peers.listen(kind, move |peers, event| {
            assert_eq!(peers.me().0.as_ref(), "a_1");
            let text = match event {
                Event::Joined(peer) => format!("{kind} +{peer}"),
                Event::Message(peer, body) => {
                    let body: Value = serde_json::from_slice(body).unwrap();
                    // It may answer at once.
                    assert_eq!(peers.broadcast("stats", &body), 0);
                    format!("{kind} {peer}: {body}")
                }
                Event::Lost(peer, loss) => format!("{kind} -{peer} {loss:?}"),
            };
            heard.lock().push(text);
        });
    }
    let b = PeerId("b_1".into());
    let (sending, mut outgoing) = queue();
    peers.change(|roster| ((), roster.joined("b", &b, &sending)));
    peers.received(&b, b"stats", b"{\"x\":1}");
    peers.received(&b, b"alive", b"{}");
    assert_eq!(peers.broadcast("stats", &1), 0);
    peers.change(|roster| ((), roster.over("b", &sending, Loss::Ended)));
    assert_eq!(
        *heard.lock(),
        [
            "stats +b_1",
            "other +b_1",
            "stats b_1: {\"x\":1}",
            "stats -b_1 Ended",
            "other -b_1 Ended"
        ]
    );
    let said: Vec<_> = std::iter::from_fn(|| outgoing.try_next()).collect();
    assert_eq!(said, [&b"stats\n{\"x\":1}"[..], b"stats\n1"]);
}
