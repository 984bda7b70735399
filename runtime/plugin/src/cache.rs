//! Compiled code on disk, so that a component is compiled once per engine.
//!
//! A file is `ALPHAPLUS-CODE-1\n`, the SHA-256 of the rest (32 bytes), then wasmtime's image. It is native
//! code: the folder and the file must belong to this user and be writable by nobody else, and the digest is
//! checked before the image is used. Whatever doesn't fit is compiled again and replaced.
#![allow(unsafe_code)]

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: &[u8; 17] = b"ALPHAPLUS-CODE-1\n";
const HEADER_BYTES: usize = MAGIC.len() + 32;
const FILE_BYTES_MAX: u64 = 256 << 20;
const FILES_MAX: usize = 64;

/// A folder of compiled components for one engine.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// Of the engine's version, target and settings.
    engine_key: String,
}

impl Cache {
    /// Makes the folder where there is none. `Err` when others could write to it.
    pub(crate) fn open(folder: &Path, engine: &Engine) -> Result<Self, String> {
        let shown = folder.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| format!("the plugin cache {shown} can't be made: {e}"))?;
        let metadata =
            fs::metadata(folder).map_err(|e| format!("the plugin cache {shown} can't be read: {e}"))?;
        if !metadata.is_dir() || !is_private(&metadata) {
            return Err(format!(
                "the plugin cache {shown} must be a folder of this user that nobody else can write to: chmod 700 {shown}"
            ));
        }
        Ok(Cache { folder: folder.into(), engine_key: engine_key(engine) })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{}.code", self.engine_key))
    }

    /// The compiled component, if it is there and whole.
    pub(crate) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(self.path(digest)).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || !is_private(&metadata) || metadata.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let image = checked_image(&bytes)?;
        // SAFETY: the image was written by `put` for this engine: only this user can write the folder and
        // the file, and the digest shows that it is whole. wasmtime checks its own version and settings too.
        unsafe { Component::deserialize(engine, image) }.ok()
    }

    /// Keeps the compiled component; drops the oldest files beyond a limit.
    pub(crate) fn put(&self, digest: &str, component: &Component) -> io::Result<()> {
        let image = component.serialize().map_err(|e| io::Error::other(e.to_string()))?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&image))?;
        file.write_all(&image)?;
        file.persist(self.path(digest)).map_err(|e| e.error)?;
        self.prune()
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|e| e == "code") {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        files.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn checked_image(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return None;
    }
    let image = &bytes[HEADER_BYTES..];
    let sum = Sha256::digest(image);
    (sum.as_slice() == &bytes[MAGIC.len()..HEADER_BYTES]).then_some(image)
}

fn is_private(metadata: &fs::Metadata) -> bool {
    // SAFETY: geteuid has no arguments, no failure and no effect.
    let user = unsafe { libc::geteuid() };
    metadata.uid() == user && metadata.mode() & 0o022 == 0
}

/// A short name for wasmtime's version, target and settings.
fn engine_key(engine: &Engine) -> String {
    let mut hasher = ShaHasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    crate::digest::hex(&hasher.0.finalize()[..8])
}

struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
