//! The waiting page: who gets it, and that the start goes on behind it.

use std::time::Duration;

use http::Request;
use tokio::time::{Instant, sleep};

use crate::client::{
    Answer, Body, call, empty, full, h1, h2, message, request, request2, send1, send2,
};
use crate::serving::{Service, Tidegate, file, host};

const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A service that is ready so many seconds after it is asked for.
pub(crate) fn slow(name: &str, seconds: u32) -> Service {
    Service::new(name)
        .annotation("tidegate.dev/waiting-page", "true")
        .shell(&format!("sleep {seconds}; exec tidegate echo"))
}

fn navigation(method: &str, name: &str) -> http::request::Builder {
    request(method, &host(name), "/").header("sec-fetch-mode", "navigate").header("accept", HTML)
}

async fn sent1(tidegate: &Tidegate, request: Request<Body>) -> Answer {
    send1(&mut h1(tidegate.address()).await, request).await
}

async fn sent2(tidegate: &Tidegate, request: Request<Body>) -> Answer {
    send2(&mut h2(tidegate.address()).await, request).await
}

fn is_page(answer: &Answer) {
    assert_eq!((answer.status, answer.reason()), (503, Some("waiting_page")), "{answer:?}");
    for (name, value) in [
        ("retry-after", "1"),
        ("cache-control", "no-store"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(answer.header("x-request-id").is_some(), "{answer:?}");
    let text = answer.text();
    assert!(
        text.starts_with("<!doctype html>") && text.contains("Waiting for 1 second."),
        "{text}"
    );
}

#[tokio::test]
async fn only_navigations_get_it_and_only_where_it_was_asked_for() {
    let services = [
        slow("page", 4),
        slow("grpc", 4).h2c(),
        Service::new("plain").shell("sleep 4; exec tidegate echo"),
        slow("without", 4).annotation("tidegate.dev/waiting-page", "false"),
    ];
    // The later of two equal keys is an error: the one that says no stands alone.
    let yaml = file(&services).replace(
        "        tidegate.dev/waiting-page: 'true'\n        tidegate.dev/waiting-page: 'false'\n",
        "        tidegate.dev/waiting-page: 'false'\n",
    );
    let tidegate = Tidegate::serve(&yaml);
    let get = |name: &str| navigation("GET", name);
    let plain = |mode: &str, accept: &str| {
        let request = request("GET", &host("page"), "/").header("accept", accept);
        if mode.is_empty() { request } else { request.header("sec-fetch-mode", mode) }
    };
    let in_2 =
        |method: &str| request2(method, &host("page"), "/").header("sec-fetch-mode", "navigate");
    let html_2 = |method: &str| in_2(method).header("accept", HTML);
    let nothing = |builder: http::request::Builder| builder.body(empty()).unwrap();
    let form = |builder: http::request::Builder| builder.body(full("a=b")).unwrap();
    let grpc = call(&host("grpc"), "/tidegate.Echo/Unary").header("accept", HTML);
    let grpc = grpc.header("sec-fetch-mode", "navigate").body(full(message(b"hi"))).unwrap();
    let (one, two, page, served) = (false, true, true, false);
    let cases = [
        // What is plain goes the direct path; a header that only tidegate may send does not.
        ("a navigation", one, nothing(get("page")), page),
        ("one that hyper carries", one, nothing(get("page").header("k-anything", "1")), page),
        ("one in HTTP/2", two, nothing(html_2("GET")), page),
        ("curl", one, nothing(plain("", "*/*")), served),
        ("a program that wants HTML", one, nothing(plain("", HTML)), served),
        ("fetch", one, nothing(plain("cors", "*/*")), served),
        ("fetch for HTML", one, nothing(plain("same-origin", HTML)), served),
        ("something else than a page", one, nothing(plain("navigate", "*/*")), served),
        ("HEAD", one, nothing(navigation("HEAD", "page")), served),
        ("a form", one, form(navigation("POST", "page")), served),
        ("something else in HTTP/2", two, nothing(in_2("GET")), served),
        ("a form in HTTP/2", two, form(html_2("POST")), served),
        ("gRPC", two, grpc, served),
        ("a service without the annotation", one, nothing(get("plain")), served),
        ("a service that says no", one, nothing(get("without")), served),
    ];
    let began = Instant::now();
    let asked = cases.into_iter().map(async |(what, is_2, request, is_paged)| {
        let answer =
            if is_2 { sent2(&tidegate, request).await } else { sent1(&tidegate, request).await };
        let took = began.elapsed();
        if is_paged {
            is_page(&answer);
            assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
        } else {
            assert_eq!((answer.status, answer.reason()), (200, None), "{what}: {answer:?}");
            assert!(took >= Duration::from_secs(4), "{what}: {took:?}");
        }
    });
    futures_util::future::join_all(asked).await;
    // Warm, nobody waits.
    let answer = sent1(&tidegate, nothing(get("page"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Asks as the page does: again a second after each page. What the pages said, and the end.
async fn as_a_browser(tidegate: &Tidegate, name: &str) -> (Vec<String>, Answer) {
    let mut connection = h1(tidegate.address()).await;
    let mut pages = Vec::new();
    loop {
        let request = navigation("GET", name).body(empty()).unwrap();
        let answer = send1(&mut connection, request).await;
        if answer.reason() != Some("waiting_page") {
            return (pages, answer);
        }
        let (_, said) = answer.text().split_once("<p id=\"time\">").unwrap();
        pages.push(said.split_once("</p>").unwrap().0.to_owned());
        assert!(pages.len() < 20, "{pages:?}");
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn a_start_goes_on_behind_it_and_is_known_the_next_time() {
    let manifest = slow("page", 5).annotation("autoscaling.knative.dev/window", "6s").yaml();
    let tidegate = Tidegate::serve(&manifest);
    let (pages, answer) = as_a_browser(&tidegate, "page").await;
    assert_eq!(answer.status, 200, "{pages:?}");
    assert!(pages.len() >= 2, "{pages:?}");
    assert_eq!(pages[0], "Waiting for 1 second.");
    assert_eq!(pages[1], "Waiting for 3 seconds.");
    let log = tidegate.log();
    assert_eq!(log.matches(": replica starts").count(), 1, "{log}");
    tidegate.logged("replica is gone").await;
    let (pages, answer) = as_a_browser(&tidegate, "page").await;
    assert_eq!(answer.status, 200, "{pages:?}");
    assert_eq!(pages[0], "Waiting for 1 second. It is usually ready within 6 seconds.");
}

#[tokio::test]
async fn a_start_goes_on_when_nobody_comes_again() {
    // Longer than the window after which nobody asks any more.
    let manifest = slow("page", 8).annotation("autoscaling.knative.dev/window", "6s").yaml();
    let tidegate = Tidegate::serve(&manifest);
    is_page(&sent1(&tidegate, navigation("GET", "page").body(empty()).unwrap()).await);
    tidegate.logged("replica is ready").await;
    let log = tidegate.log();
    assert_eq!(log.matches(": replica starts").count(), 1, "{log}");
}
