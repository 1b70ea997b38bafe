//! `config-gc`: which revisions that no traffic names are kept.

use std::time::Duration;

use super::Data;
use super::reader::{Reader, positive};
use crate::config::problem::ConfigProblem;

/// How long, and how many of a configuration, revisions are kept that no traffic names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Kept for so long after their creation; none = their age is no reason to keep them.
    pub since_create: Option<Duration>,
    /// Kept for so long after traffic named them last; none = that is no reason to keep them.
    pub since_last_active: Option<Duration>,
    /// As many of a configuration are always kept.
    pub min_non_active: usize,
    /// More of a configuration are never kept, however young; none = no such bound.
    pub max_non_active: Option<usize>,
}

impl Default for RetentionConfig {
    /// Knative's: 48 h, 15 h, 20, 1000.
    fn default() -> Self {
        Self {
            since_create: Some(Duration::from_secs(48 * 3600)),
            since_last_active: Some(Duration::from_secs(15 * 3600)),
            min_non_active: 20,
            max_non_active: Some(1000),
        }
    }
}

const DISABLED: &str = "disabled";

/// Reads `config-gc`; Knative's defaults stand for the keys that are absent or empty.
pub fn parse_config_gc(data: &Data) -> Result<RetentionConfig, Vec<ConfigProblem>> {
    let mut config = RetentionConfig::default();
    let mut r = Reader::new(data, "");
    for (key, value) in [
        ("retain-since-create-time", &mut config.since_create),
        ("retain-since-last-active-time", &mut config.since_last_active),
    ] {
        duration(key, value, &mut r);
    }
    let (mut min, mut max) = (20, 1000);
    r.int("min-non-active-revisions", 64, &mut min);
    if min < 0 {
        let message = format!("min-non-active-revisions must be non-negative, was: {min}");
        r.refuse("min-non-active-revisions", message, "write 0 or more");
    }
    let key = "max-non-active-revisions";
    let unbounded = r.raw(key).is_some_and(|text| text.eq_ignore_ascii_case(DISABLED));
    if !unbounded && r.raw(key) != Some("") {
        r.int(key, 64, &mut max);
        if max < 0 {
            let message = format!("{key} must be non-negative, was: {max}");
            r.refuse(key, message, "write 0 or more, or \"disabled\"");
        } else if min > max {
            let message = format!(
                "min-non-active-revisions({min}) must be <= max-non-active-revisions({max})"
            );
            r.refuse(key, message, "write a greater maximum, or \"disabled\"");
        }
    }
    config.min_non_active = usize::try_from(min).unwrap_or_default();
    config.max_non_active = (!unbounded).then(|| usize::try_from(max).unwrap_or_default());
    r.finish(config)
}

/// A duration, `disabled`, or nothing.
fn duration(key: &str, value: &mut Option<Duration>, r: &mut Reader<'_>) {
    match r.raw(key) {
        None | Some("") => {}
        Some(text) if text.eq_ignore_ascii_case(DISABLED) => *value = None,
        Some(_) => {
            let mut nanos = 0;
            r.duration(key, &mut nanos);
            if nanos < 0 {
                let message = format!("{key} must be non-negative");
                r.refuse(key, message, "write a duration such as 48h, or \"disabled\"");
            }
            *value = Some(positive(nanos));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<RetentionConfig, String> {
        let data = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse_config_gc(&data).map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn keys_as_knative_reads_them() {
        assert_eq!(parse(&[]), Ok(RetentionConfig::default()));
        let all = parse(&[
            ("retain-since-create-time", "1h30m"),
            ("retain-since-last-active-time", "Disabled"),
            ("min-non-active-revisions", "0"),
            ("max-non-active-revisions", "2"),
        ]);
        let expected = RetentionConfig {
            since_create: Some(Duration::from_secs(5400)),
            since_last_active: None,
            min_non_active: 0,
            max_non_active: Some(2),
        };
        assert_eq!(all, Ok(expected));
        let unbounded = parse(&[("max-non-active-revisions", "disabled")]).unwrap();
        assert_eq!(unbounded.max_non_active, None);
        let empty = ["retain-since-create-time", "max-non-active-revisions"].map(|key| (key, ""));
        assert_eq!(parse(&empty), Ok(RetentionConfig::default()));
    }

    #[test]
    fn what_is_refused() {
        for (key, value, part) in [
            ("retain-since-create-time", "2 days", "failed to parse"),
            ("retain-since-last-active-time", "-1s", "must be non-negative"),
            ("min-non-active-revisions", "-1", "must be non-negative, was: -1"),
            ("min-non-active-revisions", "1001", "must be <= max-non-active-revisions(1000)"),
            ("max-non-active-revisions", "few", "failed to parse"),
            ("max-non-active-revisions", "-1", "write 0 or more, or \"disabled\""),
        ] {
            let error = parse(&[(key, value)]).unwrap_err();
            assert!(error.contains(part), "{key}: {value}: {error}");
        }
    }
}
