//! Debian's `chromium`, driven by its DevTools protocol: one JSON message each way over a WebSocket.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::client::soon;
use crate::serving::SOON;

/// A page in a running browser, which ends when this is dropped.
pub(crate) struct Page {
    child: Child,
    socket: WebSocketStream<TcpStream>,
    session: String,
    number: u64,
    /// What the page complained about.
    pub(crate) complaints: Vec<String>,
    _profile: TempDir,
}

/// What a screen reader is told of one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) properties: String,
}

/// Whether there is a browser; without one a test is skipped, but not where everything must run.
pub(crate) fn is_there(test: &str) -> bool {
    let found = Command::new("chromium").arg("--version").stderr(Stdio::null()).output();
    let there = found.is_ok_and(|output| output.status.success());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "this test needs a browser: install Debian's package `chromium`"
    );
    if !there {
        #[expect(clippy::print_stdout, reason = "says that a test was not run")]
        {
            println!("SKIPPED {test}: there is no chromium here (Debian's package `chromium`)");
        }
    }
    there
}

impl Page {
    /// Starts a browser with an empty page of this width.
    pub(crate) async fn open(width: u32) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args(["--disable-sync", "--disable-extensions", "--hide-scrollbars"])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let socket = connect(profile.path().join("DevToolsActivePort")).await;
        let mut page = Self {
            child,
            socket,
            session: String::new(),
            number: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        attached["sessionId"].as_str().unwrap().clone_into(&mut page.session);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Accessibility.enable"] {
            page.call(domain, json!({})).await;
        }
        page.resize(width, 800).await;
        page
    }

    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1,
                          "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Light or dark, and whether motion is to be reduced.
    pub(crate) async fn scheme(&mut self, scheme: &str, motion: &str) {
        let features = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Goes to a page, as somebody does who types its address.
    pub(crate) async fn go(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url})).await;
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
    }

    /// Holds back what the page asks for, also itself anew, so that it stays what it is meanwhile.
    pub(crate) async fn hold_still(&mut self, still: bool) {
        let method = if still { "Fetch.enable" } else { "Fetch.disable" };
        self.call(method, json!({})).await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    pub(crate) async fn text(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({selector:?})?.innerText ?? ''");
        self.value(&expression).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true; pages may change meanwhile.
    pub(crate) async fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let asked = json!({"expression": expression, "returnByValue": true});
            if self.answer("Runtime.evaluate", asked).await["result"]["result"]["value"] == true {
                return;
            }
            if Instant::now() >= deadline {
                let shown = self.text("body").await;
                panic!(
                    "waited in vain for {expression}; shown is:\n{shown}\n{:?}",
                    self.complaints
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses a key and lets it go.
    pub(crate) async fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            " " => (32, " "),
            _ => panic!("{key:?} is no key that is pressed here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Writes where the focus is.
    pub(crate) async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// What a screen reader is told, in its order.
    pub(crate) async fn tree(&mut self) -> Vec<Told> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .filter(|node| node["ignored"] != true)
            .map(|node| Told {
                role: text(&node["role"]),
                name: text(&node["name"]),
                properties: node["properties"].to_string(),
            })
            .collect()
    }

    /// Takes a picture; kept only where the variable `TIDEGATE_PICTURES` names a folder.
    pub(crate) async fn picture(&mut self, name: &str) {
        let taken = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        let encoded = taken["data"].as_str().unwrap();
        assert!(encoded.len() > 4_000, "an empty picture: {name}");
        if let Some(folder) = std::env::var_os("TIDEGATE_PICTURES") {
            std::fs::write(PathBuf::from(folder).join(format!("{name}.png.base64")), encoded)
                .unwrap();
        }
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        let mut answer = self.answer(method, parameters).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The answer, or the error.
    async fn answer(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        soon(self.socket.send(Message::text(message.to_string()))).await.unwrap();
        loop {
            let said = soon(self.socket.next()).await.unwrap().unwrap();
            let Message::Text(said) = said else { continue };
            let said: Value = serde_json::from_str(&said).unwrap();
            if said["id"] == self.number {
                return said;
            }
            match said["method"].as_str() {
                Some("Log.entryAdded") => {
                    let entry = &said["params"]["entry"];
                    self.complaints.push(format!("{} {}", entry["source"], entry["text"]));
                }
                Some("Runtime.exceptionThrown") => self.complaints.push(said.to_string()),
                _ => {}
            }
        }
    }
}

async fn connect(file: PathBuf) -> WebSocketStream<TcpStream> {
    let deadline = Instant::now() + SOON;
    let (port, path) = loop {
        let told = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some((port, path)) = told.split_once('\n')
            && let Ok(port) = port.parse::<u16>()
        {
            break (port, path.trim().to_owned());
        }
        assert!(Instant::now() < deadline, "the browser does not say where it is");
        sleep(Duration::from_millis(20)).await;
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let url = format!("ws://127.0.0.1:{port}{path}");
    // Pictures are larger than the messages that are usual.
    let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    let connecting = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
    soon(Box::pin(connecting)).await.unwrap().0
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
