//! `cargo xtask demo`: the whole path once, on real bars, with figures.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Client;
use crate::{root, setup, target};

const BARS: &str = "tests/data/bars/BTCUSDT-1h.csv.gz";
/// The validation skill that training must reach for the demo to hold: better than naive.
const WARM_BARS: usize = 400;
const REPLAYED_BARS: usize = 1_000;
const VISIBLE_P99_MS: f64 = 1.0;

struct Folders {
    models: PathBuf,
    plugins: PathBuf,
    spool: PathBuf,
    work: PathBuf,
}

pub fn run(once: bool) -> Result<(), String> {
    let binary = setup::binary()?;
    let plugins = setup::guests(&binary)?;
    let work = target().join("demo");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|e| e.to_string())?;
    let folders = Folders { models: work.join("models"), plugins, spool: work.join("spool"), work };

    println!("\n== train: an LSTM on hourly BTC bars ({BARS}; source and licence beside it)");
    let trained = train(&binary, &folders)?;
    describe_training(&trained);

    println!("\n== serve: with config.toml, no GPU, no database");
    let (mut server, address) = serve(&binary, &folders)?;
    let held = report(&binary, &folders, &trained, &address);
    match (held, once) {
        (Ok(()), false) => {
            println!("\nstill serving; Ctrl-C ends it");
            let status = server.0.wait().map_err(|e| e.to_string())?;
            if status.success() { Ok(()) } else { Err(format!("the appliance ended with {status}")) }
        }
        (held, _) => {
            let stopped = server.stop();
            held.and(stopped)
        }
    }
}

fn alphaplus(binary: &Path, folders: &Folders) -> Command {
    let mut command = Command::new(binary);
    let toml = |path: &Path| format!("{:?}", path.display().to_string());
    command.current_dir(root()).arg("--config").arg(root().join("config.toml"));
    for (key, value) in [
        ("models.folder", toml(&folders.models)),
        ("plugins.folders", format!("[{}]", toml(&folders.plugins))),
        ("plugins.cache_folder", toml(&folders.work.join("plugin-cache"))),
        ("store.folder", toml(&folders.spool)),
    ] {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command
}

fn train(binary: &Path, folders: &Folders) -> Result<Value, String> {
    let mut command = alphaplus(binary, folders);
    command.args(["train", "--json", "--bars", BARS, "--symbol", "BTCUSDT", "--name", "demo"]);
    command.args(["--label", "realised-volatility", "--horizon", "12", "--window", "48"]);
    command.args([
        "--hyper",
        "hidden=32",
        "--learning-rate",
        "2e-4",
        "--epochs",
        "20",
        "--patience",
        "5",
        "--batch",
        "128",
    ]);
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|e| format!("{}: {e}", binary.display()))?;
    if !output.status.success() {
        return Err("training failed".into());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("train printed no JSON: {e}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn describe_training(t: &Value) {
    println!(
        "{}: {} features, {} training samples, {} epochs in {:.1} s, the best {}",
        t["model"].as_str().unwrap_or("?"),
        t["features"],
        t["train_samples"],
        t["epochs"],
        t["seconds"].as_f64().unwrap_or(f64::NAN),
        t["best_epoch"]
    );
    let validation = numbers(&t["validation_curve"]);
    let (low, high) =
        validation.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    println!("validation loss by epoch:");
    for (i, v) in validation.iter().enumerate() {
        let share = if high > low { (v - low) / (high - low) } else { 0.0 };
        let best = if t["best_epoch"].as_u64() == Some(i as u64 + 1) { "  best" } else { "" };
        println!("  {:>2}  {v:.5}  {}{best}", i + 1, "#".repeat(2 + (share * 38.0) as usize));
    }
    let m = &t["evaluation"]["metrics"];
    let skill = |row: &str| {
        let s = &m[row]["skill"];
        format!(
            "{:.4} [{:.4}, {:.4}]",
            s["value"].as_f64().unwrap_or(f64::NAN),
            s["low"].as_f64().unwrap_or(f64::NAN),
            s["high"].as_f64().unwrap_or(f64::NAN)
        )
    };
    println!(
        "12-hour realised volatility on {} held-out hours, skill over naive (1 - MSE/MSE naive) with its 95 % interval:",
        m["samples"]
    );
    println!("  model {}   ridge {}", skill("model"), skill("ridge"));
    println!("  {}", t["verdict"].as_str().unwrap_or("?"));
}

/// The running appliance; killed when dropped.
struct Server(Child);

impl Server {
    /// SIGTERM, and an orderly end within 10 seconds.
    fn stop(&mut self) -> Result<(), String> {
        let sent = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        if !sent.is_ok_and(|s| s.success()) {
            return Err("the appliance could not be told to stop".into());
        }
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().map_err(|e| e.to_string())? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("the appliance ended with {status}"))
                };
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("the appliance did not stop within 10 s".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(binary: &Path, folders: &Folders) -> Result<(Server, String), String> {
    let mut command = alphaplus(binary, folders);
    // Bars of the past: predictions go stale by the feed's clock, not by the wall's.
    command.args(["--set", "serving.clock=feed", "--set", "log.level=warn"]);
    command.args(["--set", "deployments=[{model=\"demo\",symbols=[\"BTCUSDT\"],timeframe=\"1h\"}]"]);
    let busy = std::net::TcpListener::bind("127.0.0.1:7787").is_err();
    if busy {
        println!("port 7787 is taken: serving on another one");
        command.args(["--set", "server.listen=\"127.0.0.1:0\""]);
    }
    let mut child = command.arg("serve").stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let server = Server(child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("serving on http://") {
                let _ = sender.send(address.to_string());
            }
        }
    });
    let address =
        receiver.recv_timeout(Duration::from_secs(60)).map_err(|_| "the appliance did not start")?;
    Ok((server, address))
}

/// (open time, the bar as a line of the request) of every bar from `from` on.
fn bars(binary: &Path, folders: &Folders) -> Result<Vec<(String, String)>, String> {
    let csv = folders.work.join("bars.csv");
    let mut command = alphaplus(binary, folders);
    command.args(["bars", "import", "--bars", BARS, "--symbol", "BTCUSDT", "--out"]).arg(&csv);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(|e| e.to_string())?;
    if !done.success() {
        return Err("bars import failed".into());
    }
    let text = std::fs::read_to_string(&csv).map_err(|e| e.to_string())?;
    let line = |row: &str| {
        let f: Vec<&str> = row.split(',').collect();
        let [symbol, timeframe, open_time, open, high, low, close, volume] = f.get(..8)?.try_into().ok()?;
        let json = format!(
            "{{\"symbol\":\"{symbol}\",\"timeframe\":\"{timeframe}\",\"open_time\":\"{open_time}\",\"open\":{open},\
             \"high\":{high},\"low\":{low},\"close\":{close},\"volume\":{volume}"
        );
        Some((open_time.to_string(), json))
    };
    Ok(text.lines().skip(1).filter_map(line).collect())
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn report(binary: &Path, folders: &Folders, trained: &Value, address: &str) -> Result<(), String> {
    let bars = bars(binary, folders)?;
    let test_from = trained["test_from"].as_str().ok_or("train printed no test_from")?;
    let first =
        bars.iter().position(|b| b.0.as_str() >= test_from).ok_or("no bars follow the training range")?;
    let mut feed = Client::connect(address)?;
    let warm: String = bars[first.saturating_sub(WARM_BARS)..first]
        .iter()
        .map(|b| format!("{},\"backfill\":true}}\n", b.1))
        .collect();
    expect(feed.post("/v1/bars", &warm)?, 200)?;

    // One thread polls while the other feeds, as a trading server does.
    let (seen, visible) = mpsc::channel::<(u64, Instant)>();
    let polled_address = address.to_string();
    let poller = thread::spawn(move || poll(&polled_address, &seen));
    let replayed = &bars[first..(first + REPLAYED_BARS).min(bars.len())];
    println!(
        "\n== replay: {} bars from {} on, one at a time over HTTP, polled meanwhile",
        replayed.len(),
        replayed[0].0
    );
    let mut latencies_ms = Vec::new();
    let mut durable_ms = Vec::new();
    for (i, bar) in replayed.iter().enumerate() {
        let sent = Instant::now();
        let reply = feed.post("/v1/bars", &format!("{}}}\n", bar.1))?;
        durable_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        expect(reply, 200)?;
        let (seq, at) =
            visible.recv_timeout(Duration::from_secs(10)).map_err(|_| "no prediction became visible")?;
        if seq != i as u64 + 1 {
            return Err(format!("bar {} led to seq {seq}", i + 1));
        }
        latencies_ms.push((at - sent).as_secs_f64() * 1e3);
    }
    let mut polls_us = plain_polls(address)?;
    drop(visible);
    let last = Client::connect(address)?.get("/v1/predictions/BTCUSDT")?;
    let newest: Value = serde_json::from_str(&last.body).map_err(|e| e.to_string())?;
    // The poller ends when the receiver is gone and one more answer comes.
    expect(feed.post("/v1/bars", &format!("{}}}\n", bars[first + replayed.len()].1))?, 200)?;
    poller.join().map_err(|_| "the poller panicked")??;

    let (p50, p99) = (percentile(&mut latencies_ms, 0.5), percentile(&mut latencies_ms, 0.99));
    let internal_ms = stage_percentile(&mut feed, "visible", 0.99)? * 1e3;
    println!(
        "bar sent to prediction seen by the poller   p50 {p50:.3} ms   p99 {p99:.3} ms   (loopback, long poll)"
    );
    println!(
        "bar arrived to prediction visible, inside   p99 at most {internal_ms:.3} ms (histogram bucket)"
    );
    println!(
        "bar sent to acknowledged (synced to disk)   p50 {:.3} ms   p99 {:.3} ms",
        percentile(&mut durable_ms, 0.5),
        percentile(&mut durable_ms, 0.99)
    );
    println!(
        "poll of the newest prediction               p50 {:.1} us   p99 {:.1} us   ({} polls, keep-alive)",
        percentile(&mut polls_us, 0.5),
        percentile(&mut polls_us, 0.99),
        polls_us.len()
    );
    println!(
        "device {}   newest: seq {} value {} as of {}",
        newest["device"], newest["seq"], newest["value"], newest["as_of"]
    );
    println!("\n  status       http://{address}/");
    println!("  poll         http://{address}/v1/predictions/BTCUSDT");
    println!("  metrics      http://{address}/metrics");
    println!("  API          http://{address}/openapi.json");

    let skill_low = trained["evaluation"]["metrics"]["model"]["skill"]["low"].as_f64().unwrap_or(f64::NAN);
    if skill_low.is_nan() || skill_low <= 0.0 {
        return Err("the model shows no skill over naive: the interval reaches 0".into());
    }
    if internal_ms > 2.0 * VISIBLE_P99_MS {
        return Err(format!(
            "predictions became visible too late: p99 {internal_ms:.3} ms inside the appliance"
        ));
    }
    println!("\nall of it held");
    Ok(())
}

fn expect(reply: crate::http::Reply, status: u16) -> Result<(), String> {
    if reply.status == status {
        Ok(())
    } else {
        Err(format!("{} instead of {status}: {}", reply.status, reply.body))
    }
}

/// Long polls; sends each new `seq` and when it was seen. Ends when nobody listens.
fn poll(address: &str, seen: &mpsc::Sender<(u64, Instant)>) -> Result<(), String> {
    let mut client = Client::connect(address)?;
    let mut after = 0;
    loop {
        let reply = client.get(&format!("/v1/predictions?after_seq={after}&wait_ms=10000"))?;
        let at = Instant::now();
        let json: Value = serde_json::from_str(&reply.body).map_err(|e| e.to_string())?;
        for made in json["predictions"].as_array().into_iter().flatten() {
            after = made["seq"].as_u64().unwrap_or(after);
            if seen.send((after, at)).is_err() {
                return Ok(());
            }
        }
    }
}

fn plain_polls(address: &str) -> Result<Vec<f64>, String> {
    let mut client = Client::connect(address)?;
    let mut times = Vec::new();
    for _ in 0..5_000 {
        let start = Instant::now();
        let reply = client.get("/v1/predictions/BTCUSDT")?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        expect(reply, 200)?;
    }
    Ok(times)
}

/// The upper end of the histogram bucket that holds this share, in seconds.
fn stage_percentile(client: &mut Client, stage: &str, share: f64) -> Result<f64, String> {
    let text = client.get("/metrics")?.body;
    let prefix = "alphaplus_stage_seconds_bucket{";
    let wanted = format!("stage=\"{stage}\"");
    let mut buckets = Vec::new();
    for line in text.lines().filter(|l| l.starts_with(prefix) && l.contains(&wanted)) {
        let le = line.split("le=\"").nth(1).and_then(|l| l.split('"').next()).unwrap_or("+Inf");
        let bound = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap_or(f64::INFINITY) };
        let count: f64 = line.rsplit(' ').next().and_then(|c| c.parse().ok()).unwrap_or(0.0);
        buckets.push((bound, count));
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last().map_or(0.0, |b| b.1);
    let found = buckets.iter().find(|b| b.1 >= total * share).map(|b| b.0);
    found.filter(|_| total > 0.0).ok_or_else(|| format!("no figures for stage {stage}"))
}
