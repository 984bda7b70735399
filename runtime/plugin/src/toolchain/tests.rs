//! Whole builds: a new plugin in a folder of its own, tested, built, and built again elsewhere to the same
//! bytes.

use std::path::Path;
use std::process::Command;

use super::*;

/// Where std is kept between runs of the tests.
fn options(keep_debug: bool) -> BuildOptions {
    let cache = std::env::var_os("ALPHAPLUS_STD_CACHE").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugin-std"));
    BuildOptions { cache, keep_debug, may_install: false }
}

/// `None` where the machine can't build plugins: says why, and fails instead where REQUIRE_ALL is 1.
fn build_here(dir: &Path, out: &Path, keep_debug: bool) -> Option<Result<Built, ToolchainError>> {
    match build(dir, out, &options(keep_debug), &mut |_| ()) {
        Err(error @ ToolchainError::NoToolchain { .. }) => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "{error}");
            eprintln!("skipped: {error}");
            None
        }
        result => Some(result),
    }
}

fn fresh(kind: PluginKind, name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    new_plugin(kind, name, dir.path()).expect("a new plugin");
    dir
}

#[test]
fn a_new_plugin_passes_its_own_test() {
    for kind in [PluginKind::Features, PluginKind::Architecture] {
        let dir = fresh(kind, "my-first");
        let passed = match kind {
            PluginKind::Features => "test result: ok. 2 passed",
            PluginKind::Architecture => "test result: ok. 1 passed",
        };
        let mut command = cargo::clean(Path::new("cargo"));
        let output = command.args(["test", "--offline"]).current_dir(dir.path()).output().expect("cargo");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains(passed), "{text}");
    }
}

#[test]
fn the_same_source_gives_the_same_bytes_in_any_folder() {
    for keep_debug in [false, true] {
        let (one, two) = (fresh(PluginKind::Features, "twice"), fresh(PluginKind::Features, "twice"));
        let Some(first) = build_here(one.path(), &one.path().join("out.wasm"), keep_debug) else { return };
        let second = build_here(two.path(), two.path(), keep_debug).expect("as before").expect("builds");
        let first = first.expect("builds");
        assert_eq!(first.digest, second.digest, "keep_debug: {keep_debug}");
        assert_eq!(second.path, two.path().join("twice.wasm"));
        assert_eq!(
            (first.name.as_str(), first.version.as_str(), first.kind),
            ("twice", "0.1.0", PluginKind::Features)
        );
        let bytes = std::fs::read(&first.path).expect("written");
        assert_eq!((bytes.len(), sha256_hex(&bytes)), (first.size_bytes, first.digest));
        let folder = one.path().to_str().expect("plain");
        assert!(
            !bytes.windows(folder.len()).any(|w| w == folder.as_bytes()),
            "the folder's name is in the component"
        );
        let has_lines = bytes.windows(11).any(|w| w == b".debug_line");
        assert_eq!(has_lines, keep_debug);
    }
}

#[test]
fn mistakes_say_what_to_change() {
    let dir = fresh(PluginKind::Architecture, "wrong");
    let (manifest, code) = (dir.path().join("Cargo.toml"), dir.path().join("src/lib.rs"));
    let (manifest_text, code_text) =
        (std::fs::read_to_string(&manifest).expect("there"), std::fs::read_to_string(&code).expect("there"));
    let attempt = |manifest_now: &str, code_now: &str| {
        std::fs::write(&manifest, manifest_now).expect("written");
        std::fs::write(&code, code_now).expect("written");
        let result = build_here(dir.path(), &dir.path().join("out.wasm"), false)?;
        Some(result.expect_err("a mistake").to_string())
    };
    let Some(error) =
        attempt(&manifest_text.replace("kind = \"architecture\"", "kind = \"features\""), &code_text)
    else {
        return;
    };
    assert!(error.contains("kind = \"features\", but the code exports architecture"), "{error}");
    let expect = |manifest_now: &str, code_now: &str, part: &str| {
        let error = attempt(manifest_now, code_now).expect("as before");
        assert!(error.contains(part), "{error}");
    };
    expect(&manifest_text.replace("cdylib", "lib"), &code_text, "crate-type = [\"cdylib\", \"rlib\"]");
    expect(
        &manifest_text,
        &code_text.replace("export_architecture!", "unknown!"),
        "the plugin doesn't compile",
    );
    let without: String = code_text
        .lines()
        .filter(|line| !line.contains("export_architecture!"))
        .map(|l| format!("{l}\n"))
        .collect();
    expect(&manifest_text, &without, "the plugin exports nothing");
    let import = "#[link(wasm_import_module = \"env\")] unsafe extern \"C\" { fn now() -> i64; }\n\
                  #[unsafe(no_mangle)] pub extern \"C\" fn f() -> i64 { unsafe { now() } }\n";
    expect(&manifest_text, &format!("{code_text}{import}"), "env/now, which no host offers");
    let empty = tempfile::tempdir().expect("a folder");
    let error =
        build_here(empty.path(), empty.path(), false).expect("as before").expect_err("empty").to_string();
    assert!(error.ends_with("is not a plugin crate: there is no Cargo.toml"), "{error}");
}

#[test]
fn the_doctor_names_a_route_or_the_command_that_opens_one() {
    let report = doctor(Path::new(env!("CARGO_MANIFEST_DIR")), &options(false).cache);
    assert_eq!(report.candidates.iter().map(|c| c.route).collect::<Vec<_>>(), ["rustup", "Debian"]);
    for candidate in &report.candidates {
        assert_eq!(candidate.ready, candidate.fix.is_none(), "{candidate}");
    }
    let text = ToolchainError::NoToolchain {
        tried: vec![Candidate {
            route: "Debian",
            ready: false,
            detail: "no".into(),
            fix: Some(find::DEBIAN_LINE.into()),
        }],
    };
    assert!(text.to_string().contains("run: apt-get install rustc-web cargo-web rust-web-src lld-22"));
}

#[test]
fn versions_are_compared_by_number() {
    let said = |release: &str| {
        format!("rustc {release}\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: {release}\n")
    };
    assert!(
        find::is_new_enough(&said("1.95.0"))
            && find::is_new_enough(&said("1.100.0-nightly"))
            && find::is_new_enough(&said("2.0.0"))
    );
    assert!(
        !find::is_new_enough(&said("1.63.0"))
            && !find::is_new_enough(&said("1.9.0"))
            && !find::is_new_enough("nonsense")
    );
    assert_eq!(find::host(&said("1.95.0")), Some("x86_64-unknown-linux-gnu"));
}

#[test]
fn settings_of_the_caller_do_not_reach_cargo() {
    // cargo sets this one for the test run itself.
    let removed: Vec<String> = cargo::clean(Path::new("cargo"))
        .get_envs()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    assert!(removed.iter().any(|name| name == "CARGO_MANIFEST_DIR"), "{removed:?}");
    assert!(!removed.iter().any(|name| name == "CARGO_HOME"));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = cargo::run(Command::new("/nowhere/cargo"), &mut |_| ()).expect_err("not there");
    assert!(error.to_string().starts_with("/nowhere/cargo can't be started"), "{error}");
}
