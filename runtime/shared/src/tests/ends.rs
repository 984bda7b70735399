use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::{is_whole, nth, writer};
use crate::{AddError, Clock, CreateError, Options, ReadError, Reader, Slot, State, Writer};

/// In the environment of this test binary, run again as a writer: the file, and how it is to behave.
const CHILD: &str = "SHARED_TEST_CHILD";

/// Not a test by itself: the process that is killed.
#[test]
fn writes_until_killed() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (how, path) = task.split_once(' ').unwrap();
    let writer = writer(Path::new(path), 1);
    let slot = writer.add("A", "1h", 3600, "m/1").unwrap();
    for n in 1.. {
        writer.write(slot, &nth(n));
        if how == "half" && n == 1000 {
            writer.begin_write(slot);
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

fn child(how: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::ends::writes_until_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{how} {}", path.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

fn opened(path: &Path) -> (Reader, Slot) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(reader) = Reader::open(path)
            && let Some(slot) = reader.find("A", "1h", "m/1")
        {
            return (reader, slot);
        }
        assert!(Instant::now() < until, "the writer did not come up");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How long until reads say that the writer is dead.
fn until_dead(reader: &Reader, slot: Slot) -> Duration {
    let start = Instant::now();
    loop {
        let one = Instant::now();
        match reader.read(slot) {
            Err(ReadError::Dead { .. }) => return start.elapsed(),
            Err(ReadError::Torn) => {}
            Ok(read) => assert!(read.state == State::Empty || is_whole(&read), "{read:?}"),
            Err(error) => panic!("{error}"),
        }
        assert!(one.elapsed() < Duration::from_secs(1), "one read took {:?}", one.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "it never says so");
    }
}

#[test]
fn a_writer_killed_in_the_middle_of_a_write_is_dead_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let mut child = child("half", &path);
    let (reader, slot) = opened(&path);
    let until = Instant::now() + Duration::from_secs(10);
    while !matches!(reader.read(slot), Err(ReadError::Torn)) {
        assert!(Instant::now() < until, "it never stands in the middle of a write");
    }
    child.kill().unwrap();
    // A read that finds a half-made write looks for the process at once, zombie or not.
    let took = until_dead(&reader, slot);
    assert!(took < Duration::from_millis(200), "{took:?}");
    child.wait().unwrap();
    assert!(matches!(reader.read(slot), Err(ReadError::Dead { .. })));
}

#[test]
fn a_killed_writer_is_dead_within_its_limit_and_what_it_wrote_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let mut before: Option<(Reader, Slot)> = None;
    for round in 0..4 {
        let mut child = child("on", &path);
        if let Some((reader, slot)) = before.take() {
            let until = Instant::now() + Duration::from_secs(20);
            // A restarted writer puts a new file in its place and marks the old one.
            while !matches!(reader.read(slot), Err(ReadError::Closed)) {
                assert!(Instant::now() < until, "the old file is not marked closed");
            }
        }
        let (reader, slot) = opened(&path);
        std::thread::sleep(Duration::from_millis(20 + 13 * round));
        child.kill().unwrap();
        let took = until_dead(&reader, slot);
        assert!(took < Duration::from_millis(900), "the process is looked for when it is late: {took:?}");
        child.wait().unwrap();
        before = Some((reader, slot));
    }
}

#[test]
fn an_orderly_end_is_said_and_a_new_file_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let first = writer(&path, 2);
    let slot = first.add("A", "1h", 3600, "m/1").unwrap();
    first.write(slot, &nth(4));
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.read(slot).unwrap().seq, 4);
    assert!(!reader.about().closed);
    first.close();
    assert!(matches!(reader.read(slot), Err(ReadError::Closed)));
    assert_eq!(reader.read_last(slot).unwrap().seq, 4, "what was said last");
    drop(first);
    let second = writer(&path, 2);
    let slot = second.add("B", "1h", 3600, "m/1").unwrap();
    second.write(slot, &nth(8));
    assert!(matches!(reader.read(slot), Err(ReadError::Closed)), "the old file stays what it was");
    assert_eq!(Reader::open(&path).unwrap().read(slot).unwrap().seq, 8);
}

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let first = writer(&path, 1);
    let options = Options { slots: 1, mode: 0o640, clock: Clock::Wall };
    let error = Writer::create(&path, &options).err().unwrap();
    assert!(matches!(error, CreateError::InUse(_)) && error.to_string().contains("another path"), "{error}");
    assert!(Reader::open(&path).unwrap().alive().is_ok(), "the first is not disturbed");
    drop(first);
    let _second = Writer::create(&path, &options).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
    let other = Writer::create(&folder.path().join("absent/shared"), &options).err().unwrap();
    assert!(other.to_string().contains("absent"), "{other}");
}

#[test]
fn names_too_long_and_a_full_table_are_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let writer = writer(&path, 1);
    let long = "m".repeat(129);
    assert_eq!(
        writer.add("A", "1h", 3600, &long),
        Err(AddError::TooLong { field: "model", bytes: 129, max: 128 })
    );
    assert!(matches!(writer.add(&long[..33], "1h", 1, "m"), Err(AddError::TooLong { field: "symbol", .. })));
    let model = &long[..128];
    writer.add(&long[..32], &long[..16], 9, model).unwrap();
    assert_eq!(writer.add("B", "1h", 3600, "m/1"), Err(AddError::Full { slots: 1 }));
    let reader = Reader::open(&path).unwrap();
    assert_eq!((reader.about().used, reader.about().refused), (1, 3));
    let slot = reader.find(&long[..32], &long[..16], model).unwrap();
    let key = reader.key(slot).unwrap();
    assert_eq!((key.model.as_str(), key.timeframe_seconds), (model, 9));
    assert_eq!(reader.read(slot).unwrap().state, State::Empty, "nothing was written yet");
}

#[test]
fn stale_is_by_the_clock_of_the_appliance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared");
    let writer = Writer::create(&path, &Options { slots: 1, mode: 0o600, clock: Clock::Feed }).unwrap();
    let slot = writer.add("A", "1h", 3600, "m/1").unwrap();
    writer.write(slot, &nth(4));
    let reader = Reader::open(&path).unwrap();
    let read = reader.read(slot).unwrap();
    assert!(!reader.is_stale(&read), "no bar has come");
    writer.set_feed_time(read.valid_until_ns);
    assert!(!reader.is_stale(&read));
    writer.set_feed_time(read.valid_until_ns + 1);
    assert!(reader.is_stale(&read));
    writer.set_durable_seq(9);
    writer.set_durable_seq(3);
    assert_eq!((reader.durable_seq(), read.durable_seq), (9, 0));
}
