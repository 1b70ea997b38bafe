//! All results as one HTML page that needs nothing else: plots are in it, and it is light or dark
//! as the reader's system is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::chart::escape;
use crate::results::{Outcome, ResultsError, Table};

const STYLE: &str = "\
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;margin:0;\
color:#1f2937;background:#f4f5f7}
main{max-width:1010px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:26px;margin:8px 0 4px}h2{font-size:20px;margin:0}
section{background:#fff;border:1px solid #e3e6ea;border-radius:10px;padding:22px 24px;\
margin:22px 0}
nav a{margin-right:14px;white-space:nowrap}a{color:#2160c4}
.soft{color:#5b6472;font-size:13px}.question{margin:2px 0 10px}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:14px 0;font-size:14px;\
font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding-bottom:4px;white-space:nowrap}
th,td{padding:3px 14px 3px 0;text-align:right;border-bottom:1px solid #e3e6ea;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:500;color:#5b6472}
svg{max-width:100%;height:auto;display:block;margin:14px 0}
ul{padding-left:20px;margin:10px 0}li.ok::marker{content:'✓ ';color:#0b7f6b}
li.failed::marker{content:'✗ ';color:#c2303a}li.failed{color:#c2303a;font-weight:600}
@media (prefers-color-scheme:dark){
body{color:#e6e9ee;background:#0b0e12}section{background:#12161c;border-color:#2a313b}
a{color:#73a9ff}.soft,th{color:#a3acb9}th,td{border-color:#2a313b}
li.ok::marker{color:#43c9b0}li.failed::marker,li.failed{color:#ff7d84}
}
";

/// Reads all results of a folder and writes `report.html` there; returns its path.
///
/// # Errors
/// When the folder has no results, or something cannot be read or written.
pub fn write(folder: &Path) -> Result<PathBuf, ResultsError> {
    let outcomes = read_all(folder)?;
    let path = folder.join("report.html");
    std::fs::write(&path, page(&outcomes))
        .map_err(|error| ResultsError::File(path.clone(), error))?;
    Ok(path)
}

/// Results in the order of their names.
fn read_all(folder: &Path) -> Result<Vec<Outcome>, ResultsError> {
    let failed = |error| ResultsError::File(folder.to_owned(), error);
    let mut paths = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                paths.push(entry.map_err(failed)?.path());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    if paths.is_empty() {
        return Err(ResultsError::Empty(folder.to_owned()));
    }
    paths.iter().map(|path| Outcome::read(path)).collect()
}

fn page(outcomes: &[Outcome]) -> String {
    let mut links = String::new();
    let mut sections = String::new();
    for outcome in outcomes {
        let name = escape(&outcome.scenario);
        // Writing to a string does not fail.
        let _ = write!(links, "<a href=\"#{name}\">{name}</a> ");
        sections.push_str(&section(outcome));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>tidegate under load</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>tidegate under load</h1>\n<nav>{links}</nav>\n{sections}</main>\n</body>\n</html>\n"
    )
}

fn section(outcome: &Outcome) -> String {
    let name = escape(&outcome.scenario);
    let mut text = format!(
        "<section id=\"{name}\">\n<h2>{name}</h2>\n<p class=\"question\">{}</p>\n",
        escape(&outcome.question)
    );
    for figure in &outcome.figures {
        let _ = writeln!(text, "<div class=\"scroll\">{}</div>", figure.svg());
    }
    for table in &outcome.tables {
        text.push_str(&html_table(table));
    }
    if !outcome.checks.is_empty() {
        text.push_str("<ul>\n");
        for check in &outcome.checks {
            let class = if check.holds { "ok" } else { "failed" };
            let _ = writeln!(text, "<li class=\"{class}\">{}</li>", escape(&check.what));
        }
        text.push_str("</ul>\n");
    }
    for note in &outcome.notes {
        let _ = writeln!(text, "<p class=\"soft\">{}</p>", escape(note));
    }
    let settings: Vec<String> =
        outcome.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let _ = writeln!(
        text,
        "<p class=\"soft\">{}<br>{}<br>{}, took {:.0} s</p>\n</section>",
        escape(&settings.join(" · ")),
        escape(&outcome.machine.line()),
        date(outcome.begun),
        outcome.took
    );
    text
}

fn html_table(table: &Table) -> String {
    let cells = |row: &[String], tag: &str| -> String {
        row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let rows: String =
        table.rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
    format!(
        "<div class=\"scroll\"><table>\n<caption>{}</caption>\n<tr>{}</tr>\n{rows}</table></div>\n",
        escape(&table.title),
        cells(&table.columns, "th")
    )
}

/// Date and time, UTC, of seconds since the Unix epoch (days to civil date after Howard Hinnant's
/// `chrono`-compatible algorithms).
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Scratch;
    use crate::results::Machine;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_798_761_599), "2026-12-31 23:59 UTC");
    }

    #[test]
    fn a_page_has_all_results_and_asks_for_nothing_else() {
        let scratch = Scratch::new().unwrap();
        for name in ["scale", "burst"] {
            let mut outcome = Outcome::begin(name, "How <long>?", Machine::this("tidegate".into()));
            outcome.check("nothing & nobody is lost", name == "scale");
            let mut table = Table::new("Latency", &["", "p50"]);
            table.row(["a", "1.0"]);
            outcome.tables.push(table);
            outcome.write(scratch.path()).unwrap();
        }
        let page = std::fs::read_to_string(write(scratch.path()).unwrap()).unwrap();
        assert!(page.find("id=\"burst\"").unwrap() < page.find("id=\"scale\"").unwrap());
        assert!(page.contains("How &lt;long&gt;?"));
        assert!(page.contains("<li class=\"failed\">nothing &amp; nobody is lost</li>"));
        for word in ["<script", "<link", "src=", "url(", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn an_empty_folder_says_what_to_do() {
        let scratch = Scratch::new().unwrap();
        for folder in [scratch.path().to_owned(), scratch.path().join("none")] {
            let error = write(&folder).unwrap_err().to_string();
            assert!(error.contains("loadtest"), "{error}");
        }
    }
}
