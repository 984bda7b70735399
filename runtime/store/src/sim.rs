//! A file system in memory that loses, tears and refuses as a real one may. For tests.
//!
//! Contents, lengths and directory entries live twice: as running programs see them and as the disk has them. A sync
//! brings the second up to the first. [`SimFileSystem::crash`] is a power cut: of each file a random part of the
//! unsynced writes reaches the disk (a prefix torn at any byte, or any 512-byte sectors), of each directory a prefix
//! of its unsynced changes. [`SimFileSystem::kill`] ends the programs alone. A sync that fails has lost what it was
//! to save, and the next one says that all is well.

mod disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::disk::{Change, Disk, Inode, NameChange, Node, is_root, parent};
use crate::filesystem::{Access, FileSystem, LockError, LockGuard, StoredFile};

/// Cheap to clone; all clones are the same disk.
#[derive(Clone, Default)]
pub struct SimFileSystem {
    disk: Arc<Mutex<Disk>>,
}

/// Syncs that report success and do nothing, to prove that the tests would notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncFault {
    #[default]
    None,
    /// `sync_data` of files whose names end so.
    SkipFiles(&'static str),
    SkipDirectories,
}

/// A small generator of the same numbers from the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Seeded {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `bound - 1`; `bound` is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

impl SimFileSystem {
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    /// A power cut, and the disk as it is found afterwards. Everything that is open is lost.
    pub fn crash(&self, random: &mut Seeded) {
        let mut disk = self.disk();
        for inode in &mut disk.files {
            inode.durable = inode.after_crash(random);
            inode.seen.clone_from(&inode.durable);
            inode.pending.clear();
        }
        for (_, changes) in std::mem::take(&mut disk.changes) {
            let count = random.below(changes.len() as u64 + 1) as usize;
            for change in &changes[..count] {
                change.apply(&mut disk.durable);
            }
        }
        let known = disk.durable.clone();
        disk.durable
            .retain(|path, _| path.ancestors().skip(1).all(|dir| is_root(dir) || known.contains_key(dir)));
        disk.seen = disk.durable.clone();
        disk.restart();
    }

    /// The programs end; what they wrote is still seen, and as durable as before.
    pub fn kill(&self) {
        self.disk().restart();
    }

    /// After so many more changes (writes, syncs, names) everything fails until [`crash`](Self::crash) or
    /// [`kill`](Self::kill).
    pub fn fail_after(&self, steps: u64) {
        self.disk().steps_left = Some(steps);
    }

    /// All files together; None is without a limit.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.disk().space_bytes = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// After so many more good ones, one `sync_data` fails.
    pub fn fail_data_sync_after(&self, good: u64) {
        self.disk().data_syncs_left = Some(good);
    }

    pub fn set_fault(&self, fault: SyncFault) {
        self.disk().fault = fault;
    }

    /// As seen; None when there is no such file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.inode(path).map(|index| disk.files[index].seen.clone())
    }

    /// Changes or makes a file behind everybody's back, durably.
    pub fn set_contents(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let index = disk.inode(path).unwrap_or(disk.files.len());
        if index == disk.files.len() {
            disk.files.push(Inode::default());
            disk.seen.insert(path.to_path_buf(), Node::File(index));
            disk.durable.insert(path.to_path_buf(), Node::File(index));
        }
        disk.files[index] = Inode { seen: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() };
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileSystem for SimFileSystem {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        if disk.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.change_names(parent(path), NameChange::Add(path.to_path_buf(), Node::Dir));
        Ok(())
    }

    fn is_dir(&self, path: &Path) -> bool {
        is_root(path) || self.disk().seen.get(path) == Some(&Node::Dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        disk.check_up()?;
        let files = disk.seen.iter().filter(|(path, node)| path.parent() == Some(dir) && **node != Node::Dir);
        Ok(files.filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoredFile>> {
        let mut disk = self.disk();
        disk.step()?;
        if disk.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if disk.seen.get(&parent(path)) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let index = disk.files.len();
        disk.files.push(Inode::default());
        disk.change_names(parent(path), NameChange::Add(path.to_path_buf(), Node::File(index)));
        Ok(self.handle(&disk, index, path, Access::Write))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StoredFile>> {
        let disk = self.disk();
        disk.check_up()?;
        let index = disk.inode(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&disk, index, path, access))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        if !disk.seen.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        assert_eq!(parent(from), parent(to), "renames stay in one directory");
        disk.change_names(parent(from), NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.inode(path).ok_or(io::ErrorKind::NotFound)?;
        disk.change_names(parent(path), NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        if disk.fault == SyncFault::SkipDirectories {
            return Ok(());
        }
        let key = if is_root(dir) { PathBuf::new() } else { dir.to_path_buf() };
        for change in disk.changes.remove(&key).unwrap_or_default() {
            change.apply(&mut disk.durable);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<LockGuard, LockError> {
        let mut disk = self.disk();
        disk.check_up().map_err(LockError::Io)?;
        if !disk.locks.insert(path.to_path_buf()) {
            return Err(LockError::Held { pid: Some(std::process::id()) });
        }
        Ok(LockGuard::new(SimLock {
            disk: Arc::clone(&self.disk),
            lives: disk.lives,
            path: path.to_path_buf(),
        }))
    }
}

impl SimFileSystem {
    fn handle(&self, disk: &Disk, index: usize, path: &Path, access: Access) -> Arc<dyn StoredFile> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let writable = access == Access::Write;
        Arc::new(SimFile { disk: Arc::clone(&self.disk), lives: disk.lives, index, name, writable })
    }
}

struct SimLock {
    disk: Arc<Mutex<Disk>>,
    lives: u64,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        if disk.lives == self.lives {
            disk.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    lives: u64,
    index: usize,
    name: String,
    writable: bool,
}

impl SimFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = lock(&self.disk);
        if disk.lives != self.lives {
            return Err(io::Error::other("a handle from before the crash"));
        }
        disk.check_up()?;
        Ok(disk)
    }

    fn disk_for_change(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk()?;
        disk.step()?;
        if !self.writable {
            return Err(io::Error::from_raw_os_error(9));
        }
        Ok(disk)
    }
}

impl StoredFile for SimFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk()?;
        let seen = &disk.files[self.index].seen;
        let rest = seen.get(offset as usize..).unwrap_or(&[]);
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk_for_change()?;
        let offset = offset as usize;
        let grown = (offset + bytes.len()).saturating_sub(disk.files[self.index].seen.len());
        let room =
            disk.space_bytes.map_or(usize::MAX, |space| space.saturating_sub(disk.used_bytes()) as usize);
        let written = bytes.len() - grown.saturating_sub(room).min(bytes.len());
        let change = Change::Write { offset, bytes: bytes[..written].to_vec() };
        let inode = &mut disk.files[self.index];
        change.apply(&mut inode.seen);
        inode.pending.push(change);
        if written < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk_for_change()?;
        if let SyncFault::SkipFiles(suffix) = disk.fault
            && self.name.ends_with(suffix)
        {
            return Ok(());
        }
        let fails = disk.data_syncs_left == Some(0);
        disk.data_syncs_left = disk.data_syncs_left.and_then(|left| left.checked_sub(1));
        let inode = &mut disk.files[self.index];
        let pending = std::mem::take(&mut inode.pending);
        if fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        for change in pending {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk_for_change()?;
        let inode = &mut disk.files[self.index];
        let change = Change::Truncate(length as usize);
        change.apply(&mut inode.seen);
        inode.pending.push(change);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk()?.files[self.index].seen.len() as u64)
    }
}
