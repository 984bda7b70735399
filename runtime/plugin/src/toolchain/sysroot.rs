//! Debian's std for wasm32-unknown-unknown, built once from rust-web-src and kept.
//!
//! ```text
//! <cache>/std-<hash of rustc -vV and of the recipe>/
//!     rustc                                     a script: Debian's rustc with this sysroot
//!     lib/rustlib/wasm32-unknown-unknown/lib/   std as built here
//!     lib/rustlib/<host>                        -> Debian's, for build scripts and procedural macros
//! ```
//!
//! A script rather than `RUSTFLAGS=--sysroot=…`, because cargo hashes the flags into every symbol, and the
//! folder's name would decide the plugin's digest.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ToolchainError;
use super::cargo::{clean, run};
use super::find::{Debian, TARGET, host};
use crate::digest::sha256_hex;

const MANIFEST: &str = "\
[package]
name = \"sysroot\"
version = \"0.0.0\"
edition = \"2024\"

[workspace]

[profile.release]
panic = \"abort\"
lto = \"off\"
debug = false
";
const SCRIPT: &str = "#!/bin/sh\nexec /usr/bin/rustc \"$@\" --sysroot=\"${0%/*}\"\n";
/// Bitcode, so that the plugin's link-time optimisation reaches into std.
const FLAGS: &str = "-Cembed-bitcode=yes";

/// Where the source of std lies.
pub(super) fn library(prefix: &Path) -> PathBuf {
    prefix.join("lib/rustlib/src/rust/library")
}

fn folder(debian: &Debian, cache: &Path) -> PathBuf {
    let recipe = [debian.verbose_version.as_str(), MANIFEST, SCRIPT, FLAGS].join("\n");
    cache.join(format!("std-{}", &sha256_hex(recipe.as_bytes())[..16]))
}

pub(super) fn is_built(debian: &Debian, cache: &Path) -> bool {
    folder(debian, cache).join("rustc").is_file()
}

/// The script that is rustc with std; builds it where it isn't there. Others who build it at the same time
/// wait.
pub(super) fn rustc(
    debian: &Debian,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, ToolchainError> {
    fs::create_dir_all(cache).map_err(|e| failed(cache, &e))?;
    let cache = cache.canonicalize().map_err(|e| failed(cache, &e))?;
    let lock_path = cache.join("std.lock");
    let lock = File::create(&lock_path).map_err(|e| failed(&lock_path, &e))?;
    lock.lock().map_err(|e| failed(&lock_path, &e))?;
    let folder = folder(debian, &cache);
    if !is_built(debian, &cache) {
        progress("compiling std for wasm32-unknown-unknown, once on this machine: about a minute");
        let work = tempfile::Builder::new()
            .prefix("std-work-")
            .tempdir_in(&cache)
            .map_err(|e| failed(&cache, &e))?;
        compile(debian, work.path(), progress)?;
        assemble(debian, work.path())
            .and_then(|made| replace(&made, &folder))
            .map_err(|e| failed(&folder, &e))?;
    }
    Ok(folder.join("rustc"))
}

fn failed(path: &Path, error: &std::io::Error) -> ToolchainError {
    ToolchainError::Io { path: path.to_path_buf(), message: error.to_string() }
}

/// Compiles std as the dependency of an empty crate. Debian ships what std depends on, so this needs no
/// network.
fn compile(debian: &Debian, work: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    let vendor = library(&debian.prefix).join("vendor");
    let vendor = toml::Value::String(vendor.to_string_lossy().into_owned());
    let config = format!(
        "[source.crates-io]\nreplace-with = \"vendored\"\n\n[source.vendored]\ndirectory = {vendor}\n"
    );
    for (path, text) in
        [("Cargo.toml", MANIFEST), ("src/lib.rs", "#![no_std]\n"), (".cargo/config.toml", &config)]
    {
        let path = work.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|e| failed(&path, &e))?;
    }
    let mut command = clean(Path::new("/usr/bin/cargo"));
    command
        .args(["build", "--release", "--offline", "--target", TARGET, "-Zbuild-std=std,panic_abort"])
        .current_dir(work)
        // A private home: the user's cargo settings must not reach std, and no registry is needed.
        .env("CARGO_HOME", work.join("home"))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS)
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1");
    match run(command, progress)? {
        Ok(_) => Ok(()),
        Err(output) => Err(ToolchainError::Sysroot { output }),
    }
}

/// The finished folder, still within `work`.
fn assemble(debian: &Debian, work: &Path) -> std::io::Result<PathBuf> {
    let made = work.join("made");
    let rustlib = made.join("lib/rustlib");
    let to = rustlib.join(TARGET).join("lib");
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(work.join("target").join(TARGET).join("release/deps"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libsysroot-") {
            fs::copy(&path, to.join(name))?;
        }
    }
    if let Some(host) = host(&debian.verbose_version) {
        std::os::unix::fs::symlink(debian.prefix.join("lib/rustlib").join(host), rustlib.join(host))?;
    }
    // Last: its presence says that the folder is whole.
    let script = made.join("rustc");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    Ok(made)
}

fn replace(made: &Path, folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(made, folder)
}
