//! A feature set that misbehaves as its option `mode` says, at bar `at` of a stream.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

wit_bindgen::generate!({ path: "../../wit", world: "features" });

use alphaplus::plugin::log;
use exports::alphaplus::plugin::feature_set::{
    Bar, Book, Events, Extractor, Guest, GuestExtractor, Spec, Text, Trade,
};

const SCHEMA: &str = r#"{"properties": {
    "mode": {"type": "string", "default": "honest", "enum": [
        "honest", "panic", "panic-in-open", "panic-in-drop", "index", "abort", "loop", "loop-in-open", "loop-in-batch",
        "memory", "stack", "nan", "infinite", "nan-early", "short", "long", "batch-short", "log-flood", "log-long",
        "look-ahead", "batch-differs", "leak", "refuse", "refuse-open", "names-none", "names-many", "names-long",
        "names-twice", "names-control", "warmup-huge", "peers-huge", "forgets", "snapshot-huge",
        "restore-refuses", "restore-panics", "error-huge"]},
    "at": {"type": "integer", "minimum": 0, "maximum": 1000000, "default": 3, "description": "the bar at which it happens"}
}}"#;

/// What a well-behaved guest never has: state that streams share.
static SHARED: AtomicU32 = AtomicU32::new(0);

struct Component;

struct Stream {
    mode: String,
    at: u64,
    state: RefCell<State>,
}

#[derive(Clone, Default)]
struct State {
    seen: u64,
    previous_close: f64,
    trades: u64,
}

fn text_of(options: &str, key: &str) -> String {
    let marker = format!("\"{key}\":");
    let Some(start) = options.find(&marker) else { return String::new() };
    let rest = &options[start + marker.len()..];
    let end = rest.find([',', '}']).unwrap_or(rest.len());
    rest[..end].trim_matches('"').to_string()
}

fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = match info.payload_as_str() {
            Some(text) => text.to_string(),
            None => "panic".to_string(),
        };
        let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
        log::panicked(&message, file, line);
    }));
}

#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let local = [depth; 64];
    black_box(&local);
    descend(depth + 1) + black_box(local[(depth % 64) as usize])
}

impl Stream {
    fn new(options: &str) -> Result<Self, String> {
        report_panics();
        let mode = text_of(options, "mode");
        match mode.as_str() {
            "panic-in-open" => panic!("bad option in open"),
            "loop-in-open" => loop {
                black_box(0);
            },
            "refuse-open" => return Err("these options don't go together".to_string()),
            _ => {}
        }
        let at = text_of(options, "at").parse().map_err(|e| format!("at: {e}"))?;
        Ok(Stream { mode, at, state: RefCell::default() })
    }

    fn row(&self, bar: &Bar) -> Result<Vec<f32>, String> {
        let mut state = self.state.borrow_mut();
        let now = state.seen >= self.at;
        let change = if state.seen == 0 { f64::NAN } else { (bar.close / state.previous_close).ln() };
        state.seen += 1;
        state.previous_close = bar.close;
        let mut row = vec![change as f32, ((bar.high - bar.low) / bar.close) as f32];
        if !now {
            return Ok(row);
        }
        match self.mode.as_str() {
            "panic" => panic!("no rows after bar {}", self.at),
            "index" => row[1] = row[black_box(state.seen as usize + 7)],
            "abort" => std::process::abort(),
            "loop" => loop {
                black_box(0);
            },
            "memory" => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(vec![1; 1 << 20]);
                    black_box(&hoard);
                }
            }
            "stack" => row[0] = descend(state.seen) as f32,
            "nan" => row[1] = f32::NAN,
            "infinite" => row[1] = f32::NEG_INFINITY,
            "short" => row.truncate(1),
            "long" => row.push(1.0),
            "log-flood" => (0..10_000).for_each(|i| log::write(log::Level::Info, &format!("message {i}"))),
            "log-long" => log::write(log::Level::Error, &"é".repeat(100_000)),
            "refuse" => return Err(format!("no rows after bar {}", self.at)),
            "error-huge" => return Err("x".repeat(1 << 20)),
            _ => {}
        }
        Ok(row)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.mode == "panic-in-drop" {
            panic!("dropped");
        }
    }
}

impl GuestExtractor for Stream {
    fn open(options: String) -> Result<Extractor, String> {
        Stream::new(&options).map(Extractor::new)
    }

    fn restore(options: String, state: Vec<u8>) -> Result<Extractor, String> {
        let stream = Stream::new(&options)?;
        match stream.mode.as_str() {
            "restore-refuses" => return Err("unknown state".to_string()),
            "restore-panics" => panic!("state of {} bytes", state.len()),
            "forgets" => return Ok(Extractor::new(stream)),
            _ => {}
        }
        if state.len() != 24 {
            return Err(format!("a state has 24 bytes, not {}", state.len()));
        }
        let word = |i: usize| state[i * 8..][..8].try_into().map(u64::from_le_bytes).unwrap_or(0);
        *stream.state.borrow_mut() =
            State { seen: word(0), previous_close: f64::from_bits(word(1)), trades: word(2) };
        Ok(Extractor::new(stream))
    }

    fn snapshot(&self) -> Vec<u8> {
        if self.mode == "snapshot-huge" {
            return vec![7; 20 << 20];
        }
        let state = self.state.borrow();
        [state.seen, state.previous_close.to_bits(), state.trades].iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn spec(&self) -> Spec {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let mut spec = Spec {
            names: names(&["change", "range"]),
            warmup: 1,
            wants: Events::BARS | Events::TRADES | Events::BOOKS | Events::TEXTS,
            peers: 2,
        };
        match self.mode.as_str() {
            "names-none" => spec.names.clear(),
            "names-many" => spec.names = (0..100_000).map(|i| format!("n{i}")).collect(),
            "names-long" => spec.names[1] = "n".repeat(10_000),
            "names-twice" => spec.names = names(&["change", "change"]),
            "names-control" => spec.names = names(&["change", "ra\nge"]),
            "warmup-huge" => spec.warmup = u32::MAX,
            "peers-huge" => spec.peers = u32::MAX,
            "nan-early" => spec.warmup = 5,
            _ => {}
        }
        spec
    }

    fn on_bar(&self, bar: Bar) -> Result<Vec<f32>, String> {
        let mut row = self.row(&bar)?;
        match self.mode.as_str() {
            // A NaN of unusual bits, within the warm-up.
            "nan-early" if self.state.borrow().seen < 5 => row[1] = f32::from_bits(0xffc1_2345),
            "leak" => row[1] += SHARED.fetch_add(1, Ordering::Relaxed) as f32,
            _ => {}
        }
        Ok(row)
    }

    fn on_bars(&self, bars: Vec<Bar>) -> Result<Vec<f32>, String> {
        let mut rows = Vec::with_capacity(bars.len() * 2);
        for (i, bar) in bars.iter().enumerate() {
            let mut row = self.row(bar)?;
            match self.mode.as_str() {
                // Tomorrow's close, where the batch shows it.
                "look-ahead" => row[0] = bars.get(i + 1).map_or(0.0, |next| (next.close / bar.close).ln() as f32),
                "batch-differs" if i == 7 => row[1] = f32::from_bits(row[1].to_bits() + 1),
                "leak" => row[1] += SHARED.fetch_add(1, Ordering::Relaxed) as f32,
                "loop-in-batch" => loop {
                    black_box(0);
                },
                _ => {}
            }
            rows.extend(row);
        }
        if self.mode == "batch-short" {
            rows.pop();
        }
        Ok(rows)
    }

    fn on_peer_bar(&self, _: u32, _: Bar) -> Result<(), String> {
        Ok(())
    }

    fn on_trade(&self, _: Trade) -> Result<(), String> {
        self.state.borrow_mut().trades += 1;
        match self.mode.as_str() {
            "refuse" => Err("no trades".to_string()),
            "panic" => panic!("no trades"),
            _ => Ok(()),
        }
    }

    fn on_book(&self, book: Book) -> Result<(), String> {
        if book.bids.is_empty() { Err("an empty book".to_string()) } else { Ok(()) }
    }

    fn on_text(&self, text: Text) -> Result<(), String> {
        if text.text.is_empty() { Err("an empty text".to_string()) } else { Ok(()) }
    }
}

impl Guest for Component {
    type Extractor = Stream;

    fn schema() -> String {
        SCHEMA.to_string()
    }
}

export!(Component);
