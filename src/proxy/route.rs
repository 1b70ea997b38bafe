//! From the Host of a request to a revision.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;

use crate::model::{Problem, Reason, ServiceId};
use crate::revision::Revision;
use crate::snapshot::{HostKind, Route, ServiceRoute, Snapshot, normalize};

use super::edge::Checked;
use super::headers::TAG;
use super::shared::{Position, Settings};
use super::trace::Choice;
use super::worker::{LocalRevision, Worker};

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    /// By https.
    pub(super) secure: bool,
    /// From outside: what only the cluster sees is not there.
    pub(super) outside: bool,
    /// At the listener of one service.
    pub(super) service: Option<&'a ServiceId>,
}

/// Hosts named in the answer to an unknown one.
const HOSTS_NAMED_MAX: usize = 20;
const HTTPS_PORT: u16 = 443;

impl Worker {
    /// The revision that a request is for: by tag, or drawn by percentage.
    pub(super) fn route(
        &self,
        checked: &Checked<'_>,
        tag: Option<&HeaderMap>,
        way: Way<'_>,
    ) -> Result<Rc<LocalRevision>, Problem> {
        let settings = &self.shared.settings;
        self.with_snapshot(|snapshot| {
            if let Some(id) = way.service {
                let service = snapshot.service(id).ok_or_else(|| not_there(id))?;
                return Ok(self.local(revision(service, None, None)?));
            }
            let (service, service_tag) = service(snapshot, checked, settings, way.outside)?;
            if !way.secure
                && let Some(port) = settings.https_port
                && let Some(host) = redirected(service, checked)
            {
                return Err(Problem::new(Reason::HttpsRedirect, https_authority(host, port)));
            }
            Ok(self.local(revision(service, service_tag, tag)?))
        })
    }

    /// Why a request that came so got this revision. The routes may have changed meanwhile.
    pub(super) fn choice(
        &self,
        authority: &str,
        tag: Option<&str>,
        way: Way<'_>,
        chosen: &Arc<Revision>,
    ) -> Choice {
        self.with_snapshot(|snapshot| {
            let host = normalize(authority).map(|(host, _)| host);
            let route = host.as_ref().and_then(|host| visible(snapshot, host, way.outside));
            let service = match (way.service, route) {
                (Some(id), _) => snapshot.service(id),
                (None, Some(Route { service, tag, .. })) => {
                    if let Some((tag, _)) = tag.and_then(|tag| service.tags.get(tag as usize)) {
                        return Choice::TagHost(Arc::clone(tag));
                    }
                    Some(service)
                }
                (None, None) => snapshot.default_service(),
            };
            let Some(service) = service else { return Choice::Share(None) };
            match tag.filter(|tag| service.spec.tag_header_routing && service.has_tag(tag)) {
                Some(tag) => Choice::TagHeader(tag.into()),
                None => Choice::Share(service.split.percent_of(chosen)),
            }
        })
    }

    /// Whether a host is a service's own, not just one that the default service takes.
    pub(super) fn knows(&self, host: &str, outside: bool) -> bool {
        self.with_snapshot(|snapshot| visible(snapshot, host, outside).is_some())
    }
}

/// Where a host leads for those who see it.
fn visible<'a>(snapshot: &'a Snapshot, host: &str, outside: bool) -> Option<&'a Route> {
    snapshot.route(host).filter(|route| !(route.cluster_local & outside))
}

/// The host of a request that is to come by https: one of those of the service, or one that the
/// default service takes.
fn redirected<'a>(service: &ServiceRoute, checked: &'a Checked<'_>) -> Option<&'a str> {
    let hosts = &service.spec.https_hosts;
    if hosts.is_empty() {
        return None;
    }
    let (host, kind) = checked.host.as_ref()?;
    let is_meant = *kind == HostKind::Local || hosts.iter().any(|known| **known == **host);
    is_meant.then_some(&**host)
}

/// Host and port of a URL; the scheme's own port is left out.
fn https_authority(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == HTTPS_PORT { host } else { format!("{host}:{port}") }
}

/// The service that a request is for, and its tag that the host names.
fn service<'a>(
    snapshot: &'a Arc<Snapshot>,
    checked: &Checked<'_>,
    settings: &Settings,
    outside: bool,
) -> Result<(&'a Arc<ServiceRoute>, Option<u32>), Problem> {
    let hosts = || if settings.one_machine { hosts(snapshot, outside) } else { String::new() };
    let any_host = settings.position == Position::Sidecar;
    let default = |host: &str| match snapshot.default_service() {
        Some(service) if !(outside && snapshot.default_is_cluster_local()) => Ok((service, None)),
        _ => Err(no_default(host, &hosts())),
    };
    match &checked.host {
        Some((host, kind)) => match visible(snapshot, host, outside) {
            Some(Route { service, tag, .. }) => Ok((service, *tag)),
            None if *kind == HostKind::Local || any_host => default(host),
            None => Err(no_route(host, &hosts())),
        },
        None => default(""),
    }
}

fn revision<'a>(
    service: &'a ServiceRoute,
    tag: Option<u32>,
    tag_header: Option<&HeaderMap>,
) -> Result<&'a Arc<Revision>, Problem> {
    if let Some((_, revision)) = tag.and_then(|tag| service.tags.get(tag as usize)) {
        return Ok(revision);
    }
    if service.spec.tag_header_routing
        && let Some(headers) = tag_header
        && let Some(tag) = headers.get(&TAG).and_then(|value| value.to_str().ok())
        && let Some(revision) = service.tagged(tag)
    {
        return Ok(revision);
    }
    drawn(service)
}

fn drawn(service: &ServiceRoute) -> Result<&Arc<Revision>, Problem> {
    service.split.draw().ok_or_else(|| {
        service.spec.problem.clone().unwrap_or_else(|| {
            Problem::new(
                Reason::RevisionMissing,
                format!("service {} has no revision that could serve", service.spec.id),
            )
        })
    })
}

fn not_there(id: &ServiceId) -> Problem {
    Problem::new(Reason::NoRoute, format!("the Service {id} is no longer adopted"))
}

fn no_route(host: &str, hosts: &str) -> Problem {
    Problem::new(Reason::NoRoute, format!("no service has the host {host:?}{hosts}"))
}

fn no_default(host: &str, hosts: &str) -> Problem {
    Problem::new(
        Reason::NoRoute,
        format!(
            "the host {host:?} is nobody's and there is no default service; send a service's \
             host, or start with --default-service NAME{hosts}"
        ),
    )
}

/// The hosts of services that are seen from there, in words.
fn hosts(snapshot: &Snapshot, outside: bool) -> String {
    let services = snapshot.services().iter().map(|route| &route.spec);
    let seen = services.filter(|spec| !(outside && spec.is_cluster_local()));
    let names: Vec<&str> = seen.filter_map(|spec| Some(&**spec.hosts.first()?)).collect();
    let mut text = String::from("\nhosts:");
    for name in names.iter().take(HOSTS_NAMED_MAX) {
        text.push_str("\n  ");
        text.push_str(name);
    }
    if names.len() > HOSTS_NAMED_MAX {
        text.push_str("\n  …");
    }
    text
}
