//! What each proxy is told: the same work, one serving thread, nothing written.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::Peer;

/// The service whose replica is the origin.
pub(super) const SERVICE: &str = "asked";

/// What a proxy is to do.
pub(super) struct Wanted<'a> {
    pub(super) http1: SocketAddr,
    pub(super) http2: SocketAddr,
    pub(super) origin: SocketAddr,
    /// For its files.
    pub(super) folder: &'a Path,
}

/// Writes the configuration; gives back how to start the program, in the foreground.
pub(super) fn command(peer: Peer, program: &Path, wanted: &Wanted<'_>) -> io::Result<Command> {
    let mut command = Command::new(program);
    match peer {
        Peer::Haproxy => {
            let file = wanted.folder.join("haproxy.cfg");
            std::fs::write(&file, haproxy(wanted))?;
            // -db: no daemon, whatever the file says.
            command.arg("-db").arg("-f").arg(file);
        }
        Peer::Nginx => {
            let file = wanted.folder.join("nginx.conf");
            std::fs::write(&file, nginx(wanted))?;
            // -e: else it opens the system's log before it reads the file.
            command.args(["-e", "stderr", "-p"]).arg(wanted.folder).arg("-c").arg(file);
        }
        Peer::Envoy => {
            let file = wanted.folder.join("envoy.yaml");
            std::fs::write(&file, envoy(wanted))?;
            command.arg("-c").arg(file);
            command.args(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]);
        }
        Peer::Tidegate | Peer::Copier => {
            command.arg("copy").arg("--listen").arg(wanted.http1.to_string());
            command.arg("--upstream").arg(wanted.origin.to_string());
        }
    }
    Ok(command)
}

/// A service whose replica somebody else runs.
pub(super) fn tidegate(origin: SocketAddr) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: {SERVICE}
spec:
  template:
    metadata:
      annotations:
        tidegate.dev/static-endpoints: \"{origin}\"
        autoscaling.knative.dev/min-scale: \"1\"
        autoscaling.knative.dev/max-scale: \"1\"
    spec:
      containers:
        - image: example.com/origin
"
    )
}

fn haproxy(wanted: &Wanted<'_>) -> String {
    let Wanted { http1, http2, origin, .. } = wanted;
    format!(
        "global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout http-keep-alive 75s
  http-reuse always
frontend clients
  bind {http1}
  bind {http2} proto h2
  option forwardfor
  default_backend origin
backend origin
  server one {origin} pool-max-conn -1
"
    )
}

fn nginx(wanted: &Wanted<'_>) -> String {
    let Wanted { http1, http2, origin, folder } = wanted;
    let temp = |name: &str| format!("{name}_temp_path {}/{name};", folder.display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temp).join("\n  ");
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {}/nginx.pid;
events {{ worker_connections 8000; }}
http {{
  access_log off;
  {temporary}
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  upstream origin {{
    server {origin};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {http1} backlog=4096;
    listen {http2} http2 backlog=4096;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      # A body of 64 KiB stays in memory.
      proxy_buffers 16 16k;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
",
        folder.display()
    )
}

fn envoy(wanted: &Wanted<'_>) -> String {
    let address = |address: SocketAddr| {
        format!(
            "{{ socket_address: {{ address: {}, port_value: {} }} }}",
            address.ip(),
            address.port()
        )
    };
    let api = "type.googleapis.com/envoy.extensions.filters";
    format!(
        "static_resources:
  listeners:
  - address: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": {api}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: clients
          codec_type: AUTO
          use_remote_address: true
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: any
              domains: [\"*\"]
              routes: [{{ match: {{ prefix: / }}, route: {{ cluster: origin }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": {api}.http.router.v3.Router
              suppress_envoy_headers: true
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{ max_connections: 12000, max_pending_requests: 12000, max_requests: 12000 }}
    load_assignment:
      cluster_name: origin
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {} }} }}] }}]
",
        address(wanted.http1),
        address(wanted.origin)
    )
}
