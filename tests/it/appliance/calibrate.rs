//! `models calibrate`: a model without confidence and interval gets both as its next version, from bars that it hasn't
//! seen, and with its weights as they are.

use super::harness::{ModelSpec, Setup, bar, root, setup, warm};
use super::models::run;

pub fn bars() -> String {
    root().join("tests/data/bars/BTCUSDT-1h.csv.gz").display().to_string()
}

fn deploy(s: &mut Setup, model: &str) {
    s.set("deployments", &format!("[{{model=\"{model}\",symbols=[\"*\"],timeframe=\"1h\"}}]"));
}

/// The newest reply of a served model.
pub fn reply(s: &Setup) -> serde_json::Value {
    let server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    assert_eq!(client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap().status, 200);
    client.get("/v1/predictions/A").unwrap().json()
}

#[test]
fn a_model_without_calibration_says_so_and_gets_one() {
    let mut s = setup(&ModelSpec::default());
    deploy(&mut s, "models:/test/1");
    let doctor = run(&s, &["doctor"]).unwrap();
    assert!(doctor.contains("test/1, not calibrated") && doctor.contains("models calibrate"), "{doctor}");
    let before = reply(&s);
    assert!(before["confidence"].is_null() && before["interval"].is_null(), "{before}");

    let bars = bars();
    let calibrate =
        |more: &[&str]| run(&s, &[&["models", "calibrate", "test", "--bars", &bars], more].concat());
    let error = calibrate(&[]).unwrap_err();
    assert!(error.contains("2024-01-01") && error.contains("--held-out"), "{error}");
    for (more, expected) in [
        (&["--held-out", "--interval-level", "1"][..], "--interval-level"),
        (&["--held-out", "--confidence-factor", "0.5"], "--confidence-factor"),
        (&["--held-out", "--test-share", "0"], "test share"),
        (&["--held-out", "--from", "2024-04-21T00:00:00Z"], "too few"),
        (&["--held-out", "--timeframe", "5m"], "5m"),
        (&["--held-out", "--allow-overlap"], "cannot be used with"),
    ] {
        let error = calibrate(more).unwrap_err();
        assert!(error.contains(expected), "{more:?}: {error}");
    }
    let listed = run(&s, &["models", "list", "--json"]).unwrap();
    assert!(listed.contains("\"versions\":[1]"), "nothing was published: {listed}");

    let said = calibrate(&["--held-out"]).unwrap();
    assert!(said.contains("test/2 is test/1 with the same weights"), "{said}");
    let file = |version: &str| std::fs::read(s.folder.path().join("models/test").join(version)).unwrap();
    assert_eq!(file("1/model.onnx"), file("2/model.onnx"));
    let shown = run(&s, &["models", "show", "test/2"]).unwrap();
    assert!(shown.contains("which training hasn't seen"), "{shown}");
    calibrate(&["--allow-overlap"]).unwrap();
    let shown = run(&s, &["models", "show", "test/3"]).unwrap();
    assert!(shown.contains("some of which training has seen"), "{shown}");

    deploy(&mut s, "models:/test/2");
    let doctor = run(&s, &["doctor"]).unwrap();
    assert!(doctor.contains("test/2, with a confidence and an interval of 90 %"), "{doctor}");
    std::fs::remove_dir_all(s.folder.path().join("spool")).unwrap();
    let after = reply(&s);
    assert_eq!(after["value"], before["value"], "the weights are the same");
    let confidence = after["confidence"].as_f64().unwrap();
    assert!(confidence > 0.0 && confidence < 1.0, "{after}");
    assert!(after["interval"]["low"].as_f64() < after["interval"]["high"].as_f64(), "{after}");
    assert!(after["confidence_of"].as_str().unwrap().contains("sign of value"), "{after}");
}

#[test]
fn a_start_warns_of_models_without_calibration() {
    for (calibrated, warns) in [(false, true), (true, false)] {
        let mut s = setup(&ModelSpec { calibrated, ..ModelSpec::default() });
        // The start stops at a spool that can't be, behind the warning.
        let file = s.folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        s.set("store.folder", &format!("{:?}", file.join("spool").display().to_string()));
        let said = s.refused();
        assert_eq!(said.contains("not calibrated"), warns, "{said}");
    }
}
