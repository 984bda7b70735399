//! Builds plugins from source, wraps modules of other languages and makes new plugins: `plugin build`, `plugin wrap`,
//! `plugin new` and what `plugin doctor` says of tool chains.
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

use component::Named;

use crate::digest::sha256_hex;

/// Of a module that is to be wrapped; stripped it is smaller.
const MODULE_BYTES_MAX: usize = 256 << 20;

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
    let named =
        Named { name: package.name, version: package.version, licence: package.licence, kind: package.kind };
    finish(&module, named, out, options.keep_debug, toolchain.to_string())
}

/// Who a module that another tool chain made says it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Naming {
    pub name: String,
    pub version: String,
    /// As SPDX writes it.
    pub licence: String,
}

/// Makes a component of a core module that any compiler made, and writes it to `out` as [`build`] does. The module
/// exports what the canonical ABI says of one of the worlds in `plugins/wit`, and imports nothing else.
pub fn wrap(module: &Path, naming: &Naming, out: &Path, keep_debug: bool) -> Result<Built, ToolchainError> {
    let failed = |message: String| ToolchainError::Io { path: module.to_path_buf(), message };
    let bytes = crate::host::read_bounded(module, MODULE_BYTES_MAX).map_err(|e| failed(e.to_string()))?;
    if !bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err(ToolchainError::NotAModule { path: module.to_path_buf() });
    }
    let Naming { name, version, licence } = naming.clone();
    let named = Named { name, version, licence, kind: None };
    finish(&bytes, named, out, keep_debug, "another tool chain".into())
}

fn finish(
    module: &[u8],
    named: Named,
    out: &Path,
    keep_debug: bool,
    toolchain: String,
) -> Result<Built, ToolchainError> {
    let (component, kind) = component::make(module, &named, keep_debug)?;
    let path = if out.is_dir() { out.join(format!("{}.wasm", named.name)) } else { out.to_path_buf() };
    write_whole(&path, &component)?;
    Ok(Built {
        path,
        name: named.name,
        version: named.version,
        kind,
        size_bytes: component.len(),
        digest: sha256_hex(&component),
        toolchain,
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
