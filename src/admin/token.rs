//! The token that requests to the admin listener must show, if one is set.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{self, HeaderMap};
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;

/// How often the file is read again: a token may be renewed like a certificate.
pub(super) const READ_EVERY: Duration = Duration::from_secs(1);

/// Why a token cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{0}: cannot be read ({1}); give the path of a file with the token")]
    Read(PathBuf, io::Error),
    /// There is none, or no header can carry it.
    #[error("{0}: a token is one word of visible ASCII characters; make one: openssl rand -hex 32")]
    Unusable(String),
}

/// What requests must show.
pub struct Token {
    file: Option<PathBuf>,
    text: Mutex<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Token {
    /// A token as it is; `from` says where it is from.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &str, from: &str) -> Result<Self, TokenError> {
        let text = usable(text).ok_or_else(|| TokenError::Unusable(from.to_owned()))?;
        Ok(Self { file: None, text: Mutex::new(text) })
    }

    /// A token that is in a file.
    ///
    /// # Errors
    /// There is none in it.
    pub fn open(file: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| TokenError::Read(file.to_owned(), error))?;
        let token = Self::new(&text, &file.display().to_string())?;
        Ok(Self { file: Some(file.to_owned()), ..token })
    }

    /// Reads the file again. What is no token leaves the one before in use.
    pub(super) fn read_again(&self) {
        let Some(file) = &self.file else { return };
        let read = std::fs::read_to_string(file).ok().and_then(|text| usable(&text));
        if let Some(new) = read
            && *self.text.lock() != new
        {
            *self.text.lock() = new;
            tracing::info!(file = %file.display(), "the admin token has changed");
        }
    }

    /// Whether a request shows it (RFC 6750 §2.1). The time that takes says nothing of it but its
    /// length.
    pub(super) fn is_shown(&self, headers: &HeaderMap) -> bool {
        shown(headers).is_some_and(|token| bool::from(token.ct_eq(self.text.lock().as_bytes())))
    }
}

/// The token that a request shows, if it shows one (RFC 6750 §2.1).
pub(super) fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

fn usable(text: &str) -> Option<String> {
    let text = text.trim();
    let is = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(token: &Token, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        token.is_shown(&headers)
    }

    #[test]
    fn a_token_is_shown_once_and_whole() {
        let token = Token::new(" s3cret\n", "here").unwrap();
        for shown in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret"] {
            assert!(shows(&token, &[shown]), "{shown}");
        }
        for not in ["s3cret", "Bearer s3cre", "Bearer s3crets", "Bearer ", "Basic s3cret", "Bearer"]
        {
            assert!(!shows(&token, &[not]), "{not}");
        }
        assert!(!shows(&token, &[]));
        assert!(!shows(&token, &["Bearer s3cret", "Bearer s3cret"]));
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    #[test]
    fn files_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(Token::open(&file).unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&file, "two words").unwrap();
        assert!(Token::open(&file).unwrap_err().to_string().contains("openssl rand -hex 32"));
        std::fs::write(&file, "one\n").unwrap();
        let token = Token::open(&file).unwrap();
        std::fs::write(&file, "").unwrap();
        token.read_again();
        assert!(shows(&token, &["Bearer one"]), "nothing is no token");
        std::fs::write(&file, "two").unwrap();
        token.read_again();
        assert!(shows(&token, &["Bearer two"]) && !shows(&token, &["Bearer one"]));
    }
}
