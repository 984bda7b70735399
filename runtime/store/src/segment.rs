//! A segment file: its name, and the header of 64 bytes in front of the frames.
//!
//! ```text
//! 0         8             12           16                  24          40               48
//! | magic 8 | version u32 | reserved 4 | first_position u64 | epoch u128 | created_at i64 | prediction_seq u64
//! 56           60      64
//! | reserved 4 | crc u32 | frames ...
//! ```
//!
//! `first_position` is in the name too (`%020d.log`), so that a damaged header costs nothing. `prediction_seq` is the
//! highest one when the segment was made: the counter outlives the records that showed it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use market::Timestamp;

use crate::filesystem::{FileSystem, StoredFile};

pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"ALPHSPOL";
pub(crate) const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub first_position: u64,
    pub epoch: u128,
    pub created_at: Timestamp,
    pub prediction_seq: u64,
}

/// What the first bytes of a segment are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderRead {
    Good(SegmentHeader),
    /// Whole and right, but of another format version.
    OtherVersion(u32),
    /// Too short or damaged.
    Bad,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_position.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_at.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.prediction_seq.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> HeaderRead {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else { return HeaderRead::Bad };
        if &bytes[..8] != MAGIC || u32::from_le_bytes(array(bytes, 60)) != crc32fast::hash(&bytes[..60]) {
            return HeaderRead::Bad;
        }
        match u32::from_le_bytes(array(bytes, 8)) {
            FORMAT_VERSION => HeaderRead::Good(SegmentHeader {
                first_position: u64::from_le_bytes(array(bytes, 16)),
                epoch: u128::from_le_bytes(array(bytes, 24)),
                created_at: Timestamp(i64::from_le_bytes(array(bytes, 40))),
                prediction_seq: u64::from_le_bytes(array(bytes, 48)),
            }),
            version => HeaderRead::OtherVersion(version),
        }
    }
}

fn array<const N: usize>(bytes: &[u8; SEGMENT_HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

pub(crate) fn segment_path(dir: &Path, first_position: u64) -> PathBuf {
    dir.join(format!("{first_position:020}.log"))
}

/// The first position that a segment's file name states; None for other files.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|first| *first > 0)
}

/// Makes an empty segment, durable with its directory entry. Leaves nothing behind when there is no room.
pub(crate) fn create_segment(
    fs: &dyn FileSystem,
    dir: &Path,
    header: &SegmentHeader,
) -> Result<Arc<dyn StoredFile>, CreateError> {
    let path = segment_path(dir, header.first_position);
    let file = fs.create(&path).map_err(CreateError::Write)?;
    if let Err(error) = file.write_all_at(&header.encode(), 0) {
        fs.remove(&path).map_err(CreateError::Sync)?;
        return Err(CreateError::Write(error));
    }
    file.sync_data().map_err(CreateError::Sync)?;
    fs.sync_dir(dir).map_err(CreateError::Sync)?;
    Ok(file)
}

/// Whether the directory is as before (`Write`) or unknown (`Sync`).
#[derive(Debug)]
pub(crate) enum CreateError {
    Write(io::Error),
    Sync(io::Error),
}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> io::Error {
        match error {
            CreateError::Write(error) | CreateError::Sync(error) => error,
        }
    }
}
