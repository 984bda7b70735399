//! `kill -9` at any moment: every acknowledged bar is there, every polled prediction with the same bits, and
//! sequence numbers go on without a repeat.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::harness::{ModelSpec, bar, counts, setup, warm};
use crate::http::Client;

/// seq → the reply without what may change (`durable_seq`).
type Seen = BTreeMap<u64, serde_json::Value>;

fn note(seen: &mut Seen, prediction: &serde_json::Value) {
    let mut p = prediction.clone();
    p.as_object_mut().unwrap().remove("durable_seq");
    let seq = p["seq"].as_u64().unwrap();
    if let Some(before) = seen.get(&seq) {
        assert_eq!(before, &p, "seq {seq} was given twice");
    }
    seen.insert(seq, p);
}

fn poll_until_dead(address: &str, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let Ok(mut c) = Client::connect(address) else { return };
    let mut after = seen.lock().unwrap().keys().last().copied().unwrap_or(0);
    while !stop.load(Ordering::Acquire) {
        let Ok(reply) = c.get(&format!("/v1/predictions?after_seq={after}&wait_ms=100")) else { return };
        if reply.status != 200 {
            return;
        }
        for p in reply.json()["predictions"].as_array().unwrap() {
            note(&mut seen.lock().unwrap(), p);
            after = after.max(p["seq"].as_u64().unwrap());
        }
    }
}

#[test]
fn kills_lose_nothing_that_was_acknowledged_or_seen() {
    let kills = counts(20, 200);
    let symbols = ["A", "B", "C"];
    let mut s = setup(&ModelSpec::default());
    // Small segments, so that kills also hit the change from one to the next.
    s.set("store.segment_bytes", "262144");
    let seen = Arc::new(Mutex::new(Seen::new()));
    let mut acknowledged: u64 = s.need_bars as u64;
    let mut server = s.serve();
    for symbol in symbols {
        warm(&mut server.client(), symbol, s.need_bars);
    }
    for round in 0..kills {
        let stop = Arc::new(AtomicBool::new(false));
        let poller = {
            let (address, seen, stop) = (server.address.clone(), seen.clone(), stop.clone());
            thread::spawn(move || poll_until_dead(&address, &seen, &stop))
        };
        let feeder = {
            let address = server.address.clone();
            thread::spawn(move || {
                let mut c = Client::connect(&address).unwrap();
                let mut next = acknowledged;
                loop {
                    let body: String = symbols.iter().map(|s| bar(s, next)).collect();
                    match c.post("/v1/bars", &body) {
                        Ok(reply) => {
                            let json = reply.json();
                            let taken =
                                json["accepted"].as_u64().unwrap() + json["duplicate"].as_u64().unwrap();
                            assert_eq!((reply.status, taken), (200, 3), "{}", reply.body);
                            next += 1;
                        }
                        Err(_) => return next,
                    }
                }
            })
        };
        thread::sleep(Duration::from_millis(40 + (round as u64 * 37) % 160));
        server.kill();
        acknowledged = feeder.join().unwrap();
        stop.store(true, Ordering::Release);
        poller.join().unwrap();

        server = s.serve();
        let mut c = server.client();
        for symbol in symbols {
            // Every acknowledged bar is there: sent again it is a duplicate.
            let again: String =
                (acknowledged.saturating_sub(20)..acknowledged).map(|n| bar(symbol, n)).collect();
            let json = c.post("/v1/bars", &again).unwrap().json();
            let sent = 20.min(acknowledged);
            assert_eq!(json["duplicate"].as_u64(), Some(sent), "round {round}, {symbol}: {json}");
        }
        // The newest few thousand: what earlier rounds saw was compared then.
        let from = seen.lock().unwrap().keys().last().map_or(0, |last| last.saturating_sub(6000));
        let after = c.get(&format!("/v1/predictions?after_seq={from}&limit=10000")).unwrap().json();
        let list = after["predictions"].as_array().unwrap();
        let mut last = 0;
        let now: BTreeMap<u64, &serde_json::Value> = list
            .iter()
            .map(|p| {
                let seq = p["seq"].as_u64().unwrap();
                assert!(seq > last, "seq {seq} after {last}");
                last = seq;
                (seq, p)
            })
            .collect();
        let oldest = now.keys().next().copied().unwrap_or(0);
        for (seq, before) in seen.lock().unwrap().range(oldest..) {
            let found =
                now.get(seq).unwrap_or_else(|| panic!("round {round}: seq {seq} was polled and is gone"));
            assert_eq!(before["value"], found["value"], "round {round}, seq {seq}");
            assert_eq!(before["made_at"], found["made_at"], "round {round}, seq {seq}");
        }
        for p in list {
            note(&mut seen.lock().unwrap(), p);
        }
    }
    let seen = seen.lock().unwrap();
    assert!(seen.len() as u64 > kills as u64, "too little happened: {} predictions", seen.len());
    eprintln!("{kills} kills, {} predictions seen, bars up to {acknowledged}", seen.len());
    // Sequence numbers have no holes either: each is a prediction that is kept.
    let gaps = seen.keys().zip(seen.keys().skip(1)).filter(|(a, b)| *b - *a != 1).count();
    assert_eq!(gaps, 0, "sequence numbers skip");
    // And a prediction made after all of it is what an undisturbed run makes.
    let mut c = server.client();
    let line = bar("A", acknowledged);
    let reply = c.post("/v1/bars", &line).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let disturbed = c.get("/v1/predictions/A").unwrap().json();
    let calm = setup(&ModelSpec::default());
    let server = calm.serve();
    let mut c = server.client();
    for n in (0..=acknowledged).step_by(1000) {
        let body: String = (n..(n + 1000).min(acknowledged + 1)).map(|n| bar("A", n)).collect();
        assert_eq!(c.post("/v1/bars", &body).unwrap().status, 200);
    }
    assert_eq!(c.get("/v1/predictions/A").unwrap().json()["value"], disturbed["value"]);
}
