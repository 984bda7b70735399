//! What is wrong at the start is refused with one sentence that says what to change.

use std::fs;
use std::process::Stdio;

use super::harness::{ModelSpec, setup};

#[test]
fn an_unknown_key_an_impossible_value_and_a_missing_model() {
    let mut s = setup(&ModelSpec::default());
    let cases = [
        ("serving.clok", "\"feed\"", "did you mean 'serving.clock'?"),
        ("server.threads", "0", "between 1 and 64"),
        ("server.listen", "\"0.0.0.0:0\"", "outside loopback"),
        ("device.policy", "\"require-gpu\"", "no GPU executor"),
        ("deployments", "[{model=\"absent\",symbols=[\"*\"],timeframe=\"1h\"}]", "absent"),
        ("deployments", "[{model=\"test\",version=9,symbols=[\"*\"],timeframe=\"1h\"}]", "9"),
        (
            "deployments",
            "[{model=\"test\",symbols=[\"*\"],timeframe=\"5m\"}]",
            "change deployments.timeframe",
        ),
    ];
    let before = s.settings.clone();
    for (key, value, says) in cases {
        s.settings = before.clone();
        s.set(key, value);
        let said = s.refused();
        assert!(said.contains(says), "{key} = {value}: {said}");
        assert_eq!(said.lines().filter(|l| l.starts_with("error:")).count(), 1, "one sentence: {said}");
    }
}

#[test]
fn a_missing_plugin_and_a_model_that_was_changed() {
    let s = setup(&ModelSpec::default());
    let plugin = s.folder.path().join("plugins/features.wasm");
    let bytes = fs::read(&plugin).unwrap();
    fs::remove_file(&plugin).unwrap();
    let said = s.refused();
    assert!(said.contains("technical@") && said.contains("plugins.folders"), "{said}");
    fs::write(&plugin, bytes).unwrap();

    let onnx = s.folder.path().join("models/test/1/model.onnx");
    let mut bytes = fs::read(&onnx).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&onnx, bytes).unwrap();
    let said = s.refused();
    assert!(said.contains("model.onnx") && said.contains("publish the model again"), "{said}");
}

/// As in `alphaplus doctor | head -1`: it ends when nobody reads any more, and isn't a crash.
#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let s = setup(&ModelSpec::default());
    for args in [&["doctor"][..], &["models", "list"], &["models", "show", "test"]] {
        let mut child = s.command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(141), ""), "{args:?}");
    }
}

#[test]
fn a_second_appliance_on_one_spool_is_refused_and_a_stop_is_orderly() {
    let s = setup(&ModelSpec::default());
    let mut server = s.serve();
    let said = s.refused();
    assert!(said.contains("in use by process"), "{said}");
    assert!(server.stop(), "SIGTERM ends it with success");
}
