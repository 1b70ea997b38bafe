//! Revisions and traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::client::{get, soon};
use crate::serving::{SOON, Service, host};
use crate::stage::{Disk, hundred, saying, seen, split, traffic, until_traffic};

#[tokio::test]
async fn a_restart_keeps_revisions_split_and_the_way_back() {
    let disk = Disk::new(&[saying("one")]);
    let mut first = disk.start();
    first.logged("state is kept").await;
    disk.write(&[saying("two").traffic(&split(70))]);
    until_traffic(&first, &[("a-00001", 70), ("a-00002", 30)]).await;
    first.terminate();
    assert!(first.ended().await.success());

    // The same file again: the same revisions, shares and answers.
    let mut second = disk.start();
    assert_eq!(hundred(second.address()).await, seen(&[("one", 70), ("two", 30)]));
    // Back by an edit of percentages, though nothing in the file says what the old one was.
    disk.write(&[saying("two").traffic("[{revisionName: a-00001, percent: 100}]")]);
    until_traffic(&second, &[("a-00001", 100)]).await;
    second.signal(Signal::KILL);
    second.ended().await;

    let mut third = disk.start();
    assert_eq!(hundred(third.address()).await, seen(&[("one", 100)]));
    // A template that was changed while nothing ran is one change.
    third.terminate();
    third.ended().await;
    disk.write(&[saying("three").traffic(&split(50))]);
    let fourth = disk.start();
    until_traffic(&fourth, &[("a-00001", 50), ("a-00003", 50)]).await;
    assert_eq!(hundred(fourth.address()).await, seen(&[("one", 50), ("three", 50)]));
}

#[tokio::test]
async fn a_kill_in_the_middle_of_edits_forgets_and_renames_nothing() {
    let disk = Disk::new(&[saying("0")]);
    // What each revision was seen to say: it never says anything else.
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut number = 0;
    for round in 0_u64..6 {
        let mut running = disk.start();
        let begun = traffic(&running).await;
        let newest = known.keys().next_back().cloned();
        if let Some(newest) = newest {
            // The file was written, and maybe not taken yet, when the one before was killed.
            let name = begun.keys().next().unwrap();
            assert!(*name >= newest, "{name} after {newest}");
        }
        let until = Instant::now() + Duration::from_millis(900 + 137 * round);
        while Instant::now() < until {
            number += 1;
            disk.write(&[saying(&number.to_string())]);
            // Longer than a file has to be quiet, and not always.
            tokio::time::sleep(Duration::from_millis(190 + (number * 37) % 90)).await;
            let answer = get(running.address(), &host("a"), "/whoami").await.json();
            let name = answer["revision"].as_str().unwrap().to_owned();
            let said = get(running.address(), &host("a"), "/").await;
            // An edit may have come between the two.
            let again = get(running.address(), &host("a"), "/whoami").await.json();
            if again["revision"] == answer["revision"] {
                let said = said.text().trim().to_owned();
                let former = known.insert(name.clone(), said.clone());
                assert!(former.is_none_or(|former| former == said), "{name}: {said}");
            }
        }
        running.signal(Signal::KILL);
        running.ended().await;
    }
    assert!(known.len() > 6, "{known:?}");
    // All of them are there, and say what they said.
    let names: Vec<_> = known.keys().rev().take(4).cloned().collect();
    let flow: Vec<_> =
        names.iter().map(|name| format!("{{revisionName: {name}, percent: 25}}")).collect();
    disk.write(&[saying(&number.to_string()).traffic(&format!("[{}]", flow.join(", ")))]);
    let last = disk.start();
    let expected: Vec<_> = names.iter().map(|name| (name.as_str(), 25)).collect();
    until_traffic(&last, &expected).await;
    let answers = hundred(last.address()).await;
    let expected: BTreeMap<_, _> =
        names.iter().map(|name| (format!("200 {}", known[name]), 25)).collect();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_deleted_service_begins_anew_and_its_old_replicas_answer_nobody() {
    let keep = || Service::new("z");
    let disk = Disk::new(&[saying("old"), keep()]);
    let tidegate = disk.start();
    let at = tidegate.address();
    assert_eq!(get(at, &host("a"), "/").await.text(), "Hello old!\n");
    // It runs beyond the deletion, and beyond the rebirth under the same name.
    let running = tokio::spawn(async move { get(at, &host("a"), "/delay?ms=5000").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    disk.write(&[keep()]);
    let deadline = Instant::now() + SOON;
    while get(at, &host("a"), "/").await.status != 404 {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!disk.state("revisions.json").unwrap().to_string().contains("default/a"));
    disk.write(&[saying("new"), keep()]);
    while get(at, &host("a"), "/").await.status == 404 {
        assert!(Instant::now() < deadline, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!running.is_finished());
    for _ in 0..20 {
        assert_eq!(get(at, &host("a"), "/").await.text(), "Hello new!\n");
    }
    assert_eq!(get(at, &host("a"), "/whoami").await.json()["revision"], "a-00001");
    assert!(disk.state("revisions.json").unwrap().to_string().contains("default/a"));
    // The program ends in order when it is told to go.
    let running = soon(running).await.unwrap();
    assert_eq!((running.status, running.text()), (200, "ok\n"));
}
