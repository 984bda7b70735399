//! The models that answer tensors: those of the registry, loaded when they are first asked for or told to, within a
//! memory budget. Deployed models are pinned; of the others the one that was asked longest ago makes room.

pub mod loaded;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use registry::{Listing, Runs, Version};

use crate::config::Settings;
use crate::load::Parts;
use loaded::Loaded;

#[derive(Clone, Debug, PartialEq)]
pub enum InferError {
    /// The registry has no such model or version.
    NotFound(String),
    /// It was unloaded on purpose.
    Unloaded(String),
    /// What was sent doesn't fit the model.
    Bad(String),
    /// So many rows wait for the model.
    Busy { waiting: usize },
    /// It can't be loaded, or its run failed.
    Failed(String),
}

impl fmt::Display for InferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InferError::NotFound(e) | InferError::Bad(e) | InferError::Failed(e) => write!(f, "{e}"),
            InferError::Unloaded(model) => {
                write!(f, "{model} was unloaded: POST /v2/repository/models/{model}/load brings it back")
            }
            InferError::Busy { waiting } => {
                write!(f, "{waiting} rows are waiting for this model: send again in a moment")
            }
        }
    }
}

type Key = (String, u32);

#[derive(Default)]
struct Held {
    models: HashMap<Key, (Arc<Loaded>, Instant)>,
    /// Names that must not be loaded by being asked for.
    unloaded: Vec<String>,
}

pub struct Inference {
    parts: Arc<Parts>,
    bytes_max: usize,
    queue_rows_max: usize,
    /// Deployed: never dropped to make room.
    pinned: Mutex<Vec<Key>>,
    held: Mutex<Held>,
    /// One model is loaded at a time.
    loading: Mutex<()>,
}

/// A version as `repository/index` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexRow {
    pub name: String,
    pub version: u32,
    pub loaded: bool,
    /// Why not.
    pub reason: &'static str,
}

impl Inference {
    pub fn new(parts: Arc<Parts>, settings: &Settings) -> Inference {
        Inference {
            parts,
            bytes_max: settings.raw.inference.memory_bytes_max,
            queue_rows_max: settings.raw.inference.queue_rows_max,
            pinned: Mutex::default(),
            held: Mutex::default(),
            loading: Mutex::default(),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// "name/version" of the models that are deployed now.
    pub fn pin(&self, models: &[Arc<str>]) {
        let key = |model: &Arc<str>| {
            let (name, version) = model.split_once('/')?;
            Some((name.to_string(), version.parse().ok()?))
        };
        *self.pinned() = models.iter().filter_map(key).collect();
    }

    fn pinned(&self) -> std::sync::MutexGuard<'_, Vec<Key>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model, loaded if it isn't. Blocks while it loads.
    pub fn get(&self, name: &str, version: Version) -> Result<Arc<Loaded>, InferError> {
        if self.held().unloaded.iter().any(|n| n == name) {
            return Err(InferError::Unloaded(name.to_string()));
        }
        if let Some(found) = self.found(name, version)? {
            return Ok(found);
        }
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        match self.found(name, version)? {
            Some(found) => Ok(found),
            None => self.load_now(name, version),
        }
    }

    /// What is loaded already. The newest version is looked up each time: a publisher may have added one.
    fn found(&self, name: &str, version: Version) -> Result<Option<Arc<Loaded>>, InferError> {
        let number = match version {
            Version::Number(n) => n,
            Version::Latest => self.newest(name)?,
        };
        let mut held = self.held();
        let entry = held.models.get_mut(&(name.to_string(), number));
        Ok(entry.map(|(model, used)| {
            *used = Instant::now();
            model.clone()
        }))
    }

    /// The highest version in the registry.
    pub fn newest(&self, name: &str) -> Result<u32, InferError> {
        let missing =
            || InferError::NotFound(format!("there is no model '{name}': see /v2/repository/index"));
        self.versions(name)?.last().copied().ok_or_else(missing)
    }

    /// Rising; empty where there is no such model.
    pub fn versions(&self, name: &str) -> Result<Vec<u32>, InferError> {
        let found = self.list()?.models.into_iter().find(|m| m.name == name);
        Ok(found.map(|m| m.versions).unwrap_or_default())
    }

    fn list(&self) -> Result<Listing, InferError> {
        self.parts.registry.list().map_err(|e| InferError::Failed(e.to_string()))
    }

    fn load_now(&self, name: &str, version: Version) -> Result<Arc<Loaded>, InferError> {
        use registry::LoadError;
        let folder = self.parts.registry.load(name, version).map_err(|e| match e {
            LoadError::Name(_) | LoadError::NoModel { .. } | LoadError::NoVersion { .. } => {
                InferError::NotFound(e.to_string())
            }
            _ => InferError::Failed(e.to_string()),
        })?;
        let failed = |e: String| InferError::Failed(format!("{name} can't be loaded: {e}"));
        let runner = self.parts.runner(&folder, 0).map_err(failed)?;
        let whole = match folder.manifest.foreign.as_ref().map(|foreign| foreign.runs) {
            Some(Runs::Tract) => None,
            Some(Runs::Graph) | None => {
                let graph = self.parts.graph(&folder).map_err(failed)?;
                let executor = self.parts.executor_of(&folder.manifest, &graph).map_err(failed)?;
                Some((graph, executor))
            }
        };
        let bytes = folder.onnx.len();
        let key = (folder.manifest.name.clone(), folder.manifest.version);
        let model = Arc::new(Loaded::new(runner, whole, folder.manifest, bytes, self.queue_rows_max));
        self.keep(key, model.clone())?;
        tracing::info!(model = model.model, bytes = model.bytes, "loaded for inference");
        Ok(model)
    }

    /// Makes room and keeps it. What is in use goes when its last request is answered.
    fn keep(&self, key: Key, model: Arc<Loaded>) -> Result<(), InferError> {
        let pinned = self.pinned().clone();
        let mut held = self.held();
        let mut total: usize = held.models.values().map(|(m, _)| m.bytes).sum::<usize>() + model.bytes;
        while total > self.bytes_max {
            let spare = held.models.iter().filter(|(k, _)| !pinned.contains(k));
            let Some(oldest) = spare.min_by_key(|(_, (_, used))| *used).map(|(k, _)| k.clone()) else {
                break;
            };
            if let Some((gone, _)) = held.models.remove(&oldest) {
                total -= gone.bytes;
                tracing::info!(model = gone.model, "dropped to make room");
            }
        }
        if total > self.bytes_max && !pinned.contains(&key) {
            return Err(InferError::Failed(format!(
                "{} needs some {} MB and {} MB of inference.memory_bytes_max are taken by deployed models: raise it",
                model.model,
                model.bytes >> 20,
                (total - model.bytes) >> 20
            )));
        }
        held.models.insert(key, (model, Instant::now()));
        Ok(())
    }

    /// Loads the newest version, also after `unload`. Blocks while it loads.
    pub fn load(&self, name: &str) -> Result<(), InferError> {
        self.newest(name)?;
        self.held().unloaded.retain(|n| n != name);
        self.get(name, Version::Latest).map(|_| ())
    }

    /// Forgets all its versions, and doesn't load them again until told to.
    pub fn unload(&self, name: &str) -> Result<(), InferError> {
        self.newest(name)?;
        let mut held = self.held();
        held.models.retain(|(n, _), _| n != name);
        if !held.unloaded.iter().any(|n| n == name) {
            held.unloaded.push(name.to_string());
        }
        Ok(())
    }

    /// Every version of the registry.
    pub fn index(&self) -> Result<Vec<IndexRow>, InferError> {
        let listing = self.list()?;
        let held = self.held();
        let mut rows = Vec::new();
        for model in listing.models {
            let closed = held.unloaded.contains(&model.name);
            for version in model.versions {
                let loaded = held.models.contains_key(&(model.name.clone(), version));
                let reason = match (loaded, closed) {
                    (true, _) => "",
                    (false, true) => "unloaded",
                    (false, false) => "not asked for yet",
                };
                rows.push(IndexRow { name: model.name.clone(), version, loaded, reason });
            }
        }
        Ok(rows)
    }

    /// Loaded models, by name and version.
    pub fn loaded(&self) -> Vec<Arc<Loaded>> {
        let held = self.held();
        let mut models: Vec<Arc<Loaded>> = held.models.values().map(|(m, _)| m.clone()).collect();
        models.sort_by(|a, b| {
            (&a.manifest.name, a.manifest.version).cmp(&(&b.manifest.name, b.manifest.version))
        });
        models
    }
}
