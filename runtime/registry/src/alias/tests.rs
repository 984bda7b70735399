use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::folder::MODEL_FILE;
use crate::manifest::tests::sample;

const NAME: &str = "lstm-btc";
const AUTHOR: Author = Author { at: "2025-02-03T04:05:06Z", who: "ann", why: "better on \"\\} June" };

fn published(versions: usize) -> (tempfile::TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path().join("models")).unwrap();
    for _ in 0..versions {
        registry.publish(sample(), &[(MODEL_FILE, b"onnx")]).unwrap();
    }
    (dir, registry)
}

fn file(registry: &Registry) -> PathBuf {
    registry.root().join(NAME).join(HISTORY_FILE)
}

fn champion(registry: &Registry) -> Option<u32> {
    registry.history(NAME).unwrap().at("champion")
}

#[test]
fn an_alias_is_set_moved_rolled_back_and_removed() {
    let (_dir, registry) = published(3);
    let set = |to| registry.set_alias(NAME, "champion", to, AUTHOR).unwrap();
    assert_eq!(champion(&registry), None);
    assert_eq!(set(1).unwrap().from, None);
    assert_eq!(set(2).unwrap().from, Some(1));
    assert_eq!(set(2), None, "it is there already");
    set(3);
    registry.set_alias(NAME, "challenger", 1, AUTHOR).unwrap();
    let back = |to| {
        let change = registry.roll_back(NAME, "champion", AUTHOR).unwrap();
        assert_eq!((change.kind, change.to), (ChangeKind::Rollback, Some(to)));
        assert_eq!(champion(&registry), Some(to));
    };
    back(2);
    back(1);
    let error = registry.roll_back(NAME, "champion", AUTHOR).unwrap_err();
    assert_eq!(error, AliasError::NothingBefore { alias: "champion".into(), at: Some(1) });
    set(3);
    back(1);
    registry.remove_alias(NAME, "champion", AUTHOR).unwrap().unwrap();
    assert_eq!(champion(&registry), None);
    assert_eq!(registry.remove_alias(NAME, "champion", AUTHOR).unwrap(), None);
    assert!(registry.roll_back(NAME, "champion", AUTHOR).is_err(), "nothing before a removal comes back");
    let history = registry.history(NAME).unwrap();
    assert_eq!(history.aliases().collect::<Vec<_>>(), [("challenger", 1)]);
    assert_eq!(history.changes.len(), 9);
    assert_eq!(history.changes[0].why, AUTHOR.why);
    assert_eq!(registry.list().unwrap().strays, Vec::<PathBuf>::new());
}

#[test]
fn references_lead_to_versions() {
    let (_dir, registry) = published(3);
    registry.set_alias(NAME, "champion", 2, AUTHOR).unwrap();
    let load = |text: &str| {
        let folder = registry.load_reference(&Reference::parse(text).unwrap());
        folder.map(|f| f.manifest.version).map_err(|e| e.to_string())
    };
    assert_eq!(load("models:/lstm-btc@champion"), Ok(2));
    assert_eq!(load("models:/lstm-btc"), Ok(3));
    assert_eq!(load("lstm-btc/1"), Ok(1));
    let error = load("lstm-btc@challenger").unwrap_err();
    assert!(error.contains("no alias 'challenger'") && error.contains("champion"), "{error}");
    assert!(load("other@champion").unwrap_err().contains("lstm-btc"));
}

#[test]
fn what_cannot_be_pointed_at_is_refused() {
    let (_dir, registry) = published(1);
    let set = |name: &str, alias: &str, to, author| registry.set_alias(name, alias, to, author).unwrap_err();
    assert!(matches!(set(NAME, "champion", 2, AUTHOR), AliasError::Version(LoadError::NoVersion { .. })));
    assert!(matches!(set("other", "champion", 1, AUTHOR), AliasError::Version(LoadError::NoModel { .. })));
    assert!(matches!(set("../x", "champion", 1, AUTHOR), AliasError::Version(LoadError::Name(_))));
    for alias in ["", "latest", "../x", "A"] {
        assert!(matches!(set(NAME, alias, 1, AUTHOR), AliasError::Alias(_)), "{alias}");
    }
    let long = "x".repeat(2000);
    let bad = [
        Author { at: "yesterday", ..AUTHOR },
        Author { who: "", ..AUTHOR },
        Author { who: "a\nb", ..AUTHOR },
        Author { why: &long, ..AUTHOR },
    ];
    for author in bad {
        assert!(matches!(set(NAME, "champion", 1, author), AliasError::Author(_)), "{author:?}");
    }
    fs::write(registry.root().join(NAME).join("1").join(MODEL_FILE), b"other").unwrap();
    assert!(matches!(set(NAME, "champion", 1, AUTHOR), AliasError::Version(LoadError::Digest { .. })));
    assert!(!file(&registry).exists(), "nothing was written");
}

#[test]
fn there_are_only_so_many_aliases() {
    let (_dir, registry) = published(1);
    for n in 0..ALIASES_MAX {
        registry.set_alias(NAME, &format!("a{n}"), 1, AUTHOR).unwrap();
    }
    assert_eq!(registry.set_alias(NAME, "more", 1, AUTHOR), Err(AliasError::TooMany));
    registry.remove_alias(NAME, "a0", AUTHOR).unwrap();
    registry.set_alias(NAME, "more", 1, AUTHOR).unwrap();
}

/// A kill while the second line is written leaves some of its bytes, whichever: the alias is where it was until all
/// of them are there, and the next move goes on from what is read.
#[test]
fn a_stop_at_any_byte_leaves_old_or_new() {
    let (_dir, registry) = published(3);
    registry.set_alias(NAME, "champion", 1, AUTHOR).unwrap();
    let before = fs::read(file(&registry)).unwrap();
    registry.set_alias(NAME, "champion", 2, AUTHOR).unwrap();
    let after = fs::read(file(&registry)).unwrap();
    for length in before.len()..=after.len() {
        fs::write(file(&registry), &after[..length]).unwrap();
        let expected = if length == after.len() { 2 } else { 1 };
        assert_eq!(champion(&registry), Some(expected), "{length} of {} bytes", after.len());
        let change = registry.set_alias(NAME, "champion", 3, AUTHOR).unwrap().unwrap();
        assert_eq!(change.from, Some(expected));
        assert_eq!(champion(&registry), Some(3));
    }
    // A disk that grew the file and lost the bytes.
    fs::write(file(&registry), [&before[..], &[0; 300]].concat()).unwrap();
    assert_eq!(champion(&registry), Some(1));
}

#[test]
fn a_line_that_was_changed_taken_out_or_put_in_is_found() {
    let (_dir, registry) = published(3);
    for to in [1, 2, 3] {
        registry.set_alias(NAME, "champion", to, AUTHOR).unwrap();
    }
    let text = fs::read_to_string(file(&registry)).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let check = |text: String, line: usize| {
        fs::write(file(&registry), &text).unwrap();
        match registry.history(NAME) {
            Err(HistoryError::Damaged { reason, .. }) => assert_eq!(reason.line, line, "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(registry.set_alias(NAME, "champion", 1, AUTHOR).is_err());
        assert_eq!(fs::read_to_string(file(&registry)).unwrap(), text, "it stays as it is");
    };
    check(text.replacen("ann", "eve", 1), 1);
    check([lines[0], lines[2]].concat(), 2);
    check([lines[1], lines[2]].concat(), 1);
    check([lines[0], lines[0], lines[1]].concat(), 2);
    check(format!("{}{}{}", lines[0], "{}\n", lines[1]), 2);
    let line = lines[1].replace("\"to\":2", "\"to\":9");
    check([lines[0], &line, lines[2]].concat(), 2);
}

#[test]
fn a_link_or_a_large_file_is_no_history() {
    let (dir, registry) = published(1);
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    symlink(&elsewhere, file(&registry)).unwrap();
    assert!(matches!(registry.history(NAME), Err(HistoryError::Read { .. })));
    assert!(registry.set_alias(NAME, "champion", 1, AUTHOR).is_err());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");
    fs::remove_file(file(&registry)).unwrap();
    File::create(file(&registry)).unwrap().set_len(HISTORY_BYTES_MAX + 1).unwrap();
    assert!(matches!(registry.history(NAME), Err(HistoryError::Read { .. })));
}

#[test]
fn concurrent_writers_make_one_chain_and_readers_see_whole_moves() {
    let (dir, registry) = published(3);
    let root = dir.path().join("models");
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u32)
            .map(|n| {
                let root = &root;
                scope.spawn(move || {
                    let registry = Registry::open(root).unwrap();
                    for round in 0..25 {
                        registry.set_alias(NAME, "champion", (n + round) % 3 + 1, AUTHOR).unwrap();
                    }
                })
            })
            .collect();
        let mut seen = 0;
        while !writers.iter().all(|w| w.is_finished()) {
            let changes = registry.history(NAME).unwrap().changes.len();
            assert!(changes >= seen, "a history only grows");
            seen = changes;
        }
    });
    let history = registry.history(NAME).unwrap();
    assert!(history.changes.len() >= 25);
    for pair in history.changes.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
    }
}

const MOVE_IN: &str = "REGISTRY_TEST_MOVE_IN";

/// Moves an alias without end where the variable names a directory: the process that the next test kills.
#[test]
fn mover_process() {
    let Some(root) = std::env::var_os(MOVE_IN) else { return };
    let registry = Registry::open(Path::new(&root)).unwrap();
    for to in (1..=3).cycle() {
        registry.set_alias(NAME, "champion", to, AUTHOR).unwrap();
    }
}

#[test]
fn killed_movers_leave_whole_moves() {
    let kills = if std::env::var("TEST_COUNTS").is_ok_and(|v| v == "full") { 200 } else { 12 };
    let (dir, registry) = published(3);
    let mut before = 0;
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "alias::tests::mover_process"])
            .env(MOVE_IN, dir.path().join("models"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + 7 * (kill % 11)));
        child.kill().unwrap();
        child.wait().unwrap();
        let changes = registry.history(NAME).unwrap().changes.len();
        assert!(changes >= before, "moves that were made are still there");
        before = changes;
    }
    assert!(before > 0, "the movers must have moved it");
}
