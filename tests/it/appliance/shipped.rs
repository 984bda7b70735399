//! What the repository ships: the model answers at once, and comes out again from its manifest.

use std::process::Command;

use registry::{Manifest, Registry, Version};

use super::harness::{binary, root};

const MODEL: &str = "btc-1h-lstm";

fn shipped() -> Manifest {
    Registry::open(root().join("models")).unwrap().load(MODEL, Version::Latest).unwrap().manifest
}

#[test]
fn the_shipped_model_is_retrained_from_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let copy = Command::new("cp").arg("-r").arg(root().join("models")).arg(&models).status().unwrap();
    assert!(copy.success());
    let version = shipped().version;
    let train = |name: &str| {
        let output = Command::new(binary())
            .current_dir(root())
            .arg("--set")
            .arg(format!("models.folder={:?}", models.display().to_string()))
            .arg("--set")
            .arg(format!("plugins.cache_folder={:?}", folder.path().join("cache").display().to_string()))
            .args(["train", "--json", "--again", MODEL, "--name", name, "--symbol", "BTCUSDT", "--bars"])
            .arg(root().join("tests/data/bars/BTCUSDT-1h.csv.gz"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = Registry::open(&models).unwrap().load(name, Version::Latest).unwrap();
        (found.onnx, found.manifest)
    };
    let (one, first) = train("again-one");
    let (two, _) = train("again-two");
    assert!(one == two, "the same seed and data give the same bits twice");
    let before = shipped();
    assert_eq!(before.version, version);
    let pairs = [
        ("RMSE", before.metrics.model.rmse, first.metrics.model.rmse),
        ("MAE", before.metrics.model.mae, first.metrics.model.mae),
        ("naive RMSE", before.metrics.naive.rmse, first.metrics.naive.rmse),
        ("ridge RMSE", before.metrics.ridge.rmse, first.metrics.ridge.rmse),
    ];
    for (name, shipped, again) in pairs {
        assert!((shipped - again).abs() <= 0.01 * shipped, "{name}: shipped {shipped}, again {again}");
    }
    assert_eq!(before.data.digest, first.data.digest);
}

#[test]
fn the_manifest_judges_it_beside_its_baselines() {
    let m = shipped();
    assert!(m.metrics.model.skill.is_some() && m.metrics.ridge.skill.is_some());
    assert!(m.metrics.samples > 1000);
    assert_eq!(m.metrics.naive.skill, None);
}

/// Through the command: its table and picture name the features, and almost nothing is left unattributed.
#[test]
fn it_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("e.svg");
    let explain = |more: &[&str]| {
        let output = Command::new(binary())
            .current_dir(root())
            .arg("--set")
            .arg(format!("plugins.cache_folder={:?}", folder.path().join("cache").display().to_string()))
            .args(["explain", MODEL, "--last", "50", "--bars", "tests/data/bars/BTCUSDT-1h.csv.gz"])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain(&["--svg", svg.to_str().unwrap()]);
    assert!(text.contains("50 windows") && text.contains("volatility_72"), "{text}");
    assert!(std::fs::read_to_string(svg).unwrap().contains("volatility_72"));
    let json: serde_json::Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    let of = |name: &str| json["importance"][name].as_f64().unwrap();
    assert!(of("residual") < 1e-3 * of("change") && of("change") > 1e-3, "{json}");
    let coarse: serde_json::Value = serde_json::from_str(&explain(&["--json", "--points", "1"])).unwrap();
    assert!(coarse["importance"]["residual"].as_f64().unwrap() > of("residual"));
}

/// A bar costs one step of it, not a window: what was trained has other weights than what tests make up.
#[test]
fn it_slides() {
    let mut s = super::harness::setup(&super::harness::ModelSpec::default());
    let quoted = |path: &str| format!("{:?}", root().join(path).display().to_string());
    s.set("models.folder", &quoted("models"));
    s.set("plugins.folders", &format!("[{}]", quoted("plugins/dist")));
    s.set("deployments", &format!("[{{model={MODEL:?},symbols=[\"*\"],timeframe=\"1h\"}}]"));
    let server = s.serve();
    let mut c = server.client();
    let manifest = shipped();
    let need = manifest.features.warmup as u64 + u64::from(manifest.input.window);
    super::harness::warm(&mut c, "A", need as usize);
    let sliding = |text: &str| {
        let line = text.lines().find(|l| l.starts_with("alphaplus_windows_total{window=\"sliding\"}"));
        line.and_then(|l| l.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    for n in need..need + 20 {
        assert_eq!(c.post("/v1/bars", &super::harness::bar("A", n)).unwrap().status, 200);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let text = c.get("/metrics").unwrap().body;
    assert!(sliding(&text) > 0, "{text}");
}
