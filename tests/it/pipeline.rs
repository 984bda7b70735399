//! The data path over a simulated disk: full, failing, and with segments gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::appliance::config::{Clock, DurabilityMode};
use ::appliance::ingest::{self, Incoming};
use ::appliance::load::{self, Parts};
use ::appliance::metrics::Metrics;
use ::appliance::pipeline::{Pipeline, PipelineOptions};
use ::appliance::queue::Outcome;
use ::appliance::recover;
use ::appliance::swap;
use ::appliance::visible::{Filter, Visible};
use store::sim::SimFileSystem;
use store::{FileSystem, OnFull, Spool, SpoolOptions};

use registry::{Author, Registry, Version};

use crate::appliance::harness::{ModelSpec, Setup, bar, setup};

fn pipeline(setup: &Setup, disk: &SimFileSystem, limit_bytes: u64) -> Pipeline {
    pipeline_of(setup, disk, limit_bytes, 16)
}

fn pipeline_of(setup: &Setup, disk: &SimFileSystem, limit_bytes: u64, places: usize) -> Pipeline {
    let settings = ::appliance::config::load(None, &setup.settings).unwrap();
    let parts = Parts::new(&settings).unwrap();
    let options = SpoolOptions {
        segment_bytes: 1 << 18,
        limit_bytes,
        on_full: OnFull::DropOldest,
        file_system: Arc::new(disk.clone()) as Arc<dyn FileSystem>,
        ..SpoolOptions::default()
    };
    let (spool, recovery) = Spool::open(Path::new("/spool"), options).unwrap();
    let mut pipeline = Pipeline {
        deployments: load::deployments(&parts, &settings, places).unwrap().into_iter().enumerate().collect(),
        known: Default::default(),
        unprepared: Default::default(),
        explaining: None,
        visible_at: None,
        streams: Default::default(),
        next_seq: recovery.last_prediction_seq + 1,
        spool,
        visible: Arc::new(Visible::new(Clock::Feed, 100_000)),
        metrics: Arc::new(Metrics::default()),
        options: PipelineOptions {
            durability: DurabilityMode::Written,
            streams_max: 100,
            keep_bars: 64,
            stale_after_bars: 2.0,
            predictions_in_memory: 100_000,
            history: Duration::from_secs(3600),
        },
    };
    recover::restart(&mut pipeline, &|name, digest| parts.about(name, digest)).unwrap();
    pipeline
}

fn incoming(n: u64) -> Incoming {
    ingest::parse(bar("A", n).as_bytes(), 1).unwrap().remove(0).1.unwrap()
}

fn step(p: &mut Pipeline, n: u64) -> Result<Outcome, String> {
    p.step(&[&incoming(n)]).map(|(mut outcomes, _)| outcomes.remove(0)).map_err(|e| e.0)
}

/// (seq, bits of the value) of every prediction that polls can see.
fn seen(p: &Pipeline) -> Vec<(u64, u32)> {
    let (made, _) = p.visible.since(0, &Filter::default(), 1_000_000);
    let value = |body: &str| {
        let json: serde_json::Value = serde_json::from_str(&format!("{body}}}")).unwrap();
        (json["value"].as_f64().unwrap() as f32).to_bits()
    };
    made.iter().map(|m| (m.seq, value(&m.body))).collect()
}

const BARS: u64 = 700;

fn undisturbed(setup: &Setup) -> Vec<(u64, u32)> {
    let mut p = pipeline(setup, &SimFileSystem::new(), 1 << 30);
    for n in 0..BARS {
        assert_eq!(step(&mut p, n), Ok(Outcome::Accepted));
    }
    seen(&p)
}

#[test]
fn a_full_disk_refuses_bars_and_loses_none() {
    let setup = setup(&ModelSpec::default());
    let disk = SimFileSystem::new();
    let mut p = pipeline(&setup, &disk, 1 << 30);
    let mut refused = 0;
    for n in 0..BARS {
        if n % 90 == 40 || n == 256 + 63 {
            disk.set_space(Some(disk.used_bytes() + 60));
            let error = step(&mut p, n).unwrap_err();
            assert!(error.contains("no bar of this request was taken") && error.contains("space"), "{error}");
            assert!(step(&mut p, n).is_err(), "and again");
            refused += 2;
            disk.set_space(None);
        }
        assert_eq!(step(&mut p, n), Ok(Outcome::Accepted), "bar {n} is not taken for a duplicate");
        assert_eq!(step(&mut p, n), Ok(Outcome::Duplicate));
    }
    assert!(refused > 10);
    assert_eq!(seen(&p), undisturbed(&setup));
}

#[test]
fn segments_that_went_leave_enough_to_start_again() {
    let setup = setup(&ModelSpec::default());
    let disk = SimFileSystem::new();
    let calm = undisturbed(&setup);
    let limit = 3 << 18;
    let mut p = pipeline(&setup, &disk, limit);
    for n in 0..BARS {
        assert_eq!(step(&mut p, n), Ok(Outcome::Accepted));
        if n % 101 == 100 {
            let before = seen(&p);
            drop(p);
            p = pipeline(&setup, &disk, limit);
            let after = seen(&p);
            assert_eq!(after.last(), before.last(), "after {n}");
        }
    }
    assert_eq!(seen(&p).last(), calm.last());
    assert!(disk.used_bytes() <= limit + (1 << 18));
}

#[test]
fn a_failed_sync_ends_the_data_path() {
    let setup = setup(&ModelSpec::default());
    let disk = SimFileSystem::new();
    let mut p = pipeline(&setup, &disk, 1 << 30);
    for n in 0..5 {
        let (_, position) = p.step(&[&incoming(n)]).unwrap();
        p.spool.handle().wait_durable(position).unwrap();
    }
    disk.fail_data_sync_after(0);
    let (_, position) = p.step(&[&incoming(5)]).unwrap();
    assert!(p.spool.handle().wait_durable(position).is_err(), "not acknowledged");
    let error = step(&mut p, 6).unwrap_err();
    assert!(error.contains("spool stopped"), "{error}");
}

#[test]
fn a_revision_that_meets_a_lost_instance_leaves_nothing_stale() {
    let setup = setup(&ModelSpec::default());
    let last = |loses: bool| {
        let mut p = pipeline(&setup, &SimFileSystem::new(), 1 << 30);
        for n in 0..400 {
            assert_eq!(step(&mut p, n), Ok(Outcome::Accepted));
        }
        if loses {
            p.deployments[0].rebuild().unwrap();
        }
        // Bar 380 lies before the snapshot after 384 bars, which was taken from its old content.
        let mut revised = incoming(380);
        (revised.bar.revision, revised.bar.volume) = (1, revised.bar.volume * 3.0);
        (revised.bar.close, revised.bar.high) = (revised.bar.high, revised.bar.high * 1.01);
        let (outcomes, _) = p.step(&[&revised]).unwrap();
        assert_eq!(outcomes, [Outcome::Accepted]);
        *seen(&p).last().unwrap()
    };
    assert_eq!(last(true), last(false));
}

/// A stream of everything that happens to bars, the same for each seed.
fn disturbed(setup: &Setup, places: usize, seed: u64) -> (Vec<(u64, u32)>, u64) {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let disk = SimFileSystem::new();
    let mut p = pipeline_of(setup, &disk, 1 << 30, places);
    let forming = |n: u64, volume: f64| {
        let mut bar = incoming(n);
        (bar.bar.is_final, bar.bar.volume) = (false, bar.bar.volume * volume);
        bar
    };
    let (mut n, mut slid) = (0, 0);
    while n < 520 {
        let bars: Vec<Incoming> = match draw(12) {
            // A bar that forms, and then ends.
            0 | 1 => vec![forming(n, 0.3), forming(n, 0.7), incoming(n)],
            2 => vec![incoming(n), incoming(n), incoming(n + 1), incoming(n + 2)],
            3 if n > 8 => {
                let mut revised = incoming(n - 1 - draw(6));
                (revised.bar.revision, revised.bar.volume) = (1 + n as u32, revised.bar.volume * 1.5);
                vec![revised, incoming(n)]
            }
            4 => vec![Incoming { backfill: true, ..incoming(n) }],
            _ => vec![incoming(n)],
        };
        n = n.max(
            bars.iter().map(|b| b.bar.open_time).max().map_or(n, |_| n + if bars.len() == 4 { 3 } else { 1 }),
        );
        let together = draw(2) == 0;
        for bars in bars.chunks(if together { bars.len() } else { 1 }) {
            p.step(&bars.iter().collect::<Vec<_>>()).unwrap();
            // There is time for all, for some, or for none of the work that windows need.
            let time = std::cell::Cell::new([0, 3, 1000][draw(3) as usize]);
            p.prepare(|| time.replace(time.get().max(1) - 1) > 0);
        }
        if draw(60) == 0 {
            slid += slid_windows(&p);
            drop(p);
            p = pipeline_of(setup, &disk, 1 << 30, places);
        }
        if draw(80) == 0 {
            p.deployments[0].rebuild().unwrap();
        }
    }
    slid += slid_windows(&p);
    (seen(&p), slid)
}

fn slid_windows(p: &Pipeline) -> u64 {
    p.metrics.sliding.get()
}

#[test]
fn sliding_windows_give_the_bits_of_whole_ones_whatever_happens() {
    let setup = setup(&ModelSpec::default());
    for seed in 0..4 {
        let (whole, none) = disturbed(&setup, 0, seed);
        let (sliding, some) = disturbed(&setup, 1, seed);
        assert_eq!(sliding, whole, "seed {seed}");
        assert!(none == 0 && some > 50 && whole.len() > 150, "{some} of {} windows slid", whole.len());
    }
}

/// Three versions, of which the second predicts twice what the first does, and the third looks further back.
fn versions() -> Setup {
    let mut setup = setup(&ModelSpec { calibrated: true, ..ModelSpec::default() });
    let other =
        crate::appliance::harness::setup(&ModelSpec { window: 40, calibrated: true, ..ModelSpec::default() });
    let registry = Registry::open(setup.folder.path().join("models")).unwrap();
    let first = registry.load("test", Version::Number(1)).unwrap();
    let mut second = first.manifest.clone();
    second.label.scale *= 2.0;
    registry.publish(second, &[("model.onnx", &first.onnx)]).unwrap();
    let third = Registry::open(other.folder.path().join("models")).unwrap();
    let third = third.load("test", Version::Number(1)).unwrap();
    registry.publish(third.manifest, &[("model.onnx", &third.onnx)]).unwrap();
    setup.set("deployments", "[{model=\"models:/test@champion\",symbols=[\"*\"],timeframe=\"1h\"}]");
    point(&setup, 1);
    setup
}

fn point(setup: &Setup, version: u32) {
    let registry = Registry::open(setup.folder.path().join("models")).unwrap();
    let author = Author { at: "2024-01-01T00:00:00Z", who: "test", why: "" };
    registry.set_alias("test", "champion", version, author).unwrap();
}

/// As the manager does it; `between` runs when the streams have been copied. How many streams had changed by then.
fn swap_to(p: &mut Pipeline, setup: &Setup, version: u32, between: impl FnOnce(&mut Pipeline)) -> usize {
    point(setup, version);
    let settings = ::appliance::config::load(None, &setup.settings).unwrap();
    let parts = Parts::new(&settings).unwrap();
    let folder = parts.registry.load("test", Version::Number(version)).unwrap();
    let (old, seat) = p.deployments.iter().next().map(|(index, d)| (index, d.seat.clone())).unwrap();
    let deployment = parts.serve(&settings, &folder, (*seat).clone(), 1).unwrap();
    let mut twin = parts.serve(&settings, &folder, (*seat).clone(), 0).unwrap();
    let needed = p.capacity_for(&twin);
    let keys = p.lacking(&seat, None);
    let mut warm = |p: &mut Pipeline, keys: &[market::StreamKey]| {
        let older = |copied: &swap::Copied| {
            let mut stream = recover::Scanned::new(copied.key.clone(), needed);
            for entry in p.spool.handle().read(0) {
                let store::Entry { position, record } = entry.unwrap();
                if let store::Record::Bar(r) = record {
                    stream.bar(position, r.bar, r.backfill);
                }
            }
            let first = copied.bars[0].open_time;
            let bars = stream.history.series.bars().cloned();
            let all = stream.positions.iter().copied().zip(bars);
            all.filter(|(_, bar)| copied.is_short && bar.open_time < first).collect::<Vec<_>>()
        };
        let copies = p.copy(keys, needed);
        copies
            .into_iter()
            .map(|copied| {
                let older = older(&copied);
                swap::warm(&mut twin, copied, older, 64).unwrap()
            })
            .collect::<Vec<_>>()
    };
    let ready = warm(p, &keys);
    between(p);
    let new = p.install(deployment, Some(old));
    let changed = p.take_over(new, Some(old), ready).unwrap();
    let again = warm(p, &changed);
    assert!(p.take_over(new, Some(old), again).unwrap().is_empty());
    drop(p.remove(old).expect("nothing is under it"));
    assert_eq!(p.lacking(&seat, Some(new)), []);
    changed.len()
}

/// Everything that polls were shown, but for when.
fn shown(p: &Pipeline) -> Vec<serde_json::Value> {
    let (made, _) = p.visible.since(0, &Filter::default(), 1_000_000);
    let json = |body: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&format!("{body}}}")).unwrap();
        json["made_at"] = serde_json::Value::Null;
        json
    };
    made.iter().map(|m| json(&m.body)).collect()
}

/// Bars, revisions and backfill under models that come and go.
fn swapped(setup: &Setup, seed: u64, restarts: bool) -> Vec<serde_json::Value> {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    point(setup, 1);
    let disk = SimFileSystem::new();
    let mut p = pipeline_of(setup, &disk, 1 << 30, 1);
    let mut n = 0;
    while n < 700 {
        match draw(12) {
            0 if n > 8 => {
                let mut revised = incoming(n - 1 - draw(6));
                (revised.bar.revision, revised.bar.volume) = (1 + n as u32, revised.bar.volume * 1.5);
                p.step(&[&revised]).unwrap();
            }
            1 => {
                p.step(&[&Incoming { backfill: true, ..incoming(n) }]).unwrap();
                n += 1;
            }
            _ => {
                p.step(&[&incoming(n)]).unwrap();
                n += 1;
            }
        }
        let time = std::cell::Cell::new([0, 3, 1000][draw(3) as usize]);
        p.prepare(|| time.replace(time.get().max(1) - 1) > 0);
        if n > 20 && draw(25) == 0 {
            let version = 1 + draw(3) as u32;
            let (bars, is_revised) = (draw(3), draw(3) == 0);
            let current = p.deployments.iter().next().unwrap().1.name().version.clone();
            if version.to_string() != current {
                let changed = swap_to(&mut p, setup, version, |p| {
                    for n in n..n + bars {
                        p.step(&[&incoming(n)]).unwrap();
                    }
                    if is_revised {
                        let mut revised = incoming(n + bars - 1);
                        (revised.bar.revision, revised.bar.volume) =
                            (10_000 + n as u32, revised.bar.volume * 1.5);
                        p.step(&[&revised]).unwrap();
                    }
                });
                assert_eq!(changed, usize::from(is_revised), "new bars are fed, others are copied again");
                n += bars;
            }
        }
        if draw(30) == 0 && restarts {
            drop(p);
            p = pipeline_of(setup, &disk, 1 << 30, 1);
        }
    }
    shown(&p)
}

#[test]
fn models_that_come_and_go_leave_what_a_restart_finds() {
    let setup = versions();
    let mut by = [0; 3];
    for seed in 0..crate::appliance::harness::counts(4, 40) as u64 {
        let calm = swapped(&setup, seed, false);
        let restarted = swapped(&setup, seed, true);
        for (a, b) in calm.iter().zip(&restarted) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(calm.len(), restarted.len(), "seed {seed}");
        for json in &calm {
            by[["test/1", "test/2", "test/3"].iter().position(|m| json["model"] == *m).unwrap()] += 1;
        }
    }
    assert!(by.iter().all(|&count| count > 100), "{by:?}");
}

/// A stream that changes too often to be copied goes over within one order.
#[test]
fn a_stream_that_never_rests_is_taken_over_where_it_stands() {
    let setup = versions();
    let of = |here: bool| {
        point(&setup, 1);
        let mut p = pipeline(&setup, &SimFileSystem::new(), 1 << 30);
        for n in 0..300 {
            step(&mut p, n).unwrap();
        }
        if here {
            let settings = ::appliance::config::load(None, &setup.settings).unwrap();
            let parts = Parts::new(&settings).unwrap();
            let folder = parts.registry.load("test", Version::Number(2)).unwrap();
            let (old, seat) = p.deployments.iter().next().map(|(index, d)| (index, d.seat.clone())).unwrap();
            let deployment = parts.serve(&settings, &folder, (*seat).clone(), 1).unwrap();
            let new = p.install(deployment, Some(old));
            let keys = p.lacking(&seat, Some(new));
            p.take_over_here(new, Some(old), &keys).unwrap();
            assert!(keys.len() == 1 && p.remove(old).is_some());
        } else {
            swap_to(&mut p, &setup, 2, |_| ());
        }
        step(&mut p, 300).unwrap();
        shown(&p)
    };
    assert_eq!(of(true), of(false));
}

/// The old model's last predictions get their outcome under the new one, and once.
#[test]
fn what_waits_for_its_outcome_waits_on() {
    let setup = versions();
    let mut p = pipeline(&setup, &SimFileSystem::new(), 1 << 30);
    let until = setup.need_bars as u64 + 20;
    for n in 0..until {
        step(&mut p, n).unwrap();
    }
    let before = shown(&p);
    swap_to(&mut p, &setup, 2, |_| ());
    let now = shown(&p);
    let (old, new) = (&now[now.len() - 2], &now[now.len() - 1]);
    assert_eq!((&old["model"], &new["model"]), (&"test/1".into(), &"test/2".into()));
    assert_eq!((before.len() + 1, &old["open_time"]), (now.len(), &new["open_time"]), "it answers at once");
    assert_eq!(new["recovered"], true);
    let twice = 2.0 * old["value"].as_f64().unwrap();
    assert!((new["value"].as_f64().unwrap() - twice).abs() < 1e-6 * twice.abs());
    for n in until..until + 4 {
        step(&mut p, n).unwrap();
    }
    let outcomes = p.visible.outcomes.select(&Filter::default(), 1_000);
    let mut seqs: Vec<u64> = outcomes.iter().map(|outcome| outcome.seq).collect();
    let of = |seq: u64| outcomes.iter().find(|o| o.seq == seq).map(|o| o.model.version.clone());
    let seq = |json: &serde_json::Value| json["seq"].as_u64().unwrap();
    assert_eq!((of(seq(old)).as_deref(), of(seq(new)).as_deref()), (Some("1"), Some("2")));
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), outcomes.len());
    let stream = p.streams.values().next().unwrap();
    assert_eq!(stream.retired.len(), 1);
}
