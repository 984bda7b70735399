//! Studies on disk: cut off at any byte they go on to the same trials, and two writers don't go.

use std::fs;
use std::path::Path;

use super::counts;
use crate::random::Random;
use crate::tune::journal::{JournalError, Notice};
use crate::tune::space::{Domain, Space};
use crate::tune::study::{Header, Record, Study};
use crate::tune::trial::{Outcome, Parameters, TrialState};
use crate::tune::{Pruner, Sampler};

fn header() -> Header {
    let mut space = Space::default();
    space.set("rate", Domain::Number { low: 1e-5, high: 1.0, log: true }).unwrap();
    space.set("units", Domain::Integer { low: 1, high: 64, log: false }).unwrap();
    Header {
        format: 1,
        study: "test".into(),
        created_at: market::Timestamp(1_700_000_000_000_000_000),
        seed: 3,
        sampler: Sampler::Tpe { startup_trials: 5, candidates: 24 },
        pruner: Pruner::Median { startup_trials: 3, warmup_steps: 0 },
        space,
        objective: serde_json::json!({"of": "a test"}),
    }
}

fn open(path: &Path) -> (Study, Vec<Notice>) {
    Study::open(path, header).unwrap()
}

fn value(parameters: &Parameters, step: u32) -> f64 {
    let rate = parameters["rate"].as_f64().unwrap().ln() + 5.0;
    rate * rate + parameters["units"].as_f64().unwrap() / 64.0 + 3.0 / f64::from(step)
}

/// Runs trials until so many have begun or `stop` says so after a write.
fn go_on(study: &mut Study, trials: u32, mut stop: impl FnMut() -> bool) -> Result<(), JournalError> {
    while let Some(asked) = study.ask(trials)? {
        let (mut outcome, mut last) = (None, 0.0);
        for step in 1..=6 {
            if stop() {
                return Ok(());
            }
            last = value(&asked.parameters, step);
            if study.report(asked.number, step, last)? {
                outcome = Some(Outcome::Pruned);
                break;
            }
        }
        if stop() {
            return Ok(());
        }
        study.tell(asked.number, outcome.unwrap_or(Outcome::Complete { value: last }), 0.0)?;
    }
    Ok(())
}

type Essence = (Parameters, TrialState, Vec<(u32, f64)>);

/// What must not depend on kills.
fn essence(record: &Record) -> Vec<Essence> {
    record.trials.iter().map(|t| (t.parameters.clone(), t.state.clone(), t.reports.clone())).collect()
}

#[test]
fn a_study_cut_off_anywhere_goes_on_to_the_same_trials() {
    let folder = tempfile::tempdir().unwrap();
    let calm_path = folder.path().join("calm.jsonl");
    let (mut calm, _) = open(&calm_path);
    go_on(&mut calm, 25, || false).unwrap();
    let bytes = fs::read(&calm_path).unwrap();
    assert_eq!(calm.trials().len(), 25);
    assert!(calm.trials().iter().any(|t| t.state_name() == "pruned"));
    let path = folder.path().join("cut.jsonl");
    let mut random = Random::new(1);
    for _ in 0..counts(60, 2000) {
        let at = random.below(bytes.len() + 1);
        fs::write(&path, &bytes[..at]).unwrap();
        let (mut study, notices) = open(&path);
        let torn = at > 0 && bytes[at - 1] != b'\n';
        assert_eq!(notices.iter().any(|n| matches!(n, Notice::TornLine { .. })), torn, "cut at {at}");
        go_on(&mut study, 25, || false).unwrap();
        assert_eq!(essence(study.record()), essence(calm.record()), "cut at {at}");
        drop(study);
        assert_eq!(essence(&Record::read(&path).unwrap()), essence(calm.record()));
    }
}

#[test]
fn many_interruptions_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut calm, _) = open(&folder.path().join("calm.jsonl"));
    go_on(&mut calm, 20, || false).unwrap();
    let path = folder.path().join("disturbed.jsonl");
    let mut random = Random::new(9);
    let mut interrupted = 0;
    loop {
        let (mut study, notices) = open(&path);
        interrupted += notices.len();
        let mut left = random.below(20);
        go_on(&mut study, 20, || {
            left = left.saturating_sub(1);
            left == 0
        })
        .unwrap();
        if study.trials().iter().filter(|trial| trial.outcome().is_some()).count() == 20 {
            assert_eq!(essence(study.record()), essence(calm.record()));
            break;
        }
    }
    assert!(interrupted > 5, "{interrupted}");
}

#[test]
fn a_second_writer_and_a_damaged_line_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.jsonl");
    let (mut study, _) = open(&path);
    assert!(matches!(Study::open(&path, header), Err(JournalError::Locked { .. })));
    go_on(&mut study, 3, || false).unwrap();
    assert!(Record::read(&path).is_ok(), "looking needs no lock");
    assert!(study.tell(0, Outcome::Pruned, 0.0).is_err(), "it has ended");
    assert!(study.report(1, 1, f64::NAN).is_err());
    drop(study);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in
        [("\"reported\"", "\"retorted\""), ("\"attempt\":1", "\"attempt\":2"), ("\"step\":2", "\"step\":1")]
    {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = Study::open(&path, header).err().unwrap();
        assert!(matches!(error, JournalError::Line { line: 2.., .. }), "{error}");
    }
    fs::write(&path, text.replacen("\"format\":1", "\"format\":9", 1)).unwrap();
    assert!(Study::open(&path, header).err().unwrap().to_string().contains("format 9"));
    fs::write(&path, "").unwrap();
    assert_eq!(Record::read(&path), Err(JournalError::Empty { path: path.clone() }));
}

#[test]
fn spaces_are_narrowed_or_say_why_not() {
    let mut space = header().space;
    space
        .set(
            "kind",
            Domain::Choice { options: ["a", "b"].map(|k| crate::tune::Parameter::Text(k.into())).to_vec() },
        )
        .unwrap();
    for text in
        ["units=8..32", "units=8..32:log", "rate=0.1", "units=1,2,64", "kind=b", "rate=1e-3..1e-1:linear"]
    {
        space.clone().narrow(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    for (text, part) in [
        ("unit=3", "there are kind, rate, units"),
        ("units=0..32", "outside of it"),
        ("units=32..8", "low end"),
        ("units=a", "takes whole numbers from 1 to 64"),
        ("units=8..32:cube", "log or linear"),
        ("kind=c", "takes one of a, b"),
        ("kind=a..b", "list them"),
        ("rate=nan", "not a value"),
        ("units=3,3", "twice"),
        ("units", "takes"),
    ] {
        let error = space.clone().narrow(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}
