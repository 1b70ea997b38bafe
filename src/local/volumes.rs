//! Volumes: files in a private folder per replica, linked to their mount paths where those can
//! be made.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{ProcessSpec, Volume};

/// The list of links that are to be removed with the folder, in the folder.
const LINKS: &str = "links";

/// The folder of all replicas' volumes, and the links into it.
#[derive(Clone, Debug)]
pub(super) struct Volumes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Who wants a mount path, first the one that has it.
    links: Mutex<HashMap<PathBuf, Vec<Claim>>>,
}

#[derive(Debug)]
struct Claim {
    serial: u64,
    target: PathBuf,
}

/// One replica's volumes; removed when dropped.
#[derive(Debug)]
pub(super) struct Mounted {
    shared: Arc<Shared>,
    serial: u64,
    folder: PathBuf,
    paths: Vec<PathBuf>,
    /// `TIDEGATE_VOLUME_<NAME>` and the folder, for each volume.
    pub(super) variables: Vec<(OsString, OsString)>,
    /// What could not be done, one line each.
    pub(super) notes: Vec<String>,
}

impl Volumes {
    /// Volumes below `folder`, which is made when the first is written.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { shared: Arc::new(Shared { folder, links: Mutex::default() }) }
    }

    /// Writes a replica's volumes. None when it has none.
    ///
    /// # Errors
    ///
    /// A file cannot be written; the text names it.
    pub(super) fn mount(&self, serial: u64, spec: &ProcessSpec) -> Result<Option<Mounted>, String> {
        if spec.volumes.is_empty() {
            return Ok(None);
        }
        let folder = self.shared.folder.join(serial.to_string());
        let mut mounted = Mounted {
            shared: Arc::clone(&self.shared),
            serial,
            folder: folder.clone(),
            paths: Vec::new(),
            variables: Vec::new(),
            notes: Vec::new(),
        };
        for volume in &spec.volumes {
            let path = folder.join(safe(Path::new(&*volume.name)));
            write(&path, volume).map_err(|error| {
                format!("cannot write volume {} to {}: {error}", volume.name, path.display())
            })?;
            mounted.variables.push((variable(&volume.name).into(), path.into_os_string()));
        }
        for mount in &spec.mounts {
            let mut target = folder.join(safe(Path::new(&*mount.volume)));
            if let Some(sub_path) = &mount.sub_path {
                target.push(safe(sub_path));
            }
            if let Err(error) = mounted.link(&mount.path, &target) {
                mounted.notes.push(format!(
                    "volume {} is not at {} ({error}); the program finds it in ${}",
                    mount.volume,
                    mount.path.display(),
                    variable(&mount.volume),
                ));
            }
        }
        Ok(Some(mounted))
    }
}

impl Mounted {
    fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let mut links = self.shared.links.lock();
        let claims = links.entry(path.to_owned()).or_default();
        if claims.is_empty() {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            symlink(target, path)?;
            note_link(&self.shared.folder, path)?;
        }
        claims.push(Claim { serial: self.serial, target: target.to_owned() });
        self.paths.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut links = self.shared.links.lock();
        for path in &self.paths {
            let Some(claims) = links.get_mut(path) else { continue };
            let had_it = claims.first().is_some_and(|claim| claim.serial == self.serial);
            claims.retain(|claim| claim.serial != self.serial);
            if had_it && points_into(path, &self.folder) {
                // Another replica of the revision goes on: the link leads to its files now.
                let _ = fs::remove_file(path);
                if let Some(next) = claims.first() {
                    let _ = symlink(&next.target, path);
                }
            }
            if claims.is_empty() {
                links.remove(path);
            }
        }
        drop(links);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes all that replicas left, links first.
pub(super) fn remove_all(folder: &Path) {
    let links = fs::read_to_string(folder.join(LINKS)).unwrap_or_default();
    for link in links.lines().map(Path::new) {
        if points_into(link, folder) {
            let _ = fs::remove_file(link);
        }
    }
    let _ = fs::remove_dir_all(folder);
}

fn points_into(link: &Path, folder: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target.starts_with(folder))
}

fn note_link(folder: &Path, link: &Path) -> io::Result<()> {
    let mut list =
        OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join(LINKS))?;
    writeln!(list, "{}", link.display())
}

fn write(folder: &Path, volume: &Volume) -> io::Result<()> {
    make_folder(folder)?;
    for file in &volume.files {
        let path = folder.join(safe(&file.path));
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(&file.content)?;
    }
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A path that stays below the folder it is joined to.
fn safe(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// The variable that names a volume's folder.
fn variable(volume: &str) -> String {
    let name = volume.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("TIDEGATE_VOLUME_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::tests::process;
    use crate::model::{Mount, VolumeFile};
    use std::os::unix::fs::PermissionsExt;

    fn spec(mount: &Path) -> ProcessSpec {
        let file = |path: &str, content: &[u8]| VolumeFile {
            path: path.into(),
            content: content.into(),
            secret: true,
        };
        ProcessSpec {
            volumes: vec![
                Volume {
                    name: "my-config".into(),
                    files: vec![file("a/b.txt", b"one"), file("../../escape", b"two")],
                },
                Volume { name: "scratch".into(), files: vec![] },
            ],
            mounts: vec![
                Mount { volume: "my-config".into(), path: mount.to_owned(), sub_path: None },
                Mount { volume: "scratch".into(), path: "/".into(), sub_path: None },
            ],
            ..process(&["true"])
        }
    }

    #[test]
    fn files_are_private_and_linked_while_any_replica_lives() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let mount = home.path().join("etc/app");
        let volumes = Volumes::new(run.clone());
        let one = volumes.mount(1, &spec(&mount)).unwrap().unwrap();
        let two = volumes.mount(2, &spec(&mount)).unwrap().unwrap();
        let folder = run.join("1/my-config");
        assert_eq!(
            one.variables[0],
            ("TIDEGATE_VOLUME_MY_CONFIG".into(), folder.clone().into_os_string())
        );
        assert_eq!(one.notes.len(), 1, "/ exists: {:?}", one.notes);
        assert_eq!(fs::read(folder.join("escape")).unwrap(), b"two", "stays below");
        for (path, mode) in [(run.join("1"), 0o700), (folder.join("a/b.txt"), 0o600)] {
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{}", path.display());
        }
        assert_eq!(fs::read_link(&mount).unwrap(), folder);
        drop(one);
        assert_eq!(fs::read(mount.join("a/b.txt")).unwrap(), b"one", "the second's");
        assert!(!folder.exists());
        drop(two);
        assert!(fs::symlink_metadata(&mount).is_err(), "removed with the last");
    }

    #[test]
    fn the_guard_removes_what_is_left() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let mount = home.path().join("app");
        let volumes = Volumes::new(run.clone());
        // As after `kill -9`: nobody drops it.
        let left = volumes.mount(1, &spec(&mount)).unwrap().unwrap();
        let _left = std::mem::ManuallyDrop::new(left);
        assert!(mount.join("a/b.txt").exists());
        remove_all(&run);
        assert!(!run.exists());
        assert!(fs::symlink_metadata(&mount).is_err());
    }
}
