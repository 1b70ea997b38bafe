//! `config-features`.

use std::collections::BTreeMap;

use super::Data;
use crate::config::problem::ConfigProblem;

/// State of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// On.
    Enabled,
    /// Accepted in manifests, without effect of its own.
    Allowed,
    /// `secure-pod-defaults` only: secure defaults without `runAsNonRoot`.
    AllowRootBounded,
    /// Off.
    Disabled,
}

/// Features that exist, and whether they are on by default.
const FEATURES: [(&str, Flag); 33] = [
    ("autodetect-http2", Flag::Disabled),
    ("kubernetes.containerspec-addcapabilities", Flag::Disabled),
    ("kubernetes.podspec-affinity", Flag::Disabled),
    ("kubernetes.podspec-dnsconfig", Flag::Disabled),
    ("kubernetes.podspec-dnspolicy", Flag::Disabled),
    ("kubernetes.podspec-fieldref", Flag::Disabled),
    ("kubernetes.podspec-hostaliases", Flag::Disabled),
    ("kubernetes.podspec-hostipc", Flag::Disabled),
    ("kubernetes.podspec-hostnetwork", Flag::Disabled),
    ("kubernetes.podspec-hostpid", Flag::Disabled),
    ("kubernetes.podspec-init-containers", Flag::Disabled),
    ("kubernetes.podspec-nodeselector", Flag::Disabled),
    ("kubernetes.podspec-persistent-volume-claim", Flag::Disabled),
    ("kubernetes.podspec-persistent-volume-write", Flag::Disabled),
    ("kubernetes.podspec-priorityclassname", Flag::Disabled),
    ("kubernetes.podspec-runtimeclassname", Flag::Disabled),
    ("kubernetes.podspec-schedulername", Flag::Disabled),
    ("kubernetes.podspec-securitycontext", Flag::Disabled),
    ("kubernetes.podspec-shareprocessnamespace", Flag::Disabled),
    ("kubernetes.podspec-tolerations", Flag::Disabled),
    ("kubernetes.podspec-topologyspreadconstraints", Flag::Disabled),
    ("kubernetes.podspec-volumes-csi", Flag::Disabled),
    ("kubernetes.podspec-volumes-emptydir", Flag::Enabled),
    ("kubernetes.podspec-volumes-ephemeral", Flag::Disabled),
    ("kubernetes.podspec-volumes-hostpath", Flag::Disabled),
    ("kubernetes.podspec-volumes-image", Flag::Disabled),
    ("kubernetes.podspec-volumes-mount-propagation", Flag::Disabled),
    ("multi-container", Flag::Enabled),
    ("multi-container-probing", Flag::Disabled),
    ("queueproxy.mount-podinfo", Flag::Disabled),
    ("queueproxy.resource-defaults", Flag::Disabled),
    ("secure-pod-defaults", Flag::Disabled),
    ("tag-header-based-routing", Flag::Disabled),
];

/// The cluster's features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    given: BTreeMap<&'static str, Flag>,
}

impl Features {
    /// The keys of all features.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        FEATURES.iter().map(|(key, _)| *key)
    }

    /// State of a feature by its key; an unknown one is off.
    pub fn flag(&self, key: &str) -> Flag {
        self.given.get(key).copied().unwrap_or_else(|| {
            FEATURES.iter().find(|(name, _)| *name == key).map_or(Flag::Disabled, |(_, flag)| *flag)
        })
    }

    /// Whether it is on.
    pub fn is_enabled(&self, key: &str) -> bool {
        self.flag(key) == Flag::Enabled
    }

    /// Whether manifests may use it.
    pub fn is_allowed(&self, key: &str) -> bool {
        self.flag(key) != Flag::Disabled
    }

    /// `tag-header-based-routing`: whether the `Knative-Serving-Tag` header chooses a tag.
    pub fn tag_header_based_routing(&self) -> bool {
        self.is_enabled("tag-header-based-routing")
    }
}

/// Reads `config-features`. Knative takes an unknown state for the default and so does this: it
/// never fails, the result is one for uniformity.
pub fn parse_config_features(data: &Data) -> Result<Features, Vec<ConfigProblem>> {
    let mut features = Features::default();
    for (key, _) in FEATURES {
        let Some(raw) = data.get(key) else { continue };
        let flag = match raw.to_ascii_lowercase().as_str() {
            "enabled" => Flag::Enabled,
            "disabled" => Flag::Disabled,
            "allowed" if key != "secure-pod-defaults" => Flag::Allowed,
            "allowrootbounded" if key == "secure-pod-defaults" => Flag::AllowRootBounded,
            _ => continue,
        };
        features.given.insert(key, flag);
    }
    Ok(features)
}
