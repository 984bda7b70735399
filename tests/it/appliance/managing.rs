//! The appliance manages its models by itself: a challenger that is found better and passes the gate takes the champion's
//! place, and goes again when the world turns; what is asked for is trained. The event log tells each step.

use std::thread;
use std::time::{Duration, Instant};

use registry::{Author, Registry};
use serde_json::Value;

use super::harness::{ModelSpec, Server, Setup, setup};
use super::retraining::{closes, done, events, file, kinds, line};
use crate::http::Client;

/// Bars of the file that the first model saw.
const FIRST: usize = 2500;
/// Where the second model's bars end.
const SECOND: usize = 5200;
/// Where the world turns.
const TURNS: usize = 8000;
const ALL: usize = 12_000;
const ADMIN: &str = "admin-token-0123456789";

/// A champion that learnt next to nothing, deployed with a place for a challenger.
fn managed(closes: &[f64], automatic: bool) -> (Setup, String) {
    let mut s = setup(&ModelSpec::default());
    let first = file(&s, closes, FIRST).display().to_string();
    let train = ["train", "--json", "--name", "tent", "--features", "features", "--bars", &first];
    let how = ["--window", "8", "--hyper", "hidden=16", "--epochs", "1", "--learning-rate", "0.00001"];
    done(&s, &[&train[..], &how].concat());
    done(&s, &["models", "alias", "tent", "champion", "1", "--why", "the first"]);
    let token = s.folder.path().join("token");
    std::fs::write(&token, ADMIN).unwrap();
    for (key, value) in [
        ("server.tokens.admin_file", format!("{:?}", token.display().to_string())),
        ("models.check_ms", "20".into()),
        ("management.check_ms", "50".into()),
        ("management.automatic", automatic.to_string()),
        ("management.bars", format!("[{first:?}]")),
        ("management.latency_us", "100000".into()),
        ("server.limits.queue_bars_max", "200000".into()),
        (
            "deployments",
            "[{model=\"tent@champion\",symbols=[\"TENT\"],timeframe=\"1h\",challenger={model=\"tent@challenger\"}}]"
                .into(),
        ),
    ] {
        s.set(key, &value);
    }
    (s, first)
}

fn feed(client: &mut Client, closes: &[f64], range: std::ops::Range<usize>) {
    for chunk in range.collect::<Vec<_>>().chunks(50) {
        let body: String = chunk.iter().map(|&n| line(closes, n, false)).collect();
        assert_eq!(client.post("/v1/bars", &body).unwrap().status, 200);
    }
}

/// Versions that serve: the champion and the challenger.
fn serving(client: &mut Client) -> (Value, Value) {
    let table = client.get("/v1/deployments").unwrap().json();
    (table["deployments"][0]["model"].clone(), table["deployments"][1]["model"].clone())
}

fn serves_when(server: &Server, s: &Setup, champion: &str, challenger: Option<&str>) {
    let wanted = (Value::from(champion), challenger.map_or(Value::Null, Value::from));
    let mut client = server.client();
    let until = Instant::now() + Duration::from_secs(240);
    while serving(&mut client) != wanted {
        let table = || client_text(server);
        assert!(Instant::now() < until, "{wanted:?}: {}\n{:?}", table(), events(s));
        thread::sleep(Duration::from_millis(20));
    }
}

fn client_text(server: &Server) -> String {
    server.client().get("/v1/deployments").unwrap().body
}

#[test]
fn a_better_challenger_is_promoted_and_taken_back_when_the_world_turns() {
    let closes = closes(ALL, TURNS);
    let (s, first) = managed(&closes, true);
    let server = s.serve();
    let mut client = server.client();
    feed(&mut client, &closes, FIRST - 300..SECOND);
    let retrain = ["retrain", "tent@champion", "--bars", &first, "--from-spool", "--json"];
    let how = ["--epochs", "40", "--patience", "10", "--learning-rate", "0.005"];
    done(&s, &[&retrain[..], &how].concat());
    serves_when(&server, &s, "tent/1", Some("tent/2"));

    // It is better, the test finds so, the gate lets it in, and the one before runs along.
    feed(&mut client, &closes, SECOND..TURNS);
    serves_when(&server, &s, "tent/2", Some("tent/1"));
    let until = Instant::now() + Duration::from_secs(20);
    while client.get("/v1/deployments").unwrap().json()["management"][0]["watch"]["model"] != "tent/2" {
        assert!(Instant::now() < until, "{}", client_text(&server));
        thread::sleep(Duration::from_millis(20));
    }
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let change = registry.history("tent").unwrap().changes.into_iter().rev().find(|c| c.alias == "champion");
    assert!(change.is_some_and(|c| c.who == "manager" && c.why.starts_with("gate passed")));

    // The world turns: the new one does worse than the one before, which comes back.
    feed(&mut client, &closes, TURNS..ALL);
    serves_when(&server, &s, "tent/1", None);
    let told = events(&s);
    let all = kinds(&told);
    let order = [
        "retraining_finished",
        "swapped",
        "ab_decision",
        "gate_verdict",
        "promoted",
        "drift_alarm",
        "rolled_back",
    ];
    let mut rest = all.iter();
    for kind in order {
        assert!(rest.any(|k| *k == kind), "{kind} in its place: {all:?}");
    }
    let found = |kind: &str| told.iter().find(|e| e["kind"] == kind).unwrap();
    assert_eq!(found("ab_decision")["who"], "manager");
    assert!(found("ab_decision")["why"].as_str().unwrap().contains("better"), "{}", found("ab_decision"));
    assert_eq!(found("rolled_back")["model"], "tent/1");
    assert!(
        found("rolled_back")["why"].as_str().unwrap().contains("model before"),
        "{}",
        found("rolled_back")
    );
}

#[test]
fn without_automatic_what_is_found_is_told_and_left() {
    let closes = closes(ALL, TURNS);
    let (s, first) = managed(&closes, false);
    let mut server = s.serve();
    let mut client = server.client();
    feed(&mut client, &closes, FIRST - 300..SECOND);

    // On demand all the same.
    let refused = client.post("/v1/models/tent/retrain", "").unwrap();
    assert_eq!(refused.status, 401, "{}", refused.body);
    let bearer = format!("Bearer {ADMIN}");
    let ask = |client: &mut Client, name: &str| {
        let path = format!("/v1/models/{name}/retrain");
        client.request("POST", &path, &[("Authorization", &bearer)], "").unwrap().status
    };
    assert_eq!(ask(&mut client, "other"), 404);
    assert_eq!(ask(&mut client, "tent"), 202);
    serves_when(&server, &s, "tent/1", Some("tent/2"));
    let told = events(&s);
    let finished = told.iter().find(|e| e["kind"] == "retraining_finished").unwrap();
    assert_eq!((&finished["who"], &finished["model"]), (&"manager".into(), &"tent/2".into()));

    let retrain = ["retrain", "tent@champion", "--bars", &first, "--from-spool", "--json"];
    let how = ["--epochs", "40", "--patience", "10", "--learning-rate", "0.005"];
    done(&s, &[&retrain[..], &how].concat());
    serves_when(&server, &s, "tent/1", Some("tent/3"));
    // Half before a restart: the test goes on where it was.
    feed(&mut client, &closes, SECOND..SECOND + 100);
    thread::sleep(Duration::from_millis(200));
    assert!(server.stop());
    server = s.serve();
    let mut client = server.client();
    feed(&mut client, &closes, SECOND + 100..SECOND + 1000);
    let until = Instant::now() + Duration::from_secs(60);
    let decision = loop {
        if let Some(found) = events(&s).into_iter().find(|e| e["kind"] == "ab_decision") {
            break found;
        }
        assert!(Instant::now() < until, "{}", client.get("/v1/deployments").unwrap().body);
        thread::sleep(Duration::from_millis(50));
    };
    assert!(decision["why"].as_str().unwrap().contains("tent/3 was found better"), "{decision}");
    assert!(decision["detail"]["counts"]["pairs"].as_u64().unwrap() > 120, "{decision}");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(serving(&mut client), ("tent/1".into(), "tent/3".into()), "nobody asked for a promotion");

    // One that is worse than what it took the place of is told of, and stays too.
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let author = Author { at: "2024-01-01T00:00:00Z", who: "test", why: "" };
    registry.set_alias("tent", "champion", 3, author).unwrap();
    registry.set_alias("tent", "challenger", 1, author).unwrap();
    serves_when(&server, &s, "tent/3", Some("tent/1"));
    feed(&mut client, &closes, SECOND + 1000..TURNS + 1500);
    let until = Instant::now() + Duration::from_secs(60);
    while !events(&s).iter().any(|e| e["kind"] == "drift_alarm" && e["model"] == "tent/3") {
        assert!(Instant::now() < until, "{}", client.get("/v1/deployments").unwrap().body);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(serving(&mut client), ("tent/3".into(), "tent/1".into()));
}
