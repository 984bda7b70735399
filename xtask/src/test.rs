//! Every check of the repository, in the order in which it tells something soonest.

use std::process::Command;

use crate::{cargo, root, run, setup, target};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// For every change: under 35 minutes on 2 cores from a clean clone.
    Reduced,
    /// Before a release: kills, rows and fuzz minutes in full.
    Full,
}

/// What the tests read to do more.
const SOAK: [(&str, &str); 4] = [
    ("TEST_COUNTS", "full"),
    ("PROPTEST_CASES", "400000"),
    ("STORE_TEST_FACTOR", "24"),
    ("PLUGIN_FUZZ_CASES", "12000"),
];

pub fn all(counts: Counts) -> Result<(), String> {
    let require_all = std::env::var("REQUIRE_ALL").is_ok_and(|v| v == "1");
    let skipped = target().join("skipped.txt");
    let _ = std::fs::remove_file(&skipped);

    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--all", "--check", "--manifest-path", "plugins/Cargo.toml"]))?;
    // The pure crates with the checks of the dev profile: overflow, debug assertions.
    run(cargo().args(["test", "--quiet", "--package", "graph", "--package", "registry"]))?;

    let binary = setup::binary()?;
    let guests = setup::guests(&binary);
    if let Err(reason) = &guests {
        skip(&skipped, "plugin builds", reason);
    }
    if let Err(reason) = setup::c_compiler() {
        skip(&skipped, "the plugin in C", &reason);
    }
    let python = setup::python();
    if let Err(reason) = &python {
        skip(&skipped, "comparisons with Python packages", reason);
    }
    let mut tests = cargo();
    tests.args(["test", "--release", "--workspace"]);
    if counts == Counts::Full {
        // Kills, rows and rounds in full; minutes of fuzzing for each parser.
        for (name, value) in SOAK {
            tests.env(name, value);
        }
    }
    tests.env("SKIPPED_FILE", &skipped);
    if let Ok(python) = &python {
        tests.env("TEST_PYTHON", python);
    }
    run(&mut tests)?;
    run(cargo().args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    deny(&skipped);

    let text = std::fs::read_to_string(&skipped).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        println!("\nall checks ran; none was skipped");
        return Ok(());
    }
    println!("\nskipped:");
    for line in &lines {
        println!("  {line}");
    }
    if require_all { Err(format!("{} checks were skipped and REQUIRE_ALL=1", lines.len())) } else { Ok(()) }
}

fn skip(file: &std::path::Path, what: &str, reason: &str) {
    use std::io::Write;
    eprintln!("skipped: {what}: {reason}");
    if let Ok(mut f) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
        let _ = writeln!(f, "{what}: {reason}");
    }
}

/// cargo-deny where it is installed; what it guards most is also checked by the tests from `cargo metadata`.
fn deny(_skipped: &std::path::Path) {
    let found = Command::new("cargo-deny").arg("--version").output().is_ok_and(|o| o.status.success());
    if found {
        if let Err(error) =
            run(Command::new("cargo-deny").args(["check", "bans", "licenses", "sources"]).current_dir(root()))
        {
            eprintln!("warning: {error}");
        }
    } else {
        println!(
            "cargo-deny is not installed; tests/it/repository.rs checks bans and licences from cargo metadata"
        );
    }
}
