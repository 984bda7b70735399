//! The rules of the repository: edges between crates, modules with `unsafe`, heavy crates once, licences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// From → to, in normal dependencies.
const EDGES: [(&str, &[&str]); 10] = [
    ("graph", &[]),
    ("market", &[]),
    ("registry", &[]),
    ("shared", &[]),
    ("cpu", &["graph"]),
    ("onnx", &["graph"]),
    ("plugin", &["graph", "market"]),
    ("learn", &["graph", "market", "registry"]),
    ("store", &["market"]),
    ("appliance", &["cpu", "graph", "learn", "market", "onnx", "plugin", "registry", "shared", "store"]),
];

/// A heavy crate and the one crate that may name it.
const HEAVY: [(&str, &str); 7] = [
    ("wasmtime", "plugin"),
    ("tract-onnx", "cpu"),
    ("tract-core", "cpu"),
    ("cudarc", "cuda"),
    ("tokio-postgres", "store"),
    ("parquet", "market"),
    ("memmap2", "shared"),
];

/// Crates whose manifest names a licence file and no expression, and what the file is.
const LICENCE_FILES: [(&str, &str); 1] = [("forust-ml", "Apache-2.0")];

/// Modules that may hold `unsafe`, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("runtime/cpu/src/kernel/", "SIMD"),
    ("runtime/cpu/src/tests/allocations.rs", "counts allocations"),
    ("runtime/cpu/src/rows/", "lets threads share the rows of a window's buffers"),
    ("runtime/cpu/src/sliding.rs", "lets threads share the buffers of windows in flight"),
    ("runtime/cpu/src/pool.rs", "lends a caller's slices to the pool for the length of a call"),
    ("runtime/plugin/src/cache.rs", "loads machine code that this program compiled"),
    ("runtime/plugin/src/deadline.rs", "reads the thread's CPU clock"),
    ("tests/bench/pin.rs", "pins threads to cores"),
    ("runtime/shared/src/map.rs", "reads and writes a mapped file"),
    ("runtime/shared/src/process.rs", "asks for the clock that processes share, and for a process"),
    ("runtime/shared/src/tests/allocations.rs", "counts allocations"),
];

fn metadata() -> Value {
    // For this machine alone: crates of other platforms need not be here.
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_dev(dependency: &Value) -> bool {
    dependency["kind"] == "dev"
}

#[test]
fn crates_depend_only_along_the_allowed_edges() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let members: Vec<&Value> =
        metadata["packages"].as_array().unwrap().iter().filter(|p| p["source"].is_null()).collect();
    let names: BTreeSet<&str> = members.iter().map(|p| p["name"].as_str().unwrap()).collect();
    for package in &members {
        let name = package["name"].as_str().unwrap();
        if name == "tests" || name == "xtask" {
            continue;
        }
        let Some(may) = allowed.get(name) else {
            panic!("{name} has no line in EDGES: say what it may depend on")
        };
        for dependency in package["dependencies"].as_array().unwrap().iter().filter(|d| !is_dev(d)) {
            let to = dependency["name"].as_str().unwrap();
            assert!(!names.contains(to) || may.contains(&to), "{name} must not depend on {to}");
            if let Some((_, only)) = HEAVY.iter().find(|(heavy, _)| *heavy == to) {
                assert_eq!(name, *only, "{to} may be named by {only} alone");
            }
        }
    }
    let graph = members.iter().find(|p| p["name"] == "graph").unwrap();
    assert!(graph["dependencies"].as_array().unwrap().iter().all(is_dev), "graph has no third-party crates");
}

#[test]
fn heavy_crates_stand_in_the_lock_file_once() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        versions
            .entry(package["name"].as_str().unwrap())
            .or_default()
            .insert(package["version"].as_str().unwrap());
    }
    let once = [
        "wasmtime",
        "cranelift-codegen",
        "tract-core",
        "tract-linalg",
        "tokio",
        "hyper",
        "parquet",
        "rustls",
        "ring",
        "clap",
        "prost",
        "regex",
    ];
    for name in once {
        let found = versions.get(name).map_or(0, BTreeSet::len);
        assert!(found <= 1, "{name} is built in {:?}", versions[name]);
    }
}

/// One of the alternatives of each conjunct must be allowed.
fn licence_fits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let text = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let any = |part: &str| part.split(" OR ").any(|one| allowed.contains(one.trim()));
    text.split(" AND ").all(any)
}

#[test]
fn every_licence_is_listed() {
    let deny: toml::Table = std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let allowed: BTreeSet<String> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap().to_string())
        .collect();
    assert!(
        !licence_fits("GPL-3.0", &allowed) && licence_fits("GPL-3.0 OR MIT", &allowed),
        "the check checks"
    );
    assert!(!licence_fits("MIT AND GPL-3.0", &allowed));
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let looked_at =
            LICENCE_FILES.iter().find(|(looked_at, _)| *looked_at == name).map(|(_, licence)| *licence);
        let Some(licence) = package["license"].as_str().or(looked_at) else {
            panic!("{name} names no licence: look at it before it is used");
        };
        assert!(licence_fits(licence, &allowed), "{name}: {licence} is not in deny.toml");
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_stands_only_in_the_listed_modules_and_says_why() {
    let mut files = Vec::new();
    for folder in ["runtime", "tests", "xtask"] {
        sources(&root().join(folder), &mut files);
    }
    let word = ["un", "safe"].concat();
    let mut used = BTreeSet::new();
    for file in files {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        if relative == "runtime/plugin/src/toolchain/tests.rs" {
            // It stands there in the text of a plugin that is to be refused.
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains(&format!("{word} {{")) && !code.contains(&format!("{word} impl")) {
                continue;
            }
            let listed = UNSAFE.iter().find(|(module, _)| relative.starts_with(module));
            let Some((module, _)) = listed else { panic!("{relative}:{} is not in UNSAFE", i + 1) };
            used.insert(*module);
            let near = lines[i.saturating_sub(12)..=i].iter().any(|l| l.contains("SAFETY:"));
            assert!(near, "{relative}:{} has no SAFETY line above it", i + 1);
        }
    }
    for (module, _) in UNSAFE {
        assert!(used.contains(module), "{module} holds none any more: take it off the list");
    }
}

#[test]
fn every_source_file_says_first_what_it_is() {
    let mut files = Vec::new();
    for folder in ["runtime", "tests", "xtask"] {
        sources(&root().join(folder), &mut files);
    }
    for file in files {
        // A module of unit tests is about what its parent is about.
        if file.ends_with("tests.rs")
            || file.components().any(|c| c.as_os_str() == "tests") && file.starts_with(root().join("runtime"))
        {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text.lines().find(|l| !l.starts_with("#!")).unwrap_or_default();
        assert!(first.starts_with("//!"), "{} begins with {first:?} instead of //!", file.display());
    }
}

#[test]
fn the_toolchain_file_names_no_target() {
    let text = std::fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    assert!(text.contains("channel = \"stable\"") && !text.contains("targets"));
}
