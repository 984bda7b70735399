//! Builds plugins from source and makes new ones: `plugin build`, `plugin new` and what `plugin doctor` says
//! of tool chains.
//!
//! ```text
//! find: PATH's rustc with the wasm target (rustup) or Debian's packages
//!   -> sysroot: Debian only, std is built once and kept
//!   -> cargo: a core module, with the machine's paths kept out of it
//!   -> component: stripped, wrapped as a component, named
//! ```
//!
//! Both routes share all but the compiler, and neither needs a network unless the plugin has dependencies.
//! The same source, tool chain and lock file give the same bytes in any folder.

mod cargo;
mod component;
mod error;
mod find;
mod sysroot;
mod template;

use std::io::Write;
use std::path::{Path, PathBuf};

pub use error::ToolchainError;
pub use find::{Candidate, Doctor, doctor};
pub use template::{NewPluginError, PluginKind, new_plugin};

use crate::digest::sha256_hex;

/// How to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Where Debian's std is kept once it is built: some 80 MB.
    pub cache: PathBuf,
    /// Keeps names and line tables, so that a backtrace names file and line; the component is several times
    /// as large.
    pub keep_debug: bool,
    /// May run `rustup target add`, which needs a network.
    pub may_install: bool,
}

/// What was built.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    pub path: PathBuf,
    pub name: String,
    pub version: String,
    /// "architecture" or "features".
    pub kind: PluginKind,
    pub size_bytes: usize,
    /// SHA-256 of the file, lower-case hex.
    pub digest: String,
    /// "rustc 1.96.0 (…) from Debian's packages".
    pub toolchain: String,
}

/// Builds the plugin crate in `dir` and writes the component to `out`: a file, or a folder that exists, in
/// which it is called `<name>.wasm`. `progress` gets a line at a time, the compiler's own among them.
pub fn build(
    dir: &Path,
    out: &Path,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, ToolchainError> {
    let toolchain = find::choose(dir, options, progress)?;
    progress(&format!("building with {toolchain}"));
    let tools = toolchain.prepare(&options.cache, progress)?;
    let package = cargo::package(dir, &tools)?;
    let module = cargo::build(&package, &tools, progress)?;
    let (component, kind) = component::make(&module, &package, options.keep_debug)?;
    let path = if out.is_dir() { out.join(format!("{}.wasm", package.name)) } else { out.to_path_buf() };
    write_whole(&path, &component)?;
    Ok(Built {
        path,
        name: package.name,
        version: package.version,
        kind,
        size_bytes: component.len(),
        digest: sha256_hex(&component),
        toolchain: toolchain.to_string(),
    })
}

/// A reader sees the old file or the new one.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ToolchainError> {
    let failed =
        |source: std::io::Error| ToolchainError::Io { path: path.to_path_buf(), message: source.to_string() };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(".plugin-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests;
