//! Numbers, chain, rotation, torn tails, many writers, and kills.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn event(n: u64) -> Event {
    Event {
        at: Timestamp::from_seconds(1_700_000_000 + n as i64),
        kind: EventKind::GateVerdict,
        who: "tester".into(),
        model: "btc/2".into(),
        why: format!("because of \"{n}\""),
        detail: json!({ "n": n, "text": "}\",\"chain\":\"" }),
    }
}

fn write(events: &Events, which: std::ops::Range<u64>) {
    for n in which {
        events.append(&event(n)).unwrap();
    }
}

fn numbers(events: &Events) -> Vec<u64> {
    events.read().unwrap().iter().map(|r| r.number).collect()
}

#[test]
fn what_is_appended_is_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let events = Events::open(&path).unwrap();
    assert_eq!(events.read().unwrap(), []);
    for n in 0..5 {
        assert_eq!(events.append(&event(n)).unwrap(), n);
    }
    let read = Events::open(&path).unwrap().read().unwrap();
    let expected: Vec<Recorded> = (0..5).map(|n| Recorded { number: n, event: event(n) }).collect();
    assert_eq!(read, expected);
    assert_eq!(events.after(3).unwrap(), expected[3..]);
    assert_eq!(events.after(9).unwrap(), []);
    let json = serde_json::to_value(&read[0]).unwrap();
    assert_eq!((&json["kind"], &json["detail"]["n"]), (&json!("gate_verdict"), &json!(0)));
}

#[test]
fn a_changed_line_is_found_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let events = Events::open(&path).unwrap();
    write(&events, 0..4);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let altered = |text: &str| {
        fs::write(&path, text).unwrap();
        match events.read() {
            Err(EventsError::Altered { line, .. }) => line,
            other => panic!("{other:?}"),
        }
    };
    for (at, line) in lines.iter().enumerate() {
        let changed = line.replace("tester", "nobody");
        assert_eq!(altered(&text.replace(line, &changed)), at + 1);
    }
    let without = |gone: usize| -> String {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != gone);
        kept.map(|(_, line)| format!("{line}\n")).collect()
    };
    assert_eq!(altered(&without(1)), 2);
    assert_eq!(altered(&format!("{}\n{text}", lines[3])), 2);
    fs::write(&path, text.replace("tester", "nobody")).unwrap();
    let error = events.append(&event(4)).unwrap_err();
    assert!(error.to_string().contains("restore"), "{error}");
    assert!(Events::open(&path).is_err(), "an altered end shows when the log is opened");
}

#[test]
fn what_a_killed_writer_left_is_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let events = Events::open(&path).unwrap();
    write(&events, 0..2);
    let whole = fs::read(&path).unwrap();
    let third = {
        events.append(&event(2)).unwrap();
        fs::read(&path).unwrap()[whole.len()..].to_vec()
    };
    for cut in 0..third.len() {
        fs::write(&path, [&whole, &third[..cut]].concat()).unwrap();
        assert_eq!(numbers(&events), [0, 1], "cut at {cut}");
        assert_eq!(events.append(&event(2)).unwrap(), 2);
        assert_eq!(fs::read(&path).unwrap(), [&whole[..], &third[..]].concat(), "cut at {cut}");
    }
    // Nothing but a torn line.
    fs::write(&path, &third[..9]).unwrap();
    assert_eq!(events.append(&event(0)).unwrap(), 0);
    assert_eq!(numbers(&events), [0]);
}

#[test]
fn full_files_are_put_aside_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let limits = EventLimits { file_bytes_max: 1200, files_max: 3 };
    let events = Events::with_limits(&path, limits).unwrap();
    (0..40).for_each(|n| assert_eq!(events.append(&event(n)).unwrap(), n));
    let kept = numbers(&events);
    assert_eq!(*kept.last().unwrap(), 39);
    assert!(kept[0] > 20 && kept.len() >= 8, "{kept:?}");
    assert!(kept.windows(2).all(|w| w[0] + 1 == w[1]));
    let size = |e: fs::DirEntry| e.metadata().unwrap().len();
    let total: u64 = fs::read_dir(dir.path()).unwrap().map(|e| size(e.unwrap())).sum();
    assert!(total <= 4 * 1200, "{total}");
    assert_eq!(events.after(38).unwrap().len(), 2);
    // A kill between the renaming and the next line: the log goes on behind the full file.
    while path.exists() {
        fs::remove_file(&path).unwrap();
    }
    let next = numbers(&events).last().unwrap() + 1;
    assert_eq!(events.append(&event(7)).unwrap(), next);
    let read = numbers(&events);
    assert!(read.windows(2).all(|w| w[0] + 1 == w[1]), "{read:?}");
    // A full file that is missing in the middle shows.
    let mut full: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().contains("log-"))
        .collect();
    full.sort();
    fs::remove_file(&full[1]).unwrap();
    assert!(matches!(events.read(), Err(EventsError::Altered { line: 1, .. })));
}

#[test]
fn what_can_t_be_a_line_is_refused_and_nothing_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let events = Events::open(&path).unwrap();
    let refused = |event: Event| match events.append(&event) {
        Err(EventsError::Event(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refused(Event { why: "two\nlines".into(), ..event(0) }).contains("control"));
    assert!(refused(Event { detail: json!([1]), ..event(0) }).contains("object"));
    let long = "x".repeat(LINE_BYTES_MAX);
    assert!(refused(Event { detail: json!({ "long": long }), ..event(0) }).contains("at most"));
    assert!(!path.exists());
    assert!(Events::open(dir.path()).is_err(), "a folder is no log");
    let absent = Events::open(&dir.path().join("absent").join("events.jsonl")).unwrap();
    assert!(matches!(absent.append(&event(0)), Err(EventsError::Io { .. })));
}

#[test]
fn many_write_at_once_while_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let limits = EventLimits { file_bytes_max: 4096, files_max: 100 };
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let events = Events::with_limits(&path, limits).unwrap();
            scope.spawn(move || write(&events, writer * 25..(writer + 1) * 25));
        }
        let events = Events::with_limits(&path, limits).unwrap();
        scope.spawn(move || {
            for _ in 0..50 {
                let read = numbers(&events);
                assert_eq!(read, (0..read.len() as u64).collect::<Vec<_>>());
            }
        });
    });
    let events = Events::with_limits(&path, limits).unwrap();
    let read = events.read().unwrap();
    let mut seen: Vec<u64> = read.iter().map(|r| r.event.detail["n"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

const CHILD: &str = "EVENTS_TEST_CHILD";

/// Appends without end where the variable names a log: the process that the next test kills.
#[test]
fn child_that_appends() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let limits = EventLimits { file_bytes_max: 3000, files_max: 10_000 };
    let events = Events::with_limits(Path::new(&path), limits).unwrap();
    for n in 0.. {
        let number = events.append(&event(n)).unwrap();
        // Said only when it is durable.
        writeln!(std::io::stderr(), "appended {number}").unwrap();
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let limits = EventLimits { file_bytes_max: 3000, files_max: 10_000 };
    let full = std::env::var("TEST_COUNTS").is_ok_and(|counts| counts == "full");
    let rounds = if full { 200 } else { 12 };
    let mut acknowledged = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["events::tests::child_that_appends", "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while numbers(&Events::with_limits(&path, limits).unwrap()).len() <= acknowledged {
            assert!(Instant::now() < until, "the child writes nothing");
        }
        std::thread::sleep(Duration::from_micros(137 * round));
        child.kill().unwrap();
        let said = child.wait_with_output().unwrap().stderr;
        let said = String::from_utf8_lossy(&said).lines().filter(|l| l.starts_with("appended ")).count();
        let events = Events::with_limits(&path, limits).unwrap();
        let read = numbers(&events);
        assert_eq!(read, (0..read.len() as u64).collect::<Vec<_>>(), "round {round}");
        assert!(read.len() >= acknowledged + said, "round {round}: {} < {acknowledged} + {said}", read.len());
        events.append(&event(round)).unwrap();
        acknowledged = read.len() + 1;
    }
}
