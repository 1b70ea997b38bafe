//! The kinds of objects that are read and written. Objects are handled as the API server sends
//! them: types that know only some fields would delete the others.

use kube::Api;
use kube::Client;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `serving.knative.dev` Service.
    Service,
    /// `serving.knative.dev` Configuration.
    Configuration,
    /// `serving.knative.dev` Revision.
    Revision,
    /// `serving.knative.dev` Route.
    Route,
    /// `serving.knative.dev` DomainMapping.
    DomainMapping,
    /// `networking.internal.knative.dev` ClusterDomainClaim, which is in no namespace.
    ClusterDomainClaim,
    /// `autoscaling.internal.knative.dev` PodAutoscaler: one of each revision.
    PodAutoscaler,
    /// `autoscaling.knative.dev` PodAutoscaler: what people write.
    PublicPodAutoscaler,
    /// `apps` Deployment.
    Deployment,
    /// `apps` StatefulSet.
    StatefulSet,
    /// `autoscaling` HorizontalPodAutoscaler.
    HorizontalPodAutoscaler,
    /// Core Service.
    CoreService,
    /// Core ConfigMap.
    ConfigMap,
    /// Core Secret.
    Secret,
    /// Core Pod.
    Pod,
    /// `discovery.k8s.io` EndpointSlice.
    EndpointSlice,
    /// `coordination.k8s.io` Lease.
    Lease,
}

impl Kind {
    /// Group, version, kind, and the plural that stands in paths.
    pub const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Service => ("serving.knative.dev", "v1", "Service", "services"),
            Self::Configuration => ("serving.knative.dev", "v1", "Configuration", "configurations"),
            Self::Revision => ("serving.knative.dev", "v1", "Revision", "revisions"),
            Self::Route => ("serving.knative.dev", "v1", "Route", "routes"),
            Self::DomainMapping => {
                ("serving.knative.dev", "v1beta1", "DomainMapping", "domainmappings")
            }
            Self::ClusterDomainClaim => (
                "networking.internal.knative.dev",
                "v1alpha1",
                "ClusterDomainClaim",
                "clusterdomainclaims",
            ),
            Self::PodAutoscaler => {
                ("autoscaling.internal.knative.dev", "v1alpha1", "PodAutoscaler", "podautoscalers")
            }
            Self::PublicPodAutoscaler => {
                ("autoscaling.knative.dev", "v1alpha1", "PodAutoscaler", "podautoscalers")
            }
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::CoreService => ("", "v1", "Service", "services"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease", "leases"),
        }
    }

    /// `apiVersion` as objects have it.
    pub fn api_version(self) -> String {
        self.resource().api_version
    }

    /// `kind` as objects have it.
    pub const fn kind(self) -> &'static str {
        self.names().2
    }

    /// How kube names it.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// Its objects in one namespace; in none where that is empty.
    pub fn in_namespace(self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            return Api::all_with(client.clone(), &self.resource());
        }
        Api::namespaced_with(client.clone(), namespace, &self.resource())
    }

    /// Its objects in the namespace, or in all of them.
    pub fn objects(self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => self.in_namespace(client, namespace),
            None => Api::all_with(client.clone(), &self.resource()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_as_objects_name_them() {
        assert_eq!(Kind::Service.api_version(), "serving.knative.dev/v1");
        assert_eq!(Kind::Pod.api_version(), "v1");
        assert_eq!(Kind::Deployment.resource().plural, "deployments");
    }
}
