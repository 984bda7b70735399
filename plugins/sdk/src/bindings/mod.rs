//! Generated from `plugins/wit/plugin.wit` by wit-bindgen-cli 0.61.1, and committed so that a plugin builds in seconds.
//!
//! After a change of the WIT run `plugins/sdk/bindings.sh`.
#![allow(unsafe_code, missing_docs, unused, clippy::all)]

#[rustfmt::skip]
pub mod architecture;
#[rustfmt::skip]
pub mod features;
