//! Architecture plugins: hyper-parameters and dimensions in, a verified graph out.

use std::fmt;

use graph::{Graph, Limits};
use serde_json::{Map, Value};
use wasmtime::Store;
use wasmtime::component::Resource;

use crate::bindings::architecture as bindings;
use crate::bindings::architecture::exports::alphaplus::plugin::model;
use crate::construct::GraphInProgress;
use crate::guest::{Guest, GuestFailure, failure};
use crate::host::Component;
use crate::log::clean;
use crate::schema::{Schema, SchemaError, ValueError};
use crate::survey::World;
use crate::training;

/// The name of every model's input, `[B, window, features]`.
pub const INPUT: &str = "features";
/// The name of every model's output, `[B, outputs]`.
pub const OUTPUT: &str = "prediction";

/// What a graph is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    pub window: u32,
    pub features: u32,
    pub outputs: u32,
}

/// A model architecture. Each call runs in a new instance, so it is a pure function.
pub struct Architecture {
    component: Component,
    pre: bindings::ArchitecturePre<Guest>,
    schema: Schema,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ArchitectureError {
    /// "lstm@0.1.0".
    pub plugin: String,
    pub kind: ArchitectureErrorKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ArchitectureErrorKind {
    /// The component is of the other world.
    World,
    /// It can't be instantiated.
    Instantiate(String),
    /// It panicked, ran too long or took too much memory.
    Guest(GuestFailure),
    /// Its schema isn't one.
    Schema(SchemaError),
    /// The hyper-parameters don't fit its schema.
    Hyper(ValueError),
    /// It refused to build, with its own words.
    Refused(String),
    /// The graph that it built is not valid, or not a model.
    Graph(String),
}

impl fmt::Display for ArchitectureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "architecture {}: ", self.plugin)?;
        match &self.kind {
            ArchitectureErrorKind::World => write!(f, "it is a feature set, not an architecture"),
            ArchitectureErrorKind::Instantiate(e) => write!(f, "it can't be instantiated: {e}"),
            ArchitectureErrorKind::Guest(e) => write!(f, "{e}"),
            ArchitectureErrorKind::Schema(e) => write!(f, "its schema is wrong: {e}"),
            ArchitectureErrorKind::Hyper(e) => write!(f, "{e}"),
            ArchitectureErrorKind::Refused(e) => write!(f, "build failed: {e}"),
            ArchitectureErrorKind::Graph(e) => write!(f, "the graph that it built is not valid: {e}"),
        }
    }
}

impl std::error::Error for ArchitectureError {}

impl Architecture {
    /// Instantiates the component once, to read its schema.
    pub fn new(component: &Component) -> Result<Self, ArchitectureError> {
        let error = |kind| ArchitectureError { plugin: component.id().to_string(), kind };
        if component.world() != World::Architecture {
            return Err(error(ArchitectureErrorKind::World));
        }
        let pre = component
            .architecture_pre()
            .map_err(|e| error(ArchitectureErrorKind::Instantiate(clean(&format!("{e:#}"), 1 << 10))))?;
        let mut call = Call::start(component, &pre).map_err(error)?;
        let text = call.schema().map_err(error)?;
        let schema = Schema::parse(&text).and_then(|schema| training::check(&schema).map(|()| schema));
        let schema = schema.map_err(|e| error(ArchitectureErrorKind::Schema(e)))?;
        Ok(Architecture { component: component.clone(), pre, schema })
    }

    pub fn component(&self) -> &Component {
        &self.component
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Checks `hyper` against the schema, fills in the defaults, and has the guest build. The graph has the
    /// input [`INPUT`] `[B, window, features]` and the output [`OUTPUT`] `[B, outputs]`, is within the limits,
    /// and is the same for the same arguments.
    pub fn build(
        &self,
        hyper: &Map<String, Value>,
        dimensions: Dimensions,
        limits: &Limits,
    ) -> Result<Graph, ArchitectureError> {
        let error = |kind| ArchitectureError { plugin: self.component.id().to_string(), kind };
        let hyper = self.schema.fill(hyper).map_err(|e| error(ArchitectureErrorKind::Hyper(e)))?;
        let hyper = Value::Object(hyper).to_string();
        let graph =
            GraphInProgress::new(&dimensions, limits).map_err(|e| error(ArchitectureErrorKind::Graph(e)))?;
        let mut call = Call::start(&self.component, &self.pre).map_err(error)?;
        let graph = call.build(&hyper, dimensions, graph).map_err(error)?;
        graph.finish(&dimensions).map_err(|e| error(ArchitectureErrorKind::Graph(e)))
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Architecture").field("component", &self.component).finish_non_exhaustive()
    }
}

/// One instance, for one call.
struct Call<'a> {
    component: &'a Component,
    store: Store<Guest>,
    guest: bindings::Architecture,
}

impl<'a> Call<'a> {
    fn start(
        component: &'a Component,
        pre: &bindings::ArchitecturePre<Guest>,
    ) -> Result<Self, ArchitectureErrorKind> {
        let limits = component.limits();
        let mut store = component.store(limits.architecture_memory_bytes_max);
        component.arm(&mut store, limits.open_deadline_ms);
        match pre.instantiate(&mut store) {
            Ok(guest) => Ok(Call { component, store, guest }),
            Err(e) => Err(ArchitectureErrorKind::Guest(failure(
                store.data(),
                &e,
                "instantiation",
                limits.open_deadline_ms,
            ))),
        }
    }

    fn schema(&mut self) -> Result<String, ArchitectureErrorKind> {
        let deadline_ms = self.component.limits().open_deadline_ms;
        self.component.arm(&mut self.store, deadline_ms);
        let result = self.guest.alphaplus_plugin_model().call_schema(&mut self.store);
        result
            .map_err(|e| ArchitectureErrorKind::Guest(failure(self.store.data(), &e, "schema", deadline_ms)))
    }

    fn build(
        &mut self,
        hyper: &str,
        dimensions: Dimensions,
        graph: GraphInProgress,
    ) -> Result<GraphInProgress, ArchitectureErrorKind> {
        let deadline_ms = self.component.limits().build_deadline_ms;
        self.component.arm(&mut self.store, deadline_ms);
        self.store.data_mut().graph = Some(graph);
        let Dimensions { window, features, outputs } = dimensions;
        let result = self.guest.alphaplus_plugin_model().call_build(
            &mut self.store,
            hyper,
            model::Dimensions { window, features, outputs },
            Resource::new_borrow(0),
        );
        match result {
            Ok(Ok(())) => {}
            Ok(Err(message)) => return Err(ArchitectureErrorKind::Refused(clean(&message, 1 << 10))),
            Err(e) => {
                return Err(ArchitectureErrorKind::Guest(failure(
                    self.store.data(),
                    &e,
                    "build",
                    deadline_ms,
                )));
            }
        }
        let graph = self.store.data_mut().graph.take();
        graph.ok_or_else(|| ArchitectureErrorKind::Graph("it is gone".into()))
    }
}
