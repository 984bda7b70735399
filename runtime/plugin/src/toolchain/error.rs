//! Why a build failed, and what to do about it.

use std::fmt;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub enum ToolchainError {
    /// Neither route can build. Each entry is a route and what it lacks.
    NoToolchain {
        tried: Vec<super::Candidate>,
    },
    /// A program could not be started.
    Start {
        program: String,
        message: String,
    },
    /// Building Debian's std failed.
    Sysroot {
        output: String,
    },
    /// The folder is not a plugin crate; what is wrong with it and what to write.
    NotAPlugin {
        dir: PathBuf,
        message: String,
    },
    /// cargo failed; the end of what it said.
    Compile {
        output: String,
    },
    /// The module imports what no host offers.
    Imports {
        names: Vec<String>,
    },
    /// The file to be wrapped isn't a core module.
    NotAModule {
        path: PathBuf,
    },
    /// The module exports neither of the two interfaces.
    NoExport,
    /// Cargo.toml says another kind than the code exports.
    Kind {
        declared: String,
        exported: &'static str,
    },
    /// The module can't be made a component.
    Component(String),
    Io {
        path: PathBuf,
        message: String,
    },
}

impl fmt::Display for ToolchainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolchainError::NoToolchain { tried } => {
                write!(f, "no tool chain here builds for wasm32-unknown-unknown; one of these is enough:")?;
                tried.iter().try_for_each(|candidate| write!(f, "\n  {candidate}"))
            }
            ToolchainError::Start { program, message } => write!(f, "{program} can't be started: {message}"),
            ToolchainError::Sysroot { output } => {
                write!(f, "the standard library can't be built from Debian's rust-web-src:\n{output}")
            }
            ToolchainError::NotAPlugin { dir, message } => {
                write!(f, "{} is not a plugin crate: {message}", dir.display())
            }
            ToolchainError::Compile { output } => write!(f, "the plugin doesn't compile:\n{output}"),
            ToolchainError::NotAModule { path } => write!(
                f,
                "{} is not a core WebAssembly module: give what the compiler made, before it is a component",
                path.display()
            ),
            ToolchainError::Imports { names } => write!(
                f,
                "the plugin needs {}, which no host offers: it has a log and, for an architecture, the graph; \
                 no files, clock, network or JavaScript. Take out the dependency that asks for it, or turn off \
                 the feature of it that does",
                names.join(", ")
            ),
            ToolchainError::NoExport => {
                write!(
                    f,
                    "the plugin exports nothing: end src/lib.rs with \
                     alphaplus_plugin::export_features!(YourType); or export_architecture!"
                )
            }
            ToolchainError::Kind { declared, exported } => write!(
                f,
                "Cargo.toml says [package.metadata.alphaplus] kind = \"{declared}\", but the code \
                 exports {exported}; change one of them"
            ),
            ToolchainError::Component(message) => {
                write!(f, "the module can't be made a component: {message}")
            }
            ToolchainError::Io { path, message } => write!(f, "{}: {message}", path.display()),
        }
    }
}

impl std::error::Error for ToolchainError {}
