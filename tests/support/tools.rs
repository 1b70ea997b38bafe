//! Protocol testers that are built from Go modules; `tests/tools` pins them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

static FOLDER: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    if let Some(folder) = std::env::var_os("TIDEGATE_TOOLS") {
        return Ok(folder.into());
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/build.sh");
    let output = Command::new(script)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{script}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
});

/// The path of a tester: in the folder named by `TIDEGATE_TOOLS`, else built now, once for all
/// runs.
pub(crate) fn tool(name: &str) -> PathBuf {
    let help = "this test needs protocol testers that are built with Go 1.21 or newer, or Debian's \
                package `golang-go`: install it, or name the folder that `tests/tools/build.sh` \
                prints on another machine in TIDEGATE_TOOLS";
    match &*FOLDER {
        Ok(folder) => {
            let path = folder.join(name);
            assert!(path.is_file(), "there is no {}: {help}", path.display());
            path
        }
        Err(error) => panic!("{help}. tests/tools/build.sh says:\n{error}"),
    }
}
