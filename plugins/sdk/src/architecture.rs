//! [`Architecture`], the trait of an architecture plugin, and what turns it into the component's export.

use crate::bindings::architecture::exports::alphaplus::plugin::model as export;
use crate::graph::Graph;
use crate::options::Options;

pub use export::Dimensions;

/// A model architecture: hyper-parameters and dimensions in, a graph out.
pub trait Architecture: 'static {
    /// The hyper-parameters, as [`Schema::to_json`](crate::Schema::to_json) gives them. None unless
    /// overridden.
    fn schema() -> String {
        crate::Schema::new().to_json()
    }

    /// Builds the graph. `hyper` has a checked value for every property of the schema. The output
    /// "prediction" `[-1, outputs]` is required.
    fn build(hyper: &Options, dimensions: Dimensions, graph: &Graph<'_>) -> Result<(), String>;
}

/// The exported interface over an [`Architecture`]. Used by
/// [`export_architecture!`](crate::export_architecture!).
#[doc(hidden)]
pub struct Exported<T>(std::marker::PhantomData<T>);

#[cfg(target_arch = "wasm32")]
impl<T: Architecture> export::Guest for Exported<T> {
    fn schema() -> String {
        crate::log::report_panics();
        T::schema()
    }

    fn build(hyper: String, dimensions: Dimensions, into: &export::Builder) -> Result<(), String> {
        crate::log::report_panics();
        T::build(&Options::parse(&hyper)?, dimensions, &Graph::new(into))
    }
}

/// Makes the crate an architecture component: `alphaplus_plugin::export_architecture!(Lstm);`. Does nothing
/// off wasm.
#[macro_export]
macro_rules! export_architecture {
    ($model:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod __alphaplus_export {
            use super::*;
            type Exported = $crate::architecture::Exported<$model>;
            $crate::bindings::architecture::export_architecture!(Exported with_types_in $crate::bindings::architecture);
            $crate::__export_realloc!();
        }
    };
}
