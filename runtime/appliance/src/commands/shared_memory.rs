//! `alphaplus shared`: what a running appliance shows in shared memory.

use std::path::Path;

use market::Timestamp;
use shared::{Cause, Reader, Slot, State, VERSION, flag};

use crate::cli::SharedMemory;
use crate::config::Settings;

pub fn run(settings: &Settings, args: &SharedMemory) -> Result<(), String> {
    let file = args.file.as_deref().or(settings.shared_memory.as_deref());
    let file = file.ok_or("name the file, or set server.shared_memory in config.toml")?;
    let reader = Reader::open(file).map_err(|e| format!("{}: {e}", file.display()))?;
    print(file, &reader, args.symbol.as_deref());
    // What was shown is the last there was, if the appliance is gone.
    reader.alive().map_err(|e| format!("{}: {e}", file.display()))
}

fn print(file: &Path, reader: &Reader, symbol: Option<&str>) {
    let about = reader.about();
    println!(
        "{}: layout {VERSION}, written by process {} since {}, heartbeat {}",
        file.display(),
        about.pid,
        Timestamp(about.created_ns),
        Timestamp(about.beat_ns)
    );
    println!(
        "{} of {} slots, {} streams refused, durable up to seq {}",
        about.used, about.slots, about.refused, about.durable_seq
    );
    println!("{:<16} {:<9} {:<24} {:<11} WHAT", "SYMBOL", "TIMEFRAME", "MODEL", "STATE");
    for slot in reader.all() {
        let key = match reader.key(slot) {
            Ok(key) => key,
            Err(error) => {
                println!("a slot can't be read: {error}");
                continue;
            }
        };
        if symbol.is_none_or(|s| s == key.symbol.as_str()) {
            let (state, what) = says(reader, slot);
            println!("{:<16} {:<9} {:<24} {state:<11} {what}", key.symbol, key.timeframe, key.model);
        }
    }
}

fn says(reader: &Reader, slot: Slot) -> (&'static str, String) {
    let now = match reader.read_last(slot) {
        Ok(now) => now,
        Err(error) => return ("unreadable", error.to_string()),
    };
    match now.state {
        State::Empty => ("empty", String::new()),
        State::Prediction => {
            let state = if reader.is_stale(&now) { "stale" } else { "prediction" };
            let flags = [
                (flag::PROVISIONAL, "provisional"),
                (flag::RECOVERED, "recovered"),
                (flag::REVISED, "revised"),
            ];
            let flags: String = flags
                .iter()
                .filter(|(bit, _)| now.flags & bit != 0)
                .map(|(_, name)| format!(", {name}"))
                .collect();
            let sure = now.uncertainty.map_or(String::new(), |u| {
                let (percent, low, high) = (u.level as f32 * 100.0, u.low as f32, u.high as f32);
                format!(" (confidence {:.3}, {percent} % in [{low}, {high}])", u.confidence)
            });
            let what = format!(
                "{} {}{sure} over {} bars, seq {}, as of {}, valid until {}{flags}",
                now.label,
                // The shortest text that is this f32.
                now.value as f32,
                now.horizon_bars,
                now.seq,
                Timestamp(now.close_time_ns),
                Timestamp(now.valid_until_ns)
            );
            (state, what)
        }
        State::Warming => ("warming", format!("{}/{} bars", now.have, now.need)),
        State::Abstained => {
            let cause = match now.cause {
                Cause::NotFinite => "the model's output is not a finite number",
                Cause::Plugin | Cause::None => "the plugin failed on the newest bar",
            };
            ("abstained", format!("seq {}: {cause}", now.seq))
        }
        State::Quarantined => ("quarantined", "the plugin keeps failing: see the poll and the log".into()),
    }
}
