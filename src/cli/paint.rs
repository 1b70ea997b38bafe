//! How text is shown: in colours and cut to the width where somebody looks at a terminal, plain
//! where a program reads (`NO_COLOR` is heeded, no-color.org).

use std::io::{self, IsTerminal as _};

/// What standard output is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paint {
    colours: bool,
    /// Columns of the terminal; none = as wide as the text.
    width: Option<usize>,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Head,
    Bad,
    Warning,
}

impl Paint {
    /// For this process' standard output.
    pub(super) fn of_stdout() -> Self {
        let out = io::stdout();
        if !out.is_terminal() {
            return Self::default();
        }
        let given = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let size = rustix::termios::tcgetwinsize(&out).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Self { colours: !given("NO_COLOR") && !is_dumb, width }
    }

    #[cfg(test)]
    pub(super) fn wide(width: usize) -> Self {
        Self { colours: false, width: Some(width) }
    }

    /// Columns there are.
    pub(super) const fn width(self) -> Option<usize> {
        self.width
    }

    /// A line, cut to the width, in its style.
    pub(super) fn line(self, text: &str, style: Option<Style>) -> String {
        let text = self.width.map_or_else(|| text.to_owned(), |width| cut(text, width));
        let code = match style.filter(|_| self.colours) {
            None => return text,
            Some(Style::Head) => "1",
            Some(Style::Bad) => "31",
            Some(Style::Warning) => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A text in so many columns: what is left out shows as `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut text: String = text.chars().take(width.saturating_sub(1)).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_coloured_on_a_terminal_only() {
        assert_eq!(Paint::default().line("a longer text", Some(Style::Bad)), "a longer text");
        assert_eq!(Paint::wide(8).line("a longer text", None), "a longe…");
        assert_eq!(Paint::wide(13).line("a longer text", None), "a longer text");
        let terminal = Paint { colours: true, width: Some(4) };
        assert_eq!(terminal.line("WAITING", Some(Style::Head)), "\x1b[1mWAI…\x1b[0m");
        assert_eq!(terminal.line("ab", None), "ab");
    }
}
