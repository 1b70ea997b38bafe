//! What a replica's program is started with: variables and arguments.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::model::{ProcessSpec, RevisionSpec};

use super::expand::expand;
use super::limits::running_program;

/// The program name that means the running one.
const OWN_NAME: &str = "tidegate";

/// Variables of one replica on top of tidegate's own environment, in order; the last of a name
/// holds.
#[derive(Default)]
pub(super) struct Variables {
    list: Vec<(OsString, OsString)>,
    known: HashMap<String, String>,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values are left out: they may be a Secret's.
        f.debug_set().entries(self.list.iter().map(|(name, _)| name)).finish()
    }
}

impl Variables {
    /// The runtime contract's variables, the volumes' and the manifest's.
    pub(super) fn of(
        revision: &RevisionSpec,
        process: &ProcessSpec,
        port: u16,
        volumes: &[(OsString, OsString)],
    ) -> Self {
        let mut variables = Self::default();
        let service = revision.service.as_ref().map_or("", |service| &service.name);
        variables.set("PORT", port.to_string());
        variables.set("K_SERVICE", service.to_owned());
        variables.set("K_REVISION", revision.id.name.to_string());
        variables.set("K_CONFIGURATION", revision.configuration.to_string());
        for (name, folder) in volumes {
            variables.set(&name.to_string_lossy(), folder.to_string_lossy().into_owned());
        }
        for variable in &process.env {
            let value = if variable.secret {
                variable.value.to_string()
            } else {
                variables.expand(&variable.value)
            };
            variables.set(&variable.name, value);
        }
        variables
    }

    fn set(&mut self, name: &str, value: String) {
        self.list.push((name.into(), value.clone().into()));
        self.known.insert(name.to_owned(), value);
    }

    /// `$(NAME)` of these variables; tidegate's own environment is not among them.
    pub(super) fn expand(&self, text: &str) -> String {
        expand(text, |name| self.known.get(name).cloned())
    }

    /// As a list to start a program with. A kernel's argument cannot hold a zero byte; such a
    /// variable is left out by the check before.
    pub(super) fn list(&self) -> &[(OsString, OsString)] {
        &self.list
    }

    fn path(&self) -> Option<OsString> {
        self.known.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"))
    }
}

/// A program with its arguments.
#[derive(PartialEq, Eq)]
pub(super) struct Program {
    /// Absolute path.
    pub(super) path: PathBuf,
    /// Arguments, the name first.
    pub(super) argv: Vec<OsString>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments are left out: a Secret may have been expanded in them.
        f.debug_struct("Program").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Finds the program of a command, `$(NAME)` expanded. `own` is the running program.
///
/// # Errors
///
/// There is no such program; the text says where it was looked for.
pub(super) fn program(
    command: &[std::sync::Arc<str>],
    variables: &Variables,
    directory: Option<&Path>,
    own: &Path,
) -> Result<Program, String> {
    let argv: Vec<OsString> =
        command.iter().map(|argument| variables.expand(argument).into()).collect();
    let holds_zero = |text: &OsStr| text.as_encoded_bytes().contains(&0);
    if argv.iter().any(|argument| holds_zero(argument))
        || variables.list.iter().any(|(name, value)| holds_zero(name) || holds_zero(value))
    {
        return Err("its arguments or variables hold a zero byte, which no program can get".into());
    }
    let name = argv.first().filter(|name| !name.is_empty()).ok_or("its command is empty")?;
    if name == OWN_NAME {
        return Ok(Program { path: running_program(own), argv });
    }
    let path = if name.as_encoded_bytes().contains(&b'/') {
        let directory = directory.map(Path::to_owned).or_else(|| std::env::current_dir().ok());
        let path = directory.unwrap_or_default().join(name);
        check(&path)?;
        path
    } else {
        search(name, variables.path())?
    };
    Ok(Program { path, argv })
}

fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match path.metadata() {
        Err(error) => Err(format!("{shown} cannot be used: {error}")),
        Ok(metadata) if metadata.is_dir() => Err(format!("{shown} is a folder, not a program")),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
            Err(format!("{shown} is not executable; `chmod +x` it or name its interpreter first"))
        }
        Ok(_) => Ok(()),
    }
}

fn search(name: &OsStr, path: Option<OsString>) -> Result<PathBuf, String> {
    let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| check(candidate).is_ok())
        .ok_or_else(|| {
            format!(
                "there is no program {} on PATH ({}); install it or give its full path",
                name.to_string_lossy(),
                path.to_string_lossy()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::tests::{process, revision};
    use crate::model::EnvVar;

    fn variable(name: &str, value: &str, secret: bool) -> EnvVar {
        EnvVar { name: name.into(), value: value.into(), secret }
    }

    fn of(env: Vec<EnvVar>) -> Variables {
        let process = ProcessSpec { env, ..process(&["true"]) };
        let revision = revision("hello", process.clone());
        Variables::of(&revision, &process, 4711, &[("TIDEGATE_VOLUME_V".into(), "/v".into())])
    }

    fn value<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
        variables.known.get(name).map(String::as_str)
    }

    #[test]
    fn contract_then_manifest_with_references_backwards_only() {
        let variables = of(vec![
            variable("EARLY", "$(LATE) $(PORT) $(K_REVISION)", false),
            variable("LATE", "$(EARLY)!", false),
            variable("TOKEN", "a$(PORT)b$$", true),
            variable("USES", "<$(TOKEN)> $(TIDEGATE_VOLUME_V)", false),
        ]);
        for (name, expected) in [
            ("PORT", "4711"),
            ("K_SERVICE", "hello"),
            ("K_REVISION", "hello-00001"),
            ("K_CONFIGURATION", "hello"),
            ("EARLY", "$(LATE) 4711 hello-00001"),
            ("LATE", "$(LATE) 4711 hello-00001!"),
            ("TOKEN", "a$(PORT)b$$"),
            ("USES", "<a$(PORT)b$$> /v"),
        ] {
            assert_eq!(value(&variables, name), Some(expected), "{name}");
        }
        let shown = format!("{variables:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("4711"), "no values: {shown}");
    }

    #[test]
    fn programs_are_found_or_the_text_says_where_not() {
        let variables = of(vec![variable("PATH", "/nowhere:/bin", false)]);
        let find = |command: &[&str], directory: Option<&str>| {
            let command: Vec<_> = command.iter().map(|part| (*part).into()).collect();
            program(&command, &variables, directory.map(Path::new), Path::new("/bin/cat"))
        };
        let found = find(&["sh", "-c", "$(PORT)"], None).unwrap();
        assert_eq!(found.path, Path::new("/bin/sh"));
        assert_eq!(found.argv, ["sh", "-c", "4711"].map(OsString::from));
        assert_eq!(find(&["./sh"], Some("/bin")).unwrap().path, Path::new("/bin/./sh"));
        assert_eq!(find(&["tidegate", "echo"], None).unwrap().path, Path::new("/bin/cat"));
        for (command, text) in [
            (&["no-such-program"][..], "on PATH (/nowhere:/bin)"),
            (&["/no/such"], "/no/such cannot be used"),
            (&["/bin"], "is a folder"),
            (&["/etc/passwd"], "not executable"),
            (&[""], "empty"),
            (&["a\0b"], "zero byte"),
        ] {
            let error = find(command, None).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
