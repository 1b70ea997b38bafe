//! Whom the admin API is for in a cluster: whoever may forward ports to tidegate's pods, and so could
//! ask as one on the pod itself anyway.

use std::sync::Arc;

use kube::Client;

use crate::admin::server::{Reviewer as AdminReviewer, Verdict};
use crate::kubernetes::client::own_namespace;
use crate::kubernetes::review::{Answer, Reviewer};

/// Has the API server say it, by a client of its own.
pub(super) fn reviewer(client: Client) -> AdminReviewer {
    let namespace = own_namespace(&client);
    let reviewer = Arc::new(Reviewer::new(client, namespace));
    Box::new(move |token| {
        let reviewer = Arc::clone(&reviewer);
        Box::pin(async move {
            match reviewer.ask(token).await {
                Answer::Allowed => Verdict::Allowed,
                Answer::Unknown => Verdict::Unknown,
                Answer::Forbidden(why) => Verdict::Forbidden(why),
                Answer::Unasked(why) => Verdict::Unasked(why),
            }
        })
    })
}
