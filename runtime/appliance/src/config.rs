//! The settings: raw as figment merges them, checked once, trusted after that.
//!
//! Defaults < config.toml < `ALPHAPLUS_SECTION__KEY` < command-line flags.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cpu::CpuOptions;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use market::{Symbol, Timeframe};
use registry::{Reference, Which};
use serde::{Deserialize, Serialize};

use crate::deployment::{Seat, Split};

/// The settings as written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    pub server: Server,
    pub serving: Serving,
    pub store: Store,
    pub plugins: Plugins,
    pub models: Models,
    pub management: Management,
    pub inference: Inference,
    pub device: Device,
    pub log: Log,
    pub deployments: Vec<Deployment>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub listen: String,
    pub unix_socket: String,
    pub shared_memory: String,
    pub shared_memory_mode: String,
    pub hosts: Vec<String>,
    pub plain_outside_loopback: bool,
    pub threads: usize,
    pub spin_us: u64,
    pub limits: Limits,
    pub routes: Routes,
    pub tokens: Tokens,
    pub tls: Tls,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub body_bytes_max: usize,
    pub infer_bytes_max: usize,
    pub lines_max: usize,
    pub connections_max: usize,
    pub header_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub wait_ms_max: u64,
    pub queue_bars_max: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routes {
    pub ingest: bool,
    pub poll: bool,
    pub predict: bool,
    pub infer: bool,
    pub metrics: bool,
    pub status: bool,
    pub models: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    pub poll_file: String,
    pub ingest_file: String,
    pub admin_file: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub certificate_file: String,
    pub key_file: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    Wall,
    Feed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serving {
    pub clock: Clock,
    pub stale_after_bars: f64,
    pub streams_max: usize,
    pub sliding_streams_max: usize,
    pub predictions_in_memory: usize,
    pub revision_depth_bars: usize,
    pub explain_every: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityMode {
    Written,
    Synced,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    pub folder: PathBuf,
    pub durability: DurabilityMode,
    pub sync_interval_ms: u64,
    pub segment_bytes: u64,
    pub history_hours: u64,
    pub limit_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plugins {
    pub cache_folder: PathBuf,
    pub folders: Vec<PathBuf>,
    pub bar_deadline_ms: u64,
    pub batch_deadline_ms: u64,
    pub memory_bytes_max: usize,
    pub failures_max: usize,
    pub failure_window_s: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    pub folder: PathBuf,
    pub check_ms: u64,
    pub events: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Management {
    pub automatic: bool,
    pub check_ms: u64,
    pub level: f64,
    pub retrain_hours: f64,
    pub retrain_on_drift: bool,
    pub bars: Vec<PathBuf>,
    pub latency_us: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inference {
    pub memory_bytes_max: usize,
    pub queue_rows_max: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    pub policy: String,
    pub threads: usize,
    pub spin_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    pub model: String,
    #[serde(default)]
    pub version: u64,
    pub symbols: Vec<String>,
    pub timeframe: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenger: Option<Challenger>,
}

/// A second model for the streams of a deployment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenger {
    pub model: String,
    #[serde(default)]
    pub share: f64,
    #[serde(default)]
    pub symbols: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: "127.0.0.1:7787".into(),
            unix_socket: String::new(),
            shared_memory: String::new(),
            shared_memory_mode: "0600".into(),
            hosts: Vec::new(),
            plain_outside_loopback: false,
            threads: 2,
            spin_us: 0,
            limits: Limits::default(),
            routes: Routes::default(),
            tokens: Tokens::default(),
            tls: Tls::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 8 << 20,
            infer_bytes_max: 64 << 20,
            lines_max: 10_000,
            connections_max: 1024,
            header_timeout_ms: 30_000,
            body_timeout_ms: 10_000,
            wait_ms_max: 30_000,
            queue_bars_max: 100_000,
        }
    }
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            ingest: true,
            poll: true,
            predict: true,
            infer: true,
            metrics: true,
            status: true,
            models: true,
        }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Serving {
            clock: Clock::Wall,
            stale_after_bars: 2.0,
            streams_max: 5_000,
            sliding_streams_max: 256,
            predictions_in_memory: 100_000,
            revision_depth_bars: 64,
            explain_every: 0,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store {
            folder: "data/spool".into(),
            durability: DurabilityMode::Written,
            sync_interval_ms: 5,
            segment_bytes: 64 << 20,
            history_hours: 168,
            limit_bytes: 8 << 30,
        }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins {
            cache_folder: "data/plugin-cache".into(),
            folders: vec!["plugins/dist".into()],
            bar_deadline_ms: 50,
            batch_deadline_ms: 10_000,
            memory_bytes_max: 64 << 20,
            failures_max: 5,
            failure_window_s: 60,
        }
    }
}

impl Default for Models {
    fn default() -> Self {
        Models { folder: "models".into(), check_ms: 1_000, events: "events.jsonl".into() }
    }
}

impl Default for Management {
    fn default() -> Self {
        Management {
            automatic: false,
            check_ms: 60_000,
            level: 0.05,
            retrain_hours: 0.0,
            retrain_on_drift: true,
            bars: Vec::new(),
            latency_us: 1_000.0,
        }
    }
}

impl Default for Inference {
    fn default() -> Self {
        Inference { memory_bytes_max: 2 << 30, queue_rows_max: 65_536 }
    }
}

impl Default for Device {
    fn default() -> Self {
        Device { policy: "cpu".into(), threads: 0, spin_us: 50 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, level: "info".into() }
    }
}

/// The settings after their check.
#[derive(Clone, Debug)]
pub struct Settings {
    pub raw: Raw,
    pub listen: SocketAddr,
    pub unix_socket: Option<PathBuf>,
    pub shared_memory: Option<PathBuf>,
    pub shared_memory_mode: u32,
    pub poll_token: Option<String>,
    pub ingest_token: Option<String>,
    pub admin_token: Option<String>,
    /// Certificate and key files.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub deployments: Vec<CheckedDeployment>,
}

/// A row of the deployment table.
#[derive(Clone, Debug)]
pub struct CheckedDeployment {
    pub model: Reference,
    /// `None`: every symbol.
    pub symbols: Option<Vec<Symbol>>,
    pub timeframe: Timeframe,
    /// A second model, and the streams that it answers for.
    pub challenger: Option<(Reference, Split)>,
}

impl CheckedDeployment {
    /// The row's models and their places, its own first.
    pub fn seats(&self, row: usize) -> Vec<(Reference, Seat)> {
        let seat = |reference: &Reference, challenger: Option<Split>| {
            let seat = Seat {
                reference: reference.to_string().into(),
                symbols: self.symbols.clone(),
                timeframe: self.timeframe,
                row: u32::try_from(row).unwrap_or(u32::MAX),
                challenger,
            };
            (reference.clone(), seat)
        };
        let challenger =
            self.challenger.iter().map(|(reference, split)| seat(reference, Some(split.clone())));
        std::iter::once(seat(&self.model, None)).chain(challenger).collect()
    }
}

impl Settings {
    /// How the executor is to run.
    pub fn cpu(&self) -> CpuOptions {
        let Device { threads, spin_us, .. } = self.raw.device;
        let all = CpuOptions { spin: Duration::from_micros(spin_us), ..CpuOptions::default() };
        if threads == 0 { all } else { CpuOptions { threads, ..all } }
    }

    pub fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.raw.server.limits.header_timeout_ms)
    }

    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.raw.server.limits.body_timeout_ms)
    }
}

/// One sentence that says what to change.
#[derive(Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn refuse<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(message.into()))
}

/// Reads the file (or the defaults alone), the environment and `flags` (dotted key, TOML value).
pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Settings, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Raw::default()));
    if let Some(path) = file {
        if !path.is_file() {
            return refuse(format!("there is no config file {}: name one with --config", path.display()));
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Env::prefixed("ALPHAPLUS_").split("__").ignore(&["config"]));
    for (key, value) in flags {
        let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"))
            .ok()
            .and_then(|mut t| t.remove("v"))
            .unwrap_or_else(|| toml::Value::String(value.clone()));
        figment = figment.merge(Serialized::default(key, parsed));
    }
    let mut raw: Raw = figment.extract().map_err(|e| explain(&e))?;
    let base = file.and_then(Path::parent).unwrap_or(Path::new(""));
    for folder in [&mut raw.store.folder, &mut raw.plugins.cache_folder, &mut raw.models.folder]
        .into_iter()
        .chain(raw.plugins.folders.iter_mut())
        .chain(raw.management.bars.iter_mut())
    {
        *folder = base.join(&*folder);
    }
    raw.models.events = raw.models.folder.join(&raw.models.events);
    check(raw, base)
}

/// figment's error in one sentence; an unknown key with the nearest known one.
fn explain(error: &figment::Error) -> ConfigError {
    let source = error
        .metadata
        .as_ref()
        .and_then(|m| m.source.as_ref())
        .map(|s| format!(" in {s}"))
        .unwrap_or_default();
    let path = error.path.join(".");
    match &error.kind {
        figment::error::Kind::UnknownField(name, known) => {
            let section = if path.is_empty() {
                String::new()
            } else {
                format!("{}.", path.trim_end_matches(&format!(".{name}")).trim_end_matches(name))
            };
            let section = section.trim_start_matches('.').to_string();
            let nearest = known.iter().min_by_key(|k| strsim::levenshtein(k, name)).copied().unwrap_or("");
            let section = if section == "." { "" } else { section.as_str() };
            ConfigError(format!("unknown key '{section}{name}'{source}: did you mean '{section}{nearest}'?"))
        }
        kind => ConfigError(format!("key '{path}'{source}: {kind}")),
    }
}

fn check(raw: Raw, base: &Path) -> Result<Settings, ConfigError> {
    let listen: SocketAddr = match raw.server.listen.parse() {
        Ok(a) => a,
        Err(_) => {
            return refuse(format!(
                "server.listen is '{}': it must be address:port, such as 127.0.0.1:7787",
                raw.server.listen
            ));
        }
    };
    let l = &raw.server.limits;
    let ranges: [(&str, u64, u64, u64); 29] = [
        ("server.threads", raw.server.threads as u64, 1, 64),
        ("server.spin_us", raw.server.spin_us, 0, 1_000_000),
        ("server.limits.body_bytes_max", l.body_bytes_max as u64, 1024, 1 << 30),
        ("server.limits.infer_bytes_max", l.infer_bytes_max as u64, 1024, 1 << 32),
        ("inference.memory_bytes_max", raw.inference.memory_bytes_max as u64, 1 << 20, 1 << 50),
        ("inference.queue_rows_max", raw.inference.queue_rows_max as u64, 1, 1 << 30),
        ("server.limits.lines_max", l.lines_max as u64, 1, 1_000_000),
        ("server.limits.connections_max", l.connections_max as u64, 1, 100_000),
        ("server.limits.header_timeout_ms", l.header_timeout_ms, 10, 3_600_000),
        ("server.limits.body_timeout_ms", l.body_timeout_ms, 10, 3_600_000),
        ("server.limits.wait_ms_max", l.wait_ms_max, 0, 600_000),
        ("server.limits.queue_bars_max", l.queue_bars_max as u64, 1, 100_000_000),
        ("serving.sliding_streams_max", raw.serving.sliding_streams_max as u64, 0, 100_000),
        ("device.threads", raw.device.threads as u64, 0, 64),
        ("device.spin_us", raw.device.spin_us, 0, 3_600_000_000),
        ("serving.streams_max", raw.serving.streams_max as u64, 1, 1_000_000),
        ("serving.predictions_in_memory", raw.serving.predictions_in_memory as u64, 1, 100_000_000),
        ("serving.revision_depth_bars", raw.serving.revision_depth_bars as u64, 1, 10_000),
        ("serving.explain_every", raw.serving.explain_every, 0, 1_000_000),
        ("store.sync_interval_ms", raw.store.sync_interval_ms, 0, 1_000),
        ("store.segment_bytes", raw.store.segment_bytes, 1 << 16, 1 << 32),
        ("store.history_hours", raw.store.history_hours, 1, 24 * 3660),
        ("store.limit_bytes", raw.store.limit_bytes, 1 << 20, 1 << 50),
        ("plugins.bar_deadline_ms", raw.plugins.bar_deadline_ms, 1, 60_000),
        ("plugins.batch_deadline_ms", raw.plugins.batch_deadline_ms, 1, 600_000),
        ("plugins.memory_bytes_max", raw.plugins.memory_bytes_max as u64, 1 << 16, 1 << 32),
        ("models.check_ms", raw.models.check_ms, 0, 3_600_000),
        ("management.check_ms", raw.management.check_ms, 10, 86_400_000),
        ("plugins.failures_max", raw.plugins.failures_max as u64, 1, 1_000),
    ];
    for (key, value, low, high) in ranges {
        if !(low..=high).contains(&value) {
            return refuse(format!("{key} is {value}: it must be between {low} and {high}"));
        }
    }
    if !(raw.serving.stale_after_bars >= 1.0 && raw.serving.stale_after_bars <= 1e6) {
        return refuse(format!(
            "serving.stale_after_bars is {}: it must be between 1 and 1000000",
            raw.serving.stale_after_bars
        ));
    }
    let m = &raw.management;
    let numbers = [
        ("management.level", m.level, 1e-9, 0.5),
        ("management.retrain_hours", m.retrain_hours, 0.0, 1e6),
        ("management.latency_us", m.latency_us, 1e-3, 1e9),
    ];
    for (key, value, low, high) in numbers {
        if !(low..=high).contains(&value) {
            return refuse(format!("{key} is {value}: it must be between {low} and {high}"));
        }
    }
    if m.automatic && raw.models.check_ms == 0 {
        return refuse(
            "management.automatic moves aliases, which models.check_ms = 0 doesn't follow: set it above 0",
        );
    }
    if raw.server.spin_us > 0 && raw.server.threads != 1 {
        return refuse(
            "server.spin_us keeps one thread awake: set server.threads = 1, or server.spin_us = 0",
        );
    }
    if raw.store.limit_bytes < 3 * raw.store.segment_bytes {
        return refuse("store.limit_bytes must be at least three times store.segment_bytes");
    }
    if l.queue_bars_max < l.lines_max {
        return refuse("server.limits.queue_bars_max must be at least server.limits.lines_max");
    }
    match raw.device.policy.as_str() {
        "cpu" => {}
        "prefer-gpu" | "require-gpu" => {
            return refuse(format!(
                "device.policy is '{}', but this build has no GPU executor: set it to \"cpu\"",
                raw.device.policy
            ));
        }
        other => {
            return refuse(format!(
                "device.policy is '{other}': it must be \"cpu\", \"prefer-gpu\" or \"require-gpu\""
            ));
        }
    }
    if !["error", "warn", "info", "debug", "trace"].contains(&raw.log.level.as_str()) {
        return refuse(format!(
            "log.level is '{}': it must be error, warn, info, debug or trace",
            raw.log.level
        ));
    }
    let token = |key: &str, file: &str| -> Result<Option<String>, ConfigError> {
        if file.is_empty() {
            return Ok(None);
        }
        let path = base.join(file);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            ConfigError(format!("server.tokens.{key}: {} can't be read: {e}", path.display()))
        })?;
        let text = text.trim();
        if text.len() < 16 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse(format!(
                "server.tokens.{key}: {} must hold one token of at least 16 printable characters",
                path.display()
            ));
        }
        Ok(Some(text.to_string()))
    };
    let poll_token = token("poll_file", &raw.server.tokens.poll_file)?;
    let ingest_token = token("ingest_file", &raw.server.tokens.ingest_file)?;
    let admin_token = token("admin_file", &raw.server.tokens.admin_file)?;
    let tls = match (raw.server.tls.certificate_file.as_str(), raw.server.tls.key_file.as_str()) {
        ("", "") => None,
        ("", _) | (_, "") => {
            return refuse("server.tls needs both certificate_file and key_file, or neither");
        }
        (c, k) => Some((base.join(c), base.join(k))),
    };
    if !is_loopback(listen.ip()) {
        if poll_token.is_none() || ingest_token.is_none() || admin_token.is_none() {
            return refuse(format!(
                "server.listen is {listen}, outside loopback: set poll_file, ingest_file and admin_file under server.tokens"
            ));
        }
        if tls.is_none() && !raw.server.plain_outside_loopback {
            return refuse(format!(
                "server.listen is {listen}, outside loopback: set server.tls, or server.plain_outside_loopback = true on purpose"
            ));
        }
    }
    let mut deployments = Vec::new();
    for (i, d) in raw.deployments.iter().enumerate() {
        let at = format!("deployments[{i}]");
        let timeframe =
            Timeframe::parse(&d.timeframe).map_err(|e| ConfigError(format!("{at}.timeframe: {e}")))?;
        if d.symbols.is_empty() {
            return refuse(format!("{at}.symbols is empty: name symbols, or \"*\" for every one"));
        }
        let symbols = if d.symbols.iter().any(|s| s == "*") {
            None
        } else {
            let parsed: Result<Vec<_>, _> = d.symbols.iter().map(|s| Symbol::new(s)).collect();
            Some(parsed.map_err(|e| ConfigError(format!("{at}.symbols: {e}")))?)
        };
        let mut reference =
            Reference::parse(&d.model).map_err(|e| ConfigError(format!("{at}.model: {e}")))?;
        if d.version != 0 && reference.which != Which::Latest {
            return refuse(format!(
                "{at}: model = {:?} says which version already: leave version out",
                d.model
            ));
        }
        match u32::try_from(d.version) {
            Ok(0) => {}
            Ok(number) => reference.which = Which::Number(number),
            Err(_) => {
                return refuse(format!("{at}.version is {}: no model has so many versions", d.version));
            }
        }
        let challenger = d.challenger.as_ref().map(|c| challenger(c, &at)).transpose()?;
        let checked = CheckedDeployment { model: reference, symbols, timeframe, challenger };
        let rows = deployments.iter().chain([&checked]);
        let seats: Vec<_> = rows.enumerate().flat_map(|(row, d)| d.seats(row)).collect();
        for (i, (reference, seat)) in seats.iter().enumerate() {
            if seats[..i].iter().any(|(r, s)| names_again(r, reference) && s.meets(seat)) {
                return refuse(format!("{at}: model {reference} is deployed twice for the same symbols"));
            }
        }
        deployments.push(checked);
    }
    let path = |text: &str| (!text.is_empty()).then(|| base.join(text));
    let mode = &raw.server.shared_memory_mode;
    let shared_memory_mode = match u32::from_str_radix(mode, 8) {
        Ok(bits) if bits & 0o600 == 0o600 && bits & !0o644 == 0 => bits,
        _ => {
            return refuse(format!(
                "server.shared_memory_mode is '{mode}': it must be \"0600\", \"0640\" (the group reads it) or \"0644\" (everyone does)"
            ));
        }
    };
    Ok(Settings {
        listen,
        unix_socket: path(&raw.server.unix_socket),
        shared_memory: path(&raw.server.shared_memory),
        shared_memory_mode,
        poll_token,
        ingest_token,
        admin_token,
        tls,
        deployments,
        raw,
    })
}

fn challenger(raw: &Challenger, at: &str) -> Result<(Reference, Split), ConfigError> {
    let at = format!("{at}.challenger");
    let model = Reference::parse(&raw.model).map_err(|e| ConfigError(format!("{at}.model: {e}")))?;
    if !(0.0..=1.0).contains(&raw.share) {
        return refuse(format!("{at}.share is {}: it must be between 0 and 1", raw.share));
    }
    let symbols: Result<Vec<_>, _> = raw.symbols.iter().map(|s| Symbol::new(s)).collect();
    let symbols = symbols.map_err(|e| ConfigError(format!("{at}.symbols: {e}")))?;
    Ok((model, Split { share: raw.share, symbols }))
}

/// The same name, or the same alias or version of it. Two of its versions may serve beside each other.
fn names_again(one: &Reference, other: &Reference) -> bool {
    let plain = |r: &Reference| r.which == Which::Latest;
    one.name == other.name && (one.which == other.which || plain(one) || plain(other))
}

pub fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}

#[cfg(test)]
mod tests;
