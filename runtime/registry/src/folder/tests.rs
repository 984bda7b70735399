use std::os::unix::fs::symlink;

use super::*;
use crate::manifest::tests::sample;

const ONNX: &[u8] = b"onnx bytes";

fn published(versions: usize) -> (tempfile::TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path().join("models")).unwrap();
    for _ in 0..versions {
        registry.publish(sample(), &[(MODEL_FILE, ONNX)]).unwrap();
    }
    (dir, registry)
}

#[test]
fn loads_what_was_published() {
    let (_dir, registry) = published(2);
    let mut other = sample();
    other.name = "another".into();
    registry.publish(other, &[(MODEL_FILE, b"x"), ("curve.csv", b"1,2")]).unwrap();

    let listing = registry.list().unwrap();
    let models: Vec<_> = listing.models.iter().map(|m| (m.name.as_str(), m.versions.clone())).collect();
    assert_eq!(models, [("another", vec![1]), ("lstm-btc", vec![1, 2])]);
    assert_eq!(listing.strays, Vec::<PathBuf>::new());

    let latest = registry.load("lstm-btc", Version::Latest).unwrap();
    assert_eq!((latest.manifest.version, latest.onnx.as_slice()), (2, ONNX));
    assert_eq!(registry.load("lstm-btc", Version::Number(1)).unwrap().manifest.version, 1);
    let text = fs::read(latest.path.join(MANIFEST_FILE)).unwrap();
    assert_eq!(latest.digest, sha256_hex(&text));
}

#[test]
fn versions_sort_as_numbers() {
    let (_dir, registry) = published(11);
    assert_eq!(registry.load("lstm-btc", Version::Latest).unwrap().manifest.version, 11);
}

#[test]
fn a_changed_file_names_both_digests() {
    let (_dir, registry) = published(1);
    let path = registry.load("lstm-btc", Version::Latest).unwrap().path.join(MODEL_FILE);
    fs::write(&path, b"onnx bytez").unwrap();
    let error = registry.load("lstm-btc", Version::Latest).unwrap_err();
    let message = error.to_string();
    for part in ["model.onnx", &sha256_hex(ONNX), &sha256_hex(b"onnx bytez"), "restore the file"] {
        assert!(message.contains(part), "{message}");
    }
    fs::remove_file(&path).unwrap();
    let error = registry.load("lstm-btc", Version::Latest).unwrap_err();
    assert!(matches!(error, LoadError::Read { .. }), "{error}");
}

#[test]
fn missing_models_and_versions_say_what_is_there() {
    let (_dir, registry) = published(2);
    let message = registry.load("lstm", Version::Latest).unwrap_err().to_string();
    assert!(message.contains("lstm-btc"), "{message}");
    let message = registry.load("lstm-btc", Version::Number(9)).unwrap_err().to_string();
    assert!(message.contains("no version 9") && message.contains("[1, 2]"), "{message}");
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let (_dir, registry) = published(1);
    for name in ["../models/lstm-btc", "..", "", "/etc", "lstm-btc/1", "LSTM"] {
        assert!(matches!(registry.load(name, Version::Latest), Err(LoadError::Name(_))), "{name}");
    }
    let mut manifest = sample();
    manifest.name = "../outside".into();
    assert!(registry.publish(manifest, &[(MODEL_FILE, ONNX)]).is_err());
    assert!(!registry.root().join("../outside").exists());
    for file in ["../evil", "a/b", MANIFEST_FILE, ".hidden"] {
        assert!(registry.publish(sample(), &[(MODEL_FILE, ONNX), (file, b"")]).is_err(), "{file}");
    }
    assert_eq!(registry.list().unwrap().models[0].versions, [1]);
}

#[test]
fn links_are_refused_at_every_level() {
    let (dir, registry) = published(1);
    let real = registry.root().join("lstm-btc");
    symlink(&real, registry.root().join("linked")).unwrap();
    assert!(matches!(registry.load("linked", Version::Latest), Err(LoadError::Link { .. })));
    symlink(real.join("1"), real.join("2")).unwrap();
    assert!(matches!(registry.load("lstm-btc", Version::Number(2)), Err(LoadError::NoVersion { .. })));
    let strays = registry.list().unwrap().strays;
    assert_eq!(strays, [registry.root().join("linked"), real.join("2")]);

    let outside = dir.path().join("outside");
    fs::write(&outside, ONNX).unwrap();
    fs::remove_file(real.join("1").join(MODEL_FILE)).unwrap();
    symlink(&outside, real.join("1").join(MODEL_FILE)).unwrap();
    assert!(matches!(registry.load("lstm-btc", Version::Number(1)), Err(LoadError::Link { .. })));
}

#[test]
fn a_folder_moved_to_another_version_is_refused() {
    let (_dir, registry) = published(1);
    let home = registry.root().join("lstm-btc");
    fs::rename(home.join("1"), home.join("5")).unwrap();
    let error = registry.load("lstm-btc", Version::Number(5)).unwrap_err();
    assert!(matches!(error, LoadError::Misplaced { .. }), "{error}");
}

#[test]
fn a_broken_manifest_is_an_error_with_its_path() {
    let (_dir, registry) = published(1);
    let path = registry.root().join("lstm-btc/1").join(MANIFEST_FILE);
    for bytes in [&b"\xff\xfe"[..], b"", b"format = 1\n", b"[[["] {
        fs::write(&path, bytes).unwrap();
        let message = registry.load("lstm-btc", Version::Latest).unwrap_err().to_string();
        assert!(message.contains("lstm-btc/1/manifest.toml"), "{message}");
    }
}
