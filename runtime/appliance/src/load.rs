//! From settings to what serves: components found by digest, models checked against their manifests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cpu::Cpu;
use graph::{Executor, Foreign, Graph, GraphCodec};
use learn::normalise::Normaliser;
use market::Features;
use market::series::Window;
use onnx::Onnx;
use onnx::about;
use plugin::{Component, FeaturePlugin, Host, HostOptions, LogLevel, PluginLimits, PluginLog};
use registry::{LoadError, Manifest, ModelFolder, Reference, Registry, Runs, Sliding, Version, sha256_hex};
use serde_json::{Map, Value};
use store::ModelName;

use crate::config::Settings;
use crate::deployment::{About, Deployment, Health, Seat};
use crate::foreign::Binding;
use crate::precision;
use crate::runner::{Runner, RunnerError};

/// What plugins log goes to the appliance's log.
struct Traced;

impl PluginLog for Traced {
    fn enabled(&self, level: LogLevel) -> bool {
        level >= LogLevel::Info
    }

    fn write(&self, plugin: &str, level: LogLevel, message: &str) {
        match level {
            LogLevel::Debug => tracing::debug!(plugin, "{message}"),
            LogLevel::Info => tracing::info!(plugin, "{message}"),
            LogLevel::Warn => tracing::warn!(plugin, "{message}"),
            LogLevel::Error => tracing::error!(plugin, "{message}"),
        }
    }
}

/// The parts that every command builds on.
pub struct Parts {
    pub host: Host,
    pub executor: Arc<dyn Executor>,
    cpu: Cpu,
    pub codec: Onnx,
    pub registry: Registry,
}

impl Parts {
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let host = host(settings)?;
        let registry = Registry::open(&settings.raw.models.folder).map_err(|e| e.to_string())?;
        let cpu = Cpu::new(settings.cpu()).map_err(|e| e.to_string())?;
        Ok(Parts { host, executor: Arc::new(cpu.clone()), cpu, codec: Onnx, registry })
    }

    /// A component by its name in `plugins.folders` or by its file.
    pub fn component(&self, settings: &Settings, name: &str) -> Result<Component, String> {
        let path = component_path(settings, name)?;
        self.host.load(&path).map_err(|e| e.to_string())
    }

    /// The component that a manifest pins.
    pub fn pinned(&self, settings: &Settings, plugin: &str, digest: &str) -> Result<Component, String> {
        let mut same_name = Vec::new();
        for path in component_files(settings) {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            if sha256_hex(&bytes) == digest {
                return self.host.load(&path).map_err(|e| e.to_string());
            }
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            if plugin.split('@').next() == Some(stem.as_str()) {
                same_name.push(format!("{} has another digest", path.display()));
            }
        }
        let seen = if same_name.is_empty() { String::new() } else { format!(" ({})", same_name.join("; ")) };
        Err(format!(
            "plugin {plugin} with digest {digest} is in none of plugins.folders{seen}: put the component that the \
             model was trained with there, or train the model again"
        ))
    }

    /// `models:/name@alias`, `models:/name/7` or `models:/name`, with or without `models:/`.
    pub fn model(&self, text: &str) -> Result<ModelFolder, String> {
        let reference = Reference::parse(text).map_err(|e| e.to_string())?;
        self.registry.load_reference(&reference).map_err(|e| e.to_string())
    }

    /// The graph of a model; there is none where tract runs an imported file.
    pub fn graph(&self, folder: &ModelFolder) -> Result<Graph, String> {
        let manifest = &folder.manifest;
        if manifest.foreign.as_ref().is_some_and(|f| f.runs == Runs::Tract) {
            return Err(format!(
                "{}/{} is an imported ONNX file that tract runs as it is, and this needs a model that our own graph holds",
                manifest.name, manifest.version
            ));
        }
        self.codec.decode(&folder.onnx).map_err(|e| e.to_string())
    }

    /// The model prepared, with up to `places` streams sliding.
    pub fn runner(&self, folder: &ModelFolder, places: usize) -> Result<Runner, String> {
        let manifest = &folder.manifest;
        let (window, columns) = (manifest.input.window as usize, manifest.input.features as usize);
        let text = |e: RunnerError| e.to_string();
        if let Some(foreign) = manifest.foreign.as_ref().filter(|f| f.runs == Runs::Tract) {
            let about = about::About::read(&folder.onnx).map_err(|e| e.to_string())?;
            let binding = Binding::find(&about, Some(&foreign.output), window, columns)?;
            let dims = binding.dims();
            let model = Foreign {
                bytes: &folder.onnx,
                input: &binding.input,
                output: binding.output_index,
                dims: &dims,
            };
            let runner = Runner::foreign(&self.cpu, &model).map_err(text)?;
            let stated = manifest.input.outputs as usize;
            if runner.outputs() != stated {
                return Err(format!("it gives {} numbers and its manifest says {stated}", runner.outputs()));
            }
            return Ok(runner);
        }
        let graph = self.served_graph(folder)?;
        let executor = self.executor_of(manifest, &graph)?;
        let mut runner = Runner::new(&executor, &graph, window, columns).map_err(text)?;
        runner.slide(&executor, &graph, window, places).map_err(text)?;
        Ok(runner)
    }

    /// What a model computes while it serves: its prediction. Other outputs, such as a transformer's attention,
    /// stay in the file.
    pub fn served_graph(&self, folder: &ModelFolder) -> Result<Graph, String> {
        graph::rewrite::only(&self.graph(folder)?, plugin::OUTPUT).map_err(|e| e.to_string())
    }

    /// The feature source that a manifest pins, checked against what it says.
    pub fn features(&self, settings: &Settings, manifest: &Manifest) -> Result<FeaturePlugin, String> {
        let pinned = &manifest.features;
        let component = self.pinned(settings, &pinned.plugin, &pinned.digest)?;
        let options = json_object(&pinned.options)?;
        let features = FeaturePlugin::new(&component, &options).map_err(|e| e.to_string())?;
        let spec = features.spec();
        if spec.names != pinned.names || spec.warmup != pinned.warmup as usize {
            return Err(format!(
                "plugin {} gives other columns or another warm-up than the manifest says",
                pinned.plugin
            ));
        }
        Ok(features)
    }

    /// The processor with the model's weights as its manifest says. A model that is further from f32 than it
    /// states isn't served.
    pub fn executor_of(&self, manifest: &Manifest, graph: &graph::Graph) -> Result<Cpu, String> {
        let stored = manifest.serving.precision;
        if stored == registry::Precision::F32 {
            return Ok(self.cpu.clone());
        }
        let error = self.precision_error(manifest, graph, stored)?;
        let tolerance = manifest.serving.device_tolerance;
        if error <= tolerance {
            return Ok(self.cpu.at(precision::of(stored)));
        }
        Err(format!(
            "in {} its outputs differ from f32 by up to {error:.2e}, and serving.device_tolerance is \
             {tolerance:.2e}: see 'alphaplus models store-as --help'",
            precision::of(stored)
        ))
    }

    /// How far a storage is from f32, over made-up windows.
    pub fn precision_error(
        &self,
        manifest: &Manifest,
        graph: &graph::Graph,
        stored: registry::Precision,
    ) -> Result<f64, String> {
        let windows = precision::made_up(manifest.input.window as usize * manifest.input.features as usize);
        let narrow = self.cpu.at(precision::of(stored));
        precision::error(&self.cpu, &narrow, graph, &windows).map_err(|e| e.to_string())
    }

    /// A model in service, of which up to `places` streams may slide.
    pub fn serve(
        &self,
        settings: &Settings,
        folder: &ModelFolder,
        seat: Seat,
        places: usize,
    ) -> Result<Deployment, String> {
        let manifest = &folder.manifest;
        let model = format!("{}/{}", manifest.name, manifest.version);
        let at = |e: String| format!("model {model}: {e}");
        if manifest.data.timeframe != seat.timeframe.to_string() {
            return Err(at(format!(
                "it was trained on {} bars and is deployed for {}: change deployments.timeframe",
                manifest.data.timeframe, seat.timeframe
            )));
        }
        let features = self.features(settings, manifest).map_err(at)?;
        let (window, columns) = (manifest.input.window as usize, manifest.input.features as usize);
        if manifest.serving.sliding != Sliding::Exact {
            return Err(at("it was trained to carry its state on, and only exact windows are served".into()));
        }
        let runner = self.runner(folder, places).map_err(at)?;
        let p = &settings.raw.plugins;
        Ok(Deployment {
            about: About::of(folder).ok_or_else(|| at("its digest is not one".into()))?.into(),
            seat: seat.into(),
            leaving: false,
            features_digest: digest_bytes(&manifest.features.digest)
                .ok_or_else(|| at("a digest is not one".into()))?,
            window,
            columns,
            empty_window: Window::new(window, columns).map_err(|e| at(e.to_string()))?,
            normaliser: Normaliser::from_manifest(&manifest.normaliser),
            runner,
            features: Box::new(features),
            epoch: 0,
            health: Health::new(p.failures_max, Duration::from_secs(p.failure_window_s)),
        })
    }

    /// What is said of a model that predicted once; `None` where the registry no longer has those weights.
    pub fn about(&self, name: &ModelName, digest: &[u8; 32]) -> Option<Arc<About>> {
        let folder = self.registry.load(&name.name, Version::Number(name.version.parse().ok()?)).ok()?;
        About::of(&folder).filter(|about| about.terms.digest == *digest).map(Arc::new)
    }
}

pub fn host(settings: &Settings) -> Result<Host, String> {
    let p = &settings.raw.plugins;
    let limits = PluginLimits {
        event_deadline_ms: p.bar_deadline_ms,
        batch_deadline_ms: p.batch_deadline_ms,
        features_memory_bytes_max: p.memory_bytes_max,
        // What the spool can store, with room for what the host and the appliance put in front.
        state_bytes_max: store::STATE_BYTES_MAX - 1024,
        streams_max: settings.raw.serving.streams_max.saturating_mul(2).max(1024),
        ..PluginLimits::default()
    };
    let options = HostOptions { cache_dir: Some(p.cache_folder.clone()), limits, log: Arc::new(Traced) };
    Host::new(options).map_err(|e| e.to_string())
}

/// Every component in `plugins.folders`.
pub fn component_files(settings: &Settings) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = settings
        .raw
        .plugins
        .folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "wasm"))
        .collect();
    files.sort();
    files
}

pub fn component_path(settings: &Settings, name: &str) -> Result<PathBuf, String> {
    if name.ends_with(".wasm") {
        return Ok(PathBuf::from(name));
    }
    let file = format!("{name}.wasm");
    let found = settings.raw.plugins.folders.iter().map(|f| f.join(&file)).find(|p| p.is_file());
    found.ok_or_else(|| {
        let have: Vec<String> = component_files(settings)
            .iter()
            .filter_map(|p| p.file_stem().map(|s| s.to_string_lossy().into_owned()))
            .collect();
        format!("there is no plugin '{name}' in plugins.folders; there are: {}", have.join(", "))
    })
}

pub fn json_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|e| format!("'{text}' is not a JSON object: {e}"))
}

/// `name=value` pairs; a value that isn't JSON is a string.
pub fn pairs(list: &[String]) -> Result<Map<String, Value>, String> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' must be name=value"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
        Ok((name.to_string(), value))
    };
    list.iter().map(pair).collect()
}

pub fn digest_bytes(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Every model of the deployment table, of each up to `places` streams sliding; the first mistake stops. A challenger's
/// alias may be still to come.
pub fn deployments(parts: &Parts, settings: &Settings, places: usize) -> Result<Vec<Deployment>, String> {
    let mut deployments: Vec<Deployment> = Vec::with_capacity(settings.deployments.len());
    for (row, wanted) in settings.deployments.iter().enumerate() {
        for (reference, seat) in wanted.seats(row) {
            let folder = match parts.registry.load_reference(&reference) {
                Ok(folder) => folder,
                Err(error @ LoadError::NoAlias { .. }) if seat.challenger.is_some() => {
                    tracing::info!(%error, "no challenger yet");
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            let deployment = parts.serve(settings, &folder, seat, places)?;
            // Two aliases may have come to point at one version.
            if let Some(other) = deployments.iter().find(|other| other.clashes(&deployment)) {
                if deployment.seat.challenger.is_some() {
                    tracing::info!(model = %deployment.about.model, "the challenger is the champion");
                    continue;
                }
                return Err(format!(
                    "{} and {} both lead to {} for the same symbols: deploy one of them, or move an alias",
                    other.seat.reference, reference, deployment.about.model
                ));
            }
            deployments.push(deployment);
        }
    }
    Ok(deployments)
}
