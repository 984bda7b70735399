use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::digest::sha256_hex;
use crate::host::HostError;
use crate::metadata::{Metadata, embed};
use crate::survey::{LoadErrorKind, World};

fn refused(bytes: &[u8]) -> LoadErrorKind {
    host().load_bytes("some", bytes).expect_err("refused").kind
}

/// The component with one text put for another of the same length, wherever it stands.
fn patched(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes(name);
    let mut count = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            count += 1;
        }
    }
    assert!(count > 0, "{from} is not in {name}");
    bytes
}

#[test]
fn a_component_says_who_it_is() {
    let component = hostile_features();
    assert_eq!(component.id(), "hostile-features@0.1.0");
    assert_eq!(component.world(), World::Features);
    assert_eq!(component.digest(), sha256_hex(&bytes("hostile-features.wasm")));
    assert_eq!(component.size_bytes(), bytes("hostile-features.wasm").len());
    assert_eq!(component.imports(), ["alphaplus:plugin/log@0.1.1", "alphaplus:plugin/types@0.1.1"]);
    assert!(component.exports().contains(&"alphaplus:plugin/feature-set@0.1.1".to_string()));
    assert_eq!(component.metadata().licence, "Apache-2.0");
}

#[test]
fn without_metadata_the_file_names_it() {
    let bytes = bytes("hostile-features.wasm");
    let marker = bytes.windows(16).rposition(|w| w == b"alphaplus:plugin").expect("the section");
    // Ids and lengths before the name are 4 bytes: 0, two bytes of length, and the name's length.
    let component = host().load_bytes("my features", &bytes[..marker - 3]).expect("loads");
    assert_eq!(component.id(), "my-features@0.0.0");
}

#[test]
fn metadata_must_fit_the_world() {
    let metadata = Metadata {
        name: "liar".into(),
        version: "1.0.0".into(),
        licence: String::new(),
        kind: "architecture".into(),
    };
    let bytes = embed(&bytes("hostile-features.wasm"), &metadata).expect("fits");
    let LoadErrorKind::Metadata(text) = refused(&bytes) else { panic!("loaded") };
    assert_eq!(text, "its metadata says architecture, but it exports features");
}

#[test]
fn what_is_not_a_component_is_refused() {
    assert_eq!(refused(b""), LoadErrorKind::NotWasm);
    assert_eq!(refused(&[0x5a; 10_000]), LoadErrorKind::NotWasm);
    assert_eq!(refused(b"\0asm\x01\0\0\0"), LoadErrorKind::CoreModule);
    let whole = bytes("hostile-features.wasm");
    for length in [8, 9, 100, whole.len() / 2, whole.len() - 1] {
        let error = host().load_bytes("cut", &whole[..length]).expect_err("cut").to_string();
        assert!(error.starts_with("plugin cut "), "{error}");
    }
}

#[test]
fn files_are_read_within_their_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = host().load(&folder.path().join("none.wasm")).expect_err("missing");
    assert!(matches!(error.kind, LoadErrorKind::Read(_)));
    assert!(error.to_string().contains("none.wasm can't be read"), "{error}");
    let limits = PluginLimits { component_bytes_max: 1_000, ..limits() };
    let small = Host::new(HostOptions { limits, ..HostOptions::default() }).expect("starts");
    let error = small.load(&path("hostile-features.wasm")).expect_err("too large");
    assert!(error.to_string().contains("at most 1000 go (component_bytes_max)"), "{error}");
    assert!(matches!(
        small.load_bytes("x", &[0; 1_001]).expect_err("too large").kind,
        LoadErrorKind::TooLarge { .. }
    ));
}

#[test]
fn wasi_is_refused_with_advice() {
    let bytes = patched("hostile-features.wasm", "alphaplus:plugin/log@0.1.1", "wasi:cli/environment@0.2.0");
    let error = host().load_bytes("some", &bytes).expect_err("WASI").to_string();
    assert_eq!(
        error,
        "plugin some imports wasi:cli/environment@0.2.0, which this appliance doesn't offer; there is no WASI here: \
         build it for wasm32-unknown-unknown"
    );
    // A features component has no business with the graph.
    let bytes =
        patched("hostile-features.wasm", "alphaplus:plugin/types@0.1.1", "alphaplus:plugin/graph@0.1.1");
    assert_eq!(refused(&bytes), LoadErrorKind::Imports(vec!["alphaplus:plugin/graph@0.1.1".into()]));
}

#[test]
fn another_version_of_the_wit_says_what_it_needs() {
    for version in ["0.2.0", "0.1.2", "1.1.0"] {
        let name = format!("alphaplus:plugin/log@{version}");
        let bytes = patched("hostile-features.wasm", "alphaplus:plugin/log@0.1.1", &name);
        assert_eq!(refused(&bytes), LoadErrorKind::Version { needs: name.clone() });
        let error = host().load_bytes("some", &bytes).expect_err("other").to_string();
        assert_eq!(error, format!("plugin some needs {name}; this appliance offers alphaplus:plugin 0.1.1"));
    }
    let set = "alphaplus:plugin/feature-set@";
    let bytes = patched("hostile-features.wasm", &format!("{set}0.1.1"), &format!("{set}0.2.0"));
    assert_eq!(refused(&bytes), LoadErrorKind::Version { needs: format!("{set}0.2.0") });
}

#[test]
fn a_component_of_no_world_is_refused() {
    let bytes = patched("hostile-features.wasm", "plugin/feature-set@0.1.1", "plugin/fixture-set@0.1.1");
    let LoadErrorKind::World { exports } = refused(&bytes) else { panic!("loaded") };
    assert_eq!(exports, ["alphaplus:plugin/fixture-set@0.1.1"]);
}

#[test]
fn a_schema_that_is_none_is_refused() {
    let bytes = patched("hostile-features.wasm", r#"{"properties":"#, r#"{"propertied":"#);
    let component = host().load_bytes("some", &bytes).expect("it is read when it runs");
    let error = FeaturePlugin::new(&component, &Map::new()).expect_err("no schema");
    assert!(error.message.contains("its schema is wrong: it must be a JSON object"), "{error}");
    let bytes = patched("hostile-architecture.wasm", r#""maximum": 512"#, r#""maximum": 0.5"#);
    let component = host().load_bytes("some", &bytes).expect("it is read when it runs");
    let error = crate::Architecture::new(&component).expect_err("no schema").to_string();
    assert!(error.contains("its schema is wrong: property \"hidden\" has the maximum 0.5"), "{error}");
}

fn cached(folder: &std::path::Path) -> Host {
    let cache_dir = Some(folder.to_path_buf());
    Host::new(HostOptions { cache_dir, limits: limits(), ..HostOptions::default() }).expect("starts")
}

/// Loads the features component; whether it came from the cache. It must run in any case.
fn load(host: &Host) -> bool {
    let component = host.load(&path("frozen-0.1.0-features.wasm")).expect("loads");
    FeaturePlugin::new(&component, &Map::new()).expect("runs");
    component.from_cache()
}

fn only_file(folder: &std::path::Path) -> PathBuf {
    let files: Vec<PathBuf> =
        fs::read_dir(folder).expect("there").map(|e| e.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn code_is_compiled_once_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    assert!(!load(&cached(&cache)));
    let file = only_file(&cache);
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with(&sha256_hex(&bytes("frozen-0.1.0-features.wasm"))), "{name}");
    assert!(load(&cached(&cache)));
    assert_eq!(fs::metadata(&cache).expect("there").permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_damaged_cache_is_compiled_over() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(!load(&cached(folder.path())));
    let file = only_file(folder.path());
    let good = fs::read(&file).expect("written");
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bad
    };
    let damages = [
        vec![],
        good[..40].to_vec(),
        good[..good.len() - 1].to_vec(),
        flipped(3),
        flipped(20),
        flipped(good.len() / 2),
    ];
    for damage in damages {
        fs::write(&file, &damage).expect("written");
        assert!(!load(&cached(folder.path())), "a damaged file was used");
        assert!(load(&cached(folder.path())), "it was not replaced");
    }
}

#[test]
fn a_cache_that_others_can_write_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(!load(&cached(folder.path())));
    let file = only_file(folder.path());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("set");
    assert!(!load(&cached(folder.path())), "anyone could have written it");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("set");
    let options = HostOptions { cache_dir: Some(folder.path().into()), ..HostOptions::default() };
    let Err(HostError::Cache(text)) = Host::new(options) else { panic!("it was accepted") };
    assert!(text.contains("chmod 700"), "{text}");
}

#[test]
fn a_link_in_the_cache_is_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(!load(&cached(folder.path())));
    let file = only_file(folder.path());
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&file, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, &file).expect("linked");
    assert!(!load(&cached(folder.path())));
}

#[test]
fn other_settings_have_other_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = cached(folder.path());
    assert!(!load(&host));
    let metered = host.metered().expect("starts");
    let other = crate::cache::Cache::open(folder.path(), &metered.shared.engine).expect("private");
    let digest = sha256_hex(&bytes("frozen-0.1.0-features.wasm"));
    assert!(other.get(&metered.shared.engine, &digest).is_none());
}

#[test]
fn the_cache_does_not_grow_without_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = cached(folder.path());
    for i in 0..100 {
        fs::write(folder.path().join(format!("{i}.code")), b"old").expect("written");
    }
    assert!(!load(&host));
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 64);
    assert!(load(&cached(folder.path())), "the newest stays");
}
