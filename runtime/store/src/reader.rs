//! Reads records in order, beside the writer and through file handles of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::ReadError;
use crate::filesystem::Access;
use crate::log::{Segment, Shared};
use crate::record::Record;
use crate::repair::position_after;
use crate::scan::{Damage, Frame, Scanned, Scanner};
use crate::segment::segment_path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    Written,
    Durable,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub position: u64,
    pub record: Record,
}

/// Gives records until it has caught up with the writer. `None` isn't for ever: ask again after more is written.
///
/// What is missing appears once as an error in its place, and the next record follows; only after
/// [`ReadError::Io`] it stays at `None`.
pub struct Reader {
    shared: Arc<Shared>,
    visibility: Visibility,
    /// The next one wanted; 0 is the oldest.
    next_position: u64,
    /// How far it may read; looked up again when it gets there.
    limit_position: u64,
    open: Option<OpenSegment>,
    /// Found beyond the limit; to be looked at again.
    held: Option<Frame>,
    failed: bool,
}

struct OpenSegment {
    first: u64,
    scanner: Scanner,
}

/// How a segment stands now.
enum Standing {
    /// More may come after `bytes`.
    Active {
        bytes: u64,
    },
    Sealed {
        bytes: u64,
        last: u64,
    },
    /// Removed; the handle still reads all of it.
    Removed,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from_position: u64, visibility: Visibility) -> Self {
        let next_position = if from_position == 0 {
            shared.segments().front().map_or(1, |segment| segment.first)
        } else {
            from_position
        };
        Reader { shared, visibility, next_position, limit_position: 0, open: None, held: None, failed: false }
    }

    /// The position after the last record or error returned: where to go on later.
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    fn may_read(&mut self, position: u64) -> bool {
        if position > self.limit_position {
            let visible = self.shared.visible_position();
            self.limit_position = match self.visibility {
                Visibility::Written => visible,
                Visibility::Durable => visible.min(self.shared.durability.durable_position()),
            };
        }
        position <= self.limit_position
    }

    fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        if !self.may_read(self.next_position) {
            return Ok(None);
        }
        loop {
            if self.open.is_none() && !self.open_segment()? {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            let first = open.first;
            let scanned = match self.held.take() {
                Some(frame) => Scanned::Frame(frame),
                None => open.scanner.next().map_err(|error| io_error(&self.shared, first, error))?,
            };
            match scanned {
                Scanned::Frame(frame) if frame.header.position < self.next_position => {}
                Scanned::Frame(frame) if !self.may_read(frame.header.position) => {
                    self.held = Some(frame);
                    return Ok(None);
                }
                Scanned::Frame(frame) => return self.take(frame).map(Some),
                Scanned::Damage(damage) => {
                    if let Some(error) = self.skip(first, damage)? {
                        return Err(error);
                    }
                }
                Scanned::End => {
                    if !self.go_on(first)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Entry, ReadError> {
        let position = frame.header.position;
        let payload = self.open.as_ref().map_or(&[][..], |open| open.scanner.payload(&frame));
        self.next_position = position_after(&frame.header, payload);
        match Record::decode(frame.header.kind, frame.header.version, payload) {
            Ok(record) => Ok(Entry { position, record }),
            Err(error) => Err(ReadError::Undecodable { position, error }),
        }
    }

    /// The error for damage, unless it lies before what is wanted.
    fn skip(&mut self, first: u64, damage: Damage) -> Result<Option<ReadError>, ReadError> {
        let to_position = if damage.tail {
            match self.standing(first) {
                Standing::Active { .. } => self.shared.visible_position(),
                Standing::Sealed { last, .. } => last,
                Standing::Removed => damage.expected_position.saturating_sub(1),
            }
        } else {
            match self.open.as_mut().map(|open| open.scanner.next()) {
                Some(Ok(Scanned::Frame(frame))) => {
                    self.held = Some(frame);
                    frame.header.position - 1
                }
                Some(Err(error)) => return Err(io_error(&self.shared, first, error)),
                _ => damage.expected_position.saturating_sub(1),
            }
        };
        let from_position = damage.expected_position.max(self.next_position);
        if to_position < self.next_position && damage.expected_position < self.next_position {
            return Ok(None);
        }
        self.next_position = self.next_position.max(to_position.saturating_add(1));
        Ok(Some(ReadError::Damaged {
            path: segment_path(&self.shared.dir, first),
            from_position,
            to_position,
        }))
    }

    /// Behind the last known byte of a segment: true when there is more to scan, here or in the next one.
    fn go_on(&mut self, first: u64) -> Result<bool, ReadError> {
        let standing = self.standing(first);
        let Some(open) = &mut self.open else { return Ok(false) };
        let expected = open.scanner.expected_position();
        let (bytes, after) = match standing {
            Standing::Active { bytes } => (bytes, None),
            Standing::Sealed { bytes, last } => (bytes, Some(last.saturating_add(1).max(expected))),
            Standing::Removed => {
                let length = open.scanner.file_length();
                (length.map_err(|error| io_error(&self.shared, first, error))?, Some(expected))
            }
        };
        if bytes > open.scanner.end() {
            open.scanner.extend_to(bytes);
            return Ok(true);
        }
        if let Some(after) = after {
            self.next_position = self.next_position.max(after);
            self.open = None;
        }
        Ok(after.is_some())
    }

    fn standing(&self, first: u64) -> Standing {
        let segments = self.shared.segments();
        let Ok(index) = segments.binary_search_by_key(&first, |segment| segment.first) else {
            return Standing::Removed;
        };
        let Segment { bytes, last, .. } = segments[index];
        if index + 1 == segments.len() {
            Standing::Active { bytes }
        } else {
            Standing::Sealed { bytes, last }
        }
    }

    /// Opens the segment that holds the next position, or the next one behind it. False when there is none.
    fn open_segment(&mut self) -> Result<bool, ReadError> {
        loop {
            let (oldest, found) = {
                let segments = self.shared.segments();
                let oldest = segments.front().map_or(1, |segment| segment.first);
                let index = segments.partition_point(|segment| segment.last < self.next_position);
                (oldest, segments.get(index).copied())
            };
            if self.next_position < oldest {
                let from_position = self.next_position;
                self.next_position = oldest;
                return Err(ReadError::Dropped { from_position, to_position: oldest - 1 });
            }
            let Some(segment) = found else { return Ok(false) };
            let path = segment_path(&self.shared.dir, segment.first);
            match self.shared.fs.open(&path, Access::Read) {
                Ok(file) => {
                    let scanner = Scanner::new(file, segment.first, segment.bytes);
                    self.open = Some(OpenSegment { first: segment.first, scanner });
                    return Ok(true);
                }
                // Removed since the look at the list: the list says so now.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_listed(segment.first) => {}
                Err(error) => return Err(ReadError::Io { path, error }),
            }
        }
    }

    fn is_listed(&self, first: u64) -> bool {
        self.shared.segments().iter().any(|segment| segment.first == first)
    }
}

fn io_error(shared: &Shared, first: u64, error: io::Error) -> ReadError {
    let path: PathBuf = segment_path(&shared.dir, first);
    ReadError::Io { path, error }
}

impl Iterator for Reader {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(ReadError::Io { .. })));
        item
    }
}
