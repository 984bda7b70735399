//! The registry: what is in the models directory, and one model's folder, verified.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::alias::HistoryError;
use crate::digest::sha256_hex;
use crate::manifest::{Manifest, ManifestError, TEXT_BYTES_MAX};
use crate::name::{is_model_name, parse_version};
use crate::reference::Reference;
use crate::staging::{self, Lock};

pub const MANIFEST_FILE: &str = "manifest.toml";
pub const MODEL_FILE: &str = "model.onnx";

/// A larger file in a model's folder is refused unread.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// The models directory.
#[derive(Clone, Debug)]
pub struct Registry {
    root: PathBuf,
}

/// Which version of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The highest number.
    Latest,
    Number(u32),
}

impl Version {
    /// "latest" or a positive number.
    pub fn parse(text: &str) -> Option<Version> {
        if text == "latest" { Some(Version::Latest) } else { parse_version(text).map(Version::Number) }
    }
}

/// One model's versions, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelVersions {
    pub name: String,
    pub versions: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By name.
    pub models: Vec<ModelVersions>,
    /// Directories and links that aren't a model or a version, and so can't be opened.
    pub strays: Vec<PathBuf>,
}

/// A folder whose files match its manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFolder {
    pub path: PathBuf,
    pub manifest: Manifest,
    /// SHA-256 of `manifest.toml`: through the digests in it, of the whole folder.
    pub digest: String,
    /// The bytes of `model.onnx`.
    pub onnx: Vec<u8>,
}

impl Registry {
    /// Opens the models directory, made if it isn't there, and removes what killed publishers left. On a
    /// read-only disk nothing is removed.
    pub fn open(root: impl Into<PathBuf>) -> Result<Registry, OpenError> {
        let root = root.into();
        let failed = |error: io::Error| OpenError { path: root.clone(), reason: error.to_string() };
        fs::create_dir_all(&root).map_err(failed)?;
        if !staging::leftovers(&root).map_err(failed)?.is_empty() {
            match Lock::try_acquire(&root) {
                Ok(Some(lock)) => staging::sweep(&root, &lock).map_err(failed)?,
                Ok(None) => {}
                Err(e) if cannot_write(&e) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(Registry { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All models and their versions. Plain files beside them are not looked at.
    pub fn list(&self) -> Result<Listing, ListError> {
        let mut listing = Listing::default();
        for entry in self.entries(&self.root)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(|e| ListError::at(&self.root, &e))?;
            if kind.is_file() || name.starts_with('.') {
                continue;
            }
            if !kind.is_dir() || !is_model_name(&name) {
                listing.strays.push(entry.path());
                continue;
            }
            let (versions, strays) = self.versions(&name)?;
            listing.strays.extend(strays);
            if !versions.is_empty() {
                listing.models.push(ModelVersions { name, versions });
            }
        }
        listing.models.sort_by(|a, b| a.name.cmp(&b.name));
        listing.strays.sort();
        Ok(listing)
    }

    /// Reads a model's folder and compares every file with its digest.
    pub fn load(&self, name: &str, version: Version) -> Result<ModelFolder, LoadError> {
        self.refuse_absent(name)?;
        let (have, _) =
            self.versions(name).map_err(|e| LoadError::Read { path: e.path, reason: e.reason })?;
        let wanted = match version {
            Version::Latest => have.last().copied(),
            Version::Number(n) => have.contains(&n).then_some(n),
        };
        let Some(number) = wanted else {
            return Err(LoadError::NoVersion { name: name.into(), wanted: version, have });
        };
        load_folder(&self.root.join(name).join(number.to_string()), name, number)
    }

    /// [`load`](Registry::load), of whatever the reference means now.
    pub fn load_reference(&self, reference: &Reference) -> Result<ModelFolder, LoadError> {
        self.load(&reference.name, self.resolve(reference)?)
    }

    /// There must be a directory of this name, and no link.
    pub(crate) fn refuse_absent(&self, name: &str) -> Result<(), LoadError> {
        if !is_model_name(name) {
            return Err(LoadError::Name(name.chars().take(80).collect()));
        }
        refuse_link(&self.root.join(name), || LoadError::NoModel {
            name: name.into(),
            have: self.list().map(|l| l.models.into_iter().map(|m| m.name).collect()).unwrap_or_default(),
        })
    }

    /// The versions of one model, rising, and what else lies in its directory.
    pub(crate) fn versions(&self, name: &str) -> Result<(Vec<u32>, Vec<PathBuf>), ListError> {
        let path = self.root.join(name);
        let (mut versions, mut strays) = (Vec::new(), Vec::new());
        for entry in self.entries(&path)? {
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(|e| ListError::at(&path, &e))?;
            match parse_version(&file_name) {
                Some(number) if kind.is_dir() => versions.push(number),
                _ if kind.is_file() || file_name.starts_with('.') => {}
                _ => strays.push(entry.path()),
            }
        }
        versions.sort_unstable();
        Ok((versions, strays))
    }

    fn entries(&self, path: &Path) -> Result<Vec<fs::DirEntry>, ListError> {
        let entries = fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        entries.map_err(|e| ListError::at(path, &e))
    }
}

fn cannot_write(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Reads one folder, wherever it lies; `name` and `version` are what its manifest must say.
fn load_folder(path: &Path, name: &str, version: u32) -> Result<ModelFolder, LoadError> {
    let manifest_path = path.join(MANIFEST_FILE);
    let bytes = read_file(&manifest_path, TEXT_BYTES_MAX as u64)?;
    let bad = |reason| LoadError::Manifest { path: manifest_path.clone(), reason };
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let message = "not UTF-8 text".to_string();
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        bad(ManifestError::Syntax { line, text: String::new(), message })
    })?;
    let manifest = Manifest::parse(text).map_err(bad)?;
    if manifest.name != name || manifest.version != version {
        let found = format!("{} version {}", manifest.name, manifest.version);
        return Err(LoadError::Misplaced { path: path.into(), found });
    }
    let mut onnx = Vec::new();
    for (file, expected) in &manifest.files {
        let file_path = path.join(file);
        let content = read_file(&file_path, FILE_BYTES_MAX)?;
        let found = sha256_hex(&content);
        if found != *expected {
            return Err(LoadError::Digest { path: file_path, expected: expected.clone(), found });
        }
        if file == MODEL_FILE {
            onnx = content;
        }
    }
    Ok(ModelFolder { path: path.into(), manifest, digest: sha256_hex(&bytes), onnx })
}

/// Reads a regular file of at most `bytes_max`; links are refused.
pub(crate) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let failed = |e: io::Error| LoadError::Read { path: path.into(), reason: e.to_string() };
    refuse_link(path, || LoadError::Read { path: path.into(), reason: "the file is missing".into() })?;
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(LoadError::Read {
            path: path.into(),
            reason: format!("it has more than {bytes_max} bytes"),
        });
    }
    Ok(bytes)
}

fn refuse_link(path: &Path, missing: impl FnOnce() -> LoadError) -> Result<(), LoadError> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_symlink() => Err(LoadError::Link { path: path.into() }),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(missing()),
        Err(e) => Err(LoadError::Read { path: path.into(), reason: e.to_string() }),
    }
}

/// The models directory can't be used.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenError {
    pub path: PathBuf,
    pub reason: String,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "the models directory {path} can't be opened: {}; create it or name another", self.reason)
    }
}

impl std::error::Error for OpenError {}

/// A directory can't be read.
#[derive(Clone, Debug, PartialEq)]
pub struct ListError {
    pub path: PathBuf,
    pub reason: String,
}

impl ListError {
    fn at(path: &Path, error: &io::Error) -> Self {
        ListError { path: path.into(), reason: error.to_string() }
    }
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be listed: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for ListError {}

/// Why a model doesn't load. Each says what to change.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadError {
    Name(String),
    NoModel {
        name: String,
        have: Vec<String>,
    },
    NoVersion {
        name: String,
        wanted: Version,
        have: Vec<u32>,
    },
    /// No such alias.
    NoAlias {
        name: String,
        alias: String,
        have: Vec<String>,
    },
    History(HistoryError),
    Link {
        path: PathBuf,
    },
    Read {
        path: PathBuf,
        reason: String,
    },
    Manifest {
        path: PathBuf,
        reason: ManifestError,
    },
    /// The manifest is of another model or version.
    Misplaced {
        path: PathBuf,
        found: String,
    },
    Digest {
        path: PathBuf,
        expected: String,
        found: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Name(name) => write!(
                f,
                "{name:?} can't be a model's name; use 1 to 64 of a-z 0-9 _ -, starting with a letter or digit"
            ),
            LoadError::NoModel { name, have } => write!(f, "there is no model '{name}'; there are {have:?}"),
            LoadError::NoVersion { name, wanted, have } => {
                let wanted = match wanted {
                    Version::Latest => "no version at all".to_string(),
                    Version::Number(n) => format!("no version {n}"),
                };
                write!(f, "model '{name}' has {wanted}; there are {have:?}")
            }
            LoadError::NoAlias { name, alias, have } => {
                let have = if have.is_empty() { "none".into() } else { have.join(", ") };
                write!(
                    f,
                    "model '{name}' has no alias '{alias}' (it has {have}): 'alphaplus models alias {name} {alias} VERSION' sets it"
                )
            }
            LoadError::History(e) => write!(f, "{e}"),
            LoadError::Link { path } => {
                write!(f, "{} is a symbolic link; put the file or folder itself there", path.display())
            }
            LoadError::Read { path, reason } => write!(f, "{} can't be read: {reason}", path.display()),
            LoadError::Manifest { path, reason } => write!(f, "{}: {reason}", path.display()),
            LoadError::Misplaced { path, found } => write!(
                f,
                "{} holds the manifest of {found}; move the folder to where its manifest says",
                path.display()
            ),
            LoadError::Digest { path, expected, found } => write!(
                f,
                "{} has SHA-256 {found} but its manifest says {expected}; restore the file or publish the model again",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests;
