//! Parameters of a request, from its query.

/// The parameters of a query, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

/// A parameter that cannot be understood; the text goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadParameter(pub(super) String);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A whole number, none when the parameter is absent.
    pub(super) fn number<T: std::str::FromStr>(
        &self,
        name: &str,
    ) -> Result<Option<T>, BadParameter> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(BadParameter(format!(
                "parameter {name}={text}: write a whole number that is not too large, for example \
                 {name}=100\n"
            ))),
        }
    }
}

/// Undoes `%XX` and `+`; what is not a valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match *first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let escaped = tail
                    .get(..2)
                    .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
                    .and_then(|digits| std::str::from_utf8(digits).ok())
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                match escaped {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = &tail[2..];
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse(Some("ms=10&&name=A%20b+c&flag&odd=%zz%4"));
        assert_eq!(query.number::<u64>("ms"), Ok(Some(10)));
        assert_eq!(query.get("name"), Some("A b c"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("odd"), Some("%zz%4"));
        assert_eq!(query.number::<u64>("absent"), Ok(None));
        assert_eq!(Query::parse(None), Query(Vec::new()));
    }

    #[test]
    fn a_bad_number_says_what_to_write() {
        for text in ["ms=x", "ms=-1", "ms=", "ms=99999999999999999999"] {
            let error = Query::parse(Some(text)).number::<u64>("ms").unwrap_err();
            assert!(error.0.contains("for example ms=100"), "{text}: {}", error.0);
        }
    }
}
