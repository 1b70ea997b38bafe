//! Services that need each other, with real programs.

use crate::client::{get, soon};
use crate::serving::{Service, Tidegate, file, host, repository, tidegate};

const EXAMPLE: &str = "deploy/examples/dependencies.yaml";

/// A service that greets with `greeting` and depends on `stock`.
fn shop(greeting: &str) -> Service {
    Service::new("shop")
        .annotation("tidegate.dev/depends-on", "stock")
        .command(r#"["tidegate", "echo"]"#)
        .env("TARGET", greeting)
}

fn plan(arguments: &[&str]) -> (i32, String, String) {
    let output = tidegate().arg("plan").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_plan_has_each_once_after_what_it_needs() {
    let path = repository(EXAMPLE);
    let path = path.to_str().unwrap();
    let expected = "STEP  SERVICE        DEPENDS ON\n\
                    1     default/stock  -\n\
                    2     default/cart   default/stock\n\
                    3     default/shop   default/cart, default/stock=stock-00001\n";
    assert_eq!(plan(&["-f", path]), (0, expected.to_owned(), String::new()));
    let (code, _, complaint) = plan(&["-f", path, "till"]);
    assert_eq!(code, 1);
    let known =
        "there is no service default/till; known: default/cart, default/shop, default/stock";
    assert!(complaint.contains(known), "{complaint}");
}

#[test]
fn a_circle_is_named_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("circle.yaml");
    let stock = Service::new("stock").annotation("tidegate.dev/depends-on", "shop");
    std::fs::write(&path, file(&[shop("one"), stock.command(r#"["tidegate", "echo"]"#)])).unwrap();
    let path = path.to_str().unwrap();
    let circle = "a circle: default/shop → default/stock → default/shop";
    let (code, _, complaint) = plan(&["-f", path]);
    assert_eq!((code, complaint.matches(circle).count()), (1, 2), "{complaint}");
    let output = tidegate().args(["serve", "-f", path]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains(circle));
}

#[tokio::test]
async fn one_request_starts_all_that_is_needed() {
    let tidegate = Tidegate::files(&[&repository(EXAMPLE)], &[]);
    assert_eq!(get(tidegate.address(), &host("shop"), "/").await.text(), "Hello shop!\n");
    for revision in ["cart-00001", "stock-00001"] {
        tidegate.logged(&format!("replica is ready revision=default/{revision}")).await;
    }
    assert_eq!(tidegate.descendants().len(), 4, "the guard and one of each");
}

#[tokio::test]
async fn a_new_revision_answers_once_what_it_depends_on_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("flag");
    let script =
        format!("while [ ! -e {} ]; do sleep 0.02; done; exec tidegate echo", flag.display());
    let stock = || Service::new("stock").shell(&script);
    let tidegate = Tidegate::serve(&file(&[shop("one"), stock()]));
    let answer = async || get(tidegate.address(), &host("shop"), "/").await.text().to_owned();
    assert_eq!(answer().await, "Hello one!\n", "the first revision waits for nobody");
    tidegate.write(&file(&[shop("two"), stock()]));
    tidegate.logged("its new revision gets traffic once what it depends on is ready").await;
    assert_eq!(answer().await, "Hello one!\n");
    std::fs::write(&flag, "").unwrap();
    tidegate.logged("its new revision waits no more").await;
    // It is said before the workers have it.
    soon(async { while answer().await != "Hello two!\n" {} }).await;
}
