//! Manifests of scenarios: Knative Services whose program is tidegate's own backend.

use std::fmt::Write as _;

/// A Knative Service.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Requests that a replica takes at once; 0 = no limit.
    pub concurrency: u32,
    /// Annotations of the template.
    pub annotations: Vec<(String, String)>,
    /// Environment of its program.
    pub environment: Vec<(String, String)>,
    /// Name of the template's revision; none = counted by tidegate.
    pub revision: Option<String>,
    /// Revisions and percentages; empty = all to the latest.
    pub traffic: Vec<(String, u32)>,
}

impl Service {
    /// One whose replicas take so many requests at once.
    pub fn new(name: &str, concurrency: u32) -> Self {
        Self { name: name.to_owned(), concurrency, ..Self::default() }
    }

    /// Adds an annotation.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.annotations.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds bounds of the number of replicas.
    #[must_use]
    pub fn scaled(self, least: u32, most: u32) -> Self {
        self.with("autoscaling.knative.dev/min-scale", least)
            .with("autoscaling.knative.dev/max-scale", most)
    }

    /// The document.
    pub fn yaml(&self) -> String {
        let mut text = String::from("---\napiVersion: serving.knative.dev/v1\nkind: Service\n");
        // Writing to a string does not fail.
        let _ = writeln!(text, "metadata:\n  name: {}\nspec:\n  template:", self.name);
        if self.revision.is_some() || !self.annotations.is_empty() {
            text.push_str("    metadata:\n");
        }
        if let Some(revision) = &self.revision {
            let _ = writeln!(text, "      name: {revision}");
        }
        if !self.annotations.is_empty() {
            text.push_str("      annotations:\n");
        }
        for (name, value) in &self.annotations {
            let _ = writeln!(text, "        {name}: {value:?}");
        }
        text.push_str("    spec:\n");
        text.push_str(&self.container("      "));
        if !self.traffic.is_empty() {
            text.push_str("  traffic:\n");
        }
        for (revision, percent) in &self.traffic {
            let _ = writeln!(text, "    - revisionName: {revision}\n      percent: {percent}");
        }
        text
    }

    /// An older revision of it, as a document of its own.
    pub fn older(&self, revision: &str, environment: &[(String, String)]) -> String {
        let older = Self { environment: environment.to_vec(), ..self.clone() };
        let mut text = String::from("---\napiVersion: serving.knative.dev/v1\nkind: Revision\n");
        let _ = writeln!(
            text,
            "metadata:\n  name: {revision}\n  labels:\n    serving.knative.dev/service: {}",
            self.name
        );
        if !self.annotations.is_empty() {
            text.push_str("  annotations:\n");
        }
        for (name, value) in &self.annotations {
            let _ = writeln!(text, "    {name}: {value:?}");
        }
        text.push_str("spec:\n");
        text.push_str(&older.container("  "));
        text
    }

    fn container(&self, indent: &str) -> String {
        let mut text = String::new();
        if self.concurrency > 0 {
            let _ = writeln!(text, "{indent}containerConcurrency: {}", self.concurrency);
        }
        let _ = writeln!(
            text,
            "{indent}containers:\n{indent}  - image: example.com/backend\n{indent}    command: \
             [\"tidegate\", \"echo\"]"
        );
        if !self.environment.is_empty() {
            let _ = writeln!(text, "{indent}    env:");
        }
        for (name, value) in &self.environment {
            let _ =
                writeln!(text, "{indent}      - name: {name}\n{indent}        value: {value:?}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_what_was_asked_for() {
        let mut service = Service::new("shop", 10).scaled(0, 5);
        service.revision = Some("shop-2".into());
        service.traffic = vec![("shop-1".into(), 90), ("shop-2".into(), 10)];
        let text = service.yaml();
        for line in [
            "  name: shop",
            "      name: shop-2",
            "        autoscaling.knative.dev/max-scale: \"5\"",
            "      containerConcurrency: 10",
            "    - revisionName: shop-1",
            "      percent: 90",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let older = service.older("shop-1", &[("TARGET".into(), "one".into())]);
        assert!(older.contains("kind: Revision") && older.contains("value: \"one\""), "{older}");
    }
}
