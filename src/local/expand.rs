//! `$(NAME)` in commands, arguments and variables, as Kubernetes expands it
//! (`third_party/forked/golang/expansion`): `$$` is a literal `$`, a name without a value stays as
//! it is written, so does an unclosed `$(`.

/// Expands `text`; `lookup` gives the value of a name.
pub(super) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            expanded.push('$');
            rest = tail;
        } else if let Some((name, tail)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => expanded.push_str(&value),
                None => {
                    expanded.push_str("$(");
                    expanded.push_str(name);
                    expanded.push(')');
                }
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".into()),
            "REF" => Some("$(PORT)".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn expands_as_kubernetes_does() {
        for (text, expected) in [
            ("$(PORT)", "8080"),
            ("-p=$(PORT)!", "-p=8080!"),
            ("$(PORT)$(PORT)", "80808080"),
            ("$$(PORT)", "$(PORT)"),
            ("$$$(PORT)", "$8080"),
            ("$$$$(PORT)", "$$(PORT)"),
            ("$(NONE)", "$(NONE)"),
            ("$(REF)", "$(PORT)"),
            ("a$(EMPTY)b", "ab"),
            ("$PORT", "$PORT"),
            ("$(PORT", "$(PORT"),
            ("$", "$"),
            ("100 $", "100 $"),
            ("$(", "$("),
            ("$()", "$()"),
            ("", ""),
            ("ü$(PORT)ü", "ü8080ü"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    proptest! {
        /// A text whose `$` are doubled comes out as it was.
        #[test]
        fn doubling_escapes(text in ".*") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), lookup), text);
        }
    }
}
