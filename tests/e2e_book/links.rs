//! Links between pages and to files lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use crate::PAGES;
use crate::page::read;
use crate::serving::repository;

/// The pages of `docs`, and the others that link there.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(repository("docs")).unwrap().map(Result::unwrap);
    let names = docs.map(|entry| format!("docs/{}", entry.file_name().into_string().unwrap()));
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    pages.extend(["README.md", "CHANGELOG.md", "deploy/examples/README.md"].map(str::to_owned));
    pages
}

/// What the links of a page lead to, without those to other hosts.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in text.split("](").skip(1) {
        let target = rest.split(')').next().unwrap();
        if !target.contains("://") && !target.contains(char::is_whitespace) {
            found.push(target.to_owned());
        }
    }
    found
}

/// Anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        inside ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if inside || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = |c: char| c.is_alphanumeric() || "-_ ".contains(c);
        let text: String = heading.trim().to_lowercase().chars().filter(|c| kept(*c)).collect();
        found.insert(text.replace(' ', "-"));
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        let folder = Path::new(&page).parent().unwrap();
        for target in targets(&text) {
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.as_str().into() } else { folder.join(file) };
            if !repository(path.to_str().unwrap()).exists() {
                problems.push(format!("{page}: {target}: no such file"));
            } else if !anchor.is_empty() && !anchors(&read(path.to_str().unwrap())).contains(anchor)
            {
                problems.push(format!("{page}: {target}: no such heading"));
            }
        }
    }
    assert!(seen > 100, "only {seen} links");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn the_index_names_every_page() {
    let targets: BTreeSet<String> = targets(&read("docs/README.md")).into_iter().collect();
    for page in pages().iter().filter_map(|page| page.strip_prefix("docs/")) {
        assert!(page == "README.md" || targets.contains(page), "docs/README.md lacks {page}");
    }
    for (name, ..) in PAGES {
        assert!(pages().contains(&format!("docs/{name}.md")), "{name}");
    }
}
