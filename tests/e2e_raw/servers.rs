//! Real servers that say what they understood: each answers a request with its method and target.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;

/// A server on a socket of its own; ended when dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
}

const HAPROXY: &str = r#"
global
  tune.bufsize 262144
  tune.http.maxhdr 256
defaults
  mode http
  timeout client 30s
  timeout http-request 30s
  timeout http-keep-alive 60s
frontend all
  bind unix@SOCKET
  http-request wait-for-body time 5s
  http-request return status 200 content-type text/plain lf-string "%[method] %[url]\n"
"#;

const NGINX: &str = r#"
daemon off;
worker_processes 1;
user root;
pid FOLDER/pid;
error_log /dev/null;
events {}
http {
  access_log off;
  large_client_header_buffers 8 256k;
  keepalive_requests 1000000;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  server {
    listen unix:SOCKET;
    # Reads the body before it asks the other one.
    location / {
      proxy_pass http://unix:FOLDER/answers;
      proxy_set_header Host $host;
    }
  }
  server {
    listen unix:FOLDER/answers;
    location / { return 200 "$request_method $request_uri\n"; }
  }
}
"#;

const NODE: &str = r#"
const http = require('http');
http.createServer({ maxHeaderSize: 262144, keepAliveTimeout: 60000 }, (req, res) => {
  req.on('error', () => {});
  req.on('data', () => {});
  req.on('end', () => {
    const text = `${req.method} ${req.url}\n`;
    res.writeHead(200, { 'Content-Length': Buffer.byteLength(text) });
    res.end(text);
  });
}).listen('SOCKET');
"#;

impl Server {
    /// Starts the one of this name.
    pub(crate) async fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let written = |text: &str| -> PathBuf {
            let file = folder.path().join("settings.cjs");
            let text = text
                .replace("SOCKET", socket.to_str().unwrap())
                .replace("FOLDER", folder.path().to_str().unwrap());
            std::fs::write(&file, text).unwrap();
            file
        };
        let mut command = match name {
            "haproxy" => {
                let mut command = program("haproxy");
                command.arg("-db").arg("-f").arg(written(HAPROXY));
                command
            }
            "nginx" => {
                let mut command = program("nginx");
                command.arg("-p").arg(folder.path()).arg("-c").arg(written(NGINX));
                command.args(["-e", "/dev/null"]);
                command
            }
            _ => {
                let mut command = program("node");
                command.arg(written(NODE));
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = child.spawn().unwrap_or_else(|e| {
            let package = if name == "node" { "nodejs" } else { name };
            panic!("this test needs {name} ({e}): install Debian's package `{package}`")
        });
        let mut server = Self { child, folder };
        while UnixStream::connect(&server.socket()).await.is_err() {
            if let Some(status) = server.child.try_wait().unwrap() {
                let mut said = String::new();
                let stderr = server.child.stderr.as_mut().unwrap();
                std::io::Read::read_to_string(stderr, &mut said).unwrap();
                panic!("{name} does not start ({status}): {said}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

/// A program, also where administrators' programs are not on the path.
fn program(name: &str) -> Command {
    let sbin = Path::new("/usr/sbin").join(name);
    if sbin.exists() { Command::new(sbin) } else { Command::new(name) }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first: nginx ends its worker only then.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
