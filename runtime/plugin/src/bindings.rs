//! The Rust side of `plugins/wit/plugin.wit`, generated.

pub(crate) mod features {
    wasmtime::component::bindgen!({ path: "../../plugins/wit", world: "features" });
}

pub(crate) mod architecture {
    wasmtime::component::bindgen!({
        path: "../../plugins/wit",
        world: "architecture",
        with: {
            "alphaplus:plugin/log": super::features::alphaplus::plugin::log,
            "alphaplus:plugin/graph.builder": crate::construct::GraphInProgress,
        },
    });
}
