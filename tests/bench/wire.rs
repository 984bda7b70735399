//! The cases against a started appliance: polls, how many a second, a bar to its visible prediction.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::appliance::{Appliance, Connection, PUBLISHED, SYMBOL, Server};
use crate::stats::Round;
use crate::{machine, pin};

/// Connections that ask at once in `poll_rate`.
const CONNECTIONS: usize = 8;

/// From an acknowledged bar to the next.
const BETWEEN_BARS: Duration = Duration::from_millis(3);

fn rounds(quick: bool) -> usize {
    if quick { 3 } else { 7 }
}

/// Pins the calling thread; what to note where it can't.
fn pin_client() -> Option<String> {
    let core = machine::cores().first().copied()?;
    pin::pin(&[core]).err().map(|e| format!("the polling client could not be pinned to a core: {e}"))
}

pub fn poll_tcp(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let connection = appliance.tcp()?;
    polls(appliance, connection, quick)
}

pub fn poll_unix(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let connection = appliance.unix()?;
    polls(appliance, connection, quick)
}

/// Neither the client nor the appliance sleeps.
pub fn poll_tcp_spin(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let connection = appliance.tcp()?.spinning()?;
    polls(appliance, connection, quick)
}

pub fn poll_unix_spin(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let connection = appliance.unix()?.spinning()?;
    polls(appliance, connection, quick)
}

fn shared_slot(appliance: &Appliance) -> Result<(shared::Reader, shared::Slot), String> {
    let reader = shared::Reader::open(&appliance.shared).map_err(|e| e.to_string())?;
    let slot = reader.find(SYMBOL, "1h", PUBLISHED).ok_or("the prediction has no slot in shared memory")?;
    Ok((reader, slot))
}

/// Reads of the newest prediction from shared memory; a time includes that of reading the clock.
pub fn poll_shm(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let count = if quick { 200_000 } else { 1_000_000 };
    let (reader, slot) = shared_slot(appliance)?;
    let client = move || -> Result<(Vec<Round>, Option<String>), String> {
        let note = pin_client();
        let mut found = Vec::new();
        for _ in 0..rounds(quick) {
            let mut us = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                let read = reader.read(slot).map_err(|e| e.to_string())?;
                us.push(start.elapsed().as_nanos() as f64 / 1e3);
                if read.state != shared::State::Prediction {
                    return Err("no prediction in shared memory".into());
                }
            }
            found.push(Round::of_latencies(us, 1));
        }
        Ok((found, note))
    };
    let (found, note) = thread::spawn(client).join().map_err(|_| "the client panicked")??;
    appliance.notes.extend(note.filter(|n| !appliance.notes.contains(n)));
    Ok(found)
}

/// One client that polls the newest prediction, one request after another.
fn polls(appliance: &mut Appliance, mut connection: Connection, quick: bool) -> Result<Vec<Round>, String> {
    let request = appliance.poll();
    let count = if quick { 5_000 } else { 20_000 };
    let client = move || -> Result<(Vec<Round>, Option<String>), String> {
        let note = pin_client();
        let mut found = Vec::new();
        for _ in 0..rounds(quick) {
            for _ in 0..count / 10 {
                connection.expect_ok(&request)?;
            }
            let mut us = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                let status = connection.exchange(&request)?.status;
                us.push(start.elapsed().as_secs_f64() * 1e6);
                if status != 200 {
                    return Err(format!("{status} instead of 200"));
                }
            }
            found.push(Round::of_latencies(us, 1));
        }
        Ok((found, note))
    };
    let (found, note) = thread::spawn(client).join().map_err(|_| "the client panicked")??;
    appliance.notes.extend(note.filter(|n| !appliance.notes.contains(n)));
    Ok(found)
}

/// Polls a second, with wrk where it is installed, else with a client of our own.
pub fn poll_rate(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let seconds = if quick { 1 } else { 4 };
    let wrk = Command::new("wrk").arg("--version").output().is_ok();
    let client = if wrk { "wrk" } else { "a client of this program, wrk is not installed" };
    appliance.notes.push(format!("poll_rate: {CONNECTIONS} connections of {client}"));
    let one = |appliance: &Appliance| {
        if wrk { wrk_rate(appliance, seconds) } else { own_rate(appliance, seconds) }
    };
    let figure = |rate: f64| Round { per_second: Some(rate), ..Round::default() };
    (0..rounds(quick)).map(|_| one(appliance).map(figure)).collect()
}

fn wrk_rate(appliance: &Appliance, seconds: u64) -> Result<f64, String> {
    let path = String::from_utf8_lossy(&appliance.poll()).split(' ').nth(1).unwrap_or_default().to_string();
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")])
        .arg(format!("http://{}{path}", appliance.address))
        .output()
        .map_err(|e| format!("wrk: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("Non-2xx") {
        return Err(format!("wrk got refusals:\n{text}"));
    }
    let rate = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.ok_or_else(|| format!("wrk gave no rate:\n{text}"))
}

fn own_rate(appliance: &Appliance, seconds: u64) -> Result<f64, String> {
    let request = appliance.poll();
    let begin = Instant::now();
    let until = begin + Duration::from_secs(seconds);
    let connections = (0..CONNECTIONS).map(|_| appliance.tcp()).collect::<Result<Vec<_>, _>>()?;
    let clients: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let request = request.clone();
            thread::spawn(move || -> Result<usize, String> {
                let mut count = 0;
                while Instant::now() < until {
                    connection.expect_ok(&request)?;
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for client in clients {
        count += client.join().map_err(|_| "a client panicked")??;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

pub fn infer_256(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    infers(appliance, 256, quick)
}

pub fn infer_1000(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    infers(appliance, 1000, quick)
}

/// One client that sends so many windows as bytes in one request, and then the next; in windows a second. Each is
/// answered.
fn infers(appliance: &mut Appliance, rows: usize, quick: bool) -> Result<Vec<Round>, String> {
    let mut connection = appliance.tcp()?;
    let (window, features) = appliance.input;
    let numbers = crate::model::rows(0, rows * window, features);
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let size = bytes.len();
    let head = format!(
        "{{\"inputs\":[{{\"name\":\"features\",\"shape\":[{rows},{window},{features}],\"datatype\":\"FP32\",\
         \"parameters\":{{\"binary_data_size\":{size}}}}}],\"parameters\":{{\"binary_data_output\":true}}}}"
    );
    let mut request = format!(
        "POST /v2/models/{PUBLISHED}/infer HTTP/1.1\r\nHost: {}\r\nInference-Header-Content-Length: {}\r\n\
         Content-Length: {}\r\n\r\n{head}",
        appliance.address,
        head.len(),
        head.len() + size
    )
    .into_bytes();
    request.extend_from_slice(&bytes);
    let times = (if quick { 2_500 } else { 10_000 } / rows).max(2);
    let mut found = Vec::new();
    for _ in 0..rounds(quick) {
        connection.expect_ok(&request)?;
        let mut us = Vec::with_capacity(times);
        for _ in 0..times {
            let start = Instant::now();
            let reply = connection.exchange(&request)?;
            us.push(start.elapsed().as_secs_f64() * 1e6);
            let expected = format!("\"shape\":[{rows},1]");
            if reply.status != 200 || !String::from_utf8_lossy(reply.body).contains(&expected) {
                return Err(format!("{} instead of {rows} answers", reply.status));
            }
        }
        found.push(Round::of_latencies(us, rows));
    }
    Ok(found)
}

/// A bar over TCP, until a process that reads shared memory without a pause sees the prediction made of it.
pub fn bar_to_visible(appliance: &mut Appliance, quick: bool) -> Result<Vec<Round>, String> {
    let (reader, slot) = shared_slot(appliance)?;
    let mut feed = appliance.tcp()?;
    let count = if quick { 150 } else { 600 };
    let stop = AtomicBool::new(false);
    let (appliance_cores, reader_cores) = Server::Beside.cores();
    let _ = pin::pin(&appliance_cores);
    let (sender, seen) = mpsc::channel::<Result<(f64, Instant), String>>();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = pin::pin(&reader_cores);
            let mut newest = 0;
            while !stop.load(Ordering::Relaxed) {
                let read = reader.read(slot);
                let at = Instant::now();
                let news = match read {
                    Ok(read) if read.seq <= newest => {
                        std::hint::spin_loop();
                        continue;
                    }
                    Ok(read) => {
                        newest = read.seq;
                        Ok((read.seq as f64, at))
                    }
                    Err(error) => Err(error.to_string()),
                };
                if sender.send(news).is_err() {
                    break;
                }
            }
        });
        let next = || {
            let none = |_| Err("no prediction became visible within 10 s".into());
            seen.recv_timeout(Duration::from_secs(10)).unwrap_or_else(none)
        };
        let mut measure = || -> Result<Vec<Round>, String> {
            let (mut newest, _) = next()?;
            let mut found = Vec::new();
            for _ in 0..rounds(quick) {
                let mut us = Vec::new();
                for _ in 0..count {
                    // One bar, not a stream of them: what the last one left to do is done.
                    thread::sleep(BETWEEN_BARS);
                    let bar = appliance.bar("");
                    let post = appliance.post(&bar);
                    let start = Instant::now();
                    feed.send(&post)?;
                    let (seq, at) = next()?;
                    us.push(at.saturating_duration_since(start).as_secs_f64() * 1e6);
                    if seq != newest + 1.0 {
                        return Err(format!("seq {seq} followed {newest}"));
                    }
                    newest = seq;
                    let status = feed.receive()?.status;
                    if status != 200 {
                        return Err(format!("a bar was answered with {status}"));
                    }
                }
                found.push(Round::of_latencies(us, 1));
            }
            Ok(found)
        };
        let found = measure();
        stop.store(true, Ordering::Relaxed);
        let _ = pin::pin(&machine::cores());
        found
    })
}
