//! Splits the text of `--run NAME='COMMAND'` into program and arguments, the way a POSIX shell
//! splits words. Nothing is expanded: no shell runs the command.

/// Why a command text cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// There is no word in it.
    #[error("the command is empty; write a program and its arguments")]
    Empty,
    /// A quotation mark is opened and never closed.
    #[error("a {0} is opened and never closed; close it, or write \\{0} for the character itself")]
    OpenQuote(char),
    /// The text ends in a backslash.
    #[error("the command ends in a backslash; remove it or write \\\\")]
    TrailingBackslash,
    /// A word only a shell understands.
    #[error("`{0}` means nothing here, no shell runs the command; write sh -c '…' round it")]
    Operator(String),
}

/// The words that a shell takes as operators when they stand alone or at the end of a word.
const OPERATORS: [&str; 10] = ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"];

/// Program and arguments of a command text: words are separated by white space, `'…'` is taken
/// literally, in `"…"` a backslash escapes `"` and `\`, elsewhere it escapes any character.
pub fn split_command(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word = Word::default();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => word.quoted(take_single_quoted(&mut characters)?),
            '"' => word.quoted(take_double_quoted(&mut characters)?),
            '\\' => {
                let next = characters.next().ok_or(SplitError::TrailingBackslash)?;
                word.quoted(next.to_string());
            }
            white if white.is_whitespace() => word.end(&mut words)?,
            other => word.plain(other),
        }
    }
    word.end(&mut words)?;
    if words.is_empty() { Err(SplitError::Empty) } else { Ok(words) }
}

/// A word that is being read.
#[derive(Default)]
struct Word {
    text: String,
    started: bool,
    has_quotes: bool,
}

impl Word {
    fn plain(&mut self, character: char) {
        self.text.push(character);
        self.started = true;
    }

    fn quoted(&mut self, text: String) {
        self.text.push_str(&text);
        self.started = true;
        self.has_quotes = true;
    }

    fn end(&mut self, words: &mut Vec<String>) -> Result<(), SplitError> {
        let word = std::mem::take(self);
        if !word.started {
            return Ok(());
        }
        if !word.has_quotes && OPERATORS.contains(&word.text.as_str()) {
            return Err(SplitError::Operator(word.text));
        }
        words.push(word.text);
        Ok(())
    }
}

fn take_single_quoted(characters: &mut std::str::Chars<'_>) -> Result<String, SplitError> {
    let mut text = String::new();
    loop {
        match characters.next().ok_or(SplitError::OpenQuote('\''))? {
            '\'' => return Ok(text),
            other => text.push(other),
        }
    }
}

fn take_double_quoted(characters: &mut std::str::Chars<'_>) -> Result<String, SplitError> {
    let mut text = String::new();
    loop {
        match characters.next().ok_or(SplitError::OpenQuote('"'))? {
            '"' => return Ok(text),
            '\\' => match characters.next().ok_or(SplitError::OpenQuote('"'))? {
                escaped @ ('"' | '\\' | '$' | '`') => text.push(escaped),
                other => {
                    text.push('\\');
                    text.push(other);
                }
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_like_a_shell() {
        let table: &[(&str, &[&str])] = &[
            ("node server.js", &["node", "server.js"]),
            ("  python3   -m  http.server\t8080\n", &["python3", "-m", "http.server", "8080"]),
            ("sh -c 'echo \"$PORT\" | nc'", &["sh", "-c", "echo \"$PORT\" | nc"]),
            (r#"a "b c" d"#, &["a", "b c", "d"]),
            (r#""a \"b\" \\ \n""#, &[r#"a "b" \ \n"#]),
            (r"a\ b \'", &["a b", "'"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("'' \"\"", &["", ""]),
            ("echo '|' \\&", &["echo", "|", "&"]),
            ("tidegate echo --port $(PORT)", &["tidegate", "echo", "--port", "$(PORT)"]),
        ];
        for (text, words) in table {
            assert_eq!(
                split_command(text).as_deref(),
                Ok(*words)
                    .map(|w: &[&str]| {
                        w.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()
                    })
                    .as_deref(),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_no_shell_would_take_or_only_a_shell_can_run() {
        assert_eq!(split_command(" \t "), Err(SplitError::Empty));
        assert_eq!(split_command("a 'b"), Err(SplitError::OpenQuote('\'')));
        assert_eq!(split_command("a \"b\\"), Err(SplitError::OpenQuote('"')));
        assert_eq!(split_command("a\\"), Err(SplitError::TrailingBackslash));
        assert_eq!(split_command("make && ./run"), Err(SplitError::Operator("&&".to_owned())));
    }
}
