//! The appliance: the only crate that sees the others together.

pub mod cli;
pub mod commands;
pub mod config;
pub mod deployment;
pub mod feed;
pub mod heatmap;
pub mod history;
pub mod inference;
pub mod ingest;
pub mod live;
pub mod load;
pub mod metrics;
pub mod pipeline;
pub mod plot;
pub mod precision;
pub mod predictor;
pub mod queue;
pub mod recover;
pub mod render;
pub mod runner;
pub mod server;
pub mod shared_memory;
pub mod slide;
pub mod tls;
pub mod visible;
