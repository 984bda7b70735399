//! The engine that all plugins share, and how a file becomes a component that can run.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::HasSelf;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel, Store, StoreContextMut, UpdateDeadline, WasmBacktraceDetails};

use crate::bindings::{architecture, features};
use crate::cache::Cache;
use crate::deadline::{Deadline, TICK, thread_cpu_time};
use crate::digest::sha256_hex;
use crate::guest::Guest;
use crate::limits::{Meter, PluginLimits, TRANSFER_BYTES_MAX};
use crate::log::{LogGate, NoLog, PluginLog};
use crate::metadata::Metadata;
use crate::survey::{LoadErrorKind, Survey, World, survey};

/// What a metered call may use; about ten seconds' worth.
pub(crate) const FUEL: u64 = 100_000_000_000;

/// How a [`Host`] is set up.
#[derive(Clone)]
pub struct HostOptions {
    /// Where compiled code is kept; `None` compiles at each load.
    pub cache_dir: Option<PathBuf>,
    pub limits: PluginLimits,
    pub log: Arc<dyn PluginLog>,
}

impl Default for HostOptions {
    fn default() -> Self {
        HostOptions { cache_dir: None, limits: PluginLimits::default(), log: Arc::new(NoLog) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostError {
    /// The cache folder can't be made, or others can write to it.
    Cache(String),
    /// wasmtime doesn't run on this machine.
    Engine(String),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostError::Cache(e) => write!(f, "{e}"),
            HostError::Engine(e) => write!(f, "the WebAssembly engine can't start here: {e}"),
        }
    }
}

impl std::error::Error for HostError {}

/// One engine and its clock. Cheap to clone; plugins keep what they need of it alive.
#[derive(Clone)]
pub struct Host {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) limits: PluginLimits,
    log: Arc<dyn PluginLog>,
    cache: Option<Cache>,
    /// Calls are bounded by fuel instead of time.
    metered: bool,
}

impl Host {
    pub fn new(options: HostOptions) -> Result<Self, HostError> {
        let engine = engine(false).map_err(|e| HostError::Engine(format!("{e:#}")))?;
        start_clock(&engine).map_err(|e| HostError::Engine(e.to_string()))?;
        let cache = match &options.cache_dir {
            Some(folder) => Some(Cache::open(folder, &engine).map_err(HostError::Cache)?),
            None => None,
        };
        Ok(Host {
            shared: Arc::new(Shared {
                engine,
                limits: options.limits,
                log: options.log,
                cache,
                metered: false,
            }),
        })
    }

    /// A host of the same limits that counts instructions instead of time; without cache.
    pub(crate) fn metered(&self) -> Result<Self, HostError> {
        let engine = engine(true).map_err(|e| HostError::Engine(format!("{e:#}")))?;
        let limits = self.shared.limits.clone();
        Ok(Host {
            shared: Arc::new(Shared { engine, limits, log: Arc::new(NoLog), cache: None, metered: true }),
        })
    }

    pub fn limits(&self) -> &PluginLimits {
        &self.shared.limits
    }

    pub fn load(&self, path: &Path) -> Result<Component, LoadError> {
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let error = |kind| LoadError { plugin: path.display().to_string(), kind };
        let limit = self.shared.limits.component_bytes_max;
        let bytes = read_bounded(path, limit).map_err(error)?;
        self.load_bytes(&stem, &bytes).map_err(|e| error(e.kind))
    }

    /// `stem` names a component that has no metadata of its own.
    pub fn load_bytes(&self, stem: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        let error = |kind| LoadError { plugin: stem.to_string(), kind };
        let limit = self.shared.limits.component_bytes_max;
        if bytes.len() > limit {
            return Err(error(LoadErrorKind::TooLarge { bytes: bytes.len() as u64, limit }));
        }
        let survey = survey(bytes).map_err(error)?;
        let metadata = survey.metadata.clone().unwrap_or_else(|| Metadata::unnamed(stem));
        if !metadata.kind.is_empty() && metadata.kind != survey.world.name() {
            let message = format!("its metadata says {}, but it exports {}", metadata.kind, survey.world);
            return Err(error(LoadErrorKind::Metadata(message)));
        }
        let digest = sha256_hex(bytes);
        let (compiled, from_cache) = self.shared.compile(&digest, bytes).map_err(error)?;
        let id = format!("{}@{}", metadata.name, metadata.version).into();
        let size_bytes = bytes.len();
        Ok(Component { host: self.clone(), compiled, survey, metadata, id, digest, size_bytes, from_cache })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl Shared {
    fn compile(
        &self,
        digest: &str,
        bytes: &[u8],
    ) -> Result<(wasmtime::component::Component, bool), LoadErrorKind> {
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.get(&self.engine, digest)) {
            return Ok((component, true));
        }
        let compiled =
            catch_unwind(AssertUnwindSafe(|| wasmtime::component::Component::new(&self.engine, bytes)))
                .map_err(|_| LoadErrorKind::Compile("the code generator panicked".into()))?
                .map_err(|e| LoadErrorKind::Compile(format!("{e:#}")))?;
        if let Some(cache) = &self.cache {
            // A full disk costs the next start its compile time and nothing else.
            let _ = cache.put(digest, &compiled);
        }
        Ok((compiled, false))
    }
}

/// A component that passed every check that needs no run.
#[derive(Clone)]
pub struct Component {
    pub(crate) host: Host,
    pub(crate) compiled: wasmtime::component::Component,
    survey: Survey,
    metadata: Metadata,
    id: Arc<str>,
    digest: String,
    size_bytes: usize,
    from_cache: bool,
}

impl Component {
    /// "technical@0.1.0".
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn world(&self) -> World {
        self.survey.world
    }

    /// SHA-256 of the file, lower-case hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub fn imports(&self) -> &[String] {
        &self.survey.imports
    }

    pub fn exports(&self) -> &[String] {
        &self.survey.exports
    }

    /// Whether its code came from the cache instead of the code generator.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    pub(crate) fn limits(&self) -> &PluginLimits {
        &self.host.shared.limits
    }

    pub(crate) fn plugin(&self) -> Arc<str> {
        self.id.clone()
    }

    /// An empty store within this memory limit.
    pub(crate) fn store(&self, memory_bytes_max: usize) -> Store<Guest> {
        let shared = &self.host.shared;
        let gate = LogGate::new(shared.log.clone(), shared.limits.log_messages_per_second);
        let mut store =
            Store::new(&shared.engine, Guest::new(self.plugin(), Meter::new(memory_bytes_max), gate));
        store.limiter(|guest| &mut guest.meter);
        store.set_hostcall_fuel(TRANSFER_BYTES_MAX);
        store.epoch_deadline_callback(more_time);
        store
    }

    /// To be called before each call into the instance: sets its deadline.
    pub(crate) fn arm(&self, store: &mut Store<Guest>, deadline_ms: u64) {
        store.data_mut().forget_panic();
        if self.host.shared.metered {
            // It can only fail on an engine without fuel.
            let _ = store.set_fuel(FUEL);
        } else {
            let deadline = Deadline::new(deadline_ms);
            store.data_mut().deadline = deadline;
            store.set_epoch_deadline(deadline.first_ticks());
        }
    }

    pub(crate) fn features_pre(&self) -> wasmtime::Result<features::FeaturesPre<Guest>> {
        let mut linker = Linker::new(&self.host.shared.engine);
        features::Features::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
        features::FeaturesPre::new(linker.instantiate_pre(&self.compiled)?)
    }

    pub(crate) fn architecture_pre(&self) -> wasmtime::Result<architecture::ArchitecturePre<Guest>> {
        let mut linker = Linker::new(&self.host.shared.engine);
        architecture::Architecture::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
        architecture::ArchitecturePre::new(linker.instantiate_pre(&self.compiled)?)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("id", &self.id)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The component is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file or name that was asked for.
    pub plugin: String,
    pub kind: LoadErrorKind,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {} {}", self.plugin, self.kind)
    }
}

impl std::error::Error for LoadError {}

pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, LoadErrorKind> {
    use std::io::Read;
    let read = |e: std::io::Error| LoadErrorKind::Read(e.to_string());
    let file = std::fs::File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    if length > limit as u64 {
        return Err(LoadErrorKind::TooLarge { bytes: length, limit });
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

/// NaN bits are left as the CPU makes them, since canonical ones cost 63 % on float code; the host makes
/// those of the returned rows canonical. All else in WebAssembly is deterministic.
fn engine(metered: bool) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    if metered {
        config.consume_fuel(true);
    } else {
        config.epoch_interruption(true);
    }
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.max_wasm_stack(512 << 10);
    config.wasm_memory64(false);
    config.wasm_relaxed_simd(false);
    config.cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config)
}

/// What happens when the epoch of a call's deadline is there.
fn more_time(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    let ticks = thread_cpu_time().and_then(|cpu| store.data_mut().deadline.more_ticks(cpu));
    Ok(ticks.map_or(UpdateDeadline::Interrupt, UpdateDeadline::Continue))
}

/// Advances the engine's epoch each tick for as long as the engine lives.
fn start_clock(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("plugin-clock".into()).spawn(tick).map(drop)
}
