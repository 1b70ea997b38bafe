//! Finds recorded cases: the ones in this repository, and more of them below a folder named in
//! `TIDEGATE_ORACLE`, which has the same layout.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// One file of cases.
pub(crate) struct CaseFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its content.
    pub(crate) json: Json,
}

/// The files of a folder of cases, in the repository and in `TIDEGATE_ORACLE`, by path.
pub(crate) fn files(folder: &str) -> Vec<CaseFile> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(folder), &mut files);
    if let Some(more) = std::env::var_os("TIDEGATE_ORACLE") {
        let before = files.len();
        collect(&Path::new(&more).join(folder), &mut files);
        assert!(files.len() > before, "TIDEGATE_ORACLE has no files in {folder}");
    }
    files
}

fn collect(folder: &Path, files: &mut Vec<CaseFile>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let json = serde_json::from_str(&text).expect("JSON");
            files.push(CaseFile { path, json });
        }
    }
}
