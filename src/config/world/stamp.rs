//! Stamping of revisions: which template got which name, and the last traffic that was good.
//! Serialisable, so that a restart forgets nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ordered::OrderedTraffic;
use crate::config::rollout::{RevisionShare, Rollout};
use crate::model::{ObjectName, RevisionId, ServiceId};

/// Every stamp of one set of files. Holds templates as written and as admitted, never a value of a
/// ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Stamps {
    /// By configuration, as `NAMESPACE/NAME`.
    pub(super) configurations: BTreeMap<Arc<str>, Arc<ConfigurationStamps>>,
    /// By service or route, as `NAMESPACE/NAME`.
    pub(super) traffic: BTreeMap<Arc<str>, Arc<TrafficStamp>>,
}

/// The stamps of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConfigurationStamps {
    /// How many templates there were, as Knative's `metadata.generation` counts them.
    pub(super) generation: u32,
    /// Name of the newest revision.
    pub(super) latest: String,
    /// Every revision, oldest first.
    pub(super) revisions: Vec<StampedRevision>,
}

/// One stamped revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StampedRevision {
    /// Its name.
    pub name: String,
    /// Generation it was stamped at; 0 for one that came from a `Revision` document.
    pub generation: u32,
    /// `spec.template` as the user wrote it, nulls left out.
    pub written: Arc<Value>,
    /// `spec.template` with the defaults of the moment it was stamped.
    pub admitted: Arc<Value>,
    /// Folder of the manifest, against which `tidegate.dev/local-directory` is read.
    #[serde(serialize_with = "as_text")]
    pub directory: PathBuf,
    /// When it was made, in seconds since the Unix epoch; 0 = not noted yet.
    pub created: u64,
    /// Since when no traffic names it; none while some does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_since: Option<u64>,
}

/// Traffic of a service that could be resolved: revision names without namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TrafficStamp {
    /// Revision and per cent, in the order written: where the traffic goes in the end.
    pub targets: Vec<(String, u8)>,
    /// Tag and revision, in the order written.
    pub tags: Vec<(String, String)>,
    /// How far it has got there.
    #[serde(default)]
    pub rollout: Rollout,
    /// What somebody ordered in place of the manifest's block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Arc<OrderedTraffic>>,
}

impl TrafficStamp {
    /// Every revision it names, those without a share included.
    pub fn revisions(&self) -> impl Iterator<Item = &str> {
        // A canary that was taken back has nothing.
        let targets = self.targets.iter().map(|(name, _)| name.as_str());
        let targets = targets.filter(|name| !self.rollout.is_taken_back(None, name));
        let tags = self.tags.iter();
        let tags = tags.filter(|(tag, name)| !self.rollout.is_taken_back(Some(tag), name));
        let tags = tags.map(|(_, name)| name.as_str());
        targets.chain(tags).chain(self.rollout.revisions())
    }

    /// Shares in effect, each revision once.
    pub fn shares(&self) -> Vec<RevisionShare> {
        let mut shares: Vec<RevisionShare> = Vec::with_capacity(self.targets.len());
        let mut add = |share: &RevisionShare| match shares
            .iter_mut()
            .find(|known| known.revision_name == share.revision_name)
        {
            Some(known) => known.percent = known.percent.saturating_add(share.percent),
            None => shares.push(share.clone()),
        };
        for (name, percent) in &self.targets {
            match self.rollout.shares(None, name) {
                Some(moving) => moving.iter().for_each(&mut add),
                None => add(&RevisionShare { revision_name: name.clone(), percent: *percent }),
            }
        }
        shares
    }
}

/// A template to stamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewTemplate<'a> {
    /// `spec.template` as written, nulls left out.
    pub(super) written: &'a Arc<Value>,
    /// `spec.template` after defaults.
    pub(super) admitted: &'a Arc<Value>,
    /// Folder of the manifest.
    pub(super) directory: &'a Path,
}

impl<'a> NewTemplate<'a> {
    /// The name the user gave the revision, if any.
    pub(super) fn own_name(&self) -> Option<&'a str> {
        self.written.pointer("/metadata/name").and_then(Value::as_str)
    }
}

impl Stamps {
    /// Why a template cannot be stamped: it brings a name that another template has. The answer
    /// is that name.
    pub(super) fn name_conflict(
        &self,
        configuration: &ObjectName,
        written: &Value,
    ) -> Option<String> {
        let name = written.pointer("/metadata/name").and_then(Value::as_str)?;
        let stamped = self.revision(configuration, name)?;
        (*stamped.written != *written).then(|| name.to_owned())
    }

    /// Gives a template its name: the latest revision's where the template is unchanged, else the
    /// name it brings, else the next free `NAME-00001`. `taken` tells names that `Revision`
    /// documents use.
    pub(super) fn stamp(
        &mut self,
        configuration: &ObjectName,
        template: NewTemplate<'_>,
        taken: &dyn Fn(&str) -> bool,
    ) {
        let latest = self.latest(configuration).and_then(|name| self.revision(configuration, name));
        let is_unchanged = latest.is_some_and(|latest| latest.written == *template.written);
        if is_unchanged && latest.is_some_and(|latest| latest.directory == template.directory) {
            return;
        }
        let stamps = self.of(configuration);
        if is_unchanged {
            let latest = stamps.revisions.iter_mut().find(|known| known.name == stamps.latest);
            latest.into_iter().for_each(|known| known.directory = template.directory.to_owned());
            return;
        }
        stamps.generation += 1;
        let own = template.own_name();
        if let Some(own) = own
            && let Some(known) = stamps.revisions.iter_mut().find(|r| r.name == own)
        {
            // Back to an older version: the same name means the same template here.
            known.directory = template.directory.to_owned();
            stamps.latest = own.to_owned();
            return;
        }
        let name = match own {
            Some(own) => own.to_owned(),
            None => loop {
                let name = numbered(&configuration.name, stamps.generation);
                if !taken(&name) && !stamps.revisions.iter().any(|r| r.name == name) {
                    break name;
                }
                stamps.generation += 1;
            },
        };
        stamps.latest.clone_from(&name);
        stamps.revisions.push(StampedRevision {
            name,
            generation: stamps.generation,
            written: Arc::clone(template.written),
            admitted: Arc::clone(template.admitted),
            directory: template.directory.to_owned(),
            ..StampedRevision::default()
        });
    }

    /// Makes a `Revision` document the latest revision of a configuration that has none yet.
    pub(super) fn adopt(
        &mut self,
        configuration: &ObjectName,
        name: &str,
        generation: u32,
        template: NewTemplate<'_>,
    ) {
        let stamps = self.of(configuration);
        stamps.generation = stamps.generation.max(generation);
        name.clone_into(&mut stamps.latest);
        stamps.revisions.push(StampedRevision {
            name: name.to_owned(),
            generation,
            written: Arc::clone(template.written),
            admitted: Arc::clone(template.admitted),
            directory: template.directory.to_owned(),
            ..StampedRevision::default()
        });
    }

    /// Lets numbering go on after `generation`.
    pub(super) fn continue_after(&mut self, configuration: &ObjectName, generation: u32) {
        let stamps = self.of(configuration);
        stamps.generation = stamps.generation.max(generation);
    }

    /// The stamps of a configuration, to change them.
    fn of(&mut self, configuration: &ObjectName) -> &mut ConfigurationStamps {
        let name = Arc::from(configuration.to_string());
        Arc::make_mut(self.configurations.entry(name).or_default())
    }

    /// Whether a configuration was ever stamped.
    pub(super) fn knows(&self, configuration: &ObjectName) -> bool {
        self.configurations
            .get(configuration.to_string().as_str())
            .is_some_and(|stamps| !stamps.revisions.is_empty())
    }

    /// Name of a configuration's newest revision.
    pub fn latest(&self, configuration: &ObjectName) -> Option<&str> {
        self.configurations
            .get(configuration.to_string().as_str())
            .map(|stamps| stamps.latest.as_str())
            .filter(|latest| !latest.is_empty())
    }

    /// The revisions of a configuration, oldest first.
    pub fn revisions(&self, configuration: &ObjectName) -> &[StampedRevision] {
        self.configurations
            .get(configuration.to_string().as_str())
            .map_or(&[], |stamps| stamps.revisions.as_slice())
    }

    /// A revision of a configuration by name.
    pub(super) fn revision(
        &self,
        configuration: &ObjectName,
        name: &str,
    ) -> Option<&StampedRevision> {
        self.revisions(configuration).iter().find(|revision| revision.name == name)
    }

    /// The last traffic of a service that could be resolved.
    pub(super) fn good_traffic(&self, service: &ObjectName) -> Option<&TrafficStamp> {
        self.traffic.get(service.to_string().as_str()).map(|traffic| &**traffic)
    }

    /// Notes traffic that could be resolved.
    pub(super) fn set_good_traffic(&mut self, service: &ObjectName, traffic: &TrafficStamp) {
        if self.good_traffic(service) != Some(traffic) {
            self.traffic.insert(service.to_string().into(), Arc::new(traffic.clone()));
        }
    }

    /// The same, with manifests' folders that are given relative to the working directory of
    /// then, `base`.
    #[must_use]
    pub fn seen_from(mut self, base: &Path) -> Self {
        let stamps = self.configurations.values_mut().map(Arc::make_mut);
        for revision in stamps.flat_map(|stamps| &mut stamps.revisions) {
            revision.directory = base.join(&revision.directory);
        }
        self
    }

    /// Notes how far the traffic of a service has got.
    pub(super) fn set_rollout(&mut self, service: &ObjectName, rollout: Rollout) {
        if let Some(traffic) = self.traffic.get_mut(service.to_string().as_str()) {
            Arc::make_mut(traffic).rollout = rollout;
        }
    }

    /// Every configuration that was stamped, as `NAMESPACE/NAME`.
    pub(super) fn configurations(&self) -> impl Iterator<Item = &str> {
        self.configurations.keys().map(|name| &**name)
    }

    /// Every configuration, service and route that something is noted of, as `NAMESPACE/NAME`.
    pub(super) fn owners(&self) -> impl Iterator<Item = &str> {
        self.configurations.keys().chain(self.traffic.keys()).map(|name| &**name)
    }

    /// The stamps of these services alone.
    pub(super) fn part<'a>(&self, services: impl Iterator<Item = &'a ServiceId>) -> Self {
        let mut part = Self::default();
        for name in services.map(ObjectName::to_string) {
            if let Some((name, stamps)) = self.configurations.get_key_value(name.as_str()) {
                part.configurations.insert(Arc::clone(name), Arc::clone(stamps));
            }
            if let Some((name, traffic)) = self.traffic.get_key_value(name.as_str()) {
                part.traffic.insert(Arc::clone(name), Arc::clone(traffic));
            }
        }
        part
    }

    /// Puts the stamps of these services in the place of those there were.
    pub(super) fn put<'a>(&mut self, services: impl Iterator<Item = &'a ServiceId>, part: Self) {
        for name in services.map(ObjectName::to_string) {
            self.configurations.remove(name.as_str());
            self.traffic.remove(name.as_str());
        }
        self.configurations.extend(part.configurations);
        self.traffic.extend(part.traffic);
    }

    /// Every revision, as its name and that of its configuration's namespace.
    pub(super) fn revision_ids(&self) -> impl Iterator<Item = RevisionId> + '_ {
        self.configurations.iter().flat_map(|(name, stamps)| {
            let namespace: Arc<str> = name.split_once('/').map_or("", |(space, _)| space).into();
            let names = stamps.revisions.iter();
            names.map(move |known| RevisionId::new(Arc::clone(&namespace), known.name.as_str()))
        })
    }

    /// Forgets every configuration and service for which `keep_*` says no: as in Knative,
    /// revisions go with what made them.
    pub(super) fn retain(
        &mut self,
        keep_configuration: impl Fn(&str) -> bool,
        keep_service: impl Fn(&str) -> bool,
    ) {
        self.configurations.retain(|name, _| keep_configuration(name));
        self.traffic.retain(|name, _| keep_service(name));
    }
}

/// A path as text, so that a name that is none fails nothing else.
fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A revision's name as Knative generates it.
fn numbered(configuration: &str, generation: u32) -> String {
    format!("{configuration}-{generation:05}")
}

/// The number in a generated name of that configuration; none for any other name.
pub(super) fn number_of(configuration: &str, revision: &str) -> Option<u32> {
    let digits = revision.strip_prefix(configuration)?.strip_prefix('-')?;
    let generated = digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    generated.then(|| digits.parse().ok()).flatten()
}

/// What the user wrote, without nulls: Kubernetes takes `key: null` and no key as the same.
/// The order of keys does not count, for JSON objects compare without it.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hello() -> ObjectName {
        ObjectName::new("default", "hello")
    }

    /// Stamps templates one after another; the name of the latest after each.
    fn sequence(stamps: &mut Stamps, templates: &[Value], taken: &[&str]) -> Vec<String> {
        let mut names = Vec::new();
        for template in templates {
            let template = Arc::new(template.clone());
            let template = NewTemplate {
                written: &template,
                admitted: &template,
                directory: Path::new("manifests"),
            };
            stamps.stamp(&hello(), template, &|name| taken.contains(&name));
            names.push(stamps.latest(&hello()).unwrap().to_owned());
        }
        names
    }

    #[test]
    fn a_changed_template_makes_the_next_revision() {
        let (a, b) = (json!({"spec": {"x": 1, "y": 2}}), json!({"spec": {"x": 2}}));
        let reordered = json!({"spec": {"y": 2, "x": 1}});
        let mut stamps = Stamps::default();
        let names = sequence(&mut stamps, &[a.clone(), reordered, b.clone(), b, a], &[]);
        let expected = ["hello-00001", "hello-00001", "hello-00002", "hello-00002", "hello-00003"];
        assert_eq!(names, expected);
        let text = serde_json::to_string(&stamps).unwrap();
        assert_eq!(serde_json::from_str::<Stamps>(&text).unwrap(), stamps);
    }

    #[test]
    fn own_names_count_as_generations_and_can_be_returned_to() {
        let named = |name: &str, x: u32| json!({"metadata": {"name": name}, "spec": {"x": x}});
        let mut stamps = Stamps::default();
        let plain = json!({"spec": {"x": 3}});
        let templates =
            [named("hello-a", 1), named("hello-b", 2), named("hello-a", 1), plain.clone()];
        let names = sequence(&mut stamps, &templates, &["hello-00004"]);
        assert_eq!(names, ["hello-a", "hello-b", "hello-a", "hello-00005"]);
        assert_eq!(stamps.revisions(&hello()).len(), 3);
        assert_eq!(stamps.name_conflict(&hello(), &named("hello-b", 2)), None);
        let conflict = stamps.name_conflict(&hello(), &named("hello-b", 9));
        assert_eq!(conflict.as_deref(), Some("hello-b"));
        assert_eq!(stamps.name_conflict(&hello(), &plain), None);
    }

    #[test]
    fn numbers_of_generated_names() {
        assert_eq!(number_of("hello", "hello-00012"), Some(12));
        assert_eq!(number_of("hello", "hello-123456"), Some(123_456));
        for other in ["hello-1", "hello-0000a", "hello", "hello-world-00001", "bye-00001"] {
            assert_eq!(number_of("hello", other), None, "{other}");
        }
    }

    #[test]
    fn a_null_is_as_good_as_nothing() {
        let written = json!({"a": null, "b": [{"c": null, "d": 1}], "e": {"f": null}});
        assert_eq!(without_nulls(written), json!({"b": [{"d": 1}], "e": {}}));
    }
}
