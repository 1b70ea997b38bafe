//! What the API server is told: which objects it asks about, where, and whose certificate to
//! trust. The objects are published by the leading replica, by server-side apply.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::CONTROLLER_MANAGER;
use super::{CONFIG_VALIDATION, DEFAULTING, VALIDATION};
use crate::config::settings::CONFIG_MAPS;

/// Name of both objects.
const NAME: &str = "tidegate";
/// The API server waits so long for an answer, in seconds.
const TIMEOUT_S: u32 = 5;
/// What each service account's name begins with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// How the API server reaches the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By the Service `tidegate-webhook` of a namespace.
    Service {
        /// The namespace.
        namespace: String,
    },
    /// At an address: `https://HOST:PORT`, for a tidegate outside of the cluster.
    Url(String),
}

impl Reach {
    /// Names that the certificate must have.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Service { namespace } => {
                let name = format!("tidegate-webhook.{namespace}.svc");
                vec![format!("{name}.cluster.local"), name]
            }
            Self::Url(url) => {
                let authority = url.trim_start_matches("https://").split('/').next();
                let host = authority.unwrap_or_default();
                let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
                vec![host.trim_matches(['[', ']']).to_owned()]
            }
        }
    }

    fn client_config(&self, path: &str, bundle: &ByteString) -> Value {
        match self {
            Self::Service { namespace } => json!({
                "service": {
                    "name": "tidegate-webhook", "namespace": namespace, "path": path, "port": 443,
                },
                "caBundle": bundle,
            }),
            Self::Url(url) => json!({
                "url": format!("{}{path}", url.trim_end_matches('/')), "caBundle": bundle,
            }),
        }
    }
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where the webhook is.
    pub reach: Reach,
    /// Certificates to trust, PEM.
    pub authorities: String,
    /// Namespace of the ConfigMaps that are settings.
    pub settings_namespace: String,
    /// Who is not asked about: tidegate itself, which writes only what it has checked.
    pub itself: Option<String>,
}

/// Both objects: the mutating and the validating one.
pub fn configurations(publication: &Publication) -> [Value; 2] {
    let Publication { reach, authorities, settings_namespace, itself } = publication;
    let bundle = ByteString(authorities.clone().into_bytes());
    let object = |kind: &str, webhooks: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": NAME, "labels": {"app.kubernetes.io/name": NAME}},
            "webhooks": webhooks,
        })
    };
    let others = itself.as_ref().map(|user| {
        json!({"name": "written-by-others", "expression": format!("request.userInfo.username != {user:?}")})
    });
    let conditions =
        |more: Option<Value>| -> Vec<Value> { others.clone().into_iter().chain(more).collect() };
    let webhook = |name: &str, path: &str, more: Value| {
        let mut webhook = json!({
            "name": name,
            "clientConfig": reach.client_config(path, &bundle),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT_S,
            "matchPolicy": "Equivalent",
        });
        if let (Some(to), Value::Object(more)) = (webhook.as_object_mut(), more) {
            to.extend(more);
        }
        webhook
    };
    let kinds = json!({
        "failurePolicy": "Fail",
        // Knative's own mark of a namespace that its webhook is to leave alone.
        "namespaceSelector": {"matchExpressions": [
            {"key": "webhooks.knative.dev/exclude", "operator": "DoesNotExist"},
        ]},
        "matchConditions": conditions(None),
        "rules": rules(),
    });
    let names: Vec<String> = CONFIG_MAPS.iter().map(|name| format!("{name:?}")).collect();
    let is_setting = json!({
        "name": "is-a-setting",
        "expression": format!("request.name in [{}]", names.join(", ")),
    });
    let settings = json!({
        // A bad setting is not taken up anyway: that it cannot be corrected would be worse.
        "failurePolicy": "Ignore",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings_namespace}},
        "matchConditions": conditions(Some(is_setting)),
        "rules": [rule("", "v1", &["configmaps"])],
    });
    let mut mutating = kinds.clone();
    mutating["reinvocationPolicy"] = "IfNeeded".into();
    // Named as Knative's are: these names stand in the messages that users know.
    [
        object(
            "MutatingWebhookConfiguration",
            json!([webhook("webhook.serving.knative.dev", DEFAULTING, mutating)]),
        ),
        object(
            "ValidatingWebhookConfiguration",
            json!([
                webhook("validation.webhook.serving.knative.dev", VALIDATION, kinds),
                webhook("config.webhook.serving.knative.dev", CONFIG_VALIDATION, settings),
            ]),
        ),
    ]
}

/// Creations and updates of the kinds that are understood, not of their statuses.
fn rules() -> Value {
    let serving = ["services", "configurations", "routes", "revisions", "domainmappings"];
    json!([
        rule("serving.knative.dev", "*", &serving),
        rule("autoscaling.internal.knative.dev", "*", &["podautoscalers"]),
        rule("autoscaling.knative.dev", "*", &["podautoscalers"]),
    ])
}

fn rule(group: &str, version: &str, resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group], "apiVersions": [version], "resources": resources,
        "operations": ["CREATE", "UPDATE"], "scope": "Namespaced",
    })
}

/// Who this is at the API server, if it is a service account: a person's own writes are asked
/// about, also while tidegate runs with their kubeconfig.
pub(super) async fn itself(client: &Client) -> Result<Option<String>, kube::Error> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    Ok(user.filter(|name| name.starts_with(SERVICE_ACCOUNT)))
}

/// Publishes both objects, or brings them back to what they should be.
pub(super) async fn publish(client: &Client, publication: &Publication) -> Result<(), kube::Error> {
    let [mutating, validating] = configurations(publication);
    apply::<MutatingWebhookConfiguration>(client, &mutating).await?;
    apply::<ValidatingWebhookConfiguration>(client, &validating).await
}

/// Takes both objects back.
pub(super) async fn withdraw(client: &Client) -> Result<(), kube::Error> {
    delete::<MutatingWebhookConfiguration>(client).await?;
    delete::<ValidatingWebhookConfiguration>(client).await
}

async fn apply<K>(client: &Client, object: &Value) -> Result<(), kube::Error>
where
    K: Cluster,
{
    let params = PatchParams::apply(CONTROLLER_MANAGER).force();
    Api::<K>::all(client.clone()).patch(NAME, &params, &Patch::Apply(object)).await.map(drop)
}

async fn delete<K>(client: &Client) -> Result<(), kube::Error>
where
    K: Cluster,
{
    match Api::<K>::all(client.clone()).delete(NAME, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop),
    }
}

/// What objects outside of namespaces have in common.
trait Cluster:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize
{
}
impl Cluster for MutatingWebhookConfiguration {}
impl Cluster for ValidatingWebhookConfiguration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_is_asked_about() {
        let publication = Publication {
            reach: Reach::Service { namespace: "tidegate-system".to_owned() },
            authorities: "PEM".to_owned(),
            settings_namespace: "knative-serving".to_owned(),
            itself: Some("system:serviceaccount:tidegate-system:tidegate".to_owned()),
        };
        let both = json!(configurations(&publication));
        expect_test::expect_file!["registration.txt"].assert_eq(&format!("{both:#}\n"));
    }

    #[test]
    fn names_of_the_certificate() {
        let names = |reach: Reach| reach.names().join(" ");
        let service = Reach::Service { namespace: "gate".to_owned() };
        assert_eq!(
            names(service),
            "tidegate-webhook.gate.svc.cluster.local tidegate-webhook.gate.svc"
        );
        for (url, expected) in [
            ("https://10.77.0.1:8444", "10.77.0.1"),
            ("https://[fd00::1]:8444/x", "fd00::1"),
            ("https://gate.example.com", "gate.example.com"),
        ] {
            assert_eq!(names(Reach::Url(url.to_owned())), expected);
        }
    }
}
