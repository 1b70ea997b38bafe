//! What people get to read about a replica that could not be started.

use std::fmt::Write as _;
use std::sync::Arc;

use rustix::io::Errno;

use super::environment::Program;
use super::listening::{Process, holder};

/// Longest command shown in a text.
const SHOWN_BYTES: usize = 200;

/// The first of these ports that somebody listens on, and who that is where it can be told.
pub(super) fn first_held(wanted: &[u16]) -> Option<(u16, Option<Process>)> {
    wanted.iter().find_map(|port| Some((*port, holder(*port)?)))
}

/// The kernel does not start a program.
pub(super) fn refusal(program: &Program, error: &std::io::Error) -> String {
    let advice = match Errno::from_io_error(error) {
        Some(Errno::NOEXEC) => {
            "; if it is a script, its first line must be `#!` and its interpreter"
        }
        Some(Errno::TOOBIG) => "; its arguments and variables are too long",
        _ => "",
    };
    format!("cannot be started from {}: {error}{advice}", program.path.display())
}

/// A replica never became ready; `lines` is what it printed, none when it did not run.
pub(super) fn message(command: &[Arc<str>], wrong: &str, lines: Option<&[String]>) -> String {
    let mut shown = command.join(" ");
    if shown.len() > SHOWN_BYTES {
        shown.truncate(shown.floor_char_boundary(SHOWN_BYTES));
        shown.push('…');
    }
    let mut message = format!("`{shown}` {wrong}.");
    match lines {
        None => {}
        Some([]) => message.push_str(" It printed nothing."),
        Some(lines) => {
            message.push_str(" It printed last:");
            for line in lines {
                let _ = write!(message, "\n  {line}");
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_command_reason_and_output() {
        let command: Vec<Arc<str>> = vec!["node".into(), "server.js".into()];
        assert_eq!(
            message(&command, "ended with exit status 1", Some(&["a".into(), "b".into()])),
            "`node server.js` ended with exit status 1. It printed last:\n  a\n  b"
        );
        let long: Vec<Arc<str>> = vec!["ü".repeat(300).into()];
        let text = message(&long, "x", Some(&[]));
        assert!(text.ends_with("ü…` x. It printed nothing."), "{text}");
        assert!(text.len() < SHOWN_BYTES + 50);
    }
}
