//! A started `alphaplus serve` in a folder of its own, bars for it, and raw keep-alive connections to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use graph::GraphCodec;
use market::Timestamp;
use registry::{Registry, Version};

use crate::case::Case;
use crate::{machine, model, pin};

pub const SHIPPED: &str = "btc-1h-lstm";
pub const SYMBOL: &str = "BTCUSDT";
/// The alias that moves while ten models serve.
pub const MOVED: &str = "champion";
const START_MAX: Duration = Duration::from_secs(120);

/// The name of what [`publish`] publishes.
pub const PUBLISHED: &str = "lstm";

/// The shipped model's manifest with a stack of LSTMs of random weights; its folder and the model's bytes.
pub fn publish(
    root: &Path,
    layers: usize,
    hidden: usize,
    window: Option<u32>,
) -> Result<(tempfile::TempDir, usize), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let shipped = Registry::open(root.join("models")).map_err(|e| text(&e))?;
    let mut manifest = shipped.load(SHIPPED, Version::Latest).map_err(|e| text(&e))?.manifest;
    manifest.name = PUBLISHED.into();
    // Of other weights than these.
    manifest.calibration = None;
    manifest.input.window = window.unwrap_or(manifest.input.window);
    let (window, features) = (manifest.input.window as usize, manifest.input.features as usize);
    let model = model::lstm(layers, hidden, window, features);
    let onnx = onnx::Onnx.encode(&model.graph).map_err(|e| text(&e))?;
    let folder = tempfile::tempdir().map_err(|e| text(&e))?;
    let registry = Registry::open(folder.path()).map_err(|e| text(&e))?;
    registry.publish(manifest, &[("model.onnx", &onnx)]).map_err(|e| text(&e))?;
    Ok((folder, onnx.len()))
}

/// How an appliance is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Plain,
    /// One HTTP thread, which never sleeps.
    Spinning,
    /// Without the last core, which belongs to a process that reads shared memory without a pause.
    Beside,
    /// With ten models for every symbol, the first of them by alias.
    Ten,
}

impl Server {
    pub fn of(case: &Case) -> Server {
        match case.name {
            "bar_to_visible" => Server::Beside,
            name if name.starts_with("ten_") => Server::Ten,
            name if name.ends_with("_spin") => Server::Spinning,
            _ => Server::Plain,
        }
    }

    /// The appliance's cores, and the reader's.
    pub fn cores(self) -> (Vec<usize>, Vec<usize>) {
        let all = machine::cores();
        match all.split_last() {
            Some((last, rest)) if self == Server::Beside && !rest.is_empty() => (rest.to_vec(), vec![*last]),
            _ => (all.clone(), all),
        }
    }
}

pub struct Appliance {
    child: Child,
    pub address: String,
    pub unix: PathBuf,
    pub shared: PathBuf,
    pub notes: Vec<String>,
    /// Steps and features of the model's window.
    pub input: (usize, usize),
    next_bar: u64,
    _folder: tempfile::TempDir,
    /// Where it was made for this appliance.
    models: Option<tempfile::TempDir>,
}

impl Appliance {
    /// A stack of LSTMs of random weights over the shipped model's features, published into a folder of its own.
    pub fn start_lstm(
        root: &Path,
        (layers, hidden, window): (usize, usize, u32),
        server: Server,
    ) -> Result<Appliance, String> {
        let (folder, _) = publish(root, layers, hidden, Some(window))?;
        let mut appliance = Appliance::start(root, folder.path(), PUBLISHED, server)?;
        appliance.models = Some(folder);
        Ok(appliance)
    }

    /// Ten models for every symbol; the first has two versions and the alias [`MOVED`].
    pub fn start_ten(root: &Path) -> Result<Appliance, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let (folder, _) = publish(root, 1, 64, None)?;
        let registry = Registry::open(folder.path()).map_err(|e| text(&e))?;
        let first = registry.load(PUBLISHED, Version::Latest).map_err(|e| text(&e))?;
        for n in 0..10 {
            let mut manifest = first.manifest.clone();
            if n > 0 {
                manifest.name = format!("{PUBLISHED}-{n}");
            }
            registry.publish(manifest, &[("model.onnx", &first.onnx)]).map_err(|e| text(&e))?;
        }
        let author = registry::Author { at: "2024-01-01T00:00:00Z", who: "bench", why: "" };
        registry.set_alias(PUBLISHED, MOVED, 1, author).map_err(|e| text(&e))?;
        let row = |model: &str| format!("{{model={model:?},symbols=[\"*\"],timeframe=\"1h\"}}");
        let rows: Vec<String> = (1..10).map(|n| row(&format!("{PUBLISHED}-{n}"))).collect();
        let rows = format!("[{},{}]", row(&format!("{PUBLISHED}@{MOVED}")), rows.join(","));
        let mut appliance = Appliance::start_as(root, folder.path(), PUBLISHED, &rows, Server::Ten)?;
        appliance.models = Some(folder);
        Ok(appliance)
    }

    /// A model of a folder of models, warm and with one prediction.
    pub fn start(root: &Path, models: &Path, model: &str, server: Server) -> Result<Appliance, String> {
        let row = format!("[{{model={model:?},symbols=[{SYMBOL:?}],timeframe=\"1h\"}}]");
        Appliance::start_as(root, models, model, &row, server)
    }

    fn start_as(
        root: &Path,
        models: &Path,
        model: &str,
        deployments: &str,
        server: Server,
    ) -> Result<Appliance, String> {
        let spins = server == Server::Spinning;
        let registry = Registry::open(models).map_err(|e| e.to_string())?;
        let manifest = registry.load(model, Version::Latest).map_err(|e| e.to_string())?.manifest;
        let mut binary = std::env::current_exe().map_err(|e| e.to_string())?;
        binary.set_file_name("alphaplus");
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let unix = folder.path().join("poll.sock");
        let shared = folder.path().join("predictions");
        let mut command = Command::new(&binary);
        command.current_dir(folder.path());
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        for (key, value) in [
            ("server.listen", "\"127.0.0.1:0\"".to_string()),
            ("server.unix_socket", quoted(&unix)),
            ("server.shared_memory", quoted(&shared)),
            ("server.threads", if spins { "1" } else { "2" }.into()),
            ("server.spin_us", if spins { "1000000" } else { "0" }.into()),
            ("serving.clock", "\"feed\"".into()),
            ("store.folder", quoted(&folder.path().join("spool"))),
            ("models.folder", quoted(models)),
            ("plugins.folders", format!("[{}]", quoted(&root.join("plugins/dist")))),
            ("plugins.cache_folder", quoted(&folder.path().join("cache"))),
            ("plugins.bar_deadline_ms", "1000".into()),
            ("log.level", "warn".into()),
            ("models.check_ms", "10".into()),
            // Full early, so that memory that grows is something else's.
            ("serving.predictions_in_memory", if server == Server::Ten { "1000" } else { "100000" }.into()),
            ("deployments", deployments.into()),
        ] {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        // What is started from here on stays on these cores.
        let pinned = pin::pin(&server.cores().0);
        let child = command.arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let pinned = pinned.and_then(|()| pin::pin(&machine::cores()));
        let child = child.map_err(|e| {
            format!("{}: {e}; build it with `cargo build --release --workspace`", binary.display())
        })?;
        let mut appliance = Appliance {
            child,
            address: String::new(),
            unix,
            shared,
            notes: pinned
                .err()
                .map(|e| format!("the appliance could not be pinned: {e}"))
                .into_iter()
                .collect(),
            input: (manifest.input.window as usize, manifest.input.features as usize),
            next_bar: 0,
            _folder: folder,
            models: None,
        };
        appliance.address = appliance.listens()?;
        appliance.warm(manifest.features.warmup as usize + manifest.input.window as usize)?;
        Ok(appliance)
    }

    fn listens(&mut self) -> Result<String, String> {
        let stdout = self.child.stdout.take().ok_or("the appliance has no output")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("serving on http://") {
                    let _ = sender.send(address.to_string());
                }
            }
        });
        receiver.recv_timeout(START_MAX).map_err(|_| "the appliance did not start".to_string())
    }

    fn warm(&mut self, bars: usize) -> Result<(), String> {
        let body: String = (0..bars).map(|_| self.bar(",\"backfill\":true")).collect();
        let one = self.bar("");
        let mut feed = self.tcp()?;
        for body in [body, one] {
            feed.expect_ok(&self.post(&body))?;
        }
        let until = Instant::now() + Duration::from_secs(10);
        let mut poll = self.tcp()?;
        while let Err(reason) = poll.expect_ok(&self.poll()) {
            if Instant::now() > until {
                return Err(format!("no prediction came: {reason}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The next bar of a made-up series, the same in each run.
    pub fn bar(&mut self, more: &str) -> String {
        let n = self.next_bar;
        self.next_bar += 1;
        let price = |n: u64| 100.0 + 10.0 * (n as f64 / 9.0).sin() + (n * 7919 % 101) as f64 / 200.0;
        let (open, close) = (price(n), price(n + 1));
        let (high, low) = (open.max(close) + 0.5, open.min(close) - 0.5);
        let volume = 1000 + n * 104_729 % 997;
        // 2001: far enough back for a long run at an hour a bar.
        let time = Timestamp::from_seconds(978_307_200 + n as i64 * 3600);
        format!(
            "{{\"symbol\":\"{SYMBOL}\",\"timeframe\":\"1h\",\"open_time\":\"{time}\",\"open\":{open},\
             \"high\":{high},\"low\":{low},\"close\":{close},\"volume\":{volume}{more}}}\n"
        )
    }

    pub fn post(&self, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("POST /v1/bars HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n{body}", self.address)
            .into_bytes()
    }

    pub fn poll(&self) -> Vec<u8> {
        format!("GET /v1/predictions/{SYMBOL} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).into_bytes()
    }

    pub fn tcp(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect(&self.address).map_err(|e| format!("{}: {e}", self.address))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Connection::new(Box::new(stream)))
    }

    pub fn unix(&self) -> Result<Connection, String> {
        let stream = UnixStream::connect(&self.unix).map_err(|e| format!("{}: {e}", self.unix.display()))?;
        Ok(Connection::new(Box::new(stream)))
    }

    /// For the first of ten models.
    pub fn swapper(&self) -> Result<Swapper, String> {
        let models = self.models.as_ref().ok_or("no models of its own")?.path().to_path_buf();
        Ok(Swapper { models, address: self.address.clone(), connection: self.tcp()? })
    }

    /// Of its memory, what is resident.
    pub fn memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|k| 1024 * k)
    }

    /// SIGTERM, and an orderly end.
    pub fn stop(&mut self) -> Result<(), String> {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        sent.map_err(|e| e.to_string())?;
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the appliance ended with {status}")),
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
        Err("the appliance did not stop within 15 s".into())
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves the alias [`MOVED`] while other threads use the appliance.
pub struct Swapper {
    models: PathBuf,
    address: String,
    connection: Connection,
}

impl Swapper {
    /// Points it at a version, and waits until that serves.
    pub fn swap(&mut self, version: u32) -> Result<(), String> {
        let registry = Registry::open(&self.models).map_err(|e| e.to_string())?;
        let author = registry::Author { at: "2024-01-01T00:00:00Z", who: "bench", why: "" };
        registry.set_alias(PUBLISHED, MOVED, version, author).map_err(|e| e.to_string())?;
        let request = format!("GET /v1/deployments HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let wanted = format!("\"model\":\"{PUBLISHED}/{version}\"");
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            let reply = self.connection.exchange(request.as_bytes())?;
            if String::from_utf8_lossy(reply.body).contains(&wanted) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("version {version} didn't take over within 60 s"))
    }
}

trait Stream: Read + Write + Send {
    fn set_nonblocking(&self, on: bool) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn set_nonblocking(&self, on: bool) -> std::io::Result<()> {
        TcpStream::set_nonblocking(self, on)
    }
}

impl Stream for UnixStream {
    fn set_nonblocking(&self, on: bool) -> std::io::Result<()> {
        UnixStream::set_nonblocking(self, on)
    }
}

/// HTTP/1.1 with as little of our own work as possible.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

pub struct Reply<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Connection {
    fn new(stream: Box<dyn Stream>) -> Self {
        Connection { stream, buffer: vec![0; 1 << 16] }
    }

    /// Looks for replies without sleeping.
    pub fn spinning(self) -> Result<Self, String> {
        self.stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        Ok(self)
    }

    pub fn send(&mut self, request: &[u8]) -> Result<(), String> {
        self.stream.write_all(request).map_err(|e| e.to_string())
    }

    pub fn receive(&mut self) -> Result<Reply<'_>, String> {
        let mut filled = 0;
        let mut more = |buffer: &mut Vec<u8>, filled: &mut usize| -> Result<(), String> {
            if *filled == buffer.len() {
                buffer.resize(2 * *filled, 0);
            }
            let read = loop {
                match self.stream.read(&mut buffer[*filled..]) {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::hint::spin_loop(),
                    read => break read,
                }
            };
            match read.map_err(|e| e.to_string())? {
                0 => Err("the appliance closed the connection".into()),
                n => {
                    *filled += n;
                    Ok(())
                }
            }
        };
        let head = loop {
            more(&mut self.buffer, &mut filled)?;
            if let Some(at) = self.buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
        };
        let (status, length) = parse_head(&self.buffer[..head]).ok_or("not an HTTP reply")?;
        let end = head + 4 + length;
        while filled < end {
            more(&mut self.buffer, &mut filled)?;
        }
        Ok(Reply { status, body: &self.buffer[head + 4..end] })
    }

    pub fn exchange(&mut self, request: &[u8]) -> Result<Reply<'_>, String> {
        self.send(request)?;
        self.receive()
    }

    pub fn expect_ok(&mut self, request: &[u8]) -> Result<(), String> {
        let reply = self.exchange(request)?;
        if reply.status == 200 {
            return Ok(());
        }
        Err(format!("{} instead of 200: {}", reply.status, String::from_utf8_lossy(reply.body)))
    }
}

/// Status and length of the body.
fn parse_head(head: &[u8]) -> Option<(u16, usize)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = lines.filter_map(|l| l.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1;
    Some((status, length.trim().parse().ok()?))
}

/// The first number that stands behind a key of a JSON text.
pub fn number_of(body: &[u8], key: &str) -> Option<f64> {
    let text = std::str::from_utf8(body).ok()?;
    let rest = text.split_once(&format!("\"{key}\":"))?.1.trim_start();
    rest[..rest.find([',', '}', ' ', '\n']).unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_numbers_are_read() {
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nETag: x\r\ncontent-length: 12"), Some((200, 12)));
        assert_eq!(parse_head(b"HTTP/1.1 503 No\r\nx: y"), None);
        assert_eq!(number_of(b"{\"seq\":17,\"value\":-2.5e-3}", "seq"), Some(17.0));
        assert_eq!(number_of(b"{\"seq\":17,\"value\": -2.5e-3}", "value"), Some(-2.5e-3));
        assert_eq!(number_of(b"{\"value\":null}", "value"), None);
    }
}
