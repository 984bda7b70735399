use super::*;
use crate::folder::MODEL_FILE;
use crate::manifest::tests::sample;

const NAME: &str = "lstm-btc";

fn registry() -> (tempfile::TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path().join("models")).unwrap();
    (dir, registry)
}

fn published(versions: usize) -> (tempfile::TempDir, Registry) {
    let (dir, registry) = registry();
    for n in 0..versions {
        registry.publish(sample(), &[(MODEL_FILE, &[n as u8; 700]), ("curve.csv", b"1,2")]).unwrap();
    }
    (dir, registry)
}

fn exported(registry: &Registry, version: u32) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.tar");
    registry.export(NAME, Version::Number(version), &path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn what_was_exported_comes_in_to_the_byte_under_its_number() {
    let (_from, source) = published(3);
    let (_to, target) = registry();
    let bytes = exported(&source, 3);
    assert_eq!(bytes, exported(&source, 3), "the same version gives the same bytes");
    let imported = target.import(&mut &bytes[..], None).unwrap();
    assert_eq!((imported.published.version, imported.already), (3, false));
    let [a, b] = [&source, &target].map(|r| r.load(NAME, Version::Number(3)).unwrap());
    assert_eq!((a.digest, a.onnx, a.manifest), (b.digest, b.onnx, b.manifest));
    let again = target.import(&mut &bytes[..], None).unwrap();
    assert!(again.already);
    assert_eq!(target.list().unwrap().models[0].versions, [3]);
}

#[test]
fn a_number_that_is_taken_or_too_low_becomes_the_next() {
    let (_from, source) = published(2);
    let (_to, target) = published(1);
    let mut other = sample();
    other.label.horizon_bars = 9;
    target.publish(other, &[(MODEL_FILE, b"other")]).unwrap();
    let imported = target.import(&mut &exported(&source, 2)[..], None).unwrap();
    assert_eq!((imported.published.version, imported.was.as_str()), (3, "lstm-btc/2"));
    let folder = target.load(NAME, Version::Latest).unwrap();
    assert_eq!((folder.manifest.version, folder.onnx[0]), (3, 1));
}

#[test]
fn another_name_is_taken() {
    let (_from, source) = published(2);
    let (_to, target) = registry();
    let imported = target.import(&mut &exported(&source, 2)[..], Some("btc")).unwrap();
    assert_eq!((imported.name.as_str(), imported.was.as_str()), ("btc", "lstm-btc/2"));
    assert_eq!(target.load("btc", Version::Latest).unwrap().manifest.name, "btc");
    let error = target.import(&mut &exported(&source, 2)[..], Some("../btc")).unwrap_err();
    assert!(matches!(error, ImportError::Publish(PublishError::Name(_))), "{error}");
}

#[test]
fn an_export_is_whole_or_not_there() {
    let (dir, source) = published(1);
    let path = dir.path().join("one.tar");
    fs::write(&path, b"mine").unwrap();
    let error = source.export(NAME, Version::Latest, &path).unwrap_err();
    assert!(matches!(error, ExportError::Exists(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    let absent = dir.path().join("no/such/folder/one.tar");
    assert!(matches!(source.export(NAME, Version::Latest, &absent), Err(ExportError::Write(_))));
    fs::write(source.root().join(NAME).join("1").join("curve.csv"), b"3,4").unwrap();
    let error = source.export(NAME, Version::Latest, &dir.path().join("two.tar")).unwrap_err();
    assert!(matches!(error, ExportError::Load(LoadError::Digest { .. })), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "models and one.tar alone");
}

/// Entries as a hostile hand would write them.
struct Forged(tar::Builder<Vec<u8>>);

impl Forged {
    fn new() -> Forged {
        Forged(tar::Builder::new(Vec::new()))
    }

    fn raw(mut self, name: &str, kind: tar::EntryType, link: &str, size: u64, bytes: &[u8]) -> Forged {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_ustar_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o777);
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    fn file(self, name: &str, bytes: &[u8]) -> Forged {
        self.raw(name, tar::EntryType::Regular, "", bytes.len() as u64, bytes)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut manifest = sample();
    manifest.files = files.iter().map(|(name, bytes)| (name.to_string(), sha256_hex(bytes))).collect();
    manifest.to_text().unwrap().into_bytes()
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    use tar::EntryType::{Char, Directory, Fifo, GNULongName, GNUSparse, Link, Symlink, XHeader};
    let (dir, target) = registry();
    let good = manifest(&[(MODEL_FILE, b"onnx")]);
    let begun = || Forged::new().file(MANIFEST_FILE, &good);
    let onnx = || begun().file(MODEL_FILE, b"onnx");
    let huge = FILE_BYTES_MAX + 1;
    let cut = {
        let bytes = onnx().bytes();
        bytes[..bytes.len() - 1024 - 510].to_vec()
    };
    let mut many = Forged::new().file(MANIFEST_FILE, &good);
    for _ in 0..=FILES_MAX {
        many = many.file(MODEL_FILE, b"onnx");
    }
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "empty"),
        ("no tar", b"PK\x03\x04".repeat(200), "can't be read"),
        ("zeros", vec![0; 4096], "empty"),
        ("path up", onnx().file("../evil", b"x").bytes(), "has a path"),
        ("absolute path", onnx().file("/tmp/evil", b"x").bytes(), "has a path"),
        ("folder", onnx().file("a/b", b"x").bytes(), "has a path"),
        ("hidden", onnx().file(".lock", b"x").bytes(), "has a path"),
        ("directory", begun().raw("d", Directory, "", 0, b"").bytes(), "not a plain file"),
        ("symlink", begun().raw(MODEL_FILE, Symlink, "/etc/passwd", 0, b"").bytes(), "not a plain file"),
        ("hard link", begun().raw(MODEL_FILE, Link, "/etc/passwd", 0, b"").bytes(), "not a plain file"),
        ("device", begun().raw(MODEL_FILE, Char, "", 0, b"").bytes(), "not a plain file"),
        ("pipe", begun().raw(MODEL_FILE, Fifo, "", 0, b"").bytes(), "not a plain file"),
        ("sparse", begun().raw(MODEL_FILE, GNUSparse, "", 0, b"").bytes(), "not a plain file"),
        ("long name", begun().raw("x", GNULongName, "", 4, b"name").bytes(), "not a plain file"),
        ("extended header", begun().raw("x", XHeader, "", 4, b"name").bytes(), "not a plain file"),
        ("oversize", begun().raw(MODEL_FILE, tar::EntryType::Regular, "", huge, b"").bytes(), "at most"),
        ("no manifest", Forged::new().file(MODEL_FILE, b"onnx").bytes(), "begins with"),
        (
            "large manifest",
            Forged::new().file(MANIFEST_FILE, &vec![b' '; TEXT_BYTES_MAX + 1]).bytes(),
            "at most",
        ),
        ("broken manifest", Forged::new().file(MANIFEST_FILE, b"format = 1\n").bytes(), "manifest"),
        ("no text", Forged::new().file(MANIFEST_FILE, b"\xff\xfe").bytes(), "not text"),
        ("changed file", begun().file(MODEL_FILE, b"other").bytes(), "SHA-256"),
        ("missing file", begun().bytes(), "is missing"),
        ("unlisted file", onnx().file("more.bin", b"x").bytes(), "not in the manifest"),
        ("manifest twice", onnx().file(MANIFEST_FILE, &good).bytes(), "not in the manifest"),
        ("twice", onnx().file(MODEL_FILE, b"onnx").bytes(), "twice"),
        ("many", many.bytes(), "twice"),
        ("cut off", cut, "cut off"),
    ];
    for (case, bytes, expected) in cases {
        let error = target.import(&mut &bytes[..], None).unwrap_err().to_string();
        assert!(error.contains(expected), "{case}: {error}");
        assert_eq!(target.list().unwrap(), crate::Listing::default(), "{case}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the models");
    assert!(target.import(&mut &onnx().bytes()[..], None).is_ok());
}

#[test]
fn bytes_changed_anywhere_never_come_in_as_another_version() {
    let (_from, source) = published(1);
    let bytes = exported(&source, 1);
    let original = source.load(NAME, Version::Number(1)).unwrap();
    for at in (0..bytes.len()).step_by(37) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let (_to, target) = registry();
        if let Ok(imported) = target.import(&mut &changed[..], None) {
            let found = target.load(&imported.name, Version::Number(imported.published.version)).unwrap();
            assert_eq!(found.onnx, original.onnx, "byte {at}");
        }
    }
}
