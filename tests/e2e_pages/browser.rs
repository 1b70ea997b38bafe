//! Both pages in a real browser: light and dark, narrow, by keyboard, and as a screen reader is told
//! of them.

use std::time::Duration;

use serde_json::Value;

use crate::chromium::{Page, Told, is_there};
use crate::client::get;
use crate::serving::{Service, Tidegate, file, host};
use crate::waiting::slow;

/// How wide a small phone is.
const NARROW: u32 = 360;
/// The ratio that text must have to what is behind it (WCAG 2.2, 1.4.3).
const CONTRAST: f64 = 4.5;

/// The least contrast that any text in sight has, and which.
const LEAST_CONTRAST: &str = r"(() => {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  let least = [99, ''];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.closest('.skip')) continue;
    let behind = element;
    const ground = () => channels(getComputedStyle(behind).backgroundColor);
    while (behind.parentElement && (ground()[3] ?? 1) === 0) behind = behind.parentElement;
    const [one, other] = [light(channels(getComputedStyle(element).color)), light(ground())];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < least[0]) least = [ratio, element.textContent.slice(0, 40)];
  }
  return least;
})()";

/// What is wider than the window.
const TOO_WIDE: &str = r"[...document.querySelectorAll('body *')]
  .filter((e) => e.checkVisibility() && !e.closest('.skip') && !e.closest('thead'))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 80))";

async fn is_readable(page: &mut Page, what: &str) {
    let least = page.value(LEAST_CONTRAST).await;
    assert!(least[0].as_f64().unwrap() >= CONTRAST, "{what}: {least}");
    assert_eq!(page.value(TOO_WIDE).await, Value::Array(Vec::new()), "{what}: too wide");
    let scrolls = page.value("document.documentElement.scrollWidth > innerWidth").await;
    assert_eq!(scrolls, false, "{what}: is wider than the window");
}

#[track_caller]
fn has(tree: &[Told], role: &str, name: &str) {
    let found = tree.iter().any(|told| told.role == role && told.name.contains(name));
    assert!(found, "no {role} {name:?} in {tree:#?}");
}

fn url(tidegate: &Tidegate, name: &str) -> String {
    format!("http://{}:{}/", host(name), tidegate.address().port())
}

#[tokio::test]
async fn a_person_who_waits_sees_a_page_and_then_the_site() {
    if !is_there("a_person_who_waits_sees_a_page_and_then_the_site") {
        return;
    }
    let manifest = slow("page", 8).annotation("autoscaling.knative.dev/window", "6s").yaml();
    let tidegate = Tidegate::serve(&manifest);
    let mut page = Page::open(NARROW).await;
    page.scheme("light", "no-preference").await;
    page.go(&url(&tidegate, "page")).await;
    page.until("document.querySelector('h1')?.innerText === 'Starting …'").await;
    page.hold_still(true).await;
    is_readable(&mut page, "light").await;
    let tree = page.tree().await;
    has(&tree, "heading", "Starting");
    has(&tree, "progressbar", "Start");
    has(&tree, "StaticText", "Waiting for ");
    page.picture("waiting-light").await;
    page.press("Tab").await;
    assert_eq!(page.value("document.activeElement.innerText").await, "Try again now");
    let outline = "parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2";
    assert_eq!(page.value(outline).await, true, "the focus is seen");
    page.hold_still(false).await;
    page.scheme("dark", "reduce").await;
    page.until("document.body?.innerText.includes('Waiting for 5 seconds.')").await;
    page.hold_still(true).await;
    is_readable(&mut page, "dark").await;
    page.picture("waiting-dark").await;
    page.hold_still(false).await;
    page.until("document.body?.innerText.includes('Hello ')").await;
    let log = tidegate.log();
    assert_eq!(log.matches(": replica starts").count(), 1, "{log}");
    // The next time it is known how long it takes.
    tidegate.logged("replica is gone").await;
    page.go(&url(&tidegate, "page")).await;
    page.until("document.body?.innerText.includes('usually ready within')").await;
    page.hold_still(true).await;
    let part = page.value("document.querySelector('progress').position").await;
    assert!(part.as_f64().unwrap() > 0.1, "{part}");
    is_readable(&mut page, "known, dark").await;
    page.resize(NARROW, 380).await;
    page.picture("waiting-known").await;
    // The page's status, and the icon that the site does not have.
    let is_other = |text: &&String| !text.contains("the server responded with a status of");
    let complaints: Vec<_> = page.complaints.iter().filter(is_other).collect();
    assert_eq!(complaints, [""; 0], "the browser complains of nothing else");
}

#[tokio::test]
async fn a_script_in_a_browser_gets_no_page() {
    if !is_there("a_script_in_a_browser_gets_no_page") {
        return;
    }
    let services = [slow("page", 3), Service::new("warm")];
    let tidegate = Tidegate::serve(&file(&services));
    let mut page = Page::open(NARROW).await;
    page.go(&url(&tidegate, "page")).await;
    page.until("document.body?.innerText.includes('Hello ')").await;
    // From the same site, to a revision that has to be started anew.
    let yaml = file(&services).replace("sleep 3", "sleep 4");
    tidegate.write(&yaml);
    tidegate.logged("configuration loaded").await;
    let fetched = "fetch('/').then(async (a) => [a.status, (await a.text()).slice(0, 5)])";
    let answer = page.value(fetched).await;
    assert_eq!(answer, serde_json::json!([200, "Hello"]));
}

/// A dashboard with something to see: a service under load, one at zero, one that cannot start.
async fn busy() -> (Tidegate, tokio::task::JoinHandle<()>) {
    let services = [
        Service::new("hello"),
        Service::new("limited")
            .annotation("autoscaling.knative.dev/max-scale", "2")
            .annotation("autoscaling.knative.dev/target", "2")
            .spec("containerConcurrency: 2"),
        Service::new("nothing").command("[\"false\"]"),
    ];
    let yaml = file(&services);
    let tidegate = Tidegate::serve(&yaml);
    let at = tidegate.address();
    assert_eq!(get(at, &host("hello"), "/").await.status, 200);
    assert_eq!(get(at, &host("nothing"), "/").await.status, 503);
    let load = tokio::spawn(async move {
        loop {
            let clients = (0..7).map(|_| get(at, "limited.default.localhost", "/delay?ms=700"));
            futures_util::future::join_all(clients).await;
        }
    });
    // What somebody wrote who hoped that nobody looks.
    let bad = Service::new("bad").annotation("tidegate.dev/eager", "<b id=in>x</b>");
    tidegate.write(&(yaml + &bad.yaml()));
    tidegate.logged("<b id=in>").await;
    (tidegate, load)
}

const SHOWN: &str = "document.querySelectorAll('#decisions tbody th').length > 0
  && document.querySelectorAll('#replicas tbody tr').length >= 3
  && document.querySelectorAll('#problems li').length >= 2";

#[tokio::test]
async fn the_dashboard_shows_what_happens() {
    if !is_there("the_dashboard_shows_what_happens") {
        return;
    }
    let (tidegate, load) = busy().await;
    let mut page = Page::open(1100).await;
    page.scheme("light", "no-preference").await;
    // By the listener's own address, as people type it.
    page.go(&format!("http://{}/", tidegate.admin)).await;
    page.until(SHOWN).await;
    let row = "[...document.querySelectorAll('#revisions tbody tr')]
      .find((row) => row.innerText.includes('default/limited'))";
    page.until(&format!("{row}.innerText.includes('2 of 2')")).await;
    page.until(&format!("{row}.querySelector('.curve').points.length > 3")).await;
    // Text stays text.
    assert_eq!(page.value("document.querySelector('#in, main b')").await, Value::Null);
    assert!(page.text("#problems").await.contains("<b id=in>x</b>"));
    assert!(page.text("#problems").await.contains("start_failed"));
    assert!(page.text("#decisions").await.contains("max-scale: no more"));
    assert!(page.text("#decisions").await.contains("a request came at zero"));
    assert!(page.text("#cold").await.contains("spawn "));
    assert!(page.text("#sums").await.contains("Services"));
    for (scheme, width) in [("light", 1100), ("dark", 1100), ("light", NARROW), ("dark", NARROW)] {
        page.resize(width, 1400).await;
        page.scheme(scheme, "reduce").await;
        is_readable(&mut page, &format!("{scheme}, {width}")).await;
        page.picture(&format!("dashboard-{scheme}-{width}")).await;
    }
    load.abort();
    assert_eq!(page.complaints, [""; 0]);
}

#[tokio::test]
async fn the_dashboard_is_told_to_a_screen_reader() {
    if !is_there("the_dashboard_is_told_to_a_screen_reader") {
        return;
    }
    let (tidegate, load) = busy().await;
    let mut page = Page::open(1100).await;
    page.go(&format!("http://{}/dashboard", tidegate.admin)).await;
    page.until(SHOWN).await;
    // Where rows are cards, they are still a table's.
    for width in [1100, NARROW] {
        page.resize(width, 800).await;
        let tree = page.tree().await;
        for name in ["Needs attention", "Services", "Decisions", "Cold starts", "Replicas"] {
            has(&tree, "heading", name);
        }
        has(&tree, "table", "Services with their revisions.");
        has(&tree, "columnheader", "Waiting");
        has(&tree, "rowheader", "default/limited");
        has(&tree, "cell", "limited-00001");
        has(&tree, "image", "a replica");
        has(&tree, "link", "default/hello");
        has(&tree, "button", "Pause");
        has(&tree, "searchbox", "Filter");
        let status = tree.iter().find(|told| told.role == "status").unwrap();
        assert!(status.properties.contains("polite"), "{status:?}");
    }
    // The reader is told of a change.
    let before = page.text("#latest").await;
    load.abort();
    tidegate
        .write(&Service::new("hello").annotation("autoscaling.knative.dev/min-scale", "2").yaml());
    page.until(&format!("document.querySelector('#latest').innerText !== {before:?}")).await;
}

#[tokio::test]
async fn the_dashboard_is_used_by_keyboard() {
    if !is_there("the_dashboard_is_used_by_keyboard") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let services = [Service::new("hello"), Service::new("other")];
    let arguments = ["--admin-token-file", token.to_str().unwrap()];
    let tidegate = Tidegate::with(&file(&services), &arguments);
    let mut page = Page::open(NARROW).await;
    page.go(&format!("http://{}/dashboard", tidegate.admin)).await;
    page.until("document.activeElement?.id === 'token'").await;
    has(&page.tree().await, "textbox", "Token");
    page.write("not it").await;
    page.press("Enter").await;
    page.until("document.querySelector('#refusal').innerText.includes('not the one')").await;
    page.picture("dashboard-token").await;
    page.write("0123456789abcdef0123456789abcdef").await;
    page.press("Enter").await;
    page.until("document.querySelectorAll('#revisions tbody tr').length === 2").await;
    let kept = "sessionStorage.length === 1 && localStorage.length === 0 && !document.cookie";
    assert_eq!(page.value(kept).await, true);

    // Everything that can be used is reached in order, and the focus is seen.
    page.value("document.activeElement.blur(); scrollTo(0, 0)").await;
    page.go(&format!("http://{}/dashboard", tidegate.admin)).await;
    page.until("document.querySelectorAll('#revisions tbody tr').length === 2").await;
    let mut reached = Vec::new();
    for _ in 0..6 {
        page.press("Tab").await;
        let name = "document.activeElement.id || document.activeElement.innerText";
        reached.push(page.value(name).await.as_str().unwrap().to_owned());
        let outline = "parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2";
        assert_eq!(page.value(outline).await, true, "{reached:?}");
        if reached.last().unwrap() == "pause" {
            page.press(" ").await;
            assert_eq!(page.text("#state").await, "paused");
            page.press(" ").await;
        }
        if reached.last().unwrap() == "filter" {
            page.write("oth").await;
            page.until("document.querySelectorAll('#revisions tbody tr').length === 1").await;
        }
    }
    let expected = ["To the services", "pause", "forget", "filter", "default/other", "services"];
    assert_eq!(reached, expected);
    // A round does not take the focus away.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(page.value("document.activeElement.innerText").await, "services");
}
