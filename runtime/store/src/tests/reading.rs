//! Readers beside the writer: in order, each record once, never beyond what they may see.

use super::*;
use crate::RealFileSystem;

#[test]
fn a_reader_goes_on_where_it_was() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    let mut reader = spool.read(1);
    let mut read = 0;
    for n in 1..=300 {
        assert!(reader.next().is_none(), "nothing new before {n}");
        let count = 1 + n % 3;
        spool.append(&vec![bar(n); count as usize]).unwrap();
        for _ in 0..count {
            read += 1;
            assert_eq!(reader.next().unwrap().unwrap(), Entry { position: read, record: bar(n) });
        }
        assert_eq!(reader.next_position(), read + 1);
    }
    assert!(spool.stats().segments > 3);
}

#[test]
fn a_reader_starts_anywhere() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    for n in 1..=200 {
        spool.append(&[bar(n)]).unwrap();
    }
    for from in 1..=201 {
        let found: Vec<u64> = spool.read(from).map(|entry| entry.unwrap().position).collect();
        assert_eq!(found, (from..=200).collect::<Vec<_>>());
    }
    let mut ahead = spool.read(202);
    spool.append(&[bar(201)]).unwrap();
    assert!(ahead.next().is_none());
    spool.append(&[bar(202)]).unwrap();
    assert_eq!(ahead.next().unwrap().unwrap().position, 202);
}

#[test]
fn a_durable_reader_stops_at_the_sync() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    let mut reader = spool.read_durable(1);
    spool.append(&[bar(1), bar(2)]).unwrap();
    assert!(reader.next().is_none());
    assert_eq!(read_all(&spool).len(), 2);
    spool.wait_durable(2).unwrap();
    spool.append(&[bar(3)]).unwrap();
    assert_eq!(reader.by_ref().map(|entry| entry.unwrap().position).collect::<Vec<_>>(), [1, 2]);
    spool.wait_durable(3).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().position, 3);
}

#[test]
fn what_was_dropped_is_said_once() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    for n in 1..=200 {
        spool.append(&[bar(n)]).unwrap();
    }
    let mut behind = spool.read(5);
    let mut inside = spool.read(5);
    assert_eq!(inside.next().unwrap().unwrap().position, 5);
    let first_segment_end = spool.shared.segments()[0].last;
    let second_segment_end = spool.shared.segments()[1].last;
    spool.retain(Timestamp(i64::MAX), second_segment_end + 1).unwrap();
    let error = behind.next().unwrap().unwrap_err();
    assert!(
        matches!(error, ReadError::Dropped { from_position: 5, to_position } if to_position == second_segment_end),
        "{error}"
    );
    assert_eq!(behind.next().unwrap().unwrap().position, second_segment_end + 1);
    // One that has the file open reads it to its end first.
    for position in 6..=first_segment_end {
        assert_eq!(inside.next().unwrap().unwrap().position, position);
    }
    assert!(matches!(inside.next(), Some(Err(ReadError::Dropped { .. }))));
    assert_eq!(inside.next().unwrap().unwrap().position, second_segment_end + 1);
}

#[test]
fn a_reader_keeps_up_with_a_writer_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = SpoolOptions {
        segment_bytes: 64 << 10,
        limit_bytes: 1 << 30,
        file_system: Arc::new(RealFileSystem),
        ..SpoolOptions::default()
    };
    let (mut spool, _) = Spool::open(folder.path(), options.clone()).unwrap();
    const COUNT: u64 = 20_000;
    let readers: Vec<_> = [spool.read(1), spool.read_durable(1), spool.read(7000)]
        .into_iter()
        .map(|mut reader| {
            let handle = spool.handle();
            std::thread::spawn(move || {
                let from = reader.next_position();
                let mut expected = from;
                while expected <= COUNT {
                    match reader.next() {
                        Some(entry) => {
                            assert_eq!(entry.unwrap(), Entry { position: expected, record: bar(expected) });
                            expected += 1;
                        }
                        None => handle.wait_durable(expected).unwrap(),
                    }
                }
                expected - from
            })
        })
        .collect();
    let records: Vec<Record> = (1..=COUNT).map(bar).collect();
    for (index, batch) in records.chunks(37).enumerate() {
        let ticket = spool.append(batch).unwrap();
        if index % 100 == 0 {
            ticket.wait().unwrap();
        }
    }
    let counts: Vec<u64> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(counts, [COUNT, COUNT, COUNT - 6999]);
    assert!(spool.stats().segments > 10);
    spool.close().unwrap();
    let (spool, recovery) = Spool::open(folder.path(), options).unwrap();
    assert_eq!((recovery.records, recovery.quarantined, recovery.torn_bytes_cut), (COUNT, vec![], 0));
    assert_eq!(read_all(&spool).last().unwrap().record, bar(COUNT));
}

#[test]
fn the_disk_probe_measures_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let times = crate::disk_sync_time(folder.path()).unwrap();
    assert!(times.count >= 1 && times.shortest <= times.median && times.median <= times.longest);
    assert!(times.shortest > Duration::ZERO);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
