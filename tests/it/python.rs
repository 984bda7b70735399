//! Runs the scripts of `tests/python` in the virtual environment that `cargo xtask` makes.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::skip::{root, skip};

/// Runs a script of `tests/python` and gives what it printed. Where there is no Python with the modules, the
/// test is skipped aloud and this is `None`. A script that fails is a panic with its errors.
pub fn run<S: AsRef<OsStr>>(test: &str, modules: &[&str], script: &str, args: &[S]) -> Option<String> {
    let interpreter = match interpreter(modules) {
        Ok(interpreter) => interpreter,
        Err(reason) => {
            skip(test, &reason);
            return None;
        }
    };
    let output = command(&interpreter).arg(root().join("tests/python").join(script)).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", interpreter.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed ({}):\n{errors}", output.status);
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The interpreter in `TEST_PYTHON`, else the one in `target/python`, if it has the modules.
pub fn interpreter(modules: &[&str]) -> Result<PathBuf, String> {
    let interpreter = match std::env::var_os("TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => root().join("target/python/bin/python"),
    };
    if !interpreter.exists() {
        return Err(format!("there is no {}; `cargo xtask test` makes it", interpreter.display()));
    }
    let import = format!("import {}", modules.join(", "));
    let output = command(&interpreter).args(["-c", &import]).output();
    let output = output.map_err(|e| format!("{}: {e}", interpreter.display()))?;
    if output.status.success() {
        return Ok(interpreter);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().last().unwrap_or("it says nothing");
    Err(format!("{} can't {import}: {last}; install tests/python/requirements.txt", interpreter.display()))
}

fn command(interpreter: &PathBuf) -> Command {
    let mut command = Command::new(interpreter);
    command.stdin(Stdio::null()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
