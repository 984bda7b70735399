//! Models that come and go while bars are predicted: nothing stalls, nothing is lost, and the old one's memory comes back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use registry::{Registry, Version};
use serde_json::Value;

use super::harness::{Server, Setup, bar, bar_with, counts, warm};
use super::models::{run, two_versions};
use crate::http::Client;

/// The model at each place of the table, once `holds` does.
fn table_when(client: &mut Client, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let table = client.get("/v1/deployments").unwrap().json()["deployments"].as_array().unwrap().clone();
        if holds(&table) {
            return table;
        }
        assert!(Instant::now() < until, "{table:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn point(s: &Setup, alias: &str, to: &str) {
    run(s, &["models", "alias", "test", alias, to]).unwrap();
}

/// Feeds a bar of A each few milliseconds from `next` on, some in the making first, and polls between: every poll is
/// answered.
fn feed(server: &Server, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> thread::JoinHandle<Vec<Duration>> {
    let address = server.address.clone();
    thread::spawn(move || {
        let mut client = Client::connect(&address).unwrap();
        let mut times = Vec::new();
        while !stop.load(Ordering::Acquire) {
            let n = next.load(Ordering::Acquire);
            let started = Instant::now();
            let forming = bar_with("A", n, ",\"final\":false");
            if n.is_multiple_of(3) && client.post("/v1/bars", &forming).is_err() {
                break;
            }
            let Ok(reply) = client.post("/v1/bars", &bar("A", n)) else { break };
            assert_eq!(reply.status, 200, "{}", reply.body);
            times.push(started.elapsed());
            next.store(n + 1, Ordering::Release);
            let Ok(reply) = client.get("/v1/predictions/A") else { break };
            assert_eq!(reply.status, 200, "{}", reply.body);
            thread::sleep(Duration::from_millis(2));
        }
        times
    })
}

#[test]
fn an_alias_moves_while_bars_and_polls_go_on() {
    let mut s = two_versions();
    s.set("models.check_ms", "20");
    point(&s, "champion", "1");
    let mut server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap();
    let next = Arc::new(AtomicU64::new(s.need_bars as u64 + 1));
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = feed(&server, next.clone(), stop.clone());
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let author = registry::Author { at: "2024-01-01T00:00:00Z", who: "test", why: "" };
    let swaps = counts(16, 200) as u32;
    let mut memory = Vec::new();
    for round in 0..swaps {
        let version = 2 - round % 2;
        registry.set_alias("test", "champion", version, author).unwrap();
        let model = format!("test/{version}");
        table_when(&mut client, |table| table[0]["model"] == *model);
        memory.push(server.memory_bytes());
    }
    stop.store(true, Ordering::Release);
    feeder.join().unwrap();
    let half = memory.len() / 2;
    let most = |of: &[u64]| of.iter().max().copied().unwrap();
    let grown = most(&memory[half..]).saturating_sub(most(&memory[..half]));
    assert!(grown < 4 << 20, "{grown} bytes: {memory:?}");
    // Each bar was predicted by one model, or by two where one took over right then.
    let made = client.get("/v1/predictions?limit=10000").unwrap().json();
    let mut by_bar: HashMap<String, Vec<Value>> = HashMap::new();
    for p in made["predictions"].as_array().unwrap() {
        by_bar.entry(p["open_time"].as_str().unwrap().into()).or_default().push(p.clone());
    }
    assert_eq!(by_bar.len() as u64, next.load(Ordering::Acquire) - s.need_bars as u64);
    // A bar in the making is predicted, and again when it is final.
    let of = |list: &[Value], model: &str, is_provisional: bool| {
        let fits = |p: &&Value| p["model"] == model && p.get("provisional").is_some() == is_provisional;
        list.iter().filter(fits).filter(|p| p.get("recovered").is_none()).count()
    };
    for list in by_bar.values() {
        for (model, provisional) in [("test/1", true), ("test/1", false), ("test/2", true), ("test/2", false)]
        {
            assert!(of(list, model, provisional) <= 1, "a bar was predicted twice by one model: {list:?}");
        }
    }
    let taken_over =
        made["predictions"].as_array().unwrap().iter().filter(|p| p.get("recovered").is_some()).count();
    assert!(taken_over > 0 && taken_over <= swaps as usize, "{taken_over}");
    let last = client.get("/v1/predictions/A").unwrap().json();
    let text = client.get("/metrics").unwrap().body;
    assert!(text.contains(&format!("model_swaps_total{{outcome=\"done\"}} {swaps}")), "{text}");

    // A kill in the middle of one: the restart has what the alias points at, and every prediction that was seen.
    registry.set_alias("test", "champion", 1 + swaps % 2, author).unwrap();
    thread::sleep(Duration::from_millis(25));
    server.kill();
    registry.set_alias("test", "champion", 2 - swaps % 2, author).unwrap();
    let mut server = s.serve();
    let mut client = server.client();
    let again = client.get("/v1/predictions?limit=10000").unwrap().json();
    let again = again["predictions"].as_array().unwrap();
    let before = made["predictions"].as_array().unwrap();
    assert_eq!(&again[..before.len()], &before[..], "of models that serve no more as well");
    let n = next.load(Ordering::Acquire);
    assert_eq!(client.post("/v1/bars", &bar("A", n)).unwrap().status, 200);
    let now = client.get("/v1/predictions/A").unwrap().json();
    assert_eq!(now["model"], *format!("test/{}", 2 - swaps % 2));
    assert!(now["seq"].as_u64() > last["seq"].as_u64());
    assert!(server.stop());
    // The predictions of both versions come out again to the bit.
    for p in before.iter().rev().step_by(before.len() / 12) {
        let said = run(&s, &["replay", &p["seq"].to_string()]).unwrap();
        assert!(said.contains("the bits are the same"), "{said}");
    }
}

#[test]
fn a_challenger_shadows_and_takes_its_place() {
    let mut s = two_versions();
    s.set("models.check_ms", "20");
    s.set(
        "deployments",
        "[{model=\"test@champion\",symbols=[\"*\"],timeframe=\"1h\",challenger={model=\"test@challenger\",symbols=[\"B\"]}}]",
    );
    point(&s, "champion", "1");
    let mut server = s.serve();
    let mut client = server.client();
    let need = s.need_bars as u64;
    for symbol in ["A", "B"] {
        warm(&mut client, symbol, s.need_bars);
        client.post("/v1/bars", &bar(symbol, need)).unwrap();
    }
    let poll = |client: &mut Client, path: &str| client.get(&format!("/v1/predictions/{path}")).unwrap();
    assert_eq!(poll(&mut client, "A").json()["model"], "test/1");
    assert_eq!(poll(&mut client, "A?model=test@challenger").status, 503, "there is none yet");
    point(&s, "challenger", "2");
    table_when(&mut client, |table| table[1]["model"] == "test/2");
    let shadow = poll(&mut client, "A?model=test@challenger").json();
    assert_eq!((&shadow["model"], &shadow["shadow"]), (&"test/2".into(), &true.into()), "at once");
    assert_eq!(poll(&mut client, "A").json()["model"], "test/1");
    assert_eq!(poll(&mut client, "A?model_type=lstm").json()["model"], "test/1");
    assert_eq!(poll(&mut client, "A?model_type=gru").status, 404);
    assert_eq!(poll(&mut client, "B").json()["model"], "test/2", "B is of the challenger's split");
    assert_eq!(poll(&mut client, "B").json().get("shadow"), None);
    client.post("/v1/bars", &bar("A", need + 1)).unwrap();
    let list = client.get("/v1/predictions?symbols=A").unwrap().json();
    let models: Vec<&Value> = list["predictions"].as_array().unwrap().iter().map(|p| &p["model"]).collect();
    assert!(models.iter().all(|model| **model == "test/1"), "no shadows unasked: {models:?}");

    // The challenger becomes the champion: nothing is loaded, and both go on.
    point(&s, "champion", "2");
    table_when(&mut client, |table| table[0]["model"] == "test/2" && table[1].get("model").is_none());
    let promoted = poll(&mut client, "A").json();
    assert_eq!((&promoted["model"], promoted.get("shadow")), (&"test/2".into(), None), "no shadow any more");
    let text = client.get("/metrics").unwrap().body;
    assert!(text.contains("model_swaps_total{outcome=\"exchanged\"} 1"), "{text}");
    point(&s, "challenger", "1");
    table_when(&mut client, |table| table[1]["model"] == "test/1");
    assert_eq!(poll(&mut client, "B").json()["model"], "test/1");
    let body = format!(
        "{{\"symbol\":\"A\",\"timeframe\":\"1h\",\"model_type\":\"lstm\",\"bars\":[{}]}}",
        (0..need)
            .map(|n| bar("A", n).replace("\"symbol\":\"A\",\"timeframe\":\"1h\",", ""))
            .collect::<Vec<_>>()
            .join(",")
    );
    assert_eq!(client.post("/v1/predict", &body).unwrap().json()["model"], "test/2", "as polls get it");
    let body = body.replace("\"model_type\":\"lstm\"", "\"model\":\"test@challenger\"");
    assert_eq!(client.post("/v1/predict", &body).unwrap().json()["model"], "test/1");
    run(&s, &["models", "alias", "test", "challenger", "--remove"]).unwrap();
    table_when(&mut client, |table| table[1].get("model").is_none());
    assert_eq!(poll(&mut client, "A?model=test@challenger").status, 503);
    assert_eq!(poll(&mut client, "B").json()["model"], "test/2");
    // Shadows stay shadows over a restart, and what they said waits for its outcome.
    assert!(server.stop());
    let server = s.serve();
    let mut client = server.client();
    let list = client.get("/v1/predictions?symbols=A").unwrap().json();
    assert!(list["predictions"].as_array().unwrap().iter().all(|p| p.get("shadow").is_none()));
    client.post("/v1/bars", &bar("A", need + 2)).unwrap();
    client.post("/v1/bars", &bar("A", need + 3)).unwrap();
    let outcomes = client.get("/v1/outcomes?symbols=A&list=100").unwrap().json();
    let of =
        |model: &str| outcomes["outcomes"].as_array().unwrap().iter().filter(|o| o["model"] == model).count();
    assert!(of("test/1") >= 2 && of("test/2") >= 2, "{outcomes}");
}

#[test]
fn a_version_that_can_not_serve_leaves_the_old_one_in_its_place() {
    let mut s = two_versions();
    s.set("models.check_ms", "20");
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let first = registry.load("test", Version::Number(1)).unwrap();
    let mut other = first.manifest.clone();
    other.label.horizon_bars = 2;
    registry.publish(other, &[("model.onnx", &first.onnx)]).unwrap();
    point(&s, "champion", "1");
    let server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap();
    point(&s, "champion", "3");
    let table = table_when(&mut client, |table| !table[0]["problem"].is_null());
    let problem = table[0]["problem"].as_str().unwrap();
    assert!(problem.contains("version 3") && problem.contains("a row of its own"), "{problem}");
    client.post("/v1/bars", &bar("A", s.need_bars as u64 + 1)).unwrap();
    assert_eq!(client.get("/v1/predictions/A").unwrap().json()["model"], "test/1");
    point(&s, "champion", "2");
    let table = table_when(&mut client, |table| table[0]["model"] == "test/2");
    assert!(table[0]["problem"].is_null());
}
