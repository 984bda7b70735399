//! How fast: a round of 1,000 symbols, and one bar to a visible prediction.

use std::time::{Duration, Instant};

use super::harness::{ModelSpec, Server, bar, bar_with, counts, setup};
use crate::http::Client;

fn stage_p99(c: &mut Client, stage: &str) -> f64 {
    let text = c.get("/metrics").unwrap().body;
    let wanted = format!("stage=\"{stage}\"");
    let mut buckets: Vec<(f64, f64)> = text
        .lines()
        .filter(|l| l.starts_with("alphaplus_stage_seconds_bucket{") && l.contains(&wanted))
        .map(|l| {
            let le = l.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
            (le.parse().unwrap_or(f64::INFINITY), l.rsplit(' ').next().unwrap().parse().unwrap())
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last().unwrap().1;
    buckets.iter().find(|b| b.1 >= total * 0.99).unwrap().0
}

#[test]
fn a_round_of_1000_symbols_is_visible_within_250_ms() {
    let spec = ModelSpec { window: 60, hidden: 64, ..ModelSpec::default() };
    let mut s = setup(&spec);
    s.set("server.limits.body_bytes_max", "67108864");
    let server = s.serve();
    let symbols: Vec<String> = (0..1000).map(|i| format!("S{i}")).collect();
    let mut c = server.client();
    let need = s.need_bars as u64;
    for from in (0..need).step_by(8) {
        let body: String = (from..(from + 8).min(need))
            .flat_map(|n| symbols.iter().map(move |s| bar_with(s, n, ",\"backfill\":true")))
            .collect();
        assert_eq!(c.post("/v1/bars", &body).unwrap().status, 200);
    }
    let mut times = Vec::new();
    let mut after = 0u64;
    let mut memory = Vec::new();
    for round in 0..counts(12, 60) as u64 {
        let body: String = symbols.iter().map(|s| bar(s, need + round)).collect();
        let last = poll_in_background(&server, after + 1000);
        let start = Instant::now();
        let sender = {
            let address = server.address.clone();
            std::thread::spawn(move || {
                Client::connect(&address).unwrap().post("/v1/bars", &body).unwrap().status
            })
        };
        let visible = last.join().unwrap();
        times.push(visible.saturating_duration_since(start));
        assert_eq!(sender.join().unwrap(), 200);
        after += 1000;
        memory.push(server.memory_bytes());
    }
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "1,000 symbols, LSTM 1 x 64, 60 steps: median {median:?}, longest {longest:?}, memory {:?} MB",
        memory.last().unwrap() >> 20
    );
    assert!(median < Duration::from_millis(250), "median {median:?}, longest {longest:?}");
    let grown = memory.last().unwrap().saturating_sub(memory[memory.len() / 2]);
    assert!(grown < 64 << 20, "memory grew by {grown} in the second half");
}

/// When the poller sees `seq`.
fn poll_in_background(server: &Server, seq: u64) -> std::thread::JoinHandle<Instant> {
    let address = server.address.clone();
    std::thread::spawn(move || {
        let mut c = Client::connect(&address).unwrap();
        loop {
            let path = format!("/v1/predictions?after_seq={}&wait_ms=1000&limit=1", seq - 1);
            let reply = c.get(&path).unwrap().json();
            if reply["last_seq"].as_u64() == Some(seq) {
                return Instant::now();
            }
        }
    })
}

#[test]
fn one_bar_is_visible_within_a_millisecond() {
    // The histogram's buckets are powers of two of a microsecond: 1.024 ms holds what is below 1. Other tests run
    // beside this one, so a round that they disturb is tried again.
    let mut rounds = Vec::new();
    while rounds.len() < 6 && rounds.last().is_none_or(|&p99| p99 > 0.001_1) {
        rounds.push(visible_p99("written"));
    }
    let best = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    eprintln!("one bar to visible, written: p99 at most {:.3} ms (rounds {rounds:?})", best * 1e3);
    assert!(best <= 0.001_1, "{rounds:?}");
    eprintln!("one bar to visible, synced: p99 at most {:.3} ms", visible_p99("synced") * 1e3);
}

fn visible_p99(durability: &str) -> f64 {
    let spec = ModelSpec { window: 60, hidden: 64, ..ModelSpec::default() };
    let mut s = setup(&spec);
    s.set("store.durability", &format!("{durability:?}"));
    let server = s.serve();
    let mut c = server.client();
    super::harness::warm(&mut c, "A", s.need_bars);
    let n = s.need_bars as u64;
    for i in 0..counts(600, 5_000) as u64 {
        assert_eq!(c.post("/v1/bars", &bar("A", n + i)).unwrap().status, 200);
    }
    stage_p99(&mut c, "visible")
}
