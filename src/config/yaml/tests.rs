use super::*;

fn one(text: &str) -> Node {
    let parsed = parse_file(text);
    assert_eq!(parsed.error, None, "{text}");
    assert_eq!(parsed.documents.len(), 1, "{text}");
    parsed.documents[0].node.clone()
}

fn error(text: &str) -> SyntaxError {
    parse_file(text).error.expect("an error")
}

#[test]
fn scalars_are_what_kubernetes_reads() {
    let table = [
        ("0644", Value::Int(420)),
        ("0o17", Value::Int(15)),
        ("0x1F", Value::Int(31)),
        ("0b11", Value::Int(3)),
        ("-0x10", Value::Int(-16)),
        ("08", Value::Int(8)),
        ("1_000", Value::Int(1000)),
        ("+5", Value::Int(5)),
        ("1e3", Value::Int(1000)),
        ("1.0", Value::Int(1)),
        ("1.5", Value::Float(1.5)),
        (".5", Value::Float(0.5)),
        ("18446744073709551615", Value::Int(18_446_744_073_709_551_615)),
        ("yes", Value::Bool(true)),
        ("off", Value::Bool(false)),
        ("y", Value::Bool(true)),
        ("True", Value::Bool(true)),
        ("tRUE", Value::String("tRUE".into())),
        ("~", Value::Null),
        ("null", Value::Null),
        ("\"yes\"", Value::String("yes".into())),
        ("'0644'", Value::String("0644".into())),
        ("2001-01-01", Value::String("2001-01-01".into())),
        ("1.2.3", Value::String("1.2.3".into())),
        ("12s", Value::String("12s".into())),
        ("1:30", Value::String("1:30".into())),
        ("!!str 5", Value::String("5".into())),
        ("!!int \"5\"", Value::Int(5)),
        ("!custom 5", Value::String("5".into())),
        ("!!binary aGk=", Value::String("hi".into())),
    ];
    for (text, expected) in table {
        let node = one(&format!("key: {text}\n"));
        assert_eq!(node.get("key").expect("the key").value, expected, "{text}");
    }
}

#[test]
fn keys_are_text() {
    let node = one("on: 1\n8080: 2\n1.5: 3\n");
    let keys: Vec<&str> = node.as_map().expect("a map").iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["true", "8080", "1.5"]);
}

#[test]
fn places_are_those_of_the_file() {
    let node = one("a:\n  b:\n    - x\n    - c: 1\n  d:\ne: last\n");
    let item = &node.at(&["a", "b"]).and_then(Node::as_list).expect("a list")[1];
    assert_eq!((item.line, item.column), (4, 7));
    let absent = node.at(&["a", "d"]).expect("d");
    assert!(absent.is_null());
    assert_eq!(absent.line, 5, "an absent value stands at its key");
    assert_eq!(node.entry("e").expect("e").line, 6);
}

#[test]
fn documents_keep_their_numbers() {
    let text = "# a comment\n---\na: 1\n---\n---\n# nothing\n---\ntext: |\n  ---x\n  --- y\n...\n---\nb: 2\n";
    let parsed = parse_file(text);
    assert_eq!(parsed.error, None);
    let seen: Vec<(usize, u32)> = parsed.documents.iter().map(|d| (d.index, d.line)).collect();
    assert_eq!(seen, [(1, 3), (4, 8), (5, 13)]);
    assert_eq!(parsed.documents[1].node.get("text").and_then(Node::as_str), Some("---x\n--- y\n"));
    assert!(parse_file("").documents.is_empty());
    assert!(parse_file("---\n---\n# x\n").documents.is_empty());
}

#[test]
fn documents_before_an_error_are_kept() {
    let parsed = parse_file("a: 1\n---\nb: [1, 2\nc: 3\n---\nd: 4\n");
    assert_eq!(parsed.documents.len(), 1);
    let error = parsed.error.expect("an error");
    assert_eq!(error.document, 2);
    assert!(error.line >= 3, "{error:?}");
    assert!(!error.message.is_empty());
}

#[test]
fn a_key_given_twice_names_both_lines() {
    let error = error("a: 1\nb:\n  x: 1\n  y: 2\n  x: 3\n");
    assert_eq!((error.line, error.column), (5, 3));
    assert!(error.message.contains("line 3"), "{}", error.message);
    assert!(error.message.contains('5'), "{}", error.message);
}

#[test]
fn tabs_do_not_indent() {
    for text in ["\ta: 1\n", "a:\n\tb: 1\n", "a:\n  b: 1\n  \tc: 1\n"] {
        assert!(error(text).message.contains("tab"), "{text:?}: {}", error(text).message);
    }
    assert_eq!(one("a:\t1 # a\n").to_json(), serde_json::json!({"a": 1}));
}

#[test]
fn aliases_and_merges_unfold() {
    let node = one("base: &b {x: 1, z: 2}\nuse:\n  <<: *b\n  z: 3\nsame: *b\n");
    assert_eq!(
        node.to_json(),
        serde_json::json!({"base": {"x": 1, "z": 2}, "use": {"z": 3, "x": 1}, "same": {"x": 1, "z": 2}})
    );
    assert_eq!(node.get("same").expect("same").line, 5);
}

#[test]
fn what_a_few_lines_unfold_to_is_bounded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let names = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    assert!(error(&text).message.contains("split the file"));
    let deep = "[".repeat(5000);
    assert!(parse_file(&deep).error.is_some());
    let mut blocks = String::new();
    for level in 0..300 {
        blocks.push_str(&" ".repeat(level));
        blocks.push_str("a:\n");
    }
    assert!(parse_file(&blocks).error.is_some());
}

#[test]
fn many_documents_and_nodes_are_fine() {
    let text = "a: 1\n---\n".repeat(5000);
    assert_eq!(parse_file(&text).documents.len(), 5000);
    let wide: String = (0..200_000).map(|n| format!("k{n}: v\n")).collect();
    assert_eq!(one(&wide).as_map().map(<[Entry]>::len), Some(200_000));
}

#[test]
fn json_round_trip() {
    let json = serde_json::json!({"b": [1, 2.5, "x", null, true], "a": {"n": 18_446_744_073_709_551_615_u64}});
    assert_eq!(Node::from_json(&json).to_json(), json);
}

#[test]
fn the_same_content_elsewhere() {
    let node = |text: &str| parse_file(text).documents.remove(0).node;
    let here = node("a: [1, {b: c}]\nd: null\n");
    let there = node("\n# comment\na:\n- 1\n- b: c\nd:\n");
    assert!(here.is_same(&there) && here != there);
    for other in ["a: [1, {b: d}]\nd:\n", "a: [1]\nd:\n", "d:\na: [1, {b: c}]\n", "a: 1\nd: 2\n"] {
        assert!(!here.is_same(&node(other)), "{other}");
    }
}
