//! Which segments go: whole ones, oldest first, never the one being written.
//!
//! With consumers only what all of them have acknowledged goes, but for [`OnFull::DropOldest`]. What goes without
//! having been acknowledged leaves a `Gap` record, durable before the file is removed. (On a disk so full that the gap
//! can't be written, the oldest file goes first to make room for it.)

use market::Timestamp;

use crate::error::{AppendError, RetainError};
use crate::log::Segment;
use crate::record::{GapReason, GapRecord, Record};
use crate::segment::segment_path;
use crate::spool::{GAP_RESERVE_BYTES, OnFull, Spool};

/// What [`Spool::retain`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    pub segments: usize,
    pub bytes: u64,
    /// Positions (both ends included) that went without having been acknowledged.
    pub gap: Option<(u64, u64)>,
}

impl Spool {
    /// Removes segments whose records were all written before `older_than` and stand before `keep_from_position`
    /// (for what replay still needs). With consumers, only acknowledged ones; without, a gap is recorded.
    pub fn retain(
        &mut self,
        older_than: Timestamp,
        keep_from_position: u64,
    ) -> Result<Retained, RetainError> {
        self.handle.shared.durability.check()?;
        let acknowledged = self.handle.shared.consumers.acknowledged_by_all();
        let going: Vec<Segment> = {
            let segments = self.handle.shared.segments();
            let pairs = segments.iter().zip(segments.iter().skip(1));
            // A segment is as young as the moment when the next one began.
            pairs
                .take_while(|(segment, next)| {
                    next.created_at < older_than
                        && segment.last < keep_from_position
                        && acknowledged.is_none_or(|position| segment.last <= position)
                })
                .map(|(segment, _)| *segment)
                .collect()
        };
        self.remove(&going, GapReason::Age)
    }

    /// Keeps the spool under `limit_bytes` with `bytes` more. True when segments went, and with them perhaps a
    /// position and the active segment.
    pub(crate) fn make_room(&mut self, bytes: u64) -> Result<bool, AppendError> {
        let needed = bytes + GAP_RESERVE_BYTES;
        let limit_bytes = self.options.limit_bytes;
        let mut used_bytes = self.handle.shared.used_bytes();
        if used_bytes + needed <= limit_bytes {
            return Ok(false);
        }
        let acknowledged = self.handle.shared.consumers.acknowledged_by_all();
        let mut going = Vec::new();
        {
            let segments = self.handle.shared.segments();
            for segment in segments.iter().take(segments.len() - 1) {
                let taken = acknowledged.is_some_and(|position| segment.last <= position);
                if used_bytes + needed <= limit_bytes
                    || !(taken || self.options.on_full == OnFull::DropOldest)
                {
                    break;
                }
                used_bytes -= segment.bytes;
                going.push(*segment);
            }
        }
        self.remove(&going, GapReason::Space).map_err(append_error)?;
        if used_bytes + needed <= limit_bytes {
            Ok(true)
        } else {
            Err(AppendError::SpoolFull { used_bytes, limit_bytes })
        }
    }

    /// On a full disk: removes the oldest segment where that is allowed. False when it isn't.
    pub(crate) fn drop_for_disk(&mut self) -> Result<bool, AppendError> {
        let acknowledged = self.handle.shared.consumers.acknowledged_by_all();
        let oldest = {
            let segments = self.handle.shared.segments();
            segments.front().filter(|_| segments.len() > 1).copied()
        };
        let Some(oldest) = oldest else { return Ok(false) };
        let taken = acknowledged.is_some_and(|position| oldest.last <= position);
        if !taken && self.options.on_full == OnFull::Block {
            return Ok(false);
        }
        self.remove(&[oldest], GapReason::Space).map_err(append_error)?;
        Ok(true)
    }

    /// `going` are the oldest segments.
    fn remove(&mut self, going: &[Segment], reason: GapReason) -> Result<Retained, RetainError> {
        let (Some(oldest), Some(newest)) = (going.first(), going.last()) else {
            return Ok(Retained::default());
        };
        let acknowledged = self.handle.shared.consumers.acknowledged_by_all().unwrap_or(0);
        let from_position = oldest.first.max(acknowledged + 1);
        let gap = (from_position <= newest.last).then_some((from_position, newest.last));
        let mut rest = going;
        if let Some((from_position, to_position)) = gap {
            let record = Record::Gap(GapRecord { from_position, to_position, reason, at: Timestamp::now() });
            let mut written = self.write(std::slice::from_ref(&record));
            if let Err(AppendError::DiskFull { .. }) = written {
                self.unlink(&going[..1])?;
                rest = &going[1..];
                written = self.write(&[record]);
            }
            written.map_err(RetainError::Gap)?.wait()?;
        }
        self.unlink(rest)?;
        let bytes = going.iter().map(|segment| segment.bytes).sum();
        Ok(Retained { segments: going.len(), bytes, gap })
    }

    fn unlink(&mut self, going: &[Segment]) -> Result<(), RetainError> {
        let shared = &self.handle.shared;
        for segment in going {
            // Off the list first: a reader that finds no file must find no entry either.
            shared.segments().pop_front();
            let path = segment_path(&shared.dir, segment.first);
            if let Err(error) = shared.fs.remove(&path) {
                shared.segments().push_front(*segment);
                return Err(RetainError::Remove { path, error });
            }
        }
        if going.is_empty() {
            return Ok(());
        }
        shared
            .fs
            .sync_dir(&shared.dir)
            .map_err(|error| shared.durability.poison("syncing the folder", error.to_string()).into())
    }
}

fn append_error(error: RetainError) -> AppendError {
    match error {
        RetainError::Gap(error) => error,
        RetainError::Poisoned(failure) => AppendError::Poisoned(failure),
        RetainError::Remove { path, error } => AppendError::Remove { path, error },
    }
}
