//! Guests that misbehave, are broken or are old, in the host. They are built from `plugins/hostile`.

mod cost;
mod frozen;
mod fuzz;
mod hostile_architecture;
mod hostile_features;
mod loading;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use market::FeatureError;
use serde_json::{Map, Value, json};

use crate::host::{Component, Host, HostOptions};
use crate::log::{LogLevel, PluginLog};
use crate::{FeaturePlugin, PluginLimits};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/plugins").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("it is committed")
}

/// One for all tests, so that each component is compiled once.
fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        Host::new(HostOptions { limits: limits(), ..HostOptions::default() }).expect("starts")
    })
}

/// Wide enough for a busy machine, small enough for quick tests.
fn limits() -> PluginLimits {
    PluginLimits {
        features_memory_bytes_max: 24 << 20,
        architecture_memory_bytes_max: 24 << 20,
        event_deadline_ms: 200,
        batch_deadline_ms: 1_000,
        open_deadline_ms: 1_000,
        build_deadline_ms: 2_000,
        ..PluginLimits::default()
    }
}

fn hostile_features() -> &'static Component {
    static COMPONENT: OnceLock<Component> = OnceLock::new();
    COMPONENT.get_or_init(|| host().load(&path("hostile-features.wasm")).expect("loads"))
}

fn options(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn hostile(mode: &str) -> Result<FeaturePlugin, FeatureError> {
    FeaturePlugin::new(hostile_features(), &options(json!({ "mode": mode })))
}

/// Keeps what is logged.
#[derive(Default)]
struct Kept(Mutex<Vec<(String, LogLevel, String)>>);

impl PluginLog for Kept {
    fn enabled(&self, level: LogLevel) -> bool {
        level >= LogLevel::Info
    }
    fn write(&self, plugin: &str, level: LogLevel, message: &str) {
        self.0.lock().expect("no panic").push((plugin.into(), level, message.into()));
    }
}

fn host_with_log() -> (Host, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let options = HostOptions { limits: limits(), log: kept.clone(), ..HostOptions::default() };
    (Host::new(options).expect("starts"), kept)
}
