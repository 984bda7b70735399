use std::time::Instant;

use market::{Book, FeatureErrorKind, Features, Level, Side, StreamId, Symbol, Text, Timestamp, Trade};

use super::*;
use crate::causality::{CausalityError, Check, check_synthetic};
use crate::synthetic::synthetic_bars;

/// Feeds ten bars one by one; the first error.
fn run(plugin: &mut FeaturePlugin) -> Result<Vec<f32>, FeatureError> {
    let stream = plugin.open()?;
    let mut rows = Vec::new();
    let mut row = Vec::new();
    for bar in synthetic_bars(1, 10) {
        plugin.on_bar(stream, &bar, &mut row)?;
        rows.extend_from_slice(&row);
    }
    Ok(rows)
}

fn fails(mode: &str) -> FeatureError {
    let mut plugin = hostile(mode).expect("opens");
    let error = run(&mut plugin).expect_err(mode);
    assert_eq!(error.plugin, "hostile-features@0.1.0");
    if error.kind.lost_streams() {
        let gone = plugin.open().expect_err("the instance is gone");
        assert_eq!(gone.kind, FeatureErrorKind::Instantiate);
        assert!(gone.message.contains(&error.message), "{gone}");
        plugin.rebuild().expect("a new instance");
    }
    // The host goes on: the same fails again in the same way, and the honest mode is as ever.
    assert_eq!(run(&mut plugin).expect_err(mode), error);
    assert_eq!(run(&mut hostile("honest").expect("opens")).expect("honest").len(), 20);
    error
}

#[test]
fn a_panic_names_file_line_and_message() {
    let error = fails("panic");
    assert_eq!(error.kind, FeatureErrorKind::Trap);
    assert_eq!(error.message, "on-bar panicked: no rows after bar 3");
    let place = error.place.clone().expect("a place");
    let (file, line) = place.rsplit_once(':').expect("file and line");
    assert!(file.ends_with("src/lib.rs"), "{place}");
    let line: usize = line.parse().expect("a line");
    let source = include_str!("../../../../plugins/hostile/features/src/lib.rs");
    assert!(source.lines().nth(line - 1).is_some_and(|l| l.contains("no rows after bar")), "{place}");
    assert!(error.to_string().ends_with(&format!("no rows after bar 3 (at {place})")), "{error}");
}

#[test]
fn an_index_out_of_bounds_is_a_panic_like_any_other() {
    let error = fails("index");
    assert_eq!(error.kind, FeatureErrorKind::Trap);
    assert!(error.message.contains("index out of bounds: the len is 2"), "{error}");
    assert!(error.place.is_some_and(|p| p.contains("src/lib.rs:")));
}

#[test]
fn an_abort_without_a_message_is_placed_by_the_line_tables() {
    let error = fails("abort");
    assert_eq!(error.kind, FeatureErrorKind::Trap);
    assert!(error.message.contains("on-bar aborted without a message"), "{error}");
    assert!(error.place.as_ref().is_some_and(|p| p.contains("src/lib.rs:")), "{error}");
}

#[test]
fn a_stack_overflow_is_called_one() {
    let error = fails("stack");
    assert_eq!(error.kind, FeatureErrorKind::Trap);
    assert!(error.message.contains("stack"), "{error}");
}

#[test]
fn a_memory_flood_is_stopped_at_the_limit() {
    let error = fails("memory");
    assert_eq!(error.kind, FeatureErrorKind::Memory);
    assert!(error.message.contains("its limit is 24.0 MiB"), "{error}");
}

#[test]
fn an_endless_loop_is_stopped_at_the_deadline() {
    let start = Instant::now();
    let error = fails("loop");
    assert_eq!(error.kind, FeatureErrorKind::Timeout);
    assert_eq!(error.message, "on-bar took longer than 200 ms");
    assert!(start.elapsed().as_millis() >= 400, "twice the deadline, since it ran twice");
    let mut plugin = hostile("loop-in-batch").expect("opens");
    let stream = plugin.open().expect("opens");
    let error = plugin.on_bars(stream, &synthetic_bars(1, 3), &mut Vec::new()).expect_err("loops");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (FeatureErrorKind::Timeout, "on-bars took longer than 1000 ms")
    );
}

#[test]
fn open_can_panic_loop_and_refuse() {
    let error = hostile("panic-in-open").expect_err("panics");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (FeatureErrorKind::Trap, "open panicked: bad option in open")
    );
    let error = hostile("loop-in-open").expect_err("loops");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (FeatureErrorKind::Timeout, "open took longer than 1000 ms")
    );
    let error = hostile("refuse-open").expect_err("refuses");
    assert_eq!(error.kind, FeatureErrorKind::Refused);
    assert_eq!(error.message, "open refused: these options don't go together");
}

#[test]
fn options_are_checked_before_the_guest_sees_them() {
    let error = hostile("no-such-mode").expect_err("refused");
    assert_eq!(error.kind, FeatureErrorKind::Refused);
    assert!(
        error.message.contains("option \"mode\" is \"no-such-mode\"; it must be one of honest, panic"),
        "{error}"
    );
    let filled = hostile("honest").expect("opens").options().to_string();
    assert_eq!(filled, r#"{"at":3,"mode":"honest"}"#);
}

#[test]
fn rows_must_be_finite_and_of_the_right_length() {
    let error = fails("nan");
    assert_eq!(error.kind, FeatureErrorKind::NotFinite);
    assert!(error.message.starts_with("column range of row 3 is NaN; after 1 rows of warm-up"), "{error}");
    assert!(fails("infinite").message.contains("column range of row 3 is -inf"));
    let error = fails("short");
    assert_eq!(error.kind, FeatureErrorKind::RowLength);
    assert_eq!(error.message, "a row has 1 numbers; its spec names 2 columns");
    assert!(fails("long").message.contains("a row has 3 numbers"));

    let mut plugin = hostile("batch-short").expect("opens");
    let stream = plugin.open().expect("opens");
    let mut rows = vec![7.0];
    let error = plugin.on_bars(stream, &synthetic_bars(1, 5), &mut rows).expect_err("short");
    assert_eq!(error.message, "5 bars gave 9 numbers, not 10: its spec names 2 columns");
    assert_eq!(rows, [7.0], "nothing is appended");
}

#[test]
fn nans_of_the_warmup_have_one_bit_pattern() {
    let rows = run(&mut hostile("nan-early").expect("opens")).expect("within the warm-up");
    assert!(rows[..2].iter().all(|x| x.to_bits() == f32::NAN.to_bits()), "{rows:?}");
}

#[test]
fn a_refusal_leaves_the_stream_alive() {
    let mut plugin = hostile("refuse").expect("opens");
    let stream = plugin.open().expect("opens");
    let bars = synthetic_bars(1, 10);
    let mut row = Vec::new();
    for bar in &bars[..3] {
        plugin.on_bar(stream, bar, &mut row).expect("not yet");
    }
    for bar in &bars[3..] {
        let error = plugin.on_bar(stream, bar, &mut row).expect_err("refuses");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (FeatureErrorKind::Refused, "on-bar refused: no rows after bar 3")
        );
    }
    let error = fails("error-huge");
    assert_eq!(error.kind, FeatureErrorKind::Refused);
    assert!(error.message.len() < 1_100);
}

#[test]
fn a_wrong_spec_says_what_is_wrong() {
    let spec = |mode: &str| {
        let error = hostile(mode).expect_err(mode);
        assert_eq!(error.kind, FeatureErrorKind::Instantiate);
        error.message
    };
    assert!(spec("names-none").contains("its spec is wrong: it has 0 columns; 1 to 1024 go"));
    assert!(spec("names-many").contains("it has 100000 columns"));
    assert!(spec("names-long").contains("must be named by 1 to 64 visible ASCII"));
    assert!(spec("names-control").contains("must be named by"));
    assert!(spec("names-twice").contains("two columns are named \"change\""));
    assert!(spec("warmup-huge").contains("its warm-up is 4294967295 rows; at most 100000 go"));
    assert!(spec("peers-huge").contains("it wants 4294967295 peers; at most 64 go"));
}

#[test]
fn a_destructor_that_panics_is_seen_at_the_next_call() {
    let error = hostile("panic-in-drop").expect_err("the spec's stream is dropped");
    assert_eq!((error.kind, error.message.as_str()), (FeatureErrorKind::Trap, "drop panicked: dropped"));
}

#[test]
fn streams_that_are_not_there_are_refused() {
    let mut plugin = hostile("honest").expect("opens");
    let bar = &synthetic_bars(1, 1)[0];
    let first = plugin.open().expect("opens");
    plugin.close(first);
    let second = plugin.open().expect("opens");
    assert_ne!(first, second, "a closed stream's id is not given again");
    let mut row = Vec::new();
    for gone in [first, StreamId(0), StreamId(usize::MAX)] {
        assert_eq!(plugin.on_bar(gone, bar, &mut row).expect_err("gone").kind, FeatureErrorKind::NoStream);
    }
    plugin.close(StreamId(12_345));
    plugin.on_bar(second, bar, &mut row).expect("open");
    plugin.rebuild().expect("a new instance");
    assert_eq!(plugin.on_bar(second, bar, &mut row).expect_err("lost").kind, FeatureErrorKind::NoStream);
    assert_eq!(plugin.snapshot(second).expect_err("lost").kind, FeatureErrorKind::NoStream);
}

#[test]
fn streams_are_limited() {
    let limits = PluginLimits { streams_max: 3, ..limits() };
    let host = Host::new(HostOptions { limits, ..HostOptions::default() }).expect("starts");
    let component = host.load(&path("hostile-features.wasm")).expect("loads");
    let mut plugin = FeaturePlugin::new(&component, &Map::new()).expect("opens");
    let streams: Vec<StreamId> = (0..3).map(|_| plugin.open().expect("within the limit")).collect();
    assert!(plugin.open().expect_err("too many").message.contains("3 streams are open"));
    plugin.close(streams[1]);
    plugin.open().expect("one was closed");
}

#[test]
fn snapshots_carry_the_warmup_count() {
    let bars = synthetic_bars(1, 20);
    let mut plugin = hostile("honest").expect("opens");
    let stream = plugin.open().expect("opens");
    plugin.on_bars(stream, &bars[..10], &mut Vec::new()).expect("honest");
    let state = plugin.snapshot(stream).expect("honest");
    let mut forgetful = hostile("forgets").expect("opens");
    assert!(
        forgetful.restore(&state).expect_err("other options").message.contains("with other options"),
        "the options belong to the state"
    );
    let stream = forgetful.open().expect("opens");
    forgetful.on_bars(stream, &bars[..10], &mut Vec::new()).expect("honest so far");
    let state = forgetful.snapshot(stream).expect("honest so far");
    let stream = forgetful.restore(&state).expect("opens");
    // Its first row is NaN again, but the stream is past its warm-up.
    let error = forgetful.on_bar(stream, &bars[10], &mut Vec::new()).expect_err("NaN");
    assert!(error.message.contains("column change of row 10 is NaN"), "{error}");
}

#[test]
fn bad_snapshots_are_refused() {
    let mut plugin = hostile("honest").expect("opens");
    let stream = plugin.open().expect("opens");
    let mut state = plugin.snapshot(stream).expect("honest");
    state[90] ^= 1;
    for bad in [&[][..], b"hello", &state[..], &state[..20]] {
        let error = plugin.restore(bad).expect_err("damaged");
        assert_eq!(error.kind, FeatureErrorKind::Refused);
        assert!(error.message.contains("damaged"), "{error}");
    }
    let frozen = host().load(&path("frozen-0.1.0-features.wasm")).expect("loads");
    let mut frozen = FeaturePlugin::new(&frozen, &Map::new()).expect("opens");
    let other = frozen.open().expect("opens");
    let other = frozen.snapshot(other).expect("honest");
    assert!(plugin.restore(&other).expect_err("foreign").message.contains("another component"));

    let restore = |mode: &str| {
        let mut plugin = hostile(mode).expect("opens");
        let stream = plugin.open()?;
        let state = plugin.snapshot(stream)?;
        plugin.restore(&state)
    };
    assert_eq!(restore("restore-refuses").expect_err("refuses").message, "restore refused: unknown state");
    assert_eq!(restore("restore-panics").expect_err("panics").message, "restore panicked: state of 24 bytes");
    let huge = restore("snapshot-huge").expect_err("20 MiB");
    assert_eq!(huge.kind, FeatureErrorKind::Memory);
    assert_eq!(huge.message, "snapshot gave more than 16 MiB in one call");
    let small = Host::new(HostOptions {
        limits: PluginLimits { state_bytes_max: 23, ..limits() },
        ..HostOptions::default()
    });
    let component = small.expect("starts").load(&path("hostile-features.wasm")).expect("loads");
    let mut plugin = FeaturePlugin::new(&component, &Map::new()).expect("opens");
    let stream = plugin.open().expect("opens");
    let error = plugin.snapshot(stream).expect_err("24 bytes");
    assert_eq!(error.message, "its snapshot has 24 bytes; at most 23 go (state_bytes_max)");
}

#[test]
fn a_log_flood_is_cut_down_and_the_rows_are_right() {
    let (host, kept) = host_with_log();
    let component = host.load(&path("hostile-features.wasm")).expect("loads");
    let mut flood = FeaturePlugin::new(&component, &options(json!({"mode": "log-flood"}))).expect("opens");
    let rows = run(&mut flood).expect("it is no failure");
    assert_eq!(rows[2..], run(&mut hostile("honest").expect("opens")).expect("honest")[2..]);
    let lines = std::mem::take(&mut *kept.0.lock().expect("no panic"));
    assert!((200..2_000).contains(&lines.len()), "{} of 70,000 lines", lines.len());
    assert_eq!(lines[0], ("hostile-features@0.1.0".into(), LogLevel::Info, "message 0".into()));

    let mut long =
        FeaturePlugin::new(&component, &options(json!({"mode": "log-long", "at": 9}))).expect("opens");
    run(&mut long).expect("it is no failure");
    let lines = kept.0.lock().expect("no panic");
    assert!(lines[0].2.len() < 1_100 && lines[0].2.ends_with('…'));
}

#[test]
fn the_causality_check_catches_the_planted_faults() {
    let caught = |mode: &str| match check_synthetic(&mut hostile(mode).expect("opens")) {
        Err(CausalityError::Differs { check, column, plugin, .. }) => {
            assert_eq!(plugin, "hostile-features@0.1.0");
            (check, column)
        }
        other => panic!("{mode} is not caught: {other:?}"),
    };
    assert_eq!(caught("look-ahead"), (Check::LookAhead, "change".into()));
    assert_eq!(caught("batch-differs"), (Check::Batch, "range".into()));
    assert_eq!(caught("leak").1, "range");
    let forgets = check_synthetic(&mut hostile("forgets").expect("opens"));
    assert!(
        matches!(
            &forgets,
            Err(CausalityError::Differs { check: Check::Snapshot, .. }
                | CausalityError::Failed { check: Check::Snapshot, .. })
        ),
        "{forgets:?}"
    );
    let late = check_synthetic(&mut hostile("nan").expect("opens"));
    assert!(matches!(late, Err(CausalityError::Failed { check: Check::Plain, .. })), "{late:?}");
    check_synthetic(&mut hostile("honest").expect("opens")).expect("honest");
}

#[test]
fn every_event_reaches_the_guest() {
    let symbol = Symbol::new("BTC").expect("valid");
    let mut plugin = hostile("honest").expect("opens");
    let stream = plugin.open().expect("opens");
    let before = plugin.snapshot(stream).expect("honest");
    let time = Timestamp(1);
    let trade = Trade { symbol: symbol.clone(), time, price: 1.0, size: 2.0, side: Side::Buy };
    plugin.on_trade(stream, &trade).expect("taken");
    assert_ne!(plugin.snapshot(stream).expect("honest"), before, "the trade is counted");
    let mut book =
        Book { symbol: symbol.clone(), time, bids: vec![Level { price: 1.0, size: 1.0 }], asks: vec![] };
    plugin.on_book(stream, &book).expect("taken");
    book.bids.clear();
    assert_eq!(plugin.on_book(stream, &book).expect_err("empty").message, "on-book refused: an empty book");
    let mut text =
        Text { received_at: time, source: "wire".into(), symbols: vec![symbol], text: "news".into() };
    plugin.on_text(stream, &text).expect("taken");
    text.text.clear();
    assert_eq!(plugin.on_text(stream, &text).expect_err("empty").message, "on-text refused: an empty text");
    let bar = &synthetic_bars(1, 1)[0];
    plugin.on_peer_bar(stream, 1, bar).expect("taken");
    assert_eq!(plugin.on_peer_bar(stream, 2, bar).expect_err("no such peer").kind, FeatureErrorKind::Refused);
}

#[test]
fn long_batches_are_cut_without_a_trace() {
    let bars = synthetic_bars(5, 3_000);
    let mut plugin = hostile("honest").expect("opens");
    let whole = plugin.open().expect("opens");
    let single = plugin.open().expect("opens");
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    plugin.on_bars(whole, &bars, &mut rows).expect("honest");
    assert_eq!(rows.len(), 6_000);
    for (bar, expected) in bars.iter().zip(rows.chunks(2)) {
        plugin.on_bar(single, bar, &mut row).expect("honest");
        assert!(row.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn a_batch_that_fails_in_the_middle_gives_nothing() {
    let limits = PluginLimits { batch_bars_max: 4, ..limits() };
    let host = Host::new(HostOptions { limits, ..HostOptions::default() }).expect("starts");
    let component = host.load(&path("hostile-features.wasm")).expect("loads");
    let mut plugin =
        FeaturePlugin::new(&component, &options(json!({"mode": "nan", "at": 6}))).expect("opens");
    let stream = plugin.open().expect("opens");
    let mut rows = vec![7.0];
    let error = plugin.on_bars(stream, &synthetic_bars(1, 10), &mut rows).expect_err("NaN in row 6");
    assert!(error.message.starts_with("column range of row 6 is NaN"), "{error}");
    assert_eq!(rows, [7.0]);
}
