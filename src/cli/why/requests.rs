//! A request in words.

use crate::cli::client::answers::{Met, Noted};

/// Why it waited or was refused.
pub(super) fn explain(request: &Noted) -> String {
    let Noted { id, unix_ms, namespace, revision, waited_ms, met, problem } = request;
    let at = clock_time(*unix_ms);
    let whose = match revision.as_str() {
        "" => "no revision: it was refused before one was chosen".to_owned(),
        name => format!("{namespace}/{name}"),
    };
    let mut lines = vec![format!("{id}, at {at} UTC, for {whose}")];
    if *waited_ms > 0.0 {
        lines.push(format!("  waited   {waited_ms:.1} ms for a place"));
        lines.push(format!("  because  {}", cause(met)));
    }
    match problem {
        None => lines.push("  then     it got a place".to_owned()),
        Some(problem) => {
            lines.push(format!("  refused  {}", problem.reason));
            lines.extend(problem.message.lines().map(|line| format!("           {line}")));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn cause(met: &Met) -> String {
    let others = match met.waiting {
        0 => String::new(),
        1 => "; 1 other request waited already".to_owned(),
        many => format!("; {many} other requests waited already"),
    };
    match (met.ready, met.starting) {
        (0, 0) => format!("there was no replica: it had one started{others}"),
        (0, 1) => format!("the first replica was starting{others}"),
        (0, many) => format!("the first {many} replicas were starting{others}"),
        (1, _) => format!("the one ready replica had no free slot{others}"),
        (many, _) => format!("none of {many} ready replicas had a free slot{others}"),
    }
}

/// Time of the day, to the millisecond.
fn clock_time(unix_ms: u64) -> String {
    let (seconds, millis) = (unix_ms / 1000, unix_ms % 1000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn shown(request: serde_json::Value) -> String {
        explain(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn one_that_waited_and_one_that_was_refused() {
        expect![[r#"
            abc, at 10:52:09.123 UTC, for default/a-00001
              waited   412.4 ms for a place
              because  there was no replica: it had one started; 1 other request waited already
              then     it got a place
        "#]]
        .assert_eq(&shown(json!({
            "id": "abc", "unix_ms": 1_795_949_529_123_u64, "namespace": "default",
            "revision": "a-00001", "waited_ms": 412.4, "met": {"ready": 0, "waiting": 1},
        })));
        expect![[r#"
            abc, at 00:00:00.000 UTC, for default/a-00001
              refused  queue_full
                       10 requests wait
                       try again later
        "#]]
        .assert_eq(&shown(json!({
            "id": "abc", "namespace": "default", "revision": "a-00001",
            "met": {"ready": 2, "waiting": 10},
            "problem": {"reason": "queue_full", "message": "10 requests wait\ntry again later"},
        })));
        expect![[r#"
            abc, at 00:00:00.000 UTC, for no revision: it was refused before one was chosen
              refused  no_route
                       no service has this host
        "#]]
        .assert_eq(&shown(json!({
            "id": "abc", "problem": {"reason": "no_route", "message": "no service has this host"},
        })));
    }
}
