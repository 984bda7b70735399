//! Publishing a model: staged beside its place, synced, renamed. A kill leaves the old versions, or the old
//! ones and the new one, and never half of one.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::digest::sha256_hex;
use crate::folder::{FILE_BYTES_MAX, MANIFEST_FILE, MODEL_FILE, Registry};
use crate::manifest::{Manifest, ManifestError};
use crate::name::is_model_name;
use crate::staging::{Lock, Staging, sync_dir};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub version: u32,
    pub path: PathBuf,
    /// SHA-256 of `manifest.toml`.
    pub digest: String,
}

/// Where a publication stands: for tests that stop it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Locked,
    Created,
    Wrote,
    Committed,
}

/// Which number a published version gets.
pub(crate) enum Numbering<'a> {
    /// The one after the highest.
    Next,
    /// Its own where that is above the highest, else the next; as `text`, while it is still called `was`.
    Keep { text: &'a [u8], was: &'a str },
}

fn text_of(manifest: &Manifest) -> Result<Vec<u8>, PublishError> {
    manifest.to_text().map(String::into_bytes).map_err(PublishError::Manifest)
}

impl Registry {
    /// Publishes the files as the next version of `manifest.name`. The version and the digests of the files
    /// in the manifest are set here; `model.onnx` must be among the files. Waits for other publishers.
    pub fn publish(&self, manifest: Manifest, files: &[(&str, &[u8])]) -> Result<Published, PublishError> {
        self.place(manifest, files, &Numbering::Next, &mut |_| {})
    }

    pub(crate) fn place(
        &self,
        mut manifest: Manifest,
        files: &[(&str, &[u8])],
        numbering: &Numbering,
        at: &mut dyn FnMut(Step),
    ) -> Result<Published, PublishError> {
        if !is_model_name(&manifest.name) {
            return Err(PublishError::Name(manifest.name.chars().take(80).collect()));
        }
        manifest.files = digests(files)?;
        manifest.version = manifest.version.max(1);
        manifest.check().map_err(PublishError::Manifest)?;

        let failed = |error: io::Error| PublishError::Write(error.to_string());
        let lock = Lock::acquire(self.root()).map_err(failed)?;
        at(Step::Locked);
        let home = self.root().join(&manifest.name);
        if home.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
            return Err(PublishError::Write(format!("{} is not a directory", home.display())));
        }
        fs::create_dir_all(&home).map_err(failed)?;
        sync_dir(self.root()).map_err(failed)?;
        let (versions, _) = self.versions(&manifest.name).map_err(|e| PublishError::Write(e.to_string()))?;
        let next = versions.last().map_or(Some(1), |last| last.checked_add(1)).ok_or(PublishError::Full)?;
        let text = match numbering {
            Numbering::Keep { text, was } if manifest.version >= next && manifest.is_called(was) => {
                text.to_vec()
            }
            Numbering::Keep { .. } if manifest.version >= next => text_of(&manifest)?,
            Numbering::Keep { .. } | Numbering::Next => {
                manifest.version = next;
                text_of(&manifest)?
            }
        };

        let path = home.join(manifest.version.to_string());
        let staging = Staging::create(path.clone(), &lock).map_err(failed)?;
        at(Step::Created);
        for (name, bytes) in files {
            staging.write(name, bytes).map_err(failed)?;
            at(Step::Wrote);
        }
        staging.write(MANIFEST_FILE, &text).map_err(failed)?;
        at(Step::Wrote);
        staging.commit().map_err(failed)?;
        at(Step::Committed);
        Ok(Published { version: manifest.version, path, digest: sha256_hex(&text) })
    }
}

fn digests(files: &[(&str, &[u8])]) -> Result<std::collections::BTreeMap<String, String>, PublishError> {
    let mut digests = std::collections::BTreeMap::new();
    for (name, bytes) in files {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(PublishError::File(format!("{name} has more than {FILE_BYTES_MAX} bytes")));
        }
        if digests.insert(name.to_string(), sha256_hex(bytes)).is_some() {
            return Err(PublishError::File(format!("{name} is given twice")));
        }
    }
    if digests.contains_key(MODEL_FILE) {
        Ok(digests)
    } else {
        Err(PublishError::File(format!("{MODEL_FILE} is missing")))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum PublishError {
    Name(String),
    Manifest(ManifestError),
    /// A file that can't be published.
    File(String),
    /// The version numbers are used up.
    Full,
    /// The disk refused; nothing was published.
    Write(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Name(name) => write!(
                f,
                "{name:?} can't be a model's name; use 1 to 64 of a-z 0-9 _ -, starting with a letter or digit"
            ),
            PublishError::Manifest(e) => write!(f, "the model was not published: {e}"),
            PublishError::File(e) => write!(f, "the model was not published: {e}"),
            PublishError::Full => write!(f, "the version numbers are used up; publish under another name"),
            PublishError::Write(e) => {
                write!(
                    f,
                    "the model was not published: {e}; check the models directory's space and permissions"
                )
            }
        }
    }
}

impl std::error::Error for PublishError {}

#[cfg(test)]
mod tests;
