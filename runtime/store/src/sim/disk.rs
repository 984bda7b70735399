//! The simulated disk: what programs see, what is durable, and what a power cut makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Seeded, SyncFault};

const SECTOR_BYTES: usize = 512;

#[derive(Default)]
pub(super) struct Disk {
    pub files: Vec<Inode>,
    /// As programs see it, and as the disk has it.
    pub seen: Names,
    pub durable: Names,
    /// Unsynced changes of each directory, in order.
    pub changes: BTreeMap<PathBuf, Vec<NameChange>>,
    pub locks: BTreeSet<PathBuf>,
    /// Grows with each kill and crash: handles from before are of no use.
    pub lives: u64,
    pub down: bool,
    pub steps_left: Option<u64>,
    pub space_bytes: Option<u64>,
    pub data_syncs_left: Option<u64>,
    pub fault: SyncFault,
}

pub(super) type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(usize),
}

pub(super) enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Default)]
pub(super) struct Inode {
    pub seen: Vec<u8>,
    pub durable: Vec<u8>,
    pub pending: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

pub(super) fn is_root(dir: &Path) -> bool {
    dir.as_os_str().is_empty() || dir == Path::new("/") || dir == Path::new(".")
}

pub(super) fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_path_buf()
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl Inode {
    pub(super) fn after_crash(&self, random: &mut Seeded) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if random.below(4) == 0 {
            for change in &self.pending {
                change.apply_sectors(&mut bytes, random);
            }
            return bytes;
        }
        let count = random.below(self.pending.len() as u64 + 1) as usize;
        for change in &self.pending[..count] {
            change.apply(&mut bytes);
        }
        if let Some(Change::Write { offset, bytes: torn }) = self.pending.get(count) {
            let length = random.below(torn.len() as u64 + 1) as usize;
            write_into(&mut bytes, *offset, &torn[..length]);
        }
        bytes
    }
}

impl Change {
    pub(super) fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => write_into(file, *offset, bytes),
            Change::Truncate(length) => file.resize(*length, 0),
        }
    }

    /// Each sector reaches the disk or not; one that doesn't, before one that does, reads as it was or as zeros.
    pub(super) fn apply_sectors(&self, file: &mut Vec<u8>, random: &mut Seeded) {
        let Change::Write { offset, bytes } = self else {
            if random.below(2) == 0 {
                self.apply(file);
            }
            return;
        };
        let mut at = 0;
        while at < bytes.len() {
            let count = (SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(bytes.len() - at);
            if random.below(2) == 0 {
                write_into(file, offset + at, &bytes[at..at + count]);
            }
            at += count;
        }
    }
}

pub(super) fn write_into(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Disk {
    pub(super) fn restart(&mut self) {
        self.lives += 1;
        self.down = false;
        self.steps_left = None;
        self.locks.clear();
    }

    pub(super) fn check_up(&self) -> io::Result<()> {
        if self.down { Err(io::Error::other("the machine is down")) } else { Ok(()) }
    }

    /// Before everything that changes something.
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.check_up()?;
        match &mut self.steps_left {
            Some(0) => {
                self.down = true;
                self.check_up()
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn inode(&self, path: &Path) -> Option<usize> {
        match self.seen.get(path) {
            Some(Node::File(index)) => Some(*index),
            _ => None,
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let sizes = self.seen.values().map(|node| match node {
            Node::File(index) => self.files[*index].seen.len() as u64,
            Node::Dir => 0,
        });
        sizes.sum()
    }

    pub(super) fn change_names(&mut self, dir: PathBuf, change: NameChange) {
        change.apply(&mut self.seen);
        self.changes.entry(dir).or_default().push(change);
    }
}
