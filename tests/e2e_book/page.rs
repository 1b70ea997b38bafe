//! A page, taken apart.

use crate::serving::repository;

/// A file of the repository.
pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(repository(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    /// What stands behind the fence.
    pub(crate) info: String,
    pub(crate) text: String,
    /// Where it begins.
    pub(crate) line: usize,
}

/// A command, and what it prints.
pub(crate) struct Shown<'a> {
    pub(crate) text: String,
    pub(crate) printed: Vec<&'a str>,
    /// Whether it is the last one of its block.
    pub(crate) is_last: bool,
}

/// All fenced blocks of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { info: info.to_owned(), text: String::new(), line: number });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    found
}

impl Block {
    pub(crate) fn language(&self) -> &str {
        self.info.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn says(&self, word: &str) -> bool {
        self.info.split(' ').skip(1).any(|said| said == word)
    }

    pub(crate) fn is_command(&self) -> bool {
        matches!(self.language(), "console" | "sh")
    }

    /// How its last command ends, if not well.
    pub(crate) fn exit(&self) -> Option<i32> {
        self.info.split(' ').find_map(|said| said.strip_prefix("exit=")?.parse().ok())
    }

    /// The file that it is.
    pub(crate) fn file(&self) -> Option<&str> {
        let name = self.text.lines().next()?.strip_prefix("# ")?;
        (self.language() == "yaml" && name.ends_with(".yaml")).then_some(name)
    }

    /// Its commands in order.
    pub(crate) fn commands(&self) -> impl Iterator<Item = Shown<'_>> {
        let mut all: Vec<Shown<'_>> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            let command = match self.language() {
                "console" => line.strip_prefix("$ "),
                _ => Some(line).filter(|line| !line.is_empty() && !line.starts_with('#')),
            };
            if let (true, Some(last)) = (goes_on, all.last_mut()) {
                last.text += line.trim_start();
            } else if let Some(text) = command {
                all.push(Shown { text: text.to_owned(), printed: Vec::new(), is_last: false });
            } else if let Some(last) = all.last_mut() {
                last.printed.push(line);
            }
            goes_on = line.ends_with('\\') && command.is_some();
            if let (true, Some(last)) = (goes_on, all.last_mut()) {
                last.text.pop();
            }
        }
        if let Some(last) = all.last_mut() {
            last.is_last = true;
        }
        all.into_iter()
    }
}

/// Whether a text is what a page shows of it.
pub(crate) fn is_shown(shown: &[&str], text: &str) -> bool {
    let lines: Vec<String> = text.lines().map(without_room).collect();
    let shown: Vec<String> = shown.iter().map(|line| without_room(line)).collect();
    are_shown(&shown, &lines)
}

/// Columns are as wide as what is in them, which a port or an address changes.
fn without_room(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn are_shown(shown: &[String], lines: &[String]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "…" => {
            (0..=lines.len()).any(|skipped| are_shown(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines.split_first().is_some_and(|(line, others)| {
            let parts: Vec<&str> = first.split('…').collect();
            fits(&parts, line) && are_shown(rest, others)
        }),
    }
}

/// Whether a line is these parts, with anything between them.
fn fits(parts: &[&str], line: &str) -> bool {
    match parts {
        [] => false,
        [only] => line == *only,
        [first, rest @ ..] => line.strip_prefix(first).is_some_and(|line| {
            let starts = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            starts.into_iter().any(|at| fits(rest, &line[at..]))
        }),
    }
}

#[test]
fn what_is_shown_may_leave_out_a_part() {
    assert!(is_shown(&["a …  c", "…", "z"], "a b  c\nx\ny\nz\n"));
    assert!(is_shown(&["a: …"], "a: 1\n"));
    assert!(is_shown(&["…"], ""));
    assert!(!is_shown(&["a"], "a\nb\n"));
    assert!(!is_shown(&["a…c"], "a b\n"));
    assert!(!is_shown(&["a", "b"], "a\n"));
}
