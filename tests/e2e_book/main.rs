//! The book: what its pages show is run, what they name is there, and what can be made from the code
//! is. `UPDATE_EXPECT=1 cargo test --test e2e_book` writes the two references anew.
//!
//! Fenced blocks of a page are run in order, in a folder of their own: `yaml` with a first line
//! `# FILE.yaml` is written to that file, lines of `console` after `$ ` are commands and the others what
//! they print, all lines of `sh` are commands. In what is printed, `…` stands for anything, alone on a
//! line for any lines. A block that says `exit=N` has a last command that ends so; one that says
//! `cluster` needs a cluster, and is listed here.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/https.rs"]
mod https;
#[path = "../support/serving.rs"]
mod serving;

mod configuration;
mod links;
mod metrics;
mod node;
mod page;
mod run;

use page::{Block, blocks, read};
use tidegate::model::Reason;

/// The pages of the book that show commands, and how many of their blocks are not run, and why.
const PAGES: [(&str, usize, &str); 12] = [
    ("README", 0, ""),
    ("first-service", 0, ""),
    ("canary", 0, ""),
    ("dependencies", 0, ""),
    ("tuning", 0, ""),
    ("kubernetes", 2, "needs a cluster: tests/e2e_cluster installs and moves there"),
    ("errors", 0, ""),
    ("from-knative", 1, "needs Knative"),
    ("from-keda-http", 1, "needs KEDA"),
    ("backup", 1, "kubectl needs a cluster"),
    ("how-it-works", 0, ""),
    ("traces", 0, ""),
];

async fn page(name: &str) {
    let (_, left_out, _) = PAGES.into_iter().find(|(page, ..)| *page == name).unwrap();
    let all = blocks(&read(&format!("docs/{name}.md")));
    let of_cluster = all.iter().filter(|block| block.is_command() && block.says("cluster")).count();
    assert_eq!(of_cluster, left_out, "docs/{name}.md: blocks that are not run are listed here");
    run::run(name, all.into_iter().filter(|block| !block.says("cluster")).collect()).await;
}

#[tokio::test]
async fn first_service() {
    serving::needs("node", "nodejs");
    page("first-service").await;
}

#[tokio::test]
async fn canary() {
    page("canary").await;
}

#[tokio::test]
async fn dependencies() {
    page("dependencies").await;
}

#[tokio::test]
async fn tuning() {
    page("tuning").await;
}

#[tokio::test]
async fn backup() {
    page("backup").await;
}

#[tokio::test]
async fn errors() {
    page("errors").await;
}

/// Pages with little to run.
#[tokio::test]
async fn the_others() {
    for name in ["README", "kubernetes", "from-knative", "from-keda-http", "how-it-works", "traces"]
    {
        page(name).await;
    }
}

#[test]
fn blocks_are_of_a_known_language() {
    for (name, _, why) in PAGES {
        for block in blocks(&read(&format!("docs/{name}.md"))) {
            let known = ["console", "sh", "yaml", "text", "js"].contains(&block.language());
            assert!(known, "docs/{name}.md:{}: {:?}", block.line, block.info);
            assert!(!block.says("cluster") || !why.is_empty(), "docs/{name}.md says no reason");
        }
    }
}

#[test]
fn every_error_token_has_a_place() {
    let text = read("docs/errors.md");
    for reason in Reason::ALL {
        let place = text.split(&format!("\n### {}\n", reason.token())).nth(1);
        let place = place.unwrap_or_else(|| panic!("docs/errors.md has no heading {reason}"));
        let place = place.split("\n### ").next().unwrap();
        let status = format!("**{}**", reason.status());
        assert!(place.contains(&status), "{reason} does not say {status}");
    }
    let headings = text.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(headings, Reason::ALL.len(), "a token that there is not");
}

/// Blocks are read as they are meant.
#[test]
fn a_page_is_taken_apart() {
    let page =
        "a\n```yaml\n# a.yaml\nx: 1\n```\n```console exit=1\n$ one \\\n  two\nout\n$ b\n```\n";
    let all = blocks(page);
    assert_eq!(all[0].file(), Some("a.yaml"));
    assert_eq!((all[1].language(), all[1].exit()), ("console", Some(1)));
    let commands: Vec<_> = all[1].commands().collect();
    assert_eq!(commands.len(), 2);
    assert_eq!((commands[0].text.as_str(), &commands[0].printed[..]), ("one two", &["out"][..]));
    assert_eq!((commands[1].text.as_str(), commands[1].is_last), ("b", true));
    let of_shell = Block { info: "sh".into(), text: "a\n# no\n\nb".into(), line: 1 };
    assert_eq!(of_shell.commands().map(|c| c.text).collect::<Vec<_>>(), ["a", "b"]);
}
