//! Outcomes from outside: each prediction gets one, also over `kill -9`, and the interval that follows them goes on to
//! the same bits as without a kill.

use super::harness::{ModelSpec, Setup, bar, bar_with, counts, setup, warm};

/// Feeds so many bars, one a request, and polls after each; killed behind every `kill_every`-th.
fn run(bars: u64, kill_every: Option<u64>) -> (Setup, Vec<serde_json::Value>) {
    let s = setup(&ModelSpec { calibrated: true, ..ModelSpec::default() });
    let mut server = s.serve();
    warm(&mut server.client(), "A", s.need_bars);
    let first = s.need_bars as u64;
    let mut polled = Vec::new();
    for n in first..first + bars {
        let mut client = server.client();
        assert_eq!(client.post("/v1/bars", &bar("A", n)).unwrap().status, 200);
        if kill_every.is_some_and(|every| n % every == 0) {
            server.kill();
            server = s.serve();
        }
        let mut reply = server.client().get("/v1/predictions/A").unwrap().json();
        let members = reply.as_object_mut().unwrap();
        members.remove("durable_seq");
        members.remove("made_at");
        members.remove("valid_until");
        polled.push(reply);
    }
    assert!(server.stop());
    (s, polled)
}

fn outcomes(s: &Setup) -> serde_json::Value {
    let output = s.command().args(["outcomes", "--json", "--list", "100000"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn outcomes_and_intervals_are_the_same_over_kills() {
    let bars = counts(24, 300) as u64;
    let (quiet, expected) = run(bars, None);
    let (killed, found) = run(bars, Some(5));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found);
        let interval = &expected["interval"];
        assert_eq!((&interval["method"], interval["level"].as_f64()), (&"adaptive".into(), Some(0.9)));
        assert!(interval["low"].as_f64() <= expected["value"].as_f64(), "{expected}");
        let confidence = expected["confidence"].as_f64().unwrap();
        assert!(confidence > 0.0 && confidence < 1.0);
        assert!(expected["confidence_of"].as_str().unwrap().contains("sign of value"), "{expected}");
    }
    // The last prediction waits for its bar; the interval in its reply has seen all but two.
    let last = &expected[expected.len() - 1]["interval"];
    assert_eq!(last["resolved"].as_u64(), Some(bars - 2));
    assert!(last["low"] != expected[0]["interval"]["low"]);
    let (quiet, killed) = (outcomes(&quiet), outcomes(&killed));
    assert_eq!(quiet, killed);
    let list = quiet["outcomes"].as_array().unwrap();
    let seqs: Vec<u64> = list.iter().map(|o| o["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..bars).collect::<Vec<_>>(), "each once");
    assert!(list.iter().all(|o| o["result"] == "value" && o["revision"] == 0), "{quiet}");
}

#[test]
fn a_running_appliance_tells_outcomes_and_their_revisions() {
    let s = setup(&ModelSpec { calibrated: true, ..ModelSpec::default() });
    let server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    let first = s.need_bars as u64;
    // Several bars in one request are as many requests.
    let body: String = (first..first + 10).map(|n| bar("A", n)).collect();
    assert_eq!(client.post("/v1/bars", &body).unwrap().json()["accepted"], 10);
    let told = client.get("/v1/outcomes?model=test&list=100").unwrap().json();
    assert_eq!(told["summaries"][0]["resolved"], 9, "{told}");
    assert_eq!(told["summaries"][0]["model"], "test/1");
    let before = told["outcomes"][8].clone();
    let revised = bar_with("A", first + 9, ",\"revision\":1").replace("\"close\":", "\"close\":1");
    let revised = revised.replace("\"high\":", "\"high\":2");
    let reply = client.post("/v1/bars", &revised).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let told = client.get("/v1/outcomes?list=100&last=50").unwrap().json();
    let after = &told["outcomes"][8];
    assert_eq!((&after["seq"], &after["revision"]), (&before["seq"], &1.into()), "{told}");
    assert_ne!(after["realised"], before["realised"]);
    assert_eq!(told["summaries"][0]["revised"], 1);
    let metrics = client.get("/metrics").unwrap().body;
    for line in [
        "outcomes_total{model=\"test/1\",result=\"value\"} 9",
        "intervals_resolved_total{model=\"test/1\"} 9",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let page = client.get("/").unwrap().body;
    assert!(page.contains("<h2>Outcomes</h2>") && page.contains("confidence"), "{page}");
    for wrong in ["last=x", "modl=test", "timeframe=7q"] {
        assert_eq!(client.get(&format!("/v1/outcomes?{wrong}")).unwrap().status, 400, "{wrong}");
    }
}

/// A second model of the same weights: no difference, and none is found.
#[test]
fn two_models_are_compared_and_drift_is_told() {
    let mut s = setup(&ModelSpec { calibrated: true, ..ModelSpec::default() });
    let registry = registry::Registry::open(s.folder.path().join("models")).unwrap();
    let first = registry.load("test", registry::Version::Latest).unwrap();
    let second = registry::Manifest { name: "other".into(), ..first.manifest.clone() };
    registry.publish(second, &[("model.onnx", &first.onnx)]).unwrap();
    let deployed =
        ["test", "other"].map(|name| format!("{{model={name:?},symbols=[\"*\"],timeframe=\"1h\"}}"));
    s.set("deployments", &format!("[{}]", deployed.join(",")));
    let mut server = s.serve();
    let mut client = server.client();
    let first = s.need_bars as u64;
    for symbol in ["A", "B"] {
        warm(&mut client, symbol, s.need_bars);
        let body: String = (first..first + 40).map(|n| bar(symbol, n)).collect();
        assert_eq!(client.post("/v1/bars", &body).unwrap().json()["accepted"], 40);
    }
    drop(client);
    assert!(server.stop());
    let run = |args: &[&str]| {
        let output = s.command().arg("outcomes").args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let (_, told, said) = run(&["--compare", "test", "other", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {said}"));
    let found = &told["comparison"];
    assert_eq!((&found["champion"], &found["challenger"]), (&"test/1".into(), &"other/1".into()), "{told}");
    assert_eq!(
        (&found["pairs"], &found["steps"], &found["mean"]),
        (&78.into(), &39.into(), &0.0.into()),
        "{told}"
    );
    assert_eq!((&found["verdict"], &found["p_value"]), (&"undecided".into(), &1.0.into()), "{told}");
    assert_eq!(found["champion_loss"], found["challenger_loss"]);
    let (well, text, _) = run(&["--compare", "test", "other"]);
    assert!(well && text.contains("nothing is decided before 30"), "{text}");
    let (well, _, said) = run(&["--compare", "test", "test/1"]);
    assert!(!well && said.contains("can't be compared with itself"), "{said}");
    let svg = s.folder.path().join("difference.svg");
    let (well, _, said) = run(&["--compare", "test", "other", "--svg", svg.to_str().unwrap()]);
    assert!(!well && said.contains("wait for more outcomes") && !svg.exists(), "{said}");
    let (_, told, said) = run(&["--drift", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {said}"));
    let drift = &told["drift"];
    assert_eq!(
        (&drift[0]["outcomes"]["model"], &drift[1]["outcomes"]["model"]),
        (&"other/1".into(), &"test/1".into())
    );
    assert_eq!(
        (&drift[1]["outcomes"]["outcomes"], &drift[1]["take_back"]["roll_back"]),
        (&78.into(), &false.into())
    );
    assert!(drift[1]["features"]["absent"].as_str().unwrap().contains("no profile"), "{told}");
    let (well, text, _) = run(&["--drift", "--model", "test"]);
    assert!(well && text.contains("intervals of 0.9 cover") && text.contains("holds"), "{text}");
}
