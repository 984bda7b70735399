//! Opens the folder after whatever has happened to it, and says what it found.
//!
//! - A torn tail of the last segment was never durable: it is cut off.
//! - Damage elsewhere is data that was durable once: the segment is copied aside, replaced by one that holds its whole
//!   frames and a `Gap` record where others were, and reported. (A power cut that tears a hole into the unsynced tail
//!   looks the same.) A segment file that is gone from between others counts as the end of the one before it.
//! - What was recovered is synced before anything is built on it: a killed process leaves unsynced pages behind.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use market::Timestamp;

use crate::consumer::{load_cursor, parse_cursor_name};
use crate::error::OpenError;
use crate::filesystem::{Access, FileSystem, StoredFile};
use crate::log::Segment;
use crate::record::prediction_seq;
use crate::repair::{self, Loss};
use crate::scan::{Scanned, Scanner};
use crate::segment::{
    CreateError, FORMAT_VERSION, HeaderRead, SEGMENT_HEADER_BYTES, SegmentHeader, create_segment,
    parse_segment_name, segment_path,
};

/// What [`Spool::open`](crate::Spool::open) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The oldest retained position.
    pub first_position: u64,
    /// The next record gets the one after it; 0 in a new spool.
    pub last_position: u64,
    pub records: u64,
    /// No prediction that was durable here, retained or lost, had a higher `seq`; 0 when there was none.
    pub last_prediction_seq: u64,
    /// Of the last segment: an append that a crash cut short.
    pub torn_bytes_cut: u64,
    /// Alarm: data that was durable once is damaged.
    pub quarantined: Vec<Quarantined>,
    /// Alarm: positions (both ends included) that a cursor knows and no record or gap accounts for.
    pub missing: Vec<(u64, u64)>,
    pub consumers: BTreeMap<String, u64>,
    /// Their files were damaged or of another spool; they start from 0.
    pub cursors_lost: Vec<String>,
    /// The epoch could not be read from any segment, so that it is a new one.
    pub epoch_renewed: bool,
    pub scanned_bytes: u64,
    pub took: Duration,
}

/// A damaged segment, copied aside. The ranges (both ends included) are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    pub segment: PathBuf,
    pub copy: PathBuf,
    pub damaged_bytes: u64,
    pub lost: Vec<(u64, u64)>,
}

/// The state to build a spool on.
pub(crate) struct Recovered {
    pub recovery: Recovery,
    pub epoch: u128,
    pub segments: VecDeque<Segment>,
    /// The last of them, open for writing.
    pub last: Segment,
    pub active: Arc<dyn StoredFile>,
}

/// A segment after the walk over its frames.
struct Walked {
    segment: Segment,
    header: Option<SegmentHeader>,
    file_bytes: u64,
    records: u64,
    prediction_seq: u64,
    losses: Vec<Loss>,
    /// Where a bad tail begins.
    tail_at: Option<u64>,
    /// Positions that neither frames nor gaps account for.
    missing: Vec<(u64, u64)>,
}

/// The folder exists and is locked.
pub(crate) fn recover(fs: &dyn FileSystem, dir: &Path) -> Result<Recovered, OpenError> {
    let start = Instant::now();
    let mut names = fs.list(dir).map_err(|error| io_error("listing", dir, error))?;
    names.sort_unstable();
    for name in names.iter().filter(|name| is_leftover(name)) {
        let path = dir.join(name);
        fs.remove(&path).map_err(|error| io_error("removing", &path, error))?;
    }
    let firsts: Vec<u64> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    let headers = firsts.iter().map(|first| read_header(fs, dir, *first)).collect::<Result<Vec<_>, _>>()?;
    let mut recovery = Recovery::default();
    let epoch = match common_epoch(dir, &headers)? {
        Some(epoch) => epoch,
        None => {
            recovery.epoch_renewed = !firsts.is_empty();
            random_epoch().map_err(|error| io_error("reading", Path::new("/dev/urandom"), error))?
        }
    };
    let segments = recover_segments(fs, dir, epoch, &firsts, &headers, &mut recovery)?;
    recover_cursors(fs, dir, epoch, &names, &mut recovery)?;
    let mut recovered = finish(fs, dir, epoch, segments, recovery)?;
    recovered.recovery.took = start.elapsed();
    Ok(recovered)
}

/// Of a replacement that a crash cut short.
fn is_leftover(name: &str) -> bool {
    let replaced = name.strip_suffix(".repair.tmp").map(|number| format!("{number}.log"));
    let cursor = name.strip_suffix(".tmp").and_then(parse_cursor_name);
    cursor.is_some() || replaced.is_some_and(|segment| parse_segment_name(&segment).is_some())
}

fn read_header(fs: &dyn FileSystem, dir: &Path, first: u64) -> Result<Option<SegmentHeader>, OpenError> {
    let path = segment_path(dir, first);
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let file = fs.open(&path, Access::Read).map_err(|error| io_error("opening", &path, error))?;
    let count = file.read_at(&mut bytes, 0).map_err(|error| io_error("reading", &path, error))?;
    match SegmentHeader::decode(&bytes[..count]) {
        HeaderRead::Good(header) => Ok(Some(header).filter(|header| header.first_position == first)),
        HeaderRead::OtherVersion(found) => Err(OpenError::Version { path, found, known: FORMAT_VERSION }),
        HeaderRead::Bad => Ok(None),
    }
}

fn common_epoch(dir: &Path, headers: &[Option<SegmentHeader>]) -> Result<Option<u128>, OpenError> {
    let mut known = headers.iter().flatten();
    let Some(expected) = known.next() else { return Ok(None) };
    match known.find(|header| header.epoch != expected.epoch) {
        None => Ok(Some(expected.epoch)),
        Some(header) => Err(OpenError::Foreign {
            path: segment_path(dir, header.first_position),
            epoch: header.epoch,
            expected_epoch: expected.epoch,
        }),
    }
}

fn random_epoch() -> io::Result<u128> {
    let mut bytes = [0; 16];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

fn recover_segments(
    fs: &dyn FileSystem,
    dir: &Path,
    epoch: u128,
    firsts: &[u64],
    headers: &[Option<SegmentHeader>],
    recovery: &mut Recovery,
) -> Result<VecDeque<Segment>, OpenError> {
    let mut segments: VecDeque<Segment> = VecDeque::new();
    for (index, (first, header)) in firsts.iter().zip(headers).enumerate() {
        let path = segment_path(dir, *first);
        let next_first = firsts.get(index + 1).copied();
        let created_at = segments.back().map_or(Timestamp(0), |segment| segment.created_at);
        let mut walked = walk(fs, &path, *first, *header, created_at, next_first)?;
        recovery.scanned_bytes += walked.file_bytes;
        let unfinished = walked.header.is_none() && walked.file_bytes <= SEGMENT_HEADER_BYTES as u64;
        if next_first.is_none() && unfinished {
            fs.remove(&path).map_err(|error| io_error("removing", &path, error))?;
            recovery.torn_bytes_cut += walked.file_bytes;
            break;
        }
        if let (None, Some(tail_at), true) = (next_first, walked.tail_at, walked.is_whole_otherwise()) {
            cut(fs, &path, tail_at)?;
            recovery.torn_bytes_cut += walked.file_bytes - tail_at;
            walked.segment.bytes = tail_at;
        } else if !walked.is_whole() {
            mend(fs, dir, epoch, &mut walked, next_first, recovery)?;
        }
        recovery.records += walked.records;
        recovery.last_prediction_seq = recovery.last_prediction_seq.max(walked.prediction_seq);
        recovery.missing.append(&mut walked.missing);
        segments.push_back(walked.segment);
    }
    Ok(segments)
}

impl Walked {
    /// Each lost record may have been a prediction: their numbers aren't given out again.
    fn lose(&mut self, loss: Loss) {
        self.prediction_seq = self.prediction_seq.saturating_add((loss.to + 1).saturating_sub(loss.from));
        self.losses.push(loss);
    }

    fn is_whole_otherwise(&self) -> bool {
        self.header.is_some() && self.losses.is_empty()
    }

    fn is_whole(&self) -> bool {
        self.is_whole_otherwise() && self.tail_at.is_none()
    }
}

/// Checks every frame of a segment. `next_first` is None for the last one.
fn walk(
    fs: &dyn FileSystem,
    path: &Path,
    first: u64,
    header: Option<SegmentHeader>,
    created_at: Timestamp,
    next_first: Option<u64>,
) -> Result<Walked, OpenError> {
    let failed = |error| io_error("reading", path, error);
    let file = fs.open(path, Access::Read).map_err(failed)?;
    let file_bytes = file.length().map_err(failed)?;
    let mut walked = Walked {
        segment: Segment {
            first,
            last: first - 1,
            bytes: file_bytes,
            created_at: header.map_or(created_at, |header| header.created_at),
        },
        header,
        file_bytes,
        records: 0,
        prediction_seq: header.map_or(0, |header| header.prediction_seq),
        losses: Vec::new(),
        tail_at: None,
        missing: Vec::new(),
    };
    let mut scanner = Scanner::new(file, first, file_bytes);
    // The position that must come next when nothing is amiss.
    let mut due = first;
    let mut damaged: Option<Loss> = None;
    loop {
        match scanner.next().map_err(failed)? {
            Scanned::End => break,
            Scanned::Damage(damage) if damage.tail => walked.tail_at = Some(damage.offset),
            Scanned::Damage(damage) => {
                damaged = Some(Loss { offset: damage.offset, bytes: damage.bytes, from: due, to: due });
            }
            Scanned::Frame(frame) => {
                let position = frame.header.position;
                if let Some(loss) = damaged.take() {
                    walked.lose(Loss { to: position - 1, ..loss });
                } else if position > due {
                    walked.missing.push((due, position - 1));
                }
                let payload = scanner.payload(&frame);
                if let Some(seq) = prediction_seq(frame.header.kind, payload) {
                    walked.prediction_seq = walked.prediction_seq.max(seq);
                }
                walked.records += 1;
                due = repair::position_after(&frame.header, payload);
                walked.segment.last = due - 1;
            }
        }
    }
    if let Some(next_first) = next_first.filter(|next_first| *next_first > due) {
        // A sealed segment was whole: what it no longer holds is lost, also where the file simply ends.
        let offset = walked.tail_at.take().unwrap_or(file_bytes);
        let bytes = file_bytes - offset.min(file_bytes);
        walked.lose(Loss { offset, bytes, from: due, to: next_first - 1 });
    }
    Ok(walked)
}

fn cut(fs: &dyn FileSystem, path: &Path, length: u64) -> Result<(), OpenError> {
    let file = fs.open(path, Access::Write).map_err(|error| io_error("opening", path, error))?;
    file.truncate(length).map_err(|error| io_error("cutting", path, error))
}

/// Copies a damaged segment aside and puts a whole one in its place.
fn mend(
    fs: &dyn FileSystem,
    dir: &Path,
    epoch: u128,
    walked: &mut Walked,
    next_first: Option<u64>,
    recovery: &mut Recovery,
) -> Result<(), OpenError> {
    let path = segment_path(dir, walked.segment.first);
    let header = walked.header.unwrap_or(SegmentHeader {
        first_position: walked.segment.first,
        epoch,
        created_at: walked.segment.created_at,
        prediction_seq: walked.prediction_seq,
    });
    let copy = repair::copy_aside(fs, dir, walked.segment.first)
        .map_err(|error| io_error("copying aside the damaged", &path, error))?;
    let mended = repair::rewrite(fs, dir, &header, &walked.losses)
        .map_err(|error| io_error("repairing the damaged", &path, error))?;
    walked.segment.bytes = mended.bytes;
    walked.segment.last = match next_first {
        Some(_) => mended.last_position,
        None => mended.last_position.max(walked.segment.last),
    };
    walked.records += mended.gaps;
    let tail_bytes = walked.tail_at.map_or(0, |tail_at| walked.file_bytes - tail_at);
    let lost =
        walked.losses.iter().filter(|loss| loss.from <= loss.to).map(|loss| (loss.from, loss.to)).collect();
    recovery.quarantined.push(Quarantined {
        segment: path,
        copy,
        damaged_bytes: walked.losses.iter().map(|loss| loss.bytes).sum::<u64>() + tail_bytes,
        lost,
    });
    Ok(())
}

fn recover_cursors(
    fs: &dyn FileSystem,
    dir: &Path,
    epoch: u128,
    names: &[String],
    recovery: &mut Recovery,
) -> Result<(), OpenError> {
    for consumer in names.iter().filter_map(|name| parse_cursor_name(name)) {
        let position = load_cursor(fs, dir, consumer, epoch)
            .map_err(|error| io_error("reading the cursor in", dir, error))?;
        if position.is_none() {
            recovery.cursors_lost.push(consumer.to_owned());
        }
        recovery.consumers.insert(consumer.to_owned(), position.unwrap_or(0));
    }
    Ok(())
}

/// Opens the last segment for writing, or makes the first one, and makes all of it durable.
fn finish(
    fs: &dyn FileSystem,
    dir: &Path,
    epoch: u128,
    mut segments: VecDeque<Segment>,
    mut recovery: Recovery,
) -> Result<Recovered, OpenError> {
    // A cursor beyond the end knows positions that are lost here; they aren't given out again.
    let acknowledged = recovery.consumers.values().max().copied().unwrap_or(0);
    let (last, active) = match segments.pop_back() {
        Some(mut last) => {
            let path = segment_path(dir, last.first);
            let file = fs.open(&path, Access::Write).map_err(|error| io_error("opening", &path, error))?;
            file.sync_data().map_err(|error| io_error("syncing", &path, error))?;
            fs.sync_dir(dir).map_err(|error| io_error("syncing", dir, error))?;
            let unknown = acknowledged.saturating_sub(last.last);
            recovery.last_prediction_seq = recovery.last_prediction_seq.saturating_add(unknown);
            if unknown > 0 {
                recovery.missing.push((last.last + 1, acknowledged));
                last.last = acknowledged;
            }
            (last, file)
        }
        None => make_first(fs, dir, epoch, acknowledged)?,
    };
    segments.push_back(last);
    recovery.first_position = segments.front().map_or(last.first, |segment| segment.first);
    recovery.last_position = last.last;
    Ok(Recovered { recovery, epoch, segments, last, active })
}

fn make_first(
    fs: &dyn FileSystem,
    dir: &Path,
    epoch: u128,
    acknowledged: u64,
) -> Result<(Segment, Arc<dyn StoredFile>), OpenError> {
    let created_at = Timestamp::now();
    let header = SegmentHeader { first_position: acknowledged + 1, epoch, created_at, prediction_seq: 0 };
    let file = create_segment(fs, dir, &header)
        .map_err(|error: CreateError| io_error("making a segment in", dir, error.into()))?;
    let bytes = SEGMENT_HEADER_BYTES as u64;
    Ok((Segment { first: header.first_position, last: acknowledged, bytes, created_at }, file))
}

pub(crate) fn io_error(doing: &'static str, path: &Path, error: io::Error) -> OpenError {
    OpenError::Io { doing, path: path.to_path_buf(), error }
}
