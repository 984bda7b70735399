//! The readers of shared memory in C, C++ and Python against the writer, while it writes as fast as it can.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shared::{Cause, Clock, Label, Options, Snapshot, State, Uncertainty, Writer, flag};

use crate::clients;
use crate::python;
use crate::skip::{root, skip};

/// Every field follows from `n`, so that a mixture of two shows.
fn nth(n: u64) -> Snapshot {
    Snapshot {
        state: [State::Prediction, State::Warming, State::Abstained, State::Quarantined][n as usize % 4],
        seq: n,
        durable_seq: 0,
        value: n as f64 / 3.0,
        valid_until_ns: n as i64 + 1,
        made_at_ns: -(n as i64),
        open_time_ns: n as i64 * 3,
        close_time_ns: n as i64 * 5,
        horizon_bars: n ^ 0xFF,
        have: n.wrapping_mul(7),
        need: n.wrapping_mul(11),
        revision: !n,
        flags: n & (flag::PROVISIONAL | flag::RECOVERED | flag::REVISED),
        cause: [Cause::None, Cause::Plugin, Cause::NotFinite][n as usize % 3],
        label: Label::new(["log_return", "realised_volatility", "", "x"][n as usize % 4]).unwrap(),
        model_version: n ^ 0x55,
        uncertainty: (!n.is_multiple_of(3)).then(|| Uncertainty {
            confidence: n as f64 * 0.25,
            low: -(n as f64),
            high: n as f64,
            level: 0.5,
        }),
    }
}

/// As the clients print it.
fn line(s: &Snapshot) -> String {
    let label = if s.label.as_str().is_empty() { "-" } else { s.label.as_str() };
    let sure = match s.uncertainty {
        Some(u) => format!("{} {} {} {}", u.confidence, u.low, u.high, u.level),
        None => "nan nan nan nan".into(),
    };
    format!(
        "{} {} {} {} {} {} {} {} {} {} {} {} {} {label} {} {sure}",
        s.state as u64,
        s.seq,
        s.value,
        s.valid_until_ns,
        s.made_at_ns,
        s.open_time_ns,
        s.close_time_ns,
        s.horizon_bars,
        s.have,
        s.need,
        s.revision,
        s.flags,
        s.cause as u64,
        s.model_version
    )
}

fn check(command: &mut Command, seen_min: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let writer = Writer::create(&path, &Options { slots: 3, mode: 0o600, clock: Clock::Wall }).unwrap();
    for symbol in ["BTC", "BTCUSDT", "A"] {
        let slot = writer.add(symbol, "1h", 3600, "lstm/12").unwrap();
        writer.write(slot, &nth(3));
    }
    let slot = shared::Reader::open(&path).unwrap().find("BTCUSDT", "1h", "lstm").unwrap();
    let mut child = command
        .arg(&path)
        .args(["BTCUSDT", "1h", "lstm"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let printed = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let start = Instant::now();
    for n in 4.. {
        writer.write(slot, &nth(n));
        // Readers that take long need pauses between writes; the first half has none.
        if start.elapsed() > Duration::from_millis(400) {
            std::thread::sleep(Duration::from_micros(200));
        }
        if start.elapsed() > Duration::from_millis(1200) {
            break;
        }
    }
    writer.close();
    let output = child.wait_with_output().unwrap();
    let (printed, errors) = (printed.join().unwrap().unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{}: {errors}", output.status);
    let mut lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.pop(), Some("closed"), "{errors}");
    for text in &lines {
        let fields: Vec<&str> = text.split(' ').collect();
        let expected = line(&nth(fields[1].parse().unwrap()));
        let expected: Vec<&str> = expected.split(' ').collect();
        let value = |fields: &[&str]| fields[2].parse::<f64>().unwrap().to_bits();
        assert_eq!((&fields[..2], &fields[3..]), (&expected[..2], &expected[3..]));
        assert_eq!(value(&fields), value(&expected));
    }
    assert!(lines.len() >= seen_min, "only {} states were seen", lines.len());
}

/// The reader in C, compiled.
pub fn compiled(test: &str, compiler: &str, args: &[&str], folder: &Path) -> Option<OsString> {
    let include = root().join("runtime/shared/include");
    let include = include.to_str().unwrap();
    let mut all = args.to_vec();
    all.extend(["-O2", "-Wall", "-Wextra", "-Werror", "-I", include]);
    clients::compile(test, compiler, &all, folder, "shared.c")
}

/// The reader in Python, with its module found.
pub fn in_python(interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.env("PYTHONPATH", root().join("runtime/shared/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(root().join("tests/clients/shared.py"));
    command
}

#[test]
fn shared_memory_read_in_c() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(client) = compiled("shared memory read in C", "cc", &["-std=c11"], folder.path()) {
        check(&mut Command::new(client), 1000);
    }
}

#[test]
fn shared_memory_read_in_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["-std=c++11", "-x", "c++"];
    if let Some(client) = compiled("shared memory read in C++", "c++", &args, folder.path()) {
        check(&mut Command::new(client), 1000);
    }
}

#[test]
fn shared_memory_read_in_python() {
    match python::interpreter(&["mmap"]) {
        Ok(interpreter) => check(&mut in_python(&interpreter), 100),
        Err(reason) => skip("shared memory read in Python", &reason),
    }
}
