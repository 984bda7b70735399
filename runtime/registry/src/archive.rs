//! One version as one file, and back: a plain tar of `manifest.toml`, then the files that it lists.
//!
//! Nothing of an archive is trusted. It is read entry by entry into memory within limits; an entry that isn't a
//! plain file with a plain name, that isn't in the manifest, comes twice or is too large ends the import, and so
//! does a digest that differs. Nothing is written before all of it was checked, and then as a publication is: staged,
//! synced, renamed. A tar isn't compressed, so no archive is larger inside than outside.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::check::FILES_MAX;
use crate::digest::sha256_hex;
use crate::folder::{FILE_BYTES_MAX, LoadError, MANIFEST_FILE, Registry, Version, read_file};
use crate::manifest::{Manifest, ManifestError, TEXT_BYTES_MAX};
use crate::name::{is_file_name, is_model_name};
use crate::publish::{Numbering, PublishError, Published};
use crate::staging::sync_dir;

/// Of all files of an archive together.
pub const ARCHIVE_BYTES_MAX: u64 = 2 << 30;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub name: String,
    pub version: u32,
    /// SHA-256 of the archive.
    pub digest: String,
    pub bytes: u64,
}

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    pub name: String,
    /// What it was called where it was exported.
    pub was: String,
    pub published: Published,
    /// The registry had this very version.
    pub already: bool,
}

impl Registry {
    /// Writes a version into one file, whole or not at all. The same version gives the same bytes.
    pub fn export(&self, name: &str, version: Version, path: &Path) -> Result<Exported, ExportError> {
        let folder = self.load(name, version).map_err(ExportError::Load)?;
        let number = folder.manifest.version;
        if path.symlink_metadata().is_ok() {
            return Err(ExportError::Exists(path.display().to_string()));
        }
        let mut archive = tar::Builder::new(Vec::new());
        let text =
            read_file(&folder.path.join(MANIFEST_FILE), TEXT_BYTES_MAX as u64).map_err(ExportError::Load)?;
        let mut append = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes)
        };
        let failed = |error: io::Error| ExportError::Write(format!("{}: {error}", path.display()));
        append(MANIFEST_FILE, &text).map_err(failed)?;
        for (file, expected) in &folder.manifest.files {
            let at = folder.path.join(file);
            let bytes = read_file(&at, FILE_BYTES_MAX).map_err(ExportError::Load)?;
            let found = sha256_hex(&bytes);
            if found != *expected {
                let error = LoadError::Digest { path: at, expected: expected.clone(), found };
                return Err(ExportError::Load(error));
            }
            append(file, &bytes).map_err(failed)?;
        }
        let bytes = archive.into_inner().map_err(failed)?;
        write_whole(path, &bytes).map_err(failed)?;
        let digest = sha256_hex(&bytes);
        Ok(Exported { name: name.into(), version: number, digest, bytes: bytes.len() as u64 })
    }

    /// Takes a version from an archive, as the model `name` or as what the archive calls it. It keeps its number
    /// where every version here has a lower one, and is the next one otherwise.
    pub fn import(&self, archive: &mut dyn Read, name: Option<&str>) -> Result<Imported, ImportError> {
        let (text, mut manifest, files) = unpack(archive)?;
        let was = format!("{}/{}", manifest.name, manifest.version);
        if let Some(name) = name
            && name != manifest.name
        {
            if !is_model_name(name) {
                return Err(ImportError::Publish(PublishError::Name(name.chars().take(80).collect())));
            }
            manifest.name = name.into();
        }
        let name = manifest.name.clone();
        if let Some(published) = self.holds(&manifest, &sha256_hex(&text)) {
            return Ok(Imported { name, was, published, already: true });
        }
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let numbering = Numbering::Keep { text: &text, was: &was };
        let published =
            self.place(manifest, &files, &numbering, &mut |_| {}).map_err(ImportError::Publish)?;
        Ok(Imported { name, was, published, already: false })
    }

    /// The version that is this one to the byte.
    fn holds(&self, manifest: &Manifest, digest: &str) -> Option<Published> {
        let found = self.load(&manifest.name, Version::Number(manifest.version)).ok()?;
        (found.digest == digest).then_some(Published {
            version: manifest.version,
            path: found.path,
            digest: found.digest,
        })
    }
}

/// Beside its place, synced, renamed.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let part = parent.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        sync_dir(parent)
    })();
    if written.is_err() {
        // Best effort: what is left has a hidden name of its own.
        let _ = fs::remove_file(&part);
    }
    written
}

type Files = Vec<(String, Vec<u8>)>;

/// The manifest's bytes, the manifest, and the files that it lists, all checked.
fn unpack(archive: &mut dyn Read) -> Result<(Vec<u8>, Manifest, Files), ImportError> {
    let mut archive = tar::Archive::new(archive);
    let broken = |error: io::Error| ImportError::Archive(format!("it can't be read: {error}"));
    // Raw: long names, extended headers and sparse files stay what they are, entries that aren't plain files.
    let mut entries = archive.entries().map_err(broken)?.raw(true);
    let mut left = ARCHIVE_BYTES_MAX;
    let Some(first) = entries.next() else {
        return Err(ImportError::Archive("it is empty or no tar archive".into()));
    };
    let (name, text) = take(first.map_err(broken)?, TEXT_BYTES_MAX as u64, &mut left)?;
    if name != MANIFEST_FILE {
        return Err(ImportError::Archive(format!("it begins with {name:?} instead of {MANIFEST_FILE}")));
    }
    let manifest = std::str::from_utf8(&text)
        .map_err(|_| ImportError::Archive(format!("{MANIFEST_FILE} is not text")))
        .and_then(|text| Manifest::parse(text).map_err(ImportError::Manifest))?;
    let mut files = Files::new();
    for entry in entries {
        if files.len() >= FILES_MAX {
            return Err(ImportError::Archive(format!("it has more than {FILES_MAX} files")));
        }
        let (name, bytes) = take(entry.map_err(broken)?, FILE_BYTES_MAX, &mut left)?;
        let Some(expected) = manifest.files.get(&name) else {
            return Err(ImportError::Archive(format!("its file {name:?} is not in the manifest")));
        };
        if files.iter().any(|(held, _)| *held == name) {
            return Err(ImportError::Archive(format!("its file {name:?} comes twice")));
        }
        let found = sha256_hex(&bytes);
        if found != *expected {
            return Err(ImportError::Digest { file: name, expected: expected.clone(), found });
        }
        files.push((name, bytes));
    }
    match manifest.files.keys().find(|name| !files.iter().any(|(held, _)| held == *name)) {
        Some(missing) => Err(ImportError::Archive(format!("its file {missing:?} is missing"))),
        None => Ok((text, manifest, files)),
    }
}

/// One entry: a plain file with a plain name, of the size that it states.
fn take(
    mut entry: tar::Entry<'_, &mut dyn Read>,
    bytes_max: u64,
    left: &mut u64,
) -> Result<(String, Vec<u8>), ImportError> {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let shown: String = path.chars().take(80).collect();
    let kind = entry.header().entry_type();
    if !kind.is_file() {
        return Err(ImportError::Archive(format!("its entry {shown:?} is not a plain file but {kind:?}")));
    }
    if path != MANIFEST_FILE && !is_file_name(&path) {
        return Err(ImportError::Archive(format!(
            "its entry {shown:?} has a path; there may only be file names of A-Z a-z 0-9 _ - ."
        )));
    }
    let size = entry.size();
    let bytes_max = bytes_max.min(*left);
    if size > bytes_max {
        return Err(ImportError::Archive(format!(
            "its file {shown:?} has {size} bytes; at most {bytes_max} go"
        )));
    }
    *left -= size;
    let mut bytes = Vec::new();
    entry
        .by_ref()
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(|e| ImportError::Archive(format!("its file {shown:?} can't be read: {e}")))?;
    if bytes.len() as u64 != size {
        return Err(ImportError::Archive(format!("it is cut off within {shown:?}")));
    }
    Ok((path, bytes))
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExportError {
    Load(LoadError),
    /// There is a file of this name.
    Exists(String),
    Write(String),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Load(e) => write!(f, "{e}"),
            ExportError::Exists(path) => write!(f, "{path} is there already; remove it or name another file"),
            ExportError::Write(e) => write!(f, "the archive was not written: {e}"),
        }
    }
}

impl std::error::Error for ExportError {}

/// Why nothing was imported.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportError {
    /// It isn't an archive as `export` writes them.
    Archive(String),
    Manifest(ManifestError),
    Digest {
        file: String,
        expected: String,
        found: String,
    },
    Publish(PublishError),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Archive(e) => {
                write!(f, "nothing was imported: {e}; take an archive that `alphaplus models export` wrote")
            }
            ImportError::Manifest(e) => write!(f, "nothing was imported: the archive's manifest: {e}"),
            ImportError::Digest { file, expected, found } => write!(
                f,
                "nothing was imported: {file} has SHA-256 {found} but the manifest says {expected}; export it again"
            ),
            ImportError::Publish(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for ImportError {}

#[cfg(test)]
mod tests;
