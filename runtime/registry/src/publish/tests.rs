use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::Version;
use crate::manifest::tests::sample;

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn hidden_entries(home: &Path) -> usize {
    let entries = fs::read_dir(home).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
}

/// What a kill at each step would leave on disk opens as the old versions, or as the old ones and the new one.
#[test]
fn a_stop_at_any_step_leaves_old_or_new() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path().join("models")).unwrap();
    registry.publish(sample(), &[(MODEL_FILE, b"first")]).unwrap();
    let (mut steps, mut outcomes, mut leftovers) = (Vec::new(), Vec::new(), 0);
    registry
        .place(sample(), &[(MODEL_FILE, b"second"), ("extra", b"e")], &Numbering::Next, &mut |step| {
            let copy = dir.path().join(format!("stopped-{}", steps.len()));
            copy_tree(registry.root(), &copy);
            leftovers += hidden_entries(&copy.join("lstm-btc"));
            let reopened = Registry::open(&copy).unwrap();
            assert_eq!(hidden_entries(&copy.join("lstm-btc")), 0, "leftovers stay after {step:?}");
            let listing = reopened.list().unwrap();
            let versions = listing.models[0].versions.clone();
            for &version in &versions {
                reopened.load("lstm-btc", Version::Number(version)).unwrap();
            }
            outcomes.push(versions);
            steps.push(step);
        })
        .unwrap();
    use Step::*;
    assert_eq!(steps, [Locked, Created, Wrote, Wrote, Wrote, Committed]);
    assert_eq!(outcomes[..5], vec![vec![1]; 5]);
    assert_eq!(outcomes[5], [1, 2]);
    assert!(leftovers > 0, "the stops must have left something to remove");
}

#[test]
fn a_running_publication_is_not_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    registry
        .place(sample(), &[(MODEL_FILE, b"x")], &Numbering::Next, &mut |step| {
            if step == Step::Created {
                Registry::open(dir.path()).unwrap();
            }
        })
        .unwrap();
    assert!(registry.load("lstm-btc", Version::Latest).is_ok());
}

#[test]
fn concurrent_publishers_get_distinct_versions() {
    let dir = tempfile::tempdir().unwrap();
    let mut versions: Vec<u32> = std::thread::scope(|scope| {
        let publish = |content: u8| {
            let registry = Registry::open(dir.path()).unwrap();
            (0..5)
                .map(|_| registry.publish(sample(), &[(MODEL_FILE, &[content])]).unwrap().version)
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || publish(n))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>());
    let registry = Registry::open(dir.path()).unwrap();
    for version in versions {
        registry.load("lstm-btc", Version::Number(version)).unwrap();
    }
}

#[test]
fn opening_alone_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    Registry::open(dir.path()).unwrap().list().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_refused_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let mut bad = sample();
    bad.label.scale = 0.0;
    assert!(matches!(registry.publish(bad, &[(MODEL_FILE, b"x")]), Err(PublishError::Manifest(_))));
    assert!(matches!(registry.publish(sample(), &[]), Err(PublishError::File(_))));
    let twice = [(MODEL_FILE, &b"x"[..]), (MODEL_FILE, b"y")];
    assert!(matches!(registry.publish(sample(), &twice), Err(PublishError::File(_))));
    assert_eq!(registry.list().unwrap(), crate::Listing::default());
}

const PUBLISH_INTO: &str = "REGISTRY_TEST_PUBLISH_INTO";

/// Publishes without end where the variable names a directory: the process that the next test kills.
#[test]
fn publisher_process() {
    let own = tempfile::tempdir().unwrap();
    let endless = std::env::var_os(PUBLISH_INTO);
    let registry = Registry::open(endless.clone().map_or(own.path().to_path_buf(), PathBuf::from)).unwrap();
    loop {
        let published = registry.publish(sample(), &[(MODEL_FILE, &[7; 100_000])]).unwrap();
        assert!(published.path.join(MANIFEST_FILE).exists());
        if endless.is_none() {
            return;
        }
    }
}

#[test]
fn killed_publishers_leave_whole_versions() {
    let dir = tempfile::tempdir().unwrap();
    for kill in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "publish::tests::publisher_process"])
            .env(PUBLISH_INTO, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 13 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        assert_eq!(hidden_entries(&dir.path().join("lstm-btc")), 0);
        let listing = registry.list().unwrap();
        for version in listing.models.iter().flat_map(|m| &m.versions) {
            registry.load("lstm-btc", Version::Number(*version)).unwrap();
        }
    }
    let registry = Registry::open(dir.path()).unwrap();
    assert!(!registry.list().unwrap().models[0].versions.is_empty(), "the publishers must have published");
}
