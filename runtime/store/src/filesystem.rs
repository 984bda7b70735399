//! What the spool asks of a file system, and the real one. [`sim`](crate::sim) is the other, for tests.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Paths in, handles out. Nothing here is durable before the matching sync.
pub trait FileSystem: Send + Sync {
    /// One directory; its parent exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn is_dir(&self, path: &Path) -> bool;
    /// Names of the files in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// A new empty file for reading and writing; one that is there is an error.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoredFile>>;
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StoredFile>>;
    /// Replaces `to` in one step. Both are in the same directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on `path`, making the file if need be; it holds until the guard is dropped.
    fn lock(&self, path: &Path) -> Result<LockGuard, LockError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// An open file; positions are explicit, so a handle can be shared.
pub trait StoredFile: Send + Sync {
    /// Fewer bytes than asked for only at the end of the file.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// After an error a part may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Contents and length become durable; the directory entry doesn't.
    fn sync_data(&self) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
}

/// Holds a lock until dropped.
pub struct LockGuard(#[allow(dead_code, reason = "held for its Drop")] Box<dyn Send + Sync>);

impl LockGuard {
    pub(crate) fn new(held: impl Send + Sync + 'static) -> Self {
        LockGuard(Box::new(held))
    }
}

#[derive(Debug)]
pub enum LockError {
    /// Another holder, by its process id where that is known.
    Held {
        pid: Option<u32>,
    },
    Io(io::Error),
}

/// Makes `dir` and its missing parents, each durable in its own parent.
pub(crate) fn ensure_dir(fs: &dyn FileSystem, dir: &Path) -> io::Result<()> {
    if fs.is_dir(dir) {
        return Ok(());
    }
    let parent = parent_of(dir);
    if parent != dir {
        ensure_dir(fs, &parent)?;
    }
    match fs.create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs.sync_dir(&parent)
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_path_buf(),
        None => path.to_path_buf(),
    }
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

impl FileSystem for RealFileSystem {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StoredFile>> {
        Ok(Arc::new(fs::OpenOptions::new().read(true).write(access == Access::Write).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> Result<LockGuard, LockError> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                return Err(LockError::Held { pid });
            }
            Err(fs::TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // Only the message of the next opener needs it, and a full disk must not keep the spool shut.
        let pid = format!("{}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| FileExt::write_all_at(&file, pid.as_bytes(), 0));
        Ok(LockGuard::new(file))
    }
}

impl StoredFile for fs::File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut count = 0;
        while count < into.len() {
            match FileExt::read_at(self, &mut into[count..], offset + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
