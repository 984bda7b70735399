//! The mapped file as words that more than one process reads and writes: every access is atomic and inside.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

pub struct Map {
    map: MmapRaw,
}

impl Map {
    /// To read alone. The file must not become shorter while it is mapped: the writer never makes it so.
    pub fn read_only(file: &File) -> io::Result<Self> {
        Ok(Map { map: MmapOptions::new().map_raw_read_only(file)? })
    }

    pub fn writable(file: &File) -> io::Result<Self> {
        Ok(Map { map: MmapOptions::new().map_raw(file)? })
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// `N` words from the offset; `None` where they aren't inside or the offset isn't one of a word.
    pub fn words<const N: usize>(&self, at: usize) -> Option<&[AtomicU64; N]> {
        let end = at.checked_add(N * 8)?;
        if end > self.map.len() || !at.is_multiple_of(8) {
            return None;
        }
        // SAFETY: the range is inside the mapping, which lives as long as `self`, and aligned: mappings begin at a
        // page. All bytes are valid as u64, and every access of this and other processes is atomic. On a read-only
        // mapping there are relaxed loads of 8 bytes alone, which don't write.
        Some(unsafe { &*self.map.as_ptr().add(at).cast::<[AtomicU64; N]>() })
    }

    /// A relaxed load; 0 outside.
    pub fn load(&self, at: usize) -> u64 {
        self.words::<1>(at).map_or(0, |[word]| word.load(Ordering::Relaxed))
    }

    /// A 4-byte field.
    pub fn load_u32(&self, at: usize) -> u32 {
        let word = self.load(at / 8 * 8);
        (word >> (at % 8 * 8)) as u32
    }
}
