//! A plugin author's day: from `plugin new` in an empty folder to a component that passes.

use std::path::Path;
use std::process::Command;

use super::harness::binary;
use crate::skip::skip;

fn alphaplus(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).current_dir(folder).args(args).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn new_build_check_test_bench_inspect() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = plugin::toolchain::doctor(folder.path(), folder.path());
    if doctor.chosen().is_none() {
        skip("plugin new to bench", &format!("no tool chain for WASM guests: {doctor}"));
        return;
    }
    for (kind, name) in [("features", "my-features"), ("architecture", "my-network")] {
        let ok = |args: &[&str], says: &str| {
            let (good, text) = alphaplus(&folder.path().join(name), args);
            assert!(good && text.contains(says), "{args:?}: {text}");
        };
        let (good, text) = alphaplus(folder.path(), &["plugin", "new", kind, name]);
        assert!(good, "{text}");
        let (good, text) = alphaplus(folder.path(), &["plugin", "new", kind, name]);
        assert!(!good && text.contains(name), "a folder that is there stays as it is: {text}");
        ok(&["plugin", "build"], "sha256");
        let component = format!("{name}.wasm");
        ok(&["plugin", "check", &component], "loads here");
        ok(&["plugin", "test", &component], "ok  ");
        ok(&["plugin", "inspect", &component], "imports");
        ok(&["plugin", "bench", &component], "");
    }
    let (good, text) = alphaplus(folder.path(), &["plugin", "check", "absent.wasm"]);
    assert!(!good && text.contains("absent.wasm"), "{text}");
    let (good, text) = alphaplus(folder.path(), &["plugin", "new", "features", "Bad Name"]);
    assert!(!good, "{text}");
}
