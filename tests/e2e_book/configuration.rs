//! `docs/reference-configuration.md`, made from the command line's definition and from what is read
//! of annotations and ConfigMaps.

use std::fmt::Write as _;

use clap::{Arg, Command};
use expect_test::expect_file;
use tidegate::cli::args::cli;
use tidegate::config::settings::{CONFIG_MAPS, setting_keys};
use tidegate::config::world::{
    ADOPTION_ANNOTATIONS, OwnAnnotation, SERVICE_ANNOTATIONS, TEMPLATE_ANNOTATIONS,
};

use crate::serving::repository;

const BEGIN: &str = "# Reference: configuration

Made from the code; `UPDATE_EXPECT=1 cargo test --test e2e_book` writes it anew.

Options of the command line win over variables. An option that may be repeated takes a list with commas
from its variable. `serve` is meant where no command is given.

";

const WHOM: &str = "## Whom a command asks

Options that all commands have which ask a running tidegate.

";

const ANNOTATIONS: &str = "## Annotations

`tidegate.dev/…` on the template of a Service, Configuration or Revision. One that is not listed is an
error that names the nearest. The scaling annotations `autoscaling.knative.dev/…` are Knative's: see
[tuning](tuning.md).

";

const SERVICE: &str = "
On a Service or Route itself, see [canary](canary.md#on-evidence):

";

const ADOPTION: &str = "
On a Service (core) in a cluster, whose Deployment is [adopted](adoption.md); `queue-timeout`, `no-wake`,
`idle-connection`, `eager`, `waiting-page` and `depends-on` may be there, too:

";

const CONFIG: &str = "
## ConfigMaps

Keys that are known of Knative's ConfigMaps, in files or in the namespace `knative-serving`. Values and
defaults are Knative's, but for those in [Different from Knative](../README.md#different-from-knative). A
word in capitals stands for a name of yours.

";

/// Commands that users call, the one that is meant without a command first.
fn visible(command: &Command) -> Vec<&Command> {
    let all = command.get_subcommands();
    let mut all: Vec<_> =
        all.filter(|sub| !sub.is_hide_set() && sub.get_name() != "help").collect();
    all.sort_by_key(|sub| sub.get_name() != "serve");
    all
}

/// What users may give, what has no name first.
fn options(command: &Command) -> Vec<&Arg> {
    let is_own = |arg: &&Arg| !matches!(arg.get_id().as_str(), "help" | "version");
    let all = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let mut all: Vec<_> = all.filter(is_own).collect();
    all.sort_by_key(|arg| arg.get_long());
    all
}

/// Whether it says which tidegate is asked, as all commands do that ask one.
fn says_whom(arg: &Arg) -> bool {
    ["admin", "admin_ca", "admin_name", "admin_token_file"].contains(&arg.get_id().as_str())
}

fn asks(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == "admin_ca")
}

/// One paragraph of a table's cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn names(arg: &Arg) -> String {
    let value = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let value = if takes && !value.is_empty() { format!(" {value}") } else { String::new() };
    let value = cell(&value);
    let shown = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}"),
        (None, Some(long)) => format!("`--{long}"),
        _ => return format!("`{value}`"),
    };
    if value.is_empty() { format!("{shown}`") } else { format!("{shown} {value}`") }
}

/// What holds without an option: its default, or what its help says of it.
fn default_and_help(arg: &Arg) -> (String, String) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let (help, told) = match help.split_once("[default: ") {
        Some((help, rest)) => {
            // A default may have brackets of its own: `[::1]:8080`.
            let told = rest.rsplit_once(']').map_or(rest, |(told, _)| told);
            (help.to_owned(), cell(told))
        }
        None => (help, String::new()),
    };
    let values: Vec<String> =
        arg.get_default_values().iter().map(|v| format!("`{}`", v.to_string_lossy())).collect();
    let is_flag = !arg.get_action().takes_values();
    let default = match () {
        () if arg.is_required_set() => "required".to_owned(),
        () if arg.get_id() == "files" => "required without `--kubernetes`".to_owned(),
        () if !values.is_empty() && !is_flag => values.join(", "),
        () if is_flag => "off".to_owned(),
        () => told,
    };
    let possible: Vec<String> =
        arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    let help = cell(&help);
    let is_choice = !possible.is_empty() && !is_flag;
    let help = if is_choice { format!("{help}: {}", possible.join(", ")) } else { help };
    (default, help)
}

fn of_command(page: &mut String, command: &Command) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, "## tidegate {}\n\n{about}.\n", command.get_name()).unwrap();
    if asks(command) {
        page.push_str("Whom it asks: [below](#whom-a-command-asks).\n\n");
    }
    let own = options(command);
    let own: Vec<_> = own.into_iter().filter(|arg| !(asks(command) && says_whom(arg))).collect();
    of_options(page, &own);
}

fn of_options(page: &mut String, all: &[&Arg]) {
    if all.is_empty() {
        return;
    }
    page.push_str("| option | variable | default | |\n|---|---|---|---|\n");
    for arg in all {
        let variable = arg.get_env().map(|env| format!("`{}`", env.to_string_lossy()));
        let (default, help) = default_and_help(arg);
        let (names, variable) = (names(arg), variable.unwrap_or_default());
        writeln!(page, "| {names} | {variable} | {default} | {help} |").unwrap();
    }
    page.push('\n');
}

fn of_annotations(page: &mut String, all: &[OwnAnnotation]) {
    page.push_str("| annotation | default | |\n|---|---|---|\n");
    for OwnAnnotation { name, default, meaning } in all {
        writeln!(page, "| `tidegate.dev/{name}` | {default} | {meaning} |").unwrap();
    }
}

fn reference() -> String {
    let mut command = cli();
    command.build();
    let mut page = BEGIN.to_owned();
    for command in visible(&command) {
        of_command(&mut page, command);
    }
    page.push_str(WHOM);
    let asking = visible(&command).into_iter().find(|command| asks(command)).unwrap();
    let whom: Vec<_> = options(asking).into_iter().filter(|arg| says_whom(arg)).collect();
    of_options(&mut page, &whom);
    page.push_str(ANNOTATIONS);
    of_annotations(&mut page, &TEMPLATE_ANNOTATIONS);
    page.push_str(SERVICE);
    of_annotations(&mut page, &SERVICE_ANNOTATIONS);
    page.push_str(ADOPTION);
    of_annotations(&mut page, &ADOPTION_ANNOTATIONS);
    page.push_str(CONFIG);
    page.push_str("| ConfigMap | keys |\n|---|---|\n");
    for name in CONFIG_MAPS.into_iter().chain(["config-deployment"]) {
        let keys: Vec<String> = setting_keys(name).iter().map(|key| format!("`{key}`")).collect();
        writeln!(page, "| `{name}` | {} |", keys.join(", ")).unwrap();
    }
    page
}

#[test]
fn the_reference_is_what_the_code_says() {
    expect_file![repository("docs/reference-configuration.md")].assert_eq(&reference());
}

#[test]
fn every_option_is_in_the_reference() {
    let page = reference();
    let mut command = cli();
    command.build();
    for command in visible(&command) {
        let begin = format!("## tidegate {}\n", command.get_name());
        let part = page.split_once(&begin).unwrap_or_else(|| panic!("lacks {begin}")).1;
        let part = part.split("\n## ").next().unwrap();
        for arg in options(command) {
            let part = if asks(command) && says_whom(arg) { &page } else { part };
            let Some(arg) = arg.get_long() else { continue };
            let is_there =
                part.contains(&format!("`--{arg}`")) || part.contains(&format!("`--{arg} "));
            assert!(is_there, "{begin} lacks --{arg}");
        }
    }
}
