//! Puts a whole segment in the place of a damaged one, and keeps the damaged one aside.

use std::io;
use std::path::{Path, PathBuf};

use market::Timestamp;

use crate::filesystem::{Access, FileSystem, StoredFile};
use crate::frame::{FrameHeader, crc_seed, push_frame};
use crate::record::{GapReason, GapRecord, Record};
use crate::scan::{Scanned, Scanner};
use crate::segment::{SegmentHeader, segment_path};

const COPY_BYTES: usize = 1 << 20;

/// Damaged bytes, and the positions that went with them; none when `from > to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub offset: u64,
    pub bytes: u64,
    pub from: u64,
    pub to: u64,
}

pub(crate) struct Mended {
    pub bytes: u64,
    pub last_position: u64,
    pub gaps: u64,
}

/// Where the frame after this one stands: behind a `Damage` gap that begins at its own position, after the gap.
pub(crate) fn position_after(header: &FrameHeader, payload: &[u8]) -> u64 {
    match Record::decode_gap(header.kind, header.version, payload) {
        Some(gap) if gap.reason == GapReason::Damage && gap.from_position == header.position => {
            gap.to_position.saturating_add(1)
        }
        _ => header.position + 1,
    }
}

/// Durable when it returns.
pub(crate) fn copy_aside(fs: &dyn FileSystem, dir: &Path, first: u64) -> io::Result<PathBuf> {
    let names = fs.list(dir)?;
    let free = (1..).map(|n| format!("{first:020}.damaged-{n}")).find(|name| !names.contains(name));
    let copy = dir.join(free.unwrap_or_default());
    let source = fs.open(&segment_path(dir, first), Access::Read)?;
    let target = fs.create(&copy)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let count = source.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        target.write_all_at(&buffer[..count], offset)?;
        offset += count as u64;
    }
    target.sync_data()?;
    fs.sync_dir(dir)?;
    Ok(copy)
}

/// Writes header, whole frames and gaps beside the segment and renames it over; durable when it returns.
pub(crate) fn rewrite(
    fs: &dyn FileSystem,
    dir: &Path,
    header: &SegmentHeader,
    losses: &[Loss],
) -> io::Result<Mended> {
    let first = header.first_position;
    let path = segment_path(dir, first);
    let beside = dir.join(format!("{first:020}.repair.tmp"));
    let source = fs.open(&path, Access::Read)?;
    let end = source.length()?;
    let mut target = Target { file: &*fs.create(&beside)?, buffer: header.encode().to_vec(), written: 0 };
    let mut scanner = Scanner::new(source, first, end);
    let mut last_position = first - 1;
    let mut gaps = 0;
    let mut pending = losses.iter().filter(|loss| loss.from <= loss.to).peekable();
    let mut put_gap = |loss: &Loss, target: &mut Target| {
        gaps += 1;
        push_frame(&mut target.buffer, crc_seed(first), loss.from, &gap(loss)).map_err(io::Error::other)
    };
    loop {
        let scanned = scanner.next()?;
        let reached = match &scanned {
            Scanned::Frame(frame) => frame.header.position,
            Scanned::Damage(_) => continue,
            Scanned::End => u64::MAX,
        };
        while let Some(loss) = pending.next_if(|loss| loss.from < reached) {
            put_gap(loss, &mut target)?;
            last_position = loss.to;
        }
        let Scanned::Frame(frame) = scanned else { break };
        target.buffer.extend_from_slice(scanner.frame_bytes(&frame));
        last_position = frame.header.position;
        target.flush_at(COPY_BYTES)?;
    }
    target.flush_at(0)?;
    target.file.sync_data()?;
    let bytes = target.written;
    fs.rename(&beside, &path)?;
    fs.sync_dir(dir)?;
    Ok(Mended { bytes, last_position, gaps })
}

fn gap(loss: &Loss) -> Record {
    Record::Gap(GapRecord {
        from_position: loss.from,
        to_position: loss.to,
        reason: GapReason::Damage,
        at: Timestamp::now(),
    })
}

struct Target<'a> {
    file: &'a dyn StoredFile,
    buffer: Vec<u8>,
    written: u64,
}

impl Target<'_> {
    fn flush_at(&mut self, limit_bytes: usize) -> io::Result<()> {
        if self.buffer.len() > limit_bytes {
            self.file.write_all_at(&self.buffer, self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
