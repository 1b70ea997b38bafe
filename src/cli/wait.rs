//! `tidegate wait`: until a service can be used.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::args::{WaitArgs, WaitFor};
use super::asking;
use super::client::answers::{Name, Revision, Status};
use super::client::{Client, ClientError};

/// How soon it is looked again.
const AGAIN: Duration = Duration::from_millis(200);

/// Waits; the exit code says whether it is so.
pub fn run(args: &WaitArgs) -> ExitCode {
    asking(async {
        let name = Name::new(&args.service);
        let deadline = Instant::now() + args.timeout;
        let mut client = Client::connect(&args.client).await.map_err(|e| e.to_string())?;
        loop {
            let status = client.status().await.map_err(|error| error.to_string())?;
            let missing = match missing(&status, &name, &args.what) {
                Ok(missing) => missing,
                Err(why) => {
                    give_up_after(deadline, args.timeout, &why)?;
                    sleep(AGAIN).await;
                    continue;
                }
            };
            let Some(revision) = missing.first() else { return Ok(()) };
            let why = wake(&mut client, revision).await?;
            give_up_after(deadline, args.timeout, &why)?;
            sleep(AGAIN).await;
        }
    })
}

fn give_up_after(deadline: Instant, timeout: Duration, why: &str) -> Result<(), String> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(format!("wait: not within {timeout:?}: {why}"))
}

/// Revisions that are waited for and have no ready replica.
///
/// # Errors
/// It cannot be so yet: why.
fn missing<'a>(
    status: &'a Status,
    name: &Name,
    what: &WaitFor,
) -> Result<Vec<&'a Revision>, String> {
    let service = status.service(name).ok_or_else(|| format!("there is no service {name}"))?;
    let revisions = status.revisions_of(name);
    let find = |wanted: &str| {
        let found = revisions.iter().find(|revision| revision.name == wanted);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = revisions.iter().map(|known| known.name.as_str()).collect();
            format!("{name} has no revision {wanted}; there are {}", names.join(", "))
        })
    };
    let wanted = match what {
        WaitFor::Revision(wanted) => vec![find(wanted)?],
        WaitFor::Ready => {
            if let Some(problem) = &service.problem {
                return Err(problem.short());
            }
            let shares = service.traffic.iter().filter(|share| share.percent > 0);
            shares.map(|share| find(&share.revision)).collect::<Result<_, _>>()?
        }
    };
    Ok(wanted.into_iter().filter(|revision| revision.ready == 0).collect())
}

/// Has a replica started and waits for it a while; what it is that is waited for.
///
/// # Errors
/// No replica can be started: why.
async fn wake(client: &mut Client, revision: &Revision) -> Result<String, String> {
    match client.post(&revision.path("/wake"), &json!({})).await {
        Ok(_) => Ok(format!("{} has no ready replica yet", revision.id())),
        // It may be gone since.
        Err(error) if error.is_unknown() => Ok(error.to_string()),
        Err(ClientError::Declined(_, why)) => Err(format!("{}: {why}", revision.id())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing() {
        let status: Status = serde_json::from_value(json!({
            "services": [
                {"namespace": "default", "name": "a", "traffic": [
                    {"revision": "a-1", "percent": 90}, {"revision": "a-2", "percent": 10},
                ]},
                {"namespace": "ns", "name": "bad", "problem": {"reason": "x", "message": "y\nz"}},
            ],
            "revisions": [
                {"namespace": "default", "name": "a-1", "service": "a", "ready": 2},
                {"namespace": "default", "name": "a-2", "service": "a"},
                {"namespace": "default", "name": "a-3", "service": "a"},
            ],
        }))
        .unwrap();
        let shown = |name: &str, what: WaitFor| match missing(&status, &Name::new(name), &what) {
            Ok(found) => found.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(" "),
            Err(why) => why,
        };
        let revision = |name: &str| WaitFor::Revision(name.to_owned());
        assert_eq!(shown("a", WaitFor::Ready), "a-2");
        assert_eq!(shown("default/a", revision("a-3")), "a-3");
        assert_eq!(shown("a", revision("a-1")), "");
        assert_eq!(
            shown("a", revision("a-9")),
            "default/a has no revision a-9; there are a-1, a-2, a-3"
        );
        assert_eq!(shown("ns/bad", WaitFor::Ready), "x: y");
        assert_eq!(shown("b", WaitFor::Ready), "there is no service default/b");
    }
}
