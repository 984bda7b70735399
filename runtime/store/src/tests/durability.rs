//! Group commit, those who wait for it, and what a failed sync does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::{AcknowledgeError, AppendError, DurabilityMode, RealFileSystem, SyncFailure};

#[test]
fn a_ticket_waits_for_its_sync() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    let first = spool.append(&[bar(1), bar(2)]).unwrap();
    let second = spool.append(&[bar(3)]).unwrap();
    assert_eq!((first.first, first.last, second.first, second.last), (1, 2, 3, 3));
    assert!(!first.is_durable());
    assert_eq!((spool.written_position(), spool.durable_position()), (3, 0));
    first.wait().unwrap();
    assert!(second.is_durable(), "one sync serves all that was written");
    assert_eq!(spool.durable_position(), 3);
    assert_eq!(spool.stats().syncs.syncs, 1);
}

#[test]
fn an_empty_batch_has_the_ticket_of_what_was_before() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    assert!(spool.append(&[]).unwrap().is_durable());
    spool.append(&[bar(1)]).unwrap();
    let empty = spool.append(&[]).unwrap();
    assert_eq!((empty.first, empty.last), (2, 1));
    empty.wait().unwrap();
    assert_eq!(spool.durable_position(), 1);
}

#[test]
fn a_write_is_synced_in_time_without_anybody_waiting() {
    let fs = SimFileSystem::new();
    let mut options = options(&fs);
    options.sync_interval = Duration::from_millis(5);
    let (mut spool, _) = Spool::open(Path::new(DIR), options).unwrap();
    for n in 1..=3 {
        let ticket = spool.append(&[bar(n)]).unwrap();
        let start = Instant::now();
        while !ticket.is_durable() {
            assert!(start.elapsed() < Duration::from_secs(10), "write {n} stays unsynced");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn one_sync_serves_many() {
    let folder = tempfile::tempdir().unwrap();
    let options = SpoolOptions { file_system: Arc::new(RealFileSystem), ..SpoolOptions::default() };
    let (mut spool, _) = Spool::open(folder.path(), options).unwrap();
    let (sender, receiver) = mpsc::channel();
    for n in 1..=500 {
        let sender = sender.clone();
        let ticket = spool.append(&[bar(n)]).unwrap();
        ticket.on_durable(move |result| sender.send((n, result)).unwrap());
    }
    drop(sender);
    let answers: Vec<(u64, Result<u64, SyncFailure>)> = receiver.iter().collect();
    assert_eq!(answers.len(), 500);
    assert!(answers.iter().all(|(n, result)| result.as_ref().is_ok_and(|durable| durable >= n)));
    let syncs = spool.stats().syncs.syncs;
    assert!(syncs < 250, "{syncs} syncs for 500 waiting batches");
}

#[test]
fn callbacks_come_once_and_a_panic_in_one_stops_nothing() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    let count = Arc::new(AtomicUsize::new(0));
    let counted = || {
        let count = Arc::clone(&count);
        move |_: Result<u64, SyncFailure>| {
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    let ticket = spool.append(&[bar(1)]).unwrap();
    ticket.on_durable(|_| panic!("a careless caller (this panic belongs to the test)"));
    ticket.on_durable(counted());
    ticket.wait().unwrap();
    ticket.on_durable(counted());
    let (sender, receiver) = mpsc::channel();
    spool.append(&[bar(2)]).unwrap().on_durable(move |result| sender.send(result).unwrap());
    assert_eq!(receiver.recv().unwrap(), Ok(2));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn closing_syncs_and_answers_everybody() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    let handle = spool.handle();
    let (sender, receiver) = mpsc::channel();
    spool.append(&[bar(1)]).unwrap();
    handle.on_durable(2, move |result| sender.send(result).unwrap());
    spool.close().unwrap();
    assert_eq!(handle.durable_position(), 1);
    assert_eq!(receiver.recv().unwrap().unwrap_err().doing, "spool closed");
    assert!(handle.wait_durable(2).is_err());
    assert!(matches!(handle.register("late"), Err(AcknowledgeError::Closed(_))));
    fs.crash(&mut Seeded(1));
    assert_eq!(open(&fs).1.records, 1);
}

#[test]
fn a_failed_sync_is_final() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    spool.append(&[bar(1)]).unwrap().wait().unwrap();
    let lost = spool.append(&[bar(2)]).unwrap();
    let (sender, receiver) = mpsc::channel();
    fs.fail_data_sync_after(0);
    lost.on_durable(move |result| sender.send(result).unwrap());
    let failure = receiver.recv().unwrap().unwrap_err();
    assert_eq!((failure.doing, failure.durable_position), ("fdatasync of the segment", 1));
    // The next sync would succeed, and prove nothing.
    assert_eq!(lost.wait(), Err(failure.clone()));
    assert!(matches!(spool.append(&[bar(3)]), Err(AppendError::Poisoned(f)) if f == failure));
    assert!(spool.retain(Timestamp(i64::MAX), u64::MAX).is_err());
    assert_eq!(spool.stats().failure, Some(failure.clone()));
    assert_eq!(spool.durable_position(), 1);
    spool.wait_durable(1).unwrap();
    assert_eq!(spool.close(), Err(failure));
    fs.crash(&mut Seeded(5));
    let (spool, recovery) = open(&fs);
    assert!(recovery.last_position >= 1);
    assert_eq!(read_all(&spool)[0].record, bar(1));
}

#[test]
fn a_failed_sync_between_segments_is_final_too() {
    for good in 0..3 {
        let fs = SimFileSystem::new();
        let (mut spool, _) = open(&fs);
        fs.fail_data_sync_after(good);
        let error = (1..1000).find_map(|n| spool.append(&[bar(n)]).err()).unwrap();
        assert!(matches!(error, AppendError::Poisoned(_)), "{error}");
        let durable = spool.durable_position();
        drop(spool);
        fs.crash(&mut Seeded(good));
        assert!(open(&fs).1.last_position >= durable);
    }
}

#[test]
fn synced_is_durable_before_it_is_visible() {
    let fs = SimFileSystem::new();
    let mut options = options(&fs);
    options.durability = DurabilityMode::Synced;
    let (mut spool, _) = Spool::open(Path::new(DIR), options).unwrap();
    let ticket = spool.append(&[bar(1)]).unwrap();
    assert!(ticket.is_durable());
    assert_eq!(read_all(&spool).len(), 1);
    fs.fail_data_sync_after(0);
    assert!(matches!(spool.append(&[bar(2)]), Err(AppendError::Poisoned(_))));
    assert_eq!((spool.written_position(), read_all(&spool).len()), (1, 1), "what isn't synced isn't seen");
}

#[test]
fn written_survives_a_killed_process() {
    let fs = SimFileSystem::new();
    let (mut spool, _) = open(&fs);
    spool.append(&[bar(1), prediction(1)]).unwrap();
    fs.kill();
    drop(spool);
    let (spool, recovery) = open(&fs);
    assert_eq!((recovery.last_position, recovery.last_prediction_seq), (2, 1));
    assert_eq!(spool.durable_position(), 2);
    fs.crash(&mut Seeded(7));
    drop(spool);
    assert_eq!(open(&fs).1.last_position, 2, "recovery made it durable");
}

#[test]
fn a_second_opener_is_refused_and_told_by_whom() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SpoolOptions { file_system: Arc::new(RealFileSystem), ..SpoolOptions::default() };
    let (spool, _) = Spool::open(folder.path(), options()).unwrap();
    let error = Spool::open(folder.path(), options()).unwrap_err();
    let expected = format!("in use by process {}; stop it or choose another folder", std::process::id());
    assert!(error.to_string().ends_with(&expected), "{error}");
    drop(spool);
    Spool::open(folder.path(), options()).unwrap();
}
