//! `alphaplus train` killed and run again gives what an undisturbed run gives.

use std::process::{Command, Stdio};
use std::time::Duration;

use registry::{Registry, Version};

use super::harness::{ModelSpec, Setup, counts, root, setup};

fn train(s: &Setup, name: &str) -> Command {
    let mut command = s.command();
    command
        .args(["train", "--json", "--name", name, "--features", "features", "--symbol", "BTCUSDT"])
        .args([
            "--hyper",
            "hidden=16",
            "--hyper",
            "dropout=0.2",
            "--window",
            "24",
            "--epochs",
            "10",
            "--patience",
            "10",
        ])
        .args(["--label", "realised-volatility", "--horizon", "4", "--checkpoints", "checkpoints", "--bars"])
        .arg(root().join("tests/data/bars/BTCUSDT-1h.csv.gz"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let s = setup(&ModelSpec::default());
    assert!(train(&s, "calm").status().unwrap().success());
    let mut killed = 0;
    for round in 0..counts(6, 40) as u64 {
        let mut child = train(&s, "disturbed").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(150 + 120 * round % 700));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    assert!(train(&s, "disturbed").status().unwrap().success());
    assert!(killed > 0, "it was never killed");
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let load = |name| registry.load(name, Version::Latest).unwrap();
    let (calm, disturbed) = (load("calm"), load("disturbed"));
    assert!(calm.onnx == disturbed.onnx, "after {killed} kills");
    assert_eq!(calm.manifest.training, disturbed.manifest.training);
    let left = std::fs::read_dir(s.folder.path().join("checkpoints")).unwrap().count();
    assert_eq!(left, 0, "a finished run leaves no checkpoint");

    // What was registered judges and predicts.
    let run = |args: &[&str]| {
        let mut command = s.command();
        command.args(args).args(["--symbol", "BTCUSDT", "--bars"]);
        let output = command.arg(root().join("tests/data/bars/BTCUSDT-1h.csv.gz")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let judged = run(&["evaluate", "calm", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&judged).unwrap();
    let rmse = json["metrics"]["model"]["rmse"].as_f64().unwrap();
    assert_eq!(rmse.to_bits(), calm.manifest.metrics.model.rmse.to_bits(), "the same as at training");
    // What is predicted, what the confidence means, and a line for each bar.
    let text = run(&["predict", "calm", "--last", "3"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 5 && lines[1].starts_with("confidence: the probability that"), "{text}");
    assert!(lines[2..].iter().all(|line| line.starts_with("BTCUSDT 1h ")), "{text}");
}

/// The whole command on real bars: every baseline, every probe, the files.
#[test]
fn a_recipe_is_evaluated_on_walk_forward_folds() {
    let s = setup(&ModelSpec::default());
    let report = s.folder.path().join("report.html");
    let evaluate = |extra: &[&str]| {
        let mut command = s.command();
        command.args([
            "evaluate",
            "--symbol",
            "BTCUSDT",
            "--label",
            "realised-volatility",
            "--horizon",
            "12",
        ]);
        command.args([
            "--features",
            "features",
            "--window",
            "8",
            "--hyper",
            "hidden=4",
            "--epochs",
            "2",
            "--seeds",
            "1",
        ]);
        command.args(extra).arg("--bars").arg(root().join("tests/data/bars/BTCUSDT-1h.csv.gz"));
        command.output().unwrap()
    };
    let output = evaluate(&["--folds", "2", "--stride", "4", "--json", "--report", report.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        json["table"]["rows"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["naive", "drift", "ridge", "trees", "ewma", "har", "dlinear", "model"]);
    let probes = json["probes"].as_array().unwrap();
    assert_eq!(probes.len(), 5);
    for name in ["future", "planted leak", "label shuffle", "random walk"] {
        let probe = probes.iter().find(|p| p["name"] == name).unwrap();
        assert_eq!(probe["passed"], true, "{probe}");
    }
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.contains("Calibration") && !html.contains("NaN"));
    let refused = evaluate(&["--folds", "0"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("folds"), "{text}");
}
