//! The table of `tidegate status`.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::client::answers::{Problem, Revision, Service, Status};
use crate::cli::paint::{Paint, Style, cut};

const COLUMNS: usize = 8;
/// From here on numbers, which stand to the right.
const FIRST_NUMBER: usize = 4;
/// The column that is narrowed first, and to how much at most.
const URL: usize = 1;
const URL_LEAST: usize = 12;
const HEAD: [&str; COLUMNS] =
    ["SERVICE", "URL", "REVISION", "TRAFFIC", "DESIRED", "READY", "IN FLIGHT", "WAITING"];

/// One row a revision, the service named on its first; below it what needs attention.
pub(super) fn render(status: &Status, paint: Paint) -> String {
    let revisions: BTreeMap<_, _> = status
        .revisions
        .iter()
        .map(|revision| ((revision.namespace.as_str(), revision.name.as_str()), revision))
        .collect();
    let mut rows = vec![HEAD.map(str::to_owned)];
    let mut shown = BTreeSet::new();
    for service in &status.services {
        let names = revisions_of(service, &status.revisions);
        let mut first = true;
        for name in &names {
            let key = (service.namespace.as_str(), *name);
            shown.insert(key);
            let [title, url] = if first { title(service) } else { Default::default() };
            first = false;
            rows.push(row(title, url, name, &traffic(service, name), revisions.get(&key).copied()));
        }
        if names.is_empty() {
            let [title, url] = title(service);
            rows.push(row(title, url, "-", "-", None));
        }
    }
    // Revisions that belong to no service, or to one that is gone.
    for (key, revision) in &revisions {
        if !shown.contains(key) && (revision.service.is_none() || is_busy(revision)) {
            let title = format!("{}/-", revision.namespace);
            rows.push(row(title, "-".into(), &revision.name, "-", Some(revision)));
        }
    }
    let mut text = lay_out(&mut rows, paint);
    if status.services.is_empty() {
        text.push_str("no services\n");
    }
    attention(status, &mut text, paint);
    text
}

fn title(service: &Service) -> [String; 2] {
    [format!("{}/{}", service.namespace, service.name), service.url.clone()]
}

const fn is_busy(revision: &Revision) -> bool {
    revision.desired + revision.ready > 0 || revision.in_flight > 0
}

/// Names of the revisions with a share or a tag, in that order, then others that have replicas.
fn revisions_of<'a>(service: &'a Service, revisions: &'a [Revision]) -> Vec<&'a str> {
    let shares = service.traffic.iter().map(|traffic| traffic.revision.as_str());
    let tags = service.tags.iter().map(|tag| tag.revision.as_str());
    let others = revisions
        .iter()
        .filter(|revision| {
            revision.namespace == service.namespace
                && revision.service.as_deref() == Some(&service.name)
                && is_busy(revision)
        })
        .map(|revision| revision.name.as_str());
    let mut names: Vec<&str> = Vec::new();
    for name in shares.chain(tags).chain(others) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `90%`, `10% #canary`, `#canary`, or `-`.
fn traffic(service: &Service, revision: &str) -> String {
    let share: u32 = service
        .traffic
        .iter()
        .filter(|traffic| traffic.revision == revision)
        .map(|traffic| u32::from(traffic.percent))
        .sum();
    let share = (share > 0).then(|| format!("{share}%"));
    let tags = service
        .tags
        .iter()
        .filter(|tag| tag.revision == revision)
        .map(|tag| format!("#{}", tag.name));
    let parts: Vec<_> = share.into_iter().chain(tags).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(" ") }
}

fn row(
    title: String,
    url: String,
    name: &str,
    traffic: &str,
    revision: Option<&Revision>,
) -> [String; COLUMNS] {
    let number = |number: fn(&Revision) -> u64| {
        revision.map_or_else(|| "-".to_owned(), |revision| number(revision).to_string())
    };
    [
        title,
        url,
        name.to_owned(),
        traffic.to_owned(),
        number(|revision| revision.desired.into()),
        number(|revision| revision.ready.into()),
        number(|revision| revision.in_flight),
        number(|revision| revision.waiting.into()),
    ]
}

fn lay_out(rows: &mut [[String; COLUMNS]], paint: Paint) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows.iter() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let needed = widths.iter().sum::<usize>() + 2 * (COLUMNS - 1);
    let excess = paint.width().map_or(0, |width| needed.saturating_sub(width));
    if excess > 0 {
        widths[URL] = widths[URL].saturating_sub(excess).max(URL_LEAST).min(widths[URL]);
        rows.iter_mut().for_each(|row| row[URL] = cut(&row[URL], widths[URL]));
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) =
                if column < FIRST_NUMBER { ("", &*padding) } else { (&*padding, "") };
            line.extend([before, cell, after, "  "]);
        }
        text += &paint.line(line.trim_end(), (index == 0).then_some(Style::Head));
        text.push('\n');
    }
    text
}

/// Problems and warnings, one a line.
fn attention(status: &Status, text: &mut String, paint: Paint) {
    let mut lines = Vec::new();
    let mut problem = |name: String, problem: Option<&Problem>| {
        lines.extend(problem.map(|problem| (Style::Bad, format!("{name}: {}", problem.short()))));
    };
    for service in &status.services {
        problem(format!("{}/{}", service.namespace, service.name), service.problem.as_ref());
    }
    for revision in &status.revisions {
        problem(format!("{}/{}", revision.namespace, revision.name), revision.problem.as_ref());
    }
    for service in &status.services {
        let name = format!("{}/{}", service.namespace, service.name);
        let warning = |warning| (Style::Warning, format!("{name}: {warning}"));
        lines.extend(service.warnings.iter().map(warning));
    }
    lines.extend(status.conditions.iter().map(|text| (Style::Warning, text.clone())));
    let rejected = |text| (Style::Bad, format!("not admitted: {text}"));
    lines.extend(status.rejected.iter().map(rejected));
    if !lines.is_empty() {
        text.push('\n');
    }
    for (style, line) in lines {
        text.push_str(&paint.line(&line, Some(style)));
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn the_table_shows_shares_load_and_what_needs_attention() {
        let status: Status = serde_json::from_value(json!({
            "services": [
                {
                    "namespace": "default", "name": "hello",
                    "url": "http://hello.default.localhost:8080",
                    "traffic": [
                        {"revision": "hello-00001", "percent": 90},
                        {"revision": "hello-00002", "percent": 10},
                    ],
                    "tags": [
                        {"name": "canary", "revision": "hello-00002"},
                        {"name": "old", "revision": "hello-00000"},
                    ],
                },
                {
                    "namespace": "shop", "name": "cart", "url": "http://cart.shop.localhost:8080",
                    "problem": {"reason": "no_local_command", "message": "say what to run\nmore"},
                    "warnings": ["securityContext is ignored"],
                },
            ],
            "rejected": ["a.yaml:3: spec.template: missing"],
            "conditions": ["StateNotSaved: no space left"],
            "revisions": [
                {"namespace": "default", "name": "hello-00001", "service": "hello",
                 "desired": 12, "ready": 10, "in_flight": 1000, "waiting": 3, "new_field": 1},
                {"namespace": "default", "name": "hello-00002", "service": "hello"},
                {"namespace": "default", "name": "hello-00003", "service": "hello", "ready": 1},
                {"namespace": "default", "name": "hello-00004", "service": "hello"},
                {"namespace": "default", "name": "alone", "ready": 1},
            ],
        }))
        .unwrap();
        expect![[r#"
            SERVICE        URL                                  REVISION     TRAFFIC      DESIRED  READY  IN FLIGHT  WAITING
            default/hello  http://hello.default.localhost:8080  hello-00001  90%               12     10       1000        3
                                                                hello-00002  10% #canary        0      0          0        0
                                                                hello-00000  #old               -      -          -        -
                                                                hello-00003  -                  0      1          0        0
            shop/cart      http://cart.shop.localhost:8080      -            -                  -      -          -        -
            default/-      -                                    alone        -                  0      1          0        0

            shop/cart: no_local_command: say what to run
            shop/cart: securityContext is ignored
            StateNotSaved: no space left
            not admitted: a.yaml:3: spec.template: missing
        "#]]
        .assert_eq(&render(&status, Paint::default()));
    }

    #[test]
    fn a_narrow_terminal_shows_less_of_the_url() {
        let service = json!({"namespace": "ns", "name": "a", "url": "http://a.ns.example.com:8080",
            "traffic": [{"revision": "a-1", "percent": 100}]});
        let status: Status = serde_json::from_value(json!({"services": [service]})).unwrap();
        expect![[r#"
            SERVICE  URL             REVISION  TRAFFIC  DESIRED  READY  IN FLIGHT  WAITING
            ns/a     http://a.ns.e…  a-1       100%           -      -          -        -
        "#]]
        .assert_eq(&render(&status, Paint::wide(78)));
        let narrow = render(&status, Paint::wide(30));
        assert!(narrow.lines().all(|line| line.chars().count() <= 30), "{narrow}");
    }

    #[test]
    fn nothing_is_said_in_words() {
        let text = render(&Status::default(), Paint::default());
        assert!(text.ends_with("no services\n"), "{text}");
    }
}
