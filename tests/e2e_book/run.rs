//! Runs what a page shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::page::{Block, Shown, is_shown};
use crate::serving::{SOON, Tidegate, repository, tidegate, until};

/// Where `serve` listens unless a page says otherwise.
const HTTP: u16 = 8080;
const ADMIN: u16 = 9095;

/// Commands that may be asked again until what is so is what is shown: they change nothing.
const ASKING: [&str; 7] = [
    "tidegate status",
    "tidegate why",
    "tidegate logs",
    "tidegate export",
    "tidegate restore",
    "for ",
    "curl -s http://127.0.0.1:9095/",
];

/// A page's folder, and what runs for it.
struct Stage<'a> {
    page: &'a str,
    folder: TempDir,
    /// What serves, by the administrative port that the page gives it.
    served: BTreeMap<u16, Tidegate>,
    /// Ports as the page has them, and as they are.
    ports: BTreeMap<u16, u16>,
}

/// Runs the blocks of a page in order.
pub(crate) async fn run(page: &str, blocks: Vec<Block>) {
    let folder = tempfile::tempdir().unwrap();
    let link = |target: &Path, name: &str| {
        std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
    };
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    link(Path::new(env!("CARGO_BIN_EXE_tidegate")), "bin/tidegate");
    link(&repository("deploy"), "deploy");
    let mut stage = Stage { page, folder, served: BTreeMap::new(), ports: BTreeMap::new() };
    for block in blocks {
        let place = format!("docs/{page}.md:{}", block.line);
        if let Some(file) = block.file() {
            std::fs::write(stage.folder.path().join(file), &block.text).unwrap();
        } else if block.is_command() {
            for command in block.commands() {
                let code = block.exit().filter(|_| command.is_last).unwrap_or(0);
                stage.command(&place, &command, code).await;
            }
        }
    }
}

impl Stage<'_> {
    /// A shell's command in the page's folder.
    fn shell(&self, text: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let admin = self.ports.get(&ADMIN).copied().unwrap_or(0);
        let mut command = Command::new("sh");
        // What is told to tests is nothing for those whom a page has started.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NODE_TEST") {
                command.env_remove(name);
            }
        }
        for (name, value) in tidegate().get_envs() {
            if value.is_none() {
                command.env_remove(name);
            }
        }
        command
            .args(["-c", text])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()))
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .env("TIDEGATE_HTTP", "127.0.0.1:0")
            .env("TIDEGATE_ADMIN", format!("127.0.0.1:{admin}"));
        command
    }

    async fn command(&mut self, place: &str, shown: &Shown<'_>, code: i32) {
        if shown.text.starts_with("tidegate serve") {
            return self.serve(place, shown).await;
        }
        let text = self.ports.iter().fold(shown.text.clone(), |text, (shown, real)| {
            text.replace(&format!(":{shown}"), &format!(":{real}"))
        });
        let may_repeat = ASKING.iter().any(|asking| shown.text.starts_with(asking));
        let deadline = Instant::now() + if may_repeat { SOON } else { Duration::ZERO };
        loop {
            let mut command = tokio::process::Command::from(self.shell(&text));
            let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
            let output = tokio::time::timeout(3 * SOON, running).await;
            let output =
                output.unwrap_or_else(|_| panic!("{place}: {text}: does not end")).unwrap();
            let printed = [output.stdout, output.stderr].concat();
            let printed = self.as_shown(&String::from_utf8(printed).unwrap());
            let is_so = shown.printed.is_empty() || is_shown(&shown.printed, &printed);
            if output.status.code() == Some(code) && is_so {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{place}: {}\nends with {} and prints\n{printed}and is to print\n{}\n{}",
                shown.text,
                output.status,
                shown.printed.join("\n"),
                self.served.values().map(Tidegate::log).collect::<String>()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Has a page's tidegate serve; one with the same administrative port ends before.
    async fn serve(&mut self, place: &str, shown: &Shown<'_>) {
        let after = |option: &str| -> Option<u16> {
            let given = shown.text.split(option).nth(1)?.split_whitespace().next()?;
            given.rsplit(':').next()?.parse().ok()
        };
        let (http, admin) = (after("--http ").unwrap_or(HTTP), after("--admin ").unwrap_or(ADMIN));
        if let Some(mut before) = self.served.remove(&admin) {
            before.terminate();
            assert!(before.ended().await.success(), "{place}: {}", before.log());
        }
        self.ports.remove(&admin);
        let text = [http, admin].into_iter().fold(shown.text.clone(), |text, port| {
            text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0")
        });
        let mut command = self.shell(&format!("exec {text}"));
        if admin == ADMIN {
            command.env("TIDEGATE_ADMIN", "127.0.0.1:0");
        }
        let served = Tidegate::spawned(command);
        self.ports.insert(http, served.address().port());
        self.ports.insert(admin, served.admin.port());
        let listening = format!("listening http={} admin={}\n", served.address(), served.admin);
        let printed = || self.as_shown(&format!("{listening}{}", served.log()));
        if !shown.printed.is_empty() {
            let shown_so_far = [&shown.printed[..], &["…"]].concat();
            let what = format!("{} in {place}: {}", self.page, shown.text);
            until(&what, || is_shown(&shown_so_far, &printed())).await;
        }
        self.served.insert(admin, served);
    }

    /// What was printed, with the ports of the page.
    fn as_shown(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (shown, real)| {
            text.replace(&format!(":{real}"), &format!(":{shown}"))
        })
    }
}
