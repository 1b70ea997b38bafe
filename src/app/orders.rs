//! What the admin API can be told to do, carried out by the parts that can.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};

use super::live::Live;
use super::wakes::first_place;
use crate::admin::order::{Declined, Order, Orders, TrafficOrder};
use crate::admin::view::{LineView, Lines, LogsView};
use crate::config::world::{Export, NewTraffic, OrderError, TrafficChange};
use crate::local::{Printed, PrintedLine};
use crate::model::{RevisionId, ServiceId};
use crate::revision::Revision;

/// How long somebody who wakes a revision is kept waiting; then he asks again. Shorter than the
/// admin listener waits.
const WAKES_WITHIN: Duration = Duration::from_secs(5);

/// Begins to replace the replicas of a revision; whether its program can run only once.
pub(super) type Renew =
    Box<dyn Fn(RevisionId) -> BoxFuture<'static, Result<bool, String>> + Send + Sync>;

/// Sets a service's traffic, or only says what would change.
pub(super) type SetTraffic = Box<
    dyn Fn(ServiceId, NewTraffic, bool) -> BoxFuture<'static, Result<TrafficChange, Declined>>
        + Send
        + Sync,
>;

/// All that is in effect, with or without the values of Secrets.
pub(super) type ExportAll =
    Box<dyn Fn(bool) -> BoxFuture<'static, Result<Export, Declined>> + Send + Sync>;

/// What only one home of the program can do, or what to do in its place.
#[derive(Clone)]
pub(super) struct Hands(Arc<Inner>);

struct Inner {
    renew: Result<Renew, &'static str>,
    traffic: Result<SetTraffic, &'static str>,
    export: Result<ExportAll, &'static str>,
    printed: Result<Arc<Printed>, &'static str>,
}

impl Hands {
    /// Those of a home that can do all.
    pub(super) fn new(
        renew: Renew,
        traffic: SetTraffic,
        export: ExportAll,
        printed: Arc<Printed>,
    ) -> Self {
        let (renew, traffic, export, printed) = (Ok(renew), Ok(traffic), Ok(export), Ok(printed));
        Self(Arc::new(Inner { renew, traffic, export, printed }))
    }

    /// None: what to do in its place, of restarting, traffic, export and logs.
    pub(super) fn none([renew, traffic, export, printed]: [&'static str; 4]) -> Self {
        let (renew, traffic) = (Err(renew), Err(traffic));
        let (export, printed) = (Err(export), Err(printed));
        Self(Arc::new(Inner { renew, traffic, export, printed }))
    }

    /// Lines that the replicas of a revision printed, or where they are.
    pub(super) fn logs(&self, id: &RevisionId, asked: Lines) -> LogsView {
        let printed = match &self.0.printed {
            Ok(printed) => printed,
            Err(elsewhere) => {
                return LogsView {
                    elsewhere: Some((*elsewhere).to_owned()),
                    ..LogsView::default()
                };
            }
        };
        let (mut lines, last) = printed.after(id, asked.after);
        if let Some(tail) = asked.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        LogsView { lines: lines.into_iter().map(line_view).collect(), last, elsewhere: None }
    }
}

fn line_view(line: PrintedLine) -> LineView {
    LineView {
        number: line.number,
        unix_ms: line.unix_ms,
        replica: line.replica,
        stream: line.stream.to_owned(),
        text: line.text.to_string(),
    }
}

/// Carries out orders.
pub(super) fn orders(live: &Arc<Live>, hands: &Hands) -> Orders {
    let (live, hands) = (Arc::clone(live), hands.clone());
    Box::new(move |order| {
        let (live, hands) = (Arc::clone(&live), hands.clone());
        Box::pin(async move {
            match order {
                Order::Wake(id) => wake(&find(&live, &id)?).await,
                Order::Restart(id) => restart(&find(&live, &id)?, &hands).await,
                Order::Traffic(id, order) => traffic(id, order, &hands).await,
                Order::Export { secrets } => export(secrets, &hands).await,
            }
        })
    })
}

fn find(live: &Live, id: &RevisionId) -> Result<Arc<Revision>, Declined> {
    live.revision(id).ok_or_else(|| Declined::unknown("revision", id))
}

fn elsewhere(what: &str) -> Declined {
    Declined::new(StatusCode::NOT_IMPLEMENTED, what)
}

/// Waits for a place as a request does, which starts a replica where there is none.
async fn wake(revision: &Arc<Revision>) -> Result<Value, Declined> {
    match first_place(revision, WAKES_WITHIN).await {
        Ok(ready) => Ok(json!({"ready": ready})),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.reason.status());
            let text = format!("{}: {}", problem.reason, problem.message);
            Err(Declined::new(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), text))
        }
    }
}

async fn restart(revision: &Arc<Revision>, hands: &Hands) -> Result<Value, Declined> {
    let renew = hands.0.renew.as_ref().map_err(|instead| elsewhere(instead))?;
    let conflict = |why: String| Declined::new(StatusCode::CONFLICT, why);
    let in_place = renew(revision.id().clone()).await.map_err(conflict)?;
    revision.renew(in_place);
    Ok(json!({"toRenew": revision.to_renew(), "inPlace": in_place}))
}

async fn traffic(
    service: ServiceId,
    order: TrafficOrder,
    hands: &Hands,
) -> Result<Value, Declined> {
    let set = hands.0.traffic.as_ref().map_err(|instead| elsewhere(instead))?;
    let new = if order.rollback {
        NewTraffic::Rollback
    } else {
        let targets = order.targets.into_iter();
        NewTraffic::Shares(targets.map(|t| (t.revision_name, t.percent)).collect())
    };
    let TrafficChange { before, after } = set(service, new, order.dry_run).await?;
    let shares = |shares: Vec<(String, u8)>| -> Value {
        let share = |(revision, percent)| json!({"revision": revision, "percent": percent});
        shares.into_iter().map(share).collect()
    };
    Ok(json!({"before": shares(before), "after": shares(after)}))
}

async fn export(secrets: bool, hands: &Hands) -> Result<Value, Declined> {
    let export = hands.0.export.as_ref().map_err(|instead| elsewhere(instead))?;
    let Export { items, omitted } = export(secrets).await?;
    Ok(json!({"items": items, "omitted": omitted}))
}

/// Why an order for traffic is declined.
pub(super) fn declined(error: &OrderError) -> Declined {
    let status = match error {
        OrderError::Unknown(_) => StatusCode::NOT_FOUND,
        OrderError::Missing { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        OrderError::NoTraffic(_) | OrderError::NothingBefore { .. } => StatusCode::CONFLICT,
    };
    Declined::new(status, error.to_string())
}
