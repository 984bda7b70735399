//! `kill -9` while `models import` runs: the version is there to the byte or not at all, and the next import goes on.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use registry::{Registry, Version};

use super::harness::{ModelSpec, counts, setup};
use super::models::run;

#[test]
fn a_killed_import_leaves_all_or_nothing() {
    let s = setup(&ModelSpec::default());
    let archive = s.folder.path().join("test.tar").display().to_string();
    run(&s, &["models", "export", "test", "--out", &archive]).unwrap();
    let import = |name: &str| run(&s, &["models", "import", &archive, "--name", name]);
    let started = Instant::now();
    import("undisturbed").unwrap();
    let usual = started.elapsed();
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let onnx = registry.load("test", Version::Latest).unwrap().onnx;

    let rounds = counts(16, 300) as u32;
    let mut whole = 0;
    for round in 0..rounds {
        let name = format!("killed-{round}");
        let mut command = s.command();
        command.args(["models", "import", &archive, "--name", &name]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // From its first moment to somewhat behind its end.
        thread::sleep(usual * (5 * round) / (4 * rounds));
        let _ = child.kill();
        child.wait().unwrap();

        let listed = registry.list().unwrap();
        let versions = listed.models.iter().find(|m| m.name == name).map_or(0, |m| m.versions.len());
        if versions > 0 {
            whole += 1;
            assert_eq!(registry.load(&name, Version::Latest).unwrap().onnx, onnx, "round {round}");
        }
        // Once more, which is the next version under another name; nothing is left half.
        import(&name).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let folder = s.folder.path().join("models").join(&name);
        let mut left: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1", "2"][..versions + 1], "round {round}");
    }
    eprintln!("{rounds} kills: {whole} times the version was there already");
}
