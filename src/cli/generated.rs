//! What is made of the command line itself: shells' completions and manual pages.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::args::{CompletionsArgs, ManArgs, cli};
use super::{complain, exit};

const NAME: &str = "tidegate";

/// Prints a shell's completions.
pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli(), NAME, &mut script);
    // A closed output is no reason to fail.
    let _ = io::stdout().write_all(&script);
    ExitCode::SUCCESS
}

/// Prints the manual page, or writes those of all commands.
pub fn man(args: &ManArgs) -> ExitCode {
    let written = match &args.directory {
        None => page(cli()).map(|page| {
            // A closed output is no reason to fail.
            let _ = io::stdout().write_all(&page);
        }),
        Some(folder) => pages(folder),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("man: {error}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}

fn pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(cli(), folder)
}
