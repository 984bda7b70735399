//! One test binary for the workspace.
mod skip;
mod market;
