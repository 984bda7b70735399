//! A test that can't run here says so, and fails where everything must run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Says on stderr and in the list of `cargo xtask test` (the file in `SKIPPED_FILE`, else `target/skipped.txt`)
/// that the test didn't run and why; panics when `REQUIRE_ALL=1`. The test returns after it.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {}\n", reason.replace('\n', " "));
    eprint!("skipped: {line}");
    let file =
        std::env::var_os("SKIPPED_FILE").map_or_else(|| root().join("target/skipped.txt"), PathBuf::from);
    let listed = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut f| f.write_all(line.as_bytes()));
    if let Err(error) = listed {
        eprintln!("{} can't be written: {error}", file.display());
    }
    assert!(!required(), "{test} was skipped and REQUIRE_ALL=1: {reason}");
}

/// Whether a skip is a failure.
pub fn required() -> bool {
    std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// The repository's folder.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
