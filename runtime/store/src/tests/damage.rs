//! Torn tails, flipped bits, missing and foreign files: found, reported, and never taken for records.

use std::ops::Range;

use super::*;
use crate::Quarantined;
use crate::frame::FRAME_HEADER_BYTES;
use crate::record::{GapReason, GapRecord};
use crate::segment::SEGMENT_HEADER_BYTES;

/// A disk with one closed spool of `records`, and the bytes of its only segment.
fn one_segment(records: &[Record]) -> (SimFileSystem, Vec<u8>) {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    spool.append(records).unwrap();
    spool.close().unwrap();
    let bytes = fs.contents(&log_path(1)).unwrap();
    (fs, bytes)
}

/// The byte ranges of the frames of a whole segment.
fn frames(segment: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while at < segment.len() {
        let length = u32::from_le_bytes(segment[at + 4..at + 8].try_into().unwrap()) as usize;
        ranges.push(at..at + FRAME_HEADER_BYTES + length);
        at = at + FRAME_HEADER_BYTES + length;
    }
    ranges
}

fn six() -> Vec<Record> {
    vec![bar(1), prediction(41), snapshot(1, vec![0xA7; 30]), bar(2), prediction(42), bar(3)]
}

fn positions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position).collect()
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let records = six();
    let (fs, whole) = one_segment(&records);
    let frames = frames(&whole);
    assert_eq!(frames.len(), 6);
    for length in 0..=whole.len() {
        fs.set_contents(&log_path(1), &whole[..length]);
        let (mut spool, recovery) = open(&fs);
        let kept = frames.iter().filter(|frame| frame.end <= length).count();
        let end = if length < SEGMENT_HEADER_BYTES {
            0
        } else {
            frames.get(kept.wrapping_sub(1)).map_or(SEGMENT_HEADER_BYTES, |frame| frame.end)
        };
        assert_eq!(recovery.torn_bytes_cut, (length - end) as u64, "cut at {length}");
        assert_eq!(recovery.quarantined, [], "cut at {length}");
        assert_eq!(recovery.last_position, kept as u64);
        let found: Vec<Record> = read_all(&spool).into_iter().map(|entry| entry.record).collect();
        assert_eq!(found, records[..kept], "cut at {length}");
        let ticket = spool.append(&[bar(9)]).unwrap();
        assert_eq!(ticket.first, kept as u64 + 1);
        drop(spool);
        assert_eq!(open(&fs).1.records, kept as u64 + 1, "cut at {length}");
    }
}

/// Flips `mask` at `at` and checks that exactly the records of the hit frame are gone, in the right way.
fn check_flip(records: &[Record], whole: &[u8], frames: &[Range<usize>], at: usize, mask: u8) {
    let mut bytes = whole.to_vec();
    bytes[at] ^= mask;
    let fs = SimFileSystem::new();
    drop(open(&fs));
    fs.set_contents(&log_path(1), &bytes);
    let (spool, recovery) = open(&fs);
    let hit = frames.iter().position(|frame| frame.contains(&at));
    let what = format!("byte {at} mask {mask:#x}, frame {hit:?}: {recovery:?}");
    let found = read_all(&spool);
    let last = frames.len() - 1;
    for (entry, position) in found.iter().zip(1..) {
        assert_eq!(entry.position, position, "{what}");
        let index = position as usize - 1;
        match &entry.record {
            Record::Gap(gap) => {
                assert_eq!(Some(index), hit, "{what}");
                assert_eq!(
                    (gap.from_position, gap.to_position, gap.reason),
                    (position, position, GapReason::Damage)
                );
            }
            record => assert_eq!(record, &records[index], "{what}"),
        }
    }
    let expected_count = if hit == Some(last) { last } else { frames.len() };
    assert_eq!(found.len(), expected_count, "{what}");
    assert!(recovery.last_prediction_seq >= 42, "{what}");
    if hit == Some(last) {
        assert_eq!(
            (recovery.quarantined.len(), recovery.torn_bytes_cut),
            (0, frames[last].len() as u64),
            "{what}"
        );
        return;
    }
    let [Quarantined { copy, lost, .. }] = &recovery.quarantined[..] else { panic!("not reported: {what}") };
    assert_eq!(fs.contents(copy), Some(bytes), "the copy aside, {what}");
    let lost_position = hit.map(|index| index as u64 + 1);
    assert_eq!(lost.first().copied(), lost_position.map(|position| (position, position)), "{what}");
    drop(spool);
    let (_, again) = open(&fs);
    assert_eq!(
        (again.quarantined.len(), again.records),
        (0, expected_count as u64),
        "mended for good, {what}"
    );
}

#[test]
fn a_flip_of_any_byte_hits_one_record_and_is_reported() {
    let records = six();
    let (_, whole) = one_segment(&records);
    let frames = frames(&whole);
    for at in 0..whole.len() {
        for mask in [0x01, 0x80, 0xFF] {
            // A good header of a version that nobody knows isn't damage; its CRC would have to match, too.
            check_flip(&records, &whole, &frames, at, mask);
        }
    }
}

#[test]
fn the_reader_reports_damage_and_goes_on() {
    let records = six();
    let (fs, whole) = one_segment(&records);
    let frames = frames(&whole);
    let (spool, _) = open(&fs);
    for (index, frame) in frames.iter().enumerate() {
        let mut bytes = whole.clone();
        bytes[frame.start + 25] ^= 4;
        fs.set_contents(&log_path(1), &bytes);
        let mut found = Vec::new();
        let mut damaged = Vec::new();
        for entry in spool.read(1) {
            match entry {
                Ok(entry) => found.push(entry.position),
                Err(ReadError::Damaged { from_position, to_position, path }) => {
                    assert_eq!(path, log_path(1));
                    damaged.push((from_position, to_position));
                }
                Err(error) => panic!("{error}"),
            }
        }
        let hit = index as u64 + 1;
        assert_eq!(damaged, [(hit, hit)]);
        assert_eq!(found, (1..=6).filter(|position| *position != hit).collect::<Vec<_>>());
        assert!(spool.read(hit + 1).all(|entry| entry.is_ok()), "what comes after is untouched");
    }
}

/// Three segments or more; their first positions.
fn many_segments(fs: &SimFileSystem) -> Vec<u64> {
    let (mut spool, _) = open(fs);
    for n in 1..=200 {
        spool.append(&[bar(n)]).unwrap();
    }
    let firsts: Vec<u64> = spool.shared.segments().iter().map(|segment| segment.first).collect();
    assert!(firsts.len() >= 4);
    spool.close().unwrap();
    firsts
}

#[test]
fn a_sealed_segment_cut_short_is_damage() {
    let fs = SimFileSystem::new();
    let firsts = many_segments(&fs);
    let whole = fs.contents(&log_path(firsts[1])).unwrap();
    let frames = frames(&whole);
    for length in [0, 10, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + 5, frames[3].end, frames[3].end + 7] {
        fs.set_contents(&log_path(firsts[1]), &whole[..length]);
        let kept = frames.iter().filter(|frame| frame.end <= length).count() as u64;
        let (spool, recovery) = open(&fs);
        let lost = (firsts[1] + kept, firsts[2] - 1);
        assert_eq!(recovery.quarantined.len(), 1, "{length}");
        assert_eq!(recovery.quarantined[0].lost, [lost], "{length}");
        assert_eq!((recovery.last_position, recovery.torn_bytes_cut), (200, 0), "{length}");
        let expected: Vec<u64> = (1..=lost.0).chain(firsts[2]..=200).collect();
        let found = read_all(&spool);
        assert_eq!(positions(&found), expected, "{length}");
        let Record::Gap(GapRecord { from_position, to_position, .. }) = found[lost.0 as usize - 1].record
        else {
            panic!("{length}");
        };
        assert_eq!((from_position, to_position), lost);
        let from_inside: Vec<u64> = spool.read(lost.0 + 1).map(|entry| entry.unwrap().position).collect();
        assert_eq!(from_inside, (firsts[2]..=200).collect::<Vec<_>>(), "{length}");
        drop(spool);
        let (_, again) = open(&fs);
        assert_eq!((again.quarantined, again.missing), (vec![], vec![]), "{length}");
    }
}

#[test]
fn missing_files_are_reported() {
    let fs = SimFileSystem::new();
    let firsts = many_segments(&fs);
    crate::FileSystem::remove(&fs, &log_path(firsts[1])).unwrap();
    let (spool, recovery) = open(&fs);
    assert_eq!(recovery.quarantined.len(), 1);
    assert_eq!(recovery.quarantined[0].lost, [(firsts[1], firsts[2] - 1)]);
    assert_eq!((recovery.last_position, recovery.missing), (200, vec![]));
    assert_eq!(positions(&read_all(&spool)), (1..=firsts[1]).chain(firsts[2]..=200).collect::<Vec<_>>());
    drop(spool);
    assert_eq!(open(&fs).1.quarantined, [], "the gap accounts for it");
}

#[test]
fn damage_in_two_places_is_two_gaps() {
    let records = six();
    let (fs, whole) = one_segment(&records);
    let frames = frames(&whole);
    let mut bytes = whole.clone();
    bytes[frames[0].clone()].fill(0);
    bytes[frames[2].start..frames[3].end].fill(0xA7);
    fs.set_contents(&log_path(1), &bytes);
    let (spool, recovery) = open(&fs);
    assert_eq!(recovery.quarantined[0].lost, [(1, 1), (3, 4)]);
    assert_eq!(positions(&read_all(&spool)), [1, 2, 3, 5, 6]);
    let mut reader = spool.read(3);
    assert!(matches!(reader.next(), Some(Ok(Entry { position: 3, record: Record::Gap(_) }))));
    assert_eq!(reader.next_position(), 5, "behind the gap");
}

#[test]
fn a_frame_that_comes_twice_is_one_record() {
    let records = six();
    let (fs, whole) = one_segment(&records);
    for frame in frames(&whole) {
        let mut bytes = whole.clone();
        bytes.splice(frame.end..frame.end, whole[frame.clone()].to_vec());
        fs.set_contents(&log_path(1), &bytes);
        let (spool, recovery) = open(&fs);
        let found: Vec<Record> = read_all(&spool).into_iter().map(|entry| entry.record).collect();
        assert_eq!(found, records);
        let reported =
            recovery.quarantined.iter().map(|q| q.damaged_bytes).sum::<u64>() + recovery.torn_bytes_cut;
        assert_eq!(reported, frame.len() as u64);
    }
}

#[test]
fn frames_of_another_segment_are_no_records() {
    let fs = SimFileSystem::new();
    let firsts = many_segments(&fs);
    let first = fs.contents(&log_path(firsts[0])).unwrap();
    let second = fs.contents(&log_path(firsts[1])).unwrap();
    let cut = frames(&first)[9].end;
    fs.set_contents(&log_path(firsts[0]), &[&first[..cut], &second[SEGMENT_HEADER_BYTES..]].concat());
    let (_, recovery) = open(&fs);
    assert_eq!(recovery.quarantined[0].lost, [(11, firsts[1] - 1)]);
}

#[test]
fn the_copy_aside_is_durable_before_the_segment_is_replaced() {
    let (_, mut damaged) = one_segment(&six());
    damaged[SEGMENT_HEADER_BYTES + 3] ^= 1;
    for seed in 0..20 {
        let fs = SimFileSystem::new();
        drop(open(&fs));
        fs.set_contents(&log_path(1), &damaged);
        let (_, recovery) = open(&fs);
        fs.crash(&mut Seeded(seed));
        assert_eq!(fs.contents(&recovery.quarantined[0].copy).as_ref(), Some(&damaged));
    }
}

#[test]
fn a_frame_inside_a_state_is_no_record() {
    let (_, inner) = one_segment(&six());
    // The same first position, so that only the place tells them apart.
    let (fs, whole) = one_segment(&[snapshot(1, inner[SEGMENT_HEADER_BYTES..].to_vec()), bar(2)]);
    let (spool, recovery) = open(&fs);
    assert_eq!((recovery.records, whole.len()), (2, fs.contents(&log_path(1)).unwrap().len()));
    assert_eq!(positions(&read_all(&spool)), [1, 2]);
}

#[test]
fn a_segment_of_another_spool_is_refused() {
    let fs = SimFileSystem::new();
    let firsts = many_segments(&fs);
    let other = SimFileSystem::new();
    many_segments(&other);
    fs.set_contents(&log_path(firsts[2]), &other.contents(&log_path(firsts[2])).unwrap());
    let error = try_open(&fs).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("move the file out of the folder"), "{error}");
}

#[test]
fn another_format_version_is_refused() {
    let (fs, mut whole) = one_segment(&six());
    whole[8] = 2;
    let crc = crc32fast::hash(&whole[..60]);
    whole[60..64].copy_from_slice(&crc.to_le_bytes());
    fs.set_contents(&log_path(1), &whole);
    let error = try_open(&fs).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn any_bytes_can_be_a_segment() {
    let (_, whole) = one_segment(&six());
    let mut random = Seeded(3);
    for case in 0..cases(3000) {
        let mut bytes = whole.clone();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            let length = (random.below(64) as usize).min(bytes.len() - at);
            match random.below(4) {
                0 => bytes[at..at + length].fill_with(|| random.draw() as u8),
                1 => drop(bytes.drain(at..at + length)),
                2 => {
                    let copied = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, copied);
                }
                _ => bytes.truncate(bytes.len().max(1) - length.min(bytes.len() - 1)),
            }
        }
        let fs = SimFileSystem::new();
        drop(open(&fs));
        fs.set_contents(&log_path(1), &bytes);
        let (spool, _) = open(&fs);
        for entry in read_all(&spool) {
            if !matches!(entry.record, Record::Gap(_)) {
                assert_eq!(Some(&entry.record), six().get(entry.position as usize - 1), "case {case}");
            }
        }
    }
}

#[test]
fn leftovers_of_a_crash_are_removed_and_other_files_are_not() {
    let (fs, _) = one_segment(&six());
    let file = |name: &str| Path::new(DIR).join(name);
    let leftovers = ["00000000000000000001.repair.tmp", "cursor-sink.tmp"];
    let others = ["notes.tmp", "x.log", "0.log"];
    for name in leftovers.iter().chain(&others) {
        fs.set_contents(&file(name), b"x");
    }
    let (_, recovery) = open(&fs);
    assert_eq!(recovery.records, 6);
    assert!(leftovers.iter().all(|name| fs.contents(&file(name)).is_none()));
    assert!(others.iter().all(|name| fs.contents(&file(name)).is_some()));
}

#[test]
fn a_damaged_cursor_starts_again_and_is_reported() {
    let (fs, _) = one_segment(&six());
    let (spool, _) = open(&fs);
    spool.register("sink").unwrap();
    spool.acknowledge("sink", 3).unwrap();
    drop(spool);
    let path = Path::new(DIR).join("cursor-sink");
    let whole = fs.contents(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs.set_contents(&path, &bytes);
        let (_, recovery) = open(&fs);
        assert_eq!(recovery.cursors_lost, ["sink"], "byte {at}");
        assert_eq!(recovery.consumers["sink"], 0, "byte {at}");
    }
    fs.set_contents(&path, &whole);
    assert_eq!(open(&fs).1.consumers["sink"], 3);
}

#[test]
fn positions_that_a_consumer_knows_are_not_given_out_again() {
    let (fs, whole) = one_segment(&six());
    let (spool, _) = open(&fs);
    spool.register("sink").unwrap();
    spool.acknowledge("sink", 6).unwrap();
    drop(spool);
    fs.set_contents(&log_path(1), &whole[..frames(&whole)[2].end]);
    let (mut spool, recovery) = open(&fs);
    assert_eq!((recovery.records, recovery.last_position), (3, 6));
    assert_eq!(recovery.missing, [(4, 6)]);
    assert!(recovery.last_prediction_seq >= 42, "three of the lost ones may have been predictions");
    assert_eq!(spool.append(&[bar(7)]).unwrap().first, 7);
    assert_eq!(positions(&read_all(&spool)), [1, 2, 3, 7]);
    drop(spool);
    assert_eq!(open(&fs).1.missing, [(4, 6)]);
}
