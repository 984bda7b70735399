//! ONNX files from elsewhere: imported, run as onnxruntime runs them, served on the bar path, or refused by name.

use std::path::Path;

use appliance::config;
use appliance::load::Parts;

use super::harness::{ModelSpec, Setup, bar, setup, warm};
use super::models::run;
use crate::python;

const WINDOW: usize = 8;
const FEATURES: usize = 28;
const SCRIPT: &str = "onnx_foreign.py";

/// The files, and a folder to import them into. `None`: skipped, aloud.
fn files(test: &str, modules: &[&str]) -> Option<Setup> {
    let s = setup(&ModelSpec::default());
    let [window, features] = [WINDOW, FEATURES].map(|n| n.to_string());
    python::run(test, modules, SCRIPT, &[&path(&s, ""), &window, &features])?;
    Some(s)
}

fn path(s: &Setup, name: &str) -> String {
    s.folder.path().join(name).display().to_string()
}

fn import(s: &Setup, file: &str, name: &str, more: &[&str]) -> Result<String, String> {
    let file = path(s, &format!("{file}.onnx"));
    let window = WINDOW.to_string();
    let mut args =
        vec!["models", "import", &file, "--name", name, "--features", "features", "--window", &window];
    args.extend(["--timeframe", "1h", "--label", "log-return", "--horizon", "3"]);
    args.extend(more);
    if !more.contains(&"--normaliser") {
        args.extend(["--normaliser", "none"]);
    }
    run(s, &args)
}

/// File, more arguments, whether tract runs it.
const GOOD: [(&str, &[&str], bool); 5] = [
    ("mlp", &[], false),
    ("lstm", &[], false),
    ("norm", &[], true),
    ("norm_one", &[], true),
    ("tree", &["--output", "p"], true),
];

#[test]
fn imported_files_give_what_onnxruntime_gives() {
    let Some(s) = files("foreign_onnxruntime", &["numpy", "onnx", "onnxruntime"]) else { return };
    let windows = appliance::precision::made_up(WINDOW * FEATURES);
    let bytes: Vec<u8> = windows.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(s.folder.path().join("windows"), bytes).unwrap();
    let [window, features] = [WINDOW, FEATURES].map(|n| n.to_string());
    let ran = python::run(
        "foreign_onnxruntime",
        &["onnxruntime"],
        SCRIPT,
        &[&path(&s, ""), &window, &features, &"run".to_string()],
    );
    assert!(ran.is_some());
    let settings = config::load(None, &s.settings).unwrap();
    let parts = Parts::new(&settings).unwrap();
    for (file, more, by_tract) in GOOD {
        let name = file.replace('_', "-");
        let said = import(&s, file, &name, more).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(said.contains("through tract"), by_tract, "{said}");
        let shown = run(&s, &["models", "show", &name]).unwrap();
        assert_eq!(shown.contains("through tract"), by_tract, "{shown}");
        let mut runner = parts.runner(&parts.model(&name).unwrap(), 0).unwrap();
        let mut found = Vec::new();
        runner.run(&windows, &mut found).unwrap();
        let expected = std::fs::read(s.folder.path().join(format!("{file}.out"))).unwrap();
        let expected: Vec<f32> = expected.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(found.len(), expected.len(), "{file}");
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{file}: {a} instead of {b}");
        }
    }
}

#[test]
fn what_cannot_be_served_is_refused_by_name_and_leaves_nothing() {
    let Some(s) = files("foreign_refusals", &["numpy", "onnx"]) else { return };
    let cases = [
        ("wide", "[batch, 224]"),
        ("double", "float64"),
        ("sequence_out", "instead of [B]"),
        ("two_outputs", "--output"),
        ("unknown", "Det"),
        ("ensemble", "SVMRegressor"),
        ("custom", "Magic"),
        ("random", "RandomNormalLike"),
        ("not_finite", "is NaN"),
        ("loop", "Loop"),
        ("bomb", "tract can't run it"),
        ("outside", "weights in other files"),
        ("text", "malformed"),
        ("cut", "cut off"),
        ("empty", "is this an ONNX file"),
    ];
    for (file, expected) in cases {
        let error = import(&s, file, "bad", &[]).unwrap_err();
        assert!(error.contains(expected), "{file}: {error}");
        assert!(!s.folder.path().join("models/bad").exists(), "{file}");
    }
    for (more, expected) in [
        (&["--trial-seconds", "0"][..], "more than 0 s"),
        (&["--trial-memory-mb", "1"], "more than 1 MiB"),
        (&["--normaliser", "absent.json"], "absent.json"),
        (&["--output", "z"], "--output"),
    ] {
        let error = import(&s, "norm", "bad", more).unwrap_err();
        assert!(error.contains(expected), "{more:?}: {error}");
    }
    let file = path(&s, "mlp.onnx");
    let error = run(&s, &["models", "import", &file, "--name", "x"]).unwrap_err();
    assert!(error.contains("--label"), "{error}");
}

/// Bars in, predictions out, through the file; and the same bits when they are recomputed from the spool.
fn serves(s: &mut Setup, name: &str, device: &str) {
    s.set("deployments", &format!("[{{model=\"models:/{name}\",symbols=[\"*\"],timeframe=\"1h\"}}]"));
    let mut server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    for n in 0..3 {
        let reply = client.post("/v1/bars", &bar("A", s.need_bars as u64 + n)).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let made = client.get("/v1/predictions/A").unwrap().json();
    assert_eq!(
        (made["device"].as_str(), made["model"].as_str()),
        (Some(device), Some(&*format!("{name}/1")))
    );
    assert!(made["value"].as_f64().unwrap().is_finite());
    assert_eq!(client.get("/v2/health/ready").unwrap().json()["models"][0]["device"], device);
    assert!(server.stop());
    let replayed = run(s, &["replay", &made["seq"].to_string()]).unwrap();
    assert!(replayed.contains("the bits are the same"), "{replayed}");
}

#[test]
fn imported_files_are_served_on_the_bar_path() {
    let Some(mut s) = files("foreign_served", &["numpy", "onnx"]) else { return };
    let constants =
        serde_json::json!({ "mean": vec![0.1; FEATURES], "scale": vec![2.0; FEATURES], "clip": 5.0 });
    std::fs::write(s.folder.path().join("constants.json"), constants.to_string()).unwrap();
    let normaliser = path(&s, "constants.json");
    import(&s, "mlp", "mlp", &["--normaliser", &normaliser, "--label-scale", "0.5"]).unwrap();
    import(&s, "norm", "norm", &[]).unwrap();
    serves(&mut s, "mlp", "cpu");
    std::fs::remove_dir_all(s.folder.path().join("spool")).unwrap();
    serves(&mut s, "norm", "cpu:tract");

    let error = run(&s, &["bench", "norm", "--seconds", "0.1"]).unwrap_err();
    assert!(error.contains("tract runs"), "{error}");
    assert!(run(&s, &["bench", "mlp", "--seconds", "0.05", "--instances", "1"]).is_ok());
    let bars = super::harness::root().join("tests/data/bars/BTCUSDT-1h.csv.gz");
    let bars = bars.display().to_string();
    let error = run(&s, &["evaluate", "mlp", "--bars", &bars]).unwrap_err();
    assert!(error.contains("imported from an ONNX file"), "{error}");
    assert!(run(&s, &["predict", "norm", "--bars", &bars]).is_ok());
    assert!(run(&s, &["models", "compare", "mlp", "norm"]).unwrap().contains("foreign.runs"));
    let list = run(&s, &["models", "list"]).unwrap();
    assert!(list.contains("imported, not judged"), "{list}");
    let source = s.folder.path().join("models/mlp/1/source.onnx");
    assert!(Path::exists(&source), "the file itself is kept");

    // What tract runs is calibrated as it runs.
    for name in ["mlp", "norm"] {
        let said = run(&s, &["models", "calibrate", name, "--bars", &bars]).unwrap();
        assert!(said.contains(&format!("{name}/2 is {name}/1")) && said.contains("isn't known"), "{said}");
        s.set("deployments", &format!("[{{model=\"{name}\",symbols=[\"*\"],timeframe=\"1h\"}}]"));
        std::fs::remove_dir_all(s.folder.path().join("spool")).unwrap();
        let reply = super::calibrate::reply(&s);
        assert_eq!(reply["model"], format!("{name}/2"));
        assert!(reply["confidence"].as_f64().unwrap() > 0.0 && reply["interval"].is_object(), "{reply}");
    }
}
