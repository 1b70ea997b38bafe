//! Kubernetes' formats of names, with its error messages.

const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const KEY: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

/// Largest length of one label of a name.
const LABEL_LENGTH: usize = 63;
/// Largest length of a whole name.
const NAME_LENGTH: usize = 253;

fn too_long(limit: usize, unit: &str) -> String {
    format!("must be no more than {limit} {unit}")
}

fn is_lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| is_lower_or_digit(*b))
        && bytes.last().is_some_and(|b| is_lower_or_digit(*b))
        && bytes.iter().all(|b| is_lower_or_digit(*b) || *b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// What keeps a text from being a DNS label that starts with a letter (RFC 1035).
pub(super) fn dns1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_LENGTH {
        errors.push(too_long(LABEL_LENGTH, "characters"));
    }
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        errors.push(LABEL_1035.to_owned());
    }
    errors
}

/// The same for a prefix, to which more is appended: it may end with `-`.
pub(super) fn dns1035_prefix(text: &str) -> Vec<String> {
    match text.strip_suffix('-') {
        // Kubernetes replaces the last two characters by one that fits.
        Some(rest) if !rest.is_empty() => {
            let kept = rest.char_indices().next_back().map_or("", |(at, _)| &rest[..at]);
            dns1035_label(&format!("{kept}a"))
        }
        _ => dns1035_label(text),
    }
}

/// What keeps a text from being a DNS label (RFC 1123).
pub(super) fn dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_LENGTH {
        errors.push(too_long(LABEL_LENGTH, "characters"));
    }
    if !is_label(text) {
        let dotted = is_subdomain(text);
        errors.push(if dotted { "must not contain dots" } else { LABEL_1123 }.to_owned());
    }
    errors
}

/// What keeps a text from being a DNS name (RFC 1123).
pub(super) fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > NAME_LENGTH {
        errors.push(too_long(NAME_LENGTH, "characters"));
    }
    if !is_subdomain(text) {
        errors.push(SUBDOMAIN.to_owned());
    }
    errors
}

/// What keeps a text from being `[prefix/]name` as keys of labels are.
pub(super) fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > NAME_LENGTH {
                    errors.push(format!("prefix part {}", too_long(NAME_LENGTH, "bytes")));
                }
                if !is_subdomain(prefix) {
                    errors.push(format!("prefix part {SUBDOMAIN}"));
                }
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {KEY} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LENGTH {
        errors.push(format!("name part {}", too_long(LABEL_LENGTH, "bytes")));
    }
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(inner);
    if !fits {
        errors.push(format!("name part {KEY}"));
    }
    errors
}

/// What keeps a text from being an identifier of C, as kinds are.
pub(super) fn c_identifier(text: &str) -> Vec<String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Vec::new();
    }
    vec![IDENTIFIER.to_owned()]
}

/// What keeps a text from being a domain name of at least two labels; a final dot is allowed.
/// Gives the part that is wrong with it.
pub(super) fn domain_name(text: &str) -> Option<(String, String)> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let errors = dns1123_subdomain(name);
    if !errors.is_empty() {
        return Some((name.to_owned(), errors.join(",")));
    }
    if !name.contains('.') {
        let message = "should be a domain with at least two segments separated by dots";
        return Some((name.to_owned(), message.to_owned()));
    }
    name.split('.').find_map(|label| {
        let errors = dns1123_label(label);
        (!errors.is_empty()).then(|| (label.to_owned(), errors.join(",")))
    })
}

/// A name near to the text that is a DNS label, to be suggested.
pub(super) fn suggestion(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || (c.is_ascii_digit() && !out.is_empty()) {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let cut: String = out.chars().take(LABEL_LENGTH).collect();
    let cut = cut.trim_end_matches('-');
    if cut.is_empty() { "my-name".to_owned() } else { cut.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_errors() {
        assert!(dns1035_label("abc-1").is_empty());
        assert_eq!(dns1035_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        for text in ["", "1a", "a-", "A", "a.b", "ä"] {
            assert_eq!(dns1035_label(text), [LABEL_1035], "{text}");
        }
        assert!(dns1035_prefix("gen-").is_empty());
        assert_eq!(dns1035_prefix("Gen_").len(), 1);
        assert_eq!(dns1035_prefix("-").len(), 1);
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert!(qualified_name("example.com/MyName").is_empty());
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/").len(), 2);
        assert!(c_identifier("Service").is_empty() && !c_identifier("1a").is_empty());
        assert_eq!(domain_name("a.example.com."), None);
        assert!(domain_name("com").is_some() && domain_name("a_b.com").is_some());
        assert_eq!(suggestion("Bad_Name!"), "bad-name");
    }
}
