//! `alphaplus bench` and `alphaplus models store-as`: figures of a model on this machine, and fewer bits for it.

use std::process::Output;

use serde_json::Value;

use super::harness::{ModelSpec, Setup, bar, setup, warm};

fn run(setup: &Setup, args: &[&str]) -> Output {
    setup.command().args(args).output().unwrap()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn bench_measures_and_draws() {
    let setup = setup(&ModelSpec::default());
    let svg = setup.folder.path().join("latency.svg");
    let arguments = [
        "bench",
        "--seconds",
        "0.05",
        "--every-ms",
        "1",
        "--instances",
        "2",
        "--json",
        "--svg",
        svg.to_str().unwrap(),
    ];
    let report: Value = serde_json::from_str(&ok(&run(&setup, &arguments))).unwrap();
    assert_eq!(report["model"], "test/1");
    assert_eq!(report["slides"], true);
    let lines = report["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 6);
    for line in lines {
        let at = |key: &str| line[key].as_f64().unwrap();
        assert!(at("p50_us") > 0.0 && at("p50_us") <= at("p99_us") && at("p99_us") <= at("max_us"), "{line}");
        assert!(line["count"].as_u64().unwrap() > 10, "{line}");
    }
    let of = |name: &str| lines.iter().find(|l| l["name"] == name).unwrap()["p50_us"].as_f64().unwrap();
    assert!(of("push") < of("whole window"), "one step is less than all of them");
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("push and settle"));
    let text = ok(&run(&setup, &["bench", "test", "--seconds", "0.02", "--instances", "1"]));
    assert!(text.contains("sustained: a tick each") && text.contains('█'), "{text}");
    let refused = run(&setup, &["bench", "--seconds", "0"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--seconds must lie between"));
}

#[test]
fn fewer_bits_are_measured_recorded_and_held_to() {
    let mut setup = setup(&ModelSpec::default());
    let refused = run(&setup, &["models", "store-as", "test", "bf16", "--tolerance", "1e-9"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("differ from f32") && said.contains("--tolerance"), "{said}");
    assert!(
        ok(&run(&setup, &["models", "store-as", "test", "bf16", "--tolerance", "0.1"])).contains("test/2")
    );
    assert!(
        ok(&run(&setup, &["models", "store-as", "test/1", "int8", "--tolerance", "0.1"])).contains("test/3")
    );
    let shown = ok(&run(&setup, &["models", "show", "test/2"]));
    assert!(shown.contains("stored as     bf16"), "{shown}");

    // Served in each, row by row; the values differ a little.
    let value = |setup: &Setup| {
        let server = setup.serve();
        let mut c = server.client();
        warm(&mut c, "A", setup.need_bars);
        for n in 0..3 {
            assert_eq!(c.post("/v1/bars", &bar("A", setup.need_bars as u64 + n)).unwrap().status, 200);
        }
        let metrics = c.get("/metrics").unwrap().body;
        assert!(metrics.contains("alphaplus_windows_total{window=\"sliding\"} "), "{metrics}");
        c.get("/v1/predictions/A").unwrap().json()["value"].as_f64().unwrap()
    };
    let serve = |setup: &mut Setup, version: u32| {
        setup.set(
            "deployments",
            &format!("[{{model=\"test\",version={version},symbols=[\"*\"],timeframe=\"1h\"}}]"),
        );
        let spool = setup.folder.path().join(format!("spool{version}"));
        setup.set("store.folder", &format!("{:?}", spool.display().to_string()));
        value(setup)
    };
    let (f32, bf16, int8) = (serve(&mut setup, 1), serve(&mut setup, 2), serve(&mut setup, 3));
    for (name, narrow) in [("bf16", bf16), ("int8", int8)] {
        assert!(
            narrow != f32 && (narrow - f32).abs() < 0.1 * f32.abs().max(1.0),
            "{name}: {narrow} for {f32}"
        );
    }

    // A manifest that promises more than the weights hold.
    let manifest = setup.folder.path().join("models/test/2/manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("device_tolerance = 0.1", "device_tolerance = 1e-9")).unwrap();
    setup.set("deployments", "[{model=\"test\",version=2,symbols=[\"*\"],timeframe=\"1h\"}]");
    let said = setup.refused();
    assert!(said.contains("serving.device_tolerance"), "{said}");
}
