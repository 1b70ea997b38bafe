//! Names of what is made for an object (`knative.dev/pkg/kmeta/names.go`).

use md5::{Digest as _, Md5};

/// Longest name.
const LONGEST: usize = 63;
/// Length of an MD5 sum in hexadecimal.
const SUM: usize = 32;

/// Name of what belongs to `parent`: with the suffix, and within 63 bytes by a sum in place of the
/// parent's end, exactly as Knative does it.
pub fn child(parent: &str, suffix: &str) -> String {
    let head = LONGEST - SUM;
    if parent.len() + suffix.len() <= LONGEST {
        return format!("{parent}{suffix}");
    }
    if suffix.len() < head {
        return format!("{}{}{suffix}", start(parent, head - suffix.len()), sum(parent));
    }
    let name = format!("{}{}", start(parent, head), sum(&format!("{parent}{suffix}")));
    let name = format!("{name}{}", start(suffix, LONGEST - name.len()));
    name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Name of a revision's Deployment.
pub fn deployment(revision: &str) -> String {
    child(revision, "-deployment")
}

/// Name of the Service (core) whose slices are a revision's endpoints.
pub fn private_service(revision: &str) -> String {
    child(revision, "-private")
}

/// Name of a Configuration's revision of a generation.
pub fn revision(configuration: &str, generation: i64) -> String {
    child(configuration, &format!("-{generation:05}"))
}

/// At most the first `length` bytes; names are ASCII.
fn start(text: &str, length: usize) -> &str {
    text.get(..length).unwrap_or(text)
}

fn sum(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in `kmeta/names_test.go`.
    #[test]
    fn names_as_knative_makes_them() {
        let long = |letter: &str, length: usize| letter.repeat(length);
        for (parent, suffix, expected) in [
            ("asdf".to_owned(), "-deployment".to_owned(), "asdf-deployment"),
            (
                long("f", 63),
                "-deployment".to_owned(),
                "ffffffffffffffffffff105d7597f637e83cc711605ac3ea4957-deployment",
            ),
            (
                long("f", 63),
                long("g", 63),
                "fffffffffffffffffffffffffffffffb2c9f002f688be8c6f58b932d89cdf3b",
            ),
            (
                "a".to_owned(),
                long("f", 63),
                "ab5cfd486935decbc0d305799f4ce4414ffffffffffffffffffffffffffffff",
            ),
        ] {
            assert_eq!(child(&parent, &suffix), expected);
        }
        assert_eq!(revision("hello", 1), "hello-00001");
        assert_eq!(deployment("hello-00001"), "hello-00001-deployment");
    }
}
