//! `cargo xtask bench`: builds, installs the peers, and starts the program that measures (`tests/bench`).

use std::process::Command;

use crate::{run as run_command, setup, target};

pub fn run(arguments: &[&str]) -> Result<(), String> {
    setup::binary()?;
    let mut command = Command::new(target().join("release/bench"));
    command.args(arguments).arg("--out").arg(target().join("bench/report.json"));
    match setup::peers() {
        Ok(python) => {
            command.arg("--python").arg(python);
        }
        Err(reason) => println!("no Python peers, their rows are left out: {reason}"),
    }
    run_command(&mut command)
}
