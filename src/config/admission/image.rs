//! References to container images, by the rules of go-containerregistry's weak validation.

const TAG: &str = "abcdefghijklmnopqrstuvwxyz0123456789_-.ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const REPOSITORY: &str = "abcdefghijklmnopqrstuvwxyz0123456789_-./";

/// Whether the text refers to an image: `[registry/]repository[:tag]` or with `@sha256:…`.
pub(super) fn is_reference(text: &str) -> bool {
    is_tagged(text) || is_digest(text)
}

fn is_made_of(text: &str, allowed: &str, low: usize, high: usize) -> bool {
    (low..=high).contains(&text.chars().count()) && text.chars().all(|c| allowed.contains(c))
}

/// `repository[:tag]`; a last part with a slash is no tag but follows a port.
fn split_tag(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((base, tag)) if !tag.contains('/') => (base, tag),
        _ => (text, ""),
    }
}

fn is_tagged(text: &str) -> bool {
    let (base, tag) = split_tag(text);
    (tag.is_empty() || is_made_of(tag, TAG, 1, 128)) && is_repository(base)
}

fn is_digest(text: &str) -> bool {
    let Some((base, digest)) = text.split_once('@') else { return false };
    let Some(hex) = digest.strip_prefix("sha256:") else { return false };
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digest.contains('@') || hex.len() != 64 || !hex.bytes().all(is_hex) {
        return false;
    }
    is_tagged(base) || is_repository(base)
}

fn is_repository(text: &str) -> bool {
    let (registry, repository) = match text.split_once('/') {
        Some((registry, rest)) if registry.contains(['.', ':']) => (registry, rest),
        _ => ("", text),
    };
    is_made_of(repository, REPOSITORY, 2, 255) && is_registry(registry)
}

/// Whether it is a host with an optional port, as a URL's authority.
fn is_registry(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else { return false };
        let address = host.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        if !address {
            return false;
        }
        ("", after)
    } else {
        // Only the last colon begins the port, as in Go's URLs.
        text.split_at(text.rfind(':').unwrap_or(text.len()))
    };
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let allowed =
        |b: u8| b >= 0x80 || b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:\"<>".contains(&b);
    port_fits && host.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for text in
            ["nginx:1.25", "example.com/img", "localhost:5000/aa/bb:tag", "ab", "[::1]:5000/img"]
        {
            assert!(is_reference(text), "{text}");
            assert!(is_reference(&format!("{text}@{digest}")), "{text} with a digest");
        }
        for text in [
            "",
            "a",
            "not a valid image!",
            "example.com/img@sha256:xyz",
            "Upper",
            "img:ta g",
            "a@b@c",
            "example.com/",
            "exa mple.com/img",
        ] {
            assert!(!is_reference(text), "{text}");
        }
    }
}
