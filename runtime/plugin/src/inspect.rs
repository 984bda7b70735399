//! What a plugin file is, and whether it keeps its promises: `plugin inspect`, `plugin check`, `plugin test`.

use std::fmt;
use std::path::Path;

use graph::{Graph, Limits};
use market::{FeatureError, FeatureSpec, Features};
use serde_json::Map;

use crate::architecture::{Architecture, ArchitectureError, Dimensions};
use crate::causality::{CausalityError, check_causality};
use crate::features::FeaturePlugin;
use crate::host::{Component, Host, HostError, LoadError};
use crate::metadata::Metadata;
use crate::schema::Schema;
use crate::survey::World;
use crate::synthetic::synthetic_bars;

/// Everything that can be said of a plugin without data. Its options are at their defaults.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub metadata: Metadata,
    pub world: World,
    /// SHA-256 of the file, lower-case hex.
    pub digest: String,
    pub size_bytes: usize,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub schema: Schema,
    /// Of a feature set.
    pub spec: Option<FeatureSpec>,
    /// Of an architecture: what it builds for a window of 60 bars of 8 features and one output.
    pub graph: Option<GraphSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphSize {
    pub nodes: usize,
    /// Trained numbers.
    pub parameters: usize,
}

/// Why a plugin doesn't pass.
#[derive(Clone, Debug, PartialEq)]
pub enum PluginError {
    Host(HostError),
    Load(LoadError),
    Feature(FeatureError),
    Architecture(ArchitectureError),
    Causality(CausalityError),
    /// The same arguments gave another graph.
    NotDeterministic {
        plugin: String,
    },
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PluginError::Host(e) => write!(f, "{e}"),
            PluginError::Load(e) => write!(f, "{e}"),
            PluginError::Feature(e) => write!(f, "{e}"),
            PluginError::Architecture(e) => write!(f, "{e}"),
            PluginError::Causality(e) => write!(f, "{e}"),
            PluginError::NotDeterministic { plugin } => {
                write!(f, "architecture {plugin}: it built another graph from the same arguments")
            }
        }
    }
}

impl std::error::Error for PluginError {}

impl From<HostError> for PluginError {
    fn from(e: HostError) -> Self {
        PluginError::Host(e)
    }
}

impl From<LoadError> for PluginError {
    fn from(e: LoadError) -> Self {
        PluginError::Load(e)
    }
}

impl From<FeatureError> for PluginError {
    fn from(e: FeatureError) -> Self {
        PluginError::Feature(e)
    }
}

impl From<ArchitectureError> for PluginError {
    fn from(e: ArchitectureError) -> Self {
        PluginError::Architecture(e)
    }
}

impl From<CausalityError> for PluginError {
    fn from(e: CausalityError) -> Self {
        PluginError::Causality(e)
    }
}

/// Loads the plugin and asks it; an architecture builds once.
pub fn inspect(host: &Host, path: &Path) -> Result<Inspection, PluginError> {
    let component = host.load(path)?;
    let (schema, spec, graph) = match component.world() {
        World::Features => {
            let plugin = FeaturePlugin::new(&component, &Map::new())?;
            (plugin.schema().clone(), Some(plugin.spec().clone()), None)
        }
        World::Architecture => {
            let architecture = Architecture::new(&component)?;
            let graph = architecture.build(&Map::new(), SIZES[0], &Limits::default())?;
            (architecture.schema().clone(), None, Some(graph_size(&graph)))
        }
    };
    Ok(Inspection {
        metadata: component.metadata().clone(),
        world: component.world(),
        digest: component.digest().to_string(),
        size_bytes: component.size_bytes(),
        imports: component.imports().to_vec(),
        exports: component.exports().to_vec(),
        schema,
        spec,
        graph,
    })
}

const SIZES: [Dimensions; 4] = [
    Dimensions { window: 60, features: 8, outputs: 1 },
    Dimensions { window: 1, features: 1, outputs: 1 },
    Dimensions { window: 2, features: 33, outputs: 5 },
    Dimensions { window: 240, features: 3, outputs: 2 },
];

fn graph_size(graph: &Graph) -> GraphSize {
    let elements = |state: &graph::StateSpec| graph.node(state.node).shapes[0].elements(1).unwrap_or(0);
    let parameters = graph.states.iter().filter(|s| s.trainable).map(elements).sum();
    GraphSize { nodes: graph.nodes.len(), parameters }
}

/// A feature set passes the causality check on made-up bars; an architecture builds graphs of several sizes,
/// the same ones twice. Options are at their defaults. The result is a line for each thing that held.
pub fn test(host: &Host, path: &Path, seed: u64, rounds: usize) -> Result<Vec<String>, PluginError> {
    let component = host.load(path)?;
    match component.world() {
        World::Features => test_features(&component, seed, rounds),
        World::Architecture => test_architecture(&component),
    }
}

fn test_features(component: &Component, seed: u64, rounds: usize) -> Result<Vec<String>, PluginError> {
    let mut plugin = FeaturePlugin::new(component, &Map::new())?;
    let bars = synthetic_bars(seed, plugin.spec().warmup + 1_200);
    check_causality(&mut plugin, &bars, seed, rounds)?;
    let spec = plugin.spec();
    Ok(vec![
        format!("{} columns over {} bars, {rounds} rounds, seed {seed}", spec.names.len(), bars.len()),
        "no row depends on later bars".into(),
        "on-bars gives the bits of on-bar".into(),
        "streams don't touch each other".into(),
        "snapshot and restore lose nothing".into(),
        "the same bars give the same bits, also in a new instance".into(),
        format!("rows are finite after {} rows of warm-up", spec.warmup),
    ])
}

fn test_architecture(component: &Component) -> Result<Vec<String>, PluginError> {
    let architecture = Architecture::new(component)?;
    let mut lines = Vec::new();
    for size in SIZES {
        let graph = architecture.build(&Map::new(), size, &Limits::default())?;
        if architecture.build(&Map::new(), size, &Limits::default())? != graph {
            return Err(PluginError::NotDeterministic { plugin: component.id().to_string() });
        }
        let GraphSize { nodes, parameters } = graph_size(&graph);
        let Dimensions { window, features, outputs } = size;
        lines.push(format!(
            "window {window}, {features} features, {outputs} outputs: {nodes} nodes, {parameters} parameters, \
             the same twice"
        ));
    }
    Ok(lines)
}
