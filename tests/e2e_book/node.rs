//! The example of a Node program's tests.

use std::process::Command;

use crate::serving::{needs, repository, tidegate};

#[test]
fn the_example_of_tests_in_node_passes() {
    needs("node", "nodejs");
    let mut command = Command::new("node");
    for (name, value) in tidegate().get_envs() {
        if value.is_none() {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["--test", "deploy/examples/node/test/service.test.js"])
        .env("TIDEGATE", env!("CARGO_BIN_EXE_tidegate"))
        .current_dir(repository("."))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("pass 4"), "{printed}");
}
