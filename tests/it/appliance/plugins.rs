//! A plugin that fails while it serves: polls get a typed abstention, the instance is rebuilt and its window
//! replayed, and one that keeps failing is quarantined; bars are taken all the while.

use serde_json::json;

use super::harness::{ModelSpec, Setup, bar, root, setup};
use crate::http::Client;

fn hostile(mode: &str, at: u64) -> Setup {
    let spec = ModelSpec {
        features: root().join("tests/data/plugins/hostile-features.wasm"),
        options: json!({ "mode": mode, "at": at }),
        window: 4,
        ..ModelSpec::default()
    };
    let mut s = setup(&spec);
    s.set("plugins.bar_deadline_ms", "100");
    s
}

fn feed(c: &mut Client, symbol: &str, n: u64) {
    let reply = c.post("/v1/bars", &bar(symbol, n)).unwrap();
    assert_eq!((reply.status, reply.json()["accepted"].as_u64()), (200, Some(1)), "{}", reply.body);
}

#[test]
fn a_failing_bar_is_an_abstention_and_the_stream_comes_back() {
    for (mode, says) in [
        ("panic", "src/lib.rs:"),
        ("loop", "longer than"),
        ("memory", "memory"),
        ("nan", "finite"),
        ("short", "1"),
        ("refuse", "no rows after bar"),
    ] {
        let mut s = hostile(mode, 10);
        s.set("plugins.failures_max", "1000");
        let server = s.serve();
        let mut c = server.client();
        for n in 0..10 {
            feed(&mut c, "A", n);
            feed(&mut c, "B", n);
        }
        assert_eq!(c.get("/v1/predictions/A").unwrap().status, 200, "{mode}");
        feed(&mut c, "A", 10);
        let poll = c.get("/v1/predictions/A").unwrap();
        let json = poll.json();
        assert_eq!((poll.status, json["reason"].as_str()), (503, Some("abstained")), "{mode}: {json}");
        let error = json["error"].as_str().unwrap();
        assert!(error.contains("hostile") && error.contains(says), "{mode}: {error}");
        assert_eq!(json.get("value"), None);
        // The other stream lost its state with the instance and has it again.
        let before = c.get("/v1/predictions/B").unwrap();
        assert_eq!(before.status, 200, "{mode}: {}", before.body);
        let other = setup_like(&s);
        let calm = other.serve();
        let mut calm_client = calm.client();
        for n in 0..10 {
            feed(&mut calm_client, "B", n);
        }
        assert_eq!(calm_client.get("/v1/predictions/B").unwrap().json()["value"], before.json()["value"]);
        // The failing stream warms up again behind the bar.
        feed(&mut c, "A", 11);
        let warming = c.get("/v1/predictions/A").unwrap().json();
        assert_eq!(warming["reason"], "warming", "{mode}: {warming}");
        for n in 12..18 {
            feed(&mut c, "A", n);
        }
        assert_eq!(c.get("/v1/predictions/A").unwrap().status, 200, "{mode}");
        let metrics = c.get("/metrics").unwrap().body;
        assert!(metrics.contains("alphaplus_abstentions_total{"), "{mode}");
    }
}

/// The same plugin and settings with a spool of its own.
fn setup_like(s: &Setup) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = s.settings.clone();
    let spool = format!("{:?}", folder.path().join("spool").display().to_string());
    settings.retain(|(k, _)| k != "store.folder");
    settings.push(("store.folder".into(), spool));
    Setup { folder, settings, need_bars: s.need_bars }
}

#[test]
fn one_that_keeps_failing_is_quarantined_and_bars_are_taken_on() {
    let mut s = hostile("panic", 5);
    s.set("plugins.failures_max", "3");
    let mut server = s.serve();
    let mut c = server.client();
    let mut quarantined = false;
    for n in 0..60 {
        feed(&mut c, "A", n);
        let json = c.get("/v1/predictions/A").unwrap().json();
        if json["reason"] == "quarantined" {
            let error = json["error"].as_str().unwrap();
            assert!(error.contains("3 failures") && error.contains("src/lib.rs:"), "{error}");
            quarantined = true;
        } else {
            assert!(!quarantined, "once quarantined it stays so: {json}");
        }
    }
    assert!(quarantined);
    assert_eq!(c.get("/v2/health/ready").unwrap().status, 503);
    assert!(c.get("/metrics").unwrap().body.contains("alphaplus_plugins_quarantined 1"));
    assert!(server.stop());
    // A restart tries again; the bars are all there.
    let server = s.serve();
    let mut c = server.client();
    let json = c.post("/v1/bars", &bar("A", 59)).unwrap().json();
    assert_eq!(json["duplicate"], 1, "{json}");
}

#[test]
fn rows_that_are_refused_are_their_streams_matter_alone() {
    let mut s = hostile("nan", 5);
    s.set("plugins.failures_max", "2");
    let server = s.serve();
    let mut c = server.client();
    for symbol in ["A", "B", "C", "D"] {
        for n in 0..6 {
            feed(&mut c, symbol, n);
        }
        assert_eq!(c.get(&format!("/v1/predictions/{symbol}")).unwrap().json()["reason"], "abstained");
    }
    for n in 0..5 {
        feed(&mut c, "E", n);
    }
    assert_eq!(c.get("/v1/predictions/E").unwrap().status, 200, "no quarantine");
}

#[test]
fn a_plugin_that_looks_ahead_is_refused_before_training() {
    let s = hostile("look-ahead", 3);
    let bars = root().join("tests/data/bars/BTCUSDT-1h.csv.gz");
    let output = s
        .command()
        .args([
            "train",
            "--symbol",
            "BTCUSDT",
            "--name",
            "x",
            "--features",
            "features",
            "--options",
            "mode=look-ahead",
            "--bars",
        ])
        .arg(bars)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("error:") && said.contains("change"), "{said}");
    let test = s
        .command()
        .args(["plugin", "test"])
        .arg(root().join("plugins/dist/technical.wasm"))
        .output()
        .unwrap();
    assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stderr));
}
