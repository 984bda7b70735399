use std::fs;

use super::*;
use crate::manifest::tests::sample;

const AT: &str = "2024-05-01T00:00:00Z";

fn registry() -> (tempfile::TempDir, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path().join("models")).unwrap();
    (dir, registry)
}

fn run(data: &str, key: &str) -> Run {
    let question = Question { data: sha256_hex(data.as_bytes()), label: "log_return over 1 bars".into() };
    Run { question, key: key.into(), name: "a study".into() }
}

#[test]
fn runs_are_counted_by_question_and_key() {
    let (_dir, registry) = registry();
    let note = |data: &str, key: &str| registry.note_run(&run(data, key), AT).unwrap().trials;
    assert_eq!((note("a", "x/0"), note("a", "x/1"), note("b", "x/0")), (1, 2, 1));
    assert_eq!(note("a", "x/1"), 2, "the same run again");
    let mut other = run("a", "x/2");
    other.question.label = "realised_volatility over 1 bars".into();
    assert_eq!(registry.note_run(&other, AT).unwrap().trials, 1);
    let ledger = registry.ledger().unwrap();
    assert_eq!((ledger.runs.len(), ledger.questions().len(), ledger.versions_before), (4, 3, 0));
    assert_eq!(registry.list().unwrap(), Default::default(), "it is no model and no stray");
    let mut bad = run("a", "x/3");
    bad.name = "two\nlines".into();
    assert!(registry.note_run(&bad, AT).is_err());
}

#[test]
fn writers_at_once_lose_nothing() {
    let (_dir, registry) = registry();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let registry = &registry;
            scope.spawn(move || {
                for i in 0..25 {
                    registry.note_run(&run("a", &format!("{writer}/{i}")), AT).unwrap();
                }
            });
        }
    });
    assert_eq!(registry.count_trials(&run("a", "-").question).unwrap().trials, 100);
}

#[test]
fn an_altered_line_shows_and_a_torn_one_is_dropped() {
    let (_dir, registry) = registry();
    for i in 0..5 {
        registry.note_run(&run("a", &format!("x/{i}")), AT).unwrap();
    }
    let path = registry.root().join(LEDGER_FILE);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Every line but the last: taken out, or with another key.
    for at in 1..5 {
        let mut without = lines.clone();
        without.remove(at);
        fs::write(&path, without.join("\n") + "\n").unwrap();
        let error = registry.note_run(&run("a", "y"), AT).unwrap_err();
        assert!(matches!(error, LedgerError::Altered { line, .. } if line == at as u64 + 1), "{error}");
        let key = format!("x/{}", at - 1);
        fs::write(&path, text.replace(&key, "x/9")).unwrap();
        assert!(registry.ledger().is_err(), "{at}");
    }
    for cut in 1..lines[5].len() {
        fs::write(&path, &text.as_bytes()[..text.len() - 1 - cut]).unwrap();
        let torn = registry.ledger().unwrap();
        assert_eq!((torn.runs.len(), torn.torn_bytes > 0), (4, cut < lines[5].len()), "{cut}");
    }
    assert_eq!(registry.note_run(&run("a", "x/4"), AT).unwrap().trials, 5);
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "as if nothing had been");
}

#[test]
fn a_cut_or_deleted_ledger_doesnt_lower_what_manifests_say() {
    let (_dir, registry) = registry();
    let mut manifest = sample();
    let label = label_text(manifest.label.kind, manifest.label.horizon_bars, manifest.label.gaps);
    let question = Question { data: manifest.data.digest.clone(), label };
    let run = |key: &str| Run { question: question.clone(), key: key.into(), name: "x".into() };
    manifest.training.trials = 30;
    registry.publish(manifest, &[(crate::folder::MODEL_FILE, b"onnx")]).unwrap();
    let count = registry.note_run(&run("0"), AT).unwrap();
    assert_eq!(count, Count { trials: 30, in_ledger: 1, in_manifests: 30 });
    assert_eq!(registry.ledger().unwrap().versions_before, 1, "it began after a model");
    fs::remove_file(registry.root().join(LEDGER_FILE)).unwrap();
    assert_eq!(registry.count_trials(&question).unwrap().trials, 30);
}
