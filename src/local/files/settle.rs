//! When a change of a file counts. Pure: what was found, and when, goes in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::known::Seen;
use crate::config::world::{FileChange, FilePath};

/// Contents of files by path.
pub(super) type Contents = BTreeMap<FilePath, Arc<str>>;

/// A file counts once it was quiet for this long: editors and copies write in pieces.
pub(super) const QUIET: Duration = Duration::from_millis(200);
/// A file gone or empty for less than this is not a deletion: editors move files away, truncate
/// them and write again.
pub(super) const GONE: Duration = Duration::from_secs(2);

/// Contents that count, and those that may come to.
#[derive(Debug)]
pub(super) struct Settle {
    accepted: Contents,
    moving: BTreeMap<FilePath, Moving>,
}

/// A file that differs from what counts.
#[derive(Debug)]
struct Moving {
    /// Its content; none = gone or empty.
    seen: Option<Arc<str>>,
    /// Since when it has been so.
    since: Instant,
}

impl Moving {
    /// `seen` at `now`, where `former` was there before.
    fn next(former: Option<Self>, seen: Option<&Arc<str>>, now: Instant) -> Self {
        match former {
            Some(former) if former.seen.as_ref() == seen => former,
            _ => Self { seen: seen.cloned(), since: now },
        }
    }

    fn due(&self) -> Instant {
        self.since + if self.seen.is_some() { QUIET } else { GONE }
    }
}

impl Settle {
    /// Starts with contents that count at once.
    pub(super) fn new(found: Contents) -> Self {
        let accepted = found.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        Self { accepted, moving: BTreeMap::new() }
    }

    /// Contents that count.
    pub(super) fn accepted(&self) -> &Contents {
        &self.accepted
    }

    /// Files that differ from what counts.
    pub(super) fn moving(&self) -> impl Iterator<Item = &FilePath> {
        self.moving.keys()
    }

    /// Takes in all that was found at `now`; files and folders in `unreadable` stay as they count.
    pub(super) fn observe_all(
        &mut self,
        found: &Contents,
        unreadable: &BTreeSet<PathBuf>,
        now: Instant,
    ) {
        let mut former = std::mem::take(&mut self.moving);
        for (path, seen) in differing(&self.accepted, found) {
            let is_unreadable =
                !unreadable.is_empty() && path.ancestors().any(|part| unreadable.contains(part));
            if !is_unreadable {
                let moving = Moving::next(former.remove(path), seen, now);
                self.moving.insert(path.clone(), moving);
            }
        }
    }

    /// Takes in what was seen of one file at `now`: the same as all, if the others did not change.
    pub(super) fn observe(&mut self, path: FilePath, seen: &Seen, now: Instant) {
        let former = self.moving.remove(&path);
        let seen = match seen {
            Seen::Text(text) => Some(text).filter(|text| !text.is_empty()),
            Seen::Gone => None,
            Seen::Unreadable(_) => return,
        };
        if self.accepted.get(&path) != seen {
            self.moving.insert(path, Moving::next(former, seen, now));
        }
    }

    /// When the next change may count; none while nothing moves.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.moving.values().map(Moving::due).min()
    }

    /// Makes every change count that has settled by `now`, and tells which those are.
    pub(super) fn take_settled(&mut self, now: Instant) -> Vec<FileChange> {
        let due = |moving: &Moving| moving.due() <= now;
        let settled: Vec<FilePath> = self
            .moving
            .iter()
            .filter(|(_, moving)| due(moving))
            .map(|(path, _)| path.clone())
            .collect();
        let mut changes = Vec::with_capacity(settled.len());
        for path in settled {
            // One that is no longer there counted already, as the old name of another.
            let Some(moving) = self.moving.remove(&path) else { continue };
            if let Some(text) = &moving.seen {
                changes.extend(self.drop_old_name(text));
                self.accepted.insert(path.clone(), Arc::clone(text));
            } else {
                self.accepted.remove(&path);
            }
            changes.push(FileChange { path, text: moving.seen });
        }
        changes
    }

    /// A file that went while another one of the same content came was renamed: its old name must
    /// not count for two more seconds, or all its objects would be there twice.
    fn drop_old_name(&mut self, text: &Arc<str>) -> Option<FileChange> {
        let (old, _) = self.moving.iter().find(|(path, moving)| {
            moving.seen.is_none() && self.accepted.get(*path) == Some(text)
        })?;
        let path = old.clone();
        self.moving.remove(&path);
        self.accepted.remove(&path);
        Some(FileChange { path, text: None })
    }
}

/// Files whose content is not the one that counts, and what it is; none = gone or empty. Both maps
/// are gone through once, side by side.
fn differing<'a>(
    accepted: &'a Contents,
    found: &'a Contents,
) -> Vec<(&'a FilePath, Option<&'a Arc<str>>)> {
    let mut differing = Vec::new();
    let mut accepted = accepted.iter().peekable();
    for (path, text) in found.iter().filter(|(_, text)| !text.is_empty()) {
        let mut former = None;
        while let Some((known, counts)) = accepted.next_if(|(known, _)| *known <= path) {
            if known == path {
                former = Some(counts);
            } else {
                differing.push((known, None));
            }
        }
        if former != Some(text) {
            differing.push((path, Some(text)));
        }
    }
    differing.extend(accepted.map(|(gone, _)| (gone, None)));
    differing
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A settle with a clock that is moved by hand.
    struct Bench {
        settle: Settle,
        now: Instant,
    }

    impl Bench {
        fn new(files: &[(&str, &str)]) -> Self {
            Self { settle: Settle::new(contents(files)), now: Instant::now() }
        }

        /// Finds `files` after `ms`; what counts then, if that changed.
        fn after(&mut self, ms: u64, files: &[(&str, &str)]) -> Option<String> {
            self.now += Duration::from_millis(ms);
            self.settle.observe_all(&contents(files), &BTreeSet::new(), self.now);
            let changes = self.settle.take_settled(self.now);
            (!changes.is_empty()).then(|| self.shown())
        }

        fn shown(&self) -> String {
            let shown = self.settle.accepted().iter();
            shown.map(|(path, text)| format!("{}={text} ", path.display())).collect()
        }
    }

    fn contents(files: &[(&str, &str)]) -> Contents {
        let file = |(path, text): &(&str, &str)| (PathBuf::from(path).into(), Arc::from(*text));
        files.iter().map(file).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_once_it_was_quiet() {
        let mut bench = Bench::new(&[("a", "1")]);
        assert_eq!(bench.after(0, &[("a", "1")]), None);
        assert_eq!(bench.settle.deadline(), None);
        assert_eq!(bench.after(10, &[("a", "2")]), None);
        assert_eq!(bench.settle.deadline(), Some(bench.now + QUIET));
        assert_eq!(bench.after(150, &[("a", "23")]), None, "it still moves");
        assert_eq!(bench.after(150, &[("a", "23")]), None, "quiet for 150 ms");
        assert_eq!(bench.after(50, &[("a", "23")]).as_deref(), Some("a=23 "));
        assert_eq!(bench.after(500, &[("a", "23")]), None, "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn back_to_what_it_was_is_no_change() {
        let mut bench = Bench::new(&[("a", "1")]);
        bench.after(0, &[("a", "2")]);
        bench.after(100, &[("a", "1")]);
        assert_eq!(bench.settle.deadline(), None);
        assert_eq!(bench.after(500, &[("a", "1")]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn gone_or_empty_for_less_than_two_seconds_is_no_deletion() {
        let mut bench = Bench::new(&[("a", "1"), ("b", "1")]);
        assert_eq!(bench.after(0, &[("b", "1")]), None);
        assert_eq!(bench.after(900, &[("a", ""), ("b", "1")]), None, "gone, then empty");
        assert_eq!(bench.after(1000, &[("a", ""), ("b", "1")]), None);
        assert_eq!(bench.after(50, &[("a", "1"), ("b", "1")]), None, "it is back");
        bench.after(0, &[("b", "1")]);
        assert_eq!(bench.after(1999, &[("b", "1")]), None);
        assert_eq!(bench.after(1, &[("b", "1")]).as_deref(), Some("b=1 "));
    }

    #[tokio::test(start_paused = true)]
    async fn an_editor_that_moves_the_file_away_changes_it() {
        let mut bench = Bench::new(&[("a", "1")]);
        bench.after(0, &[]);
        bench.after(5, &[("a", "")]);
        bench.after(5, &[("a", "2")]);
        assert_eq!(bench.after(200, &[("a", "2")]).as_deref(), Some("a=2 "));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renamed_file_is_never_there_twice() {
        let mut bench = Bench::new(&[("a", "1")]);
        bench.after(0, &[("b", "1")]);
        assert_eq!(bench.after(200, &[("b", "1")]).as_deref(), Some("b=1 "));
        assert_eq!(bench.settle.deadline(), None);
    }

    /// One file, seen every 50 ms: a content counts exactly when it has been the same for 200 ms,
    /// nothing or emptiness when it has been for 2 s.
    fn slow_definition(seen: &[u8]) -> Vec<u8> {
        let mut counts = 1;
        let mut accepted = Vec::with_capacity(seen.len());
        for (index, now) in seen.iter().enumerate() {
            let same = seen[..=index].iter().rev().take_while(|before| *before == now).count();
            let quiet_ms = (same - 1) * 50;
            if quiet_ms >= if *now == 0 { 2000 } else { 200 } {
                counts = *now;
            }
            accepted.push(counts);
        }
        accepted
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_slow_definition(
            runs in proptest::collection::vec((0_u8..3, 1_usize..50), 1..20),
        ) {
            let seen: Vec<u8> =
                runs.iter().flat_map(|(text, times)| std::iter::repeat_n(*text, *times)).collect();
            let mut now = Instant::now();
            let found = |text: u8| match text {
                0 => Contents::new(),
                text => contents(&[("a", &text.to_string())]),
            };
            let mut settle = Settle::new(found(1));
            let mut accepted = Vec::with_capacity(seen.len());
            for text in &seen {
                settle.observe_all(&found(*text), &BTreeSet::new(), now);
                settle.take_settled(now);
                let counts = settle.accepted().values().next();
                accepted.push(counts.map_or(0, |text| text.parse::<u8>().unwrap()));
                now += Duration::from_millis(50);
            }
            proptest::prop_assert_eq!(accepted, slow_definition(&seen));
        }
    }

    proptest::proptest! {
        /// Told of one file after another, and of what differs, it comes to the same as told of all.
        #[test]
        fn one_file_is_as_all(
            steps in proptest::collection::vec((0_usize..3, 0_usize..6, 0_u64..300), 1..60),
        ) {
            let paths: [FilePath; 3] =
                ["folder/a", "folder/b", "folder/c"].map(|path| PathBuf::from(path).into());
            let seen = |text: usize| match text {
                0 => Seen::Gone,
                1 => Seen::Unreadable(String::new()),
                text => Seen::Text(["", "1", "2", "3"][text - 2].into()),
            };
            let mut now = Instant::now();
            let mut stand: BTreeMap<FilePath, Seen> = BTreeMap::new();
            let (mut one, mut all) = (Settle::new(Contents::new()), Settle::new(Contents::new()));
            for (path, text, ms) in steps {
                now += Duration::from_millis(ms * 3);
                stand.insert(paths[path].clone(), seen(text));
                let mut looked: BTreeSet<FilePath> = one.moving().cloned().collect();
                looked.insert(paths[path].clone());
                for path in looked {
                    one.observe(path.clone(), &stand[&path], now);
                }
                let found = stand.iter().filter_map(|(path, seen)| match seen {
                    Seen::Text(text) => Some((path.clone(), Arc::clone(text))),
                    _ => None,
                });
                let unreadable = stand.iter().filter(|(_, seen)| matches!(seen, Seen::Unreadable(_)));
                let unreadable = unreadable.map(|(path, _)| path.to_path_buf()).collect();
                all.observe_all(&found.collect(), &unreadable, now);
                proptest::prop_assert_eq!(one.deadline(), all.deadline());
                proptest::prop_assert_eq!(one.take_settled(now), all.take_settled(now));
                proptest::prop_assert_eq!(one.accepted(), all.accepted());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_stays_as_it_counts() {
        let mut bench = Bench::new(&[("folder/a", "1")]);
        bench.now += Duration::from_secs(1);
        for unreadable in ["folder/a", "folder"] {
            let unreadable = BTreeSet::from([PathBuf::from(unreadable)]);
            bench.settle.observe_all(&Contents::new(), &unreadable, bench.now);
            assert_eq!(bench.settle.deadline(), None);
        }
        assert_eq!(bench.shown(), "folder/a=1 ");
    }
}
