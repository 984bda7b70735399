//! Directories that are filled beside their place and then renamed into it.
//!
//! Whoever stages holds the registry's lock, so a staging directory that is there while nobody holds it was
//! left by a killed process, and is removed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The lock's file in the registry's root.
const LOCK_FILE: &str = ".lock";
/// What staging directories are called.
const STAGING_PREFIX: &str = ".staging-";

/// The right to publish: one holder at a time, over all processes; given up on drop or when the process dies.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for it.
    pub fn acquire(root: &Path) -> io::Result<Lock> {
        let file = open_lock_file(root)?;
        file.lock()?;
        Ok(Lock { _file: file })
    }

    /// `None` when another holds it.
    pub fn try_acquire(root: &Path) -> io::Result<Option<Lock>> {
        let file = open_lock_file(root)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

fn open_lock_file(root: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(root.join(LOCK_FILE))
}

/// A directory under way to `target`; removed on drop unless it was committed.
pub struct Staging {
    path: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl Staging {
    /// `target`'s parent must be there.
    pub fn create(target: PathBuf, _held: &Lock) -> io::Result<Staging> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a target without a parent"));
        };
        let path = parent.join(format!("{STAGING_PREFIX}{}", name.to_string_lossy()));
        if path.symlink_metadata().is_ok() {
            remove(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Staging { path, target, committed: false })
    }

    /// Writes and syncs one file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::options().create_new(true).write(true).open(self.path.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Renames it into its place, durably. From here on it is there, whole.
    pub fn commit(mut self) -> io::Result<()> {
        sync_dir(&self.path)?;
        if self.target.symlink_metadata().is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the target is already there"));
        }
        fs::rename(&self.path, &self.target)?;
        self.committed = true;
        match self.target.parent() {
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: the next open removes what this leaves.
            let _ = remove(&self.path);
        }
    }
}

/// Makes the directory's entries durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The staging directories in the directories of models under `root`: of killed publishers, unless one is at work.
pub fn leftovers(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for model in fs::read_dir(root)? {
        let model = model?;
        if !model.file_type()?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(model.path())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Removes the leftovers.
pub fn sweep(root: &Path, _held: &Lock) -> io::Result<()> {
    leftovers(root)?.iter().try_for_each(|path| remove(path))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
