//! `tidegate plan`: in which order services come, by what they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::validate::{Checked, load};
use crate::cli::args::{PlanArgs, PlanOutput};
use crate::cli::{complain, exit, say};
use crate::config::order::{Needs, steps};
use crate::model::{Dependency, ServiceId};

/// Prints the order: 0, or 1 after a problem.
pub fn plan(args: &PlanArgs) -> ExitCode {
    let Some(Checked { loader, loaded, .. }) = load(&args.manifests) else {
        return ExitCode::from(exit::FAILURE);
    };
    for text in &loaded.problems {
        complain(text);
    }
    if !loaded.problems.is_empty() {
        return ExitCode::from(exit::FAILURE);
    }
    let all = loader.dependencies();
    if let Some(unknown) = args.services.iter().find(|service| !all.contains_key(*service)) {
        let known = all.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        complain(format_args!("there is no service {unknown}; known: {known}"));
        return ExitCode::from(exit::FAILURE);
    }
    let plan = Plan::new(all, &args.services);
    match args.output {
        PlanOutput::Table => say(plan.table().trim_end()),
        PlanOutput::Json => say(plan.json()),
    }
    ExitCode::SUCCESS
}

/// Services in the order in which they come.
struct Plan {
    steps: Vec<Vec<ServiceId>>,
    dependencies: BTreeMap<ServiceId, Arc<[Dependency]>>,
}

impl Plan {
    /// Of these services and all they need; of all where none is named.
    fn new(dependencies: BTreeMap<ServiceId, Arc<[Dependency]>>, services: &[ServiceId]) -> Self {
        let mut chosen: BTreeSet<ServiceId> = BTreeSet::new();
        let mut left: Vec<ServiceId> = match services {
            [] => dependencies.keys().cloned().collect(),
            some => some.to_vec(),
        };
        while let Some(id) = left.pop() {
            let needed = dependencies.get(&id).into_iter().flat_map(|needed| needed.iter());
            left.extend(needed.map(|n| n.service.clone()).filter(|n| !chosen.contains(n)));
            if dependencies.contains_key(&id) {
                chosen.insert(id);
            }
        }
        let needs = |id: &ServiceId| dependencies[id].iter().map(|n| n.service.clone()).collect();
        let needs: Needs<ServiceId> = chosen.iter().map(|id| (id.clone(), needs(id))).collect();
        Self { steps: steps(&needs), dependencies }
    }

    /// What a service needs, and whether it is there.
    fn needed(&self, id: &ServiceId) -> impl Iterator<Item = (&Dependency, bool)> {
        let needed = self.dependencies.get(id).into_iter().flat_map(|needed| needed.iter());
        needed.map(|needed| (needed, self.dependencies.contains_key(&needed.service)))
    }

    fn rows(&self) -> impl Iterator<Item = (usize, &ServiceId)> {
        let steps = (1..).zip(&self.steps);
        steps.flat_map(|(step, services)| services.iter().map(move |service| (step, service)))
    }

    fn table(&self) -> String {
        let names = self.rows().map(|(_, id)| id.to_string().len());
        let width = names.chain(["SERVICE".len()]).max().unwrap_or_default();
        let mut text = format!("STEP  {:width$}  DEPENDS ON\n", "SERVICE");
        for (step, id) in self.rows() {
            let needed = self.needed(id).map(|(needed, is_there)| match is_there {
                true => needed.to_string(),
                false => format!("{needed} (not there)"),
            });
            let needed = needed.collect::<Vec<_>>().join(", ");
            let needed = if needed.is_empty() { "-" } else { &needed };
            text.push_str(&format!("{step:<4}  {:width$}  {needed}\n", id.to_string()));
        }
        text
    }

    fn json(&self) -> Value {
        let services = self.rows().map(|(step, id)| {
            let needed = self.needed(id).map(|(needed, is_there)| {
                json!({
                    "service": needed.service.to_string(),
                    "revision": needed.revision.as_ref().map(|revision| &*revision.name),
                    "isThere": is_there,
                })
            });
            let needed: Vec<Value> = needed.collect();
            json!({"step": step, "service": id.to_string(), "dependsOn": needed})
        });
        json!({"services": services.collect::<Vec<Value>>()})
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn id(name: &str) -> ServiceId {
        ServiceId::new("default", name)
    }

    fn all() -> BTreeMap<ServiceId, Arc<[Dependency]>> {
        let needs = [
            ("web", vec![("api", Some("api-00002")), ("cache", None)]),
            ("api", vec![("db", None), ("mail", None)]),
            ("cache", vec![]),
            ("db", vec![]),
            ("alone", vec![]),
        ];
        let of = |(name, needed): (&str, Vec<(&str, Option<&str>)>)| {
            let needed = needed.into_iter().map(|(service, revision)| Dependency {
                service: id(service),
                revision: revision.map(id),
            });
            (id(name), needed.collect())
        };
        needs.into_iter().map(of).collect()
    }

    #[test]
    fn each_once_after_what_it_needs() {
        expect![[r#"
            STEP  SERVICE        DEPENDS ON
            1     default/alone  -
            1     default/cache  -
            1     default/db     -
            2     default/api    default/db, default/mail (not there)
            3     default/web    default/api=api-00002, default/cache
        "#]]
        .assert_eq(&Plan::new(all(), &[]).table());
        expect![[r#"
            STEP  SERVICE      DEPENDS ON
            1     default/db   -
            2     default/api  default/db, default/mail (not there)
        "#]]
        .assert_eq(&Plan::new(all(), &[id("api")]).table());
        expect![[r#"{"services":[{"step":1,"service":"default/cache","dependsOn":[]}]}"#]]
            .assert_eq(&Plan::new(all(), &[id("cache")]).json().to_string());
    }
}
