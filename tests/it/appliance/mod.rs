//! The binary from outside: started in a folder of its own, fed and polled over HTTP.

mod architectures;
mod author;
mod calibrate;
mod explanations;
mod foreign;
pub mod harness;
mod infer;
mod input;
mod kill;
mod kill_import;
mod limits;
mod load;
mod managing;
mod measure;
mod memory;
mod models;
mod outcomes;
mod plugins;
mod poll;
mod replay;
mod retraining;
mod shipped;
mod start;
mod swap;
mod tls;
mod training;
mod tuning;
