//! One test binary for the workspace.
mod appliance;
mod bench;
mod clients;
mod dist;
mod http;
mod market;
mod onnx;
mod pipeline;
mod python;
mod repository;
mod shared;
mod skip;
mod technical;
