//! Options of `serve` in a cluster.

use std::net::SocketAddr;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};

use super::parse::listen_address;

/// Options of `serve` that only serving one machine's files has, by identifier and flag.
const OF_FILES: [(&str, &str); 7] = [
    ("files", "--filename"),
    ("run", "--run"),
    ("domain", "--domain"),
    ("strict", "--strict"),
    ("default_service", "--default-service"),
    ("state_dir", "--state-dir"),
    ("max_replicas", "--max-replicas"),
];

/// Addresses in a cluster where none are given: pods are reached from outside themselves.
const DEFAULTS: [(&str, &str); 5] = [
    ("http", "[::]:8080"),
    ("http_internal", "[::]:8081"),
    ("https", "[::]:8443"),
    // That of the Service which clients reach it by.
    ("https_port", "443"),
    ("admin", "[::]:9095"),
];

/// Serving a cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Serve the Knative objects of a Kubernetes cluster instead of files.
    #[arg(help = "Serve the Knative objects of a Kubernetes cluster instead of files: as one of \
                  its pods, or by KUBECONFIG. Listens on [::]:8080, for callers inside on \
                  [::]:8081, for HTTPS with the certificates of DomainMappings on [::]:8443, \
                  --admin on [::]:9095")]
    #[arg(long, env = "TIDEGATE_KUBERNETES", value_parser = BoolishValueParser::new())]
    pub kubernetes: bool,

    /// The only namespace of the cluster that is looked at [default: all]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_NAMESPACE", requires = "kubernetes")]
    pub namespace: Option<String>,

    /// Where the API server's questions about objects are answered.
    #[arg(help = "Where the API server's questions about objects are answered (the admission \
                  webhook), in a pod, and with --webhook-url; not with --namespace \
                  [default: [::]:8444]")]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_WEBHOOK", requires = "kubernetes")]
    #[arg(value_parser = listen_address)]
    pub webhook: Option<SocketAddr>,

    /// How the API server reaches --webhook of a tidegate that is no pod: https://HOST:PORT
    /// [default: the Service tidegate-webhook]
    #[arg(long, value_name = "URL", env = "TIDEGATE_WEBHOOK_URL", requires = "kubernetes")]
    pub webhook_url: Option<String>,

    /// Where kubelets ask whether a pod that has to go has requests left.
    #[arg(help = "Where kubelets ask whether a pod that has to go has requests left, if \
                  prestop-address in config-deployment leads them here [default: [::]:8446]")]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_PRESTOP", requires = "kubernetes")]
    #[arg(value_parser = listen_address)]
    pub prestop: Option<SocketAddr>,

    /// Where other proxies of the cluster call this one.
    #[arg(help = "Where other proxies of the cluster call this one: in a pod whose UID is in \
                  POD_UID; without it this is the only proxy [default: [::]:8445]")]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_PEERS", requires = "kubernetes")]
    #[arg(value_parser = listen_address)]
    pub peers: Option<SocketAddr>,
}

/// Has `serve` take a cluster in place of files.
pub(super) fn allow(serve: Command) -> Command {
    let serve =
        serve.mut_arg("files", |files| files.required(false).required_unless_present("kubernetes"));
    DEFAULTS.into_iter().fold(serve, |serve, (name, address)| {
        serve.mut_arg(name, |arg| arg.default_value_if("kubernetes", "true", address))
    })
}

/// Checks that nothing of files is given with a cluster, and one of the two.
///
/// # Errors
/// What contradicts, for people.
pub(super) fn check(serve: &ArgMatches) -> Result<(), (ErrorKind, String)> {
    let is_given = |name: &str| {
        let source = serve.value_source(name);
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    if !serve.get_flag("kubernetes") {
        if is_given("files") {
            return Ok(());
        }
        let text = "give manifests with --filename PATH, or --kubernetes";
        return Err((ErrorKind::MissingRequiredArgument, text.to_owned()));
    }
    match OF_FILES.into_iter().find(|(name, _)| is_given(name)) {
        Some((_, flag)) => Err((
            ErrorKind::ArgumentConflict,
            format!("{flag} is for serving files: with --kubernetes the cluster's objects say it"),
        )),
        None => Ok(()),
    }
}
