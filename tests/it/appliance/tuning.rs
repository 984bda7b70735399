//! `alphaplus tune` killed at any moment goes on to the trials of an undisturbed study, and every one of them is counted.

use std::process::{Command, Stdio};
use std::time::Duration;

use registry::{Registry, Version};
use serde_json::Value;

use super::harness::{ModelSpec, Setup, counts, root, setup};

const TRIALS: usize = 8;

fn tune(s: &Setup, study: &str) -> Command {
    let mut command = s.command();
    command.args(["tune", "--json", "--study", study]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What a study is begun with. Small, so that many of them fit in a test.
fn begin(s: &Setup, study: &str) -> Command {
    let mut command = tune(s, study);
    command
        .args(["--features", "features", "--symbol", "BTCUSDT", "--label", "realised-volatility"])
        .args(["--horizon", "4", "--window", "12", "--epochs", "3", "--patience", "3", "--trials", "8"])
        .args(["--space", "hidden=2..12:log", "--space", "layers=1", "--space", "dropout=0"])
        .args(["--space", "batch=256,512"])
        .arg("--bars")
        .arg(bars());
    command
}

fn go_on(s: &Setup, study: &str) -> Command {
    let mut command = tune(s, study);
    command.args(["--trials", "8"]);
    command
}

fn bars() -> std::path::PathBuf {
    root().join("tests/data/bars/BTCUSDT-1h.csv.gz")
}

fn output(mut command: Command) -> (bool, String, String) {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn show(s: &Setup, study: &str) -> Value {
    let mut command = s.command();
    command.args(["tune", "show", study, "--json"]);
    let (good, text, error) = output(command);
    assert!(good, "{error}");
    serde_json::from_str(&text).unwrap()
}

/// Of each trial what must not depend on kills.
fn essence(shown: &Value) -> Vec<Value> {
    let of = |trial: &Value| {
        serde_json::json!([trial["number"], trial["parameters"], trial["outcome"], trial["reports"]])
    };
    shown["trials"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_killed_study_goes_on_and_loses_and_doubles_no_trial() {
    let s = setup(&ModelSpec::default());
    assert!(begin(&s, "calm").status().unwrap().success());
    let mut killed = 0;
    let mut done = false;
    for round in 0..counts(12, 200) as u64 {
        // By its name alone, once it is there.
        let is_new = std::fs::read_to_string(s.folder.path().join("models/.studies/disturbed.jsonl"))
            .map_or(true, |text| !text.contains('\n'));
        let mut command = if is_new { begin(&s, "disturbed") } else { go_on(&s, "disturbed") };
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 + 137 * round * round % 500));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "round {round}");
            done = true;
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    if !done {
        let (good, _, error) = output(go_on(&s, "disturbed"));
        assert!(good, "{error}");
    }
    assert!(killed > 0, "it was never killed");
    let (calm, disturbed) = (show(&s, "calm"), show(&s, "disturbed"));
    assert_eq!(essence(&calm).len(), TRIALS);
    assert_eq!(essence(&calm), essence(&disturbed), "after {killed} kills");

    // The same model, and each trial counted once.
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let load = |name| registry.load(name, Version::Latest).unwrap();
    assert!(load("calm").onnx == load("disturbed").onnx);
    assert_eq!(load("calm").manifest.training.trials as usize, TRIALS);
    assert_eq!(load("disturbed").manifest.training.trials as usize, 2 * TRIALS);
    assert_eq!(registry.ledger().unwrap().runs.len(), 2 * TRIALS);

    // Without its studies the count stands, and a plain training is one more.
    std::fs::remove_dir_all(s.folder.path().join("models/.studies")).unwrap();
    let mut train = s.command();
    train
        .args(["train", "--name", "plain", "--features", "features", "--symbol", "BTCUSDT"])
        .args(["--label", "realised-volatility", "--horizon", "4", "--window", "12", "--epochs", "1"])
        .arg("--bars")
        .arg(bars());
    let (good, text, error) = output(train);
    assert!(good, "{error}");
    assert!(text.contains("one of 17 trials"), "{text}");
    assert_eq!(load("plain").manifest.training.trials as usize, 2 * TRIALS + 1);
}

#[test]
fn too_slow_candidates_are_not_trained_and_mistakes_are_told() {
    let s = setup(&ModelSpec::default());
    let mut slow = begin(&s, "slow");
    slow.args(["--latency-us", "0.0001"]);
    let (good, _, error) = output(slow);
    assert!(!good && error.contains("no trial was completed"), "{error}");
    let shown = show(&s, "slow");
    for trial in shown["trials"].as_array().unwrap() {
        assert_eq!(trial["state"], "infeasible");
        assert!(
            trial["latency_us"].as_f64().unwrap() > 0.0001 && trial["reports"].as_array().unwrap().is_empty()
        );
    }
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    assert_eq!(registry.ledger().unwrap().runs.len(), 0, "what wasn't trained isn't counted");

    let mut quick = begin(&s, "quick");
    quick.args(["--latency-us", "1e9", "--latency-of", "window", "--workers", "2"]);
    let (good, text, error) = output(quick);
    assert!(good, "{error}");
    let done: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((done["model"].as_str(), done["trials"].as_u64()), (Some("quick/1"), Some(TRIALS as u64)));

    let refused = |args: &[&str], part: &str| {
        let mut command = tune(&s, args[0]);
        command.args(&args[1..]);
        let (good, _, error) = output(command);
        assert!(!good && error.contains(part), "{args:?}: {error}");
    };
    refused(&["nowhere"], "there is no study 'nowhere'");
    refused(&["../up"], "can't be a study's name");
    refused(&["quick", "--epochs", "9"], "--epochs can't change");
    refused(&["quick", "--timeout", "soon"], "no time");
    refused(&["quick", "--workers", "0"], "--workers");
    let mut other = begin(&s, "quick");
    other.args(["--embargo", "30"]);
    let (good, _, error) = output(other);
    assert!(!good && error.contains("other settings"), "{error}");
}
