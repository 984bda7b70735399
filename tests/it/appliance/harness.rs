//! A folder with a model, the binary started in it, and bars to feed it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use graph::{GraphCodec, Initial, Limits};
use market::Timestamp;
use plugin::{Architecture, Dimensions, FeaturePlugin, Host, HostOptions};
use registry::{Interval, LabelKind, Manifest, Metrics, Registry, Scores};

use crate::http::Client;

pub const FULL: &str = "full";

/// Reduced or full counts (`cargo xtask soak`).
pub fn counts(reduced: usize, full: usize) -> usize {
    if std::env::var("TEST_COUNTS").is_ok_and(|v| v == FULL) { full } else { reduced }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// `cargo xtask test` builds it before the tests; it lies beside the folder of this one.
pub fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("alphaplus");
    assert!(path.exists(), "{} is not built: run `cargo build --release --workspace` first", path.display());
    path
}

/// What a model is made of; its weights are random but always the same.
pub struct ModelSpec {
    pub name: &'static str,
    pub features: PathBuf,
    pub options: serde_json::Value,
    pub timeframe: &'static str,
    pub window: u32,
    pub hidden: u32,
    /// With a confidence and an interval.
    pub calibrated: bool,
}

impl Default for ModelSpec {
    fn default() -> Self {
        ModelSpec {
            name: "test",
            features: root().join("plugins/dist/technical.wasm"),
            options: serde_json::json!({}),
            timeframe: "1h",
            window: 8,
            hidden: 16,
            calibrated: false,
        }
    }
}

pub struct Setup {
    pub folder: tempfile::TempDir,
    pub settings: Vec<(String, String)>,
    pub need_bars: usize,
}

fn scores() -> Scores {
    let interval = Some(Interval { value: 0.0, low: -1.0, high: 1.0 });
    Scores {
        rmse: 1.0,
        mae: 1.0,
        mase: 1.0,
        skill: interval,
        skill_vs_ridge: None,
        directional_accuracy: None,
        ic: None,
        rank_ic: None,
    }
}

fn calibration() -> registry::Calibration {
    registry::Calibration {
        level: 0.9,
        samples: 100,
        quantile: 0.05,
        step: 0.02,
        floor: 0.0,
        factor: None,
        source: None,
        confidence: registry::Confidence { intercept: 0.2, slope: 0.5 },
        test: registry::Reliability {
            samples: 100,
            coverage: 0.9,
            coverage_adaptive: 0.9,
            width: 0.1,
            width_adaptive: 0.1,
            confidence: 0.5,
            right: 0.5,
            brier: 0.25,
            calibration_error: 0.0,
            bins: Vec::new(),
        },
    }
}

/// A folder with one untrained model, deployed for every symbol.
pub fn setup(spec: &ModelSpec) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::copy(&spec.features, plugins.join("features.wasm")).unwrap();
    fs::copy(root().join("plugins/dist/lstm.wasm"), plugins.join("lstm.wasm")).unwrap();
    let host =
        Host::new(HostOptions { cache_dir: Some(folder.path().join("cache")), ..HostOptions::default() })
            .unwrap();
    let component = host.load(&plugins.join("features.wasm")).unwrap();
    let features = FeaturePlugin::new(&component, spec.options.as_object().unwrap()).unwrap();
    let f = market::Features::spec(&features).clone();
    let lstm = host.load(&plugins.join("lstm.wasm")).unwrap();
    let columns = f.names.len();
    let dimensions = Dimensions { window: spec.window, features: columns as u32, outputs: 1 };
    let hyper = serde_json::json!({ "hidden": spec.hidden }).as_object().unwrap().clone();
    let built = Architecture::new(&lstm).unwrap().build(&hyper, dimensions, &Limits::default()).unwrap();
    let mut graph = graph::rewrite::inference(&built).unwrap();
    for (name, tensor) in graph::reference::initial_states(&graph, 7) {
        let state = graph.states.iter_mut().find(|s| s.name == name).unwrap();
        state.initial = Initial::Given(tensor);
    }
    let onnx = onnx::Onnx.encode(&graph).unwrap();
    let range =
        |from: &str, until: &str| registry::Range { from: from.into(), until: until.into(), samples: 100 };
    let day =
        ["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z"];
    let manifest = Manifest {
        format: registry::FORMAT,
        name: spec.name.into(),
        version: 1,
        created_at: day[3].into(),
        architecture: registry::Architecture {
            plugin: lstm.id().into(),
            digest: lstm.digest().into(),
            hyper: serde_json::Value::Object(hyper).to_string(),
        },
        features: registry::Features {
            plugin: f.plugin.clone(),
            digest: f.digest.clone(),
            options: features.options().into(),
            fingerprint: registry::names_fingerprint(&f.names),
            warmup: f.warmup as u32,
            names: f.names.clone(),
        },
        input: registry::Input { window: spec.window, features: columns as u32, outputs: 1 },
        normaliser: registry::Normaliser {
            clip: Some(10.0),
            mean: vec![0.0; columns],
            scale: vec![1.0; columns],
        },
        label: registry::Label {
            kind: LabelKind::LogReturn,
            horizon_bars: 1,
            gaps: registry::GapPolicy::Drop,
            dead_band: None,
            mean: 0.0,
            scale: 1.0,
        },
        output: registry::Output::Point,
        data: registry::Data {
            description: "none: random weights".into(),
            symbols: vec!["A".into()],
            timeframe: spec.timeframe.into(),
            rows: 300,
            first_open_time: day[0].into(),
            last_open_time: day[3].into(),
            digest: f.digest.clone(),
            embargo_bars: 0,
            train: range(day[0], day[1]),
            validation: range(day[1], day[2]),
            calibration: None,
            test: range(day[2], day[3]),
        },
        training: registry::Training {
            seed: 7,
            loss: registry::Loss::MeanSquared,
            batch: 8,
            epochs_max: 1,
            patience: 1,
            learning_rate: 1e-3,
            schedule: registry::Schedule::Constant,
            warmup_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: None,
            trials: 1,
            epochs: 1,
            best_epoch: 1,
            train_curve: vec![1.0],
            validation_curve: vec![1.0],
        },
        metrics: Metrics {
            samples: 100,
            confidence: 0.95,
            block_steps: 5,
            resamples: 100,
            bootstrap_seed: 1,
            majority_rate: 0.5,
            ridge_lambda: 1.0,
            model: scores(),
            naive: scores(),
            ridge: scores(),
        },
        calibration: spec.calibrated.then(calibration),
        profile: None,
        foreign: None,
        parent: None,
        serving: registry::Serving {
            sliding: registry::Sliding::Exact,
            device_tolerance: 1e-4,
            precision: registry::Precision::F32,
            precision_error: None,
        },
        files: Default::default(),
    };
    let registry = Registry::open(folder.path().join("models")).unwrap();
    registry.publish(manifest, &[("model.onnx", &onnx)]).unwrap();
    let settings = [
        ("server.listen", "\"127.0.0.1:0\"".to_string()),
        ("serving.clock", "\"feed\"".into()),
        ("store.folder", format!("{:?}", folder.path().join("spool").display().to_string())),
        ("models.folder", format!("{:?}", folder.path().join("models").display().to_string())),
        ("plugins.folders", format!("[{:?}]", plugins.display().to_string())),
        ("plugins.cache_folder", format!("{:?}", folder.path().join("cache").display().to_string())),
        ("plugins.bar_deadline_ms", "1000".into()),
        ("log.level", "warn".into()),
        (
            "deployments",
            format!("[{{model={:?},symbols=[\"*\"],timeframe={:?}}}]", spec.name, spec.timeframe),
        ),
    ];
    Setup {
        settings: settings.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
        need_bars: f.warmup + spec.window as usize,
        folder,
    }
}

impl Setup {
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(k, _)| k != key);
        self.settings.push((key.into(), value.into()));
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.folder.path());
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }

    pub fn serve(&self) -> Server {
        let mut child = self.command().arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) =
                    line.strip_prefix("serving on http").and_then(|l| l.split("://").nth(1))
                {
                    let _ = sender.send(address.to_string());
                }
            }
        });
        let address = match receiver.recv_timeout(Duration::from_secs(60)) {
            Ok(address) => address,
            Err(_) => {
                let _ = child.kill();
                panic!("the appliance did not start: {:?}", child.wait());
            }
        };
        Server { child, address }
    }

    /// A start that is to be refused: what it says.
    pub fn refused(&self) -> String {
        let output = self.command().arg("serve").stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    pub fn client(&self) -> Client {
        Client::connect(&self.address).unwrap()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; true when it ended well.
    pub fn stop(&mut self) -> bool {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The n-th bar of a made-up symbol: a wave with a little noise, the same each time.
pub fn bar(symbol: &str, n: u64) -> String {
    bar_with(symbol, n, "")
}

pub fn bar_with(symbol: &str, n: u64, more: &str) -> String {
    let seed =
        symbol.bytes().fold(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), |s, b| s.rotate_left(7) ^ u64::from(b));
    let noise = |k: u32| {
        ((seed.wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(k) >> 40) as f64) / f64::from(1u32 << 24) - 0.5
    };
    let open = 100.0 + 10.0 * (n as f64 / 9.0).sin() + noise(3);
    let close = 100.0 + 10.0 * ((n + 1) as f64 / 9.0).sin() + noise(17);
    let (high, low) = (open.max(close) + 0.5 + noise(5).abs(), open.min(close) - 0.5 - noise(11).abs());
    let volume = 1000.0 * (1.5 + noise(23));
    let time = Timestamp::from_seconds(978_307_200 + n as i64 * 3600);
    format!(
        "{{\"symbol\":\"{symbol}\",\"timeframe\":\"1h\",\"open_time\":\"{time}\",\"open\":{open},\"high\":{high},\
         \"low\":{low},\"close\":{close},\"volume\":{volume}{more}}}\n"
    )
}

/// Backfills the first `count` bars.
pub fn warm(client: &mut Client, symbol: &str, count: usize) {
    let body: String = (0..count as u64).map(|n| bar_with(symbol, n, ",\"backfill\":true")).collect();
    let reply = client.post("/v1/bars", &body).unwrap();
    assert_eq!(
        (reply.status, reply.json()["accepted"].as_u64()),
        (200, Some(count as u64)),
        "{}",
        reply.body
    );
}
