//! Who somebody is by their token, and whether they may see what tidegate knows: the API server says
//! both (TokenReview, SubjectAccessReview).

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How long an answer holds.
const HOLDS: Duration = Duration::from_secs(10);
/// Tokens that are remembered.
const REMEMBERED: usize = 256;
/// Questions to the API server at once.
const QUESTIONS: usize = 4;
/// Both questions of one token take no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// No token is longer.
const LONGEST: usize = 16 * 1024;

/// What the API server says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its holder may.
    Allowed,
    /// It is nobody's.
    Unknown,
    /// Its holder may not: why, and what to do.
    Forbidden(String),
    /// The API server does not say: why.
    Unasked(String),
}

/// Asks the API server about tokens. A few are asked about at once, and answers hold for a moment,
/// so that callers cannot make much of it.
pub struct Reviewer {
    client: Client,
    namespace: String,
    known: Mutex<HashMap<String, (Instant, Answer)>>,
    questions: Semaphore,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Reviewer {
    /// One for a tidegate in this namespace.
    pub fn new(client: Client, namespace: String) -> Self {
        let questions = Semaphore::new(QUESTIONS);
        Self { client, namespace, known: Mutex::default(), questions }
    }

    /// Whether a token's holder may see what tidegate knows.
    pub async fn ask(&self, token: String) -> Answer {
        if token.len() > LONGEST {
            return Answer::Unknown;
        }
        if let Some(known) = self.known(&token) {
            return known;
        }
        let asked = async {
            let _permit = self.questions.acquire().await.ok();
            self.question(&token).await
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                self.remember(token, answer.clone());
                answer
            }
            Ok(Err(error)) => {
                Answer::Unasked(format!("the API server does not say who that is: {error}"))
            }
            Err(_elapsed) => Answer::Unasked("the API server does not answer in time".to_owned()),
        }
    }

    fn known(&self, token: &str) -> Option<Answer> {
        let known = self.known.lock();
        let (until, answer) = known.get(token)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    fn remember(&self, token: String, answer: Answer) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < REMEMBERED {
            known.insert(token, (now + HOLDS, answer));
        }
    }

    async fn question(&self, token: &str) -> Result<Answer, Error> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api = Api::<TokenReview>::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Answer::Unknown);
        };
        let name = user.username.clone().unwrap_or_default();
        let review =
            SubjectAccessReview { spec: self.access(user), ..SubjectAccessReview::default() };
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        if status.allowed {
            return Ok(Answer::Allowed);
        }
        Ok(Answer::Forbidden(format!(
            "{name} may not create pods/portforward in namespace {}, which is what this takes",
            self.namespace
        )))
    }

    /// The right that is asked for.
    fn access(&self, user: UserInfo) -> SubjectAccessReviewSpec {
        let attributes = ResourceAttributes {
            namespace: Some(self.namespace.clone()),
            resource: Some("pods".to_owned()),
            subresource: Some("portforward".to_owned()),
            verb: Some("create".to_owned()),
            ..ResourceAttributes::default()
        };
        SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            ..SubjectAccessReviewSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::controller::testing::{Call, Server};

    /// An API server that knows one token, whose holder may or not.
    fn knows(call: &Call, may: bool) -> (u16, Value) {
        if call.line.contains("tokenreviews") {
            let is_known = call.body["spec"]["token"] == "good";
            let user = json!({"username": "jane", "groups": ["dev"]});
            return (
                201,
                json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
                "spec": {}, "status": {"authenticated": is_known, "user": user}}),
            );
        }
        let spec = &call.body["spec"];
        assert_eq!((&spec["user"], &spec["groups"]), (&json!("jane"), &json!(["dev"])));
        let wanted = json!({"namespace": "gate", "resource": "pods", "subresource": "portforward", "verb": "create"});
        assert_eq!(spec["resourceAttributes"], wanted);
        (
            201,
            json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {}, "status": {"allowed": may}}),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_server_says_who_may() {
        for may in [true, false] {
            let (client, server) = Server::start(move |call| knows(call, may));
            let reviewer = Reviewer::new(client, "gate".to_owned());
            assert_eq!(reviewer.ask("bad".to_owned()).await, Answer::Unknown);
            let answer = reviewer.ask("good".to_owned()).await;
            assert_eq!(answer == Answer::Allowed, may, "{answer:?}");
            assert_eq!(reviewer.ask("good".to_owned()).await, answer);
            assert_eq!(server.calls().len(), 3, "what is known is not asked again");
            tokio::time::advance(HOLDS).await;
            assert_eq!(reviewer.ask("good".to_owned()).await, answer);
            assert_eq!(server.calls().len(), 2, "a while later it is");
        }
    }

    #[tokio::test]
    async fn without_an_answer_nobody_may() {
        let (client, _server) = Server::start(|_| {
            (
                403,
                json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no right"}),
            )
        });
        let reviewer = Reviewer::new(client, "gate".to_owned());
        assert!(matches!(reviewer.ask("good".to_owned()).await, Answer::Unasked(_)));
    }
}
