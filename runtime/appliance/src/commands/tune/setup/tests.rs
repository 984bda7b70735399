use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

fn tune(line: &str) -> Box<Tune> {
    match Cli::try_parse_from(format!("alphaplus tune {line}").split(' ')).unwrap().command {
        Command::Tune(tune) => tune,
        other => panic!("{other:?}"),
    }
}

fn schema() -> Schema {
    let text = r#"{"type":"object","properties":{
        "hidden":{"type":"integer","minimum":1,"maximum":1024,"default":64,"x-scale":"log"},
        "dropout":{"type":"number","minimum":0.0,"maximum":0.9,"default":0.0},
        "kind":{"type":"string","enum":["a","b"],"default":"a"},
        "bias":{"type":"boolean","default":true}}}"#;
    Schema::parse(text).unwrap()
}

fn space_of(line: &str) -> Result<Space, String> {
    let tune = tune(line);
    let training = TrainingSettings { batch: 48, ..TrainingSettings::default() };
    space(&schema(), &training, tune.flags.train.window, &tune)
}

fn domains(line: &str) -> Result<Vec<String>, String> {
    let space = space_of(line)?;
    Ok(space.iter().map(|(name, domain)| format!("{name}: {domain}")).collect())
}

#[test]
fn the_space_is_the_schema_and_the_training() {
    assert_eq!(
        domains("--study x").unwrap(),
        [
            "batch: one of 32, 64, 128, 256",
            "bias: one of false, true",
            "dropout: numbers from 0 to 0.9",
            "hidden: whole numbers from 1 to 1024, on a logarithmic scale",
            "kind: one of a, b",
            "learning_rate: numbers from 0.0001 to 0.01, on a logarithmic scale",
            "weight_decay: numbers from 0.0001 to 0.1, on a logarithmic scale",
            "window: 60",
        ]
    );
}

#[test]
fn flags_fix_and_space_narrows() {
    let line = "--study x --batch 48 --hyper hidden=8 --hyper dropout=0 --window 30 --space learning_rate=1e-3..3e-3 \
                --space kind=b --space weight_decay=0,0.01";
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        domains(&line).unwrap(),
        [
            "batch: 48",
            "bias: one of false, true",
            "dropout: 0.0000",
            "hidden: 8",
            "kind: b",
            "learning_rate: numbers from 0.001 to 0.003, on a logarithmic scale",
            "weight_decay: one of 0.0000, 0.0100",
            "window: 30",
        ]
    );
    let windows = space_of("--study x --space window=16..48").unwrap();
    assert_eq!(largest_window(&windows, 60), 48);
    let windows = space_of("--study x --space window=16,90,30").unwrap();
    assert_eq!(largest_window(&windows, 60), 90);
}

#[test]
fn what_cant_be_narrowed_says_why() {
    for (line, part) in [
        ("--study x --space layers=2", "there are batch, bias, dropout"),
        ("--study x --space hidden=0..8", "outside"),
        ("--study x --space hidden=8 --space hidden=9", "twice"),
        ("--study x --space window=0..9", "outside"),
        ("--study x --space dropout=0..0.5:log", "above 0"),
    ] {
        let error = domains(line).unwrap_err();
        assert!(error.contains(part), "{line}: {error}");
    }
}

#[test]
fn times_are_read() {
    assert_eq!(duration("90s").unwrap().as_secs(), 90);
    assert_eq!(duration("1.5m").unwrap().as_secs(), 90);
    assert_eq!(duration("2h").unwrap().as_secs(), 7200);
    assert_eq!(duration("7").unwrap().as_secs(), 7);
    for bad in ["", "h", "-1s", "1d", "nan", "1e99h"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn settings_are_told_from_what_may_change() {
    for id in ["epochs", "files", "space", "sampler", "latency_us", "label"] {
        assert!(is_setting(id), "{id}");
    }
    for id in ["study", "trials", "timeout", "workers", "json", "Tune", "BarFiles", "Train"] {
        assert!(!is_setting(id), "{id}");
    }
}
