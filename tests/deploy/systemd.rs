//! The units: complete, and what they start is a command line of this program.

use std::collections::BTreeMap;
use std::fs;

use super::options::assert_known;
use super::{path, read};

const FOLDER: &str = "deploy/systemd";

/// The settings of a unit by section, lines that go on joined; a name may be there more than once.
fn settings(file: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let text = read(&format!("{FOLDER}/{file}"));
    let lines = text.lines().filter(|line| !line.starts_with(['#', ';']));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut sections: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut section = String::new();
    for line in joined.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{file}: {line}"));
            let setting = (name.to_owned(), value.to_owned());
            sections.entry(section.clone()).or_default().push(setting);
        }
    }
    sections
}

/// The only value of a name.
fn one(section: &[(String, String)], name: &str) -> String {
    let values: Vec<&String> =
        section.iter().filter(|setting| setting.0 == name).map(|setting| &setting.1).collect();
    let [value] = values[..] else { panic!("{name}= is there {} times", values.len()) };
    value.clone()
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap_or(text).parse().unwrap()
}

#[test]
fn the_service_starts_what_there_is() {
    let service = settings("tidegate.service");
    let service = &service["Service"];
    let command = one(service, "ExecStart");
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, arguments) = words.split_first().unwrap();
    assert_eq!(*program, "/usr/local/bin/tidegate");
    assert_known(arguments);
    // Told when it is ready; SIGTERM to it alone, for replicas have requests until they end.
    assert_eq!(one(service, "Type"), "notify");
    assert_eq!(one(service, "KillMode"), "mixed");
    let value = |option: &str| {
        let at = words.iter().position(|word| *word == option);
        words[at.unwrap_or_else(|| panic!("no {option}")) + 1]
    };
    // Replicas have ten seconds to end, and the guard two.
    let stop = seconds(&one(service, "TimeoutStopSec"));
    assert!(stop > seconds(value("--drain-timeout")) + 12, "{stop}");
    assert_eq!(one(service, "StateDirectory"), "tidegate");
    assert!(value("--state-dir").starts_with("%S/tidegate/"));
    let manifests = value("--filename").strip_prefix("/etc/").unwrap();
    let configuration = one(service, "ConfigurationDirectory");
    assert!(configuration.split(' ').any(|folder| folder == manifests), "{configuration}");
    // Wrong usage and wrong configuration.
    assert_eq!(one(service, "RestartPreventExitStatus"), "64 78");
}

#[test]
fn every_socket_has_a_name_that_tidegate_knows() {
    let mut names = Vec::new();
    for entry in fs::read_dir(path(FOLDER)).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = file.strip_suffix(".socket") else { continue };
        let unit = settings(&file);
        let socket = &unit["Socket"];
        let name = one(socket, "FileDescriptorName");
        if stem == "tidegate" {
            assert_eq!(name, "http");
        } else {
            assert_eq!(stem, format!("tidegate-{name}"));
            assert_eq!(one(socket, "Service"), "tidegate.service");
        }
        assert!(!one(socket, "ListenStream").is_empty());
        assert_eq!(one(&unit["Install"], "WantedBy"), "sockets.target");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["admin", "http", "http-internal", "https"]);
    let service = settings("tidegate.service");
    assert_eq!(one(&service["Unit"], "Requires"), "tidegate.socket");
}
