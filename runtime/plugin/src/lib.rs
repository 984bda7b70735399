//! WASM components: architectures and features.
