//! How settings are spelled: the number, duration and template formats of Knative's ConfigMaps and
//! annotations, which are Go's. Values that Knative accepts are accepted here, and a refused value
//! is refused in the same words.

mod base64;
mod duration;
mod number;
mod quantity;
mod template;

pub use base64::base64;
pub use duration::{format_duration, is_whole_seconds, parse_duration};
pub use number::{NumberError, format_fixed, format_float, parse_bool, parse_float, parse_int};
pub use quantity::Quantity;
pub use template::{Template, TemplateError};

/// Text in double quotes with Go's escapes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c if c.is_control() || c == '\u{a0}' || c == '\u{feff}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The nearest of the known words, if it is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| {
            let known = candidate.to_lowercase();
            let steps = distance(&lower, &known, limit);
            // A word cut short is taken if nothing is nearer.
            let cut_short = lower.len() >= 3 && known.starts_with(&lower);
            (if cut_short { steps.min(limit) } else { steps }, candidate)
        })
        .filter(|(steps, _)| *steps <= limit)
        .min_by_key(|(steps, candidate)| (*steps, *candidate))
        .map(|(_, candidate)| candidate)
}

/// Edits that lead from one word to the other (a swap of neighbours counts as one); anything over
/// the limit is `limit + 1`.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    if a.len().abs_diff(b.len()) > limit || a.len().max(b.len()) > 64 {
        return limit + 1;
    }
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        before = above;
        above = row;
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(quote("a\"b\\c\n\u{1}"), r#""a\"b\\c\n\x01""#);
    }

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let known = ["containerConcurrency", "timeoutSeconds", "image", "env"];
        assert_eq!(nearest("containerConcurency", known), Some("containerConcurrency"));
        assert_eq!(nearest("containerconcurrency", known), Some("containerConcurrency"));
        assert_eq!(nearest("iamge", known), Some("image"));
        assert_eq!(nearest("enb", known), Some("env"));
        assert_eq!(nearest("timeout", known), Some("timeoutSeconds"));
        assert_eq!(nearest("replicas", known), None);
    }
}
