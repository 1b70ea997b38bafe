//! The objects of all files: which there are, where they stand, which stand twice.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::identity::{Identity, ObjectKey, identify};
use super::{FileChange, FilePath, SourceFile};
use crate::config::problem::ConfigProblem;
use crate::config::yaml::{Document, Node, ParsedFile};

/// Where an object stands: a document of a parsed file, or an item of a `List` in it.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) file: FilePath,
    document: Arc<Document>,
    item: Option<usize>,
}

impl Source {
    /// The object.
    pub(super) fn node(&self) -> &Node {
        let node = &self.document.node;
        let items = node.get("items").and_then(Node::as_list);
        self.item.and_then(|item| items?.get(item)).unwrap_or(node)
    }

    /// Whether this is the very same text as `other`, so that nothing has to be looked at again.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.document, &other.document) && self.item == other.item
    }

    /// Whether this says the same as `other` in the same file, if at other lines.
    pub(super) fn is_moved_from(&self, other: &Self) -> bool {
        self.file == other.file && self.node().is_same(other.node())
    }

    /// The folder that relative paths of this object start from.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// A problem with its place: the file, the document, and the object's line if it has none.
    pub(super) fn place(&self, mut problem: ConfigProblem) -> ConfigProblem {
        if problem.line == 0 {
            problem.line = self.line();
        }
        problem.in_file(&*self.file, self.document.index)
    }

    fn line(&self) -> u32 {
        match self.item {
            Some(_) => self.node().line,
            None => self.document.line,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is left out: it may hold Secrets.
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line())
    }
}

/// Parsed files by path. A file whose text is unchanged is not parsed again, nor are the documents
/// of one that only others changed in.
#[derive(Default)]
pub(super) struct FileCache {
    files: BTreeMap<FilePath, Arc<ParsedFile>>,
}

impl fmt::Debug for FileCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The texts are left out: they may hold Secrets.
        f.debug_list().entries(self.files.keys()).finish()
    }
}

impl FileCache {
    /// What makes the files be these and no others.
    pub(super) fn changes(&self, files: &[SourceFile]) -> Vec<FileChange> {
        let is_known =
            |file: &&SourceFile| self.files.get(&file.path).is_some_and(|f| f.is_of(&file.text));
        let new = files.iter().filter(|file| !is_known(file)).cloned().map(FileChange::from);
        let listed: HashSet<&FilePath> = files.iter().map(|file| &file.path).collect();
        let gone = self.files.keys().filter(|path| !listed.contains(path));
        let gone = gone.map(|path| FileChange { path: path.clone(), text: None });
        new.chain(gone).collect()
    }

    /// Takes changes; answers the files that are not what they were.
    pub(super) fn take(&mut self, changes: Vec<FileChange>) -> Vec<ChangedFile> {
        let take = |FileChange { path, text }: FileChange| {
            let Some(text) = text else {
                let former = self.files.remove(&path)?;
                return Some(ChangedFile { path, former: Some(former), now: None });
            };
            let former = self.files.get(&path);
            if former.is_some_and(|former| former.is_of(&text)) {
                return None;
            }
            let now = Arc::new(ParsedFile::parse(text, former.map(|former| &**former)));
            let former = self.files.insert(path.clone(), Arc::clone(&now));
            Some(ChangedFile { path, former, now: Some(now) })
        };
        changes.into_iter().filter_map(take).collect()
    }
}

/// A file that is not what it was.
pub(super) struct ChangedFile {
    pub(super) path: FilePath,
    /// None: it is new.
    pub(super) former: Option<Arc<ParsedFile>>,
    /// None: it is gone.
    pub(super) now: Option<Arc<ParsedFile>>,
}

/// The documents and items of lists of a file.
pub(super) fn sources<'a>(
    file: &'a FilePath,
    parsed: &'a ParsedFile,
) -> impl Iterator<Item = Source> + 'a {
    parsed.documents.iter().flat_map(move |document| {
        let node = &document.node;
        let is_list = node.get("kind").and_then(Node::as_str) == Some("List");
        let items = node.get("items").and_then(Node::as_list).map(<[_]>::len);
        let items = items.filter(|_| is_list);
        let source =
            move |item| Source { file: file.clone(), document: Arc::clone(document), item };
        let whole = items.is_none().then(|| source(None));
        whole.into_iter().chain((0..items.unwrap_or(0)).map(move |item| source(Some(item))))
    })
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Objects that stand once.
    pub(super) objects: BTreeMap<ObjectKey, Source>,
    /// Objects that stand more than once: none of them counts.
    pub(super) contested: BTreeSet<ObjectKey>,
    /// Files that could not be read in full: what they said before may still be meant.
    pub(super) broken_files: BTreeSet<FilePath>,
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) warnings: Vec<String>,
    /// Objects of kinds that are not read: the first place and how many, by kind.
    skipped: BTreeMap<String, (String, usize)>,
}

/// Collects the objects of all files.
pub(super) fn collect(cache: &FileCache, strict: bool) -> Collected {
    let mut collected = Collected::default();
    for (file, parsed) in &cache.files {
        for source in sources(file, parsed) {
            collected.take_object(source, strict);
        }
        if let Some(error) = &parsed.error {
            let problem = ConfigProblem::error("", error.message.clone()).at_line(error.line);
            collected.problems.push(problem.in_file(&**file, error.document));
            collected.broken_files.insert(file.clone());
        }
    }
    for (kind, (place, count)) in std::mem::take(&mut collected.skipped) {
        let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        collected.warnings.push(format!("{kind} at {place}{others} skipped: {NOT_READ}"));
    }
    collected
}

const NOT_READ: &str = "tidegate does not read this kind";

impl Collected {
    fn take_object(&mut self, source: Source, strict: bool) {
        match identify(source.node()) {
            Identity::Object(key) => self.insert(key, source),
            Identity::Skipped(what) if strict => {
                let problem = ConfigProblem::error("", format!("{what}: {NOT_READ}"))
                    .fix("move it to another file, or leave out --strict");
                self.problems.push(source.place(problem));
            }
            Identity::Skipped(what) => {
                let place = source.to_string();
                self.skipped.entry(what).or_insert((place, 0)).1 += 1;
            }
            Identity::Broken(problem) => {
                // Which object this was nobody can tell: all of the file keep what they were.
                self.problems.push(source.place(problem));
                self.broken_files.insert(source.file.clone());
            }
        }
    }

    fn insert(&mut self, key: ObjectKey, source: Source) {
        let Some(first) = self.objects.get(&key) else {
            self.objects.insert(key, source);
            return;
        };
        let message = format!("{key} stands twice: here and at {first}");
        let fix = "remove one of the two; until then what was in effect before stays in effect";
        self.problems.push(source.place(ConfigProblem::error("metadata.name", message).fix(fix)));
        self.contested.insert(key);
    }
}
