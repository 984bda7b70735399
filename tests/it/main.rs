//! One test binary for the workspace.
mod appliance;
mod http;
mod repository;
mod skip;
mod market;
mod clients;
mod onnx;
mod python;
