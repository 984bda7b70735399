//! A model is retrained beside a running appliance, judged, and promoted or refused; the event log tells all of it.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use market::Timestamp;
use registry::{Registry, Version, Weights};
use serde_json::Value;

use super::harness::{ModelSpec, Setup, bar, setup};

/// Bars of the first file; the model has seen these.
const FIRST: usize = 2500;
/// All bars.
const ALL: usize = 7000;
const HOUR: i64 = 3600;

/// Closes of a world that lines don't forecast and trees do badly: tanh 2(ab − cd) of the last four returns, and noise.
/// From `turns_at` on it is the other way round.
pub fn closes(count: usize, turns_at: usize) -> Vec<f64> {
    let (mut last, mut price, mut state) = ([0.5f64; 4], 100.0f64, 1u64);
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1u32 << 24) - 0.5
    };
    (0..count)
        .map(|n| {
            let [a, b, c, d] = last;
            let way = if n < turns_at { 2.0 } else { -2.0 };
            let x = f64::tanh(way * (a * b - c * d)) + noise();
            last = [x, a, b, c];
            price *= f64::exp(0.01 * x);
            price
        })
        .collect()
}

/// Open, high, low and close of the n-th bar, and when it opens.
fn tent(closes: &[f64], n: usize) -> (Timestamp, [f64; 4]) {
    let (open, close) = (if n == 0 { 100.0 } else { closes[n - 1] }, closes[n]);
    (
        Timestamp::from_seconds(1_500_000_000 / HOUR * HOUR + n as i64 * HOUR),
        [open, open.max(close), open.min(close), close],
    )
}

pub fn file(s: &Setup, closes: &[f64], count: usize) -> PathBuf {
    let mut text = "timestamp,open,high,low,close,volume\n".to_string();
    for n in 0..count {
        let (time, [open, high, low, close]) = tent(closes, n);
        writeln!(text, "{time},{open},{high},{low},{close},1000").unwrap();
    }
    let path = s.folder.path().join(format!("TENT-{count}.csv"));
    std::fs::write(&path, text).unwrap();
    path
}

/// A bar for `POST /v1/bars`.
pub fn line(closes: &[f64], n: usize, backfill: bool) -> String {
    let (time, [open, high, low, close]) = tent(closes, n);
    format!(
        "{{\"symbol\":\"TENT\",\"timeframe\":\"1h\",\"open_time\":\"{time}\",\"open\":{open},\"high\":{high},\
         \"low\":{low},\"close\":{close},\"volume\":1000,\"backfill\":{backfill}}}\n"
    )
}

/// What it printed last, what it said on stderr, and whether it ended well.
pub fn run(s: &Setup, args: &[&str]) -> (Value, String, bool) {
    let output = s.command().args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    (json, String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
}

pub fn done(s: &Setup, args: &[&str]) -> Value {
    let (json, said, well) = run(s, args);
    assert!(well, "{args:?}: {said}");
    json
}

pub fn events(s: &Setup) -> Vec<Value> {
    let output = s.command().args(["events", "--json", "--last", "1000"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_model_is_retrained_judged_and_promoted_or_refused() {
    let s = setup(&ModelSpec::default());
    let closes = closes(ALL, ALL);
    let (first, all) = (file(&s, &closes, FIRST), file(&s, &closes, ALL));
    let (first, all) = (first.to_str().unwrap(), all.to_str().unwrap());
    // A champion that learnt next to nothing.
    done(
        &s,
        &[
            "train",
            "--json",
            "--name",
            "tent",
            "--features",
            "features",
            "--bars",
            first,
            "--window",
            "8",
            "--hyper",
            "hidden=16",
            "--epochs",
            "1",
            "--learning-rate",
            "0.00001",
        ],
    );
    done(&s, &["models", "alias", "tent", "champion", "1", "--why", "the first"]);

    let (json, said, well) = run(&s, &["retrain", "tent@champion", "--bars", first, "--json"]);
    assert!(!well && said.contains("more bars of each symbol"), "{said}");
    assert_eq!(json["refused"], true, "{json}");

    let two = retrained_beside_a_writer(&s, &closes, first);
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let load = |number| registry.load("tent", Version::Number(number)).unwrap().manifest;
    let (parent, manifest) = (load(1), load(2));
    let from = manifest.parent.as_ref().unwrap();
    assert_eq!((from.name.as_str(), from.version, from.weights), ("tent", 1, Weights::Continued));
    assert_eq!((&manifest.normaliser, manifest.label.scale), (&parent.normaliser, parent.label.scale));
    assert!(manifest.data.rows > 6000 && manifest.data.description.ends_with("the spool"));
    assert_eq!(two["alias"], "challenger");
    assert_eq!(registry.history("tent").unwrap().at("challenger"), Some(2));
    assert!(
        two["validation_loss"].as_f64().unwrap() < 0.7 * two["validation_loss_of_parent"].as_f64().unwrap()
    );

    let before = events(&s).len();
    let looked = done(&s, &["promote", "tent@challenger", "--bars", all, "--json", "--dry-run"]);
    assert_eq!((&looked["promoted"], &looked["moved"]), (&true.into(), &false.into()), "{looked}");
    assert_eq!(registry.history("tent").unwrap().at("champion"), Some(1));
    assert_eq!(events(&s).len(), before, "a dry run writes nothing");
    let promoted = done(&s, &["promote", "tent@challenger", "--bars", all, "--json", "--who", "gate"]);
    assert_eq!((&promoted["promoted"], &promoted["moved"]), (&true.into(), &true.into()), "{promoted}");
    assert_eq!(promoted["champion"], "tent/1");
    let history = registry.history("tent").unwrap();
    assert_eq!(history.at("champion"), Some(2));
    let change = history.changes.last().unwrap();
    assert!(change.why.starts_with("gate passed: ") && change.who == "gate", "{change:?}");

    // One that is no better stays where it is, unless it is put there by force.
    done(
        &s,
        &[
            "retrain",
            "tent@champion",
            "--bars",
            all,
            "--from-scratch",
            "--epochs",
            "1",
            "--learning-rate",
            "0.00001",
            "--json",
            "--test-share",
            "0.1",
            "--validation-share",
            "0.1",
        ],
    );
    let worse = ["promote", "tent@challenger", "--bars", all, "--json"];
    let (json, said, well) = run(&s, &worse);
    assert!(
        !well && said.contains("tent/3 is not promoted: ") && said.contains("better than champion"),
        "{said}"
    );
    assert_eq!((&json["promoted"], &json["moved"]), (&false.into(), &false.into()));
    assert_eq!(registry.history("tent").unwrap().at("champion"), Some(2));
    let forced = done(&s, &[&worse[..], &["--force", "a test of it"]].concat());
    assert_eq!((&forced["promoted"], &forced["forced"]), (&false.into(), &true.into()));
    let history = registry.history("tent").unwrap();
    assert_eq!(history.at("champion"), Some(3));
    assert!(history.changes.last().unwrap().why.starts_with("forced: a test of it"));
    // Judged twice against one champion, counted once.
    assert_eq!(forced["evidence"]["trials"], 1, "{}", forced["evidence"]);
    done(&s, &["models", "rollback", "tent"]);
    refuses_what_means_something_else(&s, all);
    the_log_tells_it(&s);
}

/// The bars behind the first file come into the spool; while more are written, the model is retrained from it.
fn retrained_beside_a_writer(s: &Setup, closes: &[f64], first: &str) -> Value {
    let server = s.serve();
    let mut client = server.client();
    for chunk in (FIRST - 100..ALL - 200).collect::<Vec<_>>().chunks(200) {
        let body: String = chunk.iter().map(|&n| line(closes, n, true)).collect();
        assert_eq!(client.post("/v1/bars", &body).unwrap().status, 200);
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = server.client();
            let mut n = 0;
            while !over.load(Ordering::Acquire) {
                // The model's own stream goes on first, then another.
                let next = ALL - 200 + n;
                let body = if next < ALL { line(closes, next, true) } else { bar("OTHER", n as u64) };
                assert_eq!(client.post("/v1/bars", &body).unwrap().status, 200);
                n += 1;
            }
            n
        });
        let args = ["retrain", "tent@champion", "--bars", first, "--from-spool", "--json"];
        let flags = ["--epochs", "40", "--patience", "10", "--learning-rate", "0.005", "--who", "manager"];
        let found = run(s, &[&args[..], &flags].concat());
        over.store(true, Ordering::Release);
        assert!(writer.join().unwrap() > 0, "nothing was written meanwhile");
        let (json, said, well) = found;
        assert!(well, "{said}");
        let bars = &json["bars"];
        assert_eq!(bars["from_files"], FIRST, "{bars}");
        assert_eq!((&bars["in_both"], &bars["differing"]), (&100.into(), &0.into()), "{bars}");
        let spool = bars["from_spool"].as_u64().unwrap() as usize;
        assert!((ALL - 100 - FIRST..=ALL + 100 - FIRST).contains(&spool), "{bars}");
        assert_eq!(json["model"], "tent/2");
        json
    })
}

fn refuses_what_means_something_else(s: &Setup, all: &str) {
    done(
        s,
        &[
            "train",
            "--json",
            "--name",
            "tent",
            "--features",
            "features",
            "--bars",
            all,
            "--window",
            "8",
            "--hyper",
            "hidden=16",
            "--epochs",
            "1",
            "--horizon",
            "2",
        ],
    );
    let (json, said, well) = run(s, &["promote", "tent/4", "--bars", all, "--json", "--force", "whatever"]);
    assert!(!well && said.contains("another label than the champion"), "{said}");
    assert_eq!((&json["promoted"], &json["moved"]), (&false.into(), &false.into()), "{json}");
    let (_, said, well) = run(s, &["promote", "tent@champion", "--bars", all]);
    assert!(!well && said.contains("already"), "{said}");
}

fn the_log_tells_it(s: &Setup) {
    let told = events(s);
    assert_eq!(
        kinds(&told),
        [
            "alias_moved",
            "retraining_started",
            "refused",
            "retraining_started",
            "retraining_finished",
            "gate_verdict",
            "promoted",
            "retraining_started",
            "retraining_finished",
            "gate_verdict",
            "refused",
            "gate_verdict",
            "promoted",
            "rolled_back",
            "refused",
        ]
    );
    assert!(told.iter().enumerate().all(|(n, event)| event["number"] == n), "{told:?}");
    assert_eq!((&told[4]["model"], &told[4]["who"]), (&"tent/2".into(), &"manager".into()));
    assert_eq!(told[4]["detail"]["parent"], "tent/1");
    let criteria = told[5]["detail"]["verdict"]["criteria"].as_array().unwrap();
    assert!(criteria.len() >= 6 && criteria.iter().all(|c| c["holds"] == true), "{criteria:?}");
    assert_eq!(told[12]["detail"]["forced"], "a test of it");
    let path = s.folder.path().join("models/events.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"who\":\"manager\"", "\"who\":\"nobody!\"", 1)).unwrap();
    let (_, said, well) = run(s, &["events"]);
    assert!(!well && said.contains("altered at line"), "{said}");
}
