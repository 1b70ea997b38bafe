//! The options that the built program has.

use std::collections::BTreeSet;
use std::process::Command;

/// Whether each option of a command line, its subcommand first, is one that `--help` lists.
pub(crate) fn assert_known(arguments: &[&str]) {
    let (subcommand, options) = arguments.split_first().expect("a subcommand");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args([subcommand, "--help"])
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "tidegate {subcommand} --help: {output:?}");
    let help = String::from_utf8_lossy(&output.stdout);
    let known: BTreeSet<&str> = help
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with('-'))
        .collect();
    for option in options.iter().filter(|argument| argument.starts_with('-')) {
        let name = option.split('=').next().unwrap_or(option);
        assert!(known.contains(name), "tidegate {subcommand} has no option {name}");
    }
}

#[test]
fn an_unknown_option_is_found() {
    assert_known(&["serve", "--drain-timeout=1s", "-f"]);
    let unknown = std::panic::catch_unwind(|| assert_known(&["serve", "--drain-time"]));
    assert!(unknown.is_err());
}
