//! Full disks, full spools, retention with and without a consumer, and what is refused.

use super::*;
use crate::record::{GapReason, GapRecord};
use crate::spool::OnFull;
use crate::{AcknowledgeError, AppendError};

fn limited(fs: &SimFileSystem, on_full: OnFull) -> Spool {
    let options = SpoolOptions { limit_bytes: 3 * 4096, on_full, ..options(fs) };
    Spool::open(Path::new(DIR), options).unwrap().0
}

fn gaps(spool: &Spool) -> Vec<GapRecord> {
    let records = read_all(spool).into_iter().map(|entry| entry.record);
    records
        .filter_map(|record| match record {
            Record::Gap(gap) => Some(gap),
            Record::Bar(_) | Record::Prediction(_) | Record::Snapshot(_) => None,
            Record::Realised(_) | Record::Explanation(_) => None,
        })
        .collect()
}

fn fill(spool: &mut Spool, count: u64) {
    for n in 1..=count {
        spool.append(&[bar(n)]).unwrap();
    }
}

#[test]
fn segments_follow_each_other_and_stay_in_size() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    fill(&mut spool, 500);
    let segments: Vec<_> = spool.shared.segments().iter().copied().collect();
    assert!(segments.len() > 5);
    for pair in segments.windows(2) {
        assert_eq!(pair[0].last + 1, pair[1].first);
    }
    for segment in &segments {
        let bytes = fs.contents(&log_path(segment.first)).unwrap().len() as u64;
        assert_eq!(bytes, segment.bytes);
        assert!(bytes <= 4096);
    }
    assert_eq!(read_all(&spool).len(), 500);
    drop(spool);
    let (_, recovery) = open(&fs);
    assert_eq!((recovery.records, recovery.last_position), (500, 500));
}

#[test]
fn a_full_disk_takes_nothing_and_lets_the_spool_go_on() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    spool.append(&[bar(1)]).unwrap().wait().unwrap();
    let used = fs.used_bytes();
    for room in [0, 1, 19, 20, 21, 100, 150] {
        fs.set_space(Some(used + room));
        let error = spool.append(&[bar(2), bar(3)]).map(|ticket| ticket.first).unwrap_err();
        assert!(matches!(error, AppendError::DiskFull { needed_bytes: 100.., .. }), "{error}");
        assert_eq!(fs.used_bytes(), used, "the torn frame is cut off");
        assert_eq!(read_all(&spool).len(), 1);
    }
    fs.set_space(None);
    let ticket = spool.append(&[bar(2), bar(3)]).unwrap();
    assert_eq!((ticket.first, ticket.last), (2, 3));
    ticket.wait().unwrap();
    fs.crash(&mut Seeded(1));
    drop(spool);
    assert_eq!(open(&fs).1.last_position, 3);
}

#[test]
fn a_disk_that_fills_between_segments_lets_the_spool_go_on() {
    for room in 0..=64 {
        let fs = SimFileSystem::new();
        let (mut spool, _) = open(&fs);
        let (before, used) = (1..1000)
            .find_map(|n| {
                let used = fs.used_bytes();
                // Room for every frame of this segment, but not for the next segment's header and a frame.
                let is_last = used + 200 > 4096;
                if is_last {
                    return Some((n, used));
                }
                spool.append(&[bar(n)]).unwrap();
                None
            })
            .unwrap();
        fs.set_space(Some(used + room));
        let large = snapshot(1, vec![1; 300]);
        let error = spool.append(std::slice::from_ref(&large)).map(|ticket| ticket.first).unwrap_err();
        assert!(matches!(error, AppendError::DiskFull { .. }), "{room}: {error}");
        fs.set_space(None);
        assert_eq!(spool.append(&[large]).unwrap().first, before, "{room}");
        drop(spool);
        let (_, recovery) = open(&fs);
        assert_eq!(
            (recovery.records, recovery.torn_bytes_cut, recovery.quarantined),
            (before, 0, vec![]),
            "{room}"
        );
    }
}

#[test]
fn on_a_full_disk_the_oldest_may_go() {
    let fs = SimFileSystem::new();
    let options = SpoolOptions { on_full: OnFull::DropOldest, ..options(&fs) };
    let (mut spool, _) = Spool::open(Path::new(DIR), options).unwrap();
    fill(&mut spool, 200);
    for more in [0, 10, 70] {
        fs.set_space(Some(fs.used_bytes() + more));
        for n in 1..=60 {
            spool.append(&[bar(1000 + n)]).unwrap();
        }
    }
    let gaps = gaps(&spool);
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Space));
    assert_eq!(gaps.last().map(|gap| gap.to_position + 1), Some(spool.stats().first_position));
}

#[test]
fn a_full_spool_refuses_until_the_consumer_catches_up() {
    let fs = SimFileSystem::new();
    let mut spool = limited(&fs, OnFull::Block);
    spool.register("sink").unwrap();
    let error = (1..1000).find_map(|n| spool.append(&[bar(n)]).err()).unwrap();
    assert!(matches!(error, AppendError::SpoolFull { limit_bytes: 12288, .. }), "{error}");
    let written = spool.written_position();
    let first_segment_end = spool.shared.segments()[0].last;
    spool.wait_durable(written).unwrap();
    spool.acknowledge("sink", first_segment_end - 1).unwrap();
    assert!(spool.append(&[bar(1)]).is_err(), "a part of a segment frees nothing");
    spool.acknowledge("sink", first_segment_end).unwrap();
    assert_eq!(spool.append(&[bar(1)]).unwrap().first, written + 1);
    assert_eq!(spool.stats().first_position, first_segment_end + 1);
    assert_eq!(gaps(&spool), []);
}

#[test]
fn dropping_the_oldest_records_the_gap_before_the_file_goes() {
    let fs = SimFileSystem::new();
    let mut spool = limited(&fs, OnFull::DropOldest);
    fill(&mut spool, 300);
    assert!(spool.stats().used_bytes <= 3 * 4096);
    assert_eq!(fs.used_bytes(), spool.stats().used_bytes);
    let found = gaps(&spool);
    let first = spool.stats().first_position;
    assert_eq!(found.last().map(|gap| (gap.to_position, gap.reason)), Some((first - 1, GapReason::Space)));
    assert!(spool.durable_position() >= first, "the gap was made durable");
}

#[test]
fn a_gap_covers_only_what_was_not_acknowledged() {
    let fs = SimFileSystem::new();
    let mut spool = limited(&fs, OnFull::DropOldest);
    spool.register("sink").unwrap();
    fill(&mut spool, 60);
    spool.wait_durable(60).unwrap();
    spool.acknowledge("sink", 7).unwrap();
    let first_segment_end = spool.shared.segments()[0].last;
    let mut n = 60;
    while spool.stats().first_position == 1 {
        n += 1;
        spool.append(&[bar(n)]).unwrap();
    }
    let expected = GapRecord {
        from_position: 8,
        to_position: first_segment_end,
        reason: GapReason::Space,
        at: gaps(&spool)[0].at,
    };
    assert_eq!(gaps(&spool), [expected]);
}

#[test]
fn retention_without_a_consumer_records_the_gap() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    fill(&mut spool, 200);
    let segments: Vec<_> = spool.shared.segments().iter().copied().collect();
    assert_eq!(spool.retain(Timestamp(0), u64::MAX).unwrap().segments, 0, "all are younger");
    assert_eq!(spool.retain(Timestamp(i64::MAX), segments[0].last).unwrap().segments, 0, "replay needs it");
    let retained = spool.retain(Timestamp(i64::MAX), segments[2].first).unwrap();
    assert_eq!((retained.segments, retained.gap), (2, Some((1, segments[1].last))));
    assert_eq!(retained.bytes, segments[0].bytes + segments[1].bytes);
    assert_eq!(spool.stats().first_position, segments[2].first);
    assert_eq!(fs.contents(&log_path(1)), None);
    let found = gaps(&spool);
    assert_eq!(
        (found[0].from_position, found[0].to_position, found[0].reason),
        (1, segments[1].last, GapReason::Age)
    );
    let all = spool.retain(Timestamp(i64::MAX), u64::MAX).unwrap();
    assert!(all.segments > 0);
    assert_eq!(spool.stats().segments, 1, "the one being written stays");
    drop(spool);
    let (spool, recovery) = open(&fs);
    assert_eq!(recovery.missing, []);
    assert_eq!(gaps(&spool).len(), 2);
}

#[test]
fn retention_with_consumers_waits_for_the_slowest() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    spool.register("sink").unwrap();
    spool.register("audit").unwrap();
    fill(&mut spool, 200);
    spool.wait_durable(200).unwrap();
    let ends: Vec<u64> = spool.shared.segments().iter().map(|segment| segment.last).collect();
    let all = |spool: &mut Spool| spool.retain(Timestamp(i64::MAX), u64::MAX).unwrap();
    spool.acknowledge("sink", 200).unwrap();
    assert_eq!(all(&mut spool).segments, 0);
    spool.acknowledge("audit", ends[1]).unwrap();
    let retained = all(&mut spool);
    assert_eq!((retained.segments, retained.gap), (2, None));
    spool.unregister("audit").unwrap();
    assert_eq!(all(&mut spool).segments, ends.len() - 3);
    assert_eq!(gaps(&spool), []);
    drop(spool);
    let (_, recovery) = open(&fs);
    assert_eq!(recovery.consumers.into_iter().collect::<Vec<_>>(), [("sink".to_owned(), 200)]);
}

#[test]
fn the_prediction_counter_outlives_its_records() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    spool.append(&[prediction(77)]).unwrap();
    fill(&mut spool, 200);
    spool.retain(Timestamp(i64::MAX), u64::MAX).unwrap();
    assert!(!read_all(&spool).iter().any(|entry| matches!(entry.record, Record::Prediction(_))));
    drop(spool);
    assert_eq!(open(&fs).1.last_prediction_seq, 77);
}

#[test]
fn acknowledging_is_checked() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    let long = "x".repeat(65);
    for name in ["", "Sink", "a/b", "..", "a.tmp", &long] {
        assert!(matches!(spool.register(name), Err(AcknowledgeError::Name(_))), "{name}");
    }
    assert!(matches!(spool.acknowledge("sink", 1), Err(AcknowledgeError::Unknown { .. })));
    assert_eq!(spool.register("sink").unwrap(), 0);
    spool.append(&[bar(1), bar(2)]).unwrap();
    let error = spool.acknowledge("sink", 1).unwrap_err();
    assert!(matches!(error, AcknowledgeError::NotDurable { position: 1, durable_position: 0 }), "{error}");
    spool.wait_durable(2).unwrap();
    assert_eq!(spool.acknowledge("sink", 2).unwrap(), 2);
    assert_eq!(spool.acknowledge("sink", 1).unwrap(), 2, "going back changes nothing");
    assert_eq!(spool.register("sink").unwrap(), 2);
    fs.set_space(Some(0));
    spool.append(&[]).unwrap();
    assert!(matches!(spool.register("other"), Err(AcknowledgeError::Io { .. })));
    fs.set_space(None);
    assert_eq!(spool.register("other").unwrap(), 0);
}

#[test]
fn a_bad_record_or_batch_writes_nothing() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    let before = fs.used_bytes();
    let Record::Prediction(mut long) = prediction(1) else { unreachable!() };
    long.device = "x".repeat(65);
    let error = spool.append(&[bar(1), Record::Prediction(long)]).map(|ticket| ticket.first).unwrap_err();
    assert_eq!(error.to_string(), "record 1 of the batch: device has length 65; the limit is 64");
    let error = spool.append(&vec![bar(1); 100]).map(|ticket| ticket.first).unwrap_err();
    assert!(matches!(error, AppendError::BatchTooLong { limit_bytes: 4032, .. }), "{error}");
    assert_eq!(fs.used_bytes(), before);
    assert_eq!(spool.append(&[bar(1)]).unwrap().first, 1);
}

#[test]
fn impossible_options_are_refused() {
    let fs = SimFileSystem::new();
    let check = |options: SpoolOptions, expected: &str| {
        let error = Spool::open(Path::new(DIR), options).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        SpoolOptions { segment_bytes: 100, ..options(&fs) },
        "segment_bytes is 100; choose 4096 to 4294967296",
    );
    check(
        SpoolOptions { limit_bytes: 9000, ..options(&fs) },
        "limit_bytes is 9000; it must hold three segments, 12288 bytes at least",
    );
}
