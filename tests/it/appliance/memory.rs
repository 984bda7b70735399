//! Shared memory beside polls: they say the same, and its readers learn of every end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use market::Timestamp;
use serde_json::Value;
use shared::{ReadError, Reader, State};

use super::harness::{ModelSpec, Setup, bar, setup, warm};
use crate::skip::skip;
use crate::{python, shared as readers};

fn with_memory() -> (Setup, std::path::PathBuf) {
    let mut s = setup(&ModelSpec::default());
    let path = s.folder.path().join("memory");
    s.set("server.shared_memory", &format!("{:?}", path.display().to_string()));
    s.set("server.shared_memory_mode", "\"0640\"");
    (s, path)
}

/// The symbol's slot once the file has it.
fn read(path: &Path, symbol: &str) -> (Reader, shared::Slot) {
    let reader = Reader::open(path).unwrap();
    let slot = reader.find(symbol, "1h", "test").unwrap();
    (reader, slot)
}

fn same(json: &Value, now: &shared::Snapshot) {
    let time = |name: &str| Timestamp::parse(json[name].as_str().unwrap()).unwrap().0;
    assert_eq!(now.state, State::Prediction);
    assert_eq!(json["seq"], now.seq);
    assert_eq!(json["value"].as_f64().unwrap() as f32, now.value as f32);
    assert_eq!(json["label"], now.label.as_str());
    assert_eq!(json["horizon_bars"], now.horizon_bars);
    assert_eq!(json["revision"], now.revision);
    assert_eq!(
        [time("open_time"), time("as_of"), time("made_at"), time("valid_until")],
        [now.open_time_ns, now.close_time_ns, now.made_at_ns, now.valid_until_ns]
    );
}

#[test]
fn memory_says_what_polls_say_through_stop_restart_and_kill() {
    let (s, path) = with_memory();
    let mut server = s.serve();
    let mut c = server.client();
    let need = s.need_bars as u64;
    c.post("/v1/bars", &bar("A", 0)).unwrap();
    let (reader, slot) = read(&path, "A");
    assert_eq!(reader.key(slot).unwrap().model.as_str(), "test");
    let now = reader.read(slot).unwrap();
    let json = c.get("/v1/predictions/A").unwrap().json();
    assert_eq!((now.state, json["reason"].as_str()), (State::Warming, Some("warming")));
    assert_eq!((json["have"].as_u64(), json["need"].as_u64()), (Some(now.have), Some(now.need)));

    for n in 1..need + 5 {
        // Answered once durable: polls and memory have it.
        assert_eq!(c.post("/v1/bars", &bar("A", n)).unwrap().status, 200);
    }
    let json = c.get("/v1/predictions/A").unwrap().json();
    let now = reader.read(slot).unwrap();
    same(&json, &now);
    assert!(!reader.is_stale(&now), "the feed is the clock");
    let until = Instant::now() + Duration::from_secs(5);
    while reader.durable_seq() < now.seq {
        assert!(Instant::now() < until, "durable_seq stays {}", reader.durable_seq());
    }
    warm(&mut c, "B", s.need_bars);
    let (_, other) = read(&path, "B");
    assert_eq!(reader.read(other).unwrap().state, State::Warming);

    let shown = s.command().args(["shared", "--symbol", "A"]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert!(text.contains("test") && text.contains(&format!("{}", now.value as f32)), "{text}");
    assert!(text.contains("2 of 10000 slots") && !text.contains("\nB "), "{text}");

    assert!(server.stop());
    assert!(matches!(reader.read(slot), Err(ReadError::Closed)));
    let shown = s.command().args(["shared"]).output().unwrap();
    assert!(!shown.status.success() && String::from_utf8_lossy(&shown.stderr).contains("has ended"));

    let mut server = s.serve();
    let (reader, slot) = read(&path, "A");
    same(&server.client().get("/v1/predictions/A").unwrap().json(), &reader.read(slot).unwrap());
    let refused = s.refused();
    assert!(refused.contains("server.shared_memory") && refused.contains("another path"), "{refused}");
    assert!(reader.read(slot).is_ok(), "the running one is not disturbed");

    server.kill();
    let killed = Instant::now();
    while !matches!(reader.read(slot), Err(ReadError::Dead { .. })) {
        assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", reader.read(slot));
    }
    let shown = s.command().args(["shared"]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("test"), "the last there was");
    assert!(String::from_utf8_lossy(&shown.stderr).contains("the appliance is gone"));
}

/// The client sees the prediction, and says that the appliance was killed.
fn sees_a_kill(command: &mut Command) {
    let (s, path) = with_memory();
    let mut server = s.serve();
    let mut c = server.client();
    for n in 0..s.need_bars as u64 + 3 {
        assert_eq!(c.post("/v1/bars", &bar("A", n)).unwrap().status, 200);
    }
    let seq = c.get("/v1/predictions/A").unwrap().json()["seq"].as_u64().unwrap();
    let mut child = command.arg(&path).args(["A", "1h", "test"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap();
    assert!(
        first.starts_with(&format!("1 {seq} ")) && first.ends_with(" log_return 1 nan nan nan nan"),
        "{first}"
    );
    server.kill();
    let killed = Instant::now();
    assert_eq!(lines.last().as_deref(), Some("dead"));
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_in_c_learns_of_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(client) =
        readers::compiled("a reader in C learns of a kill", "cc", &["-std=c11"], folder.path())
    {
        sees_a_kill(&mut Command::new(client));
    }
}

#[test]
fn a_reader_in_python_learns_of_a_kill() {
    match python::interpreter(&["mmap"]) {
        Ok(interpreter) => sees_a_kill(&mut readers::in_python(&interpreter)),
        Err(reason) => skip("a reader in Python learns of a kill", &reason),
    }
}
