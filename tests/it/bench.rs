//! The bench: one small case without peers, and what its report says of it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["--quick", "--out"]).arg(out).args(arguments).output().unwrap()
}

#[test]
fn a_small_case_without_python() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.json");
    let output = bench(&["--python", "/nowhere/python", "null_a"], &out);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(report["run"], "quick");
    assert!(report["machine"]["cores"].as_u64().unwrap() >= 1 && report["machine"]["isa"].is_string());
    assert!(report["date"].is_string() && report["engines"]["tract"].is_string());
    let rows = report["cases"].as_array().unwrap();
    let of = |engine: &str| rows.iter().find(|r| r["engine"] == engine).unwrap();
    for row in rows {
        let fields: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let wanted = [
            "case",
            "engine",
            "max_abs_error",
            "max_us",
            "p50_us",
            "p99_us",
            "per_second",
            "ratio_to_best_peer",
        ];
        assert!(wanted.iter().all(|w| fields.contains(w)) && fields.len() == wanted.len(), "{fields:?}");
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!(0.0 < number("p50_us") && number("p50_us") <= number("p99_us"), "{row}");
        assert!(number("p99_us") <= number("max_us") && number("per_second") > 1.0, "{row}");
        assert!(number("max_abs_error") < 1e-5, "{row}");
        assert_eq!(row["case"], "null_a");
    }
    let best = |ours: bool| {
        let rows = rows.iter().filter(|r| r["engine"].as_str().unwrap().starts_with("ours") == ours);
        rows.map(|r| r["p50_us"].as_f64().unwrap()).fold(f64::INFINITY, f64::min)
    };
    let ratio = of("ours")["ratio_to_best_peer"].as_f64().unwrap();
    assert!((ratio - best(false) / best(true)).abs() < 1e-9, "{ratio}");
    assert!(of("tract")["ratio_to_best_peer"].is_null());
    // What is missing is said, and has no rows.
    assert!(rows.iter().all(|r| !r["engine"].as_str().unwrap().starts_with("pytorch")));
    let notes = report["notes"].to_string();
    assert!(notes.contains("pytorch-1 is missing") && errors.contains("pytorch-1 is missing"), "{notes}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("random weights, own harness, unaudited"));
    assert!(!folder.path().join("work").exists());
}

#[test]
fn a_filter_that_finds_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(&["no_such_case"], &folder.path().join("report.json"));
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--list"));
}
